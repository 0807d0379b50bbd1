//! A router that steers, without a proxy: the test is what accepts.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::Context as _;
use gateway::config::file::Intercept;
use gateway::datapath::attach::Role;
use gateway::datapath::maps::Family;
use gateway::datapath::object::{Kernel, Settings};
use gateway_tests::lab::{self, LAN, Lab, WAN};
use gateway_tests::netns::Netns;
use gateway_tests::wait;
use socket2::{Domain, Protocol, Socket, Type};

/// Both versions of the Internet protocol.
pub(crate) const FAMILIES: [lab::Family; 2] = [lab::Family::V4, lab::Family::V6];
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const OWN_MARK: u32 = 0x2600;

/// A router that steers: the program, the routing it needs, and listeners for both families.
pub(crate) struct Router<'lab> {
    pub(crate) lab: &'lab Lab,
    pub(crate) kernel: Kernel,
    pub(crate) listeners: [Socket; 2],
}

/// Runs `work` on the router of a fresh lab. Reverse paths are checked strictly there.
pub(crate) fn on_router(
    settings: &Settings,
    work: impl FnOnce(Router<'_>) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    lab.router().enter(|| {
        let router = Router::start(&lab, settings)?;
        work(router)
    })?
}

pub(crate) fn settings() -> Settings {
    Settings::from(&Intercept::default())
}

impl<'lab> Router<'lab> {
    pub(crate) fn start(lab: &'lab Lab, settings: &Settings) -> anyhow::Result<Self> {
        for (family, local) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
            lab.router().ip(&format!("{family} rule add priority 1025 fwmark 0x2500/0xff00 lookup 2525"))?;
            lab.router().ip(&format!("{family} route add local {local} dev lo table 2525"))?;
        }
        let mut kernel = Kernel::load(settings)?;
        kernel.set_ports(&[25])?;
        kernel.attach(LAN, Role { client: true, bridge_mac: None })?;
        kernel.attach(WAN, Role::default())?;
        let listen = |address: IpAddr| {
            let socket = transparent(address)?;
            socket.bind(&SocketAddr::new(address, 0).into())?;
            socket.listen(1024)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            anyhow::Ok(socket)
        };
        let listeners = [listen(Ipv4Addr::LOCALHOST.into())?, listen(Ipv6Addr::LOCALHOST.into())?];
        let mut router = Self { lab, kernel, listeners };
        router.open()?;
        Ok(router)
    }

    pub(crate) fn open(&mut self) -> anyhow::Result<()> {
        self.kernel.set_listener(Family::V4, self.listeners[0].as_fd())?;
        self.kernel.set_listener(Family::V6, self.listeners[1].as_fd())?;
        Ok(())
    }

    /// The next flow that the program gave to the listener.
    pub(crate) fn accept(&self, family: lab::Family) -> anyhow::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) =
            self.listeners[usize::from(family == lab::Family::V6)].accept().context("accept")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok((socket.into(), peer.as_socket().context("not an internet socket")?))
    }

    pub(crate) fn count(&self, reason: &str) -> anyhow::Result<u64> {
        let counters = self.kernel.counters()?;
        counters
            .into_iter()
            .find(|(name, _)| *name == reason)
            .map(|(_, count)| count)
            .context("no such reason")
    }
}

pub(crate) fn transparent(address: IpAddr) -> anyhow::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(SocketAddr::new(address, 0)), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_ip_transparent_v6(true)?
    } else {
        socket.set_ip_transparent_v4(true)?
    }
    Ok(socket)
}

pub(crate) fn connect(netns: &Netns, from: SocketAddr, to: SocketAddr) -> anyhow::Result<TcpStream> {
    netns.enter(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket.into())
    })?
}

/// The same from an address and port that the client has just had: for a moment every process that
/// another test starts has what this one has closed.
pub(crate) fn connect_again(netns: &Netns, from: SocketAddr, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let is_taken = |error: &anyhow::Error| {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        matches!(kind, Some(ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable))
    };
    wait::until(PATIENCE, "the port to be free", || match connect(netns, from, to) {
        Err(error) if is_taken(&error) => Ok(None),
        connected => connected.map(Some),
    })
}

/// Any port of the client's.
pub(crate) fn client(family: lab::Family) -> SocketAddr {
    SocketAddr::new(family.client(), 0)
}

pub(crate) fn listen_on_server(lab: &Lab, family: lab::Family) -> anyhow::Result<TcpListener> {
    lab.server().listen(family.smtp())
}

/// Sends `bytes` one way and reads them at the other end, at the same time.
pub(crate) fn carry(from: &TcpStream, to: &TcpStream, bytes: &[u8]) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut from = from;
            from.write_all(bytes)
        });
        let mut read = vec![0; bytes.len()];
        let mut to = to;
        to.read_exact(&mut read)?;
        anyhow::ensure!(read == bytes, "other octets came out");
        Ok(writer.join().expect("the writer does not panic")?)
    })
}
