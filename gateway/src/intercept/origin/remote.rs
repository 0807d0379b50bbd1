//! Asking another machine where a flow was meant to go: `origin: remote-udp`, `origin: remote`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

use super::Error;
use crate::clock;
use crate::config::file::Lookup;
use crate::lookup::{Answer, Nonce, Question, Wire, ident};

/// More than any datagram that is an answer.
const DATAGRAM: usize = 512;

/// Asks by datagrams, `lookup.tries` times at most.
pub(super) async fn by_datagram(
    lookup: &Lookup,
    router: IpAddr,
    question: Question,
) -> Result<Answer, Error> {
    let wire = Wire::of(lookup).ok_or(Error::Secret)?;
    let socket = UdpSocket::bind(any(router)).await?;
    // The kernel passes on nothing that comes from elsewhere.
    socket.connect(SocketAddr::new(router, lookup.port)).await?;
    let mut nonces = Vec::new();
    let mut unusable = None;
    for _ in 0..lookup.tries.max(1) {
        let nonce = nonce()?;
        nonces.push(nonce);
        let datagram =
            wire.ask(question, nonce, clock::wall_millis()).map_err(|why| Error::Unusable { router, why })?;
        let deadline = deadline(lookup.deadline.duration());
        // Whoever refuses it now may be there in a moment: the answer is waited for all the same.
        socket.send(&datagram).await.ok();
        match timeout_at(deadline, answer(&socket, &wire, question, &nonces, &mut unusable)).await {
            Ok(answer) => return Ok(answer),
            Err(_) => continue,
        }
    }
    Err(unusable.map_or(Error::NoAnswer(router), |why| Error::Unusable { router, why }))
}

/// The next usable answer.
async fn answer(
    socket: &UdpSocket,
    wire: &Wire,
    question: Question,
    nonces: &[Nonce],
    unusable: &mut Option<crate::lookup::Unusable>,
) -> Answer {
    let mut room = [0; DATAGRAM];
    loop {
        match socket.recv(&mut room).await {
            Ok(length) => match wire.answered(room.get(..length).unwrap_or_default(), question, nonces) {
                Ok(answer) => return answer,
                Err(why) => *unusable = Some(why),
            },
            // An ICMP error, once for each question.
            Err(error) => tracing::debug!(%error, "lookup"),
        }
    }
}

/// Asks by a line of the ident protocol.
pub(super) async fn by_line(lookup: &Lookup, router: IpAddr, question: Question) -> Result<Answer, Error> {
    let line = timeout(lookup.deadline.duration(), line(lookup.port, router, question)).await;
    let line = line.map_err(|_| Error::NoAnswer(router))?.map_err(|error| {
        tracing::debug!(%error, %router, "lookup");
        Error::NoAnswer(router)
    })?;
    ident::answered(&line, question).map_err(|why| Error::Unusable { router, why })
}

async fn line(port: u16, router: IpAddr, question: Question) -> io::Result<Vec<u8>> {
    let socket = if router.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // The addresses of this connection are part of the question (RFC 1413 section 3).
    socket.bind(SocketAddr::new(question.gateway.ip(), 0))?;
    let mut stream = BufReader::new(socket.connect(SocketAddr::new(router, port)).await?);
    stream.write_all(ident::ask(question).as_bytes()).await?;
    let mut line = Vec::new();
    stream.take(ident::LONGEST).read_until(b'\n', &mut line).await?;
    Ok(line)
}

const fn any(address: IpAddr) -> SocketAddr {
    match address {
        IpAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        IpAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}

fn nonce() -> io::Result<Nonce> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).map_err(io::Error::other)?;
    Ok(Nonce(octets))
}

fn deadline(after: Duration) -> Instant {
    let now = Instant::from_std(clock::now());
    now.checked_add(after).unwrap_or(now)
}
