//! STARTTLS: the end of what can be read (RFC 3207).

use std::time::Instant;

use bytes::BytesMut;

use super::queue::Expected;
use super::{Action, Exchange, Phase, Unread};
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::report::Note;

impl Exchange {
    pub(super) fn starttls(&mut self, now: Instant) {
        if !self.offers.starttls {
            return self.refuse_command(&Refusal::NotOffered("STARTTLS"), now);
        }
        self.forward("STARTTLS", Expected::StartTls, true, now);
    }

    /// Returns the reply for the client, or `None` when the server is not to be trusted.
    pub(super) fn starttls_answered(&mut self, reply: Reply) -> Option<Reply> {
        if !self.client_in.is_empty() {
            // Commands that would run inside TLS as if they had come encrypted (CVE-2011-0411).
            self.note(Note::Injected);
            let octets = u64::try_from(self.client_in.len()).unwrap_or(u64::MAX);
            self.tally.injected_octets = self.tally.injected_octets.saturating_add(octets);
            self.client_in = BytesMut::new();
            self.client_lines.reset();
        }
        if reply.code() != 220 {
            return Some(reply);
        }
        if !self.server_in.is_empty() {
            // Replies that the client would take for encrypted ones (CVE-2021-38371).
            return None;
        }
        self.phase = Phase::Spliced;
        self.act(Action::Splice(Unread::Encrypted));
        Some(reply)
    }
}
