//! Warnings that strangers can cause: counted at once, logged as a sum.
//!
//! Owns the kinds of trouble and the pace of their lines: for each kind the first within a
//! second, then at most one a minute, however often it happens.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shortest time between two lines of one kind.
const PACE: Duration = Duration::from_secs(60);

/// Something an operator should look at, though a stranger may be its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A server could not be reached.
    ServerUnreachable,
    /// A server broke the protocol.
    ServerProtocol,
    /// A scanner gave no verdict.
    Scanner,
    /// The copy for the scanners could not be written.
    Spool,
    /// Sessions are turned away because a ceiling is reached.
    Full,
    /// A client put commands behind STARTTLS.
    Injection,
    /// The original destination of a flow was not found.
    Destination,
    /// Mail in the queue cannot be read, or what is to be put there cannot be written.
    Queue,
    /// A lookup in the DNS failed, or a block list does not work.
    Dns,
    /// A script or a server of `on-lock` was not told of a lock, or has failed.
    Hook,
    /// The gateway's own trouble with sockets or files.
    Internal,
}

impl Trouble {
    pub(super) const ALL: [Self; 11] = [
        Self::ServerUnreachable,
        Self::ServerProtocol,
        Self::Scanner,
        Self::Spool,
        Self::Full,
        Self::Injection,
        Self::Destination,
        Self::Queue,
        Self::Dns,
        Self::Hook,
        Self::Internal,
    ];

    /// One word for the log and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServerUnreachable => "server-unreachable",
            Self::ServerProtocol => "server-protocol",
            Self::Scanner => "scanner",
            Self::Spool => "spool",
            Self::Full => "full",
            Self::Injection => "injection",
            Self::Destination => "destination",
            Self::Queue => "queue",
            Self::Dns => "dns",
            Self::Hook => "hook",
            Self::Internal => "internal",
        }
    }
}

/// What waits to be logged, by kind.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    pending: Mutex<[Pending; Trouble::ALL.len()]>,
}

#[derive(Debug, Default)]
struct Pending {
    count: u64,
    first: String,
    logged: Option<Instant>,
}

impl Troubles {
    pub(super) fn note(&self, kind: Trouble, detail: impl FnOnce() -> String) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = &mut pending[kind as usize];
        entry.count = entry.count.saturating_add(1);
        if entry.count == 1 {
            entry.first = detail();
        }
    }

    pub(super) fn log_due(&self, now: Instant) {
        for (kind, count, first) in self.due(now) {
            tracing::warn!(target: "gateway::trouble", kind = kind.name(), count, first, "trouble");
        }
    }

    fn due(&self, now: Instant) -> Vec<(Trouble, u64, String)> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        for (kind, entry) in Trouble::ALL.iter().zip(pending.iter_mut()) {
            let rested = entry.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= PACE);
            if entry.count != 0 && rested {
                entry.logged = Some(now);
                due.push((*kind, std::mem::take(&mut entry.count), std::mem::take(&mut entry.first)));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_first_is_logged_soon_and_the_rest_as_one_sum_a_minute_later() {
        let troubles = Troubles::default();
        let start = clock::now();
        troubles.note(Trouble::Scanner, || "first".to_owned());
        assert_eq!(troubles.due(start), vec![(Trouble::Scanner, 1, "first".to_owned())]);
        for count in 0..500 {
            troubles.note(Trouble::Scanner, || format!("later {count}"));
        }
        assert_eq!(troubles.due(start + Duration::from_secs(59)), vec![]);
        assert_eq!(
            troubles.due(start + Duration::from_secs(60)),
            vec![(Trouble::Scanner, 500, "later 0".to_owned())]
        );
        assert_eq!(troubles.due(start + Duration::from_secs(200)), vec![]);
    }
}
