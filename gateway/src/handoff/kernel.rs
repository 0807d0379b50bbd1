//! Asking the datapath process to let the kernel carry a session alone.

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use super::Tally;
use crate::clock;
use crate::config::file::SpliceEngine;
use crate::ipc::flow::Refusal;

/// Without a byte for this long, a dialogue counts as quiet.
const QUIET: Duration = Duration::from_millis(5);
/// The first pause before another look, and the longest.
const PAUSES: [Duration; 2] = [QUIET, Duration::from_millis(500)];
/// How often it is asked for at most.
const ASKED: u32 = 32;
/// How long it is tried at most.
const TRIED: Duration = Duration::from_secs(60);

/// A session that is to be carried by the kernel.
#[derive(Debug)]
pub struct Question {
    /// The connection with the client.
    pub client: OwnedFd,
    /// The connection with the server.
    pub server: OwnedFd,
    /// Where the answer goes: `None`, it is done.
    pub answer: oneshot::Sender<Option<Refusal>>,
}

/// The way to ask; absent where no kernel program could do it.
#[derive(Clone, Default)]
pub struct Kernel {
    questions: Option<mpsc::Sender<Question>>,
    refused: Option<Arc<dyn Fn(Refusal) + Send + Sync>>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("questions", &self.questions).finish_non_exhaustive()
    }
}

/// What became of a question.
pub(super) enum Answer {
    /// The sockets are connected no more.
    Done,
    /// The sockets are as they were.
    Refused(Refusal),
    /// Nobody knows: the datapath process is gone.
    Lost,
}

impl Kernel {
    /// Questions go through `questions`; `refused` hears of sessions that are refused for good.
    #[must_use]
    pub fn new(questions: mpsc::Sender<Question>, refused: Arc<dyn Fn(Refusal) + Send + Sync>) -> Self {
        Self { questions: Some(questions), refused: Some(refused) }
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        if let Some(refused) = &self.refused {
            refused(refusal);
        }
    }

    /// Asks, and waits for the answer, which comes: in between nobody may touch the sockets.
    pub(super) async fn hand_off(&self, client: &TcpStream, server: &TcpStream) -> Answer {
        let Some(questions) = &self.questions else { return Answer::Refused(Refusal::Unavailable) };
        let copies = (client.as_fd().try_clone_to_owned(), server.as_fd().try_clone_to_owned());
        let (Ok(client), Ok(server)) = copies else { return Answer::Refused(Refusal::Busy) };
        let (answer, answered) = oneshot::channel();
        if questions.try_send(Question { client, server, answer }).is_err() {
            return Answer::Refused(Refusal::Busy);
        }
        match answered.await {
            Ok(None) => Answer::Done,
            Ok(Some(refusal)) => Answer::Refused(refusal),
            Err(_) => Answer::Lost,
        }
    }
}

/// When to ask for one session.
#[derive(Debug)]
pub(super) struct Attempts {
    /// Not before; `None`: never again.
    at: Option<Instant>,
    until: Instant,
    pause: Duration,
    asked: u32,
}

impl Attempts {
    pub(super) fn new(engine: SpliceEngine) -> Self {
        let now = clock::now();
        let [pause, _] = PAUSES;
        Self { at: engine.hands_off().then_some(now), until: now + TRIED, pause, asked: 0 }
    }

    /// Whether it is still to be asked.
    pub(super) const fn go_on(&self) -> bool {
        self.at.is_some()
    }

    /// Waits for a good instant. The first one is at once: from then on the kernel looks whether
    /// it sees the packets of both sides.
    pub(super) async fn due<F: Fn(super::Side, u64)>(&mut self, tally: &Tally<F>) {
        while let Some(at) = self.at {
            sleep_until(at.into()).await;
            if self.asked == 0 || tally.is_quiet(QUIET) {
                return;
            }
            self.later();
        }
        std::future::pending().await
    }

    fn later(&mut self) {
        let now = clock::now();
        let [_, longest] = PAUSES;
        self.at = (now < self.until).then(|| now + self.pause);
        self.pause = self.pause.saturating_mul(2).min(longest);
    }

    /// It was refused; says whether for good.
    pub(super) fn refused(&mut self, refusal: Refusal) -> bool {
        self.asked = self.asked.saturating_add(1);
        // At once again: in the meantime the peers were asked to acknowledge what they have.
        let [shortest, _] = PAUSES;
        self.pause = shortest.saturating_mul(1 << (self.asked / 4).min(7));
        self.later();
        if !refusal.passes() || self.asked >= ASKED {
            self.at = None;
        }
        self.at.is_none()
    }
}
