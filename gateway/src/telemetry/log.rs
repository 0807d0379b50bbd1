//! The log of a process: one line for each event, to the place the configuration names.
//!
//! Owns the `tracing` subscriber. Never lets a slow reader of the log hold up mail: lines go to
//! standard error through a thread of its own, to syslog and the journal through sockets that do
//! not wait, and what cannot be written is counted.

use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, reload};

use super::Telemetry;
use super::counter::Counter;
use super::fields::{Entry, Fields};
use super::journald::Journald;
use super::metrics::millis;
use super::stderr::Writer;
use super::syslog::Syslog;
use crate::clock;
use crate::config::file::{Log, LogLevel, LogTarget};

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

/// A place for entries.
pub(super) trait Sink: fmt::Debug + Send + Sync {
    /// Writes one entry; false when it was lost. Must not wait.
    fn write(&self, entry: &Entry) -> bool;
}

/// Where entries go at the moment.
type Place = Arc<ArcSwap<Box<dyn Sink>>>;

/// The running log. Dropping it waits a moment for lines on their way.
#[derive(Debug)]
pub struct Logging {
    filter: reload::Handle<Targets, Registry>,
    place: Place,
    state: Mutex<State>,
}

/// What a reload changes.
#[derive(Debug)]
struct State {
    in_force: Log,
    stderr: Option<Writer>,
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
    let place = Arc::new(ArcSwap::from_pointee(open(config, &mut stderr)?));
    let lines = Lines { place: Arc::clone(&place), telemetry };
    tracing::subscriber::set_global_default(registry.with(lines)).map_err(|_| Error::Twice)?;
    let state = Mutex::new(State { in_force: config.clone(), stderr });
    Ok(Logging { filter: handle, place, state })
}

impl Logging {
    /// Puts a changed configuration in force: level, target, format and facility.
    ///
    /// # Errors
    ///
    /// When the target the operator names is not there, or the subscriber is gone: then entries go
    /// where they went.
    pub fn reload(&self, config: &Log) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { in_force, stderr } = &mut *state;
        let key = |log: &Log| (log.target, log.format, log.facility);
        if key(config) != key(in_force) {
            self.place.store(Arc::new(open(config, stderr)?));
        }
        self.filter.reload(filter(config.level))?;
        *in_force = config.clone();
        Ok(())
    }
}

/// Opens the target that `config` names; there is one thread for standard error at most.
fn open(config: &Log, stderr: &mut Option<Writer>) -> Result<Box<dyn Sink>, Error> {
    let (format, facility) = (config.format, config.facility);
    Ok(match config.target {
        LogTarget::Journald => Box::new(Journald::connect(facility).map_err(Error::Journald)?),
        LogTarget::Syslog => Box::new(Syslog::connect(format, facility).map_err(Error::Syslog)?),
        LogTarget::Stderr => {
            let writer = match stderr {
                Some(writer) => writer.clone(),
                None => stderr.insert(Writer::start().map_err(Error::Thread)?).clone(),
            };
            Box::new(writer.sink(format))
        }
    })
}

impl Drop for Logging {
    fn drop(&mut self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stderr) = &state.stderr {
            stderr.flush();
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

/// The layer that makes an entry of an event.
#[derive(Debug)]
struct Lines {
    place: Place,
    telemetry: Option<Arc<Telemetry>>,
}

impl Lines {
    fn write(&self, entry: &Entry) {
        let written = self.place.load().write(entry);
        let Some(telemetry) = &self.telemetry else { return };
        if !written {
            telemetry.count(Counter::LogDropped);
        }
        if entry.level <= Level::INFO {
            let since = entry.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            telemetry.recent().push(millis(since), entry.level_name(), entry.text());
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
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
        let fields = Fields::of_event(event);
        let around = context.event_scope(event).into_iter().flatten();
        let spans = around.filter_map(|span| span.extensions().get::<Fields>().cloned()).collect();
        let metadata = event.metadata();
        let target = metadata.target();
        let target = target.strip_prefix("gateway::").unwrap_or(target);
        let level = *metadata.level();
        self.write(&Entry { wall: clock::wall(), level, target, fields, spans, text: OnceCell::new() });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::{info, info_span};

    use jiff::Timestamp;

    use super::*;
    use crate::config::file::LogFormat;

    #[derive(Clone, Debug)]
    struct Kept(Arc<Mutex<Vec<String>>>, LogFormat);

    impl Sink for Kept {
        fn write(&self, entry: &Entry) -> bool {
            self.0.lock().unwrap().push(entry.line(self.1));
            true
        }
    }

    #[derive(Debug)]
    struct Lost;

    impl Sink for Lost {
        fn write(&self, _: &Entry) -> bool {
            false
        }
    }

    fn place(sink: impl Sink + 'static) -> Place {
        Arc::new(ArcSwap::from_pointee(Box::new(sink)))
    }

    fn telemetry() -> Arc<Telemetry> {
        Arc::new(Telemetry::new(&Log::default(), clock::now(), clock::wall()))
    }

    fn logged(format: LogFormat, events: impl FnOnce()) -> (String, Arc<Telemetry>) {
        let kept = Kept(Arc::default(), format);
        let telemetry = telemetry();
        let lines = Lines { place: place(kept.clone()), telemetry: Some(Arc::clone(&telemetry)) };
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
        assert_eq!(texts, vec![r#"message id=0ABC helo="x\x1b[2J\x07" size=7 ok=true name="a b""#]);
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
            telemetry.recent().since(0, 10)[0].text.starts_with("message id=0ABC helo="),
            "the console reads one form"
        );
    }

    #[test]
    fn a_lost_line_is_counted() {
        let telemetry = telemetry();
        let lines = Lines { place: place(Lost), telemetry: Some(Arc::clone(&telemetry)) };
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || info!("lost"));
        assert_eq!(telemetry.snapshot(clock::now()).sum("gateway_log_dropped_total", &[]), 1);
    }
}
