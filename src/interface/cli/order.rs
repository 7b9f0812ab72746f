//! An order: one signal that a person gives.
//!
//! Owns: the flags that orders share, the message that an order becomes, and where its answers
//! come.
//! Never: sends it or waits for its end; `follow` does.
//! Holds: what makes things safer asks nobody.

use serde_json::Value;

use super::{
    CliError, Globals,
    access::Access,
    client::Connect,
    echo::Echo,
    signal::{self, Draft},
};
use crate::{
    config::Loaded,
    contract::{
        command::{Class, Commands},
        message::Message,
        routing::{ALL, ControlPlaneRouting, Family, Scope},
    },
};

/// Where the broker and the router are.
#[derive(Debug, clap::Args)]
pub struct Way {
    /// The router.
    #[command(flatten)]
    pub access: Access,
    /// The broker.
    #[command(flatten)]
    pub connect: Connect,
}

impl Way {
    /// Who will be asking: the sender that was named, else the connected user.
    ///
    /// # Errors
    /// When the config is wrong.
    pub fn sender(&self, manner: &Manner, globals: &Globals) -> Result<String, CliError> {
        let user = || signal::user(&self.connect.config(globals)?.config.amqp);
        manner.origin.clone().map_or_else(user, Ok)
    }
}

/// How it is to be said.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Manner {
    /// The sender; the connected user when absent, which is also the AMQP user-id.
    #[arg(long, value_name = "NAME")]
    pub origin: Option<String>,
    /// The correlationId; a new one when absent.
    #[arg(long, value_name = "ID")]
    pub correlation: Option<String>,
    /// The idempotencyKey; a new one when absent. Give it again to repeat an order.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Wait so long at most for the end; the deadline of its type when absent.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: Option<u64>,
    /// Send, and do not wait for an answer.
    #[arg(long)]
    pub no_wait: bool,
    /// Check and print, ask for nothing and send nothing.
    #[arg(long, conflicts_with = "no_wait")]
    pub dry_run: bool,
}

/// Consent in flags, for orders that may need it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Consent without being asked for the target's name; needed where there is no terminal.
    #[arg(long)]
    pub yes: bool,
    /// Do not end at the challenge; wait on until it was confirmed and the command has ended.
    #[arg(long, conflicts_with_all = ["no_wait", "dry_run"])]
    pub wait_consent: bool,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// The signal type.
    pub kind_type: &'static str,
    /// Its scope.
    pub scope: Scope,
    /// Its data.
    pub data: Value,
    /// The same in words.
    pub echo: Echo,
}

impl Order {
    /// What makes things safer waits for nobody's leave.
    pub(super) fn asks_first(&self) -> bool {
        let class = Commands::default().get(self.kind_type).map(|row| row.class);
        self.echo.dangerous || class == Some(Class::Consent)
    }

    /// The message that it becomes.
    ///
    /// # Errors
    /// When the scope makes no routing key.
    pub fn message(&self, loaded: &Loaded, manner: &Manner) -> Result<Message, CliError> {
        let draft = Draft {
            kind_type: self.kind_type,
            scope: &self.scope,
            data: self.data.clone(),
            origin: manner.origin.as_deref(),
            correlation: manner.correlation.as_deref(),
            key: manner.key.as_deref(),
        };
        draft.message(&loaded.config.amqp.prefix, signal::user(&loaded.config.amqp)?)
    }

    /// The keys of its outcomes, and of its copy should it be refused.
    pub(super) fn answers(&self, message: &Message) -> [String; 2] {
        let any = |segment: &str| if segment == ALL { "*".to_owned() } else { segment.to_owned() };
        let [swarm, role, instance] =
            [&self.scope.swarm_id, &self.scope.role, &self.scope.instance].map(|segment| any(segment));
        let scope = Scope::new(swarm, role, instance);
        [ControlPlaneRouting::of(Family::Outcome, self.kind_type, &scope), message.routing_key.clone()]
    }
}
