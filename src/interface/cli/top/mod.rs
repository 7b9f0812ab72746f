//! `swarmgate top`: the running router on one screen.
//!
//! Owns: the terminal while it is ours, the keys, and the beat at which the router is asked.
//! Never: leaves a terminal as it is not wanted: an end, an error, a panic and a signal all give it back.
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
    /// Print one frame as text and end; it takes two beats, so that there are rates.
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
            help: "`swarmgate inventory` and `swarmgate commands` have; /api/v1/overview is the rest".to_owned(),
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
    Out::new().text(&frame(&seen, FRAME))?;
    Ok(if seen.fault.is_some() { Exit::Broker } else { Exit::Done })
}

/// A frame as text, without the spaces at the ends of its lines.
fn frame(seen: &Seen, area: Rect) -> String {
    let mut buffer = Buffer::empty(area);
    view::draw(area, &mut buffer, seen, &mut View::default());
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

/// The keyboard, on a thread of its own: reading it waits. The thread ends soon after the receiver is gone.
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
