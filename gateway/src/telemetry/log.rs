//! The log of a process: one line for each event, to the place the configuration names.
//!
//! Owns the `tracing` subscriber. Never lets a slow reader of the log hold up mail: lines go to
//! standard error through a thread of its own, to syslog through a socket that does not wait,
//! and what cannot be written is counted.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

use jiff::Timestamp;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, reload};

use super::counter::Counter;
use super::fields::{Fields, join, push_text};
use super::syslog::Syslog;
use super::{Telemetry, logfmt};
use crate::clock;
use crate::config::file::{Log, LogFormat, LogLevel, LogTarget};

/// Lines that wait for standard error at most.
const QUEUE: usize = 4_096;

/// How long the end of the process waits for standard error.
const FLUSH: Duration = Duration::from_secs(1);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator named syslog, and nothing listens there.
    #[error("cannot reach the syslog daemon at /dev/log: {0}; start one, or set `log.target: stderr`")]
    Syslog(io::Error),
    /// The operator named the journal, and there is none.
    #[error("cannot reach the journal: {0}; set `log.target: stderr` where systemd does not run")]
    Journald(io::Error),
    /// The thread that writes to standard error did not start.
    #[error("cannot start the log's thread: {0}")]
    Thread(io::Error),
    /// Something set a subscriber before.
    #[error("the log is started already")]
    Twice,
    /// The level cannot be changed.
    #[error("cannot change the log level: {0}")]
    Reload(#[from] reload::Error),
}

/// A place for lines.
pub(super) trait Sink: fmt::Debug + Send + Sync {
    /// Writes one line without its end; false when it was lost. Must not wait.
    fn write(&self, level: Level, line: &str) -> bool;
}

/// The running log. Dropping it waits a moment for lines on their way.
#[derive(Debug)]
pub struct Logging {
    filter: reload::Handle<Targets, Registry>,
    stderr: Option<SyncSender<ToStderr>>,
    in_force: Log,
}

/// Starts the log of this process. With `telemetry`, lines are kept for the console too and lost
/// lines are counted.
///
/// # Errors
///
/// When the target the operator names is not there.
pub fn start(config: &Log, telemetry: Option<Arc<Telemetry>>) -> Result<Logging, Error> {
    let (filter, handle) = reload::Layer::new(filter(config.level));
    let registry = tracing_subscriber::registry().with(filter);
    let mut stderr = None;
    let set = match config.target {
        LogTarget::Journald => {
            let journal = tracing_journald::layer().map_err(Error::Journald)?;
            let journal = journal.with_field_prefix(None).with_syslog_identifier("gateway".to_owned());
            let lines = Lines { format: config.format, sink: None, telemetry };
            tracing::subscriber::set_global_default(registry.with(journal).with(lines))
        }
        LogTarget::Stderr => {
            let sender = spawn_stderr().map_err(Error::Thread)?;
            stderr = Some(sender.clone());
            let lines = Lines { format: config.format, sink: Some(Box::new(sender)), telemetry };
            tracing::subscriber::set_global_default(registry.with(lines))
        }
        LogTarget::Syslog => {
            let syslog = Syslog::connect().map_err(Error::Syslog)?;
            let lines = Lines { format: config.format, sink: Some(Box::new(syslog)), telemetry };
            tracing::subscriber::set_global_default(registry.with(lines))
        }
    };
    set.map_err(|_| Error::Twice)?;
    Ok(Logging { filter: handle, stderr, in_force: config.clone() })
}

impl Logging {
    /// Puts a changed configuration in force, as far as a running process can: the level. The
    /// answer says whether target or format differ, which takes a restart.
    ///
    /// # Errors
    ///
    /// [`Error::Reload`] when the subscriber is gone.
    pub fn reload(&self, config: &Log) -> Result<bool, Error> {
        self.filter.reload(filter(config.level))?;
        Ok(config.target != self.in_force.target || config.format != self.in_force.format)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let Some(stderr) = &self.stderr else { return };
        let (done, wait) = mpsc::channel();
        if stderr.try_send(ToStderr::Flush(done)).is_ok() {
            // A reader that has not come back after a second does not come back.
            wait.recv_timeout(FLUSH).unwrap_or_default();
        }
    }
}

/// The gateway's own events at `level`; those of libraries from WARN on.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("gateway", level)
}

#[derive(Debug)]
enum ToStderr {
    Line(String),
    Flush(mpsc::Sender<()>),
}

impl Sink for SyncSender<ToStderr> {
    fn write(&self, _: Level, line: &str) -> bool {
        self.try_send(ToStderr::Line(format!("{line}\n"))).is_ok()
    }
}

fn spawn_stderr() -> io::Result<SyncSender<ToStderr>> {
    let (sender, lines) = mpsc::sync_channel(QUEUE);
    std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        for line in lines {
            match line {
                // There is nobody to tell that standard error is closed.
                ToStderr::Line(line) => io::stderr().write_all(line.as_bytes()).unwrap_or_default(),
                ToStderr::Flush(done) => done.send(()).unwrap_or_default(),
            }
        }
    })?;
    Ok(sender)
}

/// The layer that makes a line of an event.
#[derive(Debug)]
struct Lines {
    format: LogFormat,
    sink: Option<Box<dyn Sink>>,
    telemetry: Option<Arc<Telemetry>>,
}

impl Lines {
    fn write(&self, level: Level, target: &str, fields: &Fields, context: &str) {
        let wall = clock::wall();
        let name = level_name(level);
        if let Some(sink) = &self.sink {
            let mut line = String::with_capacity(256);
            let mut push = |key: &str, value: &str| push_text(self.format, &mut line, key, value);
            if let Ok(time) = Timestamp::try_from(wall) {
                push("ts", &format!("{time:.3}"));
            }
            push("level", name);
            push("target", target);
            push("msg", &fields.message);
            join(self.format, &mut line, context);
            join(self.format, &mut line, &fields.pairs);
            if self.format == LogFormat::Json {
                line = format!("{{{line}}}");
            }
            if !sink.write(level, &line)
                && let Some(telemetry) = &self.telemetry
            {
                telemetry.count(Counter::LogDropped);
            }
        }
        if let Some(telemetry) = self.telemetry.as_ref().filter(|_| level <= Level::INFO) {
            let millis = wall.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
            let mut text = logfmt::escape(&fields.message);
            join(LogFormat::Logfmt, &mut text, &fields.shown);
            telemetry.recent().push(super::metrics::millis(millis), name, &text);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::new(self.format);
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            record.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new(self.format);
        event.record(&mut fields);
        let mut spans = String::new();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                join(self.format, &mut spans, &of_span.pairs);
            }
        }
        let metadata = event.metadata();
        let target = metadata.target();
        let target = target.strip_prefix("gateway::").unwrap_or(target);
        self.write(*metadata.level(), target, &fields, &spans);
    }
}

const fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::{info, info_span};

    use super::*;
    use crate::config::file::LogAddresses;

    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Sink for Kept {
        fn write(&self, _: Level, line: &str) -> bool {
            self.0.lock().unwrap().push(line.to_owned());
            true
        }
    }

    #[derive(Debug)]
    struct Lost;

    impl Sink for Lost {
        fn write(&self, _: Level, _: &str) -> bool {
            false
        }
    }

    fn telemetry() -> Arc<Telemetry> {
        Arc::new(Telemetry::new(LogAddresses::Masked, clock::now(), clock::wall()))
    }

    fn logged(format: LogFormat, events: impl FnOnce()) -> (String, Arc<Telemetry>) {
        let kept = Kept::default();
        let telemetry = telemetry();
        let lines =
            Lines { format, sink: Some(Box::new(kept.clone())), telemetry: Some(Arc::clone(&telemetry)) };
        let subscriber = tracing_subscriber::registry().with(filter(LogLevel::Info)).with(lines);
        tracing::subscriber::with_default(subscriber, events);
        let lines = kept.0.lock().unwrap().join("\n");
        (lines, telemetry)
    }

    fn hostile() {
        let span = info_span!(target: "gateway::session", "session", id = "0ABC");
        let _inside = span.enter();
        info!(target: "gateway::outcome", helo = "x\x1b[2J\x07", size = 7u64, ok = true, name = %"a b", "message");
        tracing::debug!(target: "gateway::session", "not at this level");
        tracing::info!(target: "hyper", "a library's own affair");
    }

    #[test]
    fn a_line_of_logfmt_holds_time_level_span_and_fields() {
        let (line, telemetry) = logged(LogFormat::Logfmt, hostile);
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.strip_prefix("ts=").unwrap().parse::<Timestamp>().is_ok(), "{time}");
        let expected =
            r#"level=info target=outcome msg=message id=0ABC helo="x\x1b[2J\x07" size=7 ok=true name="a b""#;
        assert_eq!(rest, expected);
        let kept = telemetry.recent().since(0, 10);
        let texts: Vec<_> = kept.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, vec![r#"message helo="x\x1b[2J\x07" size=7 ok=true name="a b""#]);
    }

    #[test]
    fn a_line_of_json_is_one_object() {
        let (line, telemetry) = logged(LogFormat::Json, hostile);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["msg"], "message");
        assert_eq!(read["id"], "0ABC");
        assert_eq!(read["helo"], "x\x1b[2J\x07");
        assert_eq!(read["size"], 7);
        assert_eq!(read["ok"], true);
        assert!(line.is_ascii() && !line.contains('\x1b'));
        assert!(
            telemetry.recent().since(0, 10)[0].text.starts_with("message helo="),
            "the console reads one form"
        );
    }

    #[test]
    fn a_lost_line_is_counted() {
        let telemetry = telemetry();
        let lines = Lines {
            format: LogFormat::Logfmt,
            sink: Some(Box::new(Lost)),
            telemetry: Some(Arc::clone(&telemetry)),
        };
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || info!("lost"));
        assert_eq!(telemetry.snapshot(clock::now()).sum("gateway_log_dropped_total", &[]), 1);
    }
}
