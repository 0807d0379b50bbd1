//! What the replies to a delivery mean: for its recipients, and for what is sent next.

use std::time::Instant;

use super::{Next, Standing, Transaction, What};
use crate::smtp::client::text::Text;
use crate::smtp::client::wire::Wire;
use crate::smtp::client::{Note, Report, Stage, State, Status, outcome};
use crate::smtp::reply::Reply;

impl Transaction {
    /// Takes a reply.
    pub(in crate::smtp::client) fn answered(
        mut self: Box<Self>,
        reply: &Reply,
        wire: &mut Wire,
        now: Instant,
    ) -> State {
        if reply.is_closing() {
            self.reusable = false;
        }
        let Some(awaited) = self.awaited.pop_front() else { return self.interrupted(reply, wire, now) };
        self.in_flight = self.in_flight.saturating_sub(awaited.octets);
        match awaited.what {
            What::Xforward if !reply.is_positive() => wire.note(Note::XforwardRefused(reply.summary())),
            What::Mail if !reply.is_positive() => {
                self.fail_all(&wire.refused(reply, Stage::Mail), wire);
                self.abandon();
            }
            What::Rcpt(at) => self.rcpt_answered(at, reply, wire),
            What::Data => self.data_answered(reply, wire),
            What::Chunk if !reply.is_positive() => {
                self.fail_all(&wire.refused(reply, Stage::Chunk), wire);
                self.text = Text::None;
                self.next = Next::Reset;
            }
            What::End(_) if reply.is_positive() && !wire.output.is_empty() => {
                // It cannot have read the end that is still here.
                return self.interrupted(reply, wire, now);
            }
            What::End(at) => self.end_answered(at, reply, wire),
            What::Reset if !reply.is_positive() => self.reusable = false,
            What::Xforward | What::Mail | What::Chunk | What::Nobody | What::Reset => {}
        }
        self.go(true, wire, now)
    }

    fn rcpt_answered(&mut self, at: usize, reply: &Reply, wire: &mut Wire) {
        if self.standings.get(at) != Some(&Standing::Open) {
            return;
        }
        if !reply.is_positive() {
            self.settle(at, wire.refused(reply, Stage::Rcpt), wire);
        } else if self.delivery.probe {
            self.settle(at, Report::taken(reply), wire);
        } else if let Some(standing) = self.standings.get_mut(at) {
            *standing = Standing::Accepted;
        }
    }

    fn data_answered(&mut self, reply: &Reply, wire: &mut Wire) {
        if reply.code() / 100 != 3 {
            self.fail_all(&wire.refused(reply, Stage::Data), wire);
            self.next = Next::Reset;
        } else if self.accepted().next().is_some() {
            self.begin_text(Text::for_data(&wire.rules), wire);
        } else {
            // DATA was sent before all recipients were refused (RFC 2920 section 3.1).
            self.send_always(".", What::Nobody, wire);
            self.next = Next::Reset;
        }
    }

    fn end_answered(&mut self, at: Option<usize>, reply: &Reply, wire: &mut Wire) {
        let report =
            if reply.is_positive() { Report::taken(reply) } else { wire.refused(reply, Stage::EndOfData) };
        match at {
            Some(at) => self.settle(at, report, wire),
            None => self.fail_all(&report, wire),
        }
        if self.awaited.is_empty() {
            self.next = Next::End;
        }
    }

    /// The server speaks where it has nothing to say: it refuses a text that it has not read to its end, or it
    /// has lost the thread. Nothing that it says later could be trusted.
    fn interrupted(self: Box<Self>, reply: &Reply, wire: &mut Wire, now: Instant) -> State {
        let refusal = Status::of_reply(reply).is_some_and(|status| !status.is_success());
        if self.is_in_text() && refusal {
            let report = wire.refused(reply, Stage::EndOfData);
            return self.give_up(&report, wire, now);
        }
        let phrase = wire.clock.stage().phrase(wire.rules.protocol);
        let said = outcome::text(reply);
        let reason = format!("Protocol error: host {} said {said} while {phrase}", wire.terms.peer.host());
        wire.note(Note::Protocol(reason.clone()));
        self.give_up(&Report::new(Status::transient(5, 0), reason), wire, now)
    }
}
