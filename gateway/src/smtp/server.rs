//! The relay lane's SMTP server as a state machine that sees one client.
//!
//! The driver puts octets and events in and carries the actions out. A message is answered with 250
//! only by [`Server::stored`]: once the driver has it on stable storage.
//!
//! Two rules hold in every state: replies come in the order of their commands (RFC 2920 section 3.1),
//! and what the scanners are given is what is delivered, with one reading: see `body` and `line_end`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::fault::Fault;
use super::line::LineDecoder;
use super::question::{Question, Step};
use super::report::{Envelope, Note};
use super::stage::Stage;
use super::tally::Tally;
use super::transcript::Transcript;
use crate::outcome::{Conduct, SessionEnd};

mod action;
mod answer;
mod arrival;
mod bdat;
mod command;
mod data;
mod deadline;
mod ending;
mod hello;
mod hop;
mod message;
mod parameter;
mod question;
mod refusing;
mod starttls;
mod submission;
#[cfg(test)]
mod tests;
mod transaction;
mod xclient;

pub use action::{Action, Rules, Terms, TlsSession};
use question::Asked;
use refusing::Refusing;
pub use submission::Submission;
use transaction::Transaction;
pub use xclient::{Introduced, Told};

/// Octets that may wait in one direction before no more are read.
const HIGH_WATER: usize = 64 * 1024;

/// What the session as a whole is doing.
#[derive(Debug)]
enum Phase {
    /// The client is let in, and then greeted.
    Arrival {
        /// It is let in, and greeted at this time.
        greets: Option<Instant>,
        /// Early talk was noted already.
        talked: bool,
    },
    Open,
    /// No octet is read before TLS stands.
    Handshake,
    Closing(SessionEnd),
}

/// What the client's next octets are.
#[derive(Debug)]
enum Input {
    Command,
    Text(data::Text),
    Chunk(bdat::Chunk),
    /// A complete message waits for its verdict.
    Verdict,
    /// It is being put on stable storage.
    Storing,
}

/// What the client has called itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Hello {
    extended: bool,
    name: String,
}

/// One SMTP session with a client.
#[derive(Debug)]
pub struct Server {
    rules: Arc<Rules>,
    terms: Terms,
    phase: Phase,
    input: Input,
    client_in: BytesMut,
    client_lines: LineDecoder,
    client_closed: bool,
    /// The client cannot even be written to.
    client_lost: bool,
    to_client: BytesMut,
    /// Replies that are held back from a client that errs too often.
    held: BytesMut,
    /// The latest octets of the message, which no action carries yet.
    content: BytesMut,
    /// Octets of the message in `actions`.
    content_acted: usize,
    /// A step that waits for a ruling.
    asked: Option<Asked>,
    /// The command in hand has been ruled on.
    ruled: bool,
    hello: Option<Hello>,
    tls: Option<TlsSession>,
    /// What a trusted client said of whom it speaks for.
    told: Told,
    conduct: Conduct,
    transaction: Option<Transaction>,
    /// The last reverse path, whatever became of it.
    last_sender: String,
    /// Recipients taken in the session.
    recipients: u64,
    /// No more mail is taken.
    refusing: Option<Refusing>,
    errors: u32,
    /// Commands since the last message that brought none nearer.
    idle_commands: u32,
    /// The session ends once the last reply is written.
    last: Option<SessionEnd>,
    clocks: deadline::Clocks,
    actions: VecDeque<Action>,
    tally: Tally,
    /// What was said, where the postmaster may want to hear of it.
    transcript: Option<Transcript>,
    /// The worst fault of those that he wants to hear of, and what was refused for it.
    fault: Option<(Fault, String)>,
}

impl Server {
    /// A session that was accepted at `now`.
    #[must_use]
    pub fn new(rules: Arc<Rules>, terms: Terms, now: Instant) -> Self {
        let client_lines = LineDecoder::new(rules.limits.command_line.as_len());
        let transcript = (!rules.faults.is_empty()).then(Transcript::default);
        let mut server = Self {
            rules,
            terms,
            phase: Phase::Arrival { greets: None, talked: false },
            input: Input::Command,
            client_in: BytesMut::new(),
            client_lines,
            client_closed: false,
            client_lost: false,
            to_client: BytesMut::new(),
            held: BytesMut::new(),
            content: BytesMut::new(),
            content_acted: 0,
            asked: None,
            ruled: false,
            hello: None,
            tls: None,
            told: Told::default(),
            conduct: Conduct::default(),
            transaction: None,
            last_sender: String::new(),
            recipients: 0,
            refusing: None,
            errors: 0,
            idle_commands: 0,
            last: None,
            clocks: deadline::Clocks::new(now),
            actions: VecDeque::new(),
            tally: Tally::default(),
            transcript,
            fault: None,
        };
        server.arrive(now);
        server
    }

    /// What was counted since this was last called.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// The worst that the postmaster wants to hear of, what was refused for it, and what was said; once.
    pub fn take_fault(&mut self) -> Option<(Fault, String, Transcript)> {
        let (fault, reason) = self.fault.take()?;
        Some((fault, reason, self.transcript.take().unwrap_or_default()))
    }

    /// Who sends the message at hand to whom.
    #[must_use]
    pub fn envelope(&self) -> Option<&Envelope> {
        self.transaction.as_ref().map(|transaction| &transaction.envelope)
    }

    /// The last reverse path of the session without angle brackets, whatever became of it.
    #[must_use]
    pub fn last_sender(&self) -> &str {
        &self.last_sender
    }

    /// Recipients taken in the session.
    #[must_use]
    pub const fn recipients(&self) -> u64 {
        self.recipients
    }

    /// Octets of the message at hand so far.
    #[must_use]
    pub fn message_size(&self) -> u64 {
        self.transaction.as_ref().map_or(0, |transaction| transaction.size)
    }

    /// Where octets from the client are to be appended; then call [`Self::client_received`].
    pub const fn client_buffer(&mut self) -> &mut BytesMut {
        &mut self.client_in
    }

    /// [`Self::to_client`] and [`Self::client_buffer`], for a driver that waits for both.
    pub fn buffers(&mut self) -> (&[u8], &mut BytesMut) {
        (&self.to_client, &mut self.client_in)
    }

    /// Octets from the client were appended to [`Self::client_buffer`].
    pub fn client_received(&mut self, now: Instant) {
        self.clocks.block = now;
        self.pump(now);
    }

    /// The client will send no more.
    pub fn client_ended(&mut self, now: Instant) {
        self.client_closed = true;
        self.pump(now);
    }

    /// What is to be written to the client.
    #[must_use]
    pub fn to_client(&self) -> &[u8] {
        &self.to_client
    }

    /// So much of [`Self::to_client`] was written.
    pub fn client_sent(&mut self, octets: usize, now: Instant) {
        let octets = octets.min(self.to_client.len());
        bytes::Buf::advance(&mut self.to_client, octets);
        if self.to_client.is_empty() {
            self.to_client = BytesMut::new();
        }
        self.clocks.client_write = now;
        self.pump(now);
    }

    /// The next thing to do, or `None` when the session waits for events.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        if self.actions.is_empty() {
            self.act_content();
        }
        let action = self.actions.pop_front()?;
        if let Action::Content(octets) = &action {
            self.content_acted = self.content_acted.saturating_sub(octets.len());
            self.pump(now);
        }
        Some(action)
    }

    /// Whether octets from the client can be taken.
    #[must_use]
    pub fn wants_client(&self) -> bool {
        !self.client_closed
            && self.client_in.len() < HIGH_WATER
            && self.has_room()
            && !matches!(self.phase, Phase::Handshake | Phase::Closing(_))
    }

    /// Where the session is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match (&self.phase, &self.input) {
            (Phase::Arrival { .. }, _) => Stage::Greeting,
            (Phase::Closing(_), _) => Stage::Closing,
            (Phase::Handshake, _) => Stage::Command,
            (Phase::Open, Input::Text(_) | Input::Chunk(_)) => Stage::Data,
            (Phase::Open, Input::Verdict) => Stage::Scan,
            (Phase::Open, Input::Storing) => Stage::EndOfData,
            (Phase::Open, Input::Command) if self.refusing.is_some() => Stage::Takeover,
            (Phase::Open, Input::Command) if self.transaction.is_some() => Stage::Envelope,
            (Phase::Open, Input::Command) => Stage::Command,
        }
    }

    /// The client's last HELO or EHLO name.
    #[must_use]
    pub fn hello(&self) -> &str {
        self.hello.as_ref().map_or("", |hello| &hello.name)
    }

    /// What the client has done so far.
    #[must_use]
    pub const fn conduct(&self) -> Conduct {
        self.conduct
    }

    /// Does all that can be done without further events.
    fn pump(&mut self, now: Instant) {
        self.flush(now);
        while self.step(now) {}
        self.come_to_last(now);
        if self.client_closed {
            self.client_left(now);
        }
        // An idle session holds no buffers.
        for buffer in [&mut self.client_in, &mut self.content] {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
        }
    }

    /// Takes the client's next line or stretch of text; false when it has to wait.
    fn step(&mut self, now: Instant) -> bool {
        match self.phase {
            Phase::Handshake | Phase::Closing(_) => return false,
            Phase::Arrival { .. } => return self.early_talk(now),
            Phase::Open => {}
        }
        if self.clocks.delay.is_some() || self.last.is_some() || self.asked.is_some() || !self.has_room() {
            return false;
        }
        match &self.input {
            Input::Verdict | Input::Storing => false,
            Input::Text(_) => self.read_text(now),
            Input::Chunk(_) => self.read_chunk(now),
            Input::Command => self.read_command(now),
        }
    }

    fn has_room(&self) -> bool {
        self.to_client.len().saturating_add(self.held.len()) < HIGH_WATER
            && self.content.len().saturating_add(self.content_acted) < HIGH_WATER
    }

    /// Whether others are to be asked at `step`, and have not been just now.
    fn asks(&self, step: Step) -> bool {
        self.rules.asks.contains(step) && !self.ruled
    }

    /// Puts a question; `command` waits for the ruling.
    fn ask(&mut self, question: Question, command: Option<super::command::Command>, now: Instant) {
        self.asked = Some(Asked { since: now, command });
        self.act(Action::Ask(question));
    }

    /// Asks for an action, behind the octets that came before it.
    fn act(&mut self, action: Action) {
        self.act_content();
        self.actions.push_back(action);
    }

    fn act_content(&mut self) {
        if !self.content.is_empty() {
            let octets = self.content.split().freeze();
            self.content_acted = self.content_acted.saturating_add(octets.len());
            self.actions.push_back(Action::Content(octets));
        }
    }

    fn note(&mut self, note: Note) {
        self.act(Action::Note(note));
    }
}
