//! Ending flows that the kernel carries: at once, and so that both ends know.
//!
//! A condemned flow's packets are dropped by the program. An end believes a reset only with the
//! number it expects (RFC 5961 section 3), and what it expects stands in its own packets: the
//! program passes one of each direction on. An idle end is asked for one. An end that answers with
//! a reset has no connection any more, and when both do so the entries go; after a few seconds they
//! go anyway.
//!
//! `Condemned` is the state of one flow, pure; `Resets` holds all of them and does what they say.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use gateway_common::caught::Caught;
use gateway_common::flow::FlowKey;
pub use gateway_common::translation::Cut;
use gateway_common::translation::{State, Translation};
use ipnet::IpNet;

use super::cuts::Cuts;
use super::flow_table::FlowTable;
use super::segment::{Segment, Sender};
use super::sweep;
use crate::clock;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::ipc::flow::{FlowEnd, FlowReport};

/// When an end is asked again. Linux answers a connection's misplaced segments twice a second
/// (`tcp_invalid_ratelimit`, ip-sysctl of the kernel's documentation).
const AGAIN: Duration = Duration::from_millis(600);
/// How long after both ends were reset they are asked whether they are.
const CONFIRM: Duration = Duration::from_millis(50);
/// After this long the entries go, whatever the ends say.
const PATIENCE: Duration = Duration::from_secs(3);
/// Resets that one end is sent at most.
const RESETS: u8 = 8;
/// Flows that are asked in one go: their answers must fit into the ring buffer.
const BATCH: usize = 512;
/// Least time between two of those.
const PAUSE: Duration = Duration::from_millis(5);
/// Apart from one another, so that at most one is near what an end expects.
const NUMBERS: [u32; 5] = [0, 0x8000_0000, 0x4000_0000, 0xc000_0000, 0x2000_0000];

/// Which flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// One.
    Flow {
        /// Its client.
        client: ClientAddr,
        /// Its original destination.
        destination: OriginalDst,
    },
    /// All of the clients in a network.
    Clients(IpNet),
}

/// What is known of an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    /// Resets that were sent to it with the number it said it expects.
    resets: u8,
    /// It has no connection any more.
    gone: bool,
}

/// A flow whose ends are being reset.
#[derive(Debug)]
struct Condemned {
    /// Under what the server's packets come in.
    down: FlowKey,
    client: Known,
    server: Known,
    end: FlowEnd,
    /// When it is given up.
    until: Instant,
    /// When its ends are asked.
    due: Instant,
    asked: usize,
}

impl Condemned {
    fn new(down: FlowKey, end: FlowEnd, now: Instant) -> Self {
        let (client, server) = (Known::default(), Known::default());
        Self { down, client, server, end, until: now + PATIENCE, due: now, asked: 0 }
    }

    const fn is_over(&self) -> bool {
        self.client.gone && self.server.gone
    }

    /// What is to be sent now that a packet was caught whose direction is that of `entry`.
    fn caught(&mut self, caught: &Caught, entry: &Translation, now: Instant) -> Vec<Segment> {
        let (sender, other) = if entry.is_from_client() {
            (&mut self.client, &mut self.server)
        } else {
            (&mut self.server, &mut self.client)
        };
        let mut segments = Vec::new();
        if caught.is_reset() {
            sender.gone = true;
        } else if let Some(expected) = caught.acknowledgement()
            && sender.resets < RESETS
        {
            sender.resets += 1;
            segments.push(Segment::reset(caught.flow().reversed(), expected, caught.next_sequence()));
        }
        if other.resets == 0 && !other.gone {
            // What this end says next is what the other expects, if nothing was lost.
            let acknowledgement = entry.acknowledgement(caught.acknowledgement().unwrap_or_default());
            let sequence = entry.sequence(caught.sequence());
            segments.push(Segment::reset(entry.out(caught.flow()), sequence, acknowledgement));
        }
        let done = |end: &Known| end.gone || end.resets > 0;
        if done(&self.client) && done(&self.server) {
            self.due = self.due.min(now + CONFIRM);
        }
        segments
    }

    /// Asks the ends that are not known to be gone.
    fn ask(&mut self, up: FlowKey, timestamps: bool, now: Instant) -> Vec<Segment> {
        let number = NUMBERS.get(self.asked % NUMBERS.len()).copied().unwrap_or_default();
        self.asked += 1;
        self.due = now + AGAIN;
        [(self.client, up), (self.server, self.down)]
            .into_iter()
            .filter(|(end, _)| !end.gone)
            .map(|(_, key)| Segment::probe(key.reversed(), number, timestamps))
            .collect()
    }

    const fn may_be_told(&self, from_client: bool) -> bool {
        let end = if from_client { &self.client } else { &self.server };
        end.resets < RESETS && !end.gone
    }
}

/// All flows whose ends are being reset.
#[derive(Debug)]
pub(super) struct Resets {
    flows: HashMap<FlowKey, Condemned>,
    /// Absent where the system gives this process none: then the ends find out by themselves.
    sender: Option<Sender>,
    /// Not before this is anybody asked.
    pause: Instant,
}

impl Resets {
    pub(super) fn new() -> Self {
        let sender = Sender::open()
            .inspect_err(|error| {
                tracing::warn!(%error, "no raw sockets: the ends of flows that are ended are not told");
            })
            .ok();
        Self { flows: HashMap::new(), sender, pause: clock::now() }
    }

    pub(super) fn mark(&self, mark: u32) {
        if let Some(Err(error)) = self.sender.as_ref().map(|sender| sender.mark(mark)) {
            tracing::warn!(%error, "cannot set the own mark on raw sockets");
        }
    }

    /// Takes up what a predecessor has left.
    pub(super) fn adopt(&mut self, table: &FlowTable) {
        for key in table.keys() {
            self.take_up(table, &key);
        }
    }

    fn take_up(&mut self, table: &FlowTable, key: &FlowKey) -> Option<FlowKey> {
        let entry = table.find(key).filter(|entry| entry.state() == State::Condemned && entry.resets())?;
        let peer = entry.peer(key);
        let (up, down) = if entry.is_from_client() { (*key, peer) } else { (peer, *key) };
        self.flows.entry(up).or_insert_with(|| Condemned::new(down, FlowEnd::Ended, clock::now()));
        Some(up)
    }

    /// Ends all flows of these clients; those that are merely dropped have their reports at once.
    pub(super) fn condemn_all(&mut self, table: &mut FlowTable, cuts: &Cuts) -> Vec<FlowReport> {
        let of = |key: FlowKey| {
            let (cut, end) = cuts.of(IpAddr::from(key.client_addr()).to_canonical())?;
            Some((key, cut, end))
        };
        let found: Vec<_> = table.keys().filter_map(of).collect();
        found.iter().filter_map(|(up, cut, end)| self.condemn(table, up, *cut, *end)).collect()
    }

    /// Ends the flow with this client's end; one that is merely dropped has its report at once.
    pub(super) fn condemn(
        &mut self,
        table: &mut FlowTable,
        up: &FlowKey,
        cut: Cut,
        end: FlowEnd,
    ) -> Option<FlowReport> {
        let entry = table.find(up).filter(|entry| {
            entry.is_from_client() && matches!(entry.state(), State::Forwarding | State::Condemned)
        })?;
        let down = entry.peer(up);
        let answer = table.find(&down);
        let first = entry.state() == State::Forwarding;
        for (key, entry) in [(up, Some(entry)), (&down, answer)] {
            if let Some(entry) = entry
                && let Err(error) = table.set(key, entry.condemned(cut))
            {
                tracing::warn!(%error, "a flow goes on that was to be ended");
            }
        }
        match cut {
            Cut::Drop => {
                let known = self.flows.remove(up).is_some();
                (first || known).then(|| sweep::report(up, &entry, answer.as_ref(), end))
            }
            Cut::Reset => {
                if !entry.is_reported() {
                    let now = clock::now();
                    self.flows.entry(*up).or_insert_with(|| Condemned::new(down, end, now));
                }
                None
            }
        }
    }

    /// A packet of a condemned flow.
    pub(super) fn caught(&mut self, table: &mut FlowTable, caught: &Caught) -> Option<FlowReport> {
        let entry = table.find(caught.flow())?;
        let up = self.take_up(table, caught.flow())?;
        let flow = self.flows.get_mut(&up)?;
        let segments = flow.caught(caught, &entry, clock::now());
        let again = flow.may_be_told(entry.is_from_client());
        let over = flow.is_over();
        self.send(&segments);
        if over {
            return self.finish(table, &up);
        }
        if again && let Err(error) = table.set(caught.flow(), entry.condemned(Cut::Reset)) {
            tracing::debug!(%error, "a condemned flow");
        }
        None
    }

    /// When [`Self::ask`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.flows.values().map(|flow| flow.due.min(flow.until)).min().map(|due| due.max(self.pause))
    }

    /// Asks the ends that are due, and reports flows whose time is over.
    pub(super) fn ask(&mut self, table: &mut FlowTable, now: Instant) -> Vec<FlowReport> {
        if self.pause > now {
            return Vec::new();
        }
        self.pause = now + PAUSE;
        let due = |flow: &Condemned| flow.due.min(flow.until) <= now;
        let due: Vec<FlowKey> =
            self.flows.iter().filter(|(_, flow)| due(flow)).take(BATCH).map(|(up, _)| *up).collect();
        let mut reports = Vec::new();
        for up in due {
            let entry = table.find(&up);
            let Some(flow) = self.flows.get_mut(&up) else { continue };
            let condemned = entry.filter(|entry| entry.state() == State::Condemned);
            match condemned {
                Some(entry) if flow.until > now => {
                    let segments = flow.ask(up, entry.has_timestamps(), now);
                    self.send(&segments);
                }
                _ => reports.extend(self.finish(table, &up)),
            }
        }
        reports
    }

    /// The flow is over: its entries go, unless somebody else's are in their place.
    fn finish(&mut self, table: &mut FlowTable, up: &FlowKey) -> Option<FlowReport> {
        let flow = self.flows.remove(up)?;
        let entry = table.find(up).filter(Translation::resets)?;
        let answer = table.find(&flow.down);
        sweep::remove(table, up, &entry, answer.as_ref(), flow.end)
    }

    fn send(&self, segments: &[Segment]) {
        let Some(sender) = &self.sender else { return };
        for segment in segments {
            if let Err(error) = sender.send(segment) {
                tracing::debug!(%error, "a segment to an end of a condemned flow");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway_common::translation::End;

    use super::*;

    const ACK: u8 = 16;
    const RST: u8 = 4;

    fn client() -> FlowKey {
        FlowKey::new(([1; 16], [0, 9]), ([2; 16], [0, 25]))
    }

    fn server() -> FlowKey {
        FlowKey::new(([2; 16], [0, 25]), ([3; 16], [0, 8]))
    }

    /// The client's sequence numbers go out 100 higher, and its acknowledgements 1,000.
    fn entries() -> (Translation, Translation) {
        let client_end = End { write: 500, expected: 10, ..End::default() };
        let server_end = End { write: 110, expected: 1_500, ..End::default() };
        (
            Translation::watch(&server(), true, 0).forwarding(&client_end, &server_end).condemned(Cut::Reset),
            Translation::watch(&client(), false, 0)
                .forwarding(&server_end, &client_end)
                .condemned(Cut::Reset),
        )
    }

    #[test]
    fn an_end_is_reset_with_the_number_it_expects_and_the_other_with_the_translated_one() {
        let now = clock::now();
        let (up, _) = entries();
        let mut flow = Condemned::new(server(), FlowEnd::Ended, now);
        let sent = flow.caught(&Caught::new(client(), 20, 600, 5, ACK), &up, now);
        let to_client = Segment::reset(client().reversed(), 600, 25);
        let to_server = Segment::reset(server().reversed(), 120, 1_600);
        assert_eq!(sent, [to_client, to_server]);
    }

    #[test]
    fn a_flow_is_over_when_both_ends_answer_with_a_reset() {
        let now = clock::now();
        let (up, down) = entries();
        let mut flow = Condemned::new(server(), FlowEnd::Ended, now);
        assert_eq!(flow.ask(client(), true, now).len(), 2);
        assert_eq!(flow.due, now + AGAIN);
        assert_eq!(flow.caught(&Caught::new(client(), 20, 600, 0, ACK), &up, now).len(), 2);
        assert_eq!(flow.caught(&Caught::new(server(), 1_600, 120, 0, ACK), &down, now).len(), 1);
        // Soon it is asked whether they believe it.
        assert_eq!(flow.due, now + CONFIRM);
        assert_eq!(flow.caught(&Caught::new(client(), 9, 0, 0, RST), &up, now), []);
        assert!(!flow.is_over());
        assert_eq!(flow.ask(client(), true, now).len(), 1);
        flow.caught(&Caught::new(server(), 9, 0, 0, RST), &down, now);
        assert!(flow.is_over());
    }

    #[test]
    fn an_end_that_does_not_believe_is_reset_a_few_times_only() {
        let now = clock::now();
        let (up, _) = entries();
        let mut flow = Condemned::new(server(), FlowEnd::Ended, now);
        let resets: usize = (0..100)
            .map(|number| {
                let sent = flow.caught(&Caught::new(client(), 20, number, 0, ACK), &up, now);
                sent.iter().filter(|segment| segment.flow() == &client().reversed()).count()
            })
            .sum();
        assert_eq!(resets, usize::from(RESETS));
        assert!(!flow.may_be_told(true) && flow.may_be_told(false));
    }
}
