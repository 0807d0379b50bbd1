//! The fields of an event, written as they arrive.
//!
//! Owns the bound on one line: whatever a stranger sends, a line ends.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};

use super::logfmt::VALUE_LENGTH;
use super::{json, logfmt};
use crate::config::file::LogFormat;

/// Octets of a line.
const LINE_LENGTH: usize = 8 * 1024;

/// The fields of one event or span in the log's form, and in the console's.
#[derive(Debug)]
pub(super) struct Fields {
    format: LogFormat,
    /// The event's fixed message.
    pub(super) message: String,
    /// The other fields in the log's form.
    pub(super) pairs: String,
    /// The other fields in the console's form.
    pub(super) shown: String,
}

impl Fields {
    pub(super) const fn new(format: LogFormat) -> Self {
        Self { format, message: String::new(), pairs: String::new(), shown: String::new() }
    }

    fn text(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else if self.pairs.len() < LINE_LENGTH {
            push_text(self.format, &mut self.pairs, field.name(), value);
            logfmt::push_text(&mut self.shown, field.name(), value);
        }
    }

    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        match self.format {
            LogFormat::Logfmt => logfmt::push_bare(&mut self.pairs, field.name(), &value),
            LogFormat::Json => json::push_bare(&mut self.pairs, field.name(), &value),
        }
        logfmt::push_bare(&mut self.shown, field.name(), &value);
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded::default();
        // The bound ends the writing with an error; what came before it is what is shown.
        write!(text, "{value:?}").unwrap_or_default();
        self.text(field, &text.0);
    }
}

/// A string that takes a little more than a line shows, and no more.
#[derive(Default)]
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let room = (VALUE_LENGTH + 4).saturating_sub(self.0.len());
        let end = piece.floor_char_boundary(room);
        self.0.push_str(piece.get(..end).unwrap_or_default());
        if end == piece.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Appends one field in the given form.
pub(super) fn push_text(format: LogFormat, out: &mut String, key: &str, value: &str) {
    match format {
        LogFormat::Logfmt => logfmt::push_text(out, key, value),
        LogFormat::Json => json::push_text(out, key, value),
    }
}

/// Appends fields that are written already.
pub(super) fn join(format: LogFormat, out: &mut String, more: &str) {
    if !out.is_empty() && !more.is_empty() {
        out.push(if format == LogFormat::Json { ',' } else { ' ' });
    }
    out.push_str(more);
}
