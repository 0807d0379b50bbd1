//! Entries of handed-off flows, which processors share.
//!
//! A direction's packets come on one processor at a time, unless a card spreads them badly: then a
//! packet may be missed in the count. All that renumbering depends on is written once.

use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use gateway_common::flow::FlowKey;
use gateway_common::translation::{MAX_TRANSLATIONS, SEEN_TIMESTAMP, Translation, moment};

/// Memory is taken entry by entry, because most of the room is never used (linux/bpf.h).
const NO_PREALLOCATION: u32 = 1;

#[map]
static TRANSLATIONS: HashMap<FlowKey, Translation> =
    HashMap::with_max_entries(MAX_TRANSLATIONS, NO_PREALLOCATION);

/// One direction's entry.
#[derive(Clone, Copy)]
pub(crate) struct Entry(*mut Translation);

impl Entry {
    /// The entry of packets that come in with these addresses and ports.
    #[inline(always)]
    pub(crate) fn of(flow: &FlowKey) -> Option<Self> {
        TRANSLATIONS.get_ptr_mut(flow).map(Self)
    }

    /// That of the other direction, if this one is that of `key`.
    #[inline(never)]
    pub(crate) fn peer(self, key: &FlowKey) -> Option<Self> {
        Self::of(&self.get().peer(key))
    }

    /// What it says.
    #[inline(always)]
    pub(crate) fn get(self) -> &'static Translation {
        // SAFETY: the map's memory stays valid while the program runs, and any bytes are an entry.
        unsafe { &*self.0 }
    }

    #[inline(always)]
    fn set<T>(self, offset: usize, value: T) {
        // SAFETY: all offsets are those of fields of the entry, which the map keeps while the
        // program runs.
        let field = unsafe { self.0.byte_add(offset) }.cast::<T>();
        // SAFETY: as above, and the entry is aligned.
        unsafe { field.write_volatile(value) };
    }

    /// Counts packets and when they came.
    #[inline(always)]
    pub(crate) fn count(self, translation: &Translation, packets: u32, octets: u64, now: u64) {
        self.set(Translation::PACKETS, translation.packets().saturating_add(packets));
        self.set(Translation::BYTES, translation.bytes() + octets);
        self.set(Translation::LAST, moment(now));
    }

    /// Notes when a packet came that does not count.
    #[inline(always)]
    pub(crate) fn touch(self, now: u64) {
        self.set(Translation::LAST, moment(now));
    }

    /// Notes what its sender has.
    #[inline(always)]
    pub(crate) fn acknowledge(self, number: u32) {
        self.set(Translation::ACKED, number);
    }

    /// Notes what has been seen.
    #[inline(always)]
    pub(crate) fn note(self, seen: u8) {
        self.set(Translation::SEEN, seen);
    }

    /// Fixes what is added to timestamps.
    #[inline(always)]
    pub(crate) fn fix_timestamps(self, difference: u32, seen: u8) {
        self.set(Translation::TIMESTAMP, difference);
        self.note(seen | SEEN_TIMESTAMP);
    }

    /// Notes what the other direction adds to its timestamps.
    #[inline(always)]
    pub(crate) fn fix_echo(self, difference: u32) {
        self.set(Translation::ECHO, Translation::echo(difference));
    }

    /// Notes whether its packets are stopped.
    #[inline(always)]
    pub(crate) fn hold(self, held: bool) {
        self.set(Translation::HELD, u8::from(held));
    }

    /// Marks the direction as over.
    #[inline(always)]
    pub(crate) fn end(self) {
        self.set(Translation::STATE, Translation::over());
    }
}
