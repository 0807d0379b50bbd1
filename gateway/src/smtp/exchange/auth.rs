//! AUTH, passed through and watched (RFC 4954). Credentials are relayed and never kept.

use std::time::Instant;

use super::queue::Expected;
use super::{Action, Exchange, Input, Phase, Unread};
use crate::config::file::AuthSkip;
use crate::smtp::command::{Command, Secret};
use crate::smtp::line::Line;
use crate::smtp::question::{Question, Step};
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::report::{Note, Rejected};

impl Exchange {
    pub(super) fn auth(&mut self, argument: &Secret, now: Instant) {
        // RFC 4954 section 4: neither twice nor inside a transaction.
        if self.conduct.authenticated || self.transaction.is_some() {
            return self.refuse_command(&Refusal::BadSequence, now);
        }
        if self.asks(Step::Auth) {
            let command = Command::Auth { argument: argument.clone() };
            return self.ask(Question::Auth, Some(command), now);
        }
        let line = Command::Auth { argument: argument.clone() }.to_line();
        self.forward(&line, Expected::Auth, true, now);
    }

    pub(super) fn auth_answered(&mut self, reply: &Reply, now: Instant) {
        match reply.code() {
            334 => {
                self.input = Input::AuthResponse;
                return;
            }
            235 => {
                self.conduct.authenticated = true;
                self.note(Note::Authenticated);
                self.go_direct();
            }
            _ => {
                self.conduct.auth_rejected = true;
                self.note(Note::AuthFailed);
                self.note_rejection(Rejected::Auth, reply);
                self.count_error(now);
            }
        }
        self.input = Input::Command;
    }

    /// With `auth.skip: [direct]`, octets pass unread from behind the 235 on. What the two have
    /// sent beyond it already, and nobody has interpreted, is the first to pass.
    fn go_direct(&mut self) {
        if self.rules.auth.skips(AuthSkip::Direct, true) {
            self.phase = Phase::Spliced;
            self.act(Action::Splice(Unread::Authenticated));
        }
    }

    /// Moves what was read of either side and not interpreted on to the other.
    pub(super) fn pass_unread(&mut self, now: Instant) {
        let from_client = std::mem::take(&mut self.client_in);
        self.send_server(&from_client, now);
        let from_server = std::mem::take(&mut self.server_in);
        self.to_client.extend_from_slice(&from_server);
    }

    /// Relays a line of the client's, which answers a challenge.
    pub(super) fn read_auth_response(&mut self, now: Instant) -> bool {
        let Some(line) = self.client_lines.next(&mut self.client_in) else { return false };
        self.clocks.command = now;
        match line {
            Line::Text(line) => {
                self.send_server(&line, now);
                self.send_server(b"\r\n", now);
            }
            // What cannot be relayed cancels the exchange (RFC 4954 section 4); the server's
            // 501 answers the client.
            Line::TooLong | Line::Illegal => self.send_server(b"*\r\n", now),
        }
        self.input = Input::Command;
        self.queue.push(Expected::Auth, true, now);
        true
    }
}
