//! `gateway helper`: the router that redirects flows to a gateway tells it where they were meant to
//! go.
//!
//! Owns who may ask and what is answered. It asks the kernel's connection tracking and changes
//! nothing; of the machine's power it keeps what that takes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::config::file::{Config, Network};
use crate::intercept::identity::Identity;
use crate::lookup::replay::{self, Recent};
use crate::lookup::{Answer, Question, Unusable, Wire, ident};
use crate::telemetry::{Telemetry, Trouble};

mod conntrack;

use conntrack::{Conntrack, Opened};

/// Connections of the ident protocol at the same time.
const CONNECTIONS: usize = 64;
/// How long one of them may last.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any datagram that is a question.
const DATAGRAM: usize = 512;
/// Pause after the kernel could not receive or accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Why the helper cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `helper.listen` is empty.
    #[error("`helper.listen` names no address to answer at; write for example `[192.0.2.1:114]`")]
    Nowhere,
    /// The secret does not fit the format.
    #[error("`lookup.secret` is no secret for `lookup.format`; `gateway check` says what is")]
    Secret,
    /// A change that a running one cannot take.
    #[error("`{0}` takes effect at start only: restart the helper for it; nothing has changed")]
    NeedsRestart(&'static str),
    /// A socket.
    #[error("cannot answer at {address}")]
    Socket {
        /// Its address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel's table of connections.
    #[error("cannot ask the kernel's connection tracking; it takes CAP_NET_ADMIN")]
    Conntrack(#[source] io::Error),
}

/// The sockets, made while the process still may.
#[derive(Debug)]
pub struct Sockets {
    datagrams: Vec<std::net::UdpSocket>,
    lines: Vec<std::net::TcpListener>,
}

impl Sockets {
    /// Opens all that `config` names.
    ///
    /// # Errors
    ///
    /// [`Error::Nowhere`], [`Error::Socket`].
    pub fn open(config: &Config) -> Result<Self, Error> {
        let listen = &config.helper.listen;
        if listen.is_empty() {
            return Err(Error::Nowhere);
        }
        let failed = |address: &SocketAddr| {
            let address = *address;
            move |source| Error::Socket { address, source }
        };
        let datagrams = listen.iter().map(|address| {
            let socket = std::net::UdpSocket::bind(address).map_err(failed(address))?;
            socket.set_nonblocking(true).map_err(failed(address))?;
            Ok(socket)
        });
        let lines = listen.iter().filter(|_| config.helper.ident).map(|address| {
            let listener = std::net::TcpListener::bind(address).map_err(failed(address))?;
            listener.set_nonblocking(true).map_err(failed(address))?;
            Ok(listener)
        });
        Ok(Self { datagrams: datagrams.collect::<Result<_, _>>()?, lines: lines.collect::<Result<_, _>>()? })
    }
}

/// What the configuration says of questions.
#[derive(Debug)]
struct Rules {
    wire: Wire,
    allow: Vec<Network>,
}

impl Rules {
    fn of(config: &Config) -> Result<Self, Error> {
        let wire = Wire::of(&config.lookup).ok_or(Error::Secret)?;
        Ok(Self { wire, allow: config.helper.allow.clone() })
    }
}

/// Answers gateways.
#[derive(Debug)]
pub struct Helper {
    rules: ArcSwap<Rules>,
    /// What it was started with and a running one keeps.
    fixed: Fixed,
    recent: Mutex<Recent>,
    conntrack: Mutex<Conntrack>,
    telemetry: Arc<Telemetry>,
    connections: Semaphore,
}

/// Why a question is not answered.
#[derive(Debug, thiserror::Error)]
enum Silence {
    #[error("not in helper.allow")]
    Stranger,
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error(transparent)]
    Replay(#[from] replay::Refused),
    #[error("the kernel's table of connections")]
    Conntrack(#[source] io::Error),
    #[error("the connection")]
    Connection(#[from] io::Error),
    #[error("no question in time")]
    Late,
}

/// What sockets and the account were made from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fixed {
    listen: Vec<SocketAddr>,
    ident: bool,
    user: String,
}

impl Fixed {
    fn of(config: &Config) -> Self {
        let crate::config::file::Helper { listen, allow: _, ident } = &config.helper;
        Self { listen: listen.clone(), ident: *ident, user: config.user.clone() }
    }

    /// The first key in which `new` differs.
    fn change(&self, new: &Self) -> Option<&'static str> {
        let Self { listen, ident, user } = self;
        let changes = [
            ("helper.listen", *listen != new.listen),
            ("helper.ident", *ident != new.ident),
            ("user", *user != new.user),
        ];
        changes.into_iter().find(|(_, changed)| *changed).map(|(key, _)| key)
    }
}

impl Helper {
    /// One that answers as `config` says.
    ///
    /// # Errors
    ///
    /// [`Error::Secret`], [`Error::Conntrack`].
    pub fn new(config: &Config, telemetry: Arc<Telemetry>) -> Result<Self, Error> {
        let mut conntrack = Conntrack::open().map_err(Error::Conntrack)?;
        // A gateway's question must not be the first that the kernel refuses.
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        conntrack.find(Question { client: nobody, gateway: nobody }).map_err(Error::Conntrack)?;
        Ok(Self {
            rules: ArcSwap::from_pointee(Rules::of(config)?),
            fixed: Fixed::of(config),
            recent: Mutex::new(Recent::new(clock::now())),
            conntrack: Mutex::new(conntrack),
            telemetry,
            connections: Semaphore::new(CONNECTIONS),
        })
    }

    /// From here on `config` holds. What was answered before is not answered again: recordings are
    /// remembered.
    ///
    /// # Errors
    ///
    /// [`Error::NeedsRestart`], [`Error::Secret`]: then all is as it was.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        if let Some(key) = self.fixed.change(&Fixed::of(config)) {
            return Err(Error::NeedsRestart(key));
        }
        self.rules.store(Arc::new(Rules::of(config)?));
        Ok(())
    }

    /// Answers until the task is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`], at the start.
    pub async fn serve(self: Arc<Self>, sockets: Sockets) -> Result<(), Error> {
        let mut serving = JoinSet::new();
        let listen = &self.fixed.listen;
        for (socket, address) in sockets.datagrams.into_iter().zip(listen) {
            let socket =
                UdpSocket::from_std(socket).map_err(|source| Error::Socket { address: *address, source })?;
            serving.spawn(datagrams(socket, Arc::clone(&self)));
        }
        for (listener, address) in sockets.lines.into_iter().zip(listen) {
            let listener = TcpListener::from_std(listener)
                .map_err(|source| Error::Socket { address: *address, source })?;
            serving.spawn(lines(listener, Arc::clone(&self)));
        }
        let at: Vec<_> = listen.iter().map(ToString::to_string).collect();
        tracing::info!(at = at.join(" "), ident = self.fixed.ident, "answering");
        serving.join_all().await;
        Ok(())
    }
}

async fn datagrams(socket: UdpSocket, helper: Arc<Helper>) {
    let mut room = [0; DATAGRAM];
    loop {
        let (length, asker) = match socket.recv_from(&mut room).await {
            Ok(received) => received,
            Err(error) => {
                helper.telemetry.trouble(Trouble::Internal, || format!("receive: {error}"));
                sleep(PAUSE).await;
                continue;
            }
        };
        match helper.datagram(asker.ip(), room.get(..length).unwrap_or_default()) {
            // A full queue loses it, and the gateway asks again.
            Ok(answer) => drop(socket.try_send_to(&answer, asker)),
            Err(why) => helper.tell(asker.ip(), &why),
        }
    }
}

async fn lines(listener: TcpListener, helper: Arc<Helper>) {
    loop {
        match listener.accept().await {
            Ok((stream, asker)) => {
                let helper = Arc::clone(&helper);
                tokio::spawn(async move {
                    let Ok(_place) = helper.connections.try_acquire() else { return };
                    let answered = timeout(PATIENCE, helper.line(stream, asker)).await;
                    if let Err(why) = answered.unwrap_or(Err(Silence::Late)) {
                        helper.tell(asker.ip(), &why);
                    }
                });
            }
            Err(error) => {
                helper.telemetry.trouble(Trouble::Internal, || format!("accept: {error}"));
                sleep(PAUSE).await;
            }
        }
    }
}

impl Helper {
    fn admit(&self, asker: IpAddr) -> Result<(), Silence> {
        let asker = asker.to_canonical();
        let allowed = self.rules.load().allow.iter().any(|network| network.0.contains(&asker));
        if allowed { Ok(()) } else { Err(Silence::Stranger) }
    }

    fn tell(&self, asker: IpAddr, why: &Silence) {
        self.telemetry.trouble(Trouble::Destination, || format!("{asker}: {why}"));
    }

    /// The datagram that answers `datagram`.
    fn datagram(&self, asker: IpAddr, datagram: &[u8]) -> Result<Vec<u8>, Silence> {
        self.admit(asker)?;
        let rules = self.rules.load();
        let asked = rules.wire.asked(datagram)?;
        let wall = clock::wall_millis();
        if let Some(sent) = asked.sent {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.take(asked.nonce, sent, wall, clock::now())?;
        }
        let answer = answer(asker, asked.question, self.find(asked.question)?);
        Ok(rules.wire.answer(&asked, &answer, wall)?)
    }

    /// Answers the line on a connection: the addresses asked about are its own.
    async fn line(&self, stream: TcpStream, asker: SocketAddr) -> Result<(), Silence> {
        self.admit(asker.ip())?;
        let own = stream.local_addr()?;
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        (&mut stream).take(ident::LONGEST).read_until(b'\n', &mut line).await?;
        let (client, gateway) = ident::asked(&line)?;
        let question = Question {
            client: SocketAddr::new(own.ip().to_canonical(), client),
            gateway: SocketAddr::new(asker.ip().to_canonical(), gateway),
        };
        let answer = answer(asker.ip(), question, self.find(question)?);
        stream.write_all(ident::answer(question, &answer).as_bytes()).await?;
        Ok(stream.shutdown().await?)
    }

    fn find(&self, question: Question) -> Result<Option<Opened>, Silence> {
        let mut conntrack = self.conntrack.lock().unwrap_or_else(PoisonError::into_inner);
        conntrack.find(question).map_err(Silence::Conntrack)
    }
}

/// What a gateway is told. A flow that it opened itself, or that was opened to it, is none that was
/// redirected: to relay it would be a loop.
fn answer(asker: IpAddr, question: Question, opened: Option<Opened>) -> Answer {
    let Some(opened) = opened else { return Answer::Unknown };
    let own = [question.gateway.ip(), asker.to_canonical()].contains(&opened.client.ip());
    if own || opened.destination == question.gateway {
        return Answer::Unknown;
    }
    let hidden = opened.client.ip() != question.client.ip();
    let identity = hidden.then(|| Identity::new(opened.client.ip().to_string().as_bytes())).flatten();
    Answer::Found { destination: opened.destination, identity }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "10.0.0.7:1025";
    const SERVER: &str = "203.0.113.9:25";

    fn told(seen: &str, opened: Option<(&str, &str)>) -> Answer {
        let question =
            Question { client: seen.parse().unwrap(), gateway: "198.51.100.3:10025".parse().unwrap() };
        let opened = opened.map(|(client, destination)| Opened {
            client: client.parse().unwrap(),
            destination: destination.parse().unwrap(),
        });
        answer("198.51.100.2".parse().unwrap(), question, opened)
    }

    #[test]
    fn a_client_behind_the_router_has_its_own_address_for_an_identity() {
        let destination = SERVER.parse().unwrap();
        let identity = Identity::new(b"10.0.0.7");
        assert_eq!(told("192.0.2.1:40000", Some((CLIENT, SERVER))), Answer::Found { destination, identity });
        assert_eq!(told(CLIENT, Some((CLIENT, SERVER))), Answer::Found { destination, identity: None });
    }

    #[test]
    fn what_nobody_redirected_is_unknown() {
        assert_eq!(told("192.0.2.1:40000", None), Answer::Unknown);
        assert_eq!(told(CLIENT, Some((CLIENT, "198.51.100.3:10025"))), Answer::Unknown);
        // The gateway's own, from the address of its listener or the one that it asks from.
        for own in ["198.51.100.3:50000", "198.51.100.2:50000"] {
            assert_eq!(told("192.0.2.1:40000", Some((own, SERVER))), Answer::Unknown);
        }
    }
}
