//! Resets that the kernel program answers SYNs of locked clients with, octet by octet.

use anyhow::{Context as _, ensure};
use gateway::config::file::{Intercept, LockAction};
use gateway::datapath::attach::Role;
use gateway::datapath::object::Settings;
use gateway::datapath::selftest::Verdict;
use gateway::ipc::lock::Enforced;

use super::{Bench, LOOPBACK, apart, v4, v6};
use crate::packet::{ACK, Frame, RST, SYN, Tcp, is_sound};

/// `TC_ACT_REDIRECT` (linux/pkt_cls.h).
const REDIRECT: Verdict = Verdict::Unknown(7);

/// The program with a lock for everybody.
fn with_locks(netns: &gateway_tests::netns::Netns) -> anyhow::Result<(Bench, u32)> {
    netns.ip("tuntap add mode tun name tun7")?;
    let mut bench = Bench::with(&Settings::from(&Intercept::default()))?;
    let tun = bench.kernel.attach("tun7", Role { client: true, bridge_mac: None })?.index();
    for net in ["192.0.2.0/24", "2001:db8:1::/64"] {
        let lock = Enforced { net: net.parse()?, action: LockAction::Reset, left: None };
        bench.kernel.quarantine().set(&lock)?;
    }
    Ok((bench, tun))
}

/// The same with three hops left.
fn few_hops(frame: &Frame) -> Frame {
    let place = if frame.is_v4() { 8 } else { 7 };
    frame.clone().set(place, 3)
}

/// What is right for a SYN with its IP header at `head`; checksums are zero.
fn answer(syn: &[u8], head: usize) -> Vec<u8> {
    let mut reset = syn.to_vec();
    if head > 0 {
        reset[..6].copy_from_slice(&syn[6..12]);
        reset[6..12].copy_from_slice(&syn[..6]);
    }
    let (address, addresses, tcp) = if syn[head] >> 4 == 4 { (4, 12, 20) } else { (16, 8, 40) };
    let (client, server, tcp) = (head + addresses, head + addresses + address, head + tcp);
    reset[client..server].copy_from_slice(&syn[server..server + address]);
    reset[server..server + address].copy_from_slice(&syn[client..server]);
    let hops = if address == 4 { 8 } else { 7 };
    reset[head + hops] = 64;
    reset[tcp..tcp + 2].copy_from_slice(&syn[tcp + 2..tcp + 4]);
    reset[tcp + 2..tcp + 4].copy_from_slice(&syn[tcp..tcp + 2]);
    let sequence = u32::from_be_bytes([syn[tcp + 4], syn[tcp + 5], syn[tcp + 6], syn[tcp + 7]]);
    reset[tcp + 4..tcp + 8].fill(0);
    reset[tcp + 8..tcp + 12].copy_from_slice(&(sequence + 1).to_be_bytes());
    reset[tcp + 13..tcp + 16].copy_from_slice(&[RST | ACK, 0, 0]);
    without_checksums(&reset, head)
}

fn without_checksums(packet: &[u8], head: usize) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let tcp = if packet[head] >> 4 == 4 { 20 } else { 40 };
    if tcp == 20 {
        packet[head + 10..head + 12].fill(0);
    }
    packet[head + tcp + 16..head + tcp + 18].fill(0);
    packet
}

fn check(bench: &mut Bench, interface: u32, syn: &[u8], head: usize) -> anyhow::Result<()> {
    let (verdict, reset) = bench.kernel.rewrite(syn, interface)?;
    ensure!(verdict == REDIRECT, "{verdict:?}");
    ensure!(without_checksums(&reset, head) == answer(syn, head), "{syn:02x?} was answered by {reset:02x?}");
    ensure!(is_sound(&syn[head..]) && is_sound(&reset[head..]), "checksums of {reset:02x?}");
    Ok(())
}

#[test]
fn a_syn_becomes_its_reset_with_any_tags_and_without_a_link_header() -> anyhow::Result<()> {
    apart(|netns| {
        let (mut bench, tun) = with_locks(netns)?;
        let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        for plain in [v4(), v6()] {
            for frame in
                [plain.clone(), plain.clone().tcp(Tcp::to(25, SYN).with_options(&options)), few_hops(&plain)]
            {
                let tagged = frame.clone().tag(0x8100, 100);
                let twice = tagged.clone().tag(0x88a8, 7);
                for (frame, tags) in [(frame.clone(), 0), (tagged, 4), (twice, 8)] {
                    check(&mut bench, LOOPBACK, &frame.sound(), 14 + tags)
                        .with_context(|| format!("{frame:?}"))?;
                }
                check(&mut bench, tun, &frame.checked(), 0).with_context(|| format!("bare {frame:?}"))?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_syn_that_cannot_be_turned_round_is_dropped() -> anyhow::Result<()> {
    apart(|netns| {
        let (mut bench, _) = with_locks(netns)?;
        let routed = v4().ip_options(&[131, 7, 4, 10, 0, 0, 1, 0]);
        let (verdict, _) = bench.kernel.rewrite(&routed.sound(), LOOPBACK)?;
        ensure!(verdict == Verdict::Drop, "{verdict:?}");
        let three = v4().tag(0x8100, 1).tag(0x8100, 2).tag(0x88a8, 3).sound();
        let (verdict, packet) = bench.kernel.rewrite(&three, LOOPBACK)?;
        ensure!(verdict == Verdict::Pass && packet == three, "{verdict:?}: it is not read that far");
        Ok(())
    })
}
