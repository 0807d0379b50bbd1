//! A check of the loaded program before anything depends on it.
//!
//! A fixed set of packets goes through `BPF_PROG_TEST_RUN`, each with the verdict and the counter
//! that are right for it. The packets claim to come in on the loopback interface, to which the
//! program is never attached, so that no live packet meets the settings of the test.

use std::net::Ipv4Addr;
use std::time::Duration;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, TestRunResult};
use gateway_common::interface::Interface;
use gateway_common::reason::Reason;
use ipnet::{IpNet, Ipv4Net};
use zerocopy::IntoBytes as _;

use super::maps::{Maps, PrefixLane, PrefixVerdict};
use super::object::Error;

/// The loopback interface has this number in every network namespace.
const LOOPBACK: u32 = 1;

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

/// Octets by which the program may make a packet longer: a link header, at most.
const ROOM: usize = 64;

/// What the program says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the next program, or to the stack, untouched.
    Pass,
    /// It goes to the stack with the gateway's socket.
    Steer,
    /// It goes no further.
    Drop,
    /// Nothing the program should say.
    Unknown(u32),
}

impl From<u32> for Verdict {
    /// linux/pkt_cls.h
    fn from(action: u32) -> Self {
        match action {
            u32::MAX => Self::Pass,
            0 => Self::Steer,
            2 => Self::Drop,
            other => Self::Unknown(other),
        }
    }
}

struct Case {
    name: &'static str,
    parts: [&'static [u8]; 3],
    own: bool,
    /// What is right; more than one where it depends on this machine's routes.
    right: &'static [(Verdict, Reason)],
}

/// Runs all packets, and leaves the maps as empty as they were before.
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
    maps.reset_counters()?;
    judged
}

/// A client that the test blocks.
const BLOCKED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 99);
/// [`V4`] from that client.
const V4_BLOCKED: [u8; 20] = [0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 99, 203, 0, 113, 1];

fn cases(drops_when_down: bool) -> [Case; 8] {
    let case = |name, parts, right| Case { name, parts, own: false, right };
    // Without a route to the server, the flow is none that this machine would forward.
    let down: &[_] = if drops_when_down {
        &[(Verdict::Drop, Reason::DownDropped), (Verdict::Pass, Reason::LocalDestination)]
    } else {
        &[(Verdict::Pass, Reason::DownPassed), (Verdict::Pass, Reason::LocalDestination)]
    };
    let own = case("own connection", [&ETHERNET_V4, &V4, &SYN], &[(Verdict::Pass, Reason::Own)]);
    [
        case("IPv4 SYN without a listener", [&ETHERNET_V4, &V4, &SYN], down),
        case("IPv6 SYN without a listener", [&ETHERNET_V6, &V6, &SYN], down),
        case(
            "SYN to another port",
            [&ETHERNET_V4, &V4, &SYN_ELSEWHERE],
            &[(Verdict::Pass, Reason::OtherPort)],
        ),
        case(
            "acknowledgement out of the blue",
            [&ETHERNET_V4, &V4, &ACK],
            &[(Verdict::Pass, Reason::NoSocket)],
        ),
        case("fragment", [&ETHERNET_V4, &V4_FRAGMENT, &SYN], &[(Verdict::Pass, Reason::Fragment)]),
        case("packet cut short", [&ETHERNET_V4, &V4, &[0x9c]], &[(Verdict::Pass, Reason::Truncated)]),
        case("blocked client", [&ETHERNET_V4, &V4_BLOCKED, &SYN], &[(Verdict::Drop, Reason::Blocked)]),
        Case { own: true, ..own },
    ]
}

fn check(program: &SchedClassifier, maps: &Maps, own_mark: u32, case: &Case) -> Result<(), Error> {
    let counts = || case.right.iter().map(|(_, reason)| maps.count(*reason)).collect::<Result<Vec<_>, _>>();
    let before = counts()?;
    let said = judge(program, &case.parts.concat(), LOOPBACK, if case.own { own_mark } else { 0 })?;
    let after = counts()?;
    let is_right =
        |((verdict, _), (before, after)): (&(Verdict, Reason), _)| said == *verdict && after > before;
    if case.right.iter().zip(before.into_iter().zip(after)).any(is_right) {
        return Ok(());
    }
    let names: Vec<_> =
        case.right.iter().map(|(verdict, reason)| format!("{verdict:?} ({})", reason.name())).collect();
    Err(Error::SelfTest { packet: case.name, expected: names.join(" or "), found: format!("{said:?}") })
}

/// Runs one packet through the program, as if it came in on the interface with this number, or goes out there.
pub(super) fn judge(
    program: &SchedClassifier,
    packet: &[u8],
    interface: u32,
    mark: u32,
) -> Result<Verdict, Error> {
    Ok(test_run(program, packet, interface, mark, 1)?.return_value.into())
}

/// The same, with what has become of the packet.
pub(super) fn rewrite(
    program: &SchedClassifier,
    packet: &[u8],
    interface: u32,
) -> Result<(Verdict, Vec<u8>), Error> {
    let mut rewritten = vec![0; packet.len() + ROOM];
    let context = context(interface, 0);
    let result = program.test_run(TestRunOptions {
        data_in: Some(packet),
        data_out: Some(&mut rewritten),
        ctx_in: Some(context.as_bytes()),
        ..TestRunOptions::default()
    })?;
    rewritten.truncate(usize::try_from(result.data_size_out).unwrap_or(0));
    Ok((result.return_value.into(), rewritten))
}

/// How long the program takes for one packet, the mean of so many runs of it over the same one.
pub(super) fn time(
    program: &SchedClassifier,
    packet: &[u8],
    interface: u32,
    runs: u32,
) -> Result<Duration, Error> {
    Ok(test_run(program, packet, interface, 0, runs)?.duration)
}

/// The fields of `struct __sk_buff` (linux/bpf.h) that are not zero, each four octets long: the third
/// is the mark, the eleventh the interface.
const fn context(interface: u32, mark: u32) -> [u32; 11] {
    [0, 0, mark, 0, 0, 0, 0, 0, 0, 0, interface]
}

fn test_run(
    program: &SchedClassifier,
    packet: &[u8],
    interface: u32,
    mark: u32,
    repeat: u32,
) -> Result<TestRunResult, Error> {
    let context = context(interface, mark);
    Ok(program.test_run(TestRunOptions {
        data_in: Some(packet),
        ctx_in: Some(context.as_bytes()),
        repeat,
        ..TestRunOptions::default()
    })?)
}
