//! Any bytes as a config file, and any text in the environment.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use swarmgate::runtime::config::{Layers, load};

fuzz_target!(|data: &[u8]| {
    let (file, variable) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    let mut place = tempfile::NamedTempFile::new().expect("a file");
    place.write_all(file).expect("written");
    let variable = String::from_utf8_lossy(variable).into_owned();
    let env = ["SWARMGATE_MODE", "SWARMGATE_LIMITS__BODY_BYTES_MAX", "SWARMGATE_AMQP__URL"];
    let env = env.map(|name| (name.to_owned(), variable.clone())).to_vec();
    // A config stands or is refused with words; a fault of one must be sayable.
    match load(&Layers { file: Some(place.path().to_path_buf()), env, flags: Vec::new() }) {
        Ok(loaded) => drop(format!("{loaded:?}")),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
