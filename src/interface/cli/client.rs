//! What the tools that talk to a broker share: a connection, and a queue of their own to listen on.
//!
//! Owns: connecting as the config says, and exclusive queues that go with the connection.
//! Never: touches the router's queues; `refused` alone reads one of them.
//! Holds: what a tool declares is gone when it ends.

use std::sync::Arc;

use crate::{
    bus::{
        Bus, BusError, Consumer, Queue, QueueKind, Topology,
        amqp::{self, Amqp},
    },
    runtime::{config::Loaded, setup::Broker},
};

use super::{CliError, Globals};

/// The flag that every tool takes.
#[derive(Debug, clap::Args)]
pub struct Connect {
    /// The broker's URL (amqp.url).
    #[arg(long, global = true, value_name = "URL")]
    amqp: Option<String>,
}

impl Connect {
    /// The config, and a connection to the broker that it names.
    ///
    /// # Errors
    /// When the config is wrong or the broker cannot be reached.
    pub async fn open(&self, globals: &Globals) -> Result<(Loaded, Arc<Amqp>), CliError> {
        let loaded = self.config(globals)?;
        let bus = amqp::connect(Broker::new(&loaded.config).options()).await?;
        Ok((loaded, bus))
    }

    /// The config with this flag.
    ///
    /// # Errors
    /// When the config is wrong.
    pub fn config(&self, globals: &Globals) -> Result<Loaded, CliError> {
        globals.config_with(self.amqp.iter().map(|url| ("--amqp", "amqp.url", url.clone())).collect())
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
