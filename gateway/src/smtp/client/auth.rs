//! AUTH (RFC 4954): a SASL mechanism in SMTP's clothes.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::sasl::{Attempt, Login, Mechanism, SaslError};
use super::wire::Wire;
use super::{FailureKind, Report, Stage, State, Status, outcome};
use crate::smtp::reply::Reply;

/// Octets of a command line with its CRLF that any server takes (RFC 5321 section 4.5.3.1.4).
const COMMAND_LINE: usize = 512;
/// Challenges that a server may put.
const MAX_CHALLENGES: u32 = 100;

/// An exchange under way.
#[derive(Debug)]
pub(super) struct Dialogue {
    attempt: Attempt,
    /// The initial response did not fit into the command line and waits for an empty challenge.
    held: Option<Vec<u8>>,
    challenges: u32,
    /// Why the exchange was cancelled; the server's answer to that is waited for.
    cancelled: Option<SaslError>,
}

impl Wire {
    /// Proves who the client is, where there is something to prove it with and a server that asks; then goes on.
    pub(super) fn authenticate(&mut self, now: Instant) -> State {
        let Some(login) = self.terms.login.take().filter(|_| !self.features.mechanisms.is_empty()) else {
            return self.ready(now);
        };
        let begun = self.begin(&login, now);
        // Only once: the next delivery on this connection finds it done.
        begun.unwrap_or_else(|report| self.part(FailureKind::Auth { credentials: false }, report, now))
    }

    fn begin(&mut self, login: &Login, now: Instant) -> Result<State, Report> {
        let options = match self.tls {
            None => login.clear,
            Some(facts) if facts.matched => login.verified,
            Some(_) => login.tls,
        };
        let Some(mechanism) = Mechanism::choose(&self.features.mechanisms, &login.filter, options) else {
            let reason = format!(
                "SASL authentication failed: server {} offered no compatible authentication mechanisms for this \
                 type of connection security",
                self.terms.peer.host()
            );
            return Err(Report::new(Status::transient(7, 0), reason));
        };
        let mut attempt = Attempt::new(mechanism, login).map_err(|error| self.local_failure(error))?;
        let mut held = attempt.initial();
        let line =
            held.as_ref().map(|initial| format!("AUTH {} {}", mechanism.name(), BASE64.encode(initial)));
        match line.filter(|line| line.len().saturating_add(2) <= COMMAND_LINE) {
            Some(line) => {
                self.send(&line);
                attempt.begun();
                held = None;
            }
            None => self.send(&format!("AUTH {}", mechanism.name())),
        }
        self.enter(Stage::Auth, now);
        Ok(State::Auth(Dialogue { attempt, held, challenges: 0, cancelled: None }))
    }

    fn local_failure(&self, error: SaslError) -> Report {
        let reason = format!("SASL authentication failed: server {}: {error}", self.terms.peer.host());
        Report::new(Status::transient(7, 0), reason)
    }
}

impl Dialogue {
    pub(super) fn answered(mut self, reply: &Reply, wire: &mut Wire, now: Instant) -> State {
        if let Some(error) = self.cancelled {
            let report = wire.local_failure(error);
            return wire.part(FailureKind::Auth { credentials: false }, report, now);
        }
        match reply.code() {
            334 => match self.respond(reply) {
                Ok(answer) => {
                    wire.send(&BASE64.encode(answer));
                    wire.enter(Stage::Auth, now);
                    State::Auth(self)
                }
                Err(error) => {
                    wire.send("*");
                    wire.enter(Stage::Auth, now);
                    self.cancelled = Some(error);
                    State::Auth(self)
                }
            },
            200..=299 => match self.attempt.accept() {
                Ok(()) => {
                    wire.authenticated = true;
                    wire.ready(now)
                }
                Err(error) => {
                    let report = wire.local_failure(error);
                    wire.part(FailureKind::Auth { credentials: false }, report, now)
                }
            },
            code => {
                let report = rejected(reply, wire);
                wire.part(FailureKind::Auth { credentials: code == 535 }, report, now)
            }
        }
    }

    fn respond(&mut self, reply: &Reply) -> Result<Vec<u8>, SaslError> {
        self.challenges = self.challenges.saturating_add(1);
        if self.challenges > MAX_CHALLENGES {
            return Err(SaslError::Challenge);
        }
        let text = reply.lines().first().map(AsRef::as_ref).unwrap_or_default();
        let challenge = BASE64.decode(text.trim_ascii()).map_err(|_| SaslError::Challenge)?;
        match self.held.take() {
            Some(initial) if challenge.is_empty() => {
                self.attempt.begun();
                Ok(initial)
            }
            Some(_) => Err(SaslError::Challenge),
            None => self.attempt.respond(&challenge),
        }
    }
}

fn rejected(reply: &Reply, wire: &Wire) -> Report {
    let said = outcome::text(reply);
    let reason = format!("SASL authentication failed; server {} said: {said}", wire.terms.peer.host());
    let status = Status::of_reply(reply).filter(|status| !status.is_success());
    let report =
        Report { diagnostic: Some(said), ..Report::new(status.unwrap_or(Status::transient(7, 0)), reason) };
    if wire.rules.auth_soft_bounce { report.softened() } else { report }
}
