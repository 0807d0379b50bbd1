//! Single packets of handed-off flows, and errors about them, by `BPF_PROG_TEST_RUN`.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use gateway::clock;
use gateway::config::file::Intercept;
use gateway::datapath::flow_table::key;
use gateway::datapath::object::Settings;
use gateway::datapath::selftest::Verdict::{self, Pass, Unknown};
use gateway_common::translation::{End, Translation};

use crate::packet::{ACK, Frame, Tcp};
use crate::packets::{Bench, apart};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// `TC_ACT_REDIRECT` (linux/pkt_cls.h).
const REDIRECT: Verdict = Unknown(7);

/// The program on a router that knows the way to both, with a handed-off flow from port 40000 to 25, which
/// for the server comes from `seen`.
fn with_a_flow(
    seen: SocketAddr,
    work: impl FnOnce(&mut Bench) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    apart(|netns| {
        netns.sysctl("ipv4/conf/all/forwarding", "1")?;
        for (interface, address) in [("near", "192.0.2.1/24"), ("far", "198.51.100.1/24")] {
            netns.ip(&format!("link add {interface} type veth peer name {interface}1"))?;
            netns.ip(&format!("address add {address} dev {interface}"))?;
            netns.ip(&format!("link set {interface}1 up"))?;
            netns.ip(&format!("link set {interface} up"))?;
        }
        let mut bench = Bench::with(&Settings::from(&Intercept::default()))?;
        let mut table = bench.kernel.flow_table().context("the table is taken")?;
        let server = SocketAddr::from((SERVER, 25));
        let (up, down, now) = (key(own(), server), key(server, seen), clock::monotonic());
        let end = End { write: 5, expected: 9, ..End::default() };
        table.set(&up, Translation::watch(&down, true, now).forwarding(&end, &end))?;
        table.set(&down, Translation::watch(&up, false, now).forwarding(&end, &end))?;
        work(&mut bench)
    })
}

/// The client's own address and port.
fn own() -> SocketAddr {
    SocketAddr::from((CLIENT, 40_000))
}

#[test]
fn tags_are_taken_off_where_the_stack_would_not_take_the_packet() -> anyhow::Result<()> {
    with_a_flow(SocketAddr::from((ROUTER, 41_000)), |bench| {
        let up = Frame::v4(CLIENT, SERVER, Tcp::to(25, ACK));
        let down = Frame::v4(SERVER, ROUTER, Tcp { source: 25, ..Tcp::to(41_000, ACK) });
        for plain in [up, down] {
            bench.expect(&plain, REDIRECT, "redirected")?;
            bench.expect(&plain.clone().tag(0x8100, 0), REDIRECT, "redirected")?;
            bench.expect(&plain.clone().tag(0x8100, 100), REDIRECT, "redirected")?;
            bench.expect(&plain.tag(0x8100, 100).tag(0x88a8, 7), REDIRECT, "redirected")?;
        }
        Ok(())
    })
}

#[test]
fn packets_with_tags_are_renumbered_and_left_to_the_stack_which_takes_the_tags_off() -> anyhow::Result<()> {
    with_a_flow(own(), |bench| {
        let up = || Frame::v4(CLIENT, SERVER, Tcp::to(25, ACK));
        let down = || Frame::v4(SERVER, CLIENT, Tcp { source: 25, ..Tcp::to(40_000, ACK) });
        for plain in [up(), down()] {
            bench.expect(&plain, REDIRECT, "redirected")?;
            bench.expect(&plain.clone().tag(0x8100, 0), Pass, "translated")?;
            bench.expect(&plain.clone().tag(0x8100, 100), Pass, "translated")?;
            bench.expect(&plain.clone().tag(0x8100, 100).tag(0x88a8, 7), Pass, "translated")?;
            let three = plain.tag(0x8100, 1).tag(0x8100, 2).tag(0x88a8, 3);
            bench.expect(&three, Pass, "too_many_vlan_tags")?;
        }
        // At the end of its time to live, the stack is to tell its sender in the sender's numbers.
        bench.expect(&up().set(8, 1), Pass, "too_large")
    })
}

/// An ICMP error of this type and code about a packet of the client's, from a router behind the server.
fn error(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    let length = u16::try_from(28 + quoted.len()).expect("packets are small");
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0, 0x45, 0];
    frame.extend(length.to_be_bytes());
    frame.extend([0, 1, 0, 0, 60, 1, 0, 0, 203, 0, 113, 9]);
    frame.extend(CLIENT.octets());
    frame.extend([kind, code, 0, 0, 0, 0, 5, 120]);
    frame.extend(quoted);
    frame
}

#[test]
fn only_errors_that_quote_enough_of_a_flow_are_about_it() -> anyhow::Result<()> {
    with_a_flow(own(), |bench| {
        let quoted = Frame::v4(CLIENT, SERVER, Tcp::to(25, ACK)).bytes().split_off(14);
        let with = |place: usize, octet: u8| {
            let mut wrong = quoted.clone();
            wrong[place] = octet;
            error(3, 4, &wrong)
        };
        let table = [
            ("too large", error(3, 4, &quoted), "icmp_redirected"),
            ("eight octets of TCP", error(3, 4, &quoted[..28]), "icmp_redirected"),
            ("host unreachable", error(3, 1, &quoted), "icmp_redirected"),
            ("time exceeded", error(11, 0, &quoted), "icmp_redirected"),
            ("parameter problem", error(12, 0, &quoted), "icmp_redirected"),
            ("first fragment", with(6, 0x20), "icmp_redirected"),
            ("seven octets of TCP", error(3, 4, &quoted[..27]), "not_tcp"),
            ("half an IP header", error(3, 4, &quoted[..10]), "not_tcp"),
            ("nothing", error(3, 4, &[]), "not_tcp"),
            ("an echo", error(8, 0, &quoted), "not_tcp"),
            ("a redirect", error(5, 1, &quoted), "not_tcp"),
            ("UDP", with(9, 17), "not_tcp"),
            ("a later fragment", with(7, 1), "not_tcp"),
            ("IPv6 within IPv4", with(0, 0x65), "not_tcp"),
            ("a header of 16 octets", with(0, 0x44), "not_tcp"),
            ("a header longer than the packet", with(0, 0x4f), "not_tcp"),
            ("somebody else's packet", with(12, 9), "not_tcp"),
            ("another server's", with(16, 9), "not_tcp"),
            ("another port", with(23, 26), "not_tcp"),
        ];
        for (name, frame, reason) in table {
            let verdict = if reason == "not_tcp" { Pass } else { REDIRECT };
            let said = bench.judge(&frame).context(name)?;
            ensure!(said == (verdict, reason), "{name}: {said:?}");
        }
        Ok(())
    })
}
