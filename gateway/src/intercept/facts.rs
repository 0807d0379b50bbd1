//! Asking the datapath process what the kernel noted of a flow.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::address::{ClientAddr, OriginalDst};
use super::flow::FlowFacts;

/// How long an answer may take; the facts are not worth more.
const PATIENCE: Duration = Duration::from_millis(500);

/// One question.
#[derive(Debug)]
pub struct Question {
    /// The flow's client.
    pub client: ClientAddr,
    /// The flow's original destination.
    pub destination: OriginalDst,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Option<FlowFacts>>,
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
        questions.try_send(Question { client, destination, answer }).ok()?;
        timeout(PATIENCE, answered).await.ok()?.ok()?
    }
}
