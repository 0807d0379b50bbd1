//! EHLO, HELO and LHLO (RFC 5321 section 4.1.1.1, RFC 2033 section 4.1), and what follows from the answer.

use std::time::Instant;

use super::wire::Wire;
use super::{Action, FailureKind, Features, Note, Protocol, Report, Stage, State, Status, TlsLevel};
use crate::smtp::reply::Reply;

impl Wire {
    pub(super) fn say_hello(&mut self, now: Instant) -> State {
        // Behind a handshake the server has shown that it knows EHLO.
        if self.plain_hello && self.tls.is_none() {
            return self.say_helo(now);
        }
        let verb = match self.rules.protocol {
            Protocol::Smtp => "EHLO",
            Protocol::Lmtp => "LHLO",
        };
        self.send(&format!("{verb} {}", self.rules.hello));
        self.enter(Stage::Hello, now);
        State::Hello
    }

    fn say_helo(&mut self, now: Instant) -> State {
        self.send(&format!("HELO {}", self.rules.hello));
        self.enter(Stage::Helo, now);
        State::Helo
    }

    /// The reply to EHLO or LHLO.
    pub(super) fn hello_answered(&mut self, reply: &Reply, now: Instant) -> State {
        if reply.is_positive() {
            self.features = Features::parse(reply, &self.terms.discard);
            if let Some(discarded) = self.terms.discard.note() {
                self.note(Note::Discarding(discarded));
            }
            return self.known(reply, now);
        }
        if self.rules.protocol == Protocol::Lmtp || reply.is_closing() {
            return self.turned_away(reply, now);
        }
        self.say_helo(now)
    }

    pub(super) fn helo_answered(&mut self, reply: &Reply, now: Instant) -> State {
        if !reply.is_positive() {
            return self.turned_away(reply, now);
        }
        self.features = Features::default();
        self.known(reply, now)
    }

    /// A server that refuses a name for good refuses its mail, unlike one that only greets so: as Postfix has it.
    fn turned_away(&mut self, reply: &Reply, now: Instant) -> State {
        let report = self.unwelcome(reply);
        self.part(FailureKind::Refused, report, now)
    }

    fn known(&mut self, reply: &Reply, now: Instant) -> State {
        if self.terms.detect_loop && Features::server_name(reply).eq_ignore_ascii_case(&self.rules.hostname) {
            let status = if self.terms.best_mx { Status::permanent(4, 6) } else { Status::transient(4, 6) };
            let report =
                Report::new(status, format!("mail for {} loops back to myself", self.terms.next_hop));
            return self.part(FailureKind::Loop, report, now);
        }
        if self.tls.is_some() {
            return self.authenticate(now);
        }
        if self.features.starttls && self.terms.tls > TlsLevel::None {
            return self.ask_for_tls(now);
        }
        if self.terms.tls.is_mandatory() {
            let reason = format!("TLS is required, but was not offered by host {}", self.terms.peer.host());
            return self.part(FailureKind::TlsRequired, Report::new(Status::transient(7, 4), reason), now);
        }
        if self.features.starttls {
            self.note(Note::StartTlsOffered);
        }
        self.authenticate(now)
    }

    /// Mail may be sent.
    pub(super) fn ready(&mut self, now: Instant) -> State {
        self.act(Action::Ready);
        self.enter(Stage::Idle, now);
        State::Ready
    }

    pub(super) fn check_answered(&mut self, reply: &Reply, now: Instant) -> State {
        if reply.is_positive() {
            return self.ready(now);
        }
        let report = self.refused(reply, Stage::Check).softened();
        self.part(FailureKind::Refused, report, now)
    }
}
