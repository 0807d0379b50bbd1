//! The connection to the server.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

use super::direct::Direct;
use super::table::OpenSession;
use super::{Context, Settings, arrival};
use crate::config::file::{Origin, SourceAddress};
use crate::intercept::address::{LocalAddr, UpstreamAddr};
use crate::intercept::flow::Flow;
use crate::policy::source::{self, Source};
use crate::smtp::refusal::Refusal;
use crate::telemetry::Trouble;

/// Ports that are tried for one connection. The system knows nothing of those that flows in the
/// kernel still use.
const PORTS_TRIED: usize = 32;

/// Connects to the flow's destination, from the address that the operator wants.
///
/// # Errors
///
/// What the kernel says, with the address that could not be used.
pub(super) async fn connect(
    live: &OpenSession,
    settings: &Settings,
    direct: &Direct,
) -> io::Result<TcpStream> {
    for _ in 0..PORTS_TRIED {
        let (socket, server) = begin(live.flow(), settings)?;
        let may_come_back = arrival::may_come_back(&settings.config);
        // Most often nobody has to know its own end.
        if (may_come_back || !direct.is_empty())
            && let Some(local) = socket.local_addr()?.as_socket().map(LocalAddr::new)
        {
            if direct.takes((local, UpstreamAddr::new(server))) {
                // Its first packet went nowhere: the kernel program keeps it from a flow it carries.
                continue;
            }
            if may_come_back {
                live.connects_from(local);
            }
        }
        let stream = TcpStream::from_std(socket.into())?;
        stream.writable().await?;
        return stream.take_error()?.map_or(Ok(stream), Err);
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port was found"))
}

/// Takes note that there is no connection to the server, and says what the client is told.
pub(super) fn failed(error: &io::Error, flow: &Flow, context: &Context) -> Refusal {
    if is_shortage(error) {
        context.telemetry.trouble(Trouble::Internal, || format!("no socket for a session: {error}"));
        return Refusal::Shortage;
    }
    let told = || format!("{}: {error}", flow.destination);
    context.telemetry.trouble(Trouble::ServerUnreachable, told);
    context.table.connect_failed(flow.client.ip());
    Refusal::ConnectFailed
}

/// Whether this machine lacks something, and not the server: descriptors, memory, or a free port
/// (`socket(2)`, `connect(2)`).
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let lacking = error.raw_os_error().map(Errno::from_raw);
    matches!(
        lacking,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EADDRNOTAVAIL)
    ) || error.kind() == io::ErrorKind::AddrInUse
}

/// Begins to connect.
fn begin(flow: &Flow, settings: &Settings) -> io::Result<(Socket, SocketAddr)> {
    let config = &settings.config;
    let server = flow.destination.socket();
    let source = source::choose(
        config.source_address,
        config.origin,
        &config.gateway_addresses,
        flow.client,
        flow.destination,
    );
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(server), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    // The kernel program lets marked packets pass, so that no flow is steered twice. With
    // `source-address: gateway` the proxy keeps no capability, and so cannot mark; its packets
    // bear the machine's own address, and no client's interface sees them come in.
    if config.origin == Origin::Assign && config.source_address != SourceAddress::Gateway {
        socket.set_mark(config.intercept.routing.own_mark)?;
    }
    let from = match source {
        Source::Route => None,
        Source::Gateway(address) => Some(address),
        Source::Client(address) => {
            match server {
                SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
                SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
            }
            Some(address)
        }
    };
    if let Some(address) = from {
        // The port is chosen at connect, when the whole tuple is known: 28,000 connections to
        // each server instead of 28,000 in all (`ip(7)`, IP_BIND_ADDRESS_NO_PORT).
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(address, 0).into()).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot use source address {address}: {error}"))
        })?;
    }
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
        _ => Ok((socket, server)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_not_the_servers_fault() {
        let os = |errno: Errno| io::Error::from_raw_os_error(errno as i32);
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EADDRNOTAVAIL] {
            assert!(is_shortage(&os(errno)), "{errno}");
        }
        for errno in [Errno::ECONNREFUSED, Errno::EHOSTUNREACH, Errno::ENETUNREACH, Errno::ETIMEDOUT] {
            assert!(!is_shortage(&os(errno)), "{errno}");
        }
    }
}
