//! The two ladders of safety, from loose to tight.
//!
//! Owns: the words of safety modes and kill switch levels, and which of two is the stronger.
//! Never: decides what a level lets through; the router's gates do.
//! Holds: a later variant is stronger; whether a step loosens is one comparison.

/// How much of the fleet may be set in motion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Mode {
    /// Everything that the gates let through.
    #[value(name = "NORMAL")]
    Normal,
    /// No start, resume, config-update or destructive data operation.
    #[value(name = "SAFE")]
    Safe,
    /// The same, and it latches; the kill switch counts as BLOCK.
    #[value(name = "EMERGENCY_STOP")]
    EmergencyStop,
}

/// How hard the kill switch is thrown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Level {
    /// Not thrown.
    #[value(name = "ALLOW")]
    Allow,
    /// Only what reduces activity passes.
    #[value(name = "CLOSE_ONLY")]
    CloseOnly,
    /// The same, and the router stops every running instance.
    #[value(name = "FLATTEN")]
    Flatten,
    /// Only stop, status, diagnosis, evidence and tightening pass.
    #[value(name = "BLOCK")]
    Block,
}

/// What a readiness gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum GateResult {
    /// Good.
    #[value(name = "PASS")]
    Pass,
    /// Good enough; somebody should look.
    #[value(name = "WARN")]
    Warn,
    /// Bad.
    #[value(name = "FAIL")]
    Fail,
    /// Not known, which is never good.
    #[value(name = "UNKNOWN")]
    Unknown,
}

/// The word of a variant, as it stands on the wire.
pub fn word(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The variant of a word from the wire; `None` for one that this release does not know.
pub fn from_word<T: clap::ValueEnum>(word: &str) -> Option<T> {
    T::from_str(word, false).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladders_go_from_loose_to_tight() {
        let words = |values: &[Level]| values.iter().map(|level| word(*level)).collect::<Vec<_>>();
        let mut levels = [Level::Block, Level::Allow, Level::Flatten, Level::CloseOnly];
        levels.sort();
        assert_eq!(words(&levels), ["ALLOW", "CLOSE_ONLY", "FLATTEN", "BLOCK"]);
        assert!(Mode::Normal < Mode::Safe && Mode::Safe < Mode::EmergencyStop);
        for level in levels {
            assert_eq!(from_word(&word(level)), Some(level));
        }
        assert_eq!(from_word::<Mode>("EMERGENCY_STOP"), Some(Mode::EmergencyStop));
        assert_eq!(from_word::<Mode>("safe"), None, "the wire has one spelling");
    }
}
