//! EHLO and HELO (RFC 5321 section 4.1.1.1).

use std::time::Instant;

use bytes::Bytes;

use super::{Hello, Question, Server, Step};
use crate::smtp::command::Command;
use crate::smtp::reply::Reply;

/// What is offered whoever asks.
const ALWAYS: [&str; 7] =
    ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8", "DSN", "CHUNKING", "BINARYMIME"];

impl Server {
    pub(super) fn hello_command(&mut self, extended: bool, name: String, now: Instant) {
        if self.asks(Step::Hello) {
            let question = Question::Hello { name: name.clone() };
            return self.ask(question, Some(Command::Hello { extended, name }), now);
        }
        self.reset();
        self.greeted(extended, name, now);
    }

    /// Answers a client that has called itself `name`.
    pub(super) fn greeted(&mut self, extended: bool, name: String, now: Instant) {
        self.hello = Some(Hello { extended, name });
        let voice = &self.rules.voice;
        let first = format!("{} {}", voice.name, voice.messages.hello);
        let reply = if extended && self.refusing.is_none() {
            let lines = std::iter::once(first).chain(self.offers());
            Reply::with_lines(250, lines.map(Bytes::from).collect())
        } else {
            Reply::new(250, &first)
        };
        self.reply(&reply, now);
    }

    fn offers(&self) -> impl Iterator<Item = String> + use<> {
        let limit = self.rules.limits.message_size.bytes();
        // RFC 1870 section 3: 0 says that there is no fixed limit.
        let size = format!("SIZE {limit}");
        let starttls = self.offers_starttls().then(|| "STARTTLS".to_owned());
        let trusted = self.terms.trusted.then(|| {
            ["XCLIENT NAME ADDR PORT PROTO HELO", "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"]
                .map(str::to_owned)
        });
        let trusted = trusted.into_iter().flatten();
        ALWAYS.map(str::to_owned).into_iter().chain([size]).chain(starttls).chain(trusted)
    }
}
