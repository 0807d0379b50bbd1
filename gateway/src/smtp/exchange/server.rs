//! The server's side: replies find their commands, and servers misbehave.

use std::time::Instant;

use super::queue::Expected;
use super::{Exchange, Input, Phase};
use crate::outcome::SessionEnd;
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::report::Note;
use crate::smtp::tally;

impl Exchange {
    /// Takes every complete reply.
    pub(super) fn read_server(&mut self, now: Instant) {
        while self.server_up && !matches!(self.phase, Phase::Spliced | Phase::Closing(_)) {
            match self.server_replies.next(&mut self.server_in) {
                Ok(Some(reply)) => self.server_replied(reply, now),
                Ok(None) => return,
                Err(_) => self.server_broke(now),
            }
        }
    }

    fn server_replied(&mut self, reply: Reply, now: Instant) {
        if matches!(self.phase, Phase::Greeting { .. }) {
            return self.greeted(&reply, now);
        }
        let closing = reply.is_closing();
        while self.queue.awaits_server() {
            // The gateway's own replies to earlier commands come first, even delayed ones.
            let Some(own) = self.queue.pop_own() else { break };
            self.relay_reply(&own, now);
        }
        let Some(expected) = self.queue.pop_forwarded(now) else {
            return self.server_spoke_up(reply, now);
        };
        self.clocks.command = now;
        match expected {
            Expected::OwnHello => self.own_hello_answered(&reply, now),
            Expected::Introduction => self.introduction_answered(&reply, now),
            Expected::Hello { extended } => {
                let reply = self.hello_answered(extended, reply);
                self.relay_reply(&reply, now);
            }
            Expected::Mail => {
                self.mail_answered(&reply);
                self.relay_reply(&reply, now);
            }
            Expected::Rcpt(recipient) => {
                self.rcpt_answered(recipient, &reply);
                self.relay_reply(&reply, now);
            }
            Expected::Data if reply.code() == 354 && self.transaction.is_none() => {
                // The server asks for a message whose MAIL it has refused.
                self.say(&Refusal::ServerProtocol, now);
                self.server_broke(now);
            }
            Expected::Data => {
                self.relay_reply(&reply, now);
                self.data_answered(&reply, now);
            }
            Expected::EndOfData => {
                self.relay_reply(&reply, now);
                self.message_answered(&reply);
            }
            Expected::Chunk => {
                self.relay_reply(&reply, now);
                self.chunk_answered(&reply);
            }
            Expected::Rset => {
                self.reset_answered(&reply);
                self.relay_reply(&reply, now);
            }
            Expected::Quit => {
                self.relay_reply(&reply, now);
                self.finish(SessionEnd::Quit, now);
            }
            Expected::StartTls => match self.starttls_answered(reply) {
                Some(reply) => self.relay_reply(&reply, now),
                None => {
                    self.say(&Refusal::ServerProtocol, now);
                    self.server_broke(now);
                }
            },
            Expected::Auth => {
                self.auth_answered(&reply, now);
                if matches!(self.phase, Phase::Spliced) {
                    self.relay_reply(&reply, now);
                    self.pass_unread(now);
                } else {
                    // A failed attempt is answered late once there were many of them.
                    self.queue.push_own_first(reply);
                }
            }
            Expected::Other => self.relay_reply(&reply, now),
        }
        if closing {
            self.flush_own_replies(now);
            self.finish(SessionEnd::Server, now);
        }
    }

    /// A reply that no command has asked for.
    fn server_spoke_up(&mut self, reply: Reply, now: Instant) {
        match self.input {
            Input::Text(_) | Input::Chunk(_) | Input::Verdict(_) if reply.code() >= 400 => {
                // The server has given up on the message before its end. The client reads the
                // reply where it expects one.
                self.refuse_message(Refusal::Server(reply), now);
            }
            Input::Command | Input::AuthResponse if reply.is_closing() => {
                self.relay_reply(&reply, now);
                self.finish(SessionEnd::Server, now);
            }
            Input::Text(_) | Input::Chunk(_) | Input::Verdict(_) | Input::Command | Input::AuthResponse => {
                self.server_broke(now);
            }
        }
    }

    /// The server cannot be understood any more.
    fn server_broke(&mut self, now: Instant) {
        self.note(Note::ServerProtocol);
        self.lose_server(&Refusal::ServerProtocol, SessionEnd::Protocol, now);
    }

    /// The server closed the connection.
    pub(super) fn server_left(&mut self, now: Instant) {
        if !self.server_up || matches!(self.phase, Phase::Spliced) {
            return;
        }
        if matches!(self.phase, Phase::Relay)
            && matches!(self.input, Input::Command | Input::AuthResponse)
            && !self.queue.awaits_server()
            && !self.server_replies.is_inside()
        {
            return self.finish(SessionEnd::Server, now);
        }
        self.lose_server(&Refusal::ServerLost, SessionEnd::Server, now);
    }

    /// Goes on without the server, or ends the session where it cannot.
    pub(super) fn lose_server(&mut self, refusal: &Refusal, end: SessionEnd, now: Instant) {
        match (&self.phase, &self.input) {
            (Phase::Relay, Input::Text(_) | Input::Chunk(_) | Input::Verdict(_)) => {
                self.refuse_message(refusal.clone(), now);
            }
            (Phase::Relay, _) if !refusal.reply(&self.rules.voice).is_closing() => {
                self.abort_message(&refusal.to_string());
                self.drop_server();
                self.queue.give_up(&refusal.reply(&self.rules.voice));
                self.take_over(refusal, now);
            }
            (Phase::Connect | Phase::Greeting { .. } | Phase::Relay, _) => self.give_up(refusal, end, now),
            (Phase::Takeover(_) | Phase::Spliced | Phase::Closing(_), _) => self.drop_server(),
        }
    }

    /// Hands a reply to the client.
    pub(super) fn relay_reply(&mut self, reply: &Reply, now: Instant) {
        self.clocks.command = now;
        if self.client_lost {
            return;
        }
        if self.to_client.is_empty() {
            self.clocks.client_write = now;
        }
        tally::count(&mut self.tally.replies, reply.code());
        reply.encode(&mut self.to_client);
    }
}
