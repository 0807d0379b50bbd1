//! Sessions whose octets pass unread.

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::table::{OpenSession, Stage};
use super::{Context, Ending, Settings, linger, preamble, reset, upstream};
use crate::handoff::{Ended, Side};
use crate::intercept::address::{LocalAddr, UpstreamAddr};
use crate::ipc::flow::Upstream;
use crate::outcome::{Conduct, SessionEnd};
use crate::telemetry::Counter;

/// What was before the octets of a session passed unread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    /// What its lane is called from here on.
    lane: &'static str,
    conduct: Conduct,
}

impl Past {
    fn of(lane: &'static str) -> Self {
        Self { lane, conduct: Conduct::default() }
    }

    /// It was inspected.
    pub(super) const fn inspected(conduct: Conduct) -> Self {
        Self { lane: "splice", conduct }
    }

    fn ending(self, end: SessionEnd) -> Ending {
        Ending { conduct: self.conduct, ..Ending::of(self.lane, end) }
    }
}

/// Forwards a flow of the bypass lane that the kernel left to the proxy.
pub(super) async fn bypass(
    client: TcpStream,
    live: &OpenSession,
    settings: &Settings,
    context: &Context,
) -> Ending {
    let flow = live.flow();
    let connecting = upstream::connect(live, settings, &context.direct);
    let connected = timeout(settings.config.timeouts.connect.duration(), connecting).await;
    let server = match connected.unwrap_or_else(|late| Err(late.into())) {
        Ok(server) => server,
        Err(error) => {
            let refusal = upstream::failed(&error, flow, context);
            linger::say_and_close(client, &refusal.reply(&settings.rules.voice)).await;
            return Ending::of("bypass", SessionEnd::Connect);
        }
    };
    carry(client, server, live, Past::of("bypass"), settings, context).await
}

/// Moves octets both ways until the session is over.
pub(super) async fn carry(
    client: TcpStream,
    server: TcpStream,
    live: &OpenSession,
    past: Past,
    settings: &Settings,
    context: &Context,
) -> Ending {
    live.set_stage(Stage::Splice);
    if let Some(facts) = context.facts.unread(live.flow().client, live.flow().destination).await {
        live.noted().set(Some(facts));
    }
    context.telemetry.count(Counter::Splice);
    let count = |side, octets| count(live, context, side, octets);
    let stopped = stopped(live, context);
    let idle = settings.config.timeouts.idle.duration();
    let upstream = ends(&server).filter(|_| settings.config.splice.engine.hands_off());
    if let Some(upstream) = upstream {
        context.direct.expect(live, past.lane, past.conduct, upstream);
    }
    let engine = settings.config.splice.engine;
    let carried = context.handoff.carry(client, server, engine, idle, count, stopped).await;
    if matches!(carried.ended, Ended::HandedOff) {
        let engine = Some(carried.engine);
        return Ending { upstream, engine, ..past.ending(SessionEnd::Client) };
    }
    if let Some(upstream) = upstream {
        context.direct.release(live, upstream);
    }
    let end = match carried.ended {
        Ended::Closed { first: Side::Client } | Ended::Broken { side: Side::Client, .. } => {
            SessionEnd::Client
        }
        Ended::Closed { first: Side::Server } | Ended::Broken { side: Side::Server, .. } => {
            SessionEnd::Server
        }
        Ended::Idle => SessionEnd::Timeout,
        Ended::HandedOff | Ended::Stopped => who_stopped(live, context),
    };
    Ending { engine: Some(carried.engine), ..past.ending(end) }
}

/// Both ends of a connection.
fn ends(server: &TcpStream) -> Option<Upstream> {
    Some((LocalAddr::new(server.local_addr().ok()?), UpstreamAddr::new(server.peer_addr().ok()?)))
}

/// Carries a session on that has turned to TLS, and notes what the client says of itself.
pub(super) async fn after_starttls(
    client: TcpStream,
    server: TcpStream,
    live: &OpenSession,
    past: Past,
    settings: &Settings,
    context: &Context,
) -> Ending {
    live.set_stage(Stage::Splice);
    let idle = settings.config.timeouts.idle.duration();
    let count = |octets| count(live, context, Side::Client, octets);
    let hello = tokio::select! {
        hello = preamble::pass(&client, &server, idle, count) => hello,
        () = stopped(live, context) => {
            reset(&client);
            reset(&server);
            return past.ending(who_stopped(live, context));
        }
    };
    match hello {
        Ok(facts) => {
            if let Some(facts) = facts {
                live.set_tls(facts);
            }
            carry(client, server, live, past, settings, context).await
        }
        Err(end) => past.ending(end),
    }
}

fn count(live: &OpenSession, context: &Context, side: Side, octets: u64) {
    match side {
        Side::Client => {
            live.add_from_client(octets);
            context.telemetry.add(Counter::ClientOctets, octets);
        }
        Side::Server => {
            live.add_from_server(octets);
            context.telemetry.add(Counter::ServerOctets, octets);
        }
    }
}

/// Returns when an operator ends the session, or the gateway stops.
async fn stopped(live: &OpenSession, context: &Context) {
    let mut stop = context.stop.clone();
    tokio::select! {
        () = live.ended_by_operator() => {}
        // The sender goes away with the daemon, which is a stop as well.
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

fn who_stopped(live: &OpenSession, context: &Context) -> SessionEnd {
    let is_stopping = *context.stop.borrow();
    match (is_stopping, live.is_limited()) {
        (true, _) => SessionEnd::Shutdown,
        (false, true) => SessionEnd::Gateway,
        (false, false) => SessionEnd::Operator,
    }
}
