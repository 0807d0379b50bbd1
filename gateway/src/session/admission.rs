//! Who becomes a session, and what those are told who do not.

use tokio::net::TcpStream;

use super::table::{Ceilings, Full, OpenSession};
use super::{Context, Settings, linger, offence};
use crate::clock;
use crate::config::Config;
use crate::config::decimal::Decimal;
use crate::intercept::flow::Flow;
use crate::ipc::offender::Scene;
use crate::load;
use crate::smtp::refusal::Refusal;
use crate::telemetry::{Counter, Limit, Trouble};

/// Why a client is told to come back later.
#[derive(Debug, thiserror::Error)]
pub(super) enum Crowd {
    #[error(transparent)]
    Full(#[from] Full),
    #[error("the load average is {0}")]
    Load(Decimal),
}

/// Takes a session in, unless there are too many or the machine has too much to do.
pub(super) fn admit(flow: &Flow, config: &Config, context: &Context) -> Result<OpenSession, Crowd> {
    let limits = &config.limits;
    // The kernel is asked only where there is a limit.
    let load = (limits.max_load != Decimal::default()).then(load::average);
    if let Some(load) = load.filter(|load| load::is_above(*load, limits.max_load)) {
        return Err(Crowd::Load(load));
    }
    let opened = context.table.open(flow.clone(), clock::now(), Ceilings::of(limits));
    if let Some(offence) = opened.as_ref().err().and_then(|full| full.offence()) {
        offence::report(context, flow, &offence, Scene::default);
    }
    Ok(opened?)
}

/// Says why, and counts it.
pub(super) async fn turn_away(stream: TcpStream, crowd: Crowd, settings: &Settings, context: &Context) {
    let (refusal, limit) = match crowd {
        Crowd::Load(_) => (Refusal::SystemLoad, Limit::MaxLoad),
        Crowd::Full(Full::Gateway) => (Refusal::TooManySessions, Limit::Sessions),
        Crowd::Full(Full::Client) => (Refusal::TooManySessionsOfClient, Limit::SessionsPerClient),
        Crowd::Full(Full::Prefix) => (Refusal::TooManySessionsOfPrefix, Limit::SessionsPerPrefix),
        Crowd::Full(Full::Identity) => (Refusal::TooManySessionsOfIdentity, Limit::SessionsPerIdentity),
    };
    context.telemetry.count(Counter::Limit(limit));
    context.telemetry.trouble(Trouble::Full, || crowd.to_string());
    tell(stream, &refusal, settings, context).await;
}

/// Says to a client without a session that it may come back later.
pub(super) async fn tell(stream: TcpStream, refusal: &Refusal, settings: &Settings, context: &Context) {
    let Ok(_place) = context.turned_away.try_acquire() else { return };
    linger::say_and_close(stream, &refusal.reply(&settings.rules.voice)).await;
}
