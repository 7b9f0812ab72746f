//! What the tools that talk to a broker share: a connection, and a queue of their own to listen on.
//!
//! Owns: connecting as the config says, and exclusive queues that go with the connection.
//! Never: touches the router's queues; `refused` alone reads one of them.
//! Holds: what a tool declares is gone when it ends.

use std::sync::Arc;

use crate::{
    bus::{Bus, BusError, Consumer, Queue, QueueKind, Topology, amqp::Amqp},
    config::{self, Loaded},
    runtime::broker::Broker,
};

use super::{CliError, Globals, access::WHERE};

/// The flag that names the broker.
#[derive(Debug, clap::Args)]
pub struct Addresses {
    /// The broker's URL (amqp.url); for the nodes of a cluster give it several times, or with
    /// commas (amqp.urls).
    #[arg(long, global = true, value_name = "URL", help_heading = WHERE)]
    amqp: Vec<String>,
}

impl Addresses {
    /// The flag as a setting of the config.
    pub fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        match self.amqp.as_slice() {
            [] => Vec::new(),
            [one] if config::urls(one).len() < 2 => vec![("--amqp", "amqp.url", one.clone())],
            several => vec![("--amqp", "amqp.urls", several.join(","))],
        }
    }

    /// Whether it was given.
    pub fn is_given(&self) -> bool {
        !self.amqp.is_empty()
    }
}

/// The flag that every tool takes.
#[derive(Debug, clap::Args)]
pub struct Connect {
    #[command(flatten)]
    amqp: Addresses,
}

impl Connect {
    /// The config, and a connection to the broker that it names.
    ///
    /// # Errors
    /// When the config is wrong or the broker cannot be reached.
    pub async fn open(&self, globals: &Globals) -> Result<(Loaded, Arc<Amqp>), CliError> {
        let loaded = self.config(globals)?;
        let bus = Broker::new(&loaded.config).open().await?;
        Ok((loaded, bus))
    }

    /// Every address of the broker, as it may be shown.
    pub fn shown(&self, globals: &Globals) -> String {
        self.config(globals)
            .map_or_else(|_| "amqp.url".to_owned(), |loaded| Broker::new(&loaded.config).shown())
    }

    /// The config with this flag.
    ///
    /// # Errors
    /// When the config is wrong.
    pub fn config(&self, globals: &Globals) -> Result<Loaded, CliError> {
        globals.config_with(self.amqp.settings())
    }
}

/// An exclusive queue bound as asked, and its consumer.
///
/// # Errors
/// When an exchange is not there.
pub async fn listen(
    bus: &dyn Bus,
    prefix: &str,
    bindings: Vec<(String, String)>,
) -> Result<Box<dyn Consumer>, BusError> {
    let name = format!("{prefix}.tool.{}", uuid::Uuid::now_v7().simple());
    let queue = Queue { name: name.clone(), kind: QueueKind::Exclusive, bindings };
    bus.declare(&Topology { exchanges: Vec::new(), queues: vec![queue] }).await?;
    bus.consumer(&name, 256).await
}
