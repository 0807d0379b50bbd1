//! Replies: at once, held back, or as the last of the session.

use std::time::Instant;

use super::{Input, Note, Phase, Server};
use crate::outcome::SessionEnd;
use crate::smtp::fault::Fault;
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::tally;
use crate::smtp::transcript::Way;

impl Server {
    /// Answers a command.
    pub(super) fn reply(&mut self, reply: &Reply, now: Instant) {
        self.clocks.command = now;
        if self.client_lost {
            return;
        }
        tally::count(&mut self.tally.replies, reply.code());
        tally::count(&mut self.tally.own_replies, reply.code());
        if let Some(transcript) = &mut self.transcript {
            transcript.reply(Way::Out, reply);
        }
        reply.encode(&mut self.held);
        self.flush(now);
    }

    /// Answers a command with a refusal.
    pub(super) fn refuse(&mut self, refusal: &Refusal, now: Instant) {
        self.tally.refused(refusal);
        self.fault(refusal);
        self.reply(&refusal.reply(&self.rules.voice), now);
    }

    /// Notes whose fault a refusal is, if somebody wants to hear of it: the worst of the session counts.
    fn fault(&mut self, refusal: &Refusal) {
        let fault = Fault::of_refusal(refusal).filter(|fault| self.rules.faults.contains(fault));
        if let Some(fault) = fault.filter(|fault| self.fault.as_ref().is_none_or(|(worst, _)| worst < fault))
        {
            self.fault = Some((fault, refusal.to_string()));
        }
    }

    /// Hands replies to the client, unless they are held back.
    pub(super) fn flush(&mut self, now: Instant) {
        if self.held.is_empty() || self.clocks.delay.is_some() {
            return;
        }
        if self.to_client.is_empty() {
            self.clocks.client_write = now;
        }
        self.to_client.unsplit(self.held.split());
    }

    /// Answers, and ends the session there.
    pub(super) fn answer_last(&mut self, reply: &Reply, end: SessionEnd, now: Instant) {
        self.reply(reply, now);
        self.last = Some(end);
    }

    /// Answers with a refusal, and ends the session there.
    pub(super) fn close_with(&mut self, refusal: &Refusal, end: SessionEnd, now: Instant) {
        self.tally.refused(refusal);
        self.fault(refusal);
        self.answer_last(&refusal.reply(&self.rules.voice), end, now);
    }

    /// Ends the session, once its last reply is not held back.
    pub(super) fn come_to_last(&mut self, now: Instant) {
        if self.held.is_empty()
            && !matches!(self.phase, Phase::Closing(_))
            && !matches!(self.input, Input::Storing)
            && let Some(end) = self.last.take()
        {
            self.abort_message("the session has ended");
            self.finish(end, now);
        }
    }

    /// Answers a command that the client should not have sent, and slows a client down that goes on sending
    /// such (Postfix `smtpd_soft_error_limit`, `smtpd_hard_error_limit`).
    pub(super) fn refuse_command(&mut self, refusal: &Refusal, now: Instant) {
        self.note(Note::CommandRefused);
        self.count_error(now);
        if self.last.is_none() {
            self.refuse(refusal, now);
        }
    }

    pub(super) fn count_error(&mut self, now: Instant) {
        self.errors = self.errors.saturating_add(1);
        let limits = &self.rules.limits;
        if limits.hard_errors != 0 && self.errors >= limits.hard_errors {
            self.close_with(&Refusal::TooManyErrors, SessionEnd::Gateway, now);
        } else if limits.soft_errors != 0 && self.errors > limits.soft_errors {
            self.clocks.delay = now.checked_add(limits.error_delay.duration());
        }
    }
}
