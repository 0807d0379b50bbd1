//! From an accepted connection to the flow that it is.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::Context;
use crate::clock;
use crate::config::Config;
use crate::config::file::{Origin, SourceAddress};
use crate::intercept::flow::{Flow, SessionId};
use crate::intercept::origin;
use crate::telemetry::Trouble;

/// Connections whose destination is asked for at the same time. Each has a deadline of its own, and
/// is no session before.
pub const ARRIVING: usize = 1024;

/// Why there is no flow.
pub(super) enum Lost {
    /// Too many connections wait for their destinations.
    Full,
    /// The destination is not known; told already.
    Unknown,
}

/// Finds out who the client is and where it wants to go.
pub(super) async fn flow(
    stream: &TcpStream,
    peer: SocketAddr,
    listener: SocketAddr,
    config: &Config,
    context: &Context,
) -> Result<Flow, Lost> {
    let waits = origin::waits(config, peer.ip());
    let place = waits.then(|| context.arriving.try_acquire()).transpose().map_err(|_| Lost::Full)?;
    let arrival = origin::find(config, stream, peer, listener).await.map_err(|error| {
        context.telemetry.trouble(Trouble::Destination, || error.to_string());
        Lost::Unknown
    })?;
    drop(place);
    if may_come_back(config) && context.table.is_own(arrival.client) {
        let told = || format!("the gateway's own connection to {} came back to it", arrival.destination);
        context.telemetry.trouble(Trouble::Destination, told);
        return Err(Lost::Unknown);
    }
    let flow = Flow::new(SessionId::next(clock::wall()), arrival.client, arrival.destination);
    Ok(Flow { identity: arrival.identity, ..flow })
}

/// Whether another machine may send the gateway's connections back to it. Where servers see clients'
/// addresses, a client may have the same address as such a connection.
fn may_come_back(config: &Config) -> bool {
    let others = match config.origin {
        Origin::Assign | Origin::Netfilter => false,
        Origin::Fixed | Origin::Proxy => true,
    };
    others && config.source_address != SourceAddress::Preserve
}
