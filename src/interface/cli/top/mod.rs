//! `swarmgate top`: the running router on one screen.
//!
//! Owns: the terminal while it is ours, the keys, and the beat at which the router is asked.
//! Never: leaves a terminal as it is not wanted: an end, an error, a panic and a signal all give it
//! back.
//! Holds: a router that cannot be reached is said so, and asked again.

mod seen;
mod view;

use std::{io::IsTerminal, time::Duration};

use ratatui::{
    DefaultTerminal,
    buffer::Buffer,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    layout::Rect,
    text::Span,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use super::{CliError, Exit, Globals, Out, access::Access};
use seen::{Seen, Watcher};
use view::{Move, View};

/// How often the router is asked.
const BEAT: Duration = Duration::from_secs(1);
/// How long the keyboard is listened to before looking whether anybody still wants to know.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// Keys that may wait for the screen.
const KEYS_WAITING_MAX: usize = 64;
/// The size of a frame that is printed.
const FRAME: Rect = Rect::new(0, 0, 80, 24);

/// Watch the running router: fleet, commands, refusals and lanes on one screen.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  The router on this machine:
    swarmgate top
  One behind a tunnel (ssh -L 8080:127.0.0.1:8080 gate-1):
    swarmgate top --api http://127.0.0.1:8080
  One frame as text, 80 by 24, for a script:
    swarmgate top --once

KEYS:
  q quit   tab next list   arrows, page up, page down, home, end: scroll")]
pub struct Args {
    /// Print one frame as text and end; it looks twice, so that there are rates.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    access: Access,
}

/// Watches until a key or a signal says so.
///
/// # Errors
/// When there is no terminal, or it cannot be written.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    if globals.is_json() {
        return Err(CliError::Usage {
            message: "a screen has no JSON".to_owned(),
            help: "`swarmgate inventory` and `swarmgate commands` have; /api/v1/overview is the rest"
                .to_owned(),
        });
    }
    let mut watcher = Watcher::new(args.access.router(globals)?);
    if args.once {
        return once(&mut watcher).await;
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(CliError::Usage {
            message: "there is no terminal to draw on".to_owned(),
            help: "`swarmgate top --once` prints one frame as text".to_owned(),
        });
    }
    live(watcher).await
}

async fn once(watcher: &mut Watcher) -> Result<Exit, CliError> {
    watcher.look().await;
    tokio::time::sleep(BEAT).await;
    let seen = watcher.look().await;
    Out::new().text(&frame(&seen, FRAME, &mut View::default()))?;
    Ok(if seen.fault.is_some() { Exit::Broker } else { Exit::Done })
}

/// A frame as text, without the spaces at the ends of its lines.
fn frame(seen: &Seen, area: Rect, view: &mut View) -> String {
    let mut buffer = Buffer::empty(area);
    view::draw(area, &mut buffer, seen, view);
    let mut text = String::new();
    for y in area.top()..area.bottom() {
        let mut line = String::new();
        let mut x = area.left();
        while x < area.right() {
            let symbol = buffer.cell((x, y)).map_or(" ", |cell| cell.symbol());
            line.push_str(symbol);
            // A wide symbol takes the next cell too.
            x += u16::try_from(Span::raw(symbol).width().max(1)).unwrap_or(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The terminal while it is ours; given back when this goes, and by a hook before a panic is told.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> Result<Self, CliError> {
        let terminal = ratatui::try_init().map_err(|fault| {
            // Half taken is given back too.
            ratatui::restore();
            CliError::output(&fault)
        })?;
        Ok(Self(terminal))
    }

    fn draw(&mut self, seen: &Seen, view: &mut View) -> Result<(), CliError> {
        let drawn = self.0.draw(|frame| view::draw(frame.area(), frame.buffer_mut(), seen, view));
        drawn.map(|_| ()).map_err(|fault| CliError::output(&fault))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone away cannot be given back, and nobody is there to be told.
        let _ = ratatui::try_restore();
        let _ = self.0.show_cursor();
    }
}

async fn live(watcher: Watcher) -> Result<Exit, CliError> {
    let listen = |kind| signal(kind).map_err(|fault| CliError::input(&fault));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let (into, mut news) = watch::channel(Seen::nothing_yet(watcher.url()));
    // In this task, so that its panic is this task's, and the screen is given back.
    let watching = watch_on(watcher, into);
    tokio::pin!(watching);
    let mut screen = Screen::take()?;
    let mut keys = keyboard();
    let mut view = View::default();
    loop {
        let seen = news.borrow_and_update().clone();
        screen.draw(&seen, &mut view)?;
        tokio::select! {
            () = &mut watching => return Ok(Exit::Done),
            _ = news.changed() => {}
            key = keys.recv() => match key.map(|event| pressed(&event)) {
                Some(Pressed::Go(step)) => view.go(step),
                Some(Pressed::Nothing) => {}
                Some(Pressed::Quit) | None => return Ok(Exit::Done),
            },
            _ = terminate.recv() => return Ok(Exit::Done),
            _ = interrupt.recv() => return Ok(Exit::Done),
            _ = hang_up.recv() => return Ok(Exit::Done),
        }
    }
}

/// Looks once a beat, until nobody wants to know any more.
async fn watch_on(mut watcher: Watcher, into: watch::Sender<Seen>) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let seen = watcher.look().await;
        if into.send(seen).is_err() {
            return;
        }
    }
}

/// The keyboard, on a thread of its own: reading it waits. The thread ends soon after the receiver
/// is gone.
fn keyboard() -> mpsc::Receiver<Event> {
    let (into, keys) = mpsc::channel(KEYS_WAITING_MAX);
    tokio::task::spawn_blocking(move || {
        while !into.is_closed() {
            match event::poll(KEY_WAIT).and_then(|is_there| is_there.then(event::read).transpose()) {
                Ok(Some(event)) => {
                    if into.blocking_send(event).is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                // The terminal is gone, and with the sender the screen ends.
                Err(_) => return,
            }
        }
    });
    keys
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pressed {
    Quit,
    Go(Move),
    Nothing,
}

fn pressed(event: &Event) -> Pressed {
    let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else { return Pressed::Nothing };
    if *kind == KeyEventKind::Release {
        return Pressed::Nothing;
    }
    let with_control = modifiers.contains(KeyModifiers::CONTROL);
    match code {
        KeyCode::Char('c' | 'd') if with_control => Pressed::Quit,
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Pressed::Quit,
        KeyCode::Tab | KeyCode::Right => Pressed::Go(Move::NextList),
        KeyCode::BackTab | KeyCode::Left => Pressed::Go(Move::ListBefore),
        KeyCode::Down | KeyCode::Char('j') => Pressed::Go(Move::Down),
        KeyCode::Up | KeyCode::Char('k') => Pressed::Go(Move::Up),
        KeyCode::PageDown | KeyCode::Char(' ') => Pressed::Go(Move::PageDown),
        KeyCode::PageUp => Pressed::Go(Move::PageUp),
        KeyCode::Home => Pressed::Go(Move::First),
        KeyCode::End => Pressed::Go(Move::Last),
        _ => Pressed::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        contract::timestamp::Timestamp,
        view::{commands::Commands, inventory::Swarms, overview::BrokerState},
    };

    fn read<T: serde::de::DeserializeOwned>(answer: Value) -> T {
        serde_json::from_value(answer).unwrap()
    }

    fn seen() -> Seen {
        let lane =
            |lane: &str, depth: u64| json!({ "lane": lane, "depth": depth, "inFlight": 3, "forwarded": 9 });
        let overview = json!({
            "instance": "gate-1", "environment": "stage", "mode": "enforce", "version": "0.1.0",
            "uptimeMs": 274_353_000_u64, "ledger": { "writable": true, "seq": 123_456, "keys": 1200 },
            "broker": { "connected": true, "blocked": false },
            "lanes": [lane("urgent", 0), lane("signals", 12), lane("results", 7), lane("metrics", 4096)],
            "refusals": [{ "code": "routing.mismatch", "count": 3 }, { "code": "contract.schema", "count": 41 }],
            "safety": { "mode": "NORMAL", "killSwitch": "ALLOW", "challenges": 0, "gatesNotPassed": 0 },
            "commands": { "inFlight": 12, "parked": 1 },
            "inventory": { "instances": 2000, "fresh": 1990, "stale": 8, "lost": 2, "swarms": 12, "overflow": 0 },
        });
        let swarms: Vec<Value> = (1..=12)
            .map(|number| {
                json!({
                    "swarmId": format!("kestrel-{number:02}"), "desired": 200, "seen": 200, "fresh": 199,
                    "running": 150, "enabled": 150, "watermark": "2026-03-04T10:14:55Z",
                })
            })
            .collect();
        let commands: Vec<Value> = (0..12)
            .map(|number| {
                json!({
                    "id": (4711 - number).to_string(), "type": "swarm-start", "state": "carried",
                    "scope": { "swarmId": "kestrel-01", "role": "swarm-controller", "instance": "ctl-1" },
                    "acceptedAt": "2026-03-04T10:14:48Z", "deadline": "2026-03-04T10:15:48Z",
                })
            })
            .collect();
        Seen {
            url: "http://127.0.0.1:8080".to_owned(),
            at: Timestamp::parse("2026-03-04T10:15:00Z"),
            overview: read(overview),
            swarms: read::<Swarms>(json!({ "swarms": swarms })).swarms,
            commands: read::<Commands>(json!({ "commands": commands })).commands,
            rates: BTreeMap::from([("metrics".to_owned(), 812.25), ("signals".to_owned(), 0.0)]),
            fault: None,
        }
    }

    const SCREEN: &str = include_str!("screen.txt");

    #[test]
    fn the_screen_is_whole_at_80_by_24() {
        let text = frame(&seen(), FRAME, &mut View::default());
        assert!(text.lines().count() == 24 && text.lines().all(|line| line.chars().count() <= 80));
        assert_eq!(text, SCREEN, "\n{text}");
    }

    #[test]
    fn lists_are_scrolled_and_keep_within_their_ends() {
        let (seen, mut view) = (seen(), View::default());
        let mut after = |steps: &[Move]| {
            steps.iter().for_each(|step| view.go(*step));
            frame(&seen, FRAME, &mut view)
        };
        assert!(after(&[]).contains("[1–5 of 12]") && after(&[Move::Up]).contains("kestrel-01 "));
        let text = after(&[Move::Down, Move::Down]);
        assert!(text.contains("[3–7 of 12]") && !text.contains("kestrel-02 "), "{text}");
        let text = after(&[Move::PageDown, Move::PageDown]);
        assert!(text.contains("[8–12 of 12]") && text.contains("kestrel-12 "), "{text}");
        // The keys are for the commands now, and the fleet stays where it was.
        let text = after(&[Move::NextList, Move::Last]);
        assert!(text.contains("[8–12 of 12]") && text.contains("[9–12 of 12]"), "{text}");
        assert!(text.contains(" 4700 "), "{text}");
        let text = after(&[Move::First, Move::ListBefore, Move::First]);
        assert!(text.contains("[1–5 of 12]") && text.contains("[1–4 of 12]"), "{text}");
    }

    #[test]
    fn what_is_wrong_is_said_plainly() {
        let nothing = Seen { fault: Some("no router can be reached".to_owned()), ..Seen::nothing_yet("u") };
        let text = frame(&nothing, FRAME, &mut View::default());
        assert!(text.contains("nothing seen yet") && text.contains("no router can be reached"), "{text}");
        assert!(!text.contains('0'), "what was not seen is no zero\n{text}");
        let mut bad = seen();
        bad.overview.ledger.writable = false;
        bad.overview.broker.connected = false;
        bad.overview.inventory.overflow = 3;
        bad.overview.safety.mode = "EMERGENCY_STOP".to_owned();
        bad.overview.safety.kill_switch = "BLOCK".to_owned();
        bad.overview.instance = "gate\u{1b}[31m".to_owned();
        let text = frame(&bad, FRAME, &mut View::default());
        for said in [
            "ledger CANNOT BE WRITTEN",
            "broker NOT CONNECTED",
            "3 NOT TAKEN IN",
            "gate\u{fffd}[31m",
            "safety EMERGENCY_STOP  kill switch BLOCK",
        ] {
            assert!(text.contains(said), "{said}\n{text}");
        }
        bad.overview.broker = BrokerState { connected: true, blocked: true, ..BrokerState::default() };
        assert!(frame(&bad, FRAME, &mut View::default()).contains("broker BLOCKS US"));
    }

    #[test]
    fn any_size_is_drawn() {
        let mut view = View::default();
        for (width, height) in [(0, 0), (1, 1), (5, 3), (20, 5), (79, 23), (81, 25), (300, 100)] {
            view.go(Move::Last);
            view.go(Move::NextList);
            let text = frame(&seen(), Rect::new(0, 0, width, height), &mut view);
            assert_eq!(text.lines().count(), usize::from(height));
        }
        let text = frame(&seen(), Rect::new(0, 0, 120, 50), &mut View::default());
        assert!(text.contains("kestrel-12 ") && text.contains("kestrel-01/swarm-controller/ctl-1"), "{text}");
    }

    #[test]
    fn keys_mean_what_the_help_says() {
        let key = |code, modifiers| pressed(&Event::Key(KeyEvent::new(code, modifiers)));
        for (code, modifiers) in [
            (KeyCode::Char('q'), KeyModifiers::NONE),
            (KeyCode::Esc, KeyModifiers::NONE),
            (KeyCode::Char('c'), KeyModifiers::CONTROL),
        ] {
            assert_eq!(key(code, modifiers), Pressed::Quit);
        }
        assert_eq!(key(KeyCode::Tab, KeyModifiers::NONE), Pressed::Go(Move::NextList));
        assert_eq!(key(KeyCode::PageDown, KeyModifiers::NONE), Pressed::Go(Move::PageDown));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), Pressed::Nothing);
    }
}
