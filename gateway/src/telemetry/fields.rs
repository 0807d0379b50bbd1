//! One event, and the fields of it and of the spans it happened in.
//!
//! Owns the bounds on one event: whatever a stranger sends, a line ends. Also owns the order of
//! a line: time, level, target, message, spans, fields.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use jiff::Timestamp;
use tracing::Level;
use tracing::field::{Field, Visit};

use super::logfmt::VALUE_LENGTH;
use super::metrics::millis;
use super::{json, logfmt};
use crate::config::file::LogFormat;
use crate::outcome::{Finding, ScanResult, Verdict};

/// Octets of an event's values after which further texts are left out.
const EVENT_LENGTH: usize = 8 * 1024;

/// What each scanner said, and after how many milliseconds: `clamd:clean:12 rspamd:reject:40`.
pub(super) fn scans(verdict: &Verdict) -> String {
    let one = |result: &ScanResult| {
        let skip = match &result.finding {
            Finding::Skipped { why } => format!("({})", why.name()),
            Finding::Clean
            | Finding::Infected { .. }
            | Finding::Rated(_)
            | Finding::TooLarge
            | Finding::Failed { .. } => String::new(),
        };
        format!("{}:{}{skip}:{}", result.scanner.name(), result.finding.name(), millis(result.time))
    };
    verdict.results.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A text, which may come from a stranger.
    Text(String),
    /// A number or a truth value.
    Bare(String),
}

/// The fields of one event or span, in the order in which they were recorded.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    /// The event's fixed message.
    pub(super) message: String,
    /// The other fields.
    pub(super) pairs: Vec<(&'static str, Value)>,
    /// Octets of the texts among them.
    pub(super) octets: usize,
}

impl Fields {
    fn text(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else if self.octets < EVENT_LENGTH {
            self.octets += value.len();
            self.pairs.push((field.name(), Value::Text(value)));
        }
    }

    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.pairs.push((field.name(), Value::Bare(value.to_string())));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = Bounded::default();
        text.write_str(value).unwrap_or_default();
        self.text(field, text.0);
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
        self.text(field, text.0);
    }
}

/// A string that takes a little more than a value shows, and no more.
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

/// One event on its way to the log.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) wall: SystemTime,
    pub(super) level: Level,
    /// The module, without the name of the crate.
    pub(super) target: &'static str,
    pub(super) fields: Fields,
    /// The fields of the spans around it, the innermost first.
    pub(super) spans: Vec<(&'static str, Value)>,
}

impl Entry {
    /// The whole line in the given form, without its end.
    pub(super) fn line(&self, format: LogFormat) -> String {
        let mut line = String::with_capacity(256);
        if let Ok(time) = Timestamp::try_from(self.wall) {
            push(format, &mut line, "ts", &Value::Text(format!("{time:.3}")));
        }
        for (key, value) in
            [("level", self.level_name()), ("target", self.target), ("msg", &self.fields.message)]
        {
            push(format, &mut line, key, &Value::Text(value.to_owned()));
        }
        for (key, value) in self.pairs() {
            push(format, &mut line, key, value);
        }
        match format {
            LogFormat::Logfmt => line,
            LogFormat::Json => format!("{{{line}}}"),
        }
    }

    /// The message and the fields, for readers that have time and level elsewhere.
    pub(super) fn text(&self) -> String {
        let mut text = logfmt::escape(&self.fields.message);
        for (key, value) in self.pairs() {
            push(LogFormat::Logfmt, &mut text, key, value);
        }
        text
    }

    /// All fields.
    pub(super) fn pairs(&self) -> impl Iterator<Item = &(&'static str, Value)> {
        self.spans.iter().chain(&self.fields.pairs)
    }

    /// The level as records spell it.
    pub(super) const fn level_name(&self) -> &'static str {
        match self.level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        }
    }

    /// The severity of syslog and the journal (RFC 3164 table 2).
    pub(super) const fn severity(&self) -> u8 {
        match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        }
    }
}

fn push(format: LogFormat, out: &mut String, key: &str, value: &Value) {
    match (format, value) {
        (LogFormat::Logfmt, Value::Text(text)) => logfmt::push_text(out, key, text),
        (LogFormat::Logfmt, Value::Bare(bare)) => logfmt::push_bare(out, key, bare),
        (LogFormat::Json, Value::Text(text)) => json::push_text(out, key, text),
        (LogFormat::Json, Value::Bare(bare)) => json::push_bare(out, key, bare),
    }
}
