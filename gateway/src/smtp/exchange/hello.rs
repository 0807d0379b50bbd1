//! EHLO and HELO (RFC 5321 section 4.1.1.1).

use std::time::Instant;

use super::Exchange;
use super::queue::Expected;
use crate::config::file::StartTls;
use crate::smtp::command::Command;
use crate::smtp::extension::{self, Offers};
use crate::smtp::question::{Question, Step};
use crate::smtp::reply::Reply;

impl Exchange {
    pub(super) fn hello_command(&mut self, extended: bool, name: String, now: Instant) {
        if self.asks(Step::Hello) {
            let question = Question::Hello { name: name.clone() };
            return self.ask(question, Some(Command::Hello { extended, name }), now);
        }
        self.hello.clone_from(&name);
        self.hello_is_new = true;
        let line = Command::Hello { extended, name }.to_line();
        self.forward(&line, Expected::Hello { extended }, true, now);
    }

    /// The reply for the client: what it may not know is removed.
    pub(super) fn hello_answered(&mut self, extended: bool, reply: Reply) -> Reply {
        if !reply.is_positive() {
            return reply;
        }
        self.reset_answered(&reply);
        if !extended {
            self.offers = Offers::default();
            return reply;
        }
        let limit = self.rules.limits.message_size.bytes();
        self.greeted_extended = true;
        let keywords = &self.rules.inspect.ehlo_keywords;
        let forbidden = self.terms.starttls == StartTls::Forbid;
        let allowed = |keyword: &str| {
            keywords.iter().any(|name| name.eq_ignore_ascii_case(keyword))
                && !(forbidden && keyword == "STARTTLS")
        };
        let (reply, offers) = extension::filter(&reply, allowed, limit);
        self.conduct.auth_offered |= offers.auth;
        self.offers = offers;
        reply
    }
}
