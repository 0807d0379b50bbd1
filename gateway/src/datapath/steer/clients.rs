//! What the kernel's accounts of clients have to do with the rest.

use std::sync::Arc;

use gateway_common::event::Event;
use gateway_common::reason::Reason;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{Config, Error, Order, Steering, Word};
use crate::config::file::OnExcess;
use crate::datapath::accounts::{Accounts, Reader, limit_names};
use crate::datapath::object::Kernel;
use crate::datapath::reset::{Cut, Whose};
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::ipc::client::{ClientCount, ClientSort};
use crate::ipc::flow::FlowEnd;

/// Lists and clients over their limits that wait for the rest of this process.
const WAITING: usize = 256;

/// The accounts, and what is to be said of them.
pub(super) struct Book {
    pub(super) accounts: Accounts,
    reader: Arc<Reader>,
    words: mpsc::Sender<Word>,
    said: mpsc::Receiver<Word>,
}

impl Book {
    pub(super) fn open(kernel: &mut Kernel) -> Option<Self> {
        let (accounts, reader) = kernel.accounts()?;
        let (words, said) = mpsc::channel(WAITING);
        Some(Self { accounts, reader: Arc::new(reader), words, said })
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
    pub(super) fn is_excess(&self, event: &Event) -> bool {
        let Some(reason @ (Reason::RefusedSyn | Reason::OverLimit)) = event.reason() else {
            return false;
        };
        let Some(book) = &self.book else { return true };
        let client = book.accounts.network(event.flow().client_addr());
        let limits = limit_names(event.error().cast_unsigned());
        tracing::info!(%client, limits, "a client is over its limit");
        if matches!(reason, Reason::OverLimit) && book.accounts.on_excess() != OnExcess::Drop {
            self.order(Order::Condemn {
                whose: Whose::Clients(client),
                cut: Cut::Reset,
                end: FlowEnd::Limit,
            });
            if book.words.try_send(Word::Over { client }).is_err() {
                debug!(%client, "too many clients are over their limits to end all their sessions at once");
            }
        }
        true
    }
}
