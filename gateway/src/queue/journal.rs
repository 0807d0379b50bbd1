//! The writer of the journal: a thread that writes what many have to say, and syncs once for all.
//!
//! While one fdatasync(2) is under way the next records gather, so that the rate of messages is not
//! bound to the rate of flushes. After a failed sync a segment is not touched again: on Linux the
//! next sync would succeed although the octets are gone.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::errno::Errno;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::debt::Debt;
use super::envelope::QueueId;
use super::frame::{self, FIRST, HEAD, Mark, PREAMBLE};
use super::record::Record;
use super::segment::SegmentId;
use super::storage::Storage;
use super::uses::{Use, Uses};
use crate::clock;

/// A segment that has reached this size is not written on, in octets.
const FULL: u64 = 64 * 1024 * 1024;
/// Most records that are synced together.
const BATCH: usize = 1024;
/// Most octets of content that are synced together.
const BATCH_OCTETS: u64 = 8 * 1024 * 1024;

/// Why something is not on stable storage.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system is full. Passes by itself.
    #[error("the file system of the queue is full")]
    NoSpace,
    /// The file system failed.
    #[error("the queue cannot be written: {0}")]
    Io(Arc<io::Error>),
    /// The gateway is stopping.
    #[error("the queue is closed")]
    Closed,
}

impl Clone for WriteError {
    fn clone(&self) -> Self {
        match self {
            Self::NoSpace => Self::NoSpace,
            Self::Io(error) => Self::Io(Arc::clone(error)),
            Self::Closed => Self::Closed,
        }
    }
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC | Errno::EDQUOT) => Self::NoSpace,
            _ => Self::Io(Arc::new(error)),
        }
    }
}

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// In which segment.
    pub(super) segment: SegmentId,
    /// At which octet.
    pub(super) at: u64,
    /// How many octets it takes.
    pub(super) length: u64,
}

/// What is to be written.
#[derive(Debug)]
enum Order {
    /// A message. It counts when it is on stable storage.
    Message(Message),
    /// What became of a message that is in `home`. Written soon, and again until it succeeds.
    Mark { record: Vec<u8>, home: SegmentId },
    /// Says when all marks so far are on stable storage, or that they are not.
    Settle { done: oneshot::Sender<bool> },
    /// The file system is lost: nothing of it stays open.
    LetGo,
}

#[derive(Debug)]
struct Message {
    record: Vec<u8>,
    content: Vec<Bytes>,
    /// Its name, where it is only taken if somebody waits for that.
    offered: Option<QueueId>,
    done: oneshot::Sender<Result<Kept, WriteError>>,
}

impl Message {
    /// Whoever offered it has been told that it is not taken.
    fn is_abandoned(&self) -> bool {
        self.offered.is_some() && self.done.is_closed()
    }
}

/// A message on stable storage. As long as this is there its segment is not removed, though nobody else knows of it.
#[derive(Debug)]
pub(super) struct Kept {
    /// Where it is.
    pub(super) place: Place,
    _segment: Use,
}

/// When a message is on stable storage, and where.
pub(super) type Written = oneshot::Receiver<Result<Kept, WriteError>>;

/// A message that is being taken. Dropped before that is known, it is taken back: whoever brought it was told that
/// it is not taken, or nothing, and brings it again.
#[derive(Debug)]
pub(super) struct Offered {
    id: QueueId,
    journal: Journal,
    written: Written,
}

impl Offered {
    /// Where the message is, once it is on stable storage.
    pub(super) async fn taken(mut self) -> Result<Kept, WriteError> {
        (&mut self.written).await.map_err(|_| WriteError::Closed)?
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        // From here on the thread knows; what it has said before is still to be read.
        self.written.close();
        if let Ok(Ok(kept)) = self.written.try_recv() {
            self.journal.mark(&Record::Gone { id: self.id }, kept.place.segment);
        }
    }
}

/// The way to the thread.
///
/// What is told is written in the order of telling, and telling never waits: whoever tells does so
/// while it holds what its record is about. Messages wait with their sessions, so they are bounded.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    generation: u32,
    orders: mpsc::UnboundedSender<Order>,
    numbers: Arc<AtomicU32>,
    messages: Arc<AtomicU32>,
    uses: Uses,
    debt: Debt,
}

impl Journal {
    /// Starts the thread of the queue's `generation`th owner. For `again` after a failure all is refused,
    /// then writing is tried again.
    pub(super) fn start(storage: Arc<dyn Storage>, generation: u32, again: Duration) -> io::Result<Self> {
        let (orders, waiting) = mpsc::unbounded_channel();
        let numbers = Arc::new(AtomicU32::new(1));
        let uses = Uses::default();
        let debt = Debt::default();
        let writer = Writer {
            storage,
            generation,
            numbers: Arc::clone(&numbers),
            current: None,
            uses: uses.clone(),
            owed: VecDeque::new(),
            debt: debt.clone(),
            trouble: None,
            again,
        };
        let runtime = runtime::Builder::new_current_thread().enable_time().build()?;
        thread::Builder::new()
            .name("queue".to_owned())
            .spawn(move || runtime.block_on(writer.run(waiting)))?;
        let messages = Arc::new(AtomicU32::new(1));
        Ok(Self { generation, orders, numbers, messages, uses, debt })
    }

    /// Whether marks wait because the file system fails otherwise than for being full, or too many of them for any reason.
    pub(super) fn is_behind(&self) -> bool {
        self.debt.is_too_large()
    }

    /// The generation that writes it.
    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    /// A name for the next message.
    pub(super) fn name(&self) -> QueueId {
        QueueId::new(self.generation, self.messages.fetch_add(1, Ordering::Relaxed))
    }

    /// The oldest segment that may still get a message, and those that do not any more, each of which is told once.
    pub(super) fn take_over(&self) -> (SegmentId, Vec<SegmentId>) {
        // Asked for before: one that is begun meanwhile is not older.
        let next = SegmentId { generation: self.generation, number: self.numbers.load(Ordering::Acquire) };
        let (oldest, over) = self.uses.take_over();
        (oldest.unwrap_or(next), over)
    }

    /// A segment for one message alone.
    pub(super) fn segment(&self) -> SegmentId {
        SegmentId { generation: self.generation, number: self.numbers.fetch_add(1, Ordering::Relaxed) }
    }

    /// Has a message written that is in the queue already.
    pub(super) fn again(&self, record: Vec<u8>, content: Vec<Bytes>) -> Written {
        let (done, written) = oneshot::channel();
        self.tell(Order::Message(Message { record, content, offered: None, done }));
        written
    }

    /// Has a new message written.
    pub(super) fn offer(&self, id: QueueId, record: Vec<u8>, content: Vec<Bytes>) -> Offered {
        let (done, written) = oneshot::channel();
        self.tell(Order::Message(Message { record, content, offered: Some(id), done }));
        Offered { id, journal: self.clone(), written }
    }

    /// Has written what became of a message that is in `home`.
    pub(super) fn mark(&self, record: &Record, home: SegmentId) {
        let record = record.write();
        self.debt.add(&record);
        self.tell(Order::Mark { record, home });
    }

    /// Has the segment closed that is written on.
    pub(super) fn let_go(&self) {
        self.tell(Order::LetGo);
    }

    fn tell(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::debug!("a record after the end of the queue");
        }
    }

    /// Waits until all marks so far are on stable storage; says whether they are.
    pub(super) async fn settle(&self) -> bool {
        let (done, settled) = oneshot::channel();
        self.tell(Order::Settle { done });
        settled.await.unwrap_or(false)
    }
}

/// A segment that is written on.
#[derive(Debug)]
struct Open {
    id: SegmentId,
    used: Use,
    file: File,
    mark: Mark,
    /// Everything up to here is on stable storage, or need not be.
    length: u64,
}

#[derive(Debug)]
struct Writer {
    storage: Arc<dyn Storage>,
    generation: u32,
    numbers: Arc<AtomicU32>,
    current: Option<Open>,
    uses: Uses,
    /// Marks that could not be written yet.
    owed: VecDeque<(Vec<u8>, SegmentId)>,
    debt: Debt,
    /// The last failure, when no success came after it.
    trouble: Option<(Instant, WriteError)>,
    /// How soon writing is tried again after it failed.
    again: Duration,
}

impl Writer {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let first = if self.owed.is_empty() {
                orders.recv().await
            } else {
                match timeout(self.again, orders.recv()).await {
                    Ok(first) => first,
                    Err(_) => {
                        self.commit(Vec::new());
                        continue;
                    }
                }
            };
            let Some(first) = first else { break };
            let mut octets = content_of(&first);
            let mut batch = vec![first];
            while batch.len() < BATCH && octets < BATCH_OCTETS {
                let Ok(order) = orders.try_recv() else { break };
                octets = octets.saturating_add(content_of(&order));
                batch.push(order);
            }
            self.commit(batch);
        }
        if !self.owed.is_empty() {
            self.commit(Vec::new());
        }
    }

    /// Writes and syncs all of `batch` and what is owed, and answers.
    fn commit(&mut self, batch: Vec<Order>) {
        let (mut messages, mut settles) = (Vec::new(), Vec::new());
        for order in batch {
            match order {
                Order::Message(message) if message.is_abandoned() => {}
                Order::Message(message) => messages.push(message),
                Order::Mark { record, home } => self.owed.push_back((record, home)),
                Order::Settle { done } => settles.push(done),
                Order::LetGo => self.current = None,
            }
        }
        let mut written = self.write_some(messages);
        // In portions: little room is of use, too.
        while written && !self.owed.is_empty() {
            written = self.write_some(Vec::new());
        }
        for done in settles {
            // Nobody may wait any more.
            done.send(written).ok();
        }
        let fails = matches!(&self.trouble, Some((_, WriteError::Io(_))));
        self.debt.set_failing(fails && !self.owed.is_empty());
    }

    /// Writes and syncs messages with the first of the marks that are owed, and answers; says whether that succeeded.
    fn write_some(&mut self, messages: Vec<Message>) -> bool {
        let marks: Vec<_> = self.owed.drain(..self.owed.len().min(BATCH)).collect();
        let frames = messages.iter().map(|message| (message.record.as_slice(), message.content.as_slice()));
        // Marks come behind messages: what is written twice, of which the later counts, stays in order.
        let mut frames: Vec<(&[u8], &[Bytes])> = frames.collect();
        frames.extend(marks.iter().map(|(record, _)| (record.as_slice(), &[][..])));
        let home = marks.iter().map(|(_, home)| *home).max();
        match self.write(&frames, home) {
            Ok(places) => {
                marks.iter().for_each(|(record, _)| self.debt.pay(record));
                for (Message { offered, done, .. }, kept) in messages.into_iter().zip(places) {
                    let home = kept.place.segment;
                    if let (Err(_), Some(id)) = (done.send(Ok(kept)), offered) {
                        self.owe(&Record::Gone { id }, home);
                    }
                }
                true
            }
            Err(error) => {
                marks.into_iter().rev().for_each(|mark| self.owed.push_front(mark));
                for message in messages {
                    drop(message.done.send(Err(error.clone())));
                }
                false
            }
        }
    }

    /// Notes a mark of its own that is to be written.
    fn owe(&mut self, record: &Record, home: SegmentId) {
        let record = record.write();
        self.debt.add(&record);
        self.owed.push_back((record, home));
    }

    /// Puts frames on stable storage, behind the segment `home`.
    fn write(
        &mut self,
        frames: &[(&[u8], &[Bytes])],
        home: Option<SegmentId>,
    ) -> Result<Vec<Kept>, WriteError> {
        if frames.is_empty() {
            return Ok(Vec::new());
        }
        let now = clock::now();
        if let Some((at, error)) = &self.trouble
            && now.saturating_duration_since(*at) < self.again
        {
            return Err(error.clone());
        }
        let written = self.append(frames, home);
        self.trouble = written.as_ref().err().map(|error| (now, error.clone()));
        written
    }

    /// Appends frames to the current segment, or to a new one.
    fn append(
        &mut self,
        frames: &[(&[u8], &[Bytes])],
        home: Option<SegmentId>,
    ) -> Result<Vec<Kept>, WriteError> {
        let storage = Arc::clone(&self.storage);
        // The oldest segment is removed first, so nothing may be said of a message before its own segment.
        let usable = |open: &Open| open.length < FULL && home.is_none_or(|home| home <= open.id);
        let mut open = match self.current.take().filter(usable) {
            Some(open) => open,
            None => self.open()?,
        };
        let heads: Vec<_> =
            frames.iter().map(|(record, content)| frame::head(&open.mark, record, content)).collect();
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(frames.len().saturating_mul(3));
        let mut places = Vec::with_capacity(frames.len());
        let mut at = open.length;
        for (head, (record, content)) in heads.iter().zip(frames) {
            pieces.push(head);
            pieces.push(record);
            pieces.extend(content.iter().map(|piece| &**piece));
            let content: usize = content.iter().map(Bytes::len).sum();
            let length = HEAD.saturating_add(record.len()).saturating_add(content);
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            let place = Place { segment: open.id, at, length };
            places.push(Kept { place, _segment: open.used.clone() });
            at = at.saturating_add(length);
        }
        if let Err(error) = storage.write(&open.file, open.length, &pieces) {
            if storage.truncate(&open.file, open.length).is_ok() {
                self.current = Some(open);
            } else {
                self.give_up(&open);
            }
            return Err(error.into());
        }
        if let Err(error) = storage.sync(&open.file) {
            self.give_up(&open);
            return Err(error.into());
        }
        open.length = at;
        self.current = Some(open);
        Ok(places)
    }

    /// Leaves a segment alone, of whose last frames nobody knows whether they are on the disk.
    fn give_up(&mut self, open: &Open) {
        let Open { id, length, .. } = open;
        if *length == FIRST && self.storage.remove(&id.to_string()).is_ok() {
            return;
        }
        let void = Record::Void { generation: id.generation, number: id.number, from: *length };
        self.owe(&void, *id);
    }

    /// Begins a segment.
    fn open(&self) -> Result<Open, WriteError> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let id = SegmentId { generation: self.generation, number };
        let used = self.uses.begin(id);
        let (file, mark) = begin(&*self.storage, id)?;
        self.storage.sync_names()?;
        Ok(Open { id, used, file, mark, length: FIRST })
    }
}

/// Makes a segment's file and writes what it begins with.
pub(super) fn begin(storage: &dyn Storage, id: SegmentId) -> Result<(File, Mark), WriteError> {
    let mut mark = Mark::default();
    getrandom::fill(&mut mark).map_err(io::Error::from)?;
    let name = id.to_string();
    let file = storage.create(&name)?;
    if let Err(error) = storage.write(&file, 0, &[PREAMBLE, &mark]) {
        // An empty segment says nothing; the next start removes it where this fails.
        storage.remove(&name).unwrap_or_default();
        return Err(error.into());
    }
    Ok((file, mark))
}

fn content_of(order: &Order) -> u64 {
    match order {
        Order::Message(Message { content, .. }) => {
            u64::try_from(content.iter().map(Bytes::len).sum::<usize>()).unwrap_or(u64::MAX)
        }
        Order::Mark { .. } | Order::Settle { .. } | Order::LetGo => 0,
    }
}
