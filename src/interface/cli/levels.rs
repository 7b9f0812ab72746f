//! The interlock's words at the terminal.
//!
//! Owns: what `--help` says of each safety mode, kill switch level, gate result and run mode.
//! Never: has words of its own: they are the contract's, in the contract's order of strength.
//! Holds: every word of the contract can be typed.

use clap::{ValueEnum, builder::PossibleValue};

use crate::contract::interlock::{GateResult, KillSwitch, RunMode, SafetyMode};

macro_rules! typed {
    ($kind:ident { $($variant:ident $help:literal)* }) => {
        impl ValueEnum for $kind {
            fn value_variants<'a>() -> &'a [Self] {
                Self::ALL
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                let help = match self { $(Self::$variant => $help,)* };
                Some(PossibleValue::new(self.word()).help(help))
            }
        }
    };
}

typed! {
    SafetyMode {
        Normal "Everything that the gates let through"
        Safe "No start, resume, config-update or destructive data operation"
        EmergencyStop "The same, and it latches; the kill switch counts as BLOCK"
    }
}

typed! {
    KillSwitch {
        Allow "Not thrown"
        CloseOnly "Only what reduces activity passes"
        Flatten "The same, and the router stops every running instance"
        Block "Only stop, status, diagnosis, evidence and tightening pass"
    }
}

typed! {
    GateResult {
        Pass "Good"
        Warn "Good enough; somebody should look"
        Unknown "Not known, which is never good"
        Fail "Bad"
    }
}

typed! {
    RunMode {
        Paper "On invented money"
        Shadow "On real data, without orders"
        Live "With real orders"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_contract_can_be_typed_in_its_one_spelling() {
        for level in KillSwitch::ALL {
            assert_eq!(KillSwitch::from_str(level.word(), false), Ok(*level));
        }
        assert!(SafetyMode::from_str("safe", false).is_err(), "the wire has one spelling");
        assert_eq!(
            SafetyMode::from_str("safe", true),
            Ok(SafetyMode::Safe),
            "people may type it as they like"
        );
    }
}
