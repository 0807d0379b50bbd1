//! A check of the loaded program before anything depends on it.
//!
//! A fixed set of packets goes through `BPF_PROG_TEST_RUN`, each with the verdict and the counter
//! that are right for it. The packets claim to come in on the loopback interface, to which the
//! program is never attached, so that no live packet meets the settings of the test.

use std::net::Ipv4Addr;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use gateway_common::interface::Interface;
use gateway_common::reason::Reason;
use ipnet::{IpNet, Ipv4Net};

use super::maps::{Maps, PrefixLane, PrefixVerdict};
use super::object::Error;

/// The loopback interface has this number in every network namespace.
const LOOPBACK: u32 = 1;
/// "Next program, please" and "drop" (linux/pkt_cls.h).
const NEXT: u32 = u32::MAX;
const DROP: u32 = 2;

const ETHERNET_V4: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
const ETHERNET_V6: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];
/// From 198.51.100.1 to 203.0.113.1, TCP, 20 bytes behind it, do not fragment.
const V4: [u8; 20] = [0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 1, 203, 0, 113, 1];
/// The same with "more fragments" set.
const V4_FRAGMENT: [u8; 20] = [0x45, 0, 0, 40, 0, 1, 0x20, 0, 64, 6, 0, 0, 198, 51, 100, 1, 203, 0, 113, 1];
/// From 2001:db8::1 to 2001:db8:1::1, TCP, 20 bytes behind it.
const V6: [u8; 40] = [
    0x60, 0, 0, 0, 0, 20, 6, 64, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x20, 1, 0xd, 0xb8,
    0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
];
/// A SYN from port 40000 to port 25.
const SYN: [u8; 20] = [0x9c, 0x40, 0, 25, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
/// The same to port 26.
const SYN_ELSEWHERE: [u8; 20] = [0x9c, 0x40, 0, 26, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
/// An acknowledgement to port 25.
const ACK: [u8; 20] = [0x9c, 0x40, 0, 25, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0];

struct Case {
    name: &'static str,
    parts: [&'static [u8]; 3],
    own: bool,
    verdict: u32,
    reason: Reason,
}

/// Runs all packets, and leaves the maps as empty as they were.
pub(super) fn run(
    program: &SchedClassifier,
    maps: &mut Maps,
    own_mark: u32,
    drops_when_down: bool,
) -> Result<(), Error> {
    maps.set_interface(LOOPBACK, Interface::new(true).for_clients())?;
    maps.set_ports(&[25])?;
    let blocked = PrefixVerdict { rule: 0, lane: PrefixLane::Block };
    maps.set_client_lanes(&[(IpNet::from(Ipv4Net::from(BLOCKED)), blocked)])?;
    let judged = cases(drops_when_down).iter().try_for_each(|case| check(program, maps, own_mark, case));
    maps.set_client_lanes(&[])?;
    maps.set_ports(&[])?;
    maps.remove_interface(LOOPBACK)?;
    judged
}

/// A client that the test blocks.
const BLOCKED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 99);
/// [`V4`] from that client.
const V4_BLOCKED: [u8; 20] = [0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 99, 203, 0, 113, 1];

fn cases(drops_when_down: bool) -> [Case; 8] {
    let case = |name, parts, verdict, reason| Case { name, parts, own: false, verdict, reason };
    let (down, down_reason) =
        if drops_when_down { (DROP, Reason::DownDropped) } else { (NEXT, Reason::DownPassed) };
    [
        case("IPv4 SYN without a listener", [&ETHERNET_V4, &V4, &SYN], down, down_reason),
        case("IPv6 SYN without a listener", [&ETHERNET_V6, &V6, &SYN], down, down_reason),
        case("SYN to another port", [&ETHERNET_V4, &V4, &SYN_ELSEWHERE], NEXT, Reason::OtherPort),
        case("acknowledgement of an unknown flow", [&ETHERNET_V4, &V4, &ACK], NEXT, Reason::NoSocket),
        case("fragment", [&ETHERNET_V4, &V4_FRAGMENT, &SYN], NEXT, Reason::Fragment),
        case("packet cut short", [&ETHERNET_V4, &V4, &[0x9c, 0x40]], NEXT, Reason::Truncated),
        case("blocked client", [&ETHERNET_V4, &V4_BLOCKED, &SYN], DROP, Reason::Blocked),
        Case { own: true, ..case("own connection", [&ETHERNET_V4, &V4, &SYN], NEXT, Reason::Own) },
    ]
}

fn check(program: &SchedClassifier, maps: &Maps, own_mark: u32, case: &Case) -> Result<(), Error> {
    let packet = case.parts.concat();
    // The head of `struct __sk_buff`: length, packet type, mark (linux/bpf.h).
    let mut context = [0; 12];
    if case.own {
        let (_, mark) = context.split_at_mut(8);
        mark.copy_from_slice(&own_mark.to_ne_bytes());
    }
    let count = || maps.count(case.reason);
    let before = count()?;
    let run = program.test_run(TestRunOptions {
        data_in: Some(&packet),
        ctx_in: Some(&context),
        repeat: 1,
        ..TestRunOptions::default()
    })?;
    if run.return_value == case.verdict && count()? > before {
        return Ok(());
    }
    Err(Error::SelfTest {
        packet: case.name,
        expected: format!("{} with {}", word(case.verdict), case.reason.name()),
        found: word(run.return_value),
    })
}

fn word(verdict: u32) -> String {
    match verdict {
        0 => "steer".to_owned(),
        DROP => "drop".to_owned(),
        NEXT => "pass".to_owned(),
        other => format!("verdict {other}"),
    }
}
