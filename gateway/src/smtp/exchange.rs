//! The inspect lane as one state machine that sees both directions.
//!
//! The driver puts octets and events in and carries the actions out. Commands and replies are
//! relayed in order; the text of a message flows to the server while it is copied for the
//! scanners; only its end is held back until [`Exchange::decided`].
//!
//! Three rules hold in every state: replies never overtake earlier ones (RFC 2920 section 3.1);
//! no octet reaches the server that was not understood; what the scanner is given is what the
//! server gets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::command::Command;
use super::extension::Offers;
use super::line::LineDecoder;
use super::question::{Question, Step};
use super::refusal::Refusal;
use super::reply::ReplyDecoder;
use super::report::{Envelope, Note};
use super::stage::Stage;
use super::tally::Tally;
use crate::outcome::{Conduct, SessionEnd};

mod action;
mod answer;
mod auth;
mod bdat;
mod command;
mod data;
mod deadline;
mod ending;
mod gate;
mod greeting;
mod hello;
mod message;
mod question;
mod queue;
mod server;
mod starttls;
mod takeover;
#[cfg(test)]
mod tests;
mod transaction;
mod xclient;

pub use action::{Action, Decision, Introduction, Rules, Terms, Unread};
use answer::Last;
use question::Asked;
use queue::{Expected, Queue};
use takeover::Takeover;
use transaction::Transaction;
use xclient::Introduced;

/// Octets that may wait in one direction before no more are read.
const HIGH_WATER: usize = 64 * 1024;
/// Commands that may wait for their replies before no more are read.
const MAX_PENDING: usize = 100;
/// An AUTH line and its line end (RFC 4954 section 4).
const AUTH_LINE: usize = 12_288 + 2;

/// What the session as a whole is doing.
#[derive(Debug)]
enum Phase {
    Connect,
    Greeting {
        /// Early talk was noted already.
        talked: bool,
    },
    Relay,
    Takeover(Takeover),
    Spliced,
    Closing(SessionEnd),
}

/// What the client's next octets are.
#[derive(Debug)]
enum Input {
    Command,
    AuthResponse,
    Text(data::Text),
    Chunk(bdat::Chunk),
    /// A complete message waits for its verdict; its end is held back.
    Verdict(message::HeldEnd),
}

/// One SMTP session between a client and the server it chose.
#[derive(Debug)]
pub struct Exchange {
    rules: Arc<Rules>,
    terms: Terms,
    phase: Phase,
    input: Input,
    client_in: BytesMut,
    client_lines: LineDecoder,
    client_closed: bool,
    /// The client cannot even be written to.
    client_lost: bool,
    server_in: BytesMut,
    server_replies: ReplyDecoder,
    /// The server can be written to and heard.
    server_up: bool,
    to_client: BytesMut,
    to_server: BytesMut,
    /// The latest octets of the message, which no action carries yet.
    content: BytesMut,
    /// Octets of the message in `actions`.
    content_acted: usize,
    queue: Queue,
    /// A command that waits until all earlier ones are answered.
    deferred: Option<Command>,
    introduced: Introduced,
    /// A step that waits for a ruling.
    asked: Option<Asked>,
    /// The command in hand has been ruled on.
    ruled: bool,
    offers: Offers,
    hello: String,
    /// It is another one than was taken last.
    hello_is_new: bool,
    /// The server has accepted an EHLO.
    greeted_extended: bool,
    conduct: Conduct,
    /// The last reverse path, whatever became of it.
    sender: String,
    /// Recipients that the server has accepted.
    recipients: u64,
    transaction: Option<Transaction>,
    errors: u32,
    /// What comes once the replies on their way are written.
    last: Option<Last>,
    clocks: deadline::Clocks,
    actions: VecDeque<Action>,
    tally: Tally,
}

impl Exchange {
    /// A session that was accepted at `now` and whose server is being connected to.
    #[must_use]
    pub fn new(rules: Arc<Rules>, now: Instant) -> Self {
        let terms = Terms { starttls: rules.inspect.starttls, header: None, introduction: None };
        Self::on_terms(rules, terms, now)
    }

    /// The same on terms of its own.
    #[must_use]
    pub fn on_terms(rules: Arc<Rules>, terms: Terms, now: Instant) -> Self {
        // AUTH may be this long; others are measured when they are known.
        let client_lines = LineDecoder::new(rules.limits.command_line.as_len().max(AUTH_LINE));
        let asks = rules.asks;
        let introduced = if terms.introduction.is_some() { Introduced::Due } else { Introduced::Done };
        let mut exchange = Self {
            rules,
            terms,
            phase: Phase::Connect,
            input: Input::Command,
            client_in: BytesMut::new(),
            client_lines,
            client_closed: false,
            client_lost: false,
            server_in: BytesMut::new(),
            server_replies: ReplyDecoder::default(),
            server_up: false,
            to_client: BytesMut::new(),
            to_server: BytesMut::new(),
            content: BytesMut::new(),
            content_acted: 0,
            queue: Queue::default(),
            deferred: None,
            introduced,
            asked: None,
            ruled: false,
            offers: Offers::default(),
            hello: String::new(),
            hello_is_new: false,
            greeted_extended: false,
            conduct: Conduct::default(),
            sender: String::new(),
            recipients: 0,
            transaction: None,
            errors: 0,
            last: None,
            clocks: deadline::Clocks::new(now),
            actions: VecDeque::new(),
            tally: Tally::default(),
        };
        if asks.contains(Step::Connect) {
            exchange.ask(Question::Connect, None, now);
        }
        exchange
    }

    /// The connection to the server stands.
    pub fn connected(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Connect) {
            self.server_up = true;
            self.phase = Phase::Greeting { talked: false };
            self.clocks.enter(now);
            self.pump(now);
        }
    }

    /// There is no connection to the server, for this reason.
    pub fn connect_failed(&mut self, refusal: &Refusal, now: Instant) {
        if matches!(self.phase, Phase::Connect) {
            self.say(refusal, now);
            self.finish(SessionEnd::Connect, now);
        }
    }

    /// What was counted since this was last called.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Who sends the message at hand to whom.
    #[must_use]
    pub fn envelope(&self) -> Option<&Envelope> {
        self.transaction.as_ref().map(|transaction| &transaction.envelope)
    }

    /// Where octets from the client are to be appended; then call [`Self::client_received`].
    pub const fn client_buffer(&mut self) -> &mut BytesMut {
        &mut self.client_in
    }

    /// [`Self::client_buffer`] and [`Self::server_buffer`], for a driver that waits for both.
    pub const fn buffers(&mut self) -> (&mut BytesMut, &mut BytesMut) {
        (&mut self.client_in, &mut self.server_in)
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

    /// Where octets from the server are to be appended; then call [`Self::server_received`].
    pub const fn server_buffer(&mut self) -> &mut BytesMut {
        &mut self.server_in
    }

    /// Octets from the server were appended to [`Self::server_buffer`].
    pub fn server_received(&mut self, now: Instant) {
        self.read_server(now);
        self.pump(now);
    }

    /// The server closed the connection.
    pub fn server_ended(&mut self, now: Instant) {
        self.server_left(now);
        self.pump(now);
    }

    /// What is to be written to the client.
    #[must_use]
    pub fn to_client(&self) -> &[u8] {
        &self.to_client
    }

    /// So much of [`Self::to_client`] was written.
    pub fn client_sent(&mut self, octets: usize, now: Instant) {
        sent(&mut self.to_client, octets);
        self.clocks.client_write = now;
        self.pump(now);
    }

    /// What is to be written to the server.
    #[must_use]
    pub fn to_server(&self) -> &[u8] {
        &self.to_server
    }

    /// So much of [`Self::to_server`] was written.
    pub fn server_sent(&mut self, octets: usize, now: Instant) {
        sent(&mut self.to_server, octets);
        self.clocks.server_write = now;
        self.pump(now);
    }

    /// The decision on the message that [`Action::EndMessage`] announced. May come earlier, to
    /// refuse a message that cannot be copied.
    pub fn decided(&mut self, decision: Decision, now: Instant) {
        match decision {
            Decision::Pass => self.pass_message(now),
            Decision::Refuse(refusal) => self.refuse_message(refusal, now),
        }
        self.pump(now);
    }

    /// The next thing to do, or `None` when the exchange waits for events.
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
            && !matches!(self.phase, Phase::Spliced | Phase::Closing(_))
    }

    /// Whether octets from the server can be taken.
    #[must_use]
    pub fn wants_server(&self) -> bool {
        self.server_up && self.to_client.len() < HIGH_WATER && !matches!(self.phase, Phase::Spliced)
    }

    /// Where the session is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match (&self.phase, &self.input) {
            (Phase::Connect, _) => Stage::Connect,
            (Phase::Greeting { .. }, _) => Stage::Greeting,
            (Phase::Takeover(_), _) => Stage::Takeover,
            (Phase::Spliced, _) => Stage::Splice,
            (Phase::Closing(_), _) => Stage::Closing,
            (Phase::Relay, Input::Text(_) | Input::Chunk(_)) => Stage::Data,
            (Phase::Relay, Input::Verdict(_)) => Stage::Scan,
            (Phase::Relay, _) if self.queue.awaits_end_of_data() => Stage::EndOfData,
            (Phase::Relay, _) if self.transaction.is_some() => Stage::Envelope,
            (Phase::Relay, _) => Stage::Command,
        }
    }

    /// The client's last HELO or EHLO name.
    #[must_use]
    pub fn hello(&self) -> &str {
        &self.hello
    }

    /// [`Self::hello`], once for each that comes.
    pub fn take_hello(&mut self) -> Option<&str> {
        std::mem::take(&mut self.hello_is_new).then_some(self.hello.as_str())
    }

    /// The last reverse path of the session without angle brackets, whatever became of it.
    #[must_use]
    pub fn last_sender(&self) -> &str {
        &self.sender
    }

    /// Recipients that the server has accepted in the session.
    #[must_use]
    pub const fn recipients(&self) -> u64 {
        self.recipients
    }

    /// Octets of the message at hand.
    #[must_use]
    pub fn message_size(&self) -> u64 {
        self.transaction.as_ref().map_or(0, |transaction| transaction.size)
    }

    /// What the client has done so far.
    #[must_use]
    pub const fn conduct(&self) -> Conduct {
        self.conduct
    }

    /// Does all that can be done without further events.
    fn pump(&mut self, now: Instant) {
        loop {
            self.flush_own_replies(now);
            if !self.step(now) && !self.come_to_last(now) {
                break;
            }
        }
        if self.client_closed {
            self.client_left(now);
        }
        // An idle session holds no buffers.
        for buffer in [&mut self.client_in, &mut self.server_in, &mut self.content] {
            if buffer.is_empty() && buffer.capacity() != 0 {
                *buffer = BytesMut::new();
            }
        }
    }

    /// Takes the client's next line or stretch of text; false when it has to wait.
    fn step(&mut self, now: Instant) -> bool {
        match self.phase {
            Phase::Connect | Phase::Spliced | Phase::Closing(_) => return false,
            Phase::Greeting { .. } => return self.early_talk(now),
            Phase::Relay | Phase::Takeover(_) => {}
        }
        if self.clocks.delay.is_some() || self.last.is_some() || self.asked.is_some() {
            return false;
        }
        match &self.input {
            Input::Verdict(_) => false,
            Input::Text(_) => self.has_room() && self.read_text(now),
            Input::Chunk(_) => self.has_room() && self.read_chunk(now),
            Input::Command | Input::AuthResponse if self.must_wait() => false,
            Input::AuthResponse => self.read_auth_response(now),
            Input::Command => self.read_command(now),
        }
    }

    /// Whether the next command has to wait for replies.
    fn must_wait(&self) -> bool {
        if self.deferred.is_some() || !self.offers.pipelining {
            return !self.queue.is_empty();
        }
        self.queue.is_closed() || self.queue.len() >= MAX_PENDING
    }

    fn has_room(&self) -> bool {
        self.to_server.len() < HIGH_WATER
            && self.to_client.len() < HIGH_WATER
            && self.content.len().saturating_add(self.content_acted) < HIGH_WATER
    }

    /// Sends a command line to the server.
    fn forward(&mut self, line: &str, expected: Expected, last_in_group: bool, now: Instant) {
        self.to_server.reserve(line.len().saturating_add(2));
        self.send_server(line.as_bytes(), now);
        self.send_server(b"\r\n", now);
        self.queue.push(expected, last_in_group, now);
    }

    fn send_server(&mut self, octets: &[u8], now: Instant) {
        if self.to_server.is_empty() {
            self.clocks.server_write = now;
        }
        self.to_server.extend_from_slice(octets);
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

fn sent(buffer: &mut BytesMut, octets: usize) {
    bytes::Buf::advance(buffer, octets.min(buffer.len()));
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}
