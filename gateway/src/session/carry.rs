//! Sessions whose octets pass unread.

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::table::{OpenSession, Stage};
use super::{Context, Ending, Settings, linger, upstream};
use crate::handoff::{Ended, Side};
use crate::outcome::SessionEnd;
use crate::smtp::refusal::Refusal;
use crate::telemetry::{Counter, Trouble};

/// Forwards a flow of the bypass lane that the kernel left to the proxy.
pub(super) async fn bypass(
    client: TcpStream,
    live: &OpenSession,
    settings: &Settings,
    context: &Context,
) -> Ending {
    let flow = live.flow();
    let connecting = upstream::connect(flow, settings);
    let server = match timeout(settings.config.timeouts.connect.duration(), connecting).await {
        Ok(Ok(server)) => server,
        failed => {
            let error = failed.map_or_else(|late| late.to_string(), |tried| format!("{:?}", tried.err()));
            let told = || format!("{}: {error}", flow.destination);
            context.telemetry.trouble(Trouble::ServerUnreachable, told);
            linger::say_and_close(client, &Refusal::ConnectFailed.reply(&settings.rules.name)).await;
            return Ending::of("bypass", SessionEnd::Connect);
        }
    };
    Ending::of("bypass", carry(client, server, live, settings, context).await)
}

/// Moves octets both ways until the session is over.
pub(super) async fn carry(
    client: TcpStream,
    server: TcpStream,
    live: &OpenSession,
    settings: &Settings,
    context: &Context,
) -> SessionEnd {
    live.set_stage(Stage::Splice);
    context.telemetry.count(Counter::Splice);
    let count = |side, octets| match side {
        Side::Client => {
            live.add_from_client(octets);
            context.telemetry.add(Counter::ClientOctets, octets);
        }
        Side::Server => {
            live.add_from_server(octets);
            context.telemetry.add(Counter::ServerOctets, octets);
        }
    };
    let mut stop = context.stop.clone();
    let stopped = async {
        tokio::select! {
            () = live.ended_by_operator() => {}
            // The sender goes away with the daemon, which is a stop as well.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    };
    let idle = settings.config.timeouts.idle.duration();
    let engine = settings.config.splice.engine;
    let carried = context.handoff.carry(client, server, engine, idle, count, stopped).await;
    match carried.ended {
        Ended::Closed { first: Side::Client } | Ended::Broken { side: Side::Client, .. } => {
            SessionEnd::Client
        }
        Ended::Closed { first: Side::Server } | Ended::Broken { side: Side::Server, .. } => {
            SessionEnd::Server
        }
        Ended::Idle => SessionEnd::Timeout,
        Ended::Stopped if *context.stop.borrow() => SessionEnd::Shutdown,
        Ended::Stopped => SessionEnd::Operator,
    }
}
