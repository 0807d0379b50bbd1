//! Scanners and what they say.
//!
//! Owns the connections to scanners, how many of them there are at once, and what is known of each
//! scanner's health. All scanners of a message read the spool's one copy, side by side, and never
//! touch the session, so a slow scanner cannot slow a client. A scanner is one file here, which
//! knows its protocol; what all have in common is `service`. What follows from a result is
//! `policy`'s business.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod breaker;
mod clamd;
mod connection;
mod engine;
mod failure;
mod health;
mod job;
mod limit;
mod rspamd;
mod service;
mod spamd;
mod step;
mod text;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinHandle;

use crate::config::decimal::Decimal;
use crate::config::file::Scan;
use crate::spool::SpoolReader;

pub use breaker::Circuit;
pub use health::{ScannerState, ScannerView};
pub use job::ScanJob;

use service::Service;

/// All configured scanners. Dropped, it stops their health checks; scans that run go on.
#[derive(Debug)]
pub struct Scanners {
    services: Vec<Arc<Service>>,
    health: Vec<JoinHandle<()>>,
    max_load: Decimal,
}

impl Scanners {
    /// Takes the configuration and begins to check the scanners' health.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(config: &Scan) -> Self {
        let services: Vec<_> = Service::all(config).into_iter().map(Arc::new).collect();
        let health =
            services.iter().map(|service| tokio::spawn(health::watch(Arc::clone(service)))).collect();
        Self { services, health, max_load: config.max_load }
    }

    /// Begins to scan what `reader` reads, while it is written: the virus scanner follows it, the
    /// spam scanners wait for [`ScanJob::complete`].
    #[must_use]
    pub fn start(&self, reader: SpoolReader, exempt: Exempt) -> ScanJob {
        ScanJob::start(&self.services, reader, exempt, self.max_load)
    }

    /// What operators see of each scanner at `now`.
    #[must_use]
    pub fn view(&self, now: Instant) -> Vec<ScannerView> {
        self.services.iter().map(|service| service.view(now)).collect()
    }
}

impl Drop for Scanners {
    fn drop(&mut self) {
        for health in &self.health {
            health.abort();
        }
    }
}

/// The scans a message needs not undergo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exempt {
    /// Scans for viruses.
    pub virus: bool,
    /// Scans for spam.
    pub spam: bool,
}

/// What spam scanners are told of a message beside its text. All texts may be a stranger's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Names the message in the scanners' own logs.
    pub id: String,
    /// Who sent it.
    pub client: IpAddr,
    /// The client's HELO or EHLO name.
    pub helo: String,
    /// Reverse path without angle brackets.
    pub sender: String,
    /// Forward paths.
    pub recipients: Vec<String>,
    /// Whether the client has authenticated.
    pub authenticated: bool,
    /// The gateway's name.
    pub gateway: String,
}

#[cfg(test)]
mod tests;
