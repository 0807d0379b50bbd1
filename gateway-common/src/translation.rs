//! How the packets of a handed-off flow are renumbered.
//!
//! Two connections met in the gateway: one with the client, one with the server. Once both are
//! gone, what one end sends becomes, renumbered, what the other end expects. Each direction has an
//! entry of its own under the addresses and ports its packets come in with. All numbers are modulo
//! 2^32 (RFC 9293 section 3.4).

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::flow::FlowKey;

/// Room for entries, two for each flow.
pub const MAX_TRANSLATIONS: u32 = 524_288;

/// How far a sequence of timestamps jumps ahead at the handoff, in the units of the clocks:
/// packets that overtake each other on the way must not look older than the gateway's last one
/// (RFC 7323 section 5).
const SLACK: u32 = 1_000;

/// What is to be done with packets of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Only counted: the flow belongs to the gateway's sockets.
    Watched,
    /// Dropped: the flow is between the gateway's sockets and the translation.
    Frozen,
    /// Renumbered and forwarded.
    Forwarding,
    /// Nothing: the flow is over, and somebody else may have its addresses and ports.
    Over,
    /// Dropped: the gateway has ended the flow.
    Condemned,
}

/// How the gateway ends a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Its packets are dropped, and its ends find out by themselves.
    Drop,
    /// Both ends are reset.
    Reset,
}

const FROZEN: u8 = 1;
const FORWARDING: u8 = 2;
const OVER: u8 = 3;
const CONDEMNED: u8 = 4;

/// In `kind`: the packets are the client's.
const FROM_CLIENT: u8 = 1;
/// In `kind`: both ends use timestamps.
const TIMESTAMPS: u8 = 2;
/// In `kind`: the flow is condemned, and both ends are to be reset.
const RESETS: u8 = 4;
/// In `kind`: the flow is condemned, and the operator has its record.
const REPORTED: u8 = 8;

/// In `seen`: a packet with FIN.
pub const SEEN_FIN: u8 = 1;
/// In `seen`: a packet with RST.
pub const SEEN_RST: u8 = 2;
/// In `seen`: a timestamp; `timestamp` is the difference from then on.
pub const SEEN_TIMESTAMP: u8 = 4;
/// In `seen`: a packet of a condemned flow, of which user space was told.
pub const SEEN_TOLD: u8 = 8;
/// In `seen`: the other direction's sender has, it seems, reset the flow; a packet that comes here
/// nevertheless shows that somebody else did.
pub const SEEN_DOUBT: u8 = 16;

/// In `echo`: the lower half is a difference.
const KNOWN: u64 = 1 << 32;

/// How far the end of a flow may be ahead of what is acknowledged, in octets, and for how long after
/// the last packet, in nanoseconds: data may be under way. At other times there is one number that
/// an end believes, as RFC 5961 section 3.2 asks for.
const UNDER_WAY: u32 = 1 << 20;
const RECENT: u64 = 2_000_000_000;

/// One of the gateway's two connections at the moment it was given up. Nothing was under way on
/// it: all that was sent is acknowledged, all that was received is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Sequence number of the next octet the gateway would have sent.
    pub write: u32,
    /// Sequence number of the next octet the gateway expected.
    pub expected: u32,
    /// By how many bits the peer shifts the windows it announces (RFC 7323 section 2).
    pub their_scale: u8,
    /// By how many bits the gateway said it would shift its own.
    pub our_scale: u8,
    /// The gateway's timestamp clock towards this peer; `None`: timestamps are not in use.
    pub clock: Option<u32>,
}

/// How the packets of one direction are renumbered, and what has been seen of them.
///
/// Of the two ends of a flow only the client's may have another address or port on the other side,
/// so an entry names that one alone. What packets change comes first, and all of it lies in one line
/// of the processor's cache; what follows is read by all processors and written once.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Translation {
    state: u8,
    kind: u8,
    /// High nibble: shift of windows as they come in; low nibble: as they go out.
    scales: u8,
    seen: u8,
    seq: u32,
    ack: u32,
    /// The last acknowledgement number, as it came in.
    acked: u32,
    bytes: u64,
    last: u32,
    packets: u32,
    /// Before a timestamp was seen: what the first one becomes. After: what is added to each.
    timestamp: u32,
    /// The client's end on the side that packets go out to.
    client_port: [u8; 2],
    /// Not 0: the client is over a limit, and nothing passes.
    held: u8,
    reserved: u8,
    client_addr: [u8; 16],
    /// What the other direction adds to its timestamps, once that is known: [`KNOWN`] is set then.
    echo: u64,
}
const _: () = assert!(size_of::<Translation>() == 64);
const _: () = assert!(Translation::STATE == 0);

impl Translation {
    /// Where `state` lies, in octets.
    pub const STATE: usize = offset_of!(Self, state);
    /// Where `seen` lies.
    pub const SEEN: usize = offset_of!(Self, seen);
    /// Where `timestamp` lies.
    pub const TIMESTAMP: usize = offset_of!(Self, timestamp);
    /// Where `echo` lies.
    pub const ECHO: usize = offset_of!(Self, echo);
    /// Where `last` lies.
    pub const LAST: usize = offset_of!(Self, last);
    /// Where `bytes` lies.
    pub const BYTES: usize = offset_of!(Self, bytes);
    /// Where `packets` lies.
    pub const PACKETS: usize = offset_of!(Self, packets);
    /// Where `acked` lies.
    pub const ACKED: usize = offset_of!(Self, acked);
    /// Where `held` lies.
    pub const HELD: usize = offset_of!(Self, held);

    /// Packets that are only counted. Those of the other direction come in under `peer`, the server's
    /// end of which is the same; `now` is in nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub const fn watch(peer: &FlowKey, from_client: bool, now: u64) -> Self {
        let (client_addr, client_port) = if from_client { peer.server_end() } else { peer.client_end() };
        Self {
            state: 0,
            kind: if from_client { FROM_CLIENT } else { 0 },
            scales: 0,
            seen: 0,
            seq: 0,
            ack: 0,
            acked: 0,
            bytes: 0,
            last: moment(now),
            packets: 0,
            timestamp: 0,
            client_port,
            held: 0,
            reserved: 0,
            client_addr,
            echo: 0,
        }
    }

    /// The same, but its packets are dropped; `now` is in nanoseconds of `CLOCK_MONOTONIC`. No packet
    /// changes [`Self::idle`] from then on: it tells how long ago that was.
    #[must_use]
    pub const fn frozen(mut self, now: u64) -> Self {
        self.state = FROZEN;
        self.last = moment(now);
        self
    }

    /// The same, but its packets are only counted.
    #[must_use]
    pub const fn watched(mut self) -> Self {
        self.state = 0;
        self
    }

    /// The same, but its packets, which come in on `from`, go out as if `to` had sent them.
    #[must_use]
    pub const fn forwarding(mut self, from: &End, to: &End) -> Self {
        self.state = FORWARDING;
        self.seq = to.write.wrapping_sub(from.expected);
        self.ack = to.expected.wrapping_sub(from.write);
        self.scales = from.their_scale << 4 | to.our_scale & 0xf;
        if let (Some(_), Some(clock)) = (from.clock, to.clock) {
            self.kind |= TIMESTAMPS;
            self.timestamp = clock.wrapping_add(SLACK);
        }
        self.echo = 0;
        self.bytes = 0;
        self.packets = 0;
        self.acked = from.write;
        self.held = 0;
        self
    }

    /// The same, but its packets are dropped, and both ends may be reset.
    #[must_use]
    pub const fn condemned(mut self, cut: Cut) -> Self {
        self.state = CONDEMNED;
        self.kind = match cut {
            Cut::Drop => self.kind & !RESETS | REPORTED,
            Cut::Reset => self.kind | RESETS,
        };
        self.seen &= !SEEN_TOLD;
        self
    }

    /// Whether user space is to be told of its next packet.
    #[must_use]
    #[inline(always)]
    pub const fn tells(&self) -> bool {
        self.kind & RESETS != 0 && self.seen & SEEN_TOLD == 0
    }

    /// Whether both its ends are being reset.
    #[must_use]
    pub const fn resets(&self) -> bool {
        self.kind & RESETS != 0
    }

    /// Whether the operator has the record of its flow.
    #[must_use]
    pub const fn is_reported(&self) -> bool {
        self.kind & REPORTED != 0
    }

    /// The first octet of an entry whose packets are forwarded, in every version of the layout: by it a
    /// gateway counts the flows that another version carries.
    #[must_use]
    pub const fn forwarding_state() -> u8 {
        FORWARDING
    }

    /// The number by which the kernel program marks an entry as over.
    #[must_use]
    pub const fn over() -> u8 {
        OVER
    }

    /// What is to be done with its packets.
    #[must_use]
    #[inline(always)]
    pub const fn state(&self) -> State {
        match self.state {
            FROZEN => State::Frozen,
            FORWARDING => State::Forwarding,
            OVER => State::Over,
            CONDEMNED => State::Condemned,
            _ => State::Watched,
        }
    }

    /// Whether the packets are the client's.
    #[must_use]
    #[inline(always)]
    pub const fn is_from_client(&self) -> bool {
        self.kind & FROM_CLIENT != 0
    }

    /// Whether both ends use timestamps.
    #[must_use]
    #[inline(always)]
    pub const fn has_timestamps(&self) -> bool {
        self.kind & TIMESTAMPS != 0
    }

    /// Under which addresses and ports the packets of the other direction come in, if those of this
    /// one come in under `key`.
    #[must_use]
    #[inline(always)]
    pub const fn peer(&self, key: &FlowKey) -> FlowKey {
        self.out(key).reversed()
    }

    /// With which addresses and ports packets go out that come in under `key`.
    #[must_use]
    #[inline(always)]
    pub const fn out(&self, key: &FlowKey) -> FlowKey {
        let mut out = *key;
        self.set_out(&mut out);
        out
    }

    /// The same for what packets came in under.
    #[inline(always)]
    pub const fn set_out(&self, key: &mut FlowKey) {
        if self.is_from_client() {
            key.set_client(&self.client_addr, self.client_port);
        } else {
            key.set_server(&self.client_addr, self.client_port);
        }
    }

    /// A sequence number as it goes out.
    #[must_use]
    #[inline(always)]
    pub const fn sequence(&self, number: u32) -> u32 {
        number.wrapping_add(self.seq)
    }

    /// An acknowledgement number, or an edge of a SACK block, as it goes out.
    #[must_use]
    #[inline(always)]
    pub const fn acknowledgement(&self, number: u32) -> u32 {
        number.wrapping_add(self.ack)
    }

    /// A window as it goes out.
    #[must_use]
    #[inline(always)]
    pub const fn window(&self, window: u16) -> u16 {
        let octets = (window as u32) << (self.scales >> 4);
        let units = octets >> (self.scales & 0xf);
        if units > 0xffff {
            return u16::MAX;
        }
        #[expect(clippy::cast_possible_truncation, reason = "compared on the line above")]
        let units = units as u16;
        units
    }

    /// What is added to timestamps; `None` while none has been seen.
    #[must_use]
    #[inline(always)]
    pub const fn timestamp_difference(&self) -> Option<u32> {
        if self.seen & SEEN_TIMESTAMP == 0 { None } else { Some(self.timestamp) }
    }

    /// What the other direction adds to its timestamps; `None` while this one does not know it.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub const fn echo_difference(&self) -> Option<u32> {
        if self.echo & KNOWN == 0 { None } else { Some(self.echo as u32) }
    }

    /// The difference of the other direction as the entry keeps it.
    #[must_use]
    #[inline(always)]
    pub const fn echo(difference: u32) -> u64 {
        KNOWN | difference as u64
    }

    /// What has to be added so that the first timestamp seen, `first`, continues the gateway's.
    #[must_use]
    #[inline(always)]
    pub const fn first_timestamp(&self, first: u32) -> u32 {
        self.timestamp.wrapping_sub(first)
    }

    /// What has been seen, in `SEEN_…` bits.
    #[must_use]
    #[inline(always)]
    pub const fn seen(&self) -> u8 {
        self.seen
    }

    /// Whether nothing of it passed when its client was last looked at: it was over a limit.
    #[must_use]
    #[inline(always)]
    pub const fn is_held(&self) -> bool {
        self.held != 0
    }

    /// Whether the sender has ended this direction, or the whole flow.
    #[must_use]
    pub const fn has_fin(&self) -> bool {
        self.seen & SEEN_FIN != 0
    }

    /// Whether the sender has reset the flow.
    #[must_use]
    pub const fn has_reset(&self) -> bool {
        self.seen & SEEN_RST != 0
    }

    /// Octets in its packets, TCP headers excluded.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets, each segment of a large one counted; at most 2^32 - 1.
    #[must_use]
    #[inline(always)]
    pub const fn packets(&self) -> u32 {
        self.packets
    }

    /// Whether a FIN or RST with this sequence number may be of the sender, and not of a stranger who
    /// knows no more than addresses and ports. `receiver` is the entry of the other direction, `now` is
    /// in nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    #[inline(always)]
    pub const fn may_end(&self, number: u32, receiver: &Self, now: u64) -> bool {
        let ahead = self.sequence(number).wrapping_sub(receiver.acked);
        ahead == 0 || ahead <= UNDER_WAY && self.idle(now) <= RECENT
    }

    /// How long before `now` (nanoseconds of `CLOCK_MONOTONIC`) the last packet came, in
    /// nanoseconds; right for 26 days, and to about a millisecond. A packet that came after `now` came
    /// just then.
    #[must_use]
    #[inline(always)]
    pub const fn idle(&self, now: u64) -> u64 {
        let moments = moment(now).wrapping_sub(self.last);
        if moments > u32::MAX / 2 { 0 } else { (moments as u64) << MOMENT }
    }
}

/// A moment is 2^20 nanoseconds.
const MOMENT: u32 = 20;

/// A time in nanoseconds as entries keep it.
#[must_use]
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "moments are compared modulo 2^32")]
pub const fn moment(nanoseconds: u64) -> u32 {
    (nanoseconds >> MOMENT) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: End =
        End { write: 5_000, expected: 0xffff_ff00, their_scale: 7, our_scale: 9, clock: Some(100) };
    const SERVER: End = End { write: 0x10, expected: 70_000, their_scale: 2, our_scale: 5, clock: Some(900) };

    fn entry(from: &End, to: &End) -> Translation {
        Translation::watch(&FlowKey::default(), true, 0).forwarding(from, to)
    }

    #[test]
    fn what_one_end_sends_next_is_what_the_other_expects_next() {
        let up = entry(&CLIENT, &SERVER);
        assert_eq!(up.sequence(CLIENT.expected), SERVER.write);
        assert_eq!(up.sequence(CLIENT.expected.wrapping_add(0x200)), SERVER.write + 0x200);
        assert_eq!(up.acknowledgement(CLIENT.write), SERVER.expected);
        let down = entry(&SERVER, &CLIENT);
        assert_eq!(down.sequence(SERVER.expected + 1), CLIENT.write + 1);
        assert_eq!(down.acknowledgement(SERVER.write), CLIENT.expected);
    }

    #[test]
    fn the_clients_end_changes_and_each_direction_finds_the_other() {
        let (client, server, gateway) = (([1; 16], [0, 9]), ([2; 16], [0, 25]), ([3; 16], [0, 8]));
        let (up, down) = (FlowKey::new(client, server), FlowKey::new(server, gateway));
        let (from_client, from_server) =
            (Translation::watch(&down, true, 0), Translation::watch(&up, false, 0));
        assert_eq!((from_client.peer(&up), from_server.peer(&down)), (down, up));
        assert_eq!(from_client.out(&up), FlowKey::new(gateway, server));
        assert_eq!(from_server.out(&down), FlowKey::new(server, client));
    }

    #[test]
    fn an_echo_of_nought_is_known_too() {
        let entry = entry(&CLIENT, &SERVER);
        assert_eq!(entry.echo_difference(), None);
        assert_eq!(Translation { echo: Translation::echo(0), ..entry }.echo_difference(), Some(0));
        assert_eq!(
            Translation { echo: Translation::echo(u32::MAX), ..entry }.echo_difference(),
            Some(u32::MAX)
        );
    }

    #[test]
    fn both_directions_undo_each_other() {
        let (up, down) = (entry(&CLIENT, &SERVER), entry(&SERVER, &CLIENT));
        for number in [0, 1, 0x7fff_ffff, u32::MAX] {
            assert_eq!(down.acknowledgement(up.sequence(number)), number);
            assert_eq!(down.sequence(up.acknowledgement(number)), number);
        }
    }

    #[test]
    fn windows_change_their_unit_and_never_wrap() {
        let up = entry(&CLIENT, &SERVER);
        assert_eq!(up.window(100), 400);
        assert_eq!(up.window(0), 0);
        assert_eq!(up.window(u16::MAX), u16::MAX);
        let down = entry(&SERVER, &CLIENT);
        assert_eq!(down.window(u16::MAX), 511);
        let widest = entry(&End { their_scale: 14, ..CLIENT }, &End { our_scale: 0, ..SERVER });
        assert_eq!(widest.window(u16::MAX), u16::MAX);
    }

    #[test]
    fn the_first_timestamp_continues_the_gateways() {
        let up = entry(&CLIENT, &SERVER);
        assert_eq!(up.timestamp_difference(), None);
        let difference = up.first_timestamp(0xffff_fff0);
        assert_eq!(0xffff_fff0u32.wrapping_add(difference), 900 + SLACK);
        assert!(!entry(&CLIENT, &End { clock: None, ..SERVER }).has_timestamps());
    }

    #[test]
    fn a_condemned_flow_is_told_of_once_and_again_when_it_is_asked_for() {
        let condemned = entry(&CLIENT, &SERVER).condemned(Cut::Reset);
        assert_eq!(condemned.state(), State::Condemned);
        assert!(condemned.tells() && condemned.resets() && !condemned.is_reported());
        let told = Translation { seen: SEEN_TOLD, ..condemned };
        assert!(!told.tells() && told.condemned(Cut::Reset).tells());
        assert_eq!(told.sequence(CLIENT.expected), SERVER.write);
        let dropped = entry(&CLIENT, &SERVER).condemned(Cut::Drop);
        assert!(!dropped.tells() && dropped.is_reported());
    }

    #[test]
    fn only_the_number_that_is_due_ends_a_silent_flow() {
        const SECOND: u64 = 1_000_000_000;
        let (up, down) = (entry(&CLIENT, &SERVER), entry(&SERVER, &CLIENT));
        assert!(up.may_end(CLIENT.expected, &down, 60 * SECOND));
        for guess in [0, 1, CLIENT.expected.wrapping_add(1), CLIENT.expected.wrapping_sub(1)] {
            assert!(!up.may_end(guess, &down, 60 * SECOND), "{guess}");
        }
        // Data may be under way.
        assert!(up.may_end(CLIENT.expected.wrapping_add(5_000), &down, SECOND));
        assert!(!up.may_end(CLIENT.expected.wrapping_sub(1), &down, SECOND));
        assert!(down.may_end(SERVER.expected, &up, 60 * SECOND));
    }

    #[test]
    fn silence_is_measured_across_the_wrap_of_moments() {
        let end = u64::from(u32::MAX) << MOMENT;
        let entry = Translation::watch(&FlowKey::default(), false, end);
        assert_eq!(entry.idle(end + (3 << MOMENT)), 3 << MOMENT);
        assert_eq!(entry.idle(end - (3 << MOMENT)), 0);
    }
}
