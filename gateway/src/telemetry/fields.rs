//! One event, and the fields of it and of the spans it happened in.
//!
//! Owns the bounds on one event: whatever a stranger sends, a line ends. Also owns the order of
//! a line: time, level, target, message, spans, fields.

use std::cell::OnceCell;
use std::fmt::{self, Write as _};
use std::time::SystemTime;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A text, which may come from a stranger.
    Text(&'a str),
    /// A number or a truth value.
    Bare(&'a str),
}

/// The fields of one event or span, in the order in which they were recorded.
///
/// A message's record has some twenty of them: all values stand in one string, so that each costs no memory of
/// its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    /// The event's fixed message.
    message: String,
    values: String,
    pairs: Vec<Pair>,
    /// Octets of the texts among the values.
    octets: usize,
}

/// A field: its value ends there in the string of all, and begins where the one before ends.
#[derive(Clone, Copy, Debug)]
struct Pair {
    key: &'static str,
    is_text: bool,
    end: usize,
}

impl Fields {
    /// Those of an event, which has more than a span.
    pub(super) fn of_event(event: &Event<'_>) -> Self {
        let mut fields = Self {
            message: String::new(),
            values: String::with_capacity(512),
            pairs: Vec::with_capacity(32),
            octets: 0,
        };
        event.record(&mut fields);
        fields
    }

    #[cfg(test)]
    pub(super) fn new(message: &str, pairs: &[(&'static str, Value<'_>)]) -> Self {
        let mut fields = Self { message: message.to_owned(), ..Self::default() };
        for (key, value) in pairs {
            let (Value::Text(text) | Value::Bare(text)) = value;
            fields.values.push_str(text);
            let is_text = matches!(value, Value::Text(_));
            fields.pairs.push(Pair { key, is_text, end: fields.values.len() });
        }
        fields
    }

    /// Every field but the message.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'static str, Value<'_>)> {
        let starts = std::iter::once(0).chain(self.pairs.iter().map(|pair| pair.end));
        starts.zip(&self.pairs).map(|(start, pair)| {
            let value = self.values.get(start..pair.end).unwrap_or_default();
            (pair.key, if pair.is_text { Value::Text(value) } else { Value::Bare(value) })
        })
    }

    fn text(&mut self, field: &Field, write: impl FnOnce(&mut Bounded<'_>) -> fmt::Result) {
        if field.name() == "message" {
            self.message.clear();
            // The bound ends the writing with an error; what came before it is what is shown.
            write(&mut Bounded::new(&mut self.message)).unwrap_or_default();
        } else if self.octets < EVENT_LENGTH {
            let start = self.values.len();
            write(&mut Bounded::new(&mut self.values)).unwrap_or_default();
            self.octets += self.values.len() - start;
            self.push(field, true);
        }
    }

    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        // Writing to a `String` cannot fail.
        write!(self.values, "{value}").unwrap_or_default();
        self.push(field, false);
    }

    fn push(&mut self, field: &Field, is_text: bool) {
        self.pairs.push(Pair { key: field.name(), is_text, end: self.values.len() });
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, |text| text.write_str(value));
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
        self.text(field, |text| write!(text, "{value:?}"));
    }
}

/// Appends a little more than a value shows to a string, and no more.
struct Bounded<'a> {
    to: &'a mut String,
    room: usize,
}

impl<'a> Bounded<'a> {
    const fn new(to: &'a mut String) -> Self {
        Self { to, room: VALUE_LENGTH + 4 }
    }
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let end = piece.floor_char_boundary(self.room);
        self.to.push_str(piece.get(..end).unwrap_or_default());
        self.room = self.room.saturating_sub(end);
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
    /// Those of the spans around it, the innermost first.
    pub(super) spans: Vec<Fields>,
    /// What both the line and the console have.
    pub(super) text: OnceCell<Text>,
}

/// The message and all fields in the `key=value` form.
#[derive(Clone, Debug)]
pub(super) struct Text {
    whole: String,
    /// Octets of the message.
    message: usize,
}

impl Entry {
    /// The whole line in the given form, without its end.
    pub(super) fn line(&self, format: LogFormat) -> String {
        let mut line = String::with_capacity(1024);
        if let Ok(time) = Timestamp::try_from(self.wall) {
            push(format, &mut line, "ts", Value::Text(&format!("{time:.3}")));
        }
        for (key, value) in
            [("level", self.level_name()), ("target", self.target), ("msg", &self.fields.message)]
        {
            push(format, &mut line, key, Value::Text(value));
        }
        match format {
            LogFormat::Logfmt => self.push_logfmt(&mut line),
            LogFormat::Json => {
                self.pairs().for_each(|(key, value)| push(format, &mut line, key, value));
                line.insert(0, '{');
                line.push('}');
            }
        }
        line
    }

    /// The message and the fields, for readers that have time and level elsewhere.
    pub(super) fn text(&self) -> &str {
        &self.logfmt().whole
    }

    fn logfmt(&self) -> &Text {
        self.text.get_or_init(|| {
            let mut whole = String::with_capacity(1024);
            whole.push_str(&logfmt::escape(&self.fields.message));
            let message = whole.len();
            self.pairs().for_each(|(key, value)| push(LogFormat::Logfmt, &mut whole, key, value));
            Text { whole, message }
        })
    }

    fn push_logfmt(&self, out: &mut String) {
        let Text { whole, message } = self.logfmt();
        // A key follows the space between message and fields.
        let fields = whole.get(*message..).unwrap_or_default().trim_start();
        if !fields.is_empty() {
            out.push(' ');
            out.push_str(fields);
        }
    }

    /// All fields.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'static str, Value<'_>)> {
        self.spans.iter().chain([&self.fields]).flat_map(Fields::pairs)
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

fn push(format: LogFormat, out: &mut String, key: &str, value: Value<'_>) {
    match (format, value) {
        (LogFormat::Logfmt, Value::Text(text)) => logfmt::push_text(out, key, text),
        (LogFormat::Logfmt, Value::Bare(bare)) => logfmt::push_bare(out, key, bare),
        (LogFormat::Json, Value::Text(text)) => json::push_text(out, key, text),
        (LogFormat::Json, Value::Bare(bare)) => json::push_bare(out, key, bare),
    }
}
