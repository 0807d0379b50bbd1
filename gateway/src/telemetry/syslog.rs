//! Lines for the local syslog daemon.
//!
//! Owns the form of a line: what glibc's `syslog(3)` sends, which is RFC 3164 section 4.1 without
//! the host name; every daemon that listens on `/dev/log` reads it.

use std::io;
use std::path::Path;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::datagram::Datagrams;
use super::fields::Entry;
use super::log::Sink;
use crate::config::file::{Facility, LogFormat};

/// Where syslog daemons listen.
const SOCKET: &str = "/dev/log";

/// Octets of a datagram; rsyslog's default `maxMessageSize`.
const DATAGRAM_LENGTH: usize = 8 * 1024;

/// The way to the syslog daemon.
#[derive(Debug)]
pub(super) struct Syslog {
    daemon: Datagrams,
    format: LogFormat,
    facility: Facility,
    zone: TimeZone,
}

impl Syslog {
    /// Connects to the daemon.
    ///
    /// # Errors
    ///
    /// When nothing listens there.
    pub(super) fn connect(format: LogFormat, facility: Facility) -> io::Result<Self> {
        let daemon = Datagrams::connect(Path::new(SOCKET))?;
        Ok(Self { daemon, format, facility, zone: TimeZone::system() })
    }
}

impl Sink for Syslog {
    fn write(&self, entry: &Entry) -> bool {
        let now = Timestamp::try_from(entry.wall).unwrap_or(Timestamp::UNIX_EPOCH);
        let now = now.to_zoned(self.zone.clone());
        self.daemon.send(datagram(&now, entry, self.format, self.facility).as_bytes())
    }
}

fn datagram(now: &Zoned, entry: &Entry, format: LogFormat, facility: Facility) -> String {
    let priority = (facility as u8) << 3 | entry.severity();
    let (time, process) = (now.strftime("%b %e %H:%M:%S"), std::process::id());
    let mut datagram = format!("<{priority}>{time} gateway[{process}]: {}", entry.line(format));
    datagram.truncate(datagram.floor_char_boundary(DATAGRAM_LENGTH));
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
    fn a_line_is_what_the_c_library_sends() {
        let now: Zoned = "2026-01-02T03:04:05+00:00[UTC]".parse().unwrap();
        let entry = Entry {
            wall: SystemTime::UNIX_EPOCH,
            level: Level::WARN,
            target: "trouble",
            fields: Fields::new("trouble", &[]),
            spans: vec![],
            text: OnceCell::new(),
        };
        let line = "ts=1970-01-01T00:00:00.000Z level=warn target=trouble msg=trouble";
        let expected = format!("<132>Jan  2 03:04:05 gateway[{}]: {line}", std::process::id());
        assert_eq!(datagram(&now, &entry, LogFormat::Logfmt, Facility::Local0), expected);
    }
}
