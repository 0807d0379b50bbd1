//! Asking the datapath process what the kernel noted of flows.
//!
//! Owns who is asked at once and who with others: a question is a message to another process, which has to
//! wake up for it, and most flows are asked about for their record alone.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{SetOnce, mpsc};
use tokio::time::{sleep, timeout};

use super::address::{ClientAddr, OriginalDst};
use super::flow::FlowFacts;
use crate::ipc::LOOK_UPS;
use crate::ipc::client::{ClientList, ClientSort};

/// How long an answer may take; the facts are not worth more.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a question that has time waits for others. A session of one message over a fast network takes
/// about as long.
const GATHER: Duration = Duration::from_millis(10);

/// How long a list of clients may take.
const LISTING: Duration = Duration::from_secs(5);

/// What the kernel noted of a flow, once somebody has answered.
#[derive(Default)]
pub struct Noted {
    facts: SetOnce<Option<FlowFacts>>,
    then: Mutex<Option<Then>>,
}

/// What is to be done with it.
type Then = Box<dyn FnOnce(Option<FlowFacts>) + Send>;

impl fmt::Debug for Noted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Noted").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Noted {
    /// Notes the answer, unless there is one, and does what waits for it.
    pub fn set(&self, facts: Option<FlowFacts>) {
        // The one before was of the same flow.
        self.facts.set(facts).ok();
        let then = self.then.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(then) = then {
            then(self.now());
        }
    }

    /// As far as it is known.
    #[must_use]
    pub fn now(&self) -> Option<FlowFacts> {
        self.facts.get()?.clone()
    }

    /// Does something with the answer, where and when it comes: at once if it is here. No task waits for it, for that
    /// would have to be woken, on another processor mostly. The last that is to be done is done.
    pub fn then(&self, then: impl FnOnce(Option<FlowFacts>) + Send + 'static) {
        let mut waiting = self.then.lock().unwrap_or_else(PoisonError::into_inner);
        // Who answers notes that first, and looks here after it.
        if self.facts.get().is_none() {
            *waiting = Some(Box::new(then));
            return;
        }
        drop(waiting);
        then(self.now());
    }

    /// Waits for the answer; `None` when there is nothing, or it is not known in time.
    async fn wait(&self) -> Option<FlowFacts> {
        timeout(PATIENCE, self.facts.wait()).await.ok()?.clone()
    }
}

/// A question about one flow. Whoever drops it has answered that nothing is known.
#[derive(Debug)]
pub struct Asked {
    client: ClientAddr,
    destination: OriginalDst,
    noted: Arc<Noted>,
}

impl Asked {
    /// About which flow.
    #[must_use]
    pub const fn flow(&self) -> (ClientAddr, OriginalDst) {
        (self.client, self.destination)
    }

    /// Answers it.
    pub fn answer(self, facts: Option<FlowFacts>) {
        self.noted.set(facts);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.noted.set(None);
    }
}

/// Questions, or one thing to be told.
#[derive(Debug)]
pub enum Question {
    /// What does the kernel know of these flows?
    Flows {
        /// At most [`LOOK_UPS`].
        asked: Vec<Asked>,
        /// And what has it counted of their clients? That takes two look-ups more for each.
        with_clients: bool,
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
        answer: tokio::sync::oneshot::Sender<ClientList>,
    },
}

/// The way to ask; absent where no kernel program notes anything.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    ways: Option<Ways>,
}

#[derive(Clone, Debug)]
struct Ways {
    at_once: mpsc::Sender<Question>,
    together: mpsc::Sender<Asked>,
}

impl Facts {
    /// Questions go through `questions`; those that have time wait for [`gather`] at the other end of
    /// `together`.
    #[must_use]
    pub const fn new(questions: mpsc::Sender<Question>, together: mpsc::Sender<Asked>) -> Self {
        Self { ways: Some(Ways { at_once: questions, together }) }
    }

    /// Has `noted` learn what the kernel noted of the flow's first packet, in a moment, and nothing of its client.
    pub fn ask(&self, client: ClientAddr, destination: OriginalDst, noted: &Arc<Noted>) {
        let asked = Asked { client, destination, noted: Arc::clone(noted) };
        if let Some(ways) = &self.ways {
            // A full queue means that nobody answers in time: the question is dropped.
            ways.together.try_send(asked).ok();
        }
    }

    /// What the kernel noted of the flow's first packet; `None` when it is not known in time.
    pub async fn of(&self, client: ClientAddr, destination: OriginalDst) -> Option<FlowFacts> {
        let noted = Arc::new(Noted::default());
        let asked = Asked { client, destination, noted: Arc::clone(&noted) };
        self.ways
            .as_ref()?
            .at_once
            .try_send(Question::Flows { asked: vec![asked], with_clients: true })
            .ok()?;
        noted.wait().await
    }

    /// Tells the kernel that the octets of a flow pass unread from here on, and waits until it knows: what
    /// comes before is not held to its client's limit. Returns what the kernel noted of the flow.
    pub async fn unread(&self, client: ClientAddr, destination: OriginalDst) -> Option<FlowFacts> {
        let ways = self.ways.as_ref()?;
        if ways.at_once.try_send(Question::Unread { client, destination }).is_err() {
            tracing::debug!(%client, "the datapath process is too busy to know of a flow that passes unread");
            return None;
        }
        // Both are answered in their order.
        self.of(client, destination).await
    }

    /// The clients that the kernel counts, the first ones in this order; `None` where nothing is
    /// counted, or the answer does not come in time.
    pub async fn clients(&self, sort: ClientSort, most: usize) -> Option<ClientList> {
        let ways = self.ways.as_ref()?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        ways.at_once.try_send(Question::Clients { sort, most, answer }).ok()?;
        timeout(LISTING, answered).await.ok()?.ok()
    }
}

/// Puts questions that have time together, until nobody is left who asks.
pub async fn gather(mut together: mpsc::Receiver<Asked>, questions: mpsc::Sender<Question>) {
    while let Some(first) = together.recv().await {
        sleep(GATHER).await;
        let mut batch = vec![first];
        while let Ok(next) = together.try_recv() {
            if batch.len() == LOOK_UPS {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(LOOK_UPS));
                // Dropped, it is answered too.
                questions.send(Question::Flows { asked: full, with_clients: false }).await.ok();
            }
            batch.push(next);
        }
        questions.send(Question::Flows { asked: batch, with_clients: false }).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const SERVER: &str = "198.51.100.1:25";

    fn ends(port: u16) -> (ClientAddr, OriginalDst) {
        let client = std::net::SocketAddr::from(([192, 0, 2, 1], port));
        (ClientAddr::new(client), OriginalDst::new(SERVER.parse().unwrap()))
    }

    /// The way to ask, and where questions come out.
    fn ways() -> (Facts, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(1024);
        let (together, waiting) = mpsc::channel(1024);
        tokio::spawn(gather(waiting, questions.clone()));
        (Facts::new(questions, together), asked)
    }

    fn flows(question: Option<Question>, clients: bool) -> Vec<Asked> {
        match question {
            Some(Question::Flows { asked, with_clients }) if with_clients == clients => asked,
            other => panic!("{other:?}"),
        }
    }

    fn facts(ttl: u8) -> FlowFacts {
        FlowFacts { ttl, ..FlowFacts::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn questions_that_have_time_are_asked_together_and_each_has_its_answer() {
        let (way, mut asked) = ways();
        let noted: Vec<_> = (0..100).map(|_| Arc::new(Noted::default())).collect();
        for (port, noted) in (1_u16..).zip(&noted) {
            let (client, destination) = ends(port);
            way.ask(client, destination, noted);
        }
        let mut batches = Vec::new();
        for _ in 0..2 {
            let batch = flows(asked.recv().await, false);
            batches.push(batch.len());
            for one in batch {
                let ttl = u8::try_from(one.flow().0.socket().port()).unwrap();
                one.answer(Some(facts(ttl)));
            }
        }
        assert_eq!(batches, [LOOK_UPS, 100 - LOOK_UPS]);
        for (ttl, noted) in (1_u8..).zip(&noted) {
            assert_eq!(noted.now(), Some(facts(ttl)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_has_no_time_waits_for_no_others() {
        let (way, mut asked) = ways();
        let began = Instant::now();
        let (client, destination) = ends(1);
        let answering = async {
            let mut batch = flows(asked.recv().await, true);
            assert_eq!(batch.len(), 1);
            batch.remove(0).answer(Some(facts(7)));
        };
        let (known, ()) = tokio::join!(way.of(client, destination), answering);
        assert_eq!(known, Some(facts(7)));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_hears_at_once_that_nobody_answers() {
        let (way, asked) = ways();
        drop(asked);
        let noted = Arc::new(Noted::default());
        let (client, destination) = ends(1);
        way.ask(client, destination, &noted);
        let began = Instant::now();
        assert_eq!(noted.wait().await, None);
        assert!(began.elapsed() <= GATHER * 2, "{:?}", began.elapsed());
        // Nor does anybody where there is no kernel program.
        let noted = Arc::new(Noted::default());
        Facts::default().ask(client, destination, &noted);
        let began = Instant::now();
        assert_eq!(noted.wait().await, None);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let (way, mut asked) = ways();
        let (client, destination) = ends(1);
        let holding = async {
            let held = flows(asked.recv().await, true);
            sleep(PATIENCE * 2).await;
            held.len()
        };
        let began = Instant::now();
        let waiting = async { (way.of(client, destination).await, began.elapsed()) };
        let ((known, after), held) = tokio::join!(waiting, holding);
        assert_eq!((known, held), (None, 1));
        assert!(after < PATIENCE * 2, "{after:?}");
    }

    #[test]
    fn what_waits_for_the_answer_is_done_with_it_once_whoever_comes_first() {
        let (tell, told) = std::sync::mpsc::channel();
        let then = |noted: &Noted| {
            let tell = tell.clone();
            noted.then(move |facts| tell.send(facts.map(|facts| facts.ttl)).unwrap());
        };
        let asked = || {
            let (noted, (client, destination)) = (Arc::new(Noted::default()), ends(1));
            (Arc::clone(&noted), Asked { client, destination, noted })
        };
        let (noted, question) = asked();
        then(&noted);
        assert!(told.try_recv().is_err(), "too early");
        // Whoever waited is gone by then.
        drop(noted);
        question.answer(Some(facts(7)));
        let (noted, question) = asked();
        question.answer(Some(facts(8)));
        then(&noted);
        let (noted, question) = asked();
        then(&noted);
        drop(question);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [Some(7), Some(8), None]);
    }
}
