//! Flows that the kernel carries and the gateway ends: both ends are reset at once, idle or busy.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway::clock;
use gateway::config::file::Attach;
use gateway::datapath::carrier::{Carrier, Order, Word};
use gateway::datapath::flow_table::key;
use gateway::datapath::object::{Kernel, Settings};
use gateway::datapath::reset::{Cut, Whose};
use gateway::intercept::address::{ClientAddr, OriginalDst};
use gateway::ipc::flow::{FlowEnd, FlowReport};
use gateway_common::translation::{End, Translation};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::{process, wait};
use ipnet::IpNet;
use socket2::Socket;

use crate::handoff::{Direct, Router, directly, on_router, on_router_with};
use crate::router::{self, FAMILIES, OWN_MARK, listen_on_server};

const PATIENCE: Duration = Duration::from_secs(30);
/// An idle end is reset within this. It takes milliseconds, and the machine may be busy.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The thread that ends flows, and what it says.
struct Executioner {
    carrier: Carrier,
    runtime: tokio::runtime::Runtime,
}

/// What is left of a router.
struct Rest {
    kernel: Kernel,
    listeners: [Socket; 2],
}

impl Executioner {
    /// Takes the table of a router whose flows are handed off; the rest of it stays.
    fn new(router: Router<'_>) -> anyhow::Result<(Self, Rest)> {
        let Router { mut kernel, table, listeners, .. } = router;
        let caught = kernel.caught().context("the packets are taken")?;
        let carrier = Carrier::start(table, caught)?;
        let (idle, ports) = (Duration::ZERO, vec![25]);
        carrier.order(Order::Configure { idle, own_mark: OWN_MARK, ports, number: 1 });
        carrier.order(Order::Announce);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok((Self { carrier, runtime }, Rest { kernel, listeners }))
    }

    fn condemn(&self, whose: Whose, cut: Cut) {
        self.carrier.order(Order::Condemn { whose, cut, end: FlowEnd::Limit });
    }

    /// The next report.
    fn report(&mut self) -> anyhow::Result<FlowReport> {
        loop {
            let word = self
                .runtime
                .block_on(async { tokio::time::timeout(PATIENCE, self.carrier.word()).await })?
                .context("the thread has ended")?;
            match word {
                Word::Ended(mut flows) if flows.len() == 1 => return flows.pop().context("no report"),
                Word::Carried(_) | Word::Changed(_) | Word::Ports { .. } => {}
                other @ (Word::Answer { .. }
                | Word::Ended(_)
                | Word::Settled(_)
                | Word::Over { .. }
                | Word::FannedOut { .. }
                | Word::Clients { .. }) => {
                    anyhow::bail!("{other:?}")
                }
            }
        }
    }
}

fn flow(direct: &Direct) -> anyhow::Result<Whose> {
    Ok(Whose::Flow {
        client: ClientAddr::new(direct.client.local_addr()?),
        destination: OriginalDst::new(direct.client.peer_addr()?),
    })
}

/// What ends a connection whose end waits for octets.
fn end(mut stream: &TcpStream) -> anyhow::Result<ErrorKind> {
    let mut buffer = [0; 65_536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(ErrorKind::UnexpectedEof),
            Ok(_) => {}
            Err(error) => return Ok(error.kind()),
        }
    }
}

/// Both ends are reset, without a word of theirs, and soon.
fn both_are_reset(direct: &Direct) -> anyhow::Result<()> {
    let began = clock::now();
    for stream in [&direct.client, &direct.served] {
        ensure!(end(stream)? == ErrorKind::ConnectionReset);
    }
    ensure!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
    Ok(())
}

fn ends_idle(settings: &Settings, set_up: fn(&Lab) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for family in FAMILIES {
        for source in [family.client(), family.router()] {
            on_router_with(settings, |mut router| {
                set_up(router.lab)?;
                let server = listen_on_server(router.lab, family)?;
                let session = router.session(&server, family, source)?;
                let direct = router.direct(session)?;
                direct.stream(100_000, 3)?;
                let whose = flow(&direct)?;
                let (mut executioner, _rest) = Executioner::new(router)?;
                executioner.condemn(whose, Cut::Reset);
                let began = clock::now();
                both_are_reset(&direct).with_context(|| format!("from {source}"))?;
                let report = executioner.report()?;
                // The ends have said that they are gone: nobody had to lose patience.
                ensure!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
                ensure!(
                    report.end == FlowEnd::Limit
                        && report.ends.client.socket() == direct.client.local_addr()?
                );
                ensure!(report.from_client.octets >= 100_000 && report.from_server.octets >= 100_000);
                Ok(())
            })?;
        }
    }
    Ok(())
}

#[test]
fn an_idle_flow_is_reset_at_both_ends_at_once() -> anyhow::Result<()> {
    ends_idle(&router::settings(), |_| Ok(()))
}

#[test]
fn a_flow_without_timestamps_is_reset_at_both_ends_at_once() -> anyhow::Result<()> {
    ends_idle(&router::settings(), |lab| {
        lab.client().sysctl("ipv4/tcp_timestamps", "0")?;
        lab.server().sysctl("ipv4/tcp_timestamps", "0")
    })
}

#[test]
fn filters_in_a_qdisc_let_the_resets_out_too() -> anyhow::Result<()> {
    ends_idle(&Settings { attach: Attach::Clsact, ..router::settings() }, |_| Ok(()))
}

#[test]
fn a_stateful_firewall_lets_the_resets_out_too() -> anyhow::Result<()> {
    ends_idle(&router::settings(), |lab| {
        let rules = lab.directory().join("rules.nft");
        std::fs::write(&rules, crate::neighbours::FIREWALL)?;
        process::done(lab.router().command("nft").arg("-f").arg(&rules)).map(drop)
    })
}

#[test]
fn what_a_predecessor_condemned_is_reset_by_its_successor() -> anyhow::Result<()> {
    on_router(|mut router| {
        let direct = directly(&mut router, Family::V6)?;
        let up = key(direct.client.local_addr()?, direct.client.peer_addr()?);
        let entry = router.table.find(&up).context("no entry")?;
        let down = entry.peer(&up);
        let answer = router.table.find(&down).context("no entry")?;
        router.table.set(&up, entry.condemned(Cut::Reset))?;
        router.table.set(&down, answer.condemned(Cut::Reset))?;
        let (mut executioner, _rest) = Executioner::new(router)?;
        both_are_reset(&direct)?;
        ensure!(executioner.report()?.end == FlowEnd::Ended);
        Ok(())
    })
}

#[test]
fn a_busy_flow_is_reset_at_both_ends() -> anyhow::Result<()> {
    for family in FAMILIES {
        on_router(|mut router| {
            let direct = directly(&mut router, family)?;
            let whose = flow(&direct)?;
            let (mut executioner, _rest) = Executioner::new(router)?;
            std::thread::scope(|scope| {
                let ends = [&direct.client, &direct.served].map(|stream| {
                    let writer = scope.spawn(move || {
                        let (mut stream, octets) = (stream, [7; 65_536]);
                        loop {
                            if let Err(error) = stream.write_all(&octets) {
                                return error.kind();
                            }
                        }
                    });
                    (writer, scope.spawn(move || end(stream)))
                });
                std::thread::sleep(Duration::from_millis(300));
                executioner.condemn(whose, Cut::Reset);
                for (writer, reader) in ends {
                    let written = writer.join().expect("does not panic");
                    let read = reader.join().expect("does not panic")?;
                    // One of the two hears of the reset, the other finds that it has been told.
                    let heard = [written, read];
                    ensure!(heard.contains(&ErrorKind::ConnectionReset), "{heard:?}");
                }
                anyhow::Ok(())
            })?;
            ensure!(executioner.report()?.end == FlowEnd::Limit);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn all_flows_of_a_network_are_ended_and_no_other() -> anyhow::Result<()> {
    on_router(|mut router| {
        let (four, six) = (directly(&mut router, Family::V4)?, directly(&mut router, Family::V6)?);
        let (mut executioner, _rest) = Executioner::new(router)?;
        executioner.condemn(Whose::Clients("192.0.2.0/24".parse()?), Cut::Reset);
        both_are_reset(&four)?;
        ensure!(executioner.report()?.ends.client.socket() == four.client.local_addr()?);
        six.stream(100_000, 5)?;
        Ok(())
    })
}

#[test]
fn a_flow_whose_packets_are_dropped_is_reported_at_once_and_gives_way_to_another() -> anyhow::Result<()> {
    on_router(|mut router| {
        let lab = router.lab;
        let direct = directly(&mut router, Family::V4)?;
        let whose = flow(&direct)?;
        let (mut executioner, rest) = Executioner::new(router)?;
        executioner.condemn(whose, Cut::Drop);
        ensure!(executioner.report()?.end == FlowEnd::Limit);
        (&direct.client).write_all(b"nobody hears this")?;
        direct.served.set_read_timeout(Some(Duration::from_millis(500)))?;
        ensure!(matches!(end(&direct.served)?, ErrorKind::WouldBlock | ErrorKind::TimedOut));
        wait::until(PATIENCE, "dropped packets", || {
            let counters = rest.kernel.counters()?;
            Ok(counters.iter().any(|(name, count)| *name == "condemned" && *count > 0).then_some(()))
        })?;

        // The same addresses and ports once more.
        let (from, to) = (direct.client.local_addr()?, direct.client.peer_addr()?);
        socket2::SockRef::from(&direct.client).set_linger(Some(Duration::ZERO))?;
        drop(direct);
        let again = router::connect_again(lab.client(), from, to)?;
        let [listener, _] = &rest.listeners;
        let (accepted, peer) = listener.accept()?;
        ensure!(peer.as_socket() == Some(from));
        router::carry(&again, &accepted.into(), b"another flow")
    })
}

/// Flows of others in the kernel.
const OTHERS: u32 = 50_000;
/// Clients that are locked in the same moment.
const LOCKED: u32 = 400;

#[test]
fn a_flow_is_ended_and_no_other_waits_while_very_many_networks_are_cut_off() -> anyhow::Result<()> {
    on_router(|mut router| {
        let direct = directly(&mut router, Family::V4)?;
        let server = direct.client.peer_addr()?;
        let now = clock::monotonic();
        for number in 0..OTHERS {
            let client = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 | number), 40_000));
            let (up, down) = (key(client, server), key(server, client));
            let end = End::default();
            router.table.set(&up, Translation::watch(&down, true, now).forwarding(&end, &end))?;
            router.table.set(&down, Translation::watch(&up, false, now).forwarding(&end, &end))?;
        }
        let whose = flow(&direct)?;
        let (mut executioner, _rest) = Executioner::new(router)?;
        for number in 0..LOCKED {
            let net = IpNet::from(IpAddr::from(Ipv4Addr::from(0x0b00_0000 | number)));
            executioner.condemn(Whose::Clients(net), Cut::Reset);
        }
        let began = wait::now();
        executioner.condemn(whose, Cut::Reset);
        executioner.report()?;
        // A walk through the table for each of them takes a minute.
        ensure!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        Ok(())
    })
}
