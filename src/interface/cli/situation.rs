//! How things stand before something is asked for, as the running router tells it.
//!
//! Owns: asking for the router, its safety and one instance, and saying it in a line.
//! Never: holds up what makes things safer: for that the router is asked briefly, and its silence
//! is an answer.
//! Holds: what is not known is said to be unknown, and never taken for NORMAL or ALLOW.

use std::time::Duration;

use super::{
    CliError, Globals,
    access::{Access, AccessError, Router, encoded},
    table::or_nothing,
};
use crate::{
    contract::{
        interlock::{KillSwitch as Level, Life, SafetyMode as Mode},
        routing::{ALL, ROUTER_SWARM, Scope},
    },
    view::{
        inventory::Instance,
        overview::Overview,
        safety::{Gate, Safety},
    },
};

/// How long the router is asked before a stop or a tightening goes ahead without its answer.
pub const BRIEFLY: Duration = Duration::from_secs(1);
/// How many gates are named in the line.
const GATES_TOLD_MAX: usize = 4;

/// What the router says, as far as it says anything.
#[derive(Clone, Debug, Default)]
pub struct Situation {
    /// The router itself.
    pub overview: Option<Overview>,
    /// Modes, switches and gates; a router without them leaves this empty.
    pub safety: Option<Safety>,
    /// The one target, where it is one and known.
    pub instance: Option<Instance>,
    /// The swarm, where nobody of it is known to the router: most likely its name is misspelt.
    pub stranger: Option<String>,
}

impl Situation {
    /// Asks, because nothing dangerous is asked for blindly.
    ///
    /// # Errors
    /// When the router cannot be asked.
    pub async fn look(access: &Access, scope: &Scope, globals: &Globals) -> Result<Self, CliError> {
        Ok(Self::of(&access.router(globals)?, scope).await?)
    }

    /// Asks briefly; what is not answered stays unknown.
    pub async fn glance(access: &Access, scope: &Scope, globals: &Globals) -> Self {
        let Ok(router) = access.router(globals) else { return Self::default() };
        match tokio::time::timeout(BRIEFLY, Self::of(&router, scope)).await {
            Ok(Ok(situation)) => situation,
            _ => Self::default(),
        }
    }

    async fn of(router: &Router, scope: &Scope) -> Result<Self, AccessError> {
        let overview = router.page("overview").await?;
        let safety = known(router.page("safety").await)?;
        let instance = match scope.fans_out() {
            true => None,
            false => {
                let [swarm, role, instance] =
                    [&scope.swarm_id, &scope.role, &scope.instance].map(|segment| encoded(segment));
                known(router.page(&format!("inventory/{swarm}/{role}/{instance}")).await)?
            }
        };
        let is_swarm = scope.swarm_id != ALL && scope.swarm_id != ROUTER_SWARM;
        let stranger = match is_swarm {
            true => {
                let page = format!("inventory/{}?limit=1", encoded(&scope.swarm_id));
                known(router.get(&page).await)?.is_none().then(|| scope.swarm_id.clone())
            }
            false => None,
        };
        Ok(Self { stranger, overview: Some(overview), safety, instance })
    }

    /// dev, stage or prod.
    pub fn environment(&self) -> Option<String> {
        self.overview.as_ref().map(|overview| overview.environment.clone()).filter(|name| !name.is_empty())
    }

    /// Which router answers; the router's own scope ends in it.
    pub fn router(&self) -> Option<&str> {
        self.overview.as_ref().map(|overview| overview.instance.as_str()).filter(|name| !name.is_empty())
    }

    /// The lifecycle state of the one target by which the router judges, where it is one of the
    /// nine.
    pub fn lifecycle(&self) -> Option<&'static str> {
        let instance = self.instance.as_ref()?;
        let word = instance.life.as_ref().or(instance.lifecycle.as_ref())?.to_uppercase();
        Life::read(&word).map(Life::word)
    }

    /// The safety mode of a swarm, or of the fleet.
    pub fn mode(&self, swarm: Option<&str>) -> Option<Mode> {
        Mode::read(self.safety.as_ref()?.of(swarm).mode.as_deref()?)
    }

    /// The kill switch of a swarm, or of the fleet.
    pub fn level(&self, swarm: Option<&str>) -> Option<Level> {
        Level::read(self.safety.as_ref()?.of(swarm).kill_switch.as_deref()?)
    }

    /// Safety mode, kill switch and what gates complain, in a line; `None` where the router does
    /// not say.
    pub fn standing(&self, swarm: Option<&str>) -> Option<String> {
        if self.overview.as_ref().is_some_and(|overview| overview.mode == "observe") {
            return Some("the router only observes: it carries nothing and holds nothing back".to_owned());
        }
        let safety = self.safety.as_ref()?;
        let setting = safety.of(swarm);
        let unknown = |word: &Option<String>| word.clone().unwrap_or_else(|| "UNKNOWN".to_owned());
        let mut line =
            format!("safety {}, kill switch {}", unknown(&setting.mode), unknown(&setting.kill_switch));
        let complains =
            |gate: &&Gate| !matches!(gate.result.as_deref(), Some("PASS")) && gate.required != Some(false);
        let gates: Vec<_> = safety.gates.iter().filter(complains).collect();
        if gates.is_empty() {
            line.push_str(if safety.gates.is_empty() { ", no gates" } else { ", required gates PASS" });
        }
        for gate in gates.iter().take(GATES_TOLD_MAX) {
            line.push_str(&format!(", gate {} {}", gate.gate, or_nothing(gate.result.as_ref())));
        }
        if let Some(more) = gates.len().checked_sub(GATES_TOLD_MAX).filter(|more| *more > 0) {
            line.push_str(&format!(", and {more} gates more"));
        }
        if let Some(swarm) = &self.stranger {
            line.push_str(&format!("; NOBODY of swarm `{swarm}` is known to the router: look at the name"));
        }
        Some(line)
    }
}

/// What is there; `None` for what this router does not know or does not have.
fn known<T>(answer: Result<T, AccessError>) -> Result<Option<T>, AccessError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(AccessError::Refused { status: 404, .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn situation(safety: &serde_json::Value) -> Situation {
        Situation { safety: Some(serde_json::from_value(safety.clone()).unwrap()), ..Situation::default() }
    }

    #[test]
    fn what_is_not_said_is_unknown() {
        let silent = Situation::default();
        assert_eq!((silent.mode(None), silent.level(None), silent.standing(None)), (None, None, None));
        let half = situation(&json!({ "global": { "mode": "SAFE" } }));
        assert_eq!((half.mode(Some("kestrel")), half.level(None)), (Some(Mode::Safe), None));
        assert_eq!(half.standing(None).as_deref(), Some("safety SAFE, kill switch UNKNOWN, no gates"));
        let newer = situation(&json!({ "global": { "mode": "CALM", "killSwitch": "ALLOW" } }));
        assert_eq!((newer.mode(None), newer.level(None)), (None, Some(Level::Allow)));
    }

    #[test]
    fn a_state_that_is_none_of_the_nine_is_not_known() {
        let of = |word: &str| {
            let instance = Instance { lifecycle: Some(word.to_owned()), ..Instance::default() };
            Situation { instance: Some(instance), ..Situation::default() }.lifecycle()
        };
        assert_eq!((of("RUNNING_LIVE"), of("idle")), (Some("RUNNING_LIVE"), Some("IDLE")));
        assert_eq!((of("unknown"), of("RUNNING"), of("")), (None, None, None));
    }

    #[test]
    fn a_router_that_only_looks_is_no_gate() {
        let overview = Overview { mode: "observe".to_owned(), ..Overview::default() };
        let looks = Situation { overview: Some(overview), ..situation(&json!({})) };
        assert!(looks.standing(None).is_some_and(|line| line.contains("only observes")));
    }

    #[test]
    fn gates_that_are_required_and_do_not_pass_are_named() {
        let gate = |name: &str, result: &str, required: bool| json!({ "gate": name, "result": result, "required": required });
        let all = |gates: serde_json::Value| {
            let safety = json!({ "global": { "mode": "NORMAL", "killSwitch": "ALLOW" }, "gates": gates });
            situation(&safety).standing(None).unwrap()
        };
        let good = all(json!([gate("feed", "PASS", true), gate("disk", "FAIL", false)]));
        assert_eq!(good, "safety NORMAL, kill switch ALLOW, required gates PASS");
        let bad = all(json!([gate("feed", "UNKNOWN", true), gate("risk", "PASS", true)]));
        assert_eq!(bad, "safety NORMAL, kill switch ALLOW, gate feed UNKNOWN");
        let many = all(json!((0..6).map(|n| gate(&format!("g{n}"), "FAIL", true)).collect::<Vec<_>>()));
        assert!(many.ends_with("gate g3 FAIL, and 2 gates more"), "{many}");
    }
}
