//! The checks that are asked before a step of a session goes on.
//!
//! Owns that they run side by side and how long they may take. What a check's finding means is
//! decided in `policy`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::intercept::flow::Flow;
use crate::policy::ruling;
use crate::smtp::exchange::{Question, Ruling, Steps};

pub mod dnsbl;

/// The session in which a question comes up.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Who talks to whom.
    pub flow: Flow,
    /// The client's last HELO or EHLO name; empty before the first.
    pub helo: String,
    /// Whether the server has accepted its AUTH.
    pub authenticated: bool,
}

/// A ruling on its way.
pub type Ruled<'a> = Pin<Box<dyn Future<Output = Ruling> + Send + 'a>>;

/// Something that is asked at some steps of every session.
pub trait Check: fmt::Debug + Send + Sync {
    /// The steps at which it is asked.
    fn steps(&self) -> Steps;

    /// Rules on `question`. Dropped when the session ends meanwhile.
    fn rule<'a>(&'a self, question: &'a Question, subject: &'a Subject) -> Ruled<'a>;

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
    pub async fn rule(&self, question: Question, subject: Subject) -> Ruling {
        let asked = self.list.iter().filter(|check| check.steps().contains(question.step()));
        let rulings = asked.map(|check| async {
            let ruling = timeout(self.patience, check.rule(&question, &subject)).await;
            ruling.unwrap_or_else(|_| check.overdue())
        });
        ruling::strictest(join_all(rulings).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::intercept::address::{ClientAddr, OriginalDst};
    use crate::intercept::flow::SessionId;
    use crate::smtp::exchange::Step;
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

        fn rule<'a>(&'a self, _: &'a Question, _: &'a Subject) -> Ruled<'a> {
            Box::pin(async {
                tokio::time::sleep(self.takes).await;
                self.ruling.clone()
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
        Subject { flow, helo: String::new(), authenticated: false }
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
        let ruling = checks.rule(Question::Connect, subject()).await;
        assert_eq!(ruling, Ruling::Refuse(Refusal::LaneRejects));
        assert_eq!(started.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_does_not_answer_says_what_holds_instead() {
        let checks = Checks::new(vec![slow(Step::Connect, 60, Ruling::Pass)], Duration::from_secs(10));
        let ruling = checks.rule(Question::Connect, subject()).await;
        assert_eq!(ruling, Ruling::Refuse(Refusal::CheckFailed));
    }
}
