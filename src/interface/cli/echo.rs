//! What a person sees before anything is sent: what, where, from what to what, and what stays as it
//! is.
//!
//! Owns: the marks of live and dangerous operations, and the lines under them.
//! Never: leaves the word LIVE to colour alone, or writes to stdout, which is for answers.
//! Holds: colour is for a terminal only, and not where `NO_COLOR` is set.

use std::io::IsTerminal;

use serde_json::{Value, json};

use super::{
    output::aside,
    output::one_line,
    table::{clean, or_nothing},
};

/// What marks a live operation where there is no colour.
pub const LIVE: &str = "[LIVE]";

const RED_REVERSED: &str = "\u{1b}[1;7;31m";
const YELLOW_REVERSED: &str = "\u{1b}[1;7;33m";
const PLAIN: &str = "\u{1b}[0m";

/// An operation in words.
#[derive(Clone, Debug, Default)]
pub struct Echo {
    /// What will be asked for.
    pub operation: String,
    /// Whom or what it is for; also the word that is typed.
    pub target: String,
    /// Whether live money is meant.
    pub live: bool,
    /// Whether it is dangerous: consent is asked for, and the router asks for a confirmation.
    pub dangerous: bool,
    /// dev, stage or prod, as the router says.
    pub environment: Option<String>,
    /// From what, to what.
    pub difference: Option<(String, String)>,
    /// What holds now: safety mode, kill switch, gates.
    pub standing: Option<String>,
    /// What it will do.
    pub effect: String,
    /// What it leaves alone.
    pub not_affected: Vec<String>,
    /// Who asks.
    pub sender: String,
}

impl Echo {
    /// Shows it, on stderr.
    pub fn show(&self) {
        aside(self.text(is_coloured()).trim_end());
    }

    /// The same for programs.
    pub fn to_json(&self) -> Value {
        let difference = self.difference.as_ref().map(|(from, to)| json!({ "from": from, "to": to }));
        json!({
            "operation": self.operation, "target": self.target, "live": self.live,
            "dangerous": self.dangerous, "environment": self.environment, "difference": difference,
            "standing": self.standing, "effect": self.effect, "notAffected": self.not_affected,
            "sender": self.sender,
        })
    }

    fn text(&self, coloured: bool) -> String {
        let mut text = match (self.live, self.dangerous) {
            (true, _) => mark("LIVE", RED_REVERSED, coloured) + "  ",
            (false, true) => mark("DANGEROUS", YELLOW_REVERSED, coloured) + "  ",
            (false, false) => String::new(),
        };
        text.push_str(&format!("{} {}\n", clean(&self.operation), clean(&self.target)));
        let difference = self.difference.as_ref().map(|(from, to)| format!("{from} -> {to}"));
        let mut lines = vec![
            ("environment", or_nothing(self.environment.as_ref())),
            ("difference", or_nothing(difference)),
            ("now", or_nothing(self.standing.as_ref())),
            ("effect", self.effect.clone()),
        ];
        lines.extend(self.not_affected.iter().map(|left_alone| ("not affected", left_alone.clone())));
        lines.push(("as", self.sender.clone()));
        for (name, value) in lines {
            text.push_str(format!("  {name:<13} {}", whole(&value)).trim_end());
            text.push('\n');
        }
        text
    }
}

fn mark(word: &str, colour: &str, coloured: bool) -> String {
    if coloured { format!("{colour} {word} {PLAIN}") } else { format!("[{word}]") }
}

fn is_coloured() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !unwanted && std::io::stderr().is_terminal()
}

/// A sentence of somebody else's without what steers a terminal; unlike a cell it is not cut, it is
/// read before consent.
pub fn whole(text: &str) -> String {
    one_line(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Echo {
        Echo {
            operation: "bot-start".to_owned(),
            target: "kestrel/bot/b-1".to_owned(),
            live: true,
            dangerous: true,
            environment: Some("prod".to_owned()),
            difference: Some(("IDLE".to_owned(), "RUNNING_LIVE".to_owned())),
            standing: None,
            effect: "it trades".to_owned(),
            not_affected: vec!["other instances".to_owned(), "the kill switch".to_owned()],
            sender: "ann".to_owned(),
        }
    }

    #[test]
    fn live_is_marked_with_the_word_and_everything_is_named() {
        assert_eq!(
            start().text(false),
            "[LIVE]  bot-start kestrel/bot/b-1\n\
             \u{20} environment   prod\n\
             \u{20} difference    IDLE -> RUNNING_LIVE\n\
             \u{20} now           -\n\
             \u{20} effect        it trades\n\
             \u{20} not affected  other instances\n\
             \u{20} not affected  the kill switch\n\
             \u{20} as            ann\n"
        );
        let coloured = start().text(true);
        assert!(coloured.starts_with("\u{1b}[1;7;31m LIVE \u{1b}[0m"), "{coloured:?}");
    }

    #[test]
    fn dangerous_is_marked_and_what_is_neither_is_not() {
        let lift = Echo { live: false, operation: "kill-switch-set".to_owned(), ..start() };
        assert!(lift.text(false).starts_with("[DANGEROUS]  kill-switch-set"));
        let stop = Echo { live: false, dangerous: false, operation: "bot-stop".to_owned(), ..start() };
        assert!(stop.text(false).starts_with("bot-stop kestrel"));
    }

    #[test]
    fn a_strangers_words_steer_no_terminal_and_are_not_cut() {
        let effect = format!("{}\u{1b}[2Jgone", "word ".repeat(40));
        let text = Echo { effect, ..start() }.text(false);
        assert!(!text.contains('\u{1b}') && text.contains("[2Jgone"), "{text}");
    }
}
