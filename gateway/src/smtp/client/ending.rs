//! How connections end: politely, broken, too slow, or not understood.

use std::time::Instant;

use super::wire::Wire;
use super::{Action, Failure, FailureKind, Note, Report, Stage, State, Status, outcome};
use crate::smtp::reply::{Reply, ReplyError};

/// Why the server is not heard any more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    /// It closed the connection, or the connection broke.
    Ended,
    /// It took too long.
    TimedOut,
    /// It said what is no reply.
    Garbled(ReplyError),
}

impl Wire {
    pub(super) fn connect_failed(&mut self, reason: &str) -> State {
        let reason = format!("connect to {}: {reason}", self.terms.peer);
        self.break_off(FailureKind::Connect, Report::new(Status::transient(4, 1), reason))
    }

    pub(super) fn connect_lacking(&mut self, reason: &str) -> State {
        let reason = format!("connect to {}: {reason}", self.terms.peer);
        self.break_off(FailureKind::Connect, Report::new(Status::transient(3, 0), reason))
    }

    /// Gives the server up, politely.
    pub(super) fn part(&mut self, kind: FailureKind, report: Report, now: Instant) -> State {
        self.act(Action::Failed(Failure { report, kind }));
        self.quit(now)
    }

    /// Gives the server up where there is nobody to be polite to.
    pub(super) fn break_off(&mut self, kind: FailureKind, report: Report) -> State {
        self.act(Action::Failed(Failure { report, kind }));
        self.close()
    }

    pub(super) fn quit(&mut self, now: Instant) -> State {
        self.send("QUIT");
        self.enter(Stage::Quit, now);
        if self.rules.skip_quit_response { State::Closing } else { State::Quit }
    }

    /// Closes at once; what is not written yet never is.
    pub(super) fn close(&mut self) -> State {
        self.output.clear();
        self.clock.stop();
        self.act(Action::Close);
        State::Closed
    }

    /// A reply came while nothing was asked: it would be taken for the answer to the next command.
    pub(super) fn spoke_out_of_turn(&mut self, reply: &Reply) -> State {
        if !reply.is_closing() {
            self.note(Note::Protocol(format!("spoke out of turn: {}", outcome::text(reply))));
        }
        self.close()
    }

    pub(super) fn lose(&mut self, state: State, loss: Loss, now: Instant) -> State {
        match state {
            State::Connect => {
                let reason = match loss {
                    Loss::TimedOut => "Connection timed out",
                    Loss::Ended | Loss::Garbled(_) => "Connection reset by peer",
                };
                self.connect_failed(reason)
            }
            State::Handshake => {
                let kind = FailureKind::Handshake;
                let report = self.lost(loss);
                self.break_off(kind, Report { status: Status::transient(7, 5), ..report })
            }
            State::Greeting
            | State::Hello
            | State::Helo
            | State::StartTls
            | State::Auth(_)
            | State::Check => {
                let report = self.lost(loss);
                self.break_off(FailureKind::Broken, report)
            }
            State::Deliver(transaction) => transaction.lost(loss, self, now),
            State::Ready => {
                if let Loss::Garbled(error) = loss {
                    self.note(Note::Protocol(format!("spoke out of turn: {error}")));
                }
                self.close()
            }
            State::Quit | State::Closing => self.close(),
            State::Closed => State::Closed,
        }
    }

    /// What there is to say of a server that is not heard any more.
    pub(super) fn lost(&self, loss: Loss) -> Report {
        let host = self.terms.peer.host();
        let phrase = self.clock.stage().phrase(self.rules.protocol);
        match loss {
            Loss::Ended => {
                Report::new(Status::transient(4, 2), format!("lost connection with {host} while {phrase}"))
            }
            Loss::TimedOut => Report::new(
                Status::transient(4, 2),
                format!("conversation with {host} timed out while {phrase}"),
            ),
            Loss::Garbled(error) => Report::new(
                Status::transient(5, 0),
                format!("Protocol error: host {host} cannot be understood while {phrase}: {error}"),
            ),
        }
    }
}
