//! A session's input and output: drives `smtp::Exchange` and `smtp::Server` with sockets, deadlines, spool
//! and scanners.
//!
//! Decides nothing about the protocol and nothing about policy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::clock;
use crate::config::file::{Config, Lane, LockAction, OnExcess};
use crate::delivery::office::Office;
use crate::handoff::{Engine, Handoff};
use crate::hooks::Hooks;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::intercept::facts::Facts;
use crate::intercept::flow::{Flow, SessionId};
use crate::ipc::flow::Upstream;
use crate::ipc::offender::Scene;
use crate::locks::Locks;
use crate::outcome::{Conduct, SessionEnd, SessionRecord};
use crate::policy::lane::Lanes;
use crate::policy::lock::{Lock, Offence};
use crate::queue::Queue;
use crate::quota::Quotas;
use crate::scan::Scanners;
use crate::smtp::exchange::Rules;
use crate::smtp::refusal::Refusal;
use crate::spool::Spooler;
use crate::telemetry::{Counter, Limit, Telemetry};
use crate::under_way::Place;

mod admission;
mod arrival;
mod carry;
pub mod checks;
mod copy;
pub mod direct;
mod inspect;
mod linger;
mod offence;
mod preamble;
mod record;
pub mod relay;
pub mod table;
mod upstream;
mod wait;

use admission::Crowd;
pub use arrival::ARRIVING;
use arrival::Lost;
use checks::Checks;
use direct::Direct;
use relay::Relaying;
use table::{Full, OpenSession, SessionTable};

/// What every session of this process shares.
#[derive(Debug)]
pub struct Context {
    /// The open sessions.
    pub table: Arc<SessionTable>,
    /// Records and counters.
    pub telemetry: Arc<Telemetry>,
    /// What the operator wants; a session keeps what it found at its start.
    pub settings: ArcSwap<Settings>,
    /// The splice lane.
    pub handoff: Handoff,
    /// The sessions that the kernel carries alone.
    pub direct: Direct,
    /// Who is held off.
    pub locks: Arc<Locks>,
    /// Who is told of that.
    pub hooks: Arc<Hooks>,
    /// What clients may use and have used.
    pub quotas: Arc<Quotas>,
    /// Mail that the gateway has taken; none where there is no `queue.directory`.
    pub queue: Option<Queue>,
    /// Who tells the postmaster of sessions in the relay lane; none where there is no queue.
    pub office: Option<Arc<Office>>,
    /// What the kernel knows of flows.
    pub facts: Facts,
    /// Turns true when sessions are to end now.
    pub stop: watch::Receiver<bool>,
    /// Places for connections whose destination is asked for.
    pub arriving: Semaphore,
    /// Places for clients that are told to come back later.
    pub turned_away: Semaphore,
}

/// Clients that are told to come back later at the same time; more are cut off without a word, so
/// that a flood beyond `limits.sessions` costs no memory.
pub const TURNED_AWAY: usize = 256;

/// What the operator wants, made ready for sessions.
#[derive(Debug)]
pub struct Settings {
    /// The configuration as a whole.
    pub config: Config,
    /// The exchange's part of it.
    pub rules: Arc<Rules>,
    /// The lane list.
    pub lanes: Lanes,
    /// The relay lane; absent while no rule leads there.
    pub relaying: Option<Relaying>,
    /// Where copies are made; absent while nothing is scanned, kept or relayed.
    pub spooler: Option<Spooler>,
    /// The scanners.
    pub scanners: Scanners,
    /// What is asked before a step goes on.
    pub checks: Checks,
}

impl Settings {
    /// Where copies are made in the inspect lane; absent while nothing is scanned or kept.
    #[must_use]
    pub fn inspecting_spooler(&self) -> Option<&Spooler> {
        let wanted = !self.config.scan.scanners().is_empty() || !self.config.spool.leave_on.is_empty();
        self.spooler.as_ref().filter(|_| wanted)
    }
}

/// How a session went, for its record.
#[derive(Debug)]
struct Ending {
    lane: &'static str,
    end: SessionEnd,
    conduct: Conduct,
    /// How its octets were moved once nobody read them.
    engine: Option<Engine>,
    /// It has not ended: the kernel carries it, in place of a connection between these ends.
    upstream: Option<Upstream>,
}

impl Ending {
    fn of(lane: &'static str, end: SessionEnd) -> Self {
        Self { lane, end, conduct: Conduct::default(), engine: None, upstream: None }
    }
}

/// Serves one accepted connection until it is closed; `listener` accepted it. The session has its `place` until its
/// record is written.
pub async fn serve(
    stream: TcpStream,
    client: SocketAddr,
    listener: SocketAddr,
    context: Arc<Context>,
    place: Place,
) {
    let settings = context.settings.load_full();
    let config = &settings.config;
    context.telemetry.count(Counter::SessionAccepted);
    let flow = match arrival::flow(&stream, client, listener, config, &context).await {
        Ok(flow) => flow,
        Err(Lost::Full) => {
            let crowd = Crowd::Full(Full::Gateway);
            return Box::pin(admission::turn_away(stream, crowd, &settings, &context)).await;
        }
        Err(Lost::Unknown(Some(refusal))) => {
            return Box::pin(admission::tell(stream, &refusal, &settings, &context)).await;
        }
        Err(Lost::Unknown(None)) => return,
    };
    let live = match admission::admit(&flow, config, &context) {
        Ok(live) => live,
        Err(crowd) => return Box::pin(admission::turn_away(stream, crowd, &settings, &context)).await,
    };
    let ending = run(stream, &live, &settings, &context).await;
    let Ending { lane, end, conduct, engine, upstream } = ending;
    if let Some(upstream) = upstream {
        context.telemetry.count(Counter::HandedOff);
        context.direct.park(live, lane, conduct, upstream, &context.telemetry);
        return;
    }
    let record = record::session(&live, lane, end, conduct, engine, None);
    let noted = Arc::clone(live.noted());
    // The client may open the next one before this one is written down.
    drop(live);
    noted.then(move |facts| {
        context.telemetry.session(&SessionRecord { facts, ..record });
        drop(place);
    });
}

/// A client was not let in by the kernel, for it would have gone beyond its limit of destinations: it
/// has offended, though there is no session.
pub fn fanned_out(context: &Context, client: ClientAddr, destination: OriginalDst, servers: u32) {
    let flow = Flow::new(SessionId::next(clock::wall()), client, destination);
    let offence = Offence::FanOut { servers: Some(servers) };
    offence::report(context, &flow, &offence, Scene::default);
}

/// Takes the flow through its lane. Each lane's state is allocated when it is entered: a session
/// costs the memory of the lane it is in.
async fn run(stream: TcpStream, live: &OpenSession, settings: &Settings, context: &Context) -> Ending {
    let flow = live.flow();
    if let Some(lock) = context.locks.meet(flow) {
        // The datapath process has enough to do with those that it holds off itself.
        live.noted().set(None);
        return hold_off(stream, &lock, settings).await;
    }
    let refuses = settings.config.clients.on_excess == OnExcess::Refuse;
    if refuses || settings.lanes.ask_for_facts() {
        live.noted().set(context.facts.of(flow.client, flow.destination).await);
    } else {
        context.facts.ask(flow.client, flow.destination, live.noted());
    }
    let facts = live.facts();
    let client = facts.as_ref().and_then(|facts| facts.client);
    if let Some(client) = client.filter(|client| refuses && client.refused) {
        let allowed = settings.config.clients.limits_of(flow.client.ip()).destinations;
        if allowed != 0 && client.fan_out >= allowed {
            let offence = Offence::FanOut { servers: Some(client.fan_out) };
            offence::report(context, flow, &offence, Scene::default);
        }
        let refusal = Refusal::TooManySessionsOfClient;
        context.telemetry.count(Counter::Limit(Limit::Client));
        Box::pin(linger::say_and_close(stream, &refusal.reply(&settings.rules.voice))).await;
        return Ending::of("reject", SessionEnd::Gateway);
    }
    // The time zone is looked up for those who ask.
    let time = if settings.lanes.ask_for_time() { local_time() } else { jiff::civil::Time::midnight() };
    let choice = settings.lanes.choose(flow.client, flow.destination, facts.as_ref(), time);
    match choice.lane {
        Lane::Inspect => Box::pin(inspect::run(stream, live, choice.starttls, settings, context)).await,
        Lane::Relay => Box::pin(relay::run(stream, live, choice, settings, context)).await,
        Lane::Bypass => Box::pin(carry::bypass(stream, live, settings, context)).await,
        Lane::Reject => {
            Box::pin(linger::say_and_close(stream, &Refusal::LaneRejects.reply(&settings.rules.voice))).await;
            Ending::of("reject", SessionEnd::Gateway)
        }
        Lane::Block => {
            reset(&stream);
            Ending::of("block", SessionEnd::Gateway)
        }
    }
}

/// Says no to a locked client. Those that are dropped or reset come here only where no kernel
/// program holds them off.
async fn hold_off(stream: TcpStream, lock: &Lock, settings: &Settings) -> Ending {
    match lock.action {
        LockAction::Reject => {
            let refusal = Refusal::Locked { for_ever: lock.until.is_none() };
            Box::pin(linger::say_and_close(stream, &refusal.reply(&settings.rules.voice))).await;
            Ending::of("reject", SessionEnd::Locked)
        }
        LockAction::Drop | LockAction::Reset => {
            reset(&stream);
            Ending::of("block", SessionEnd::Locked)
        }
    }
}

fn local_time() -> jiff::civil::Time {
    let wall = jiff::Timestamp::try_from(clock::wall()).unwrap_or_default();
    wall.to_zoned(jiff::tz::TimeZone::system()).time()
}

/// Makes the closing of `stream` a reset (`socket(7)`, `SO_LINGER`).
fn reset(stream: &TcpStream) {
    let aborted: io::Result<()> = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
    if let Err(error) = aborted {
        tracing::debug!(%error, "SO_LINGER");
    }
}
