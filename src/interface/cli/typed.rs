//! Consent in a person's own letters: the target's name, typed.
//!
//! Owns: the question on the terminal, and the line that a script has to use instead.
//! Never: takes `y`, an empty line, or the end of the input for a yes.
//! Holds: without a terminal there is no question, only an error that says which flags say the
//! same.

use std::io::{self, BufRead, IsTerminal, Write};

use super::{CliError, table::clean};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1024;

/// What has to be consented to, and how.
pub struct Consent<'a> {
    /// The word to type: the target's name.
    pub word: &'a str,
    /// Whether it is live.
    pub live: bool,
    /// `--yes` was given.
    pub yes: bool,
    /// What `--live` named.
    pub named: Option<&'a str>,
}

impl Consent<'_> {
    /// Has it, or says how to give it.
    ///
    /// # Errors
    /// When it was not given.
    pub fn obtain(&self) -> Result<(), CliError> {
        if self.yes {
            return self.by_flags();
        }
        let (stdin, mut stderr) = (io::stdin(), io::stderr());
        if !stdin.is_terminal() || !stderr.is_terminal() {
            return Err(CliError::Usage {
                message:
                    "this needs a person's consent, and there is no terminal to ask at; nothing was sent"
                        .to_owned(),
                help: format!("without a terminal say so: {}", self.line()),
            });
        }
        let question = format!("Type {} to go on, anything else to leave it", clean(self.word));
        match asked(&question, self.word, &mut stdin.lock(), &mut stderr) {
            Ok(true) => Ok(()),
            Ok(false) => Err(CliError::Usage {
                message: format!("that is not `{}`; nothing was sent", clean(self.word)),
                help: "run it again and type the target's name, letter by letter".to_owned(),
            }),
            Err(fault) => Err(CliError::input(&fault)),
        }
    }

    /// `--yes` is a yes to what is not live; live has to be named as well.
    fn by_flags(&self) -> Result<(), CliError> {
        if !self.live || self.named == Some(self.word) {
            return Ok(());
        }
        let message = match self.named {
            Some(_) => "`--live` names another target; nothing was sent",
            None => "`--yes` alone does not go live; nothing was sent",
        };
        Err(CliError::Usage {
            message: message.to_owned(),
            help: format!("name the target: {}", self.line()),
        })
    }

    /// This call with the flags that it lacks.
    fn line(&self) -> String {
        line(std::env::args().skip(1), self.live.then_some(self.word))
    }
}

/// Asks for the word; anything else, also an end of the input, is a no.
pub fn asked(
    question: &str,
    word: &str,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<bool> {
    write!(output, "{question}: ")?;
    output.flush()?;
    let mut answer = Vec::new();
    io::Read::take(input, ANSWER_BYTES_MAX).read_until(b'\n', &mut answer)?;
    if !answer.ends_with(b"\n") {
        // Without the return key nobody answered; the next word begins on a line of its own.
        writeln!(output)?;
        return Ok(false);
    }
    Ok(answer.trim_ascii() == word.as_bytes())
}

/// The call again, with consent in flags; what may hold a password is left out.
fn line(args: impl Iterator<Item = String>, live: Option<&str>) -> String {
    let mut words = vec!["swarmgate".to_owned()];
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--yes" => {}
            "--live" => drop(args.next()),
            "--amqp" => {
                args.next();
                words.extend(["--amqp".to_owned(), "URL".to_owned()]);
            }
            _ if arg.starts_with("--live=") => {}
            _ if arg.starts_with("--amqp=") => words.push("--amqp=URL".to_owned()),
            _ => words.push(quoted(&clean(&arg))),
        }
    }
    words.push("--yes".to_owned());
    words.extend(live.into_iter().flat_map(|target| ["--live".to_owned(), quoted(&clean(target))]));
    words.join(" ")
}

/// As a shell reads it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(answer: &str) -> (bool, String) {
        let mut told = Vec::new();
        let yes = asked("Type it", "kestrel/bot/b-1", &mut answer.as_bytes(), &mut told).unwrap();
        (yes, String::from_utf8(told).unwrap())
    }

    #[test]
    fn only_the_whole_word_and_the_return_key_are_a_yes() {
        let (yes, told) = says("kestrel/bot/b-1\n");
        assert!(yes && told == "Type it: ", "{told}");
        assert!(says("  kestrel/bot/b-1\r\n").0, "blanks around it are nobody's meaning");
        let long = format!("{}kestrel/bot/b-1\n", " ".repeat(2000));
        for no in
            ["\n", "", "y\n", "yes\n", "kestrel/bot/b-2\n", "KESTREL/bot/b-1\n", "kestrel/bot/b-1", &long]
        {
            assert!(!says(no).0, "{no:?}");
        }
    }

    #[test]
    fn flags_say_it_where_nobody_is_asked() {
        let consent = |live, named| Consent { word: "k/bot/b-1", live, yes: true, named };
        assert!(consent(false, None).obtain().is_ok());
        assert!(consent(true, Some("k/bot/b-1")).obtain().is_ok());
        for named in [None, Some("k/bot/b-2"), Some("")] {
            let fault = consent(true, named).obtain().unwrap_err();
            assert!(fault.to_string().ends_with("nothing was sent"), "{fault}");
        }
    }

    #[test]
    fn the_line_to_use_can_be_pasted_and_holds_no_password() {
        let args = |line: &str| line.split('|').map(str::to_owned).collect::<Vec<_>>().into_iter();
        let given = "bot|start|k/bot/b-1|--mode|live|--amqp|amqp://u:hush@h|--live|other|--reason|it's fine";
        assert_eq!(
            line(args(given), Some("k/bot/b-1")),
            "swarmgate bot start k/bot/b-1 --mode live --amqp URL --reason 'it'\\''s fine' --yes --live k/bot/b-1"
        );
        assert_eq!(
            line(args("kill|--lift|--amqp=amqp://u:hush@h|--yes"), None),
            "swarmgate kill --lift --amqp=URL --yes"
        );
    }
}
