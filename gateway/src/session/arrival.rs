//! From an accepted connection to the flow that it is.

use std::error::Error as _;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::{Context, upstream};
use crate::clock;
use crate::config::Config;
use crate::config::file::{Origin, SourceAddress};
use crate::intercept::flow::{Flow, SessionId};
use crate::intercept::origin;
use crate::smtp::refusal::Refusal;
use crate::telemetry::Trouble;

/// Connections whose destination is asked for at the same time. Each has a deadline of its own, and
/// is no session before.
pub const ARRIVING: usize = 1024;

/// Why there is no flow.
pub(super) enum Lost {
    /// Too many connections wait for their destinations.
    Full,
    /// The destination is not known; told already. The client is told too where it can come back.
    Unknown(Option<Refusal>),
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
        context.telemetry.trouble(Trouble::Destination, || told(&error));
        Lost::Unknown(refusal(&error))
    })?;
    drop(place);
    if may_come_back(config) && context.table.is_own(arrival.client) {
        let told = || format!("the gateway's own connection to {} came back to it", arrival.destination);
        context.telemetry.trouble(Trouble::Destination, told);
        return Err(Lost::Unknown(None));
    }
    let flow = Flow::new(SessionId::next(clock::wall()), arrival.client, arrival.destination);
    Ok(Flow { identity: arrival.identity, listener: Some(listener), ..flow })
}

/// The error and its cause.
fn told(error: &origin::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// What the client is told where another machine does not know its destination. All others are cut
/// off: nobody has redirected them, or they speak another protocol.
fn refusal(error: &origin::Error) -> Option<Refusal> {
    match error {
        origin::Error::NoAnswer(_) => Some(Refusal::LookupTimeout),
        origin::Error::Unusable { .. } => Some(Refusal::LookupMismatch),
        origin::Error::Unknown { .. } | origin::Error::Secret => Some(Refusal::LookupFailed),
        origin::Error::Impossible(_) => Some(Refusal::MalformedDestination),
        origin::Error::Socket(error) if upstream::is_shortage(error) => Some(Refusal::Shortage),
        origin::Error::Socket(_)
        | origin::Error::NotRedirected(_)
        | origin::Error::NoServer
        | origin::Error::NotTrusted(_)
        | origin::Error::Header { .. }
        | origin::Error::NoHeader(_)
        | origin::Error::Local(_)
        | origin::Error::NotRouter(_)
        | origin::Error::Own(_) => None,
    }
}

/// Whether another machine, or a rule of netfilter on this one, may send the gateway's connections back to it. Where servers see clients'
/// addresses, a client may have the same address as such a connection.
pub(super) fn may_come_back(config: &Config) -> bool {
    // The kernel program knows its own by their mark.
    config.origin != Origin::Assign && config.source_address != SourceAddress::Preserve
}
