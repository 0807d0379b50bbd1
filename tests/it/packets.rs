//! Single packets through the kernel program, by `BPF_PROG_TEST_RUN`: what it says of each, and
//! what it counts. Rows 159 to 162 of the attack cases are here.

mod resets;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use gateway::config::file::{Intercept, WhenDown};
use gateway::datapath::attach::Role;
use gateway::datapath::maps::{PrefixLane, PrefixVerdict};
use gateway::datapath::object::{Kernel, Settings};
use gateway::datapath::selftest::Verdict::{self, Drop, Pass};
use gateway::datapath::verified;
use gateway::privilege;
use gateway_tests::netns::Netns;

use crate::packet::{ACK, FIN, Frame, RST, SYN, Tcp};

/// The loopback interface of each namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// The program in a namespace of its own, on the loopback interface, for clients; port 25 is
/// intercepted and nobody listens.
pub(crate) struct Bench {
    pub(crate) kernel: Kernel,
    counted: BTreeMap<&'static str, u64>,
}

impl Bench {
    fn new(when_down: WhenDown) -> anyhow::Result<Self> {
        Self::with(&Settings { when_down, ..Settings::from(&Intercept::default()) })
    }

    pub(crate) fn with(settings: &Settings) -> anyhow::Result<Self> {
        let mut kernel = Kernel::load(settings)?;
        kernel.attach("lo", Role { client: true, bridge_mac: None })?;
        kernel.set_ports(&[25])?;
        let counted = kernel.counters()?.into_iter().collect();
        Ok(Self { kernel, counted })
    }

    /// What the program says of a packet, and the one reason it counted.
    fn judge_on(
        &mut self,
        interface: u32,
        packet: &[u8],
        mark: u32,
    ) -> anyhow::Result<(Verdict, &'static str)> {
        let verdict = self.kernel.judge(packet, interface, mark)?;
        match self.counted()?[..] {
            [(reason, 1)] => Ok((verdict, reason)),
            ref more => anyhow::bail!("{verdict:?}, counted {more:?}"),
        }
    }

    /// What the program for packets that go out says of one of this machine's, and the one reason it counted, if any.
    pub(crate) fn judge_sent(
        &mut self,
        packet: &[u8],
        mark: u32,
    ) -> anyhow::Result<(Verdict, Option<&'static str>)> {
        let verdict = self.kernel.judge_sent(packet, LOOPBACK, mark)?;
        match self.counted()?[..] {
            [] => Ok((verdict, None)),
            [(reason, 1)] => Ok((verdict, Some(reason))),
            ref more => anyhow::bail!("{verdict:?}, counted {more:?}"),
        }
    }

    /// What was counted since the last call.
    fn counted(&mut self) -> anyhow::Result<Vec<(&'static str, u64)>> {
        let now: BTreeMap<_, _> = self.kernel.counters()?.into_iter().collect();
        let more = now.iter().filter(|(reason, count)| self.counted.get(*reason) != Some(*count));
        let more = more.map(|(reason, count)| (*reason, count - self.counted[reason])).collect();
        self.counted = now;
        Ok(more)
    }

    pub(crate) fn judge(&mut self, packet: &[u8]) -> anyhow::Result<(Verdict, &'static str)> {
        self.judge_on(LOOPBACK, packet, 0)
    }

    pub(crate) fn expect(&mut self, packet: &Frame, verdict: Verdict, reason: &str) -> anyhow::Result<()> {
        let said = self.judge(&packet.bytes())?;
        anyhow::ensure!(said == (verdict, reason), "expected {verdict:?} {reason}, got {said:?}: {packet:?}");
        Ok(())
    }
}

/// Runs `work` in a fresh namespace, which has neither routes nor addresses but loopback's.
pub(crate) fn apart(work: impl FnOnce(&Netns) -> anyhow::Result<()> + Send) -> anyhow::Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let netns = Netns::create(&format!("gwpkt-{}-{number}", std::process::id()))?;
    netns.enter(|| work(&netns))?
}

pub(crate) fn v4() -> Frame {
    Frame::v4(Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(198, 51, 100, 2), Tcp::to(25, SYN))
}

pub(crate) fn v6() -> Frame {
    let [client, server] = [1, 2].map(|net| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, 2));
    Frame::v6(client, server, Tcp::to(25, SYN))
}

#[test]
fn each_packet_meets_the_verdict_and_the_counter_that_are_right_for_it() -> anyhow::Result<()> {
    let tcp = |port, flags| v4().tcp(Tcp::to(port, flags));
    let answer = |flags| v4().tcp(Tcp { source: 25, ..Tcp::to(40_000, flags) });
    let table = [
        ("IPv4", v4(), Drop, "down_dropped"),
        ("IPv6", v6(), Drop, "down_dropped"),
        ("congestion flags in the SYN", tcp(25, SYN | 0xc0), Drop, "down_dropped"),
        ("another port", tcp(26, SYN), Pass, "other_port"),
        ("another port, IPv6", v6().tcp(Tcp::to(26, SYN)), Pass, "other_port"),
        ("another port behind a tag", tcp(26, SYN).tag(0x8100, 100), Pass, "other_port"),
        ("another port behind IPv4 options", tcp(26, SYN).ip_options(&[1; 40]), Pass, "other_port"),
        ("another port in a fragment", tcp(26, SYN).set(6, 0x20), Pass, "fragment"),
        ("options like the other port's header", v4().ip_options(&[0, 26, 0, 26]), Drop, "down_dropped"),
        ("from port 25", answer(SYN | ACK), Pass, "no_socket"),
        ("SYN from port 25", answer(SYN), Pass, "not_from_client"),
        ("SYN and ACK", tcp(25, SYN | ACK), Pass, "no_socket"),
        ("SYN and FIN", tcp(25, SYN | FIN), Pass, "no_socket"),
        ("SYN and RST", tcp(25, SYN | RST), Pass, "no_socket"),
        ("ACK", tcp(25, ACK), Pass, "no_socket"),
        ("RST", tcp(25, RST), Pass, "no_socket"),
        ("no flags", tcp(25, 0), Pass, "no_socket"),
        ("one VLAN tag", v4().tag(0x8100, 100), Drop, "down_dropped"),
        ("QinQ", v4().tag(0x8100, 100).tag(0x88a8, 200), Drop, "down_dropped"),
        ("QinQ, IPv6", v6().tag(0x8100, 100).tag(0x88a8, 200), Drop, "down_dropped"),
        ("three tags", v4().tag(0x8100, 1).tag(0x8100, 2).tag(0x88a8, 3), Pass, "too_many_vlan_tags"),
        ("ARP", v4().ethertype(0x0806), Pass, "not_ip"),
        ("IPv6 said to be IPv4", v6().ethertype(0x0800), Pass, "bad_header"),
        ("IPv4 said to be IPv6", v4().ethertype(0x86dd), Pass, "bad_header"),
        ("IPv4 options", v4().ip_options(&[1; 40]), Drop, "down_dropped"),
        ("IPv4 header of 16 octets", v4().set(0, 0x44), Pass, "bad_header"),
        ("IPv4 header of none", v4().set(0, 0x40), Pass, "bad_header"),
        ("IPv4 shorter than its TCP header", v4().set(3, 39), Pass, "truncated"),
        ("UDP", v4().set(9, 17), Pass, "not_tcp"),
        ("first fragment", v4().set(6, 0x20), Pass, "fragment"),
        ("first fragment of eight octets", v4().set(6, 0x20).set(3, 28), Pass, "fragment"),
        ("later fragment", v4().set(6, 0).set(7, 1), Pass, "fragment"),
        ("last fragment, far away", v4().set(6, 0x1f).set(7, 0xff), Pass, "fragment"),
        ("do not fragment", v4().set(6, 0x40), Drop, "down_dropped"),
        ("hop by hop", v6().extension(0, 0), Drop, "down_dropped"),
        ("long destination options", v6().extension(60, 30), Drop, "down_dropped"),
        ("hop by hop, destination", v6().extension(60, 1).extension(0, 2), Drop, "down_dropped"),
        ("routed already", v6().extension(43, 1), Drop, "down_dropped"),
        ("routed on", v6().extension(43, 1).set(43, 1), Pass, "extension_headers"),
        ("fragment header", v6().extension(44, 0), Pass, "fragment"),
        (
            "hop by hop, destination, fragment",
            v6().extension(44, 0).extension(60, 1).extension(0, 0),
            Pass,
            "fragment",
        ),
        ("eight headers", (0..8).fold(v6(), |frame, _| frame.extension(60, 0)), Drop, "down_dropped"),
        ("nine headers", (0..9).fold(v6(), |frame, _| frame.extension(60, 0)), Pass, "extension_headers"),
        ("authentication header", v6().extension(51, 4), Pass, "extension_headers"),
        ("mobility header", v6().extension(135, 0), Pass, "extension_headers"),
        ("no next header", v6().set(6, 59), Pass, "not_tcp"),
        ("UDP, IPv6", v6().set(6, 17), Pass, "not_tcp"),
        ("encryption", v6().set(6, 50), Pass, "not_tcp"),
        ("IPv6 shorter than its TCP header", v6().set(5, 19), Pass, "truncated"),
        ("IPv6 jumbo packet", v6().set(5, 0), Drop, "down_dropped"),
        ("TCP header of none", v4().tcp(Tcp { words: Some(0), ..Tcp::to(25, SYN) }), Pass, "bad_header"),
        ("TCP header of 16 octets", v4().tcp(Tcp { words: Some(4), ..Tcp::to(25, SYN) }), Pass, "bad_header"),
        (
            "TCP header longer than the packet",
            v4().tcp(Tcp { words: Some(15), ..Tcp::to(25, SYN) }),
            Pass,
            "truncated",
        ),
        (
            "options that contradict themselves",
            v4().tcp(Tcp::to(25, SYN).with_options(&[2, 0, 3, 255])),
            Drop,
            "down_dropped",
        ),
        ("options without an end", v4().tcp(Tcp::to(25, SYN).with_options(&[1; 40])), Drop, "down_dropped"),
    ];
    apart(|_| {
        let mut bench = Bench::new(WhenDown::Drop)?;
        for (name, frame, verdict, reason) in table {
            bench.expect(&frame, verdict, reason).with_context(|| name.to_owned())?;
        }
        Ok(())
    })
}

#[test]
fn a_packet_cut_short_at_any_octet_passes_and_nothing_behind_its_end_is_read() -> anyhow::Result<()> {
    let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
    let long = Tcp::to(25, SYN).with_options(&options);
    let whole = [
        v4().tcp(long.clone()).ip_options(&[1; 40]).tag(0x8100, 100).tag(0x88a8, 200),
        v6().tcp(long).extension(60, 1).extension(43, 0).extension(0, 2).tag(0x8100, 100),
    ];
    apart(|_| {
        let mut bench = Bench::new(WhenDown::Drop)?;
        for frame in whole {
            bench.expect(&frame, Drop, "down_dropped")?;
            let bytes = frame.bytes();
            for length in 14..bytes.len() {
                let said = bench.judge(&bytes[..length]).with_context(|| format!("{length} octets"))?;
                assert_eq!(said, (Pass, "truncated"), "{length} octets of {frame:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn whatever_the_octets_every_packet_is_counted_once_and_only_steps_of_the_table_are_taken()
-> anyhow::Result<()> {
    apart(|_| {
        let mut bench = Bench::new(WhenDown::Pass)?;
        // Recent kernels take no test packet that ends within its IP header, unless there is a tag
        // in front of it.
        let tagged = [v4().ip_options(&[1; 8]), v6().extension(60, 1), v4().tag(0x8100, 7)];
        let seeds = tagged.map(|frame| frame.tag(0x8100, 9).bytes());
        // Xorshift: the same packets every time.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap_or(0) % below
        };
        for round in 0..20_000 {
            let mut packet = seeds[round % seeds.len()].clone();
            for _ in 0..=next(4) {
                let place = 14 + next(packet.len() - 14);
                packet[place] = u8::try_from(next(256))?;
            }
            packet.truncate(14 + next(packet.len() - 13));
            let (verdict, reason) = bench.judge(&packet).with_context(|| format!("{packet:02x?}"))?;
            assert_eq!(verdict, Pass, "{reason}: {packet:02x?}");
        }
        Ok(())
    })
}

#[test]
fn marks_under_the_mask_tell_own_and_steered_packets() -> anyhow::Result<()> {
    apart(|_| {
        let mut bench = Bench::new(WhenDown::Drop)?;
        let packet = v4().bytes();
        assert_eq!(bench.judge_on(LOOPBACK, &packet, 0x2600)?, (Pass, "own"));
        assert_eq!(bench.judge_on(LOOPBACK, &packet, 0xab00_26cd)?, (Pass, "own"));
        assert_eq!(bench.judge_on(LOOPBACK, &packet, 0x0001_2500)?, (Pass, "already_steered"));
        assert_eq!(bench.judge_on(LOOPBACK, &packet, 0x00ff_00ff)?, (Drop, "down_dropped"));
        Ok(())
    })
}

#[test]
fn the_earlier_rule_of_client_and_server_prefix_decides() -> anyhow::Result<()> {
    let verdict = |rule, lane| PrefixVerdict { rule, lane };
    apart(|_| {
        let mut bench = Bench::new(WhenDown::Drop)?;
        let (bypass, block, user) = (PrefixLane::Bypass, PrefixLane::Block, PrefixLane::User);
        bench.kernel.set_client_lanes(&[
            ("192.0.2.0/24".parse()?, verdict(3, bypass)),
            ("192.0.2.2/32".parse()?, verdict(1, block)),
            ("2001:db8:1::/48".parse()?, verdict(5, block)),
        ])?;
        bench.expect(&v4(), Drop, "blocked")?;
        bench.expect(&v6(), Drop, "blocked")?;
        bench.kernel.set_server_lanes(&[
            ("198.51.100.0/24".parse()?, verdict(0, bypass)),
            ("2001:db8:2::2/128".parse()?, verdict(6, bypass)),
        ])?;
        bench.expect(&v4(), Pass, "bypassed")?;
        bench.expect(&v6(), Drop, "blocked")?;
        // An answer is not judged by rules for new flows.
        bench.expect(&v4().tcp(Tcp::to(25, ACK)), Pass, "no_socket")?;
        bench.kernel.set_client_lanes(&[("::/0".parse()?, verdict(0, bypass))])?;
        bench.kernel.set_server_lanes(&[("0.0.0.0/0".parse()?, verdict(0, user))])?;
        // What holds for all of IPv6 holds for nothing else.
        bench.expect(&v4(), Drop, "down_dropped")?;
        bench.expect(&v6(), Pass, "bypassed")?;
        bench.kernel.set_client_lanes(&[("0.0.0.0/0".parse()?, verdict(0, bypass))])?;
        bench.kernel.set_server_lanes(&[("::/0".parse()?, verdict(0, block))])?;
        bench.expect(&v4(), Pass, "bypassed")?;
        bench.expect(&v6(), Drop, "blocked")?;
        bench.kernel.set_server_lanes(&[])?;
        bench.kernel.set_client_lanes(&[])?;
        bench.expect(&v4(), Drop, "down_dropped")?;
        Ok(())
    })
}

#[test]
fn without_a_listener_new_flows_pass_or_drop_and_one_event_a_second_tells() -> anyhow::Result<()> {
    apart(|_| {
        for (when_down, verdict, reason) in
            [(WhenDown::Pass, Pass, "down_passed"), (WhenDown::Drop, Drop, "down_dropped")]
        {
            let mut bench = Bench::new(when_down)?;
            let mut events = bench.kernel.events().context("events")?;
            for _ in 0..100 {
                bench.expect(&v4(), verdict, reason)?;
            }
            let event = events.pop().context("no event")?;
            assert_eq!(event.reason().map(|reason| reason.name()), Some(reason));
            assert_eq!((event.count(), event.interface(), event.error()), (1, LOOPBACK, 0));
            assert_eq!((event.flow().server_port(), event.flow().client_port()), (25, 40_000));
            // The test may move to another processor, which then has its own second.
            let further = std::iter::from_fn(|| events.pop()).count();
            assert!(further < 4, "{further} further events");
        }
        Ok(())
    })
}

#[test]
fn only_interfaces_for_clients_open_flows_and_unknown_ones_none() -> anyhow::Result<()> {
    apart(|_| {
        let mut bench = Bench::new(WhenDown::Drop)?;
        bench.kernel.attach("lo", Role::default())?;
        bench.expect(&v4(), Pass, "not_from_client")?;
        assert_eq!(bench.kernel.attached().count(), 1);
        bench.kernel.detach(LOOPBACK)?;
        bench.expect(&v4(), Pass, "unknown_interface")?;
        Ok(())
    })
}

#[test]
fn packets_without_a_link_header_are_read_where_the_interface_has_none() -> anyhow::Result<()> {
    apart(|netns| {
        netns.ip("tuntap add mode tun name tun7")?;
        let mut bench = Bench::new(WhenDown::Drop)?;
        let attached = bench.kernel.attach("tun7", Role { client: true, bridge_mac: None })?;
        let tun = attached.index();
        for frame in [v4(), v6()] {
            let bare = &frame.bytes()[14..];
            assert_eq!(bench.judge_on(tun, bare, 0)?, (Drop, "down_dropped"));
            assert_eq!(bench.judge_on(tun, &frame.bytes(), 0)?, (Pass, "not_ip"));
        }
        Ok(())
    })
}

#[test]
fn flows_to_the_machine_itself_are_left_alone() -> anyhow::Result<()> {
    apart(|netns| {
        netns.sysctl("ipv4/conf/all/forwarding", "1")?;
        netns.sysctl("ipv6/conf/all/forwarding", "1")?;
        netns.ip("link add out type veth peer name far")?;
        netns.ip("link set out up")?;
        netns.ip("link set far up")?;
        netns.ip("address add 198.51.100.1/24 dev out")?;
        netns.ip("address add 2001:db8:2::1/64 dev out nodad")?;
        let mut bench = Bench::new(WhenDown::Drop)?;
        bench.expect(&v4(), Drop, "down_dropped")?;
        bench.expect(&v6(), Drop, "down_dropped")?;
        netns.ip("address add 198.51.100.2/24 dev out")?;
        netns.ip("address add 2001:db8:2::2/64 dev out nodad")?;
        bench.expect(&v4(), Pass, "local_destination")?;
        bench.expect(&v6(), Pass, "local_destination")?;
        Ok(())
    })
}

/// What the verifier follows of the programs for a process with the gateway's capabilities: it asks more of them
/// than for one with all of root's.
fn verified(settings: &Settings) -> anyhow::Result<verified::Verified> {
    // Capabilities are a thread's own.
    let mut kernel =
        Netns::create(&format!("gwver-{}-{}", std::process::id(), settings.debug))?.enter(|| {
            privilege::narrow()?;
            anyhow::Ok(Kernel::load(settings)?)
        })??;
    kernel.self_test()?;
    Ok(kernel.verified_instructions()?)
}

#[test]
fn the_verifier_follows_at_most_twice_the_instructions_on_record() -> anyhow::Result<()> {
    // Debug lines are code of their own, and off unless asked for.
    let verified = verified(&Settings::from(&Intercept::default()))?;
    let shown = verified::shown(&verified);
    // For the log of whoever runs the tests.
    std::io::Write::write_all(&mut std::io::stderr(), format!("followed: {shown}\n").as_bytes())?;
    let doubled: Vec<_> = verified::doubled(&verified).collect();
    anyhow::ensure!(doubled.is_empty(), "{doubled:?} take more than twice of what is recorded: {shown}");
    Ok(())
}

#[test]
fn the_programs_are_far_from_what_the_verifier_gives_up_at_even_with_debug_lines() -> anyhow::Result<()> {
    for (name, followed) in verified(&Settings { debug: true, ..Settings::from(&Intercept::default()) })? {
        // Older kernels do not say.
        anyhow::ensure!(followed.unwrap_or(0) < 300_000, "{name}: {followed:?} of 1,000,000");
    }
    Ok(())
}
