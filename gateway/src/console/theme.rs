//! How things look.
//!
//! Owns the colours. Without colours (`NO_COLOR`) everything is still told apart by weight and
//! by words: a colour never says anything alone.

use ratatui::style::{Color, Modifier, Style};

use crate::control::ScannerState;

/// The colours, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    colours: bool,
}

impl Theme {
    pub(super) const fn new(colours: bool) -> Self {
        Self { colours }
    }

    const fn colour(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// Borders and what is less important.
    pub(super) const fn faint(self) -> Style {
        if self.colours { Style::new().fg(Color::DarkGray) } else { Style::new().add_modifier(Modifier::DIM) }
    }

    /// Names of values.
    pub(super) const fn label(self) -> Style {
        self.colour(Color::Gray)
    }

    /// Titles of boxes and heads of columns.
    pub(super) const fn title(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// Keys at the foot of the screen.
    pub(super) const fn key(self) -> Style {
        self.colour(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// Numbers worth reading.
    pub(super) const fn value(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is as it should be.
    pub(super) const fn good(self) -> Style {
        self.colour(Color::Green)
    }

    /// What an operator should look at.
    pub(super) const fn warning(self) -> Style {
        self.colour(Color::Yellow)
    }

    /// What is not as it should be.
    pub(super) const fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// The selected row and the page on the screen.
    pub(super) const fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Curves.
    pub(super) const fn curve(self) -> Style {
        self.colour(Color::Green)
    }

    /// The second of two curves side by side.
    pub(super) const fn other_curve(self) -> Style {
        self.colour(Color::Blue)
    }

    /// A level of the log.
    pub(super) fn level(self, level: &str) -> Style {
        match level {
            "error" => self.bad(),
            "warn" => self.warning(),
            "info" => self.good(),
            _ => self.faint(),
        }
    }

    /// A name among counts, by what it means for mail.
    pub(super) fn outcome(self, name: &str) -> Style {
        match name {
            "passed" | "clean" => self.good(),
            "refused" | "infected" | "failed" => self.bad(),
            "deferred" | "too-large" | "server-refused" | "aborted" => self.warning(),
            _ => self.label(),
        }
    }

    /// A scanner's state.
    pub(super) const fn scanner(self, state: ScannerState) -> Style {
        match state {
            ScannerState::Up => self.good(),
            ScannerState::Down => self.bad(),
            ScannerState::Unknown => self.warning(),
        }
    }
}
