//! Asking the datapath process what the kernel noted of a flow.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::address::{ClientAddr, OriginalDst};
use super::flow::FlowFacts;
use crate::ipc::client::{ClientList, ClientSort};

/// How long an answer may take; the facts are not worth more.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a list of clients may take.
const LISTING: Duration = Duration::from_secs(5);

/// One question, or one thing to be told.
#[derive(Debug)]
pub enum Question {
    /// What does the kernel know of a flow?
    Flow {
        /// The flow's client.
        client: ClientAddr,
        /// The flow's original destination.
        destination: OriginalDst,
        /// Where the answer goes.
        answer: oneshot::Sender<Option<FlowFacts>>,
    },
    /// The octets of a flow pass unread from here on.
    Unread {
        /// The flow's client.
        client: ClientAddr,
        /// The flow's original destination.
        destination: OriginalDst,
    },
    /// Which clients are the first in this order?
    Clients {
        /// The order.
        sort: ClientSort,
        /// How many are wanted.
        most: usize,
        /// Where the answer goes.
        answer: oneshot::Sender<ClientList>,
    },
}

/// The way to ask; absent where no kernel program notes anything.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    questions: Option<mpsc::Sender<Question>>,
}

impl Facts {
    /// Questions go through `questions`.
    #[must_use]
    pub const fn new(questions: mpsc::Sender<Question>) -> Self {
        Self { questions: Some(questions) }
    }

    /// What the kernel noted of the flow's first packet; `None` when it is not known in time.
    pub async fn of(&self, client: ClientAddr, destination: OriginalDst) -> Option<FlowFacts> {
        let questions = self.questions.as_ref()?;
        let (answer, answered) = oneshot::channel();
        // A full queue means that nobody answers in time either.
        questions.try_send(Question::Flow { client, destination, answer }).ok()?;
        timeout(PATIENCE, answered).await.ok()?.ok()?
    }

    /// Tells the kernel that the octets of a flow pass unread from here on, and waits until it knows: what
    /// comes before is not held to its client's limit.
    pub async fn unread(&self, client: ClientAddr, destination: OriginalDst) {
        let Some(questions) = &self.questions else { return };
        if questions.try_send(Question::Unread { client, destination }).is_err() {
            tracing::debug!(%client, "the datapath process is too busy to know of a flow that passes unread");
            return;
        }
        // Both are answered in their order.
        self.of(client, destination).await;
    }

    /// The clients that the kernel counts, the first ones in this order; `None` where nothing is
    /// counted, or the answer does not come in time.
    pub async fn clients(&self, sort: ClientSort, most: usize) -> Option<ClientList> {
        let questions = self.questions.as_ref()?;
        let (answer, answered) = oneshot::channel();
        questions.try_send(Question::Clients { sort, most, answer }).ok()?;
        timeout(LISTING, answered).await.ok()?.ok()
    }
}
