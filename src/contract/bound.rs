//! What the router remembers is bounded: the closed list of bounds.
//!
//! Owns: each bound's word (the label `map` of `swarmgate_bound_hits_total`), its setting, and the
//! rule at it.
//! Never: counts anything; the state does.
//! Holds: no rule refuses a stop, and none leaves behind what is not so.
//! The rule: spec/rules.md#bounds.

macro_rules! bounds {
    ($($name:ident $word:literal $setting:literal $rule:literal)*) => {
        /// A bound on what is remembered.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bound { $(#[doc = $rule] $name,)* }

        impl Bound {
            /// Every bound.
            pub const ALL: [Bound; [$(Bound::$name),*].len()] = [$(Bound::$name),*];

            /// Its word in metrics and alerts.
            pub const fn word(self) -> &'static str {
                match self { $(Bound::$name => $word),* }
            }

            /// The setting that moves it.
            pub const fn setting(self) -> &'static str {
                match self { $(Bound::$name => $setting),* }
            }

            /// What happens at it.
            pub const fn rule(self) -> &'static str {
                match self { $(Bound::$name => $rule),* }
            }
        }
    };
}

bounds! {
    Commands "commands" "idempotency.keys_max"
        "`quota.exceeded`; stop and tightening are published without a memory of their key."
    Flights "flights" "memory.flights_max"
        "`quota.exceeded`; a tenth more is kept for stop and tightening, and a further tenth for those of proven senders and the router. Beyond that they are published, and neither wait for their target nor for their outcome."
    Results "results" "idempotency.keys_max"
        "Outcomes and alerts beyond twice that many are published and written; a redelivery of one is not recognised."
    Targets "targets" "memory.targets_max"
        "Further targets of a fan-out are published to and not recorded; the answer of one that nobody knew is written and not counted."
    Texts "texts" "memory.texts_bytes_max"
        "A dangerous command is refused with `quota.exceeded`; what a config-update changed counts as unknown."
    Held "held" "parking.bytes_max"
        "A dangerous command is refused with `quota.exceeded`."
    Stops "stops" "memory.stops_max"
        "A stop of another target counts for its whole swarm, then for all: older starts there end `Superseded`."
    Known "known" "inventory.instances_max"
        "A further instance's statuses are published, and it is not known."
    Applied "applied" "inventory.instances_max"
        "What a further instance should be configured like counts as unknown."
    AppliedBytes "applied-bytes" "memory.applied_bytes_max"
        "What the instance should be configured like counts as unknown."
    Bots "bots" "inventory.instances_max"
        "A further bot's `bot-init` is refused with `quota.exceeded`; its quarantine counts for every bot of its swarm of which nothing is remembered."
    Sessions "sessions" "inventory.instances_max"
        "A further worker's `bootstrap-bundle` is refused with `quota.exceeded`."
    Settings "settings" "memory.swarms_max"
        "What tightens a further swarm tightens all; what would loosen one is refused with `quota.exceeded`."
    Gates "gates" "memory.gates_max"
        "A further gate's report is refused with `quota.exceeded`; the gate is UNKNOWN."
    Challenges "challenges" "memory.challenges_max"
        "A dangerous command is refused with `quota.exceeded`."
    Unreviewed "unreviewed" "memory.unreviewed_max"
        "Break-glass is refused with `quota.exceeded` until a use of it has been reviewed."
    Approvals "approvals" "memory.approvals_max"
        "A further standing approval stands for nobody."
    Suspended "suspended" "memory.suspended_max"
        "Starts are refused with `quota.exceeded`, whoever sends them."
    Counted "counted" "memory.counted_max"
        "A further sender or swarm is not counted by the interlocks within the window."
    Alerts "alerts" "memory.alerts_max"
        "The oldest is forgotten, and may be raised again before `alerts.dedupe_ms` are over."
    Refusals "refusals" "refusals.senders_max"
        "Refusals of further senders share one tally a reason code."
    Inventory "inventory" "inventory.instances_max"
        "A further instance's statuses are published and counted as overflow; a swarm that is only expected is not listed."
    Parked "parked" "parking.total_max"
        "The oldest ordinary command that waits ends with `command.expired`; where only stops wait, the oldest of them, those of unproven senders first."
}

#[cfg(test)]
mod tests {
    use super::Bound;

    #[test]
    fn every_bound_has_a_word_of_its_own_and_a_rule() {
        for (index, bound) in Bound::ALL.into_iter().enumerate() {
            assert_eq!(bound as usize, index);
            assert!(bound.rule().ends_with('.') && bound.setting().contains('.'), "{bound:?}");
            assert!(Bound::ALL.iter().filter(|other| other.word() == bound.word()).count() == 1);
        }
    }
}
