//! `swarmgate safety accept-clock`: going on from a clock that does not agree with the ledger.
//!
//! Owns: what is shown of that before consent is asked for.
//! Never: goes on without consent.
//! Holds: it is always dangerous.

use serde_json::json;

use super::{
    super::{
        CliError, Exit, Globals,
        echo::Echo,
        order::{Flags, Manner, Order, Way},
        situation::Situation,
    },
    scope,
};
use crate::contract::routing::Scope;

/// Asks for it.
pub(super) async fn run(
    reason: String,
    manner: &Manner,
    flags: &Flags,
    way: &Way,
    globals: &Globals,
) -> Result<Exit, CliError> {
    let situation = Situation::look(&way.access, &scope(None), globals).await?;
    let router = situation.router().unwrap_or("router");
    let echo = Echo {
        operation: "clock-accept".to_owned(),
        dangerous: true,
        target: router.to_owned(),
        environment: situation.environment(),
        standing: situation.standing(None),
        effect: "the router goes on from its clock; what it remembers as later counts as now".to_owned(),
        not_affected: vec![
            "modes, kill switches and gates; what remained until a deadline remains".to_owned(),
        ],
        sender: way.sender(manner, globals)?,
        ..Echo::default()
    };
    let (scope, data) = (Scope::router(router), json!({ "reason": reason }));
    let order = Order { kind_type: "clock-accept", scope, data, echo };
    order.give(way, (manner, flags, None), globals).await
}
