//! The terminal, taken and given back.
//!
//! Owns raw mode and the alternate screen, and gives both back on every way out: return, error
//! and panic.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event as TerminalEvent};
use tokio::sync::mpsc;

use super::update::Event;

/// How often the reader of keys looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// Keys that wait at most; a stuck console loses keys rather than memory.
const KEYS: usize = 256;

/// The terminal in raw mode, on its alternate screen.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal. A panic gives it back before its message is printed.
    pub(super) fn take() -> io::Result<Self> {
        Ok(Self { terminal: ratatui::try_init()? })
    }

    /// The terminal to draw on.
    pub(super) const fn terminal(&mut self) -> &mut DefaultTerminal {
        &mut self.terminal
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Keys and changes of size, read by a thread of its own until this is dropped.
#[derive(Debug)]
pub(super) struct Keys {
    events: mpsc::Receiver<Event>,
    stop: Arc<AtomicBool>,
}

impl Keys {
    /// Starts to read.
    pub(super) fn read() -> io::Result<Self> {
        let (sender, events) = mpsc::channel(KEYS);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match next() {
                    Ok(Some(event)) => sender.try_send(event).unwrap_or_default(),
                    Ok(None) => {}
                    // The terminal is gone; dropping the sender ends the console.
                    Err(_) => return,
                }
            }
        })?;
        Ok(Self { events, stop })
    }

    /// The next event; none when the terminal is gone.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn next() -> io::Result<Option<Event>> {
    if !event::poll(LOOK)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        TerminalEvent::Key(key) => Some(Event::Key(key)),
        TerminalEvent::Resize(_, height) => Some(Event::Resized { height }),
        TerminalEvent::FocusGained
        | TerminalEvent::FocusLost
        | TerminalEvent::Mouse(_)
        | TerminalEvent::Paste(_) => None,
    })
}
