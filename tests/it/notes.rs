//! What the kernel program tells of packets beside its verdict: notes of flows, and debug lines.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use gateway::config::file::{Intercept, WhenDown};
use gateway::datapath::maps::Family;
use gateway::datapath::object::Settings;
use gateway::datapath::selftest::Verdict::Drop;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::packet::{Frame, SYN, Tcp};
use crate::packets::{Bench, LOOPBACK, apart, v4};

fn dropping() -> Settings {
    Settings { when_down: WhenDown::Drop, ..Settings::from(&Intercept::default()) }
}

#[test]
fn the_kernel_notes_what_a_syn_offers() -> anyhow::Result<()> {
    apart(|_| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut bench = Bench::with(&dropping())?;
        bench.kernel.set_listener(Family::V4, listener.as_fd())?;
        let client: SocketAddr = "192.0.2.2:40000".parse()?;
        let server: SocketAddr = "198.51.100.2:25".parse()?;
        assert!(bench.kernel.facts(client, server).is_none());
        let options = [1, 2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 3, 3, 0];
        let frame = v4().tcp(Tcp::to(25, SYN).with_options(&options)).tag(0x88a8, 0x6064).tag(0x8100, 200);
        // A test packet is not at an ingress hook, so it cannot be given to a socket.
        bench.expect(&frame, Drop, "down_dropped")?;
        let note = bench.kernel.facts(client, server).context("no note")?;
        assert_eq!((note.interface(), note.ttl(), note.window()), (LOOPBACK, 64, 64_240));
        assert_eq!(note.mac(), Some([2, 0, 0, 0, 0, 1]));
        assert_eq!(note.vlan(), [200, 100]);
        assert_eq!(
            (note.mss(), note.window_scale(), note.sack(), note.timestamps()),
            (1460, Some(0), true, true)
        );
        Ok(())
    })
}

#[test]
fn a_flood_of_syns_pushes_old_notes_out_and_takes_no_more_memory() -> anyhow::Result<()> {
    apart(|_| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut bench = Bench::with(&Settings { flow_table_size: 1024, ..dropping() })?;
        bench.kernel.set_listener(Family::V4, listener.as_fd())?;
        let server = Ipv4Addr::new(198, 51, 100, 2);
        let client = |number: u16| {
            let [high, low] = number.to_be_bytes();
            (Ipv4Addr::new(10, 0, high, low), 1024 + number)
        };
        for number in 0..20_000 {
            let (address, port) = client(number);
            let syn = Frame::v4(address, server, Tcp { source: port, ..Tcp::to(25, SYN) });
            bench.kernel.judge(&syn.bytes(), LOOPBACK, 0)?;
        }
        let kept = (0..20_000).filter(|number| {
            bench.kernel.facts(SocketAddr::from(client(*number)), SocketAddr::from((server, 25))).is_some()
        });
        let kept: Vec<_> = kept.collect();
        assert!(kept.len() <= 1024 && kept.len() > 256, "{} notes", kept.len());
        assert!(kept.contains(&19_999), "the newest is not among them");
        Ok(())
    })
}

#[test]
fn debug_lines_come_when_asked_for_and_only_then() -> anyhow::Result<()> {
    apart(|_| {
        let mut silent = Bench::with(&dropping())?;
        silent.expect(&v4(), Drop, "down_dropped")?;
        assert!(silent.kernel.log_fd().is_none());
        let mut talking = Bench::with(&Settings { debug: true, ..dropping() })?;
        assert!(!is_readable(&talking)?);
        talking.expect(&v4(), Drop, "down_dropped")?;
        assert!(is_readable(&talking)?);
        talking.kernel.flush_log();
        assert!(!is_readable(&talking)?);
        Ok(())
    })
}

fn is_readable(bench: &Bench) -> anyhow::Result<bool> {
    let log = bench.kernel.log_fd().context("no debug lines")?;
    Ok(poll(&mut [PollFd::new(log, PollFlags::POLLIN)], PollTimeout::ZERO)? == 1)
}
