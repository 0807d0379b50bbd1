//! Asks what a client has used up of its quotas.

use std::future::ready;
use std::sync::Arc;

use tracing::{debug, info};

use super::{Answering, Check, Subject};
use crate::policy::quota::{Demand, Over};
use crate::quota::Quotas;
use crate::smtp::question::{Question, Ruling, Step, Steps};
use crate::smtp::refusal::Refusal;
use crate::telemetry::{Counter, Limit, Telemetry};

/// The quotas as a check.
#[derive(Debug)]
pub struct Quota {
    quotas: Arc<Quotas>,
    telemetry: Arc<Telemetry>,
}

impl Quota {
    /// A check by `quotas`.
    #[must_use]
    pub const fn new(quotas: Arc<Quotas>, telemetry: Arc<Telemetry>) -> Self {
        Self { quotas, telemetry }
    }

    fn ask(&self, question: &Question, subject: &Subject) -> Ruling {
        let flow = &subject.flow;
        let demand = match question {
            Question::Connect => Demand::Session { server: flow.destination.ip() },
            Question::Auth => Demand::Auth,
            Question::Mail { size, .. } => Demand::Message { size: size.unwrap_or(0) },
            Question::Rcpt { .. } => Demand::Recipient,
            Question::Hello { .. } | Question::Data { .. } => return Ruling::Pass,
        };
        match self.quotas.take(flow, demand) {
            Ok(()) => Ruling::Pass,
            Err(over) => self.refuse(demand, &over, subject),
        }
    }

    fn refuse(&self, demand: Demand, over: &Over, subject: &Subject) -> Ruling {
        self.telemetry.count(Counter::Limit(Limit::Quota));
        let Over { client, quota, limit, first } = over;
        let session = subject.flow.id;
        // One line for each client and period, however often it tries.
        if *first {
            info!(%session, %client, quota = quota.name(), limit, "quota used up");
        } else {
            debug!(%session, %client, quota = quota.name(), limit, "quota used up");
        }
        // Who goes on guessing is cut off; whoever has sent his share may say good-bye.
        let closing = matches!(demand, Demand::Session { .. }) || quota.is_rejects();
        let refusal = Refusal::OverQuota { quota: quota.name(), closing };
        if closing { Ruling::Close(refusal) } else { Ruling::Refuse(refusal) }
    }
}

impl Check for Quota {
    fn steps(&self) -> Steps {
        [Step::Connect, Step::Auth, Step::Mail, Step::Rcpt].into_iter().collect()
    }

    fn rule<'a>(&'a self, question: &'a Question, subject: &'a Subject) -> Answering<'a> {
        Box::pin(ready(self.ask(question, subject).into()))
    }

    fn overdue(&self) -> Ruling {
        Ruling::Pass
    }
}
