//! STARTTLS (RFC 3207).

use std::time::Instant;

use bytes::BytesMut;

use super::{Action, Note, Phase, Server, TlsSession};
use crate::outcome::SessionEnd;
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;

impl Server {
    pub(super) const fn offers_starttls(&self) -> bool {
        self.terms.starttls && self.tls.is_none()
    }

    pub(super) fn starttls(&mut self, now: Instant) {
        if self.tls.is_some() {
            return self.refuse_command(&Refusal::BadSequence, now);
        }
        if !self.offers_starttls() {
            return self.refuse_command(&Refusal::NotOffered("STARTTLS"), now);
        }
        self.drop_unread();
        self.reset();
        // What was said before is forgotten (RFC 3207 section 4.2).
        self.hello = None;
        self.reply(&Reply::new(220, "2.0.0 Ready to start TLS"), now);
        self.phase = Phase::Handshake;
        self.clocks.enter(now);
        self.act(Action::StartTls);
    }

    /// Throws commands away that came in clear behind STARTTLS and would run as if they had come encrypted
    /// (CVE-2011-0411).
    fn drop_unread(&mut self) {
        if !self.client_in.is_empty() {
            self.note(Note::Injected);
            let octets = u64::try_from(self.client_in.len()).unwrap_or(u64::MAX);
            self.tally.injected_octets = self.tally.injected_octets.saturating_add(octets);
            self.client_in = BytesMut::new();
        }
        self.client_lines.reset();
    }

    /// TLS stands.
    pub fn secured(&mut self, tls: TlsSession, now: Instant) {
        if matches!(self.phase, Phase::Handshake) {
            self.tls = Some(tls);
            self.phase = Phase::Open;
            self.clocks.enter(now);
            self.pump(now);
        }
    }

    /// The handshake failed: there is nobody left to talk to.
    pub fn handshake_failed(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Handshake) {
            self.finish(SessionEnd::Protocol, now);
        }
    }

    /// Whether TLS is being agreed on.
    #[must_use]
    pub const fn is_in_handshake(&self) -> bool {
        matches!(self.phase, Phase::Handshake)
    }

    /// TLS as it was agreed on; none while the session is in clear.
    #[must_use]
    pub const fn tls(&self) -> Option<&TlsSession> {
        self.tls.as_ref()
    }
}
