//! Sender Policy Framework: `check_host()` of RFC 7208 section 4.
//!
//! Owns the evaluation and its limits. Records and macros are read by `mail-auth`, whose own
//! evaluation knows no limit of void lookups and takes the first of several records. What a result
//! means for a message is decided in `policy`.

use std::net::IpAddr;
use std::time::Duration;

use mail_auth::common::parse::TxtRecordParser as _;
use mail_auth::spf::{Macro, Mechanism, Qualifier, Spf as Record, Variables};

use crate::dns::{self, LookupError, Outcome, Resolver};
use crate::outcome::SpfResult;

mod address;
mod name;
mod record;

use address::{matches_v4, matches_v6};

/// Terms that make lookups, in one evaluation (RFC 7208 section 4.6.4).
const LOOKUPS: usize = 10;
/// Lookups that find nothing, in one evaluation (the same).
const VOID_LOOKUPS: usize = 2;
/// Hosts of one `mx`, and names of one `ptr` (the same).
const NAMES: usize = 10;

/// Who wants to send what from where.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The address that sends.
    pub address: IpAddr,
    /// The mailbox that is checked: the reverse path, or `postmaster@` the HELO name.
    pub sender: &'a str,
    /// The HELO name.
    pub helo: &'a str,
    /// The name of who asks, for explanations.
    pub receiver: &'a str,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The result (RFC 7208 section 2.6).
    pub result: SpfResult,
    /// The domain whose policy was asked, in ASCII; empty where it can have none.
    pub domain: String,
    /// Why, where that is not the record's own word.
    pub problem: Option<String>,
    /// Of `fail`, what the domain says about it (RFC 7208 section 6.2): printable ASCII, of a
    /// length that fits into a reply.
    pub explanation: Option<String>,
}

impl Answer {
    /// That nothing is known in time.
    #[must_use]
    pub fn overdue() -> Self {
        let (domain, problem) = (String::new(), Some("no answer in time".to_owned()));
        Self { result: SpfResult::TempError, domain, problem, explanation: None }
    }
}

/// Whether the domain of `asked.sender` lets `asked.address` send its mail. Each lookup ends within
/// `deadline` and is told to `count`.
pub async fn check_host(
    resolver: &Resolver,
    asked: Asked<'_>,
    deadline: Duration,
    count: &(dyn Fn(Outcome) + Sync),
) -> Answer {
    let (local, domain) = asked.sender.rsplit_once('@').unwrap_or(("", asked.sender));
    let Some(domain) = name::of_sender(domain) else {
        let problem = Some("not a domain".to_owned());
        return Answer { result: SpfResult::None, domain: String::new(), problem, explanation: None };
    };
    // Within quotes it may hold an `@`, at which `mail-auth` would divide the mailbox.
    let local = if local.is_empty() { "postmaster".to_owned() } else { local.replace('@', "_") };
    let mut variables = Variables::new();
    variables.set_ip(&asked.address);
    variables.set_sender(format!("{local}@{domain}").into_bytes());
    variables.set_helo_domain(asked.helo.as_bytes().to_vec());
    variables.set_host_domain(asked.receiver.as_bytes().to_vec());
    let mut evaluation = Evaluation {
        resolver,
        deadline,
        count,
        address: asked.address,
        variables,
        lookups: 0,
        voids: 0,
        validated: None,
    };
    let (result, problem, explanation) = match evaluation.policy(domain.clone()).await {
        Ok(said) => (said.result, None, evaluation.explanation(said).await),
        Err(Stop::Temporary(why)) => (SpfResult::TempError, Some(why), None),
        Err(Stop::Permanent(why)) => (SpfResult::PermError, Some(why), None),
    };
    Answer { result, domain, problem, explanation }
}

/// What ends an evaluation at once.
#[derive(Debug)]
enum Stop {
    /// The DNS has no answer.
    Temporary(String),
    /// The domain's records are in error.
    Permanent(String),
}

impl Stop {
    fn permanent(why: impl Into<String>) -> Self {
        Self::Permanent(why.into())
    }
}

struct Evaluation<'a> {
    resolver: &'a Resolver,
    deadline: Duration,
    count: &'a (dyn Fn(Outcome) + Sync),
    address: IpAddr,
    variables: Variables<'static>,
    lookups: usize,
    voids: usize,
    /// The names of the address that lead back to it; none before they were asked for.
    validated: Option<Vec<String>>,
}

impl Evaluation<'_> {
    /// What the policy of `domain` says; [`SpfResult::None`] where it has none.
    async fn policy(&mut self, mut domain: String) -> Result<Said, Stop> {
        let mut first = true;
        loop {
            let Some(record) = self.record(&domain).await? else {
                if first {
                    return Ok(Said::without_explanation(SpfResult::None));
                }
                return Err(Stop::permanent(format!("redirect to {domain}, which has no record")));
            };
            for directive in &record.directives {
                if self.matches(&directive.mechanism, &domain).await? {
                    let result = of_qualifier(&directive.qualifier);
                    return Ok(Said { result, explained_at: record.exp.map(|target| (target, domain)) });
                }
            }
            let Some(target) = &record.redirect else {
                return Ok(Said::without_explanation(SpfResult::Neutral));
            };
            self.spend()?;
            let target = self.expand(target, &domain).await?;
            let Some(target) = name::of_target(&target) else {
                return Err(Stop::permanent("redirect to what is not a domain"));
            };
            domain = target;
            first = false;
        }
    }

    /// The one record of `domain` (RFC 7208 sections 4.4 and 4.5).
    async fn record(&mut self, domain: &str) -> Result<Option<Record>, Stop> {
        let texts = self.resolver.texts(domain, self.deadline).await;
        let texts = self.found(domain, texts, Void::Allowed)?;
        let mut records = texts.iter().filter(|text| record::is_record(text));
        let Some(text) = records.next() else { return Ok(None) };
        if records.next().is_some() {
            return Err(Stop::permanent(format!("{domain} has more than one record")));
        }
        let record = record::read(text)
            .ok_or_else(|| Stop::permanent(format!("the record of {domain} has a syntax error")))?;
        Ok(Some(record))
    }

    /// The domain's own words on `fail`; none where anything about them is wrong (RFC 7208 section
    /// 6.2).
    async fn explanation(&mut self, said: Said) -> Option<String> {
        let (target, domain) = said.explained_at.filter(|_| said.result == SpfResult::Fail)?;
        let target = self.expand(&target, &domain).await.ok()?;
        let target = name::of_target(&target)?;
        let texts = self.resolver.texts(&target, self.deadline).await;
        let texts = self.found(&target, texts, Void::Allowed).ok()?;
        let [text] = texts.as_slice() else { return None };
        let text = Macro::parse(text).ok()?;
        let text = self.expand(&text, &domain).await.ok()?;
        // By its macros it holds words of the client's too.
        dns::shown(text.as_bytes())
    }

    async fn matches(&mut self, mechanism: &Mechanism, domain: &str) -> Result<bool, Stop> {
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4 { addr, mask } => Ok(matches_v4(self.address, *addr, *mask)),
            Mechanism::Ip6 { addr, mask } => Ok(matches_v6(self.address, *addr, *mask)),
            Mechanism::A { macro_string, ip4_mask, ip6_mask } => {
                let Some(host) = self.target(macro_string, domain).await? else { return Ok(false) };
                self.is_address_of(&host, *ip4_mask, *ip6_mask, Void::Counted).await
            }
            Mechanism::Mx { macro_string, ip4_mask, ip6_mask } => {
                let Some(name) = self.target(macro_string, domain).await? else { return Ok(false) };
                let hosts = self.resolver.mail_hosts(&name, self.deadline).await;
                let hosts = self.found(&name, hosts, Void::Counted)?;
                if hosts.len() > NAMES {
                    return Err(Stop::permanent(format!("{name} has more than {NAMES} mail hosts")));
                }
                for (_, host) in hosts {
                    if self.is_address_of(&host, *ip4_mask, *ip6_mask, Void::Counted).await? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Mechanism::Include { macro_string } => {
                let Some(target) = self.target(macro_string, domain).await? else {
                    return Err(Stop::permanent("include of what is not a domain"));
                };
                self.includes(target).await
            }
            Mechanism::Exists { macro_string } => {
                let Some(name) = self.target(macro_string, domain).await? else { return Ok(false) };
                // IPv4 whatever the client's family (RFC 7208 section 5.7).
                let found = self.resolver.ipv4(&name, self.deadline).await;
                Ok(!self.found(&name, found, Void::Counted)?.is_empty())
            }
            Mechanism::Ptr { macro_string } => {
                let Some(target) = self.target(macro_string, domain).await? else { return Ok(false) };
                let names = self.validated().await?;
                Ok(names.iter().any(|name| name::is_within(name, &target)))
            }
        }
    }

    /// RFC 7208 section 5.2.
    async fn includes(&mut self, target: String) -> Result<bool, Stop> {
        let shown = target.clone();
        let included = Box::pin(self.policy(target)).await?;
        match included.result {
            SpfResult::Pass => Ok(true),
            SpfResult::None => Err(Stop::permanent(format!("include of {shown}, which has no record"))),
            SpfResult::Fail
            | SpfResult::SoftFail
            | SpfResult::Neutral
            | SpfResult::TempError
            | SpfResult::PermError => Ok(false),
        }
    }

    /// The domain that a term means, which costs a lookup; none where it cannot be one.
    async fn target(&mut self, target: &Macro, domain: &str) -> Result<Option<String>, Stop> {
        self.spend()?;
        let target = self.expand(target, domain).await?;
        Ok(name::of_target(&target))
    }

    async fn expand(&mut self, text: &Macro, domain: &str) -> Result<String, Stop> {
        if text.needs_ptr() {
            let names = self.validated().await?;
            let best = names.iter().find(|name| name.as_str() == domain);
            let best = best.or_else(|| names.iter().find(|name| name::is_within(name, domain)));
            let best = best.or_else(|| names.first()).map_or("unknown", String::as_str).to_owned();
            self.variables.set_validated_domain(best.into_bytes());
        }
        self.variables.set_domain(domain.as_bytes().to_vec());
        Ok(text.eval(&self.variables, domain, false).into_owned())
    }

    /// Whether the address is one of `host`'s, as far as the masks go.
    async fn is_address_of(
        &mut self,
        host: &str,
        ip4_mask: u32,
        ip6_mask: u128,
        void: Void,
    ) -> Result<bool, Stop> {
        match self.address {
            IpAddr::V4(_) => {
                let found = self.resolver.ipv4(host, self.deadline).await;
                let found = self.found(host, found, void)?;
                Ok(found.iter().any(|one| matches_v4(self.address, *one, ip4_mask)))
            }
            IpAddr::V6(_) => {
                let found = self.resolver.ipv6(host, self.deadline).await;
                let found = self.found(host, found, void)?;
                Ok(found.iter().any(|one| matches_v6(self.address, *one, ip6_mask)))
            }
        }
    }

    /// The names of the address that lead back to it (RFC 7208 section 5.5). Where the DNS has no
    /// answer there are none.
    async fn validated(&mut self) -> Result<Vec<String>, Stop> {
        if let Some(names) = &self.validated {
            return Ok(names.clone());
        }
        let names = self.resolver.names(self.address, self.deadline).await;
        let names = self.found("the address", names, Void::Counted).or_else(Stop::unless_temporary)?;
        let mut validated = Vec::new();
        for name in names.into_iter().take(NAMES) {
            let leads_back = self.is_address_of(&name, u32::MAX, u128::MAX, Void::Allowed).await;
            if leads_back.or_else(Stop::unless_temporary)? {
                validated.push(name::plain(&name));
            }
        }
        self.validated = Some(validated.clone());
        Ok(validated)
    }

    /// Takes one term that makes lookups.
    fn spend(&mut self) -> Result<(), Stop> {
        self.lookups = self.lookups.saturating_add(1);
        if self.lookups > LOOKUPS {
            return Err(Stop::permanent(format!("more than {LOOKUPS} terms make lookups")));
        }
        Ok(())
    }

    fn found<T>(
        &mut self,
        name: &str,
        found: Result<Vec<T>, LookupError>,
        void: Void,
    ) -> Result<Vec<T>, Stop> {
        (self.count)(Outcome::of(&found));
        match found {
            Ok(records) => {
                if records.is_empty() && void == Void::Counted {
                    self.voids = self.voids.saturating_add(1);
                    if self.voids > VOID_LOOKUPS {
                        return Err(Stop::permanent(format!(
                            "more than {VOID_LOOKUPS} lookups find nothing"
                        )));
                    }
                }
                Ok(records)
            }
            Err(LookupError::Name) => Ok(Vec::new()),
            Err(error @ (LookupError::Deadline | LookupError::Failed(_))) => {
                Err(Stop::Temporary(format!("{name}: {error}")))
            }
        }
    }
}

/// Whether it counts that a lookup finds nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Void {
    Counted,
    /// A policy that is not there has a meaning of its own, and names of addresses are no terms.
    Allowed,
}

impl Stop {
    /// Nothing, where the DNS has no answer.
    fn unless_temporary<T: Default>(self) -> Result<T, Self> {
        match self {
            Self::Temporary(_) => Ok(T::default()),
            Self::Permanent(_) => Err(self),
        }
    }
}

/// What the record that decides says.
struct Said {
    result: SpfResult,
    /// Where its explanation stands, and the domain of the record.
    explained_at: Option<(Macro, String)>,
}

impl Said {
    const fn without_explanation(result: SpfResult) -> Self {
        Self { result, explained_at: None }
    }
}

const fn of_qualifier(qualifier: &Qualifier) -> SpfResult {
    match qualifier {
        Qualifier::Pass => SpfResult::Pass,
        Qualifier::Fail => SpfResult::Fail,
        Qualifier::SoftFail => SpfResult::SoftFail,
        Qualifier::Neutral => SpfResult::Neutral,
    }
}
