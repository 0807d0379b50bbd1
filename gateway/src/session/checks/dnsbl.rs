//! Asks block lists about a client, all at the same time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use tracing::info;

use super::{Answer, Answering, Check, Found, Subject};
use crate::clock;
use crate::config::file::{Dnsbl, DnsblZone};
use crate::dns::{self, Outcome, Resolver};
use crate::policy::dnsbl::{self, Listing, Meaning};
use crate::smtp::question::{Question, Ruling, Step, Steps};
use crate::telemetry::{Counter, Telemetry, Trouble};

/// The block lists of a configuration.
#[derive(Debug)]
pub struct BlockLists {
    dnsbl: Dnsbl,
    /// Asked at MAIL only, since clients whose AUTH the server has accepted are spared.
    spare_authenticated: bool,
    resolver: Arc<Resolver>,
    telemetry: Arc<Telemetry>,
}

impl BlockLists {
    /// The lists of `dnsbl`. With `spare_authenticated` they are asked at MAIL, else at once.
    #[must_use]
    pub const fn new(
        dnsbl: Dnsbl,
        spare_authenticated: bool,
        resolver: Arc<Resolver>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self { dnsbl, spare_authenticated, resolver, telemetry }
    }

    async fn ask(&self, question: &Question, subject: &Subject) -> Answer {
        let client = subject.flow.client.ip();
        let spared = self.spare_authenticated && subject.authenticated;
        if spared || !dnsbl::is_asked_about(&self.dnsbl, client) {
            return Ruling::Pass.into();
        }
        let deadline = clock::now() + self.dnsbl.deadline.duration();
        let lists = self.dnsbl.zones.iter().filter(|list| dnsbl::knows(list, client));
        let listed = join_all(lists.map(|list| async move {
            let name = dnsbl::name(client, &list.zone);
            self.has(list, &name).await.then_some(Listing { list, reason: None })
        }));
        let mut listed: Vec<_> = listed.await.into_iter().flatten().collect();
        if listed.is_empty() {
            return Ruling::Pass.into();
        }
        if dnsbl::refuses(&self.dnsbl, &listed) {
            let told = listed.iter_mut().filter(|listing| listing.is_against());
            join_all(told.map(|listing| self.give_reason(listing, client, deadline))).await;
        }
        let ruling = dnsbl::rule(&self.dnsbl, &listed, question.step());
        let lists: Vec<_> = listed.iter().map(|listing| listing.list.zone.clone()).collect();
        let refused = ruling != Ruling::Pass;
        info!(session = %subject.flow.id, client = %client, lists = lists.join(","), refused, "listed");
        Answer { ruling, found: Some(Found::Listed(lists)) }
    }

    /// Asks a list why it has the client. It has the rest of the deadline for it: nobody is let in
    /// because a list gives no reason.
    async fn give_reason(&self, listing: &mut Listing<'_>, client: IpAddr, deadline: Instant) {
        let left = deadline.saturating_duration_since(clock::now());
        let texts = self.resolver.texts(&dnsbl::name(client, &listing.list.zone), left).await;
        self.telemetry.count(Counter::Lookup(Outcome::of(&texts)));
        let texts = texts.unwrap_or_default();
        listing.reason = texts.first().and_then(|text| dns::shown(text));
    }

    /// Whether `list` has `name`. One that cannot be asked, or does not work, has nobody.
    async fn has(&self, list: &DnsblZone, name: &str) -> bool {
        let answer = self.resolver.ipv4(name, self.dnsbl.deadline.duration()).await;
        self.telemetry.count(Counter::Lookup(Outcome::of(&answer)));
        let meaning = match answer {
            Ok(addresses) => dnsbl::meaning(list, &addresses),
            Err(error) => {
                self.telemetry.trouble(Trouble::Dns, || format!("{}: {error}", list.zone));
                return false;
            }
        };
        if let Meaning::Broken(address) = meaning {
            self.telemetry
                .trouble(Trouble::Dns, || format!("{} answers {address}, which lists nobody", list.zone));
        }
        meaning == Meaning::Listed
    }
}

impl Check for BlockLists {
    fn steps(&self) -> Steps {
        let step = if self.spare_authenticated { Step::Mail } else { Step::Connect };
        [step].into_iter().collect()
    }

    fn rule<'a>(&'a self, question: &'a Question, subject: &'a Subject) -> Answering<'a> {
        Box::pin(self.ask(question, subject))
    }

    fn overdue(&self) -> Ruling {
        Ruling::Pass
    }
}
