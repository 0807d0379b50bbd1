//! What is counted of each client, and whether it may have more.
//!
//! Processors share accounts: what is added up is added in one step. When a period begins, what
//! another processor counts in that moment may be lost.

use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use gateway_common::client::{Account, BYTES, OnExcess, Period, Report};
use gateway_common::flow::{FlowKey, FlowNote, SEEN_CLOSED, SEEN_CUT, SEEN_OPEN, SEEN_REFUSED, SEEN_SPLICED};
use gateway_common::lane::Address;
use gateway_common::reason::Reason;

use self::open::{BOOK, DEFAULT_CLIENTS, Open, Place, key, tell};
use crate::map;
use crate::packet::Carried;

mod open;

#[map]
static REPORTS: LruHashMap<Address, Report> = LruHashMap::with_max_entries(DEFAULT_CLIENTS, 0);

/// What becomes of a new flow.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Begun {
    /// It is taken.
    Taken = 0,
    /// Its client is over a limit, and the proxy is to refuse it.
    Refused = 1,
    /// Its client is over a limit.
    Dropped = 2,
    /// The same, and the SYN is to be answered.
    Reset = 3,
}

/// Counts a SYN.
#[inline(always)]
pub(crate) fn begin(flow: &FlowKey) -> Begun {
    match account_begin(flow) {
        REFUSED => Begun::Refused,
        DROPPED => Begun::Dropped,
        RESET => Begun::Reset,
        _ => Begun::Taken,
    }
}

#[inline(always)]
fn begin_session(flow: &FlowKey) -> Begun {
    let Some(open) = Open::of(flow) else { return Begun::Taken };
    open.at(Account::SYNS).add(1);
    open.at(Period::SYNS).add_one();
    judge(flow, open.0.0)
}

#[inline(never)]
fn judge(flow: &FlowKey, account: *mut u8) -> Begun {
    let open = Open(Place(account));
    let Some(limits) = open.limits() else { return Begun::Taken };
    if limits.is_none() {
        return Begun::Taken;
    }
    let Some(book) = map::only(&BOOK) else { return Begun::Taken };
    // SAFETY: it lies in a map, or is null.
    let Some(client) = (unsafe { key(flow).as_ref() }) else { return Begun::Taken };
    // SAFETY: the report is read at once; any bytes are one.
    let report = unsafe { REPORTS.get(client) };
    let sessions = open.account().open(report, book.epoch());
    let excess = limits.judge(open.account().current(), sessions, book.destination(flow));
    if excess == 0 {
        return Begun::Taken;
    }
    open.exceeded(excess, flow, Reason::RefusedSyn);
    match limits.on_excess() {
        OnExcess::Refuse => Begun::Refused,
        OnExcess::Drop => Begun::Dropped,
        OnExcess::Reset => Begun::Reset,
    }
}

/// In `how`: the packet comes from the server.
const FROM_SERVER: u32 = 1;
/// In `how`: its flow is one that is handed off.
const UNREAD: u32 = 2;
/// In `how`: the answer for a packet before was [`Fate::Known`].
const HELD: u32 = 4;
/// The client was over its limit before this packet, which is not counted yet.
const ALREADY: u32 = 1;

/// Counts a packet of a flow that has its sockets. True: it goes no further. Whether the flow is read or
/// passes unread is asked only then: what is read is not cut. Packets without text end at the gateway in
/// any case.
#[inline(always)]
pub(crate) fn meet(carried: &mut Carried, from_server: bool) -> bool {
    carried.how = if from_server { FROM_SERVER } else { 0 };
    carried.octets != 0 && account_carry(carried) != PASSES
}

/// Counts a packet of a flow that is handed off; `held`: those before it went no further. Does it?
#[inline(always)]
pub(crate) fn carry(carried: &mut Carried, from_server: bool, held: bool) -> Fate {
    carried.how = UNREAD | if from_server { FROM_SERVER } else { 0 } | if held { HELD } else { 0 };
    match account_carry(carried) {
        PASSES => Fate::Passes,
        STOPPED => Fate::Stopped,
        _ => Fate::Known,
    }
}

/// What becomes of a packet by what its client may have.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Fate {
    /// It goes on.
    Passes = 0,
    /// It goes no further, because its client has had what it may have.
    Stopped = 1,
    /// The same, and user space knows all that it is to know of this flow.
    Known = 2,
}

#[inline(always)]
fn carry_packet(carried: &Carried) -> u32 {
    let Some(open) = Open::of(&carried.flow) else { return PASSES };
    let Some(limits) = open.limits() else { return PASSES };
    // The packet that goes beyond the limit is counted, so that none comes behind it.
    if limits.is_exceeded_by(open.account().current(), 0) {
        return exceed(carried, open.0.0, ALREADY);
    }
    open.add(carried.octets, carried.how);
    if !limits.is_exceeded_by(open.account().current(), 0) {
        return PASSES;
    }
    exceed(carried, open.0.0, 0)
}

/// What becomes of a packet whose client is over its limit; `already`: [`ALREADY`] or 0.
#[inline(never)]
fn exceed(carried: &Carried, account: *mut u8, already: u32) -> u32 {
    let (flow, how) = (&carried.flow, carried.how);
    let open = Open(Place(account));
    let seen = if how & UNREAD == 0 { seen(flow) } else { SEEN_SPLICED };
    if seen & SEEN_SPLICED == 0 {
        open.exceeded(BYTES, flow, Reason::OverLimit);
        if already & ALREADY != 0 {
            open.add(carried.octets, how);
        }
        return PASSES;
    }
    let Some(limits) = open.limits() else { return PASSES };
    let known = how & HELD != 0 || seen & SEEN_CUT != 0;
    stop(flow, account, matches!(limits.on_excess(), OnExcess::Drop) || known)
}

/// Stops a packet. Of a client that is over its limit user space is told once a period. A flow that
/// is to be ended, and was not there at that time or was still read, is told of by itself; not where
/// there is `nothing` to end.
#[inline(never)]
fn stop(flow: &FlowKey, account: *mut u8, nothing: bool) -> u32 {
    let excess = BYTES & !Open(Place(account)).account().current().excess();
    if nothing && excess == 0 {
        return KNOWN;
    }
    if !tell(account, flow, excess, Reason::OverLimit) {
        return STOPPED;
    }
    if let Some((place, note)) = note(flow) {
        place.at(FlowNote::SEEN).set(note.seen() | SEEN_CUT);
    }
    KNOWN
}

/// The note of a flow, to be written to.
#[inline(always)]
fn note(flow: &FlowKey) -> Option<(Place, &'static FlowNote)> {
    let note = map::FLOWS.get_ptr_mut(flow)?;
    // SAFETY: the map keeps the note while the program runs, and any bytes are one.
    Some((Place(note.cast()), unsafe { &*note }))
}

#[inline(always)]
fn seen(flow: &FlowKey) -> u8 {
    note(flow).map_or(0, |(_, note)| note.seen())
}

/// Notes with which acknowledgement number the client completes the handshake.
#[inline(always)]
pub(crate) fn answered(flow: &FlowKey, sequence: u32) {
    account_answered(flow, sequence);
}

#[inline(always)]
fn note_answered(flow: &FlowKey, sequence: u32) {
    if let Some((place, _)) = note(flow) {
        place.at(FlowNote::ANSWER).set(sequence.wrapping_add(1));
    }
}

/// Counts a session whose handshake this packet completes, and its destination: a SYN may come from
/// anybody, and no client is to be locked for what others send in its name.
#[inline(always)]
pub(crate) fn complete(flow: &FlowKey, acknowledgement: u32) {
    account_complete(flow, acknowledgement);
}

#[inline(always)]
fn note_complete(flow: &FlowKey, acknowledgement: u32) {
    let Some((place, note)) = note(flow) else { return };
    // A packet with any other number was not sent by who asked for the session.
    if note.seen() & SEEN_OPEN != 0 || note.answer() != acknowledgement {
        return;
    }
    place.at(FlowNote::SEEN).set(note.seen() | SEEN_OPEN);
    let Some(open) = Open::of(flow) else { return };
    open.at(Account::SESSIONS).add(1);
    open.at(Period::SESSIONS).add_one();
    open.moved(Account::OPENED);
    // A destination that was refused would be known the next time, and let in.
    if note.seen() & SEEN_REFUSED == 0
        && let Some(book) = map::only(&BOOK)
    {
        let bit = book.destination(flow);
        let word = open.at(Period::DESTINATIONS).at(8 * bit.word());
        word.set(word.get::<u64>() | bit.mask());
    }
}

/// Counts a session that is over.
#[inline(always)]
pub(crate) fn end(flow: &FlowKey) {
    account_end(flow);
}

#[inline(always)]
fn note_end(flow: &FlowKey) {
    let Some((place, note)) = note(flow) else { return };
    if note.seen() & (SEEN_OPEN | SEEN_CLOSED) != SEEN_OPEN {
        return;
    }
    place.at(FlowNote::SEEN).set(note.seen() | SEEN_CLOSED);
    if let Some(open) = Open::of(flow) {
        open.moved(Account::CLOSED);
    }
}

const PASSES: u32 = Fate::Passes as u32;
const STOPPED: u32 = Fate::Stopped as u32;
const KNOWN: u32 = Fate::Known as u32;
const REFUSED: u32 = Begun::Refused as u32;
const DROPPED: u32 = Begun::Dropped as u32;
const RESET: u32 = Begun::Reset as u32;

// What the kernel verifies once, whatever the place it is called from. Such functions are global,
// take numbers and pointers to values of known size, which may be null, and return a number.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn account_begin(flow: *const FlowKey) -> u32 {
    // SAFETY: the verifier sees that it is a flow's key, or null.
    unsafe { flow.as_ref() }.map_or(0, |flow| begin_session(flow) as u32)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn account_carry(carried: *const Carried) -> u32 {
    // SAFETY: as above.
    unsafe { carried.as_ref() }.map_or(PASSES, carry_packet)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn account_answered(flow: *const FlowKey, sequence: u32) -> u32 {
    // SAFETY: as above.
    if let Some(flow) = unsafe { flow.as_ref() } {
        note_answered(flow, sequence);
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn account_complete(flow: *const FlowKey, acknowledgement: u32) -> u32 {
    // SAFETY: as above.
    if let Some(flow) = unsafe { flow.as_ref() } {
        note_complete(flow, acknowledgement);
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn account_end(flow: *const FlowKey) -> u32 {
    // SAFETY: as above.
    if let Some(flow) = unsafe { flow.as_ref() } {
        note_end(flow);
    }
    0
}
