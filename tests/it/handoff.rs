//! Sessions that the kernel carries alone: everything the kernel program does with them, on real
//! connections between a client and a server.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use gateway::config::file::{Attach, Intercept};
use gateway::datapath::flow_table::FlowTable;
use gateway::datapath::handoff::{self, Pair, Refusal};
use gateway::datapath::object::{Kernel, Settings};
use gateway_tests::lab::{self, LAN, Lab, WAN};
use gateway_tests::netns::Netns;
use gateway_tests::wait;
use socket2::Socket;

use crate::router::{self, FAMILIES, OWN_MARK, listen_on_server, transparent};

const PATIENCE: Duration = Duration::from_secs(10);

/// A router with the program, and the test as its proxy.
pub(crate) struct Router<'lab> {
    pub(crate) lab: &'lab Lab,
    pub(crate) kernel: Kernel,
    pub(crate) table: FlowTable,
    pub(crate) listeners: [Socket; 2],
}

/// The four ends of a session: the client's, the gateway's two, and the server's.
pub(crate) struct Session {
    client: TcpStream,
    accepted: TcpStream,
    upstream: TcpStream,
    served: TcpStream,
}

/// The two that are left when it is handed off.
pub(crate) struct Direct {
    pub(crate) client: TcpStream,
    pub(crate) served: TcpStream,
}

pub(crate) fn on_router(work: impl FnOnce(Router<'_>) -> anyhow::Result<()> + Send) -> anyhow::Result<()> {
    on_router_with(&router::settings(), work)
}

pub(crate) fn on_router_with(
    settings: &Settings,
    work: impl FnOnce(Router<'_>) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    router::on_router(settings, |router| {
        let router::Router { lab, mut kernel, listeners } = router;
        for listener in &listeners {
            listener.set_read_timeout(Some(PATIENCE))?;
        }
        let table = kernel.flow_table().context("the table is taken")?;
        work(Router { lab, kernel, table, listeners })
    })
}

impl Router<'_> {
    /// A session whose upstream connection comes from `source`, with octets passed both ways.
    pub(crate) fn session(
        &mut self,
        server: &TcpListener,
        family: lab::Family,
        source: IpAddr,
    ) -> anyhow::Result<Session> {
        let client = connect(self.lab.client(), family)?;
        let (accepted, _) = self.listeners[usize::from(family == lab::Family::V6)].accept()?;
        let upstream = transparent(source)?;
        upstream.set_mark(OWN_MARK)?;
        upstream.bind(&SocketAddr::new(source, 0).into())?;
        upstream.connect_timeout(&server.local_addr()?.into(), PATIENCE)?;
        let (served, _) = server.accept()?;
        let session = Session { client, accepted: accepted.into(), upstream: upstream.into(), served };
        for socket in [&session.client, &session.accepted, &session.upstream, &session.served] {
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.set_nodelay(true)?;
        }
        // The first look only begins to watch.
        ensure!(self.hand_off(&session)? == Err(Refusal::Unseen));
        session.pass()?;
        Ok(session)
    }

    fn hand_off(&mut self, session: &Session) -> anyhow::Result<Result<(), Refusal>> {
        let pair = Pair::new(session.accepted.try_clone()?.into(), session.upstream.try_clone()?.into());
        let mut answers = handoff::hand_off(vec![pair], &mut self.table);
        answers.pop().context("no answer")
    }

    /// Hands a session off, at the first quiet instant.
    pub(crate) fn direct(&mut self, session: Session) -> anyhow::Result<Direct> {
        wait::until(PATIENCE, "a quiet instant", || match self.hand_off(&session)? {
            Ok(()) => Ok(Some(())),
            Err(Refusal::Busy) => Ok(None),
            Err(refusal) => bail!("refused: {refusal:?}"),
        })?;
        let Session { client, served, .. } = session;
        Ok(Direct { client, served })
    }

    fn count(&self, reason: &str) -> anyhow::Result<u64> {
        let counters = self.kernel.counters()?;
        let found = counters.into_iter().find(|(name, _)| *name == reason);
        found.map(|(_, count)| count).context("no such reason")
    }
}

impl Session {
    /// A word each way, through the gateway's sockets.
    fn pass(&self) -> anyhow::Result<()> {
        carry(&self.client, &self.accepted, b"from the client")?;
        carry(&self.upstream, &self.served, b"from the client")?;
        carry(&self.served, &self.upstream, b"from the server")?;
        carry(&self.accepted, &self.client, b"from the server")
    }
}

impl Direct {
    /// Seeded octets both ways at once.
    pub(crate) fn stream(&self, octets: usize, seed: u64) -> anyhow::Result<()> {
        let (up, down) = (noise(octets, seed), noise(octets, !seed));
        std::thread::scope(|scope| {
            let upward = scope.spawn(|| carry(&self.client, &self.served, &up));
            carry(&self.served, &self.client, &down)?;
            upward.join().expect("does not panic")
        })
    }

    /// Both ends close, the client first or last.
    fn close(self, client_first: bool) -> anyhow::Result<()> {
        let (first, second) =
            if client_first { (self.client, self.served) } else { (self.served, self.client) };
        first.shutdown(Shutdown::Write)?;
        ensure!((&second).read(&mut [0; 1])? == 0, "no end after the first half was closed");
        carry(&second, &first, b"the other half is still open")?;
        second.shutdown(Shutdown::Write)?;
        ensure!((&first).read(&mut [0; 1])? == 0, "no end after the second half was closed");
        Ok(())
    }
}

fn connect(netns: &Netns, family: lab::Family) -> anyhow::Result<TcpStream> {
    netns.enter(|| Ok(TcpStream::connect_timeout(&family.smtp(), PATIENCE)?))?
}

/// Octets that look random, the same for the same seed (xorshift).
fn noise(octets: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(octets).collect()
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
        let done = to.read_exact(&mut read);
        writer.join().expect("the writer does not panic")?;
        done?;
        ensure!(read == bytes, "other octets came out");
        Ok(())
    })
}

/// Sockets of the router that have to do with the session's port.
fn sockets(lab: &Lab) -> anyhow::Result<usize> {
    let mut ss = lab.router().command("ss");
    ss.args(["-H", "-t", "-n", "-a", "( sport = :25 or dport = :25 )"]);
    Ok(gateway_tests::process::done(&mut ss)?.lines().count())
}

#[test]
fn octets_pass_both_ways_and_no_socket_is_left() -> anyhow::Result<()> {
    on_router(|mut router| {
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            for source in [family.client(), family.router()] {
                let session = router.session(&server, family, source)?;
                ensure!(sockets(router.lab)? == 2);
                let direct = router.direct(session)?;
                ensure!(sockets(router.lab)? == 0, "{source}: sockets are left");
                carry(&direct.client, &direct.served, b"a word")?;
                carry(&direct.served, &direct.client, b"and another")?;
                direct.stream(8_000_000, 7).with_context(|| format!("from {source}"))?;
                direct.close(family == lab::Family::V4)?;
            }
        }
        ensure!(router.count("redirected")? > 1000);
        ensure!(router.count("no_socket")? == 0);
        Ok(())
    })
}

/// A session in the middle of a dialogue while it is handed off: octets come whenever they like.
struct Dialogue {
    session: Session,
    seed: u64,
}

/// Octets of each dialogue and direction, in small pieces with pauses.
const TALK: usize = 2_000;

impl Dialogue {
    /// Both ends talk and listen; what they hear must be what was said.
    fn talk(&self) -> anyhow::Result<()> {
        let (client, served) = (&self.session.client, &self.session.served);
        std::thread::scope(|scope| {
            let seed = self.seed;
            let said = [scope.spawn(move || say(client, seed)), scope.spawn(move || say(served, !seed))];
            hear(served, seed).context("at the server")?;
            hear(client, !seed).context("at the client")?;
            for said in said {
                said.join().expect("does not panic")?;
            }
            Ok(())
        })
    }

    /// Moves on what has come to the gateway's sockets.
    fn relay(&self) -> anyhow::Result<()> {
        let Session { accepted, upstream, .. } = &self.session;
        for (mut from, mut to) in [(accepted, upstream), (upstream, accepted)] {
            from.set_nonblocking(true)?;
            let mut buffer = [0; TALK];
            match from.read(&mut buffer) {
                Ok(octets) => to.write_all(&buffer[..octets])?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn say(mut to: &TcpStream, seed: u64) -> std::io::Result<()> {
    let octets = noise(TALK, seed);
    for (piece, pause) in octets.chunks(TALK / 8).zip(noise(8, seed.rotate_left(7))) {
        std::thread::sleep(Duration::from_micros(u64::from(pause) * 100));
        to.write_all(piece)?;
    }
    Ok(())
}

fn hear(mut from: &TcpStream, seed: u64) -> anyhow::Result<()> {
    let mut heard = vec![0; TALK];
    from.read_exact(&mut heard)?;
    ensure!(heard == noise(TALK, seed), "other octets came out");
    Ok(())
}

/// Hands off so many dialogues, `WIDTH` at a time; none may lose an octet or its life.
fn hand_off_dialogues(number: usize) -> anyhow::Result<()> {
    const WIDTH: usize = 25;
    on_router(|mut router| {
        let (mut direct, mut seed) = (0, 1);
        let servers =
            [listen_on_server(router.lab, FAMILIES[0])?, listen_on_server(router.lab, FAMILIES[1])?];
        while direct < number {
            let family = FAMILIES[direct / WIDTH % 2];
            let dialogues = (0..WIDTH)
                .map(|place| {
                    seed += 1;
                    let source = if place % 2 == 0 { family.client() } else { family.router() };
                    let session =
                        router.session(&servers[usize::from(family == FAMILIES[1])], family, source)?;
                    Ok(Dialogue { session, seed: u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15) })
                })
                .collect::<anyhow::Result<Vec<_>>>()?;
            direct += std::thread::scope(|scope| {
                let talks: Vec<_> =
                    dialogues.iter().map(|dialogue| scope.spawn(|| dialogue.talk())).collect();
                let direct = router.hand_off_while_they_talk(&dialogues);
                for talk in talks {
                    talk.join().expect("does not panic")?;
                }
                direct
            })?;
            for dialogue in dialogues {
                let Session { client, served, .. } = dialogue.session;
                Direct { client, served }.close(dialogue.seed % 3 == 0)?;
            }
        }
        Ok(())
    })
}

impl Router<'_> {
    /// Says how many were handed off: all of them, sooner or later.
    fn hand_off_while_they_talk(&mut self, dialogues: &[Dialogue]) -> anyhow::Result<usize> {
        let mut open: Vec<_> = dialogues.iter().collect();
        let deadline = wait::Deadline::after(PATIENCE);
        while !open.is_empty() {
            ensure!(!deadline.passed(), "{} of {} were never quiet", open.len(), dialogues.len());
            for dialogue in &open {
                dialogue.relay()?;
            }
            let pair = |dialogue: &&Dialogue| {
                let Session { accepted, upstream, .. } = &dialogue.session;
                Ok(Pair::new(accepted.try_clone()?.into(), upstream.try_clone()?.into()))
            };
            let pairs = open.iter().map(pair).collect::<anyhow::Result<Vec<_>>>()?;
            let answers = handoff::hand_off(pairs, &mut self.table);
            let mut left = Vec::new();
            for (dialogue, answer) in open.into_iter().zip(answers) {
                match answer {
                    Ok(()) => {}
                    Err(Refusal::Busy | Refusal::Unseen) => left.push(dialogue),
                    Err(refusal) => bail!("refused: {refusal:?}"),
                }
            }
            open = left;
        }
        Ok(dialogues.len())
    }
}

#[test]
fn ten_thousand_handoffs_in_the_middle_of_a_dialogue_lose_nothing() -> anyhow::Result<()> {
    hand_off_dialogues(10_000)
}

/// Hands off a session from the client's own address.
pub(crate) fn directly(router: &mut Router<'_>, family: lab::Family) -> anyhow::Result<Direct> {
    let server = listen_on_server(router.lab, family)?;
    let session = router.session(&server, family, family.client())?;
    router.direct(session)
}

/// What a read or a write at the end of a connection fails with, once it does.
fn failure(mut end: &TcpStream) -> anyhow::Result<std::io::ErrorKind> {
    wait::until(PATIENCE, "an error", || {
        Ok(end.write_all(b"x").and_then(|()| end.read(&mut [0])).err().map(|error| error.kind()))
    })
}

#[test]
fn a_reset_reaches_the_other_end() -> anyhow::Result<()> {
    on_router(|mut router| {
        for family in FAMILIES {
            for by_client in [true, false] {
                let Direct { client, served } = directly(&mut router, family)?;
                let (resets, meets) = if by_client { (client, served) } else { (served, client) };
                socket2::SockRef::from(&resets).set_linger(Some(Duration::ZERO))?;
                drop(resets);
                ensure!(failure(&meets)? == std::io::ErrorKind::ConnectionReset);
            }
        }
        Ok(())
    })
}

#[test]
fn both_ends_may_close_in_any_order_or_at_once() -> anyhow::Result<()> {
    on_router(|mut router| {
        for family in FAMILIES {
            for client_first in [true, false] {
                directly(&mut router, family)?.close(client_first)?;
            }
            let Direct { client, served } = directly(&mut router, family)?;
            std::thread::scope(|scope| {
                let ends = [&client, &served].map(|end| {
                    scope.spawn(move || {
                        let mut end = end;
                        end.shutdown(Shutdown::Write)?;
                        end.read(&mut [0])
                    })
                });
                for end in ends {
                    ensure!(end.join().expect("does not panic")? == 0, "no end");
                }
                anyhow::Ok(())
            })?;
        }
        Ok(())
    })
}

#[test]
fn a_receiver_that_does_not_read_stops_the_sender_and_loses_nothing() -> anyhow::Result<()> {
    on_router(|mut router| {
        let direct = directly(&mut router, lab::Family::V4)?;
        let bytes = noise(12_000_000, 3);
        for (from, to) in [(&direct.client, &direct.served), (&direct.served, &direct.client)] {
            std::thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    let mut from = from;
                    from.write_all(&bytes)
                });
                // Long enough for the window to close and for a probe of it.
                std::thread::sleep(Duration::from_millis(700));
                let mut read = vec![0; bytes.len()];
                let mut to = to;
                to.read_exact(&mut read)?;
                writer.join().expect("does not panic")?;
                ensure!(read == bytes, "other octets came out");
                anyhow::Ok(())
            })?;
        }
        Ok(())
    })
}

#[test]
fn lost_packets_are_sent_again_and_fill_the_right_gaps() -> anyhow::Result<()> {
    on_router(|mut router| {
        for netns in [router.lab.client(), router.lab.server()] {
            let mut nft = netns.command("nft");
            nft.arg(
                "add table inet loss; add chain inet loss in { type filter hook input priority 0; }; \
                 add rule inet loss in meta l4proto tcp numgen inc mod 61 == 7 drop",
            );
            gateway_tests::process::done(&mut nft)?;
        }
        for family in FAMILIES {
            for source in [family.client(), family.router()] {
                let server = listen_on_server(router.lab, family)?;
                let session = router.session(&server, family, source)?;
                let direct = router.direct(session)?;
                direct.stream(6_000_000, 11)?;
                direct.close(true)?;
            }
        }
        Ok(())
    })
}

/// A session that is refused for `reason`, and goes on.
fn refused(set_up: impl FnOnce(&Lab) -> anyhow::Result<()> + Send, reason: Refusal) -> anyhow::Result<()> {
    on_router(|mut router| {
        set_up(router.lab)?;
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            let session = router.session(&server, family, family.client())?;
            let answer = router.hand_off(&session)?;
            ensure!(answer == Err(reason), "{answer:?}");
            session.pass()?;
            let Session { client, upstream, served, .. } = session;
            drop((client, upstream, served));
        }
        Ok(())
    })
}

#[test]
fn timestamps_on_one_side_only_are_refused() -> anyhow::Result<()> {
    refused(|lab| lab.server().sysctl("ipv4/tcp_timestamps", "0"), Refusal::Timestamps)?;
    refused(|lab| lab.client().sysctl("ipv4/tcp_timestamps", "0"), Refusal::Timestamps)
}

#[test]
fn selective_acknowledgements_on_one_side_only_are_refused() -> anyhow::Result<()> {
    refused(|lab| lab.server().sysctl("ipv4/tcp_sack", "0"), Refusal::Sack)?;
    refused(|lab| lab.client().sysctl("ipv4/tcp_sack", "0"), Refusal::Sack)
}

#[test]
fn a_side_that_takes_only_smaller_segments_is_refused() -> anyhow::Result<()> {
    refused(|lab| lab.server().ip("link set eth0 mtu 1400").map(drop), Refusal::Segment)?;
    refused(|lab| lab.client().ip("link set eth0 mtu 1400").map(drop), Refusal::Segment)
}

#[test]
fn a_session_in_the_middle_of_a_burst_is_refused_and_loses_nothing() -> anyhow::Result<()> {
    on_router(|mut router| {
        let family = lab::Family::V4;
        let server = listen_on_server(router.lab, family)?;
        let session = router.session(&server, family, family.client())?;
        let bytes = noise(3_000_000, 5);
        std::thread::scope(|scope| {
            let burst = scope.spawn(|| {
                let mut client = &session.client;
                client.write_all(&bytes)
            });
            // The first piece may not have come yet.
            session.accepted.peek(&mut [0])?;
            for _ in 0..20 {
                let answer = router.hand_off(&session)?;
                ensure!(answer == Err(Refusal::Busy), "{answer:?}");
            }
            let mut read = vec![0; bytes.len()];
            let mut accepted = &session.accepted;
            accepted.read_exact(&mut read)?;
            burst.join().expect("does not panic")?;
            ensure!(read == bytes, "other octets came out");
            anyhow::Ok(())
        })?;
        session.pass()
    })
}

/// What is different in a lab.
type SetUp = dyn Fn(&Lab) -> anyhow::Result<()> + Sync;

#[test]
fn options_and_window_scales_of_all_kinds_are_translated() -> anyhow::Result<()> {
    let both = |key: &'static str| {
        move |lab: &Lab| {
            lab.client().sysctl(key, "0")?;
            lab.server().sysctl(key, "0")
        }
    };
    let kinds: [&SetUp; 5] = [
        &both("ipv4/tcp_timestamps"),
        &both("ipv4/tcp_sack"),
        &|lab| lab.client().sysctl("ipv4/tcp_window_scaling", "0"),
        &|lab| lab.server().sysctl("ipv4/tcp_window_scaling", "0"),
        // Another scale than the router's.
        &|lab| lab.server().sysctl("ipv4/tcp_rmem", "4096 131072 200000"),
    ];
    for set_up in kinds {
        on_router(|mut router| {
            set_up(router.lab)?;
            for family in FAMILIES {
                let direct = directly(&mut router, family)?;
                direct.stream(3_000_000, 17)?;
                direct.close(true)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Both ways, from the client's own address and from the router's.
fn streams(router: &mut Router<'_>, client: IpAddr, family: lab::Family) -> anyhow::Result<()> {
    let server = listen_on_server(router.lab, family)?;
    for source in [client, family.router()] {
        let session = router.session(&server, family, source)?;
        let direct = router.direct(session)?;
        direct.stream(3_000_000, 23).with_context(|| format!("from {source}"))?;
        direct.close(true)?;
    }
    Ok(())
}

#[test]
fn filters_in_a_qdisc_do_the_same_as_links() -> anyhow::Result<()> {
    let clsact = Settings { attach: Attach::Clsact, ..Settings::from(&Intercept::default()) };
    on_router_with(&clsact, |mut router| {
        for family in FAMILIES {
            streams(&mut router, family.client(), family)?;
        }
        let lab = router.lab;
        drop(router);
        for interface in [LAN, WAN] {
            let mut tc = lab.router().command("tc");
            let left = gateway_tests::process::done(tc.args(["qdisc", "show", "dev", interface, "clsact"]))?;
            ensure!(left.is_empty(), "{left}");
        }
        Ok(())
    })
}

#[test]
fn a_stateful_firewall_that_takes_nothing_invalid_does_not_get_in_the_way() -> anyhow::Result<()> {
    on_router(|mut router| {
        let rules = router.lab.directory().join("rules.nft");
        std::fs::write(&rules, crate::neighbours::FIREWALL)?;
        gateway_tests::process::done(router.lab.router().command("nft").arg("-f").arg(&rules))?;
        for family in FAMILIES {
            let direct = directly(&mut router, family)?;
            direct.stream(3_000_000, 29)?;
            direct.close(false)?;
        }
        Ok(())
    })
}

#[test]
fn a_connection_whose_addresses_are_translated_behind_the_gateway_keeps_its_sockets() -> anyhow::Result<()> {
    on_router(|mut router| {
        let family = lab::Family::V4;
        router.lab.router().ip(&format!("address add 198.51.100.9/24 dev {WAN}"))?;
        let mut nft = router.lab.router().command("nft");
        nft.arg(
            "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }; \
             add rule ip nat out oifname wan0 snat to 198.51.100.9",
        );
        gateway_tests::process::done(&mut nft)?;
        let server = listen_on_server(router.lab, family)?;
        let session = router.session(&server, family, family.router())?;
        ensure!(session.served.peer_addr()?.ip() == IpAddr::from([198, 51, 100, 9]));
        wait::until(PATIENCE, "a quiet instant", || match router.hand_off(&session)? {
            Err(Refusal::Busy) => Ok(None),
            Err(Refusal::Unseen) => Ok(Some(())),
            answer => bail!("{answer:?}"),
        })?;
        session.pass()?;
        Ok(())
    })
}

#[test]
fn a_link_that_becomes_narrower_tells_the_sender_who_then_sends_less() -> anyhow::Result<()> {
    on_router(|mut router| {
        for family in FAMILIES {
            let direct = directly(&mut router, family)?;
            direct.stream(1_000_000, 31)?;
            // Towards the server the client must be told, towards the client the server.
            for (interface, behind) in [(WAN, router.lab.server()), (LAN, router.lab.client())] {
                let narrow = |mtu| {
                    router.lab.router().ip(&format!("link set {interface} mtu {mtu}"))?;
                    behind.ip(&format!("link set eth0 mtu {mtu}"))
                };
                let before = router.count("too_large")?;
                narrow(1400)?;
                direct.stream(2_000_000, 37).context("over the narrow link")?;
                narrow(1500)?;
                ensure!(router.count("too_large")? > before, "nobody was told at {interface}");
            }
            direct.close(true)?;
        }
        Ok(())
    })
}
