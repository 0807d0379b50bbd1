//! The kernel program on the ports of a bridge.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use gateway::datapath::attach::Role;
use gateway::datapath::maps::Family;
use gateway::datapath::object::Kernel;
use gateway_tests::netns::Netns;

use crate::router::{OWN_MARK, PATIENCE, carry, connect, settings, transparent};

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
