//! What the kernel's accounts of clients have to do with the rest.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway_common::client::DESTINATIONS;
use gateway_common::event::Event;
use gateway_common::flow::FlowKey;
use gateway_common::reason::Reason;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::{Config, Error, Order, Steering, Word};
use crate::clock;
use crate::config::file::OnExcess;
use crate::datapath::accounts::{Accounts, Excesses, Reader, limit_names};
use crate::datapath::object::Kernel;
use crate::datapath::reset::{Cut, Whose};
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::ipc::client::{ClientCount, ClientSort, ClientTotals};
use crate::ipc::flow::FlowEnd;

/// Lists and clients over their limits that wait for the rest of this process.
const WAITING: usize = 256;
/// Least time between two counts of all clients.
const CENSUS: Duration = Duration::from_secs(15);
/// A count of all clients takes at most one part in so many of a processor.
const CENSUS_SHARE: u32 = 50;
/// All clients were never counted.
const UNKNOWN: u64 = u64::MAX;

/// The accounts, and what is to be said of them.
pub(super) struct Book {
    pub(super) accounts: Accounts,
    reader: Arc<Reader>,
    words: mpsc::Sender<Word>,
    said: mpsc::Receiver<Word>,
    excesses: Excesses,
    /// How many clients there were when they were last counted, or [`UNKNOWN`].
    known: Arc<AtomicU64>,
    /// Who counts them; ends when they are to be counted again.
    census: Option<JoinHandle<()>>,
}

impl Book {
    pub(super) fn open(kernel: &mut Kernel) -> Option<Self> {
        let (accounts, reader) = kernel.accounts()?;
        let (words, said) = mpsc::channel(WAITING);
        let known = Arc::new(AtomicU64::new(UNKNOWN));
        let (reader, excesses) = (Arc::new(reader), Excesses::default());
        Some(Self { accounts, reader, words, said, excesses, known, census: None })
    }

    /// What is known of all clients. Has them counted now and then, on another thread: there may be
    /// very many.
    pub(super) fn totals(&mut self) -> ClientTotals {
        if self.census.as_ref().is_none_or(JoinHandle::is_finished) {
            self.census = Some(tokio::spawn(census(Arc::clone(&self.reader), Arc::clone(&self.known))));
        }
        let known = self.known.load(Ordering::Relaxed);
        ClientTotals { known: (known != UNKNOWN).then_some(known), over_limit: self.excesses.list() }
    }

    /// A client wanted to go beyond these limits.
    fn exceeded(&mut self, event: &Event, limits: u32) {
        let action = self.accounts.on_excess();
        let client = self.accounts.network(event.flow().client_addr());
        tracing::info!(%client, limits = limit_names(limits), "a client is over its limit");
        self.excesses.count(limits, action);
        // A client that is refused with a reply is there to be judged by the proxy itself.
        if limits & DESTINATIONS == 0 || action == OnExcess::Refuse {
            return;
        }
        let (client, destination) = ends(event.flow());
        let servers = self.accounts.destinations(event.flow().client_addr());
        if self.words.try_send(Word::FannedOut { client, destination, servers }).is_err() {
            debug!(%client, "too many clients are over their limits to tell of all");
        }
    }

    /// What is to be said next. Cancelled, it loses nothing.
    pub(super) async fn word(&mut self) -> Option<Word> {
        self.said.recv().await
    }
}

impl Steering {
    /// Puts prefixes, periods and limits in force.
    pub(super) fn configure_clients(&mut self, config: &Config) -> Result<(), Error> {
        match &mut self.book {
            Some(book) => Ok(book.accounts.configure(&config.clients)?),
            None => Ok(()),
        }
    }

    /// Takes in what the proxy counts of clients.
    pub fn counted(&mut self, counts: &[ClientCount], last: bool) {
        let Some(book) = &mut self.book else { return };
        if let Err(error) = book.accounts.reconcile(counts, last) {
            warn!(error = crate::datapath::chain(&error), "what clients have open is not up to date");
        }
    }

    /// The octets of a flow pass unread from here on.
    pub fn unread(&mut self, client: ClientAddr, destination: OriginalDst) {
        if let Err(error) = self.kernel.mark_unread(client.socket(), destination.socket()) {
            debug!(%error, "a flow that passes unread is not known so");
        }
    }

    /// Makes a list of clients, on another thread: there may be very many. It comes as a
    /// [`Word::Clients`].
    pub fn list_clients(&self, ticket: u64, sort: ClientSort, most: usize) {
        let Some(book) = &self.book else { return };
        let (reader, words) = (Arc::clone(&book.reader), book.words.clone());
        let terms = book.accounts.terms();
        tokio::task::spawn_blocking(move || {
            let list = reader.list(&terms, sort, most);
            // Nobody waits any more when the gateway stops.
            words.blocking_send(Word::Clients { ticket, list }).ok();
        });
    }

    /// Whether the event is that of a client over a limit; then what has to be done is under way.
    pub(super) fn is_excess(&mut self, event: &Event) -> bool {
        let Some(reason @ (Reason::RefusedSyn | Reason::OverLimit)) = event.reason() else {
            return false;
        };
        let Some(book) = &mut self.book else { return true };
        let limits = event.error().cast_unsigned();
        if limits != 0 {
            book.exceeded(event, limits);
        }
        if matches!(reason, Reason::OverLimit) && book.accounts.on_excess() != OnExcess::Drop {
            let client = book.accounts.network(event.flow().client_addr());
            if book.words.try_send(Word::Over { client }).is_err() {
                debug!(%client, "too many clients are over their limits to end all their sessions at once");
            }
            // Of a client that is known to be over its limit, one more flow passes unread.
            let (sender, destination) = ends(event.flow());
            let flow = Whose::Flow { client: sender, destination };
            let whose = if limits == 0 { flow } else { Whose::Clients(client) };
            self.order(Order::Condemn { whose, cut: Cut::Reset, end: FlowEnd::Limit });
        }
        true
    }
}

/// Client and original destination of a flow.
fn ends(flow: &FlowKey) -> (ClientAddr, OriginalDst) {
    let end = |address: [u8; 16], port| SocketAddr::new(IpAddr::from(address), port);
    (
        ClientAddr::new(end(flow.client_addr(), flow.client_port())),
        OriginalDst::new(end(flow.server_addr(), flow.server_port())),
    )
}

/// Counts all clients, and waits until they are to be counted again.
async fn census(reader: Arc<Reader>, known: Arc<AtomicU64>) {
    let began = clock::now();
    match tokio::task::spawn_blocking(move || reader.count()).await {
        Ok(count) => known.store(u64::try_from(count).unwrap_or(UNKNOWN), Ordering::Relaxed),
        Err(error) => debug!(%error, "clients are not counted"),
    }
    let took = clock::now().saturating_duration_since(began);
    tokio::time::sleep(CENSUS.max(took.saturating_mul(CENSUS_SHARE))).await;
}
