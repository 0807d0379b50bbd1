//! One attempt to deliver a message to some recipients: which server is next, and what becomes of
//! those whom nobody took.
//!
//! Owns limits and fallbacks. Knows of recipients only whether some are left: each keeps what was
//! last said of it, which counts before what this module says of all.

use std::collections::VecDeque;

use super::destination::Destination;
use super::route::{NoRoute, Route, Server};
use crate::smtp::client::{Report, Status};

/// What the operator says of attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptPolicy {
    /// Sessions with servers of one destination that get past their handshakes; 0: any number
    /// (`mx-session-limit`).
    pub session_limit: usize,
    /// Destinations that are tried when the mail's own is not found or fails (`fallback-relay`).
    pub fallback_relay: Vec<Destination>,
    /// Who gets mail of which this gateway is the best mail exchanger (`best-mx-transport`).
    pub best_mx_transport: Option<String>,
}

impl Default for AttemptPolicy {
    fn default() -> Self {
        Self { session_limit: 2, fallback_relay: Vec::new(), best_mx_transport: None }
    }
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look the servers of this destination up; answered by [`Attempt::routed`].
    Route(Destination),
    /// Open a session with this server, and offer it all recipients that are left; answered by
    /// [`Attempt::not_connected`] or [`Attempt::session_over`].
    Connect(Server),
    /// Nothing.
    Done(Rest),
}

/// What becomes of recipients that are left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// There are none.
    Nobody,
    /// They are deferred or returned: as their servers last said, or else for this reason.
    Failed(Report),
    /// They go to this transport.
    HandOver(String),
}

/// A destination to be tried.
#[derive(Clone, Debug)]
struct Hop {
    destination: Destination,
    /// Whose mistake it is when the destination is not there for good.
    ours: bool,
}

/// The servers that were tried, and those that will be.
#[derive(Debug)]
pub struct Attempt {
    policy: AttemptPolicy,
    hops: VecDeque<Hop>,
    servers: VecDeque<Server>,
    /// The hop whose servers they are.
    ours: bool,
    /// Sessions with them that got past the handshake.
    sessions: usize,
    failure: Option<Report>,
    /// A session has gone well: whatever else happened, the destination can be talked to.
    well: bool,
}

impl Attempt {
    /// An attempt that tries `destinations` one behind the other, then the fallback relays. `relay`: they
    /// are the operator's choice, and not what the recipients' domains say.
    #[must_use]
    pub fn new(destinations: Vec<Destination>, relay: bool, policy: AttemptPolicy) -> Self {
        let own = destinations.into_iter().map(|destination| Hop { destination, ours: relay });
        let fallback =
            policy.fallback_relay.iter().cloned().map(|destination| Hop { destination, ours: true });
        Self {
            hops: own.chain(fallback).collect(),
            policy,
            servers: VecDeque::new(),
            ours: false,
            sessions: 0,
            failure: None,
            well: false,
        }
    }

    /// What is next, while recipients are left or not.
    pub fn next(&mut self, recipients_left: bool) -> Step {
        if !recipients_left {
            return Step::Done(Rest::Nobody);
        }
        if let Some(server) = self.servers.pop_front() {
            return Step::Connect(server);
        }
        if let Some(hop) = self.hops.pop_front() {
            self.ours = hop.ours;
            self.sessions = 0;
            return Step::Route(hop.destination);
        }
        Step::Done(self.rest())
    }

    /// A look-up has ended.
    pub fn routed(&mut self, result: Result<Route, NoRoute>) {
        let self_is_mx = match result {
            Ok(route) => {
                self.servers = route.servers.into();
                route.self_is_mx
            }
            Err(no_route) => {
                self.fail(no_route.failure);
                no_route.self_is_mx
            }
        };
        // Mail that should end here, or with our betters, would come back from a fallback relay.
        if self_is_mx {
            self.hops.clear();
        }
    }

    /// The last server could not be talked to: no connection, or it ended before the first command of
    /// a transaction.
    pub fn not_connected(&mut self, failure: Report) {
        self.fail(failure);
    }

    /// A session that got past its handshake is over; `failure`: it did not end as it should.
    pub fn session_over(&mut self, failure: Option<Report>) {
        self.sessions = self.sessions.saturating_add(1);
        if self.policy.session_limit != 0 && self.sessions >= self.policy.session_limit {
            self.servers.clear();
        }
        match failure {
            Some(failure) => self.fail(failure),
            None => self.well = true,
        }
    }

    /// Why the destination is in trouble, if it is: for the schedule.
    #[must_use]
    pub fn trouble(&self) -> Option<&Report> {
        self.failure.as_ref().filter(|_| !self.well)
    }

    fn fail(&mut self, failure: Report) {
        let blamed = if self.ours && failure.status.is_permanent() && failure.status != LOOP {
            let reason = format!(
                "{} (the relay or fallback relay is not what the configuration says)",
                failure.reason
            );
            Report::transient(3, 5, reason)
        } else {
            failure
        };
        self.failure = Some(blamed);
    }

    fn rest(&self) -> Rest {
        match (&self.failure, &self.policy.best_mx_transport) {
            (Some(failure), Some(transport)) if failure.status == LOOP => Rest::HandOver(transport.clone()),
            (Some(failure), _) => Rest::Failed(failure.clone()),
            (None, _) => {
                Rest::Failed(Report::transient(3, 0, "server unavailable or unable to receive mail"))
            }
        }
    }
}

/// Mail loops back to this gateway.
const LOOP: Status = Status::permanent(4, 6);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::client::Protocol;

    fn destination(text: &str) -> Destination {
        Destination::parse(text, Protocol::Smtp).unwrap()
    }

    fn servers(count: u8) -> Route {
        let server = |number| Server {
            host: format!("s{number}"),
            address: [192, 0, 2, number].into(),
            port: 25,
            preference: 0,
            best: true,
        };
        Route { servers: (0..count).map(server).collect(), self_is_mx: false }
    }

    fn no_route(failure: Report, self_is_mx: bool) -> Result<Route, NoRoute> {
        Err(NoRoute { failure, self_is_mx })
    }

    fn refused() -> Report {
        Report::transient(4, 1, "refused")
    }

    /// Drives an attempt in which each destination has the next of these routes, and each server does
    /// what `act` says; tells what was asked for, and what became of the rest.
    fn drive(
        mut attempt: Attempt,
        routes: Vec<Result<Route, NoRoute>>,
        mut act: impl FnMut(&mut Attempt, &str),
    ) -> (String, Rest) {
        let mut asked = Vec::new();
        let mut routes = routes.into_iter();
        loop {
            match attempt.next(true) {
                Step::Route(destination) => {
                    asked.push(destination.to_string());
                    attempt.routed(routes.next().unwrap());
                }
                Step::Connect(server) => {
                    asked.push(server.host.clone());
                    act(&mut attempt, &server.host);
                }
                Step::Done(rest) => return (asked.join(" "), rest),
            }
        }
    }

    fn attempt(destinations: &str, relay: bool, fallback: &str) -> Attempt {
        let list = |text| Destination::parse_list(text, Protocol::Smtp).unwrap();
        let policy = AttemptPolicy { fallback_relay: list(fallback), ..AttemptPolicy::default() };
        Attempt::new(list(destinations), relay, policy)
    }

    fn failed(rest: &Rest) -> String {
        if let Rest::Failed(failure) = rest { failure.status.to_string() } else { format!("{rest:?}") }
    }

    // Specification section 4: handshake failures do not count against the session limit.
    #[test]
    fn sessions_are_limited_and_failed_handshakes_are_not() {
        let (asked, rest) = drive(attempt("a.test", false, ""), vec![Ok(servers(4))], |attempt, _| {
            attempt.not_connected(refused());
        });
        assert_eq!((asked.as_str(), failed(&rest)), ("a.test s0 s1 s2 s3", "4.4.1".to_owned()));
        let (asked, rest) =
            drive(attempt("a.test", false, ""), vec![Ok(servers(4))], |attempt, host| match host {
                "s0" => attempt.not_connected(refused()),
                _ => attempt.session_over(None),
            });
        assert_eq!((asked.as_str(), failed(&rest)), ("a.test s0 s1 s2", "4.4.1".to_owned()));
    }

    // Specification section 4: the limit is one of each next hop.
    #[test]
    fn a_fallback_relay_gets_what_the_destination_did_not_take() {
        let routes = vec![Ok(servers(3)), no_route(Report::transient(4, 3, "later"), false), Ok(servers(3))];
        let (asked, _) = drive(attempt("a.test b.test", false, "[f.test]"), routes, |attempt, _| {
            attempt.session_over(None)
        });
        assert_eq!(asked, "a.test s0 s1 b.test [f.test] s0 s1");
        let routes = vec![no_route(Report::permanent(4, 4, "not found"), false), Ok(servers(1))];
        let (asked, _) =
            drive(attempt("a.test", false, "[f.test]"), routes, |attempt, _| attempt.session_over(None));
        assert_eq!(asked, "a.test [f.test] s0", "a hard error of the DNS too");
    }

    // Specification section 4: never when we are an MX for the destination.
    #[test]
    fn mail_that_belongs_here_goes_to_no_fallback_relay() {
        let route = Ok(Route { self_is_mx: true, ..servers(1) });
        let (asked, _) = drive(attempt("a.test", false, "[f.test]"), vec![route], |attempt, _| {
            attempt.not_connected(refused())
        });
        assert_eq!(asked, "a.test s0");
        let loops = || vec![no_route(Report::permanent(4, 6, "loops"), true)];
        let (asked, rest) = drive(attempt("a.test", false, "[f.test]"), loops(), |_, _| {});
        assert_eq!((asked.as_str(), failed(&rest)), ("a.test", "5.4.6".to_owned()));
        let mut attempt = attempt("a.test", true, "[f.test]");
        attempt.policy.best_mx_transport = Some("local".to_owned());
        assert_eq!(drive(attempt, loops(), |_, _| {}).1, Rest::HandOver("local".to_owned()));
    }

    // Specification section 4: 4.3.5 for the operator's own mistakes.
    #[test]
    fn nobody_loses_mail_because_a_relay_is_written_wrong() {
        let gone = || no_route(Report::permanent(4, 4, "not found"), false);
        for (destination, relay, fallback, routes, expected) in [
            ("a.test", false, "", vec![gone()], "5.4.4"),
            ("a.test", true, "", vec![gone()], "4.3.5"),
            ("a.test", false, "[f.test]", vec![gone(), gone()], "4.3.5"),
        ] {
            let (_, rest) = drive(attempt(destination, relay, fallback), routes, |_, _| {});
            assert_eq!(failed(&rest), expected, "{destination} {relay} {fallback}");
        }
    }

    // Specification section 13: trouble, unless another session completed normally.
    #[test]
    fn a_destination_with_one_good_session_is_in_no_trouble() {
        let mut attempt = attempt("a.test", false, "");
        assert_eq!(attempt.next(true), Step::Route(destination("a.test")));
        attempt.routed(Ok(servers(2)));
        assert!(matches!(attempt.next(true), Step::Connect(_)));
        attempt.session_over(Some(refused()));
        assert_eq!(attempt.trouble(), Some(&refused()));
        assert!(matches!(attempt.next(true), Step::Connect(_)));
        attempt.session_over(None);
        assert_eq!(attempt.trouble(), None);
        assert_eq!(attempt.next(false), Step::Done(Rest::Nobody));
    }

    // Specification section 4: no error recorded.
    #[test]
    fn without_any_error_there_is_one() {
        let (_, rest) = drive(attempt("a.test", false, ""), vec![Ok(servers(1))], |attempt, _| {
            attempt.session_over(None)
        });
        assert_eq!(failed(&rest), "4.3.0");
    }
}
