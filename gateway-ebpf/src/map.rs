//! The maps, and the accesses to them that the compiler cannot check.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_map_lookup_elem};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SockMap, lpm_trie::Key};
use gateway_common::flow::{FlowKey, FlowNote};
use gateway_common::interface::{Interface, LISTENERS as LISTENER_COUNT, MAX_INTERFACES};
use gateway_common::lane::{self, Address, Entry, Lane, MAX_PREFIXES};
use gateway_common::port;
use gateway_common::quarantine::{Lock, MAX_EXEMPT, MAX_LOCKS};
use gateway_common::reason::Reason;
use gateway_common::settings::Settings;

use crate::header::Packet;
use crate::way::Known;

/// Flows noted, unless the loader wants another number.
const DEFAULT_FLOWS: u32 = 65_536;
/// Ways that each processor remembers.
pub(crate) const WAY_COUNT: u32 = 256;
/// Octets of the ring buffer.
const EVENT_BYTES: u32 = 64 * 1024;
/// Octets of that of condemned flows: about 4,000 packets.
const CAUGHT_BYTES: u32 = 256 * 1024;
/// Memory is taken entry by entry, because most of the room is never used (linux/bpf.h).
const NO_PREALLOCATION: u32 = 1;

/// Read by the loader before it starts the program.
#[used]
#[unsafe(link_section = ".rodata.abi")]
#[unsafe(no_mangle)]
static GATEWAY_ABI: u32 = gateway_common::ABI_VERSION;

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
static INTERFACES: HashMap<u32, Interface> = HashMap::with_max_entries(MAX_INTERFACES, NO_PREALLOCATION);
#[map]
static PORTS: Array<u64> = Array::with_max_entries(port::WORDS, 0);
#[map]
static CLIENT_LANES: LpmTrie<Address, Entry> = LpmTrie::with_max_entries(MAX_PREFIXES, 0);
#[map]
static SERVER_LANES: LpmTrie<Address, Entry> = LpmTrie::with_max_entries(MAX_PREFIXES, 0);
#[map]
static LOCKS: LpmTrie<Address, Lock> = LpmTrie::with_max_entries(MAX_LOCKS, 0);
/// Networks that no lock touches.
#[map]
pub(crate) static EXEMPT: LpmTrie<Address, u32> = LpmTrie::with_max_entries(MAX_EXEMPT, 0);
#[map]
pub(crate) static LISTENERS: SockMap = SockMap::with_max_entries(LISTENER_COUNT, 0);
#[map]
pub(crate) static FLOWS: LruHashMap<FlowKey, FlowNote> = LruHashMap::with_max_entries(DEFAULT_FLOWS, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT, 0);
/// When the last event of each reason went out.
#[map]
pub(crate) static LAST_EVENTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT, 0);
#[map]
static PACKET: PerCpuArray<Packet> = PerCpuArray::with_max_entries(1, 0);
/// Ways that were found lately.
#[map]
static WAYS: PerCpuArray<Known> = PerCpuArray::with_max_entries(WAY_COUNT, 0);
/// Packets of condemned flows.
#[map]
pub(crate) static CAUGHT: RingBuf = RingBuf::with_byte_size(CAUGHT_BYTES, 0);
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_BYTES, 0);

/// Where the packet under examination is read to.
#[inline(always)]
pub(crate) fn packet() -> Option<&'static mut Packet> {
    let place = PACKET.get_ptr_mut(0)?;
    // SAFETY: each processor has its own place and runs the program for one packet at a time;
    // nobody else writes to the map, and its first content, zeros, is a packet too.
    Some(unsafe { &mut *place })
}

/// Where a way of this number is remembered.
#[inline(always)]
pub(crate) fn known(number: u32) -> Option<&'static mut Known> {
    let place = WAYS.get_ptr_mut(number % WAY_COUNT)?;
    // SAFETY: as for the packet; zeros are a way that nothing has.
    Some(unsafe { &mut *place })
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper takes nothing and reads a clock.
    unsafe { bpf_ktime_get_ns() }
}

/// The same at the last tick of the kernel's clock, some milliseconds ago at most: cheaper, and good
/// enough for what every packet notes.
#[inline(always)]
pub(crate) fn lately() -> u64 {
    // SAFETY: the helper takes nothing and reads a clock.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// What the loader has set.
#[inline(always)]
pub(crate) fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// What the loader has said of the interface with this number.
#[inline(always)]
pub(crate) fn interface(index: u32) -> Option<Interface> {
    // SAFETY: the entry is copied at once; should the loader free it in that moment, the copy
    // holds another interface's entry or this one's, and any bytes are an `Interface`.
    unsafe { INTERFACES.get(index) }.copied()
}

/// Whether flows to this port are intercepted.
#[inline(always)]
pub(crate) fn is_intercepted(port: u16) -> bool {
    PORTS.get(port::word(port)).is_some_and(|word| word & port::bit(port) != 0)
}

/// The lane of a flow, as far as its addresses alone decide.
#[inline(never)]
pub(crate) fn lane(flow: &FlowKey) -> Lane {
    let client = CLIENT_LANES.get(Key::new(128, flow.client_addr()));
    let server = SERVER_LANES.get(Key::new(128, flow.server_addr()));
    lane::choose(client, server)
}

/// Adds one to the counter of `reason` on this processor, and says what it stands at.
#[inline(always)]
pub(crate) fn bump(reason: Reason) -> u64 {
    let Some(counter) = COUNTERS.get_ptr_mut(reason as u32) else { return 0 };
    // SAFETY: the pointer is to this processor's own value, valid while the program runs.
    let count = unsafe { counter.read() }.wrapping_add(1);
    // SAFETY: as above.
    unsafe { counter.write(count) };
    count
}

/// How often `reason` was counted on this processor.
#[inline(always)]
pub(crate) fn count(reason: Reason) -> u64 {
    COUNTERS.get(reason as u32).copied().unwrap_or(0)
}

/// A lock, which processors share: whoever is locked may come on all of them.
#[derive(Clone, Copy)]
pub(crate) struct Held(*mut Lock);

impl Held {
    /// The longest lock that holds this address and whose prefix is not longer than `length`.
    #[inline(always)]
    pub(crate) fn find(length: u32, address: Address) -> Option<Self> {
        let key = Key::new(length, address);
        let locks = (&raw const LOCKS).cast_mut().cast::<c_void>();
        // SAFETY: the map is such a trie, and `key` is a key of it.
        let found = unsafe { bpf_map_lookup_elem(locks, (&raw const key).cast()) };
        if found.is_null() { None } else { Some(Self(found.cast())) }
    }

    /// What it says.
    #[inline(always)]
    pub(crate) fn get(self) -> Lock {
        // SAFETY: the map's memory stays valid while the program runs, and any bytes are a lock.
        unsafe { *self.0 }
    }

    /// Counts a SYN that met it.
    #[inline(always)]
    pub(crate) fn hit(self, now: u64) {
        // SAFETY: the offset is that of a field.
        let hits = unsafe { self.0.byte_add(Lock::HITS) }.cast::<u64>();
        // The library has no atomics for this target, the machine has.
        // SAFETY: the field is aligned, and valid while the program runs.
        unsafe { asm!("lock *(u64 *)({hits} + 0) += {one}", hits = in(reg) hits, one = in(reg) 1u64) };
        // SAFETY: as for the other field.
        let last = unsafe { self.0.byte_add(Lock::LAST) }.cast::<u64>();
        // SAFETY: as above.
        unsafe { last.write_volatile(now) };
    }
}
