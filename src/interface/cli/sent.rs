//! What is told of a signal once it is on its way.
//!
//! Owns: the ids under which it is found again, and a warning where nobody is known to hear it.
//! Never: comes before the signal: a stop waits for nothing that is asked here.
//! Holds: the router is asked briefly, and its silence is no fault.

use std::time::Duration;

use serde_json::Value;

use super::{
    CliError, Globals, Out,
    access::{Access, Router, encoded},
    commands,
    echo::whole,
    output::aside,
    situation::BRIEFLY,
};
use crate::{
    contract::{
        message::Message,
        routing::{ALL, ControlPlaneRouting, ROUTER_SWARM, Scope},
    },
    view::commands::Command,
};

/// Between two questions for its number.
const PAUSE: Duration = Duration::from_millis(50);

/// Prints the ids of what was just published, with its number where the router says it in time.
///
/// # Errors
/// When stdout is closed or full.
pub async fn print(
    access: &Access,
    sent: &Message,
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CliError> {
    let body: Value = serde_json::from_slice(&sent.body).unwrap_or_default();
    let id = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (correlation, key) = (id("correlationId"), id("idempotencyKey"));
    let mut number = None;
    if let Ok(router) = access.router(globals) {
        let scope = ControlPlaneRouting::parse(&sent.routing_key).ok().map(|key| key.scope);
        let asked = async {
            if let Some(scope) = scope.filter(|scope| scope.swarm_id != ROUTER_SWARM)
                && is_unknown(&router, &scope).await
            {
                aside(&whole(&format!(
                    "warning: the router knows nobody at `{scope}`: what is sent there waits for it or ends by its deadline; \
                     `swarmgate inventory` shows who is known"
                )));
            }
            number = accepted(&router, &correlation).await.map(|command| command.id);
        };
        // What is not answered in time stays unsaid.
        let _ = tokio::time::timeout(BRIEFLY, asked).await;
    }
    if globals.is_json() {
        // The message that was printed has both ids.
        return Ok(());
    }
    let number = number.map(|number| format!("command {number}, ")).unwrap_or_default();
    out.line(&format!("sent: {number}correlationId {correlation}, idempotencyKey {key}"))
}

/// The command with that correlationId, once the router has accepted it.
pub(super) async fn accepted(router: &Router, correlation: &str) -> Option<Command> {
    loop {
        match router.page::<Command>(&commands::path(correlation)).await {
            Ok(command) => return Some(command),
            Err(fault) if fault.is_unknown() => tokio::time::sleep(PAUSE).await,
            Err(_) => return None,
        }
    }
}

/// Whether the router answers, and knows nobody whom that scope means.
async fn is_unknown(router: &Router, scope: &Scope) -> bool {
    let [swarm, role, instance] =
        [&scope.swarm_id, &scope.role, &scope.instance].map(|segment| encoded(segment));
    let page = match (scope.swarm_id == ALL, scope.fans_out()) {
        (true, _) => return false,
        (false, true) => format!("inventory/{swarm}?limit=1"),
        (false, false) => format!("inventory/{swarm}/{role}/{instance}"),
    };
    matches!(router.get(&page).await, Err(fault) if fault.is_unknown())
}
