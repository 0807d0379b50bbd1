//! Handing two connections over to the kernel program, which renumbers what their peers send.
//!
//! Owns the order of steps that makes it safe, and the reasons why not. A connection that is
//! refused is as it was: whoever passed it goes on with it.
//!
//! | step | |
//! | --- | --- |
//! | watch | entries count packets, so that it is known that the program sees them all |
//! | look | nothing unread, nothing unacknowledged even when asked for, nothing that cannot be translated |
//! | survey | nothing that the kernel does to packets on their way, and would not do any more |
//! | freeze | the program drops the packets of both directions; TCP repairs that |
//! | wait | until every packet that was past the program has reached its socket |
//! | look again | with the sockets in repair mode, when nothing can change any more |
//! | forget | both sockets, without a word to their peers |
//! | publish | both entries |

use std::cell::LazyCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use gateway_common::flow::FlowKey;
use gateway_common::translation::{End, State, Translation};
use rustix::thread::{MembarrierCommand, membarrier};

use super::flow_table::{FlowTable, key};
use super::repair::{Connection, Facts, Taken};
use super::wrapping::{self, Policies};
use crate::clock;
pub use crate::ipc::flow::Refusal;

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        tracing::debug!(%error, "handoff");
        Self::Kernel
    }
}

impl From<super::object::Error> for Refusal {
    fn from(error: super::object::Error) -> Self {
        tracing::debug!(%error, "handoff");
        Self::Kernel
    }
}

/// How long a peer may take to answer a probe before the session is left for another time.
const PROBED: Duration = Duration::from_millis(1);

/// The two connections of a session.
#[derive(Debug)]
pub struct Pair {
    client: Connection,
    server: Connection,
    /// Under what the client's packets come in.
    up: FlowKey,
    /// Under what the server's do.
    down: FlowKey,
}

impl Pair {
    /// The connection with the client and the one with the server.
    ///
    /// # Errors
    ///
    /// One of them is no connection.
    pub fn new(client: OwnedFd, server: OwnedFd) -> Result<Self, Refusal> {
        let (client, server) = (Connection::new(client), Connection::new(server));
        let flow = |connection: &Connection| {
            let (local, peer) = connection.addresses().map_err(|_| Refusal::Ended)?;
            Ok::<_, Refusal>((plain(peer), plain(local)))
        };
        let (up, down) = (flow(&client)?, flow(&server)?);
        if up.0.is_ipv4() != down.0.is_ipv4() {
            return Err(Refusal::Family);
        }
        if up.1 != down.0 {
            return Err(Refusal::Server);
        }
        Ok(Self { client, server, up: key(up.0, up.1), down: key(down.0, down.1) })
    }

    /// Under what the client's packets come in.
    #[must_use]
    pub const fn up(&self) -> &FlowKey {
        &self.up
    }

    /// Watches it, or looks whether it can be handed off.
    fn look(&self, table: &mut FlowTable) -> Result<(), Refusal> {
        let watched = [(self.up, self.down), (self.down, self.up)].map(|(key, peer)| {
            table.find(&key).filter(|entry| entry.state() == State::Watched && entry.peer(&key) == peer)
        });
        let [Some(up), Some(down)] = watched else {
            table.set(&self.down, self.watching(false))?;
            table.set(&self.up, self.watching(true))?;
            return Err(Refusal::Unseen);
        };
        let (client, server) = (self.client.facts()?, self.server.facts()?);
        let checked = check(&client, &server);
        if checked == Err(Refusal::Busy) {
            for (connection, facts) in [(&self.client, client), (&self.server, server)] {
                if !facts.sent {
                    connection.probe()?;
                }
            }
        }
        checked?;
        if up.packets() == 0 || down.packets() == 0 {
            return Err(Refusal::Unseen);
        }
        self.client.acknowledge()?;
        self.server.acknowledge()?;
        Ok(())
    }

    fn watching(&self, from_client: bool) -> Translation {
        let peer = if from_client { self.down } else { self.up };
        Translation::watch(&peer, from_client, clock::monotonic())
    }

    /// Looks whether its packets can go past what the kernel does to others on their way.
    fn survey(&self, policies: &io::Result<Policies>) -> Result<(), Refusal> {
        let policies = policies.as_ref().map_err(|_| Refusal::Kernel)?;
        // From here to the peer of either connection.
        let legs = [&self.up, &self.down].map(|key| {
            let end = |address: [u8; 16], port| SocketAddr::new(IpAddr::from(address).to_canonical(), port);
            (end(key.server_addr(), key.server_port()), end(key.client_addr(), key.client_port()))
        });
        let [(_, client), (here, server)] = legs;
        let wrapped = legs.iter().any(|(from, to)| policies.wrap(*from, *to))
            || here.ip() != client.ip() && wrapping::by_route(here.ip(), server.ip())?;
        if wrapped { Err(Refusal::Wrapped) } else { Ok(()) }
    }

    /// Both entries as they are, or new ones.
    fn freeze(&self, table: &mut FlowTable) -> Result<(), Refusal> {
        let now = clock::monotonic();
        for (key, from_client) in [(&self.up, true), (&self.down, false)] {
            let entry = table.find(key).unwrap_or_else(|| self.watching(from_client));
            table.set(key, entry.frozen(now))?;
        }
        Ok(())
    }

    /// The packets of both directions pass again. What was counted stays: a session that says nothing
    /// more is seen all the same.
    fn thaw(up: &FlowKey, down: &FlowKey, table: &mut FlowTable) {
        for key in [up, down] {
            let watched = table.find(key).map_or(Ok(()), |entry| table.set(key, entry.watched()));
            // An entry that stays frozen would end the session: without one, it goes on.
            if let Err(error) = watched.or_else(|_| table.remove(key).map(drop)) {
                tracing::warn!(%error, "a frozen flow stays frozen");
            }
        }
    }

    /// With both directions frozen, and every packet at its socket.
    fn finish(self, table: &mut FlowTable) -> Result<(), Refusal> {
        let Self { client, server, up, down } = self;
        let finished = take_both(client, server).and_then(|taken| taken.publish(&up, &down, table));
        if finished.is_err() {
            Self::thaw(&up, &down, table);
        }
        finished
    }
}

/// IPv4 in the form of IPv6 is IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether two connections can become one.
fn check(client: &Facts, server: &Facts) -> Result<(), Refusal> {
    let refusals = [
        (!client.open || !server.open, Refusal::Ended),
        (client.timestamps != server.timestamps, Refusal::Timestamps),
        (client.sack != server.sack, Refusal::Sack),
        (client.ecn != server.ecn, Refusal::Ecn),
        (!client.sent || !server.sent || !client.read || !server.read, Refusal::Busy),
    ];
    refusals.into_iter().find_map(|(applies, refusal)| applies.then_some(Err(refusal))).unwrap_or(Ok(()))
}

/// Both connections in repair mode.
struct Both {
    client: Taken,
    server: Taken,
}

fn take_both(client: Connection, server: Connection) -> Result<Both, Refusal> {
    let client = client.take_over().map_err(|(_, error)| error)?;
    match server.take_over() {
        Ok(server) => Ok(Both { client, server }),
        Err((_, error)) => {
            client.give_back()?;
            Err(error.into())
        }
    }
}

impl Both {
    fn publish(self, up: &FlowKey, down: &FlowKey, table: &mut FlowTable) -> Result<(), Refusal> {
        let (client, server) = match self.look() {
            Ok(ends) => ends,
            Err(refusal) => {
                let (client, server) = (self.client.give_back(), self.server.give_back());
                client.and(server)?;
                return Err(refusal);
            }
        };
        // From here on there is no way back. A socket that cannot be forgotten is so with its
        // last descriptor; until then it is in repair mode and silent, and the program drops its end.
        for forgotten in [self.client.forget(), self.server.forget()] {
            if let Err(error) = forgotten {
                tracing::debug!(%error, "a socket that was handed off");
            }
        }
        let now = clock::monotonic();
        table.set(down, Translation::watch(up, false, now).forwarding(&server, &client))?;
        table.set(up, Translation::watch(down, true, now).forwarding(&client, &server))?;
        Ok(())
    }

    fn look(&self) -> Result<(End, End), Refusal> {
        let (client, server) = (self.client.facts()?, self.server.facts()?);
        check(&client, &server)?;
        // Each peer was told by the gateway how large its segments may be, and from here on they
        // go to the other peer.
        if client.announced_segment > self.server.peer_segment()?
            || server.announced_segment > self.client.peer_segment()?
        {
            return Err(Refusal::Segment);
        }
        Ok((self.client.end(&client)?, self.server.end(&server)?))
    }
}

/// Hands off as many of these as can be; an answer for each, in their order.
pub fn hand_off(
    pairs: impl IntoIterator<Item = Result<Pair, Refusal>>,
    table: &mut FlowTable,
) -> Vec<Result<(), Refusal>> {
    let mut looked: Vec<(Result<Pair, Refusal>, Result<(), Refusal>)> = pairs
        .into_iter()
        .map(|pair| {
            let answer = pair.as_ref().map_or_else(|refusal| Err(*refusal), |pair| pair.look(table));
            (pair, answer)
        })
        .collect();
    if looked.iter().any(|(_, answer)| *answer == Err(Refusal::Busy)) {
        // Those were probed, and peers that are near have answered by then.
        std::thread::sleep(PROBED);
        for (pair, answer) in &mut looked {
            if let (Ok(pair), Err(Refusal::Busy)) = (pair, &answer) {
                *answer = pair.look(table);
            }
        }
    }
    let policies = LazyCell::new(|| {
        let policies = Policies::read();
        if let Err(error) = &policies {
            tracing::debug!(%error, "policies of IPsec");
        }
        policies
    });
    let frozen: Vec<Result<Pair, Refusal>> = looked
        .into_iter()
        .map(|(pair, answer)| {
            let pair = pair?;
            answer?;
            pair.survey(&policies)?;
            if let Err(refusal) = pair.freeze(table) {
                Pair::thaw(&pair.up, &pair.down, table);
                return Err(refusal);
            }
            Ok(pair)
        })
        .collect();
    let waited = if frozen.iter().any(Result::is_ok) { wait() } else { Ok(()) };
    frozen
        .into_iter()
        .map(|pair| {
            let pair = pair?;
            if waited.is_err() {
                Pair::thaw(&pair.up, &pair.down, table);
                return Err(Refusal::Unavailable);
            }
            pair.finish(table)
        })
        .collect()
}

/// Waits until every packet that passed the program before this call has reached its socket.
///
/// A packet goes from the program to its socket, or to the backlog of a socket that is in use,
/// within one RCU read-side critical section; this membarrier(2) command waits for the end of all
/// that have begun.
fn wait() -> Result<(), Refusal> {
    membarrier(MembarrierCommand::Global).map_err(|error| {
        tracing::debug!(%error, "membarrier");
        Refusal::Unavailable
    })
}
