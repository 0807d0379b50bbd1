//! What the kernel side tells: of one flow, of trouble, and how it is.

use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::Steering;
use super::clients::Book;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::intercept::flow::FlowFacts;
use crate::ipc::DatapathStatus;

/// Interfaces that a status names; further ones are left out, so that it fits into a message.
const SHOWN: usize = 1_000;

/// Events written in one go; the rest waits for the next time.
const EVENTS: usize = 1_000;

/// Between two lines about the same kind of event.
const QUIET: Duration = Duration::from_secs(60);

impl Steering {
    /// What the kernel noted of a flow, and what it has counted of its client if `with_client`.
    #[must_use]
    pub fn facts(
        &self,
        client: ClientAddr,
        destination: OriginalDst,
        with_client: bool,
    ) -> Option<FlowFacts> {
        let note = self.kernel.facts(client.socket(), destination.socket())?;
        let book = self.book.as_ref().filter(|_| with_client);
        Some(FlowFacts {
            interface: self.names.get(&note.interface()).cloned().unwrap_or_default(),
            mac: note.mac(),
            vlan: note.vlan(),
            ttl: note.ttl(),
            window: note.window(),
            mss: note.mss(),
            window_scale: note.window_scale(),
            sack: note.sack(),
            timestamps: note.timestamps(),
            client: book.and_then(|book| book.accounts.facts(client.socket(), &note)),
        })
    }

    /// Writes what the program had to tell since the last time: each packet for whoever debugs,
    /// and a sum for the operator, of each reason not more than one a minute.
    pub fn tell(&mut self, now: Instant) {
        self.kernel.flush_log();
        let Some(events) = &mut self.events else { return };
        let events: Vec<_> = std::iter::from_fn(|| events.pop()).take(EVENTS).collect();
        for event in events {
            if self.is_excess(&event) {
                continue;
            }
            let interface = self.names.get(&event.interface()).map_or("?", String::as_str);
            let reason = event.reason().map_or("unknown", |reason| reason.name());
            debug!(reason, interface, count = event.count(), error = event.error(), "packet");
            if self.quiet.get(reason).is_some_and(|until| *until > now) {
                continue;
            }
            self.quiet.insert(reason, now + QUIET);
            let counters = self.kernel.counters().unwrap_or_default();
            let packets = counters.into_iter().find(|(name, _)| *name == reason).map(|(_, packets)| packets);
            warn!(reason, packets, interface, "flows are not steered");
        }
    }

    /// Fills in what the kernel side is.
    pub fn report(&mut self, status: &mut DatapathStatus) {
        let mut hooks: Vec<&str> = self.kernel.attached().map(|attached| attached.hook().name()).collect();
        hooks.sort_unstable();
        hooks.dedup();
        status.attach = hooks.join("+");
        status.interfaces =
            self.kernel.attached().take(SHOWN).map(|attached| attached.name().to_owned()).collect();
        match self.kernel.counters() {
            Ok(counters) => {
                status.packets = counters.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
            }
            Err(error) => debug!(%error, "no counters"),
        }
        status.clients = self.book.as_mut().map(Book::totals);
    }
}
