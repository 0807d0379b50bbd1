//! The checks that are asked before a step of a session goes on.
//!
//! Owns that they run side by side and how long they may take. What a check's finding means is
//! decided in `policy`.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::intercept::flow::Flow;
use crate::outcome::Spf;
use crate::policy::ruling;
use crate::smtp::question::{Question, Ruling, Steps};

pub mod dnsbl;
pub mod quota;
pub mod spf;

/// The session in which a question comes up.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Who talks to whom.
    pub flow: Flow,
    /// The client's last HELO or EHLO name; empty before the first.
    pub helo: String,
    /// Whether the server has accepted its AUTH.
    pub authenticated: bool,
    /// The gateway's own address in the connection to the server; none before there is one.
    pub upstream: Option<IpAddr>,
}

/// What a check has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What becomes of the step.
    pub ruling: Ruling,
    /// What the records are to tell.
    pub found: Option<Found>,
}

impl From<Ruling> for Answer {
    fn from(ruling: Ruling) -> Self {
        Self { ruling, found: None }
    }
}

/// What a check has found, for the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Of the message that begins.
    Spf(Spf),
    /// The domains of block lists that have the client.
    Listed(Vec<String>),
}

/// An answer on its way.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// What all checks together have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruled {
    /// The strictest ruling.
    pub ruling: Ruling,
    /// What each has found.
    pub found: Vec<Found>,
}

/// Something that is asked at some steps of every session.
pub trait Check: fmt::Debug + Send + Sync {
    /// The steps at which it is asked.
    fn steps(&self) -> Steps;

    /// Rules on `question`. Dropped when the session ends meanwhile.
    fn rule<'a>(&'a self, question: &'a Question, subject: &'a Subject) -> Answering<'a>;

    /// The ruling when there is none within `timeouts.checks`.
    fn overdue(&self) -> Ruling;
}

/// All checks of a configuration.
#[derive(Debug, Default)]
pub struct Checks {
    list: Vec<Box<dyn Check>>,
    patience: Duration,
}

impl Checks {
    /// These checks, of which each may take as long as `patience`.
    #[must_use]
    pub const fn new(list: Vec<Box<dyn Check>>, patience: Duration) -> Self {
        Self { list, patience }
    }

    /// The steps at which any of them is asked.
    #[must_use]
    pub fn steps(&self) -> Steps {
        self.list.iter().fold(Steps::default(), |steps, check| steps.and(check.steps()))
    }

    /// Asks all checks that have a say at this step, side by side; the strictest ruling holds.
    pub async fn rule(&self, question: Question, subject: Subject) -> Ruled {
        let asked = self.list.iter().filter(|check| check.steps().contains(question.step()));
        let answers = asked.map(|check| async {
            let answer = timeout(self.patience, check.rule(&question, &subject)).await;
            answer.unwrap_or_else(|_| check.overdue().into())
        });
        let (rulings, found): (Vec<_>, Vec<_>) =
            join_all(answers).await.into_iter().map(|answer| (answer.ruling, answer.found)).unzip();
        Ruled { ruling: ruling::strictest(rulings), found: found.into_iter().flatten().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::intercept::address::{ClientAddr, OriginalDst};
    use crate::intercept::flow::SessionId;
    use crate::smtp::question::Step;
    use crate::smtp::refusal::Refusal;

    /// Refuses after a while.
    #[derive(Debug)]
    struct Slow {
        step: Step,
        takes: Duration,
        ruling: Ruling,
    }

    impl Check for Slow {
        fn steps(&self) -> Steps {
            [self.step].into_iter().collect()
        }

        fn rule<'a>(&'a self, _: &'a Question, _: &'a Subject) -> Answering<'a> {
            Box::pin(async {
                tokio::time::sleep(self.takes).await;
                self.ruling.clone().into()
            })
        }

        fn overdue(&self) -> Ruling {
            Ruling::Refuse(Refusal::CheckFailed)
        }
    }

    fn subject() -> Subject {
        let flow = Flow::new(
            SessionId::next(clock::wall()),
            ClientAddr::new("192.0.2.1:1025".parse().unwrap()),
            OriginalDst::new("198.51.100.1:25".parse().unwrap()),
        );
        Subject { flow, helo: String::new(), authenticated: false, upstream: None }
    }

    fn slow(step: Step, seconds: u64, ruling: Ruling) -> Box<dyn Check> {
        Box::new(Slow { step, takes: Duration::from_secs(seconds), ruling })
    }

    #[tokio::test(start_paused = true)]
    async fn checks_run_side_by_side_and_only_those_of_the_step() {
        let checks = Checks::new(
            vec![
                slow(Step::Connect, 5, Ruling::Pass),
                slow(Step::Connect, 5, Ruling::Refuse(Refusal::LaneRejects)),
                slow(Step::Mail, 5, Ruling::Close(Refusal::LaneRejects)),
            ],
            Duration::from_secs(10),
        );
        assert!(checks.steps().contains(Step::Mail) && !checks.steps().contains(Step::Rcpt));
        let started = tokio::time::Instant::now();
        let ruling = checks.rule(Question::Connect, subject()).await.ruling;
        assert_eq!(ruling, Ruling::Refuse(Refusal::LaneRejects));
        assert_eq!(started.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_does_not_answer_says_what_holds_instead() {
        let checks = Checks::new(vec![slow(Step::Connect, 60, Ruling::Pass)], Duration::from_secs(10));
        let ruling = checks.rule(Question::Connect, subject()).await.ruling;
        assert_eq!(ruling, Ruling::Refuse(Refusal::CheckFailed));
    }
}
