//! The delivery client as a state machine: SMTP (RFC 5321) and LMTP (RFC 2033) from the connection to QUIT.
//!
//! The driver puts octets and events in and carries the actions out. It owns sockets, TLS, the text of
//! messages, and what is done with outcomes: which server is tried next, and when.
//!
//! Three rules hold in every state: each recipient of a delivery gets exactly one outcome, and it comes before
//! [`Action::Done`]; a message counts as sent only when the server said so behind its whole text; with a
//! mandatory TLS level no mail leaves in clear text.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf as _, BytesMut};

use super::reply::Reply;
use super::transcript::Transcript;

mod action;
mod auth;
mod command;
mod content;
mod deadline;
mod delivery;
mod ending;
mod fault;
mod feature;
mod greeting;
mod hello;
mod outcome;
mod path;
pub mod sasl;
mod stage;
mod starttls;
mod status;
mod terms;
#[cfg(test)]
mod tests;
mod text;
mod transaction;
mod wire;

pub use action::{Action, Failure, FailureKind, Note};
pub use content::Encoder;
pub use delivery::{Delivery, DeliveryDone, Encoding, Origin, Outcome, Report};
pub use feature::{Discard, Features};
pub use path::{quoted, unitext};
pub use stage::Stage;
pub use status::Status;
pub use terms::{Peer, PixWorkarounds, Protocol, Rules, Terms, Timeouts, TlsFacts, TlsLevel};

use transaction::Transaction;
use wire::Wire;

/// Octets that may wait to be written before no more text is wanted.
const HIGH_WATER: usize = 64 * 1024;

/// What the connection is doing. Each state takes a reply and says what comes next.
#[derive(Debug)]
enum State {
    Connect,
    /// TLS is being set up: before the greeting, or behind STARTTLS.
    Handshake,
    Greeting,
    Hello,
    Helo,
    StartTls,
    Auth(auth::Dialogue),
    Ready,
    /// RSET was sent to see whether the server is still there.
    Check,
    Deliver(Box<Transaction>),
    Quit,
    /// Last octets are on their way; then the connection is closed.
    Closing,
    Closed,
}

/// One connection to one server.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    state: State,
}

impl Client {
    /// A client whose connection is being made since `now`.
    #[must_use]
    pub fn new(rules: Arc<Rules>, terms: Terms, now: Instant) -> Self {
        let mut wire = Wire::new(rules, terms, now);
        wire.enter(Stage::Connect, now);
        Self { wire, state: State::Connect }
    }

    /// The connection stands.
    pub fn connected(&mut self, now: Instant) {
        if matches!(self.state, State::Connect) {
            self.state = if self.wire.terms.tls_wrapper {
                self.wire.start_tls(now)
            } else {
                self.wire.await_greeting(now)
            };
        }
    }

    /// The server cannot be reached: `reason` is the system's word for it.
    pub fn connect_failed(&mut self, reason: &str, now: Instant) {
        if matches!(self.state, State::Connect) {
            self.state = self.wire.connect_failed(reason);
            self.settle(now);
        }
    }

    /// This host lacks what a connection takes: `reason` is the system's word for it.
    pub fn connect_lacking(&mut self, reason: &str, now: Instant) {
        if matches!(self.state, State::Connect) {
            self.state = self.wire.connect_lacking(reason);
            self.settle(now);
        }
    }

    /// The TLS handshake that [`Action::StartTls`] asked for has succeeded.
    pub fn tls_done(&mut self, facts: TlsFacts, now: Instant) {
        if matches!(self.state, State::Handshake) {
            self.state = self.wire.tls_done(facts, now);
            self.settle(now);
        }
    }

    /// The TLS handshake has failed, or TLS cannot be used as the operator demands: `reason` says why.
    pub fn tls_failed(&mut self, reason: &str, now: Instant) {
        if matches!(self.state, State::Handshake) {
            self.state = self.wire.tls_failed(reason);
            self.settle(now);
        }
    }

    /// Where octets from the server are to be appended; then call [`Self::received`].
    pub const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.wire.input
    }

    /// Octets from the server were appended to [`Self::buffer`].
    pub fn received(&mut self, now: Instant) {
        self.wire.clock.progress(0, &self.wire.rules, now);
        self.read(now);
    }

    /// The server closed the connection, or it broke.
    pub fn ended(&mut self, now: Instant) {
        self.read(now);
        self.lose(ending::Loss::Ended, now);
    }

    /// What is to be written to the server.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.wire.output
    }

    /// So much of [`Self::output`] was written.
    pub fn sent(&mut self, octets: usize, now: Instant) {
        self.wire.output.advance(octets.min(self.wire.output.len()));
        self.wire.clock.progress(octets, &self.wire.rules, now);
        self.settle(now);
    }

    /// Delivers a message. To be called when the client is ready: behind [`Action::Ready`], or behind an
    /// [`Action::Done`] that says so.
    pub fn deliver(&mut self, delivery: Delivery, now: Instant) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        self.state = self.wire.deliver(state, delivery, now);
        self.settle(now);
    }

    /// Asks whether the server still listens; [`Action::Ready`] or [`Action::Failed`] is the answer.
    pub fn check(&mut self, now: Instant) {
        if matches!(self.state, State::Ready) {
            self.wire.send("RSET");
            self.wire.enter(Stage::Check, now);
            self.state = State::Check;
        }
    }

    /// Ends the connection politely.
    pub fn quit(&mut self, now: Instant) {
        if matches!(self.state, State::Ready) {
            self.state = self.wire.quit(now);
            self.settle(now);
        }
    }

    /// Whether [`Self::content`] or [`Self::content_ended`] is to be called.
    #[must_use]
    pub fn wants_content(&self) -> bool {
        matches!(&self.state, State::Deliver(transaction) if transaction.wants_text(&self.wire))
    }

    /// The next stretch of the text that [`Action::Content`] asked for.
    pub fn content(&mut self, octets: &[u8], now: Instant) {
        if let State::Deliver(transaction) = &mut self.state {
            transaction.text(octets, &mut self.wire, now);
        }
    }

    /// The text was given completely.
    pub fn content_ended(&mut self, now: Instant) {
        if let State::Deliver(transaction) = &mut self.state {
            transaction.text_ended(&mut self.wire, now);
        }
        self.settle(now);
    }

    /// The rest of the text cannot be had: the message must not reach the server, and the connection ends.
    pub fn content_failed(&mut self, report: Report, now: Instant) {
        if matches!(&self.state, State::Deliver(transaction) if transaction.is_in_text()) {
            let State::Deliver(transaction) = std::mem::replace(&mut self.state, State::Closed) else {
                return;
            };
            self.state = transaction.give_up(&report, &mut self.wire, now);
        }
    }

    /// The next thing to do, or `None` when the client waits for events.
    pub fn poll_action(&mut self) -> Option<Action> {
        // Behind STARTTLS and QUIT all octets must have been written.
        if matches!(self.wire.actions.front(), Some(Action::StartTls | Action::Close))
            && !self.wire.output.is_empty()
        {
            return None;
        }
        self.wire.actions.pop_front()
    }

    /// When [`Self::timeout`] is to be called, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.wire.clock.deadline()
    }

    /// A deadline has passed, or may have.
    pub fn timeout(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if let State::Deliver(transaction) = &mut self.state
            && transaction.pause_ended(&mut self.wire, now)
        {
            return;
        }
        self.lose(ending::Loss::TimedOut, now);
    }

    /// Where the connection is.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.wire.clock.stage()
    }

    /// What the server can do, as far as it is known and wanted.
    #[must_use]
    pub const fn features(&self) -> &Features {
        &self.wire.features
    }

    /// What was said, if [`Rules::transcript`] wants to know.
    #[must_use]
    pub const fn transcript(&self) -> Option<&Transcript> {
        self.wire.transcript.as_ref()
    }

    /// The rules and terms that hold here.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.wire.terms
    }

    /// Takes complete replies from the input.
    fn read(&mut self, now: Instant) {
        while !matches!(self.state, State::Connect | State::Handshake | State::Closing | State::Closed) {
            match self.wire.next_reply() {
                Ok(Some(reply)) => self.reply(&reply, now),
                Ok(None) => break,
                Err(error) => {
                    self.lose(ending::Loss::Garbled(error), now);
                    break;
                }
            }
        }
        if matches!(self.state, State::Closing | State::Closed) || self.wire.input.is_empty() {
            self.wire.input = BytesMut::new();
        }
        self.settle(now);
    }

    fn reply(&mut self, reply: &Reply, now: Instant) {
        let wire = &mut self.wire;
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::Greeting => wire.greeted(reply, now),
            State::Hello => wire.hello_answered(reply, now),
            State::Helo => wire.helo_answered(reply, now),
            State::StartTls => wire.starttls_answered(reply, now),
            State::Auth(dialogue) => dialogue.answered(reply, wire, now),
            State::Ready => wire.spoke_out_of_turn(reply),
            State::Check => wire.check_answered(reply, now),
            State::Deliver(transaction) => transaction.answered(reply, wire, now),
            State::Quit => wire.close(),
            state @ (State::Connect | State::Handshake | State::Closing | State::Closed) => state,
        };
    }

    fn lose(&mut self, loss: ending::Loss, now: Instant) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        self.state = self.wire.lose(state, loss, now);
    }

    /// Does what can be done without further events.
    fn settle(&mut self, now: Instant) {
        if let State::Deliver(transaction) = &mut self.state {
            transaction.flushed(&mut self.wire, now);
        }
        if matches!(self.state, State::Closing) && self.wire.output.is_empty() {
            self.state = self.wire.close();
        }
    }
}
