//! The server's first words (RFC 5321 section 3.1), and the PIX firewalls that mangle them.

use std::time::Instant;

use super::wire::Wire;
use super::{FailureKind, Note, Protocol, Stage, State};
use crate::smtp::reply::Reply;

impl Wire {
    pub(super) fn await_greeting(&mut self, now: Instant) -> State {
        self.enter(Stage::Greeting, now);
        State::Greeting
    }

    pub(super) fn greeted(&mut self, reply: &Reply, now: Instant) -> State {
        if !reply.is_positive() {
            let report = self.unwelcome(reply);
            let report = if self.rules.skip_5xx_greeting { report.softened() } else { report };
            return self.part(FailureKind::Refused, report, now);
        }
        let text = reply.lines().first().map(|line| String::from_utf8_lossy(line)).unwrap_or_default();
        let mut words = text.split_ascii_whitespace();
        let is_self = words.next().is_some_and(|name| name.eq_ignore_ascii_case(&self.rules.hostname));
        if is_self && self.terms.detect_loop {
            self.note(Note::OwnName);
        }
        let offers_esmtp = words.any(|word| word.eq_ignore_ascii_case("ESMTP"));
        self.pix = reply.lines().len() == 1 && is_pix(reply.code(), &text);
        if self.pix {
            self.note(Note::Pix(self.terms.pix));
        }
        self.plain_hello = self.rules.protocol == Protocol::Smtp
            && (self.rules.never_send_ehlo
                || (self.pix && self.terms.pix.disable_esmtp)
                || (!self.rules.always_send_ehlo && !offers_esmtp));
        self.say_hello(now)
    }
}

/// A PIX overwrites all of a greeting but digits of `220` with asterisks.
fn is_pix(code: u16, text: &str) -> bool {
    code == 220 && text.contains('*') && text.bytes().all(|octet| b"20 *\t".contains(&octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_of_asterisks_is_a_pix() {
        assert!(is_pix(220, "****************************************0*2******0***********************"));
        assert!(is_pix(220, "* 2 0 2 0 0 *\t*"));
        assert!(!is_pix(220, ""), "an empty greeting is one of a plain server");
        assert!(!is_pix(220, "mx ** 220"));
        assert!(!is_pix(250, "***"));
    }
}
