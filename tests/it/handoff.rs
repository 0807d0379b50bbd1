//! Sessions that the kernel carries alone: everything the kernel program does with them, on real
//! connections between a client and a server.

mod dialogue;
mod ends;
mod impaired;
mod options;
mod packets;
mod path_mtu;
mod refusals;
mod sent;
mod streams;
mod ways;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use gateway::datapath::flow_table::FlowTable;
use gateway::datapath::handoff::{self, Pair, Refusal};
use gateway::datapath::object::{Kernel, Settings};
use gateway_tests::lab::{self, Lab};
use gateway_tests::netns::Netns;
use gateway_tests::wait;
use socket2::Socket;

use crate::router::{self, OWN_MARK, listen_on_server, transparent};

const PATIENCE: Duration = Duration::from_secs(30);

/// A router with the program, and the test as its proxy.
pub(crate) struct Router<'lab> {
    pub(crate) lab: &'lab Lab,
    pub(crate) kernel: Kernel,
    pub(crate) table: FlowTable,
    pub(crate) listeners: [Socket; 2],
}

/// The four ends of a session: the client's, the gateway's two, and the server's.
pub(crate) struct Session {
    client: TcpStream,
    accepted: TcpStream,
    upstream: TcpStream,
    served: TcpStream,
}

/// The two that are left when it is handed off.
pub(crate) struct Direct {
    pub(crate) client: TcpStream,
    pub(crate) served: TcpStream,
}

pub(crate) fn on_router(work: impl FnOnce(Router<'_>) -> anyhow::Result<()> + Send) -> anyhow::Result<()> {
    on_router_with(&router::settings(), work)
}

pub(crate) fn on_router_with(
    settings: &Settings,
    work: impl FnOnce(Router<'_>) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    router::on_router(settings, |router| {
        let router::Router { lab, mut kernel, listeners } = router;
        for listener in &listeners {
            listener.set_read_timeout(Some(PATIENCE))?;
        }
        let table = kernel.flow_table().context("the table is taken")?;
        work(Router { lab, kernel, table, listeners })
    })
}

impl Router<'_> {
    /// A session whose upstream connection comes from `source`, with octets passed both ways.
    pub(crate) fn session(
        &mut self,
        server: &TcpListener,
        family: lab::Family,
        source: IpAddr,
    ) -> anyhow::Result<Session> {
        ensure!(server.local_addr()? == family.smtp());
        self.session_of(self.lab.client(), server, source)
    }

    /// The same, of a client that is elsewhere.
    fn session_of(
        &mut self,
        client: &Netns,
        server: &TcpListener,
        source: IpAddr,
    ) -> anyhow::Result<Session> {
        self.session_from(client, server, |_| SocketAddr::new(source, 0))
    }

    /// The same, whose upstream connection comes from where the client's address says.
    fn session_from(
        &mut self,
        client: &Netns,
        server: &TcpListener,
        source: impl FnOnce(SocketAddr) -> SocketAddr,
    ) -> anyhow::Result<Session> {
        let address = server.local_addr()?;
        let client = client.enter(|| TcpStream::connect_timeout(&address, PATIENCE))??;
        let (accepted, _) = self.listeners[usize::from(address.is_ipv6())].accept()?;
        let source = source(client.local_addr()?);
        let upstream = transparent(source.ip())?;
        upstream.set_mark(OWN_MARK)?;
        upstream.bind(&source.into())?;
        upstream.connect_timeout(&address.into(), PATIENCE)?;
        let (served, _) = server.accept()?;
        let session = Session { client, accepted: accepted.into(), upstream: upstream.into(), served };
        for socket in [&session.client, &session.accepted, &session.upstream, &session.served] {
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.set_nodelay(true)?;
        }
        // The first look only begins to watch.
        ensure!(self.hand_off(&session)? == Err(Refusal::Unseen));
        session.pass()?;
        Ok(session)
    }

    fn hand_off(&mut self, session: &Session) -> anyhow::Result<Result<(), Refusal>> {
        let pair = Pair::new(session.accepted.try_clone()?.into(), session.upstream.try_clone()?.into());
        let mut answers = handoff::hand_off(vec![pair], &mut self.table);
        answers.pop().context("no answer")
    }

    /// Hands a session off, at the first quiet instant.
    pub(crate) fn direct(&mut self, session: Session) -> anyhow::Result<Direct> {
        wait::until(PATIENCE, "a quiet instant", || match self.hand_off(&session)? {
            Ok(()) => Ok(Some(())),
            Err(Refusal::Busy) => Ok(None),
            Err(refusal) => bail!("refused: {refusal:?}"),
        })?;
        let Session { client, served, .. } = session;
        Ok(Direct { client, served })
    }

    pub(crate) fn count(&self, reason: &str) -> anyhow::Result<u64> {
        let counters = self.kernel.counters()?;
        let found = counters.into_iter().find(|(name, _)| *name == reason);
        found.map(|(_, count)| count).context("no such reason")
    }
}

impl Session {
    /// A word each way, through the gateway's sockets.
    fn pass(&self) -> anyhow::Result<()> {
        carry(&self.client, &self.accepted, b"from the client")?;
        carry(&self.upstream, &self.served, b"from the client")?;
        carry(&self.served, &self.upstream, b"from the server")?;
        carry(&self.accepted, &self.client, b"from the server")
    }
}

impl Direct {
    /// Seeded octets both ways at once; at least so many each way.
    pub(crate) fn stream(&self, octets: usize, seed: u64) -> anyhow::Result<()> {
        self.stream_read_by(octets, seed, |_| {})
    }

    /// The same; both readers do this before they read the block with this number.
    fn stream_read_by(
        &self,
        octets: usize,
        seed: u64,
        pause: impl Fn(usize) + Copy + Send,
    ) -> anyhow::Result<()> {
        let blocks = octets / BLOCK + 1;
        let (client, served) = (&self.client, &self.served);
        std::thread::scope(|scope| {
            let writers = [
                scope.spawn(move || Noise::new(seed).write(blocks, client)),
                scope.spawn(move || Noise::new(!seed).write(blocks, served)),
            ];
            let upward = scope.spawn(move || Noise::new(seed).read(blocks, served, pause));
            Noise::new(!seed).read(blocks, client, pause).context("from the server")?;
            upward.join().expect("does not panic").context("from the client")?;
            for writer in writers {
                writer.join().expect("does not panic")?;
            }
            Ok(())
        })
    }

    /// Both ends close, the client first or last.
    fn close(self, client_first: bool) -> anyhow::Result<()> {
        let (first, second) =
            if client_first { (self.client, self.served) } else { (self.served, self.client) };
        first.shutdown(Shutdown::Write)?;
        ensure!((&second).read(&mut [0; 1])? == 0, "no end after the first half was closed");
        carry(&second, &first, b"the other half is still open")?;
        second.shutdown(Shutdown::Write)?;
        ensure!((&first).read(&mut [0; 1])? == 0, "no end after the second half was closed");
        Ok(())
    }
}

/// Octets of a block of [`Noise`]: a prime number, so that no packet holds whole blocks.
const BLOCK: usize = 131_071;

/// A stream that looks random, cheap enough for gigabytes: one block again and again, each time with
/// its number.
struct Noise {
    block: Vec<u8>,
    number: u64,
}

impl Noise {
    fn new(seed: u64) -> Self {
        Self { block: noise(BLOCK, seed), number: seed }
    }

    fn next(&mut self) -> &[u8] {
        self.number = self.number.wrapping_add(1);
        self.block[BLOCK / 2..BLOCK / 2 + 8].copy_from_slice(&self.number.to_be_bytes());
        &self.block
    }

    fn write(mut self, blocks: usize, mut to: &TcpStream) -> std::io::Result<()> {
        (0..blocks).try_for_each(|_| to.write_all(self.next()))
    }

    fn read(mut self, blocks: usize, mut from: &TcpStream, pause: impl Fn(usize)) -> anyhow::Result<()> {
        let mut read = vec![0; BLOCK];
        for number in 0..blocks {
            pause(number);
            from.read_exact(&mut read)?;
            ensure!(read == self.next(), "other octets came out in block {number}");
        }
        Ok(())
    }
}

/// Octets that look random, the same for the same seed (xorshift).
fn noise(octets: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(octets).collect()
}

/// Sends `bytes` one way and reads them at the other end, at the same time.
fn carry(from: &TcpStream, to: &TcpStream, bytes: &[u8]) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut from = from;
            from.write_all(bytes)
        });
        let mut read = vec![0; bytes.len()];
        let mut to = to;
        let done = to.read_exact(&mut read);
        writer.join().expect("the writer does not panic")?;
        done?;
        ensure!(read == bytes, "other octets came out");
        Ok(())
    })
}

/// Sockets of the router that have to do with the session's port.
fn sockets(lab: &Lab) -> anyhow::Result<usize> {
    let mut ss = lab.router().command("ss");
    ss.args(["-H", "-t", "-n", "-a", "( sport = :25 or dport = :25 )"]);
    Ok(gateway_tests::process::done(&mut ss)?.lines().count())
}

/// Hands off a session from the client's own address.
pub(crate) fn directly(router: &mut Router<'_>, family: lab::Family) -> anyhow::Result<Direct> {
    let server = listen_on_server(router.lab, family)?;
    let session = router.session(&server, family, family.client())?;
    router.direct(session)
}
