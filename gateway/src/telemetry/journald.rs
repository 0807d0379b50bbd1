//! Entries for the systemd journal, every value as a field of its own.
//!
//! Owns the form of a datagram: the simple form of the journal's native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>), `FIELD=value` lines. Values are escaped as
//! in the other forms of the log, so no value holds a line end. `MESSAGE` is what a reader of
//! `journalctl` sees.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::datagram::Datagrams;
use super::fields::{Entry, Value};
use super::log::Sink;
use super::logfmt::escape;
use crate::config::file::Facility;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The way to the journal.
#[derive(Debug)]
pub(super) struct Journald {
    daemon: Datagrams,
    facility: Facility,
}

impl Journald {
    /// Connects to the journal.
    ///
    /// # Errors
    ///
    /// When systemd does not run here.
    pub(super) fn connect(facility: Facility) -> io::Result<Self> {
        Ok(Self { daemon: Datagrams::connect(Path::new(SOCKET))?, facility })
    }
}

impl Sink for Journald {
    fn write(&self, entry: &Entry) -> bool {
        self.daemon.send(datagram(entry, self.facility).as_bytes())
    }
}

fn datagram(entry: &Entry, facility: Facility) -> String {
    let mut datagram = String::with_capacity(1_024);
    let (severity, facility) = (entry.severity(), facility as u8);
    // Writing to a `String` cannot fail.
    write!(
        datagram,
        "PRIORITY={severity}\nSYSLOG_FACILITY={facility}\nSYSLOG_IDENTIFIER=gateway\nGATEWAY_TARGET={}\nMESSAGE={}\n",
        escape(entry.target),
        entry.text()
    )
    .unwrap_or_default();
    for (key, value) in entry.pairs() {
        let value = match value {
            Value::Text(text) => &escape(text),
            Value::Bare(bare) => bare,
        };
        // The journal takes capital letters, digits and underscores.
        let key = key.to_ascii_uppercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
        writeln!(datagram, "GATEWAY_{key}={value}").unwrap_or_default();
    }
    datagram
}

#[cfg(test)]
mod tests {
    use std::cell::OnceCell;
    use std::time::SystemTime;

    use tracing::Level;

    use super::*;
    use crate::telemetry::fields::Fields;

    #[test]
    fn an_entry_reads_well_and_no_value_makes_a_field_of_its_own() {
        let pairs = [("helo", Value::Text("x\nPRIORITY=0\x1b[2J")), ("scan.ms", Value::Bare("7"))];
        let entry = Entry {
            wall: SystemTime::UNIX_EPOCH,
            level: Level::INFO,
            target: "outcome",
            fields: Fields::new("message", &pairs),
            spans: vec![Fields::new("session", &[("id", Value::Text("0ABC"))])],
            text: OnceCell::new(),
        };
        insta::assert_snapshot!(datagram(&entry, Facility::Mail), @r#"
        PRIORITY=6
        SYSLOG_FACILITY=2
        SYSLOG_IDENTIFIER=gateway
        GATEWAY_TARGET=outcome
        MESSAGE=message id=0ABC helo="x\x0aPRIORITY=0\x1b[2J" scan.ms=7
        GATEWAY_ID=0ABC
        GATEWAY_HELO=x\x0aPRIORITY=0\x1b[2J
        GATEWAY_SCAN_MS=7
        "#);
    }
}
