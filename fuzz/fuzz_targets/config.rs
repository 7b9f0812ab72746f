//! Any bytes as a config file, and any text in the environment.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;
use swarmgate::config::{ConfigError, Layers, Loaded, load, parse};

fuzz_target!(|data: &[u8]| {
    let (file, variable) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    let missing = |_: &std::path::Path| Err(io::Error::from(io::ErrorKind::NotFound));
    told(parse("fuzz.yaml", &String::from_utf8_lossy(file), &missing));
    let variable = String::from_utf8_lossy(variable).into_owned();
    let env = ["SWARMGATE_MODE", "SWARMGATE_LIMITS__BODY_BYTES_MAX", "SWARMGATE_AMQP__URL"];
    let env = env.map(|name| (name.to_owned(), variable.clone())).to_vec();
    told(load(&Layers { file: None, env, flags: Vec::new() }));
});

/// A config stands or is refused with words; either must be sayable.
fn told(config: Result<Loaded, ConfigError>) {
    match config {
        Ok(loaded) => drop(format!("{loaded:?}")),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
