//! The thread that hands sessions off and sweeps those that are over.
//!
//! A thread, because a handoff waits for the kernel; one, because one wait serves all that are due.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self as orders, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::flow_table::{FlowTable, key};
use super::handoff::{self, Pair, Refusal};
use super::sweep;
use crate::clock;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::ipc::flow::FlowReport;

/// Handoffs that share one wait.
const BATCH: usize = 64;
/// Least time between two sweeps.
const SWEEP: Duration = Duration::from_millis(250);
/// A sweep takes at most one part in so many of a processor.
const SWEEP_SHARE: u32 = 20;
/// Reports in one message.
pub const REPORTS: usize = 64;
/// Answers and reports that wait for the rest of this process.
const WAITING: usize = 4096;

/// What the thread is to do.
#[derive(Debug)]
pub enum Order {
    /// Hand a session off.
    HandOff {
        /// Comes back in [`Word::Answer`].
        ticket: u64,
        /// The connection with the client.
        client: OwnedFd,
        /// The connection with the server.
        server: OwnedFd,
    },
    /// End a flow.
    End {
        /// Its client.
        client: ClientAddr,
        /// Its original destination.
        destination: OriginalDst,
    },
    /// How long nothing may pass in a flow; zero: for ever.
    Idle(Duration),
}

/// What the thread has to say.
#[derive(Debug)]
pub enum Word {
    /// What became of a handoff.
    Answer {
        /// The order's ticket.
        ticket: u64,
        /// Why the sockets are as they were.
        refusal: Option<Refusal>,
    },
    /// Flows that are over; at most [`REPORTS`].
    Ended(Vec<FlowReport>),
}

/// The way to the thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Carrier {
    orders: orders::Sender<Order>,
    words: mpsc::Receiver<Word>,
}

impl Carrier {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system has no thread left.
    pub fn start(table: FlowTable) -> io::Result<Self> {
        let (sender, receiver) = orders::channel();
        let (words, heard) = mpsc::channel(WAITING);
        let worker = Worker { table, orders: receiver, words, idle: Duration::ZERO };
        thread::Builder::new().name("carrier".to_owned()).spawn(move || worker.run())?;
        Ok(Self { orders: sender, words: heard })
    }

    /// Tells the thread what to do.
    pub fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("the thread that carries flows has ended");
        }
    }

    /// What it has to say next. Cancelled, it loses nothing.
    pub async fn word(&mut self) -> Option<Word> {
        self.words.recv().await
    }
}

struct Worker {
    table: FlowTable,
    orders: orders::Receiver<Order>,
    words: mpsc::Sender<Word>,
    idle: Duration,
}

/// Nobody listens any more.
struct Deaf;

impl Worker {
    fn run(mut self) {
        let mut due = clock::now() + SWEEP;
        loop {
            let first = match self.orders.recv_timeout(due.saturating_duration_since(clock::now())) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let heard = first.map_or(Ok(()), |order| self.carry_out(order));
            let swept = if due <= clock::now() { self.sweep(&mut due) } else { Ok(()) };
            if heard.and(swept).is_err() {
                return;
            }
        }
    }

    fn say(&self, word: Word) -> Result<(), Deaf> {
        self.words.blocking_send(word).map_err(|_| Deaf)
    }

    /// Carries out an order, and those that came with it.
    fn carry_out(&mut self, first: Order) -> Result<(), Deaf> {
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::HandOff { ticket, client, server } => {
                    let pair = Pair::new(client, server);
                    let room =
                        pair.as_ref().ok().and_then(|pair| sweep::make_room(&mut self.table, pair.up()));
                    self.report(room.into_iter().collect())?;
                    batch.push((ticket, pair));
                }
                Order::End { client, destination } => {
                    let flow = key(client.socket(), destination.socket());
                    let ended = sweep::end(&mut self.table, &flow);
                    self.report(ended.into_iter().collect())?;
                }
                Order::Idle(limit) => self.idle = limit,
            }
            next = if batch.len() < BATCH { self.orders.try_recv().ok() } else { None };
        }
        let (tickets, pairs): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let answers = handoff::hand_off(pairs, &mut self.table);
        tickets
            .into_iter()
            .zip(answers)
            .try_for_each(|(ticket, answer)| self.say(Word::Answer { ticket, refusal: answer.err() }))
    }

    fn sweep(&mut self, due: &mut Instant) -> Result<(), Deaf> {
        let began = clock::now();
        let ended = sweep::sweep(&mut self.table, self.idle, clock::monotonic());
        let ends = clock::now();
        let took = ends.saturating_duration_since(began);
        *due = ends + SWEEP.max(took.saturating_mul(SWEEP_SHARE));
        self.report(ended)
    }

    fn report(&self, flows: Vec<FlowReport>) -> Result<(), Deaf> {
        flows.chunks(REPORTS).try_for_each(|some| self.say(Word::Ended(some.to_vec())))
    }
}
