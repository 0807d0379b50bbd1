//! Asks at MAIL whether the sender's domain lets an address send its mail.

use std::sync::Arc;

use tokio::time::timeout;
use tracing::info;

use super::{Answer, Answering, Check, Subject};
use crate::config::file::Spf;
use crate::dns::Resolver;
use crate::outcome::{Spf as Finding, SpfResult};
use crate::policy::spf;
use crate::smtp::question::{Question, Ruling, Step, Steps};
use crate::spf::{Answer as Found, Asked, check_host};
use crate::telemetry::{Counter, Telemetry, Trouble};

/// The Sender Policy Framework.
#[derive(Debug)]
pub struct SenderPolicy {
    spf: Spf,
    /// The gateway's name, for explanations of domains.
    name: String,
    /// Clients whose AUTH the server has accepted are not checked.
    spare_authenticated: bool,
    resolver: Arc<Resolver>,
    telemetry: Arc<Telemetry>,
}

impl SenderPolicy {
    /// What `spf` says, asked by the gateway of this `name`.
    #[must_use]
    pub const fn new(
        spf: Spf,
        name: String,
        spare_authenticated: bool,
        resolver: Arc<Resolver>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self { spf, name, spare_authenticated, resolver, telemetry }
    }

    async fn ask(&self, question: &Question, subject: &Subject) -> Answer {
        let Question::Mail { sender, .. } = question else { return Ruling::Pass.into() };
        let address = spf::address(&self.spf, subject.flow.client.ip(), subject.upstream);
        let Some(address) = address.filter(|_| !(self.spare_authenticated && subject.authenticated)) else {
            return Ruling::Pass.into();
        };
        let (identity, mailbox) = spf::identity(sender, &subject.helo);
        let asked = Asked { address, sender: &mailbox, helo: &subject.helo, receiver: &self.name };
        let deadline = self.spf.deadline.duration();
        let count = |outcome| self.telemetry.count(Counter::Lookup(outcome));
        let answer = timeout(deadline, check_host(&self.resolver, asked, deadline, &count)).await;
        let Found { result, domain, problem, explanation } = answer.unwrap_or_else(|_| Found::overdue());
        let finding = Finding { result, identity, domain, address, problem, explanation };
        let ruling = spf::rule(&self.spf, &finding);
        self.tell(&finding, &ruling, subject);
        Answer { ruling, found: Some(super::Found::Spf(finding)) }
    }

    /// A message that is refused at MAIL has no record of its own.
    fn tell(&self, finding: &Finding, ruling: &Ruling, subject: &Subject) {
        self.telemetry.count(Counter::Spf(finding.result));
        if finding.result == SpfResult::TempError {
            let problem = finding.problem.as_deref().unwrap_or_default();
            self.telemetry.trouble(Trouble::Dns, || format!("SPF: {problem}"));
        }
        if *ruling != Ruling::Pass || finding.result == SpfResult::Fail {
            let shown = self.telemetry.shows_domains();
            info!(
                session = %subject.flow.id,
                client = %subject.flow.client.ip(),
                address = %finding.address,
                result = finding.result.name(),
                identity = finding.identity.name(),
                domain = shown.then_some(finding.domain.as_str()),
                refused = *ruling != Ruling::Pass,
                "spf"
            );
        }
    }
}

impl Check for SenderPolicy {
    fn steps(&self) -> Steps {
        [Step::Mail].into_iter().collect()
    }

    fn rule<'a>(&'a self, question: &'a Question, subject: &'a Subject) -> Answering<'a> {
        Box::pin(self.ask(question, subject))
    }

    /// As without an answer of the DNS.
    fn overdue(&self) -> Ruling {
        spf::without_answer(&self.spf)
    }
}
