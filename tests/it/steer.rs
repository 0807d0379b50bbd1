//! The kernel program on a router, with real connections and no proxy but the test itself.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use gateway::config::file::{Attach, Intercept, WhenDown};
use gateway::datapath::attach::{self, Hook, Role};
use gateway::datapath::maps::Family;
use gateway::datapath::object::{Kernel, Settings};
use gateway_tests::lab::{self, LAN, Lab, WAN};
use gateway_tests::netns::Netns;
use gateway_tests::{process, wait};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};
use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::{Frame, SYN, Tcp};

const FAMILIES: [lab::Family; 2] = [lab::Family::V4, lab::Family::V6];
const PATIENCE: Duration = Duration::from_secs(3);
const OWN_MARK: u32 = 0x2600;

/// A router that steers: the program, the routing it needs, and listeners for both families.
struct Router<'lab> {
    lab: &'lab Lab,
    kernel: Kernel,
    listeners: [Socket; 2],
}

/// Runs `work` on the router of a fresh lab. Reverse paths are checked strictly there.
fn on_router(
    settings: &Settings,
    work: impl FnOnce(Router<'_>) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    lab.router().enter(|| {
        let router = Router::start(&lab, settings)?;
        work(router)
    })?
}

fn settings() -> Settings {
    Settings::from(&Intercept::default())
}

impl<'lab> Router<'lab> {
    fn start(lab: &'lab Lab, settings: &Settings) -> anyhow::Result<Self> {
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

    fn open(&mut self) -> anyhow::Result<()> {
        self.kernel.set_listener(Family::V4, self.listeners[0].as_fd())?;
        self.kernel.set_listener(Family::V6, self.listeners[1].as_fd())?;
        Ok(())
    }

    /// The next flow that the program gave to the listener.
    fn accept(&self, family: lab::Family) -> anyhow::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) =
            self.listeners[usize::from(family == lab::Family::V6)].accept().context("accept")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok((socket.into(), peer.as_socket().context("not an internet socket")?))
    }

    fn count(&self, reason: &str) -> anyhow::Result<u64> {
        let counters = self.kernel.counters()?;
        counters
            .into_iter()
            .find(|(name, _)| *name == reason)
            .map(|(_, count)| count)
            .context("no such reason")
    }
}

fn transparent(address: IpAddr) -> anyhow::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(SocketAddr::new(address, 0)), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_ip_transparent_v6(true)?
    } else {
        socket.set_ip_transparent_v4(true)?
    }
    Ok(socket)
}

fn connect(netns: &Netns, from: SocketAddr, to: SocketAddr) -> anyhow::Result<TcpStream> {
    netns.enter(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket.into())
    })?
}

/// Any port of the client's.
fn client(family: lab::Family) -> SocketAddr {
    SocketAddr::new(family.client(), 0)
}

fn listen_on_server(lab: &Lab, family: lab::Family) -> anyhow::Result<TcpListener> {
    Ok(lab.server().enter(|| TcpListener::bind(family.smtp()))??)
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
        to.read_exact(&mut read)?;
        anyhow::ensure!(read == bytes, "other octets came out");
        Ok(writer.join().expect("the writer does not panic")?)
    })
}

#[test]
fn a_flow_reaches_the_listener_with_its_original_destination() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        let bulk: Vec<u8> = (0..4_000_000u32).map(|number| number.to_le_bytes()[0]).collect();
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            let client = connect(router.lab.client(), client(family), family.smtp())?;
            let (accepted, peer) = router.accept(family)?;
            assert_eq!(accepted.local_addr()?, family.smtp());
            assert_eq!(peer, client.local_addr()?);
            carry(&client, &accepted, &bulk)?;
            carry(&accepted, &client, &bulk)?;
            client.shutdown(Shutdown::Write)?;
            assert_eq!((&accepted).read(&mut [0; 1])?, 0);
            carry(&accepted, &client, b"still open this way")?;
            let note = router.kernel.facts(peer, family.smtp()).context("no note of the flow")?;
            assert_eq!((note.ttl(), note.vlan(), note.mss() > 1000), (64, [0, 0], true));
            assert!(note.mac().is_some() && note.sack() && note.timestamps());
            server.set_nonblocking(true)?;
            assert!(server.accept().is_err(), "the server saw the flow");
        }
        assert_eq!(router.count("opened")?, 2);
        assert!(router.count("established")? > 100);
        Ok(())
    })
}

#[test]
fn answers_to_a_connection_with_the_clients_address_come_back_to_the_gateway() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            let client = connect(router.lab.client(), client(family), family.smtp())?;
            let (_accepted, peer) = router.accept(family)?;
            // Once with a port of its own, once with the very port of the client.
            for port in [0, peer.port()] {
                let upstream = transparent(family.client())?;
                upstream.set_mark(OWN_MARK)?;
                upstream.bind(&SocketAddr::new(family.client(), port).into())?;
                upstream.connect_timeout(&family.smtp().into(), PATIENCE)?;
                let (served, seen) = server.accept()?;
                assert_eq!(seen.ip(), family.client());
                assert_eq!(port == 0, seen.port() != client.local_addr()?.port());
                served.set_read_timeout(Some(PATIENCE))?;
                upstream.set_read_timeout(Some(PATIENCE))?;
                let upstream: TcpStream = upstream.into();
                carry(&served, &upstream, &[7; 1_000_000])?;
                carry(&upstream, &served, &[8; 1_000_000])?;
            }
        }
        Ok(())
    })
}

#[test]
fn the_gateways_own_connections_are_not_steered_again() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            let upstream = Socket::new(Domain::for_address(family.smtp()), Type::STREAM, None)?;
            upstream.set_mark(OWN_MARK)?;
            upstream.connect_timeout(&family.smtp().into(), PATIENCE)?;
            let (served, seen) = server.accept()?;
            assert_eq!(seen.ip(), family.router());
            let upstream: TcpStream = upstream.into();
            carry(&upstream, &served, b"EHLO gateway\r\n")?;
            carry(&served, &upstream, b"250 server\r\n")?;
        }
        assert_eq!(router.count("opened")?, 0);
        Ok(())
    })
}

#[test]
fn without_listeners_new_flows_go_to_the_server_and_open_ones_stay() -> anyhow::Result<()> {
    on_router(&settings(), |mut router| {
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            let open = connect(router.lab.client(), client(family), family.smtp())?;
            let (accepted, _) = router.accept(family)?;
            router.kernel.clear_listeners()?;
            router.kernel.clear_listeners()?;
            let direct = connect(router.lab.client(), client(family), family.smtp())?;
            let (served, seen) = server.accept()?;
            assert_eq!(seen, direct.local_addr()?);
            carry(&direct, &served, b"QUIT\r\n")?;
            carry(&open, &accepted, b"NOOP\r\n")?;
            carry(&accepted, &open, b"250 OK\r\n")?;
            router.open()?;
            let again = connect(router.lab.client(), client(family), family.smtp())?;
            let (accepted, peer) = router.accept(family)?;
            assert_eq!((peer, accepted.local_addr()?), (again.local_addr()?, family.smtp()));
            // The flow that went directly still does.
            carry(&served, &direct, b"221 Bye\r\n")?;
        }
        Ok(())
    })
}

#[test]
fn a_listener_that_dies_with_its_process_is_as_good_as_taken_away() -> anyhow::Result<()> {
    let dropping = Settings { when_down: WhenDown::Drop, ..settings() };
    on_router(&dropping, |mut router| {
        let family = lab::Family::V4;
        let _server = listen_on_server(router.lab, family)?;
        let unused = transparent(Ipv4Addr::LOCALHOST.into())?;
        router.listeners[0] = unused;
        let refused = connect(router.lab.client(), client(family), family.smtp());
        let kind = refused.err().and_then(|error| Some(error.downcast_ref::<io::Error>()?.kind()));
        assert_eq!(kind, Some(io::ErrorKind::TimedOut), "a dropped packet is answered by nothing");
        assert!(router.count("down_dropped")? > 0);
        Ok(())
    })
}

#[test]
fn a_mail_server_on_the_router_keeps_its_flows() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        for (family, router_address) in FAMILIES.into_iter().zip(["192.0.2.1:25", "[2001:db8:1::1]:25"]) {
            let server = listen_on_server(router.lab, family)?;
            let any = if family == lab::Family::V4 { "0.0.0.0:25" } else { "[::]:25" };
            let local = Socket::new(Domain::for_address(any.parse()?), Type::STREAM, None)?;
            if family == lab::Family::V6 {
                local.set_only_v6(true)?;
            }
            local.bind(&any.parse::<SocketAddr>()?.into())?;
            local.listen(8)?;
            let client_end = connect(router.lab.client(), client(family), router_address.parse()?)?;
            let (local_end, _) = local.accept()?;
            let local_end: TcpStream = local_end.into();
            carry(&client_end, &local_end, b"EHLO client\r\n")?;
            carry(&local_end, &client_end, b"250 router\r\n")?;
            // It listens on all addresses, but not on the server's.
            let through = connect(router.lab.client(), client(family), family.smtp())?;
            let (accepted, _) = router.accept(family)?;
            carry(&through, &accepted, b"EHLO client\r\n")?;
            // And it sends mail itself.
            let outgoing = TcpStream::connect(family.smtp())?;
            let (served, _) = server.accept()?;
            carry(&served, &outgoing, b"220 server\r\n")?;
        }
        assert_eq!(router.count("local_destination")?, 2);
        assert!(router.count("foreign_socket")? > 0);
        assert_eq!(router.count("opened")?, 2);
        Ok(())
    })
}

#[test]
fn a_handshake_by_syn_cookie_reaches_the_listener() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        router.lab.router().sysctl("ipv4/tcp_syncookies", "2")?;
        for family in FAMILIES {
            let client = connect(router.lab.client(), client(family), family.smtp())?;
            let (accepted, _) = router.accept(family)?;
            assert_eq!(accepted.local_addr()?, family.smtp());
            carry(&client, &accepted, b"EHLO client\r\n")?;
            carry(&accepted, &client, b"250 gateway\r\n")?;
        }
        assert!(router.count("syn_cookie")? >= 2);
        Ok(())
    })
}

#[test]
fn a_client_may_use_its_port_again_while_the_gateway_remembers_the_last_flow() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        for family in FAMILIES {
            let from = SocketAddr::new(family.client(), 40_001);
            let first = connect(router.lab.client(), from, family.smtp())?;
            let (accepted, _) = router.accept(family)?;
            // Who closes first remembers.
            drop(accepted);
            assert_eq!((&first).read(&mut [0; 1])?, 0);
            drop(first);
            std::thread::sleep(Duration::from_millis(100));
            let start = wait::now();
            let second = connect(router.lab.client(), from, family.smtp())?;
            let (accepted, peer) = router.accept(family)?;
            // A client that is told "wrong number" tries again: Linux at once, others in a second.
            assert!(start.elapsed() < Duration::from_secs(2));
            assert_eq!(peer, from);
            carry(&second, &accepted, b"EHLO client\r\n")?;
        }
        Ok(())
    })
}

#[test]
fn fragments_go_to_the_server_and_a_wrong_checksum_opens_nothing() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        let family = lab::Family::V4;
        let _server = listen_on_server(router.lab, family)?;
        let packet = Frame::v4(Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(198, 51, 100, 2), Tcp::to(25, SYN));
        let raw = router
            .lab
            .client()
            .enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))))??;
        let send = |packet: &[u8]| raw.send_to(packet, &family.smtp().into());

        // Row 166: the program counts it and the stack drops it.
        let mut wrong = packet.checked();
        wrong[36] ^= 0x55;
        send(&wrong)?;
        wait::until(PATIENCE, "the stack counts the wrong checksum", || {
            Ok((snmp(router.lab.router(), "Tcp", "InCsumErrors")? == 1).then_some(()))
        })?;
        assert_eq!(snmp(router.lab.router(), "Tcp", "OutSegs")?, 0);
        send(&packet.checked())?;
        wait::until(PATIENCE, "the listener answers", || {
            Ok((snmp(router.lab.router(), "Tcp", "OutSegs")? > 0).then_some(()))
        })?;

        // Row 159: the ports are in another fragment than the flags.
        let whole = packet.checked();
        let (header, segment) = whole.split_at(20);
        let pieces: Vec<_> = segment.chunks(8).collect();
        for (number, piece) in pieces.iter().enumerate() {
            let mut fragment = header.to_vec();
            fragment[6] = if number + 1 == pieces.len() { 0 } else { 0x20 };
            fragment[7] = u8::try_from(number)?;
            fragment.extend_from_slice(piece);
            send(&fragment)?;
        }
        wait::until(PATIENCE, "the server puts the fragments together and answers", || {
            Ok((snmp(router.lab.server(), "Tcp", "OutSegs")? > 0).then_some(()))
        })?;
        assert_eq!(snmp(router.lab.server(), "Ip", "ReasmOKs")?, 1);
        assert_eq!(router.count("fragment")?, 3);
        Ok(())
    })
}

#[test]
fn tags_that_the_stack_has_taken_out_are_seen_and_noted() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        let syn = |port| Tcp { source: port, ..Tcp::to(25, SYN) };
        let frame = |port| Frame::v4(Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(198, 51, 100, 2), syn(port));
        send_frames(
            router.lab.client(),
            &[
                frame(1001).tag(0x8100, 100).bytes(),
                frame(1002).tag(0x8100, 100).tag(0x88a8, 200).bytes(),
                frame(1003).tag(0x8100, 1).tag(0x8100, 2).tag(0x88a8, 3).bytes(),
            ],
        )?;
        wait::until(PATIENCE, "the packets are counted", || {
            Ok((router.count("too_many_vlan_tags")? == 1).then_some(()))
        })?;
        assert_eq!(router.count("opened")?, 2);
        let noted = |port| {
            let client = SocketAddr::new(lab::Family::V4.client(), port);
            router.kernel.facts(client, lab::Family::V4.smtp()).map(|note| note.vlan())
        };
        assert_eq!([noted(1001), noted(1002), noted(1003)], [Some([100, 0]), Some([200, 100]), None]);
        Ok(())
    })
}

/// Sends frames as they are out of a host's interface.
fn send_frames(host: &Netns, frames: &[Vec<u8>]) -> anyhow::Result<()> {
    host.enter(|| {
        let eth0 = getifaddrs()?
            .filter(|address| address.interface_name == "eth0")
            .find_map(|address| address.address?.as_link_addr().copied())
            .context("no eth0")?;
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None)?;
        for frame in frames {
            sendto(socket.as_raw_fd(), frame, &eth0, MsgFlags::empty())?;
        }
        Ok(())
    })?
}

/// A counter of the namespace's stack.
fn snmp(netns: &Netns, protocol: &str, name: &str) -> anyhow::Result<u64> {
    let table = netns.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let mut lines = table.lines().filter(|line| line.split(':').next() == Some(protocol));
    let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
    let place = names.split_whitespace().position(|word| word == name).context("no such counter")?;
    Ok(values.split_whitespace().nth(place).context("no value")?.parse()?)
}

#[test]
fn between_the_ports_of_a_bridge_flows_are_steered_as_well() -> anyhow::Result<()> {
    steer_on_a_bridge(|bridge| bridge.sysctl("bridge/bridge-nf-call-iptables", "0"), "already_steered")
}

#[test]
fn a_bridge_that_calls_netfilter_takes_sockets_away_and_they_are_given_again() -> anyhow::Result<()> {
    steer_on_a_bridge(|bridge| bridge.sysctl("bridge/bridge-nf-call-iptables", "1"), "steered_again")
}

fn steer_on_a_bridge(
    prepare: impl FnOnce(&Netns) -> anyhow::Result<()>,
    above: &'static str,
) -> anyhow::Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = |part| format!("gwbridge-{}-{number}-{part}", std::process::id());
    let [client, bridge, server] =
        [Netns::create(&name("c"))?, Netns::create(&name("b"))?, Netns::create(&name("s"))?];
    bridge.ip("link add br0 address 02:00:00:00:00:99 type bridge")?;
    bridge.ip("link set br0 up")?;
    prepare(&bridge)?;
    bridge.ip("address add 192.0.2.1/24 dev br0")?;
    bridge.ip("rule add priority 1025 fwmark 0x2500/0xff00 lookup 2525")?;
    bridge.ip("route add local 0.0.0.0/0 dev lo table 2525")?;
    for (port, host, address) in [("p0", &client, "192.0.2.2"), ("p1", &server, "192.0.2.3")] {
        bridge.ip(&format!("link add {port} type veth peer name eth0 netns {}", host.name()))?;
        bridge.ip(&format!("link set {port} master br0 up"))?;
        host.ip("link set eth0 up")?;
        host.ip(&format!("address add {address}/24 dev eth0"))?;
    }
    let (from, to): (SocketAddr, SocketAddr) = ("192.0.2.2:0".parse()?, "192.0.2.3:25".parse()?);
    let served = server.enter(|| TcpListener::bind(to))??;
    bridge.enter(|| {
        let mut kernel = Kernel::load(&settings())?;
        kernel.set_ports(&[25])?;
        let bridge_mac = Some([2, 0, 0, 0, 0, 0x99]);
        kernel.attach("p0", Role { client: true, bridge_mac })?;
        kernel.attach("p1", Role { client: false, bridge_mac })?;
        let br0 = kernel.attach("br0", Role::default())?.index();
        let listener = transparent(Ipv4Addr::LOCALHOST.into())?;
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        listener.listen(8)?;
        listener.set_read_timeout(Some(PATIENCE))?;
        kernel.set_listener(Family::V4, listener.as_fd())?;

        let client_end = connect(&client, from, to)?;
        let (accepted, _) = listener.accept()?;
        let accepted: TcpStream = accepted.into();
        assert_eq!(accepted.local_addr()?, to);
        carry(&client_end, &accepted, &[7; 100_000])?;
        carry(&accepted, &client_end, &[8; 100_000])?;

        let upstream = transparent(from.ip())?;
        upstream.set_mark(OWN_MARK)?;
        upstream.bind(&from.into())?;
        upstream.connect_timeout(&to.into(), PATIENCE)?;
        let (server_end, seen) = served.accept()?;
        assert_eq!(seen.ip(), from.ip());
        let upstream: TcpStream = upstream.into();
        carry(&upstream, &server_end, &[9; 100_000])?;
        carry(&server_end, &upstream, &[10; 100_000])?;
        let counters = kernel.counters()?;
        assert!(counters.iter().any(|(reason, count)| *reason == above && *count > 0), "{counters:?}");
        // The flow came from the client's port, not from the bridge.
        let note = kernel.facts(client_end.local_addr()?, to).context("no note of the flow")?;
        assert_ne!(note.interface(), br0);
        Ok(())
    })?
}

#[test]
fn a_clsact_qdisc_goes_with_the_program_unless_it_was_there_before() -> anyhow::Result<()> {
    let clsact = Settings { attach: Attach::Clsact, ..settings() };
    let lab = Lab::new()?;
    lab.router().ip(&format!("link show {LAN}"))?;
    tc(&lab, &format!("qdisc add dev {WAN} clsact"))?;
    lab.router().enter(|| {
        let family = lab::Family::V4;
        let router = Router::start(&lab, &clsact)?;
        assert!(router.kernel.attached().all(|attached| attached.hook() == Hook::Clsact));
        assert!(tc(&lab, &format!("filter show dev {LAN} ingress"))?.contains("gateway_ingress"));
        let client_end = connect(lab.client(), client(family), family.smtp())?;
        let (accepted, _) = router.accept(family)?;
        carry(&client_end, &accepted, b"EHLO client\r\n")?;
        drop(router);
        assert!(!tc(&lab, &format!("qdisc show dev {LAN}"))?.contains("clsact"));
        assert!(tc(&lab, &format!("qdisc show dev {WAN}"))?.contains("clsact"));
        assert_eq!(tc(&lab, &format!("filter show dev {WAN} ingress"))?, "");
        assert_eq!(attach::sweep()?, 0);

        // A process that is killed takes nothing away.
        let mut killed = Kernel::load(&clsact)?;
        killed.attach(LAN, Role::default())?;
        killed.attach(WAN, Role::default())?;
        std::mem::forget(killed);
        assert!(tc(&lab, &format!("filter show dev {WAN} ingress"))?.contains("gateway_ingress"));
        assert_eq!(attach::sweep()?, 2);
        assert!(!tc(&lab, &format!("qdisc show dev {LAN}"))?.contains("clsact"));
        assert!(tc(&lab, &format!("qdisc show dev {WAN}"))?.contains("clsact"));
        assert_eq!(tc(&lab, &format!("filter show dev {WAN} ingress"))?, "");
        Ok(())
    })?
}

fn tc(lab: &Lab, arguments: &str) -> anyhow::Result<String> {
    process::done(lab.router().command("tc").args(arguments.split_whitespace()))
}

#[test]
fn a_program_that_is_detached_leaves_flows_to_the_server() -> anyhow::Result<()> {
    on_router(&settings(), |mut router| {
        let family = lab::Family::V4;
        let server = listen_on_server(router.lab, family)?;
        assert!(router.kernel.attached().all(|attached| attached.hook() == Hook::Tcx));
        let all: Vec<_> = router.kernel.attached().map(|attached| attached.index()).collect();
        for index in all {
            router.kernel.detach(index)?;
        }
        assert_eq!(router.kernel.attached().count(), 0);
        let direct = connect(router.lab.client(), client(family), family.smtp())?;
        let (_, seen) = server.accept()?;
        assert_eq!(seen, direct.local_addr()?);
        // And an interface that is gone is detached without complaint.
        let index = router.kernel.attach(LAN, Role::default())?.index();
        router.lab.router().ip(&format!("link del {LAN}"))?;
        router.kernel.detach(index)?;
        Ok(())
    })
}

/// What a router with address translation mostly has: a stateful firewall that takes nothing
/// invalid, and translation of whatever leaves towards the servers, but for the gateway's own.
const FIREWALL: &str = "
table inet lab {
    chain prerouting { type filter hook prerouting priority -150; ct state invalid drop; }
    chain input { type filter hook input priority 0; policy drop;
        iifname lo accept
        ct state established,related accept
        meta mark & 0xff00 == 0x2500 accept
        meta l4proto ipv6-icmp accept
    }
    chain forward { type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname lan0 accept
    }
    chain postrouting { type nat hook postrouting priority 100;
        meta mark & 0xff00 == 0x2600 return
        oifname wan0 masquerade
    }
}";

#[test]
fn connection_tracking_and_address_translation_do_not_get_in_the_way() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        let rules = router.lab.directory().join("rules.nft");
        std::fs::write(&rules, FIREWALL)?;
        process::done(router.lab.router().command("nft").arg("-f").arg(&rules))?;
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            let client_end = connect(router.lab.client(), client(family), family.smtp())?;
            let (accepted, peer) = router.accept(family)?;
            carry(&client_end, &accepted, &[1; 500_000])?;
            carry(&accepted, &client_end, &[2; 500_000])?;
            for own in [peer.ip(), SocketAddr::from(([0; 4], 0)).ip()] {
                let upstream = transparent(family.client())?;
                upstream.set_mark(OWN_MARK)?;
                if own == peer.ip() {
                    upstream.bind(&SocketAddr::new(own, 0).into())?;
                }
                upstream.connect_timeout(&family.smtp().into(), PATIENCE)?;
                let (served, seen) = server.accept()?;
                assert_eq!(seen.ip(), if own == peer.ip() { family.client() } else { family.router() });
                let upstream: TcpStream = upstream.into();
                carry(&upstream, &served, &[3; 500_000])?;
                carry(&served, &upstream, &[4; 500_000])?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_syn_of_the_gateway_that_comes_back_is_forwarded_not_intercepted() -> anyhow::Result<()> {
    on_router(&settings(), |mut router| {
        // A firewall beside the router, through which the gateway's own connections go and come
        // back on an interface for clients.
        let firewall = Netns::create(&format!("gwfw-{}", std::process::id()))?;
        let lan = router.lab.router();
        firewall.sysctl("ipv4/conf/all/forwarding", "1")?;
        for (interface, net) in [("out0", "10.1.0"), ("back0", "10.2.0")] {
            let peer = firewall.name();
            lan.ip(&format!("link add {interface} type veth peer name {interface} netns {peer}"))?;
            for (netns, number) in [(lan, 1), (&firewall, 2)] {
                netns.sysctl(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
                netns.ip(&format!("link set {interface} up"))?;
                netns.ip(&format!("address add {net}.{number}/24 dev {interface}"))?;
            }
        }
        for netns in [lan, &firewall] {
            netns.sysctl("ipv4/conf/all/rp_filter", "0")?;
        }
        firewall.ip("route add default via 10.2.0.1")?;
        lan.ip("rule add priority 1026 fwmark 0x2600/0xff00 lookup 100")?;
        lan.ip("route add default via 10.1.0.2 table 100")?;
        router.kernel.attach("back0", Role { client: true, bridge_mac: None })?;

        let family = lab::Family::V4;
        let server = listen_on_server(router.lab, family)?;
        let upstream = transparent(family.client())?;
        upstream.set_mark(OWN_MARK)?;
        upstream.bind(&client(family).into())?;
        upstream.connect_timeout(&family.smtp().into(), PATIENCE)?;
        let (served, seen) = server.accept()?;
        assert_eq!(seen.ip(), family.client());
        let upstream: TcpStream = upstream.into();
        carry(&upstream, &served, &[5; 100_000])?;
        carry(&served, &upstream, &[6; 100_000])?;
        assert_eq!((router.count("own_returned")?, router.count("opened")?), (1, 0));
        Ok(())
    })
}
