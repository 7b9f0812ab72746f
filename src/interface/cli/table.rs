//! Answers in columns, for people.
//!
//! Owns: aligned tables, and how times, counts and words that are not there look.
//! Never: lets a worker's text steer the terminal: what controls it is shown as U+FFFD.
//! Holds: a column is as wide as its widest cell, and the last is not padded.

use ratatui::text::Span;

use crate::contract::{plain::is_steering, routing::ALL, timestamp::Timestamp};

/// What stands for nothing.
const NOTHING: &str = "-";
/// The widest cell; what is longer is cut.
const CELL_CHARS_MAX: usize = 80;

/// Rows under a header.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    numbers: Vec<bool>,
}

impl Table {
    /// A table with those columns; a name that ends in `#` is a column of numbers, which stand to
    /// the right.
    pub fn new(columns: &[&str]) -> Self {
        let names = columns.iter().map(|name| name.trim_end_matches('#').to_uppercase()).collect();
        Self { rows: vec![names], numbers: columns.iter().map(|name| name.ends_with('#')).collect() }
    }

    /// One row more.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell)).collect());
    }

    /// Whether there is only the header.
    pub fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// As text, a line a row.
    pub fn text(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.numbers.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), is_number) in row.iter().zip(&widths).zip(&self.numbers) {
                line.push_str(&padded(cell, *width, *is_number));
                line.push_str("  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn padded(cell: &str, wanted: usize, is_number: bool) -> String {
    let space = " ".repeat(wanted.saturating_sub(width(cell)));
    if is_number { format!("{space}{cell}") } else { format!("{cell}{space}") }
}

fn width(cell: &str) -> usize {
    Span::raw(cell).width()
}

/// A worker's text without what would steer a terminal, cut to `CELL_CHARS_MAX`.
pub fn clean(text: &str) -> String {
    let shown = |character| if is_steering(character) { '\u{fffd}' } else { character };
    let mut cut: String = text.chars().take(CELL_CHARS_MAX).map(shown).collect();
    if text.chars().nth(CELL_CHARS_MAX).is_some() {
        cut.push('…');
    }
    cut
}

/// A text, or what stands for nothing.
pub fn or_nothing(text: Option<impl ToString>) -> String {
    text.map_or_else(|| NOTHING.to_owned(), |text| text.to_string())
}

/// Yes, no, or what stands for nothing.
pub fn yes_or_no(is: Option<bool>) -> String {
    or_nothing(is.map(|is| if is { "yes" } else { "no" }))
}

/// A scope as short as it may be said: a whole swarm by its id, the whole fleet as `ALL`; any other
/// text as it is.
pub fn place(scope: &str) -> String {
    match scope.split('/').collect::<Vec<_>>().as_slice() {
        [swarm, ALL, ALL] => (*swarm).to_owned(),
        _ => scope.to_owned(),
    }
}

/// How long, in two units at most.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if ms < 1000 => format!("{ms}ms"),
        () if minutes == 0 => format!("{seconds}s"),
        () if hours == 0 => format!("{minutes}m{:02}s", seconds % 60),
        () if days == 0 => format!("{hours}h{:02}m", minutes % 60),
        () => format!("{days}d{:02}h", hours % 24),
    }
}

/// How long ago; the clocks of two machines may differ, so the future is now.
pub fn ago(at: Option<Timestamp>, now: Timestamp) -> String {
    or_nothing(at.map(|at| span(u64::try_from(now.ms_since(at)).unwrap_or(0))))
}

/// How long until then, with a minus once it has passed.
pub fn until(at: Option<Timestamp>, now: Timestamp) -> String {
    or_nothing(at.map(|at| match u64::try_from(at.ms_since(now)) {
        Ok(left) => span(left),
        Err(_) => format!("-{}", span(now.ms_since(at).unsigned_abs())),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::view::lenient::words;

    #[test]
    fn a_scope_and_a_difference_are_read_in_either_form() {
        let scope = |swarm, role, instance| json!({ "swarmId": swarm, "role": role, "instance": instance });
        let place = |scope: &Value| words(scope).map(|words| place(&words));
        assert_eq!(place(&json!("kestrel")).as_deref(), Some("kestrel"));
        assert_eq!(place(&scope("ALL", "ALL", "ALL")).as_deref(), Some("ALL"));
        assert_eq!(place(&json!("ALL/ALL/ALL")).as_deref(), Some("ALL"));
        assert_eq!(place(&json!("kestrel/bot/ALL")).as_deref(), Some("kestrel/bot/ALL"));
        assert_eq!(place(&scope("kestrel", "ALL", "ALL")).as_deref(), Some("kestrel"));
        assert_eq!(place(&scope("kestrel", "bot", "b-1")).as_deref(), Some("kestrel/bot/b-1"));
        assert_eq!(place(&json!(null)), None);
        assert_eq!(words(&json!({ "from": "IDLE", "to": "PAUSED" })).as_deref(), Some("IDLE -> PAUSED"));
        assert_eq!(words(&json!("IDLE->PAUSED")).as_deref(), Some("IDLE->PAUSED"));
        assert_eq!((words(&json!({})), words(&json!("")), words(&json!(null))), (None, None, None));
        assert_eq!(words(&json!(7)).as_deref(), Some("7"));
    }

    #[test]
    fn columns_are_aligned_and_text_cannot_steer() {
        let mut table = Table::new(&["name", "count#", "image"]);
        assert!(table.is_empty());
        table.row(["a\u{1b}[2Jb".to_owned(), "7".to_owned(), "x".to_owned()]);
        table.row(["日本".to_owned(), "1234567".to_owned(), "é\u{202e}".to_owned()]);
        let text = table.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAME      COUNT  IMAGE");
        assert_eq!(lines[1], "a\u{fffd}[2Jb        7  x");
        assert_eq!(lines[2], "日本    1234567  é\u{fffd}");
        assert_eq!(clean(&"x".repeat(200)).chars().count(), CELL_CHARS_MAX + 1);
    }

    #[test]
    fn spans_are_told_in_two_units() {
        for (ms, told) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (59_999, "59s"),
            (61_000, "1m01s"),
            (3_600_000, "1h00m"),
            (90_000_000, "1d01h"),
            (u64::MAX, "213503982334d14h"),
        ] {
            assert_eq!(span(ms), told);
        }
        let at = |ms: i64| Timestamp::from_micros(ms * 1000);
        assert_eq!((ago(Some(at(0)), at(5_000)), ago(Some(at(9_000)), at(0))), ("5s".into(), "0ms".into()));
        assert_eq!(
            (until(Some(at(5_000)), at(0)), until(Some(at(0)), at(5_000))),
            ("5s".into(), "-5s".into())
        );
        assert_eq!(
            (ago(None, at(0)), yes_or_no(None), yes_or_no(Some(true))),
            ("-".into(), "-".into(), "yes".into())
        );
    }
}
