//! The report of an observer, for people and for programs.
//!
//! Owns: how it reads.
//! Never: asks for it.
//! Holds: a stranger's words begin no line of it.

use serde_json::json;

use super::{output::one_line, table::Table};
use crate::{
    telemetry::metrics::ObservedTotals,
    view::observed::{Observed, SeenRow},
};

/// The report at the end: what was seen, and what was not.
pub fn at_end(totals: ObservedTotals, observed: &Observed, json: bool) -> String {
    if json {
        return format!("{}\n", json!({ "observed": totals, "report": observed }));
    }
    let ObservedTotals { judged, dropped, is_lower_bound } = totals;
    let at_least = if is_lower_bound { "at least " } else { "" };
    format!("judged {judged}, dropped before they were judged: {at_least}{dropped}\n{}", text(observed))
}

/// The report for people.
pub fn text(observed: &Observed) -> String {
    let Observed { bindings, bounds, exchange, next_step, records, rows } = observed;
    let mut lines = vec![format!("from `{exchange}`, bound with {}", bindings.join(", "))];
    if !rows.is_empty() {
        let mut table = Table::new(&["sender", "known by", "key pattern", "seen#", "refused#", "why"]);
        for row in rows {
            let why: Vec<&str> = row.refusals.iter().map(|refusals| refusals.code.code()).collect();
            table.row([
                row.sender.name.clone(),
                row.sender.by.word().to_owned(),
                row.pattern.clone(),
                row.count.to_string(),
                row.refused.to_string(),
                why.join(", "),
            ]);
        }
        lines.push(String::new());
        lines.extend(table.text().lines().map(str::to_owned));
    }
    rows.iter().for_each(|row| tell(row, &mut lines));
    if !bounds.is_empty() || records.is_some() {
        lines.push(String::new());
    }
    for met in bounds {
        lines.push(format!("beyond `{}`: {} messages, {}", met.key, met.count, met.what));
    }
    if let Some(records) = records {
        let fault = records.fault.as_ref().map_or_else(String::new, |fault| format!(": {fault}"));
        lines.push(format!(
            "records: {} in {}, {} left out{fault}",
            records.written, records.file, records.left_out
        ));
    }
    lines.extend([String::new(), format!("next: {next_step}")]);
    lines.iter().map(|line| format!("{}\n", one_line(line))).collect()
}

fn tell(row: &SeenRow, lines: &mut Vec<String>) {
    lines.extend([String::new(), format!("{}, {}", row.sender.name, row.pattern)]);
    let verdicts: Vec<String> =
        row.verdicts.iter().map(|(verdict, count)| format!("{verdict} {count}")).collect();
    lines.push(format!("  would be: {}", verdicts.join(", ")));
    for refusals in &row.refusals {
        let at = refusals.pointer.as_ref().map_or_else(String::new, |pointer| format!(" at {pointer}"));
        lines.push(format!("  {} × {}{at}: {}", refusals.count, refusals.code, refusals.detail));
    }
    if let Some(example) = &row.example {
        let body = example.body.as_deref().unwrap_or("a body that is no JSON");
        let cut = if example.is_cut { "…" } else { "" };
        let bytes = example.body_bytes;
        lines
            .push(format!("  example: {} `{}`, {bytes} bytes: {body}{cut}", example.at, example.routing_key));
    }
    lines.push(format!("  next: {}", row.next_step));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::observed::{KnownBy, SeenExample, SeenSender};

    #[test]
    fn a_strangers_words_begin_no_line() {
        let at = crate::contract::timestamp::Timestamp::parse("2026-03-04T10:15:00Z").unwrap();
        let example = SeenExample {
            at,
            body: Some("{\"a\":\n\"next: nothing\"}".to_owned()),
            body_bytes: 21,
            is_cut: false,
            reason: None,
            routing_key: "a\nnext: b".to_owned(),
        };
        let row = SeenRow {
            count: 1,
            example: Some(example),
            first_at: at,
            last_at: at,
            next_step: "look".to_owned(),
            pattern: "a\nnext: c".to_owned(),
            refused: 0,
            refusals: Vec::new(),
            sender: SeenSender { by: KnownBy::Origin, name: "x\nnext: d".to_owned() },
            verdicts: [("forward".to_owned(), 1)].into(),
        };
        let told = text(&Observed { rows: vec![row], next_step: "go".to_owned(), ..Observed::default() });
        let next: Vec<&str> = told.lines().filter(|line| line.trim_start().starts_with("next:")).collect();
        assert_eq!(next, ["  next: look", "next: go"], "{told}");
    }
}
