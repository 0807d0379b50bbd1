//! Odd packets on a real wire: fragments, wrong checksums, VLAN tags. Rows 159, 161 and 166 of the
//! attack cases are here.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use anyhow::Context as _;
use gateway_tests::lab;
use gateway_tests::netns::Netns;
use gateway_tests::wait;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};
use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::{Frame, SYN, Tcp};
use crate::router::{PATIENCE, listen_on_server, on_router, settings};

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
pub(crate) fn snmp(netns: &Netns, protocol: &str, name: &str) -> anyhow::Result<u64> {
    let table = netns.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let mut lines = table.lines().filter(|line| line.split(':').next() == Some(protocol));
    let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
    let place = names.split_whitespace().position(|word| word == name).context("no such counter")?;
    Ok(values.split_whitespace().nth(place).context("no value")?.parse()?)
}
