//! One delivery: the envelope, in groups where the server takes them (RFC 2920), and what becomes of each
//! recipient.
//!
//! What is sent runs ahead of what is answered by at most [`WINDOW`] octets, so that neither side ever waits
//! for the other to read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::command::{self, Style};
use super::ending::Loss;
use super::path::is_sendable;
use super::text::Text;
use super::wire::Wire;
use super::{Action, Delivery, DeliveryDone, Encoding, Protocol, Report, Stage, State, Status};

mod answer;

/// Octets of commands that may wait for their replies.
const WINDOW: usize = 4096;

/// A recipient's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Not known yet.
    Open,
    /// The server takes mail for him.
    Accepted,
    /// His outcome is told.
    Settled,
}

/// What is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Xforward(usize),
    Mail,
    Recipient(usize),
    Data,
    /// The text, or the reply to what begins or ends it.
    Text,
    Reset,
    End,
}

/// A reply that is waited for.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    what: What,
    /// Octets of the command.
    octets: usize,
}

/// What a reply answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Xforward,
    Mail,
    Rcpt(usize),
    Data,
    /// A chunk with more behind it.
    Chunk,
    /// The whole text: for all recipients, or for one of an LMTP server's.
    End(Option<usize>),
    /// The dot behind a text for nobody.
    Nobody,
    Reset,
}

/// A delivery under way.
#[derive(Debug)]
pub(super) struct Transaction {
    delivery: Delivery,
    standings: Vec<Standing>,
    xforward: Vec<String>,
    style: Style,
    next: Next,
    awaited: VecDeque<Awaited>,
    /// Octets of all commands that wait for replies.
    in_flight: usize,
    pub(super) text: Text,
    mail: Option<Instant>,
    reusable: bool,
    broken: bool,
}

impl Wire {
    pub(super) fn deliver(&mut self, state: State, delivery: Delivery, now: Instant) -> State {
        let mut transaction = Box::new(Transaction::new(delivery, self));
        if !matches!(state, State::Ready) {
            // The connection ended while the driver was about to use it.
            let report = Report::new(
                Status::transient(4, 2),
                format!("lost connection with {} while it was idle", self.terms.peer.host()),
            );
            transaction.fail_all(&report, self);
            transaction.broken = true;
            transaction.reusable = false;
            transaction.done(self, now);
            return state;
        }
        if self.has_unread() {
            let reason = format!("Protocol error: host {} speaks before it is asked", self.terms.peer.host());
            return transaction.give_up(&Report::new(Status::transient(7, 0), reason), self, now);
        }
        if let Some(report) = transaction.obstacle(self) {
            transaction.fail_all(&report, self);
            transaction.next = Next::End;
        }
        transaction.refuse_unsendable(self);
        transaction.go(false, self, now)
    }
}

impl Transaction {
    fn new(delivery: Delivery, wire: &Wire) -> Self {
        let features = &wire.features;
        let is_utf8 = |address: &str| !address.is_ascii();
        let smtputf8 = delivery.smtputf8
            || is_utf8(&delivery.sender)
            || delivery.recipients.iter().any(|recipient| is_utf8(&recipient.address));
        let downgrade = !features.eight_bit_mime
            && delivery.encoding != Encoding::SevenBit
            && !wire.rules.disable_mime_conversion;
        let origin = delivery.origin.as_ref().filter(|_| wire.rules.send_xforward);
        Self {
            standings: vec![Standing::Open; delivery.recipients.len()],
            xforward: origin.map_or_else(Vec::new, |origin| command::xforward(origin, features)),
            style: Style {
                smtputf8,
                downgrade,
                dummy_auth: wire.authenticated && wire.rules.dummy_mail_auth,
            },
            next: Next::Xforward(0),
            awaited: VecDeque::new(),
            in_flight: 0,
            text: Text::None,
            mail: None,
            reusable: true,
            broken: false,
            delivery,
        }
    }

    /// What keeps the message from this server before anything of it is sent.
    fn obstacle(&self, wire: &Wire) -> Option<Report> {
        let host = wire.terms.peer.host();
        let (size, limit) = (self.delivery.size, wire.features.size_limit);
        if self.style.smtputf8 && !wire.features.smtputf8 {
            let reason = format!("SMTPUTF8 is required, but was not offered by host {host}");
            return Some(Report { elsewhere: true, ..Report::new(Status::permanent(6, 7), reason) });
        }
        if limit > 0 && size > limit {
            let reason = format!("message size {size} exceeds size limit {limit} of server {host}");
            return Some(Report::new(Status::permanent(3, 4), reason));
        }
        if !is_sendable(&self.delivery.sender) {
            return Some(Report::new(Status::permanent(1, 7), "bad sender address syntax"));
        }
        None
    }

    /// Recipients whose address would not be one line.
    fn refuse_unsendable(&mut self, wire: &mut Wire) {
        let bad: Vec<usize> = (0..self.delivery.recipients.len())
            .filter(|at| {
                self.delivery.recipients.get(*at).is_some_and(|recipient| !is_sendable(&recipient.address))
            })
            .collect();
        for at in bad {
            self.settle(at, Report::new(Status::permanent(1, 3), "bad recipient address syntax"), wire);
        }
        if self.standings.iter().all(|standing| *standing == Standing::Settled) {
            self.next = Next::End;
        }
    }

    /// The server is not heard any more.
    pub(super) fn lost(mut self: Box<Self>, loss: Loss, wire: &mut Wire, now: Instant) -> State {
        self.broken = true;
        let report = wire.lost(loss);
        self.give_up(&report, wire, now)
    }

    /// Ends delivery and connection at once.
    pub(super) fn give_up(mut self: Box<Self>, report: &Report, wire: &mut Wire, now: Instant) -> State {
        self.fail_all(report, wire);
        self.reusable = false;
        self.done(wire, now);
        wire.close()
    }

    /// Sends what can be sent, and sees whether the delivery is over.
    fn go(mut self: Box<Self>, replied: bool, wire: &mut Wire, now: Instant) -> State {
        while self.send_next(wire, now) {}
        if self.next != Next::End || !self.awaited.is_empty() {
            self.set_clock(replied, wire, now);
            return State::Deliver(self);
        }
        self.done(wire, now);
        if self.reusable {
            wire.enter(Stage::Idle, now);
            State::Ready
        } else {
            wire.quit(now)
        }
    }

    fn send_next(&mut self, wire: &mut Wire, now: Instant) -> bool {
        let (features, rules) = (&wire.features, &wire.rules);
        match self.next {
            Next::Xforward(at) => match self.xforward.get(at).cloned() {
                Some(line) => self.send(&line, What::Xforward, Next::Xforward(at.saturating_add(1)), wire),
                None => self.turn_to(Next::Mail),
            },
            Next::Mail => {
                let line = command::mail(&self.delivery, features, rules, self.style);
                let sent = self.send(&line, What::Mail, Next::Recipient(0), wire);
                if sent {
                    self.mail = Some(now);
                }
                sent
            }
            Next::Recipient(at) => {
                let next = Next::Recipient(at.saturating_add(1));
                match (self.standings.get(at), self.delivery.recipients.get(at)) {
                    (Some(Standing::Open), Some(recipient)) => {
                        let line = command::rcpt(recipient, features, rules, self.style);
                        self.send(&line, What::Rcpt(at), next, wire)
                    }
                    (Some(_), _) => self.turn_to(next),
                    (None, _) if self.delivery.probe => self.turn_to(Next::Reset),
                    (None, _) => self.turn_to(Next::Data),
                }
            }
            Next::Data => self.send_data(wire),
            // A server that is about to close hears no more.
            Next::Reset if !self.reusable => self.turn_to(Next::End),
            Next::Reset => self.send("RSET", What::Reset, Next::End, wire),
            Next::Text | Next::End => false,
        }
    }

    fn send_data(&mut self, wire: &mut Wire) -> bool {
        let in_chunks = wire.rules.chunking && wire.features.chunking;
        if self.awaited.is_empty() && self.accepted().next().is_none() {
            return self.turn_to(Next::Reset);
        }
        if !in_chunks {
            return self.send("DATA", What::Data, Next::Text, wire);
        }
        // A chunk for nobody could not be taken back.
        if self.awaited.is_empty() {
            self.begin_text(Text::for_chunks(&wire.rules), wire);
        }
        false
    }

    fn begin_text(&mut self, text: Text, wire: &mut Wire) {
        self.text = text;
        self.next = Next::Text;
        wire.act(Action::Content { downgrade: self.style.downgrade });
    }

    const fn turn_to(&mut self, next: Next) -> bool {
        self.next = next;
        true
    }

    /// Sends a command where the server and the window allow it.
    fn send(&mut self, line: &str, what: What, next: Next, wire: &mut Wire) -> bool {
        let octets = line.len().saturating_add(2);
        let fits = wire.features.pipelining && self.in_flight.saturating_add(octets) <= WINDOW;
        if !self.awaited.is_empty() && !fits {
            return false;
        }
        self.send_always(line, what, wire);
        self.turn_to(next)
    }

    fn send_always(&mut self, line: &str, what: What, wire: &mut Wire) {
        let octets = line.len().saturating_add(2);
        self.in_flight = self.in_flight.saturating_add(octets);
        self.awaited.push_back(Awaited { what, octets });
        wire.send(line);
    }

    /// Waits for a reply to octets of the text.
    pub(super) fn await_reply(&mut self, what: What) {
        self.awaited.push_back(Awaited { what, octets: 0 });
    }

    /// Waits for what the server says of the whole text.
    pub(super) fn await_end(&mut self, protocol: Protocol) {
        match protocol {
            Protocol::Smtp => self.await_reply(What::End(None)),
            Protocol::Lmtp => {
                let accepted: Vec<usize> = self.accepted().collect();
                for at in accepted {
                    self.await_reply(What::End(Some(at)));
                }
            }
        }
    }

    pub(super) const fn age(&self) -> Duration {
        self.delivery.age
    }

    pub(super) fn awaits_replies(&self) -> usize {
        self.awaited.len()
    }

    /// MAIL was refused: no recipient is named any more. DATA may have been sent already.
    fn abandon(&mut self) {
        if !matches!(self.next, Next::Text | Next::Reset | Next::End) {
            self.next = Next::Reset;
        }
    }

    fn accepted(&self) -> impl Iterator<Item = usize> {
        let standings = self.standings.iter().enumerate();
        standings.filter(|(_, standing)| **standing == Standing::Accepted).map(|(at, _)| at)
    }

    fn settle(&mut self, at: usize, report: Report, wire: &mut Wire) {
        let Some(standing) = self.standings.get_mut(at).filter(|standing| **standing != Standing::Settled)
        else {
            return;
        };
        *standing = Standing::Settled;
        let outcome = wire.rules.outcome(report);
        wire.act(Action::Settled { recipient: at, outcome });
    }

    /// Tells the same of all recipients that nothing was told of.
    fn fail_all(&mut self, report: &Report, wire: &mut Wire) {
        for at in 0..self.standings.len() {
            self.settle(at, report.clone(), wire);
        }
    }

    fn done(&mut self, wire: &mut Wire, now: Instant) {
        // Nobody is left; if a mistake here left one, he is tried again and not lost.
        let report = Report::new(Status::transient(3, 0), "server unavailable or unable to receive mail");
        self.fail_all(&report, wire);
        wire.act(Action::Done(DeliveryDone {
            mail: self.mail,
            end: now,
            dsn: wire.features.dsn,
            broken: self.broken,
            reusable: self.reusable,
        }));
    }

    /// Whether the text is being sent, and its end is not.
    pub(super) const fn is_in_text(&self) -> bool {
        self.text.is_open()
    }

    pub(super) fn set_clock(&self, replied: bool, wire: &mut Wire, now: Instant) {
        let stage = match self.awaited.front().map(|awaited| awaited.what) {
            Some(What::Xforward) => Stage::Xforward,
            Some(What::Mail) => Stage::Mail,
            Some(What::Rcpt(_)) => Stage::Rcpt,
            Some(What::Data) => Stage::Data,
            Some(What::Chunk) => Stage::Chunk,
            Some(What::End(_) | What::Nobody) => Stage::EndOfData,
            Some(What::Reset) => Stage::Reset,
            None if self.text.is_pausing() => Stage::Pause,
            None => Stage::Text,
        };
        if replied || stage != wire.clock.stage() {
            wire.enter(stage, now);
        }
        let idle = stage == Stage::Text && wire.output.is_empty();
        wire.clock.set_idle(idle, now);
    }
}
