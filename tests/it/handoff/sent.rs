//! What this machine's stack still sends in the name of a flow, by `BPF_PROG_TEST_RUN`: nothing that would break one
//! which is handed off, or is just being.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use gateway::clock;
use gateway::config::file::Intercept;
use gateway::datapath::flow_table::{FlowTable, key};
use gateway::datapath::object::Settings;
use gateway::datapath::selftest::Verdict::{Drop, Pass};
use gateway_common::flow::FlowKey;
use gateway_common::translation::{Cut, End, State, Translation};

use crate::packet::{ACK, FIN, Frame, RST, SYN, Tcp};
use crate::packets::{Bench, apart};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// What the server has as the client's address and port.
const SEEN: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 1), 41_000);

/// The entries of one flow, in both directions.
struct Flow {
    table: FlowTable,
    up: FlowKey,
    down: FlowKey,
}

impl Flow {
    fn new(bench: &mut Bench) -> anyhow::Result<Self> {
        let server = SocketAddr::from((SERVER, 25));
        Ok(Self {
            table: bench.kernel.flow_table().context("the table is taken")?,
            up: key(SocketAddr::from((CLIENT, 40_000)), server),
            down: key(server, SocketAddr::from(SEEN)),
        })
    }

    fn set(&mut self, state: impl Fn(Translation) -> Translation) -> anyhow::Result<()> {
        let now = clock::monotonic();
        self.table.set(&self.up, state(Translation::watch(&self.down, true, now)))?;
        Ok(self.table.set(&self.down, state(Translation::watch(&self.up, false, now)))?)
    }

    fn states(&self) -> [Option<State>; 2] {
        [self.up, self.down].map(|key| self.table.find(&key).map(|entry| entry.state()))
    }
}

/// A segment to the client, and one to the server.
fn segments(flags: u8) -> [(&'static str, Vec<u8>); 2] {
    let down = Frame::v4(SERVER, CLIENT, Tcp { source: 25, ..Tcp::to(40_000, flags) });
    let up = Frame::v4(SEEN.0, SERVER, Tcp { source: SEEN.1, ..Tcp::to(25, flags) });
    [("to the client", down.sound()), ("to the server", up.sound())]
}

/// All that a stack may say of a flow.
const SAYINGS: [(&str, u8); 5] =
    [("ACK", ACK), ("RST", RST), ("RST, ACK", RST | ACK), ("FIN, ACK", FIN | ACK), ("SYN, ACK", SYN | ACK)];

#[test]
fn the_stack_says_nothing_that_breaks_a_flow_which_is_handed_off() -> anyhow::Result<()> {
    apart(|_| {
        let settings = Settings::from(&Intercept::default());
        let mut bench = Bench::with(&settings)?;
        let mut flow = Flow::new(&mut bench)?;
        let end = End { write: 5, expected: 9, ..End::default() };
        let frozen = |entry: Translation| entry.frozen(clock::monotonic());
        let forwarding = |entry: Translation| entry.forwarding(&end, &end);
        let states: [&dyn Fn(Translation) -> Translation; 2] = [&frozen, &forwarding];
        for state in states {
            flow.set(state)?;
            for (name, flags) in SAYINGS {
                for (to, packet) in segments(flags) {
                    let what = format!("{name} {to}, {:?}", flow.states());
                    // Without a socket, the stack is the one that speaks.
                    let stray = bench.judge_sent(&packet, 0).context(what.clone())?;
                    ensure!(stray == (Drop, Some("stray")), "{what}: {stray:?}");
                    // A socket's own words in the middle of its flow were true before the handoff, and are after it.
                    let right = if flags == ACK { (Pass, None) } else { (Drop, Some("stray")) };
                    let own = bench.judge_sent(&packet, settings.own_mark).context(what.clone())?;
                    ensure!(own == right, "{what}, of the gateway: {own:?}");
                }
            }
        }
        Ok(())
    })
}

#[test]
fn what_is_not_handed_off_is_for_its_sockets_to_say() -> anyhow::Result<()> {
    apart(|_| {
        let settings = Settings::from(&Intercept::default());
        let mut bench = Bench::with(&settings)?;
        let mut flow = Flow::new(&mut bench)?;
        let condemned = |entry: Translation| entry.condemned(Cut::Reset);
        let states: [&dyn Fn(Translation) -> Translation; 2] = [&|entry| entry, &condemned];
        let mut all_pass = |flow: &Flow| {
            for (name, flags) in SAYINGS {
                for ((to, packet), mark) in segments(flags).into_iter().zip([0, settings.own_mark]) {
                    let said = bench.judge_sent(&packet, mark)?;
                    ensure!(said == (Pass, None), "{name} {to}, {:?}: {said:?}", flow.states());
                }
            }
            Ok(())
        };
        all_pass(&flow)?;
        for state in states {
            flow.set(state)?;
            all_pass(&flow)?;
        }
        Ok(())
    })
}

#[test]
fn a_flow_that_the_gateway_ended_makes_room_for_one_that_the_gateway_opens() -> anyhow::Result<()> {
    apart(|_| {
        let settings = Settings::from(&Intercept::default());
        let mut bench = Bench::with(&settings)?;
        let mut flow = Flow::new(&mut bench)?;
        let end = End { write: 5, expected: 9, ..End::default() };
        let [_, (_, opening)] = segments(SYN);
        flow.set(|entry| entry.forwarding(&end, &end))?;
        let said = bench.judge_sent(&opening, settings.own_mark)?;
        ensure!(said == (Drop, Some("stray")), "while both ends have it: {said:?}");
        ensure!(flow.states() == [Some(State::Forwarding); 2], "{:?}", flow.states());
        flow.set(|entry| entry.forwarding(&end, &end).condemned(Cut::Drop))?;
        let said = bench.judge_sent(&opening, settings.own_mark)?;
        ensure!(said == (Pass, None), "once it is condemned: {said:?}");
        ensure!(flow.states() == [Some(State::Over); 2], "{:?}", flow.states());
        Ok(())
    })
}
