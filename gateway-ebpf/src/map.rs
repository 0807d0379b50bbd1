//! The maps, and the accesses to them that the compiler cannot check.
//!
//! The program is loaded without `CAP_PERFMON`, and so the kernel puts a barrier against speculation behind
//! each of its writes to the stack that changes what kind of value lies there (`nospec_result` in
//! kernel/bpf/verifier.c): nearly all, and each costs about as much as a look-up. So what packets of handed-off
//! flows and of others meet lies in maps, the keys of look-ups too; and their way is cut into functions that need
//! no more than the four registers which outlive a call.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_map_lookup_elem};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SockMap};
use gateway_common::flow::{FlowKey, FlowNote};
use gateway_common::interface::{Interface, LISTENERS as LISTENER_COUNT, MAX_INTERFACES};
use gateway_common::lane::{self, Address, Entry, Lane, MAX_PREFIXES};
use gateway_common::port;
use gateway_common::quarantine::{Lock, MAX_EXEMPT, MAX_LOCKS};
use gateway_common::reason::Reason;
use gateway_common::settings::Settings;

use crate::packet::Packet;
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

/// The number of the only value in a map.
static ONLY: u32 = 0;

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
static EXEMPT: LpmTrie<Address, u32> = LpmTrie::with_max_entries(MAX_EXEMPT, 0);
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

/// A map's value, by a key that lies where the caller says.
#[inline(always)]
fn look_up<K, V>(map: *const c_void, key: &K) -> Option<*mut V> {
    // SAFETY: all callers name a map with such keys and values.
    let found = unsafe { bpf_map_lookup_elem(map.cast_mut(), (&raw const *key).cast()) };
    if found.is_null() { None } else { Some(found.cast()) }
}

/// Maps whose keys are numbers.
pub(crate) trait Numbered {
    type Value;
}

impl<T> Numbered for Array<T> {
    type Value = T;
}

impl<T> Numbered for PerCpuArray<T> {
    type Value = T;
}

impl<T> Numbered for HashMap<u32, T> {
    type Value = T;
}

/// The value with this number, which must not lie on the stack: see above.
#[inline(always)]
pub(crate) fn find<M: Numbered>(map: &'static M, number: &u32) -> Option<*mut M::Value> {
    look_up((&raw const *map).cast(), number)
}

/// The only value of a map.
#[inline(always)]
pub(crate) fn only<T>(map: &'static Array<T>) -> Option<&'static T> {
    let place = find(map, &ONLY)?;
    // SAFETY: the map keeps it while the program runs, and any bytes are a value.
    Some(unsafe { &*place })
}

/// What this processor keeps for one packet: the only value of a map.
#[inline(always)]
pub(crate) fn own<T>(map: &'static PerCpuArray<T>) -> Option<*mut T> {
    find(map, &ONLY)
}

/// Where the packet under examination is read to.
#[inline(always)]
pub(crate) fn packet() -> Option<&'static mut Packet> {
    let place = own(&PACKET)?;
    // SAFETY: each processor has its own place and runs the program for one packet at a time;
    // nobody else writes to the map, and its first content, zeros, is a packet too.
    Some(unsafe { &mut *place })
}

/// Where a way of the packet's number is remembered.
#[inline(always)]
pub(crate) fn known(packet: &mut Packet, number: u32) -> Option<&'static mut Known> {
    packet.number = number % WAY_COUNT;
    let place = find(&WAYS, &packet.number)?;
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
    only(&SETTINGS)
}

/// Notes what the loader has said of the interface that the packet is on; says whether it has.
#[inline(always)]
pub(crate) fn interface(packet: &mut Packet, index: u32) -> bool {
    packet.number = index;
    let Some(interface) = find(&INTERFACES, &packet.number) else { return false };
    // SAFETY: the entry is copied at once; should the loader free it in that moment, the copy
    // holds another interface's entry or this one's, and any bytes are an `Interface`.
    packet.interface = unsafe { *interface };
    true
}

/// Whether flows to this port are intercepted; `number` is where its key is to lie.
#[inline(always)]
pub(crate) fn is_intercepted(number: &mut u32, port: u16) -> bool {
    *number = port::word(port);
    let Some(word) = find(&PORTS, number) else { return false };
    // SAFETY: the map keeps it while the program runs.
    unsafe { *word & port::bit(port) != 0 }
}

/// A prefix to look for, as tries want it (`struct bpf_lpm_trie_key_u8`).
#[repr(C, align(4))]
pub(crate) struct Prefix {
    length: u32,
    address: Address,
}

impl Prefix {
    /// The longest one that holds the address.
    #[inline(always)]
    fn whole(&mut self, address: &Address) -> &Self {
        self.length = 128;
        self.address = *address;
        self
    }
}

/// The lane of the packet's flow, as far as its addresses alone decide.
#[inline(never)]
pub(crate) fn lane(packet: &mut Packet) -> Lane {
    let [client, server] = packet.flow.addresses();
    let client = look_up((&raw const CLIENT_LANES).cast(), packet.prefix.whole(client));
    let server = look_up((&raw const SERVER_LANES).cast(), packet.prefix.whole(server));
    // SAFETY: the map's memory stays valid while the program runs, and any bytes are an entry.
    let read = |entry: *mut Entry| unsafe { &*entry };
    lane::choose(client.map(read), server.map(read))
}

/// Whether no lock touches the packet's client.
#[inline(always)]
pub(crate) fn is_exempt(packet: &mut Packet) -> bool {
    let [client, _] = packet.flow.addresses();
    look_up::<_, u32>((&raw const EXEMPT).cast(), packet.prefix.whole(client)).is_some()
}

/// Adds one to the counter of `reason` on this processor.
#[inline(always)]
pub(crate) fn bump(packet: &mut Packet, reason: Reason) {
    packet.number = reason as u32;
    let Some(counter) = find(&COUNTERS, &packet.number) else { return };
    // SAFETY: the pointer is to this processor's own value, valid while the program runs.
    let counter = unsafe { &mut *counter };
    *counter = counter.wrapping_add(1);
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
    /// The longest lock that holds the packet's client and whose prefix is not longer than `length`.
    #[inline(always)]
    pub(crate) fn find(packet: &mut Packet, length: u32) -> Option<Self> {
        let [client, _] = packet.flow.addresses();
        packet.prefix = Prefix { length, address: *client };
        look_up((&raw const LOCKS).cast(), &packet.prefix).map(Self)
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
