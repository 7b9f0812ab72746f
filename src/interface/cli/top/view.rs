//! The screen: what stands where.
//!
//! Owns: the lists, their columns, and how far each is scrolled.
//! Never: asks anybody; it draws what was seen.
//! Holds: it is whole at 80 by 24, and draws on any size without a panic.

use ratatui::{
    buffer::Buffer,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Paragraph, Row, Table, Widget},
};

use super::seen::Seen;
use crate::{
    contract::timestamp::Timestamp,
    interface::cli::table::{ago, clean, or_nothing, span, until},
};

/// Lists that can be scrolled.
const LISTS: usize = 3;
/// The title's line and the header of a list.
const LIST_HEAD_LINES: u16 = 2;
/// How many lines the lists at the foot have.
const FOOT_LINES: u16 = LIST_HEAD_LINES + 4;

/// A list that can be scrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Fleet = 0,
    Commands = 1,
    Refusals = 2,
}

/// What a key does to the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    NextList,
    ListBefore,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
}

/// Which list the keys are for, and how far each is scrolled.
#[derive(Clone, Debug, Default)]
pub struct View {
    focus: usize,
    places: [Place; LISTS],
}

/// How far a list is scrolled, and how much of it was shown.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    first: usize,
    shown: usize,
}

impl View {
    /// Does what a key asks for; the next drawing keeps it within the list.
    pub fn go(&mut self, step: Move) {
        let place = &mut self.places[self.focus];
        match step {
            Move::NextList => self.focus = (self.focus + 1) % LISTS,
            Move::ListBefore => self.focus = (self.focus + LISTS - 1) % LISTS,
            Move::Up => place.first = place.first.saturating_sub(1),
            Move::Down => place.first = place.first.saturating_add(1),
            Move::PageUp => place.first = place.first.saturating_sub(place.shown.max(1)),
            Move::PageDown => place.first = place.first.saturating_add(place.shown.max(1)),
            Move::First => place.first = 0,
            Move::Last => place.first = usize::MAX,
        }
    }
}

/// Draws what was seen.
pub fn draw(area: Rect, buffer: &mut Buffer, seen: &Seen, view: &mut View) {
    let now = seen.at.unwrap_or(Timestamp::from_micros(0));
    let [head, fleet_area, commands_area, foot, keys] = Layout::vertical([
        Constraint::Length(4),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(FOOT_LINES),
        Constraint::Length(1),
    ])
    .areas(area);
    let [refusals_area, lanes_area] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(45)]).spacing(2).areas(foot);
    header(head, buffer, seen);
    fleet(fleet_area, buffer, seen, view, now);
    commands(commands_area, buffer, seen, view, now);
    refusals(refusals_area, buffer, seen, view);
    lanes(lanes_area, buffer, seen);
    Paragraph::new("q quit  tab next list  arrows scroll")
        .style(Style::new().add_modifier(Modifier::DIM))
        .render(keys, buffer);
}

fn header(area: Rect, buffer: &mut Buffer, seen: &Seen) {
    let overview = &seen.overview;
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = Vec::new();
    if seen.at.is_some() {
        lines.push(Line::from(vec![
            Span::styled(format!("swarmgate {}", clean(&overview.instance)), bold),
            Span::raw(format!(
                "  {}  {}  v{}  up {}",
                clean(&overview.environment),
                clean(&overview.mode),
                clean(&overview.version),
                span(u64::try_from(overview.uptime_ms).unwrap_or(0))
            )),
        ]));
        let ledger = match overview.ledger.writable {
            true => Span::raw("ledger writable"),
            false => Span::styled("ledger CANNOT BE WRITTEN", bad()),
        };
        let broker = match (overview.broker.connected, overview.broker.blocked) {
            (true, false) => Span::raw("broker connected"),
            (true, true) => Span::styled("broker BLOCKS US", bad()),
            (false, _) => Span::styled("broker NOT CONNECTED", bad()),
        };
        let totals = format!("  seq {}  keys {}    ", overview.ledger.seq, overview.ledger.keys);
        let safety = &overview.safety;
        let at_ease = safety.mode == "NORMAL" && safety.kill_switch == "ALLOW" && safety.challenges == 0;
        let safety_style = if at_ease { Style::new() } else { bad() };
        let safety = format!(
            "safety {}  kill switch {}  challenges {}  gates not passed {}",
            clean(&safety.mode),
            clean(&safety.kill_switch),
            safety.challenges,
            safety.gates_not_passed
        );
        lines.push(Line::from(vec![ledger, Span::raw(totals), broker]));
        lines.push(Line::styled(safety, safety_style));
    } else {
        lines.extend([Line::styled("swarmgate", bold), Line::raw("nothing seen yet")]);
    }
    lines.push(match &seen.fault {
        Some(fault) => Line::styled(clean(fault), bad().add_modifier(Modifier::REVERSED)),
        None => Line::styled(clean(&seen.url), Style::new().add_modifier(Modifier::DIM)),
    });
    Paragraph::new(lines).render(area, buffer);
}

fn fleet(area: Rect, buffer: &mut Buffer, seen: &Seen, view: &mut View, now: Timestamp) {
    let totals = &seen.overview.inventory;
    let mut title = "fleet".to_owned();
    if seen.at.is_some() {
        title.push_str(&format!(
            ": {} instances, {} fresh, {} stale, {} lost",
            totals.instances, totals.fresh, totals.stale, totals.lost
        ));
    }
    if totals.overflow > 0 {
        title.push_str(&format!(", {} NOT TAKEN IN", totals.overflow));
    }
    let columns = [
        Column::text("swarm", Constraint::Fill(1)),
        Column::number("desired", 8),
        Column::number("seen", 8),
        Column::number("fresh", 8),
        Column::number("running", 8),
        Column::number("enabled", 8),
        Column::number("heard of", 9),
    ];
    let shown = Shown { list: List::Fleet, title, columns: &columns, all: seen.swarms.len() };
    shown.draw(area, buffer, view, |at| {
        let swarm = seen.swarms.get(at)?;
        let is_short = swarm.desired.is_some_and(|desired| swarm.fresh < desired) || swarm.fresh < swarm.seen;
        let cells = vec![
            clean(&swarm.swarm_id),
            or_nothing(swarm.desired),
            swarm.seen.to_string(),
            swarm.fresh.to_string(),
            swarm.running.to_string(),
            swarm.enabled.to_string(),
            ago(swarm.watermark, now),
        ];
        Some((cells, if is_short { Style::new().fg(Color::Yellow) } else { Style::new() }))
    });
}

fn commands(area: Rect, buffer: &mut Buffer, seen: &Seen, view: &mut View, now: Timestamp) {
    let totals = &seen.overview.commands;
    let title = match seen.at {
        Some(_) => format!("commands: {} in flight, {} parked", totals.in_flight, totals.parked),
        None => "commands".to_owned(),
    };
    let columns = [
        Column::number("id", 9),
        Column::text("type", Constraint::Length(16)),
        Column::text("target", Constraint::Fill(1)),
        Column::text("state", Constraint::Length(8)),
        Column::number("age", 6),
        Column::number("left", 6),
    ];
    // The rest of the line, without the other columns and a space before each.
    let target_width = usize::from(area.width.saturating_sub(9 + 16 + 8 + 6 + 6 + 5));
    let shown = Shown { list: List::Commands, title, columns: &columns, all: seen.commands.len() };
    shown.draw(area, buffer, view, |at| {
        let command = seen.commands.get(at)?;
        let is_late = command.deadline.is_some_and(|deadline| deadline < now);
        let cells = vec![
            clean(&command.id),
            clean(&command.kind_type),
            without_middle(&clean(&or_nothing(command.scope.as_ref())), target_width),
            clean(&command.state),
            ago(command.accepted_at, now),
            until(command.deadline, now),
        ];
        Some((cells, if is_late { bad() } else { Style::new() }))
    });
}

fn refusals(area: Rect, buffer: &mut Buffer, seen: &Seen, view: &mut View) {
    let mut refusals = seen.overview.refusals.clone();
    refusals.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.code.cmp(&other.code)));
    let columns = [Column::text("reason", Constraint::Fill(1)), Column::number("count", 8)];
    let title = "refusals".to_owned();
    let shown = Shown { list: List::Refusals, title, columns: &columns, all: refusals.len() };
    shown.draw(area, buffer, view, |at| {
        let refusal = refusals.get(at)?;
        Some((vec![clean(&refusal.code), refusal.count.to_string()], Style::new()))
    });
}

fn lanes(area: Rect, buffer: &mut Buffer, seen: &Seen) {
    let columns = [
        Column::text("lane", Constraint::Fill(1)),
        Column::number("depth", 8),
        Column::number("in flight", 10),
        Column::number("carried/s", 10),
    ];
    let rows = seen.overview.lanes.iter().map(|lane| {
        let rate = or_nothing(seen.rates.get(&lane.lane).map(|rate| format!("{rate:.1}")));
        let cells = vec![clean(&lane.lane), lane.depth.to_string(), lane.in_flight.to_string(), rate];
        (cells, Style::new())
    });
    table(area, buffer, "lanes".to_owned(), &columns, rows.collect(), false);
}

/// A column of a list.
struct Column {
    name: &'static str,
    width: Constraint,
    is_number: bool,
}

impl Column {
    const fn text(name: &'static str, width: Constraint) -> Self {
        Self { name, width, is_number: false }
    }

    const fn number(name: &'static str, width: u16) -> Self {
        Self { name, width: Constraint::Length(width), is_number: true }
    }

    fn cell(&self, text: String) -> Cell<'static> {
        let alignment = if self.is_number { Alignment::Right } else { Alignment::Left };
        Cell::new(Line::raw(text).alignment(alignment))
    }
}

/// A list that can be scrolled.
struct Shown<'columns> {
    list: List,
    title: String,
    columns: &'columns [Column],
    all: usize,
}

impl Shown<'_> {
    fn draw(
        self,
        area: Rect,
        buffer: &mut Buffer,
        view: &mut View,
        row: impl Fn(usize) -> Option<(Vec<String>, Style)>,
    ) {
        let has_focus = view.focus == self.list as usize;
        let place = &mut view.places[self.list as usize];
        place.shown = usize::from(area.height.saturating_sub(LIST_HEAD_LINES));
        place.first = place.first.min(self.all.saturating_sub(place.shown));
        let last = place.first.saturating_add(place.shown).min(self.all);
        let mut title = self.title;
        if place.shown < self.all {
            title.push_str(&format!(
                "  [{}–{last} of {}]",
                place.first.saturating_add(1).min(last),
                self.all
            ));
        }
        let rows = (place.first..last).filter_map(row).collect();
        table(area, buffer, title, self.columns, rows, has_focus);
    }
}

fn table(
    area: Rect,
    buffer: &mut Buffer,
    title: String,
    columns: &[Column],
    rows: Vec<(Vec<String>, Style)>,
    has_focus: bool,
) {
    let style = match has_focus {
        true => Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
        false => Style::new().add_modifier(Modifier::BOLD),
    };
    let rows = rows.into_iter().map(|(cells, style)| {
        Row::new(columns.iter().zip(cells).map(|(column, cell)| column.cell(cell)).collect::<Vec<_>>())
            .style(style)
    });
    let header =
        Row::new(columns.iter().map(|column| column.cell(column.name.to_owned())).collect::<Vec<_>>());
    Table::new(rows, columns.iter().map(|column| column.width))
        .header(header.style(Style::new().add_modifier(Modifier::DIM)))
        .block(Block::new().borders(Borders::TOP).title(Span::styled(format!(" {title} "), style)))
        .render(area, buffer);
}

/// A text that is too wide keeps its beginning and its end: of a scope the swarm and the instance.
fn without_middle(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept - kept / 2, kept / 2);
    text.chars().take(head).chain(['…']).chain(text.chars().skip(count - tail)).collect()
}

fn bad() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}
