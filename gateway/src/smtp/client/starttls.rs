//! STARTTLS (RFC 3207) and TLS from the first octet (RFC 8314).

use std::time::Instant;

use super::wire::Wire;
use super::{Action, FailureKind, Features, Note, Report, Stage, State, Status, TlsFacts, outcome};
use crate::smtp::reply::Reply;

impl Wire {
    pub(super) fn ask_for_tls(&mut self, now: Instant) -> State {
        self.send("STARTTLS");
        self.enter(Stage::StartTls, now);
        State::StartTls
    }

    pub(super) fn starttls_answered(&mut self, reply: &Reply, now: Instant) -> State {
        if reply.is_positive() {
            return self.start_tls(now);
        }
        if self.terms.tls.is_mandatory() {
            let said = outcome::text(reply);
            let reason =
                format!("TLS is required, but host {} refused to start TLS: {said}", self.terms.peer.host());
            let status = Status::of_reply(reply).unwrap_or(Status::transient(7, 4)).softened();
            let report = Report { diagnostic: Some(said), ..Report::new(status, reason) };
            return self.part(FailureKind::TlsRequired, report, now);
        }
        self.authenticate(now)
    }

    pub(super) fn start_tls(&mut self, now: Instant) -> State {
        // What came in clear text must not be read as if it had come under TLS (RFC 3207 section 4.2).
        if self.forget_input() {
            self.note(Note::Injected);
        }
        self.features = Features::default();
        self.act(Action::StartTls);
        self.enter(Stage::Handshake, now);
        State::Handshake
    }

    pub(super) fn tls_done(&mut self, facts: TlsFacts, now: Instant) -> State {
        self.tls = Some(facts);
        if self.terms.tls.needs_match() && !facts.matched {
            let report = Report::new(Status::transient(7, 5), "Server certificate not verified");
            return self.part(FailureKind::TlsRequired, report, now);
        }
        if self.terms.tls_wrapper { self.await_greeting(now) } else { self.say_hello(now) }
    }

    pub(super) fn tls_failed(&mut self, reason: &str) -> State {
        let reason = format!("Cannot start TLS with host {}: {reason}", self.terms.peer.host());
        let kind = FailureKind::Handshake;
        self.break_off(kind, Report::new(Status::transient(7, 5), reason))
    }
}
