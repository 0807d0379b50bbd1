//! Where a client meant its flow to go, and who the client is.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::address::{ClientAddr, OriginalDst};
use super::identity::Identity;
use super::proxy_header::{Header, Malformed};
use crate::config::file::{Config, Network, Origin};
use crate::lookup::{Answer, Question, Unusable};

mod proxy;
mod remote;

/// Who opened a connection, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Where it comes from.
    pub client: ClientAddr,
    /// Where the client meant it to go.
    pub destination: OriginalDst,
    /// Who the client is behind an address that many share.
    pub identity: Option<Identity>,
}

/// Why the destination is not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket does not say.
    #[error("the socket's addresses cannot be read")]
    Socket(#[from] io::Error),
    /// Nobody redirected the flow: the client connected to the gateway itself, and relaying to
    /// the destination would be a loop.
    #[error("the flow was not redirected: it was opened to the gateway's own address {0}")]
    NotRedirected(SocketAddr),
    /// `fixed-server` is missing; `gateway check` says so too.
    #[error("no fixed-server is configured")]
    NoServer,
    /// A client that is none of `proxy-protocol.trusted`.
    #[error("{0} is not one of proxy-protocol.trusted")]
    NotTrusted(IpAddr),
    /// A proxy that does not say whom it speaks for.
    #[error("the proxy {peer}: {why}")]
    Header {
        /// The proxy.
        peer: IpAddr,
        /// What is wrong.
        #[source]
        why: Malformed,
    },
    /// A proxy that does not say in time whom it speaks for.
    #[error("the proxy {0} sent no whole header of the PROXY protocol in time")]
    NoHeader(IpAddr),
    /// A proxy that speaks for itself, where there is no server for that.
    #[error("the proxy {0} speaks for itself, and there is no fixed-server")]
    Local(IpAddr),
    /// A client that may not be asked.
    #[error("{0} is not one of lookup.routers")]
    NotRouter(IpAddr),
    /// Nobody answers.
    #[error("{0} does not answer where a flow was meant to go; does `gateway helper` run there?")]
    NoAnswer(IpAddr),
    /// What is answered is no answer.
    #[error("what {router} answers cannot be used")]
    Unusable {
        /// Who was asked.
        router: IpAddr,
        /// Why not.
        #[source]
        why: Unusable,
    },
    /// The router has not redirected the flow.
    #[error("{router} has redirected no flow of {client}")]
    Unknown {
        /// Who was asked.
        router: IpAddr,
        /// Whose flow.
        client: SocketAddr,
    },
    /// The router sends the gateway's own connections to it.
    #[error("the gateway's own connection, from {0}, came back to it")]
    Own(IpAddr),
    /// `lookup.secret` does not fit; `gateway check` says so too.
    #[error("lookup.secret does not fit lookup.format")]
    Secret,
    /// A destination that nobody can have meant.
    #[error("{0} is no destination")]
    Impossible(SocketAddr),
}

/// Whether [`find`] has to wait for others to speak.
#[must_use]
pub fn waits(config: &Config, peer: IpAddr) -> bool {
    match config.origin {
        Origin::Assign | Origin::Netfilter => false,
        Origin::Fixed | Origin::Proxy => is_trusted(config, peer),
        Origin::RemoteUdp | Origin::Remote => true,
    }
}

/// The client and the original destination of an accepted connection. `peer` has opened it, and
/// `listener` is the address of the socket that accepted it.
///
/// # Errors
///
/// [`Error`]; the connection cannot be served.
pub async fn find(
    config: &Config,
    stream: &TcpStream,
    peer: SocketAddr,
    listener: SocketAddr,
) -> Result<Arrival, Error> {
    let own = stream.local_addr()?;
    let directly = |destination| Arrival {
        client: ClientAddr::new(peer),
        destination: OriginalDst::new(destination),
        identity: None,
    };
    let fixed = || config.fixed_server.ok_or(Error::NoServer).map(directly);
    match config.origin {
        // The kernel program left the packet's addresses alone: the local one is the server's.
        Origin::Assign => unless(own, listener).map(directly),
        Origin::Netfilter => unless(redirected(stream)?, own).map(directly),
        Origin::Fixed | Origin::Proxy if is_trusted(config, peer.ip()) => {
            match proxy::receive(stream, peer.ip(), config.proxy_protocol.deadline.duration()).await? {
                Header::Local if config.fixed_server.is_none() => Err(Error::Local(peer.ip())),
                Header::Local => fixed(),
                Header::Proxied { source, destination } => {
                    let fixed = config.fixed_server.filter(|_| config.origin == Origin::Fixed);
                    let destination = fixed.map_or_else(|| possible(config, destination), Ok)?;
                    Ok(Arrival { client: ClientAddr::new(source), ..directly(destination) })
                }
            }
        }
        Origin::Fixed => fixed(),
        Origin::Proxy => Err(Error::NotTrusted(peer.ip())),
        Origin::RemoteUdp | Origin::Remote => ask(config, directly(own)).await,
    }
}

/// Asks the router about a flow that has come to the gateway's own address.
async fn ask(config: &Config, arrival: Arrival) -> Result<Arrival, Error> {
    let (client, own) = (arrival.client.socket(), arrival.destination.socket());
    let lookup = &config.lookup;
    let router = match lookup.server {
        Some(router) => router,
        None if lookup.routers.is_empty() || contains(&lookup.routers, client.ip()) => client.ip(),
        None => return Err(Error::NotRouter(client.ip())),
    };
    let question = Question { client, gateway: own };
    let answer = if config.origin == Origin::Remote {
        remote::by_line(lookup, router, question).await?
    } else {
        remote::by_datagram(lookup, router, question).await?
    };
    let Answer::Found { destination, identity } = answer else {
        return Err(Error::Unknown { router, client });
    };
    // Behind an address of the router's own, the gateway itself may have opened it.
    let opener = identity.as_ref().and_then(|identity| identity.as_str().parse().ok());
    if let Some(opener) = opener
        && is_own(opener)?
    {
        return Err(Error::Own(opener));
    }
    let destination = possible(config, destination)?;
    if destination.ip().is_loopback() {
        return Err(Error::Impossible(destination));
    }
    Ok(Arrival { destination: OriginalDst::new(destination), identity, ..arrival })
}

fn is_trusted(config: &Config, peer: IpAddr) -> bool {
    contains(&config.proxy_protocol.trusted, peer)
}

/// Whether any of `networks` has this address.
fn contains(networks: &[Network], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.0.contains(&address))
}

/// The destination, unless it is the gateway's own address: relaying to that would be a loop.
fn unless(destination: SocketAddr, own: SocketAddr) -> Result<SocketAddr, Error> {
    let is_own = OriginalDst::new(destination) == OriginalDst::new(own);
    if is_own { Err(Error::NotRedirected(destination)) } else { Ok(destination) }
}

/// The destination, as another machine tells it, unless nobody can have meant it or it is one of
/// the gateway's own listeners.
fn possible(config: &Config, destination: SocketAddr) -> Result<SocketAddr, Error> {
    let address = destination.ip().to_canonical();
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if destination.port() == 0 || address.is_unspecified() || address.is_multicast() || broadcast {
        return Err(Error::Impossible(destination));
    }
    let is_listener = config.listen.iter().any(|listener| listener.port() == destination.port());
    if is_listener && is_own(address)? { Err(Error::NotRedirected(destination)) } else { Ok(destination) }
}

/// Whether this machine has the address.
fn is_own(address: IpAddr) -> io::Result<bool> {
    let own = getifaddrs()?.filter_map(|interface| interface.address);
    let mut own = own.filter_map(|own| match (own.as_sockaddr_in(), own.as_sockaddr_in6()) {
        (Some(own), _) => Some(IpAddr::V4(own.ip())),
        (_, own) => own.map(|own| IpAddr::V6(own.ip())),
    });
    Ok(address.is_loopback() || own.any(|own| own == address))
}

/// `SO_ORIGINAL_DST` (netfilter's `nf_conntrack_l3proto_ipv4.c`) and its IPv6 twin.
fn redirected(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let address = match stream.local_addr()? {
        SocketAddr::V6(local) if local.ip().to_ipv4_mapped().is_none() => socket.original_dst_v6()?,
        SocketAddr::V4(_) | SocketAddr::V6(_) => socket.original_dst_v4()?,
    };
    address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}
