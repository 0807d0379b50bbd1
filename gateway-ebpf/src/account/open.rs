//! One client's account: where it is, and what is written to it.

use core::hint::black_box;
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::ptr;

use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray};
use gateway_common::client::{self, Account, Book, Limits, MAX_CLASSES, MAX_NETWORKS, Period, SOON};
use gateway_common::event::Event;
use gateway_common::flow::FlowKey;
use gateway_common::lane::Address;
use gateway_common::reason::Reason;

use super::FROM_SERVER;
use crate::map;

/// Accounts kept, unless the loader wants another number.
pub(super) const DEFAULT_CLIENTS: u32 = 65_536;

#[map]
static CLIENTS: LruHashMap<Address, Account> = LruHashMap::with_max_entries(DEFAULT_CLIENTS, 0);
#[map]
static CLASSES: LpmTrie<Address, u32> = LpmTrie::with_max_entries(MAX_NETWORKS, 0);
#[map]
static LIMITS: Array<Limits> = Array::with_max_entries(MAX_CLASSES, 0);
#[map]
pub(super) static BOOK: Array<Book> = Array::with_max_entries(1, 0);
/// The client whose account is looked for: not on the stack, as [`crate::map`] says.
#[map]
static CLIENT: PerCpuArray<Client> = PerCpuArray::with_max_entries(1, 0);
/// What a new account begins with: too large for the stack, and nobody writes to it.
#[map]
static BLANK: Array<Account> = Array::with_max_entries(1, 0);

/// A client's name, written by words.
#[repr(C, align(8))]
struct Client(Address);

/// Octets of a value in a map, and accesses to its parts.
#[derive(Clone, Copy)]
pub(super) struct Place(pub(super) *mut u8);

impl Place {
    #[inline(always)]
    pub(super) fn at(self, offset: usize) -> Self {
        // SAFETY: all offsets are those of parts of the value, which the map keeps while the
        // program runs.
        Self(unsafe { self.0.byte_add(offset) })
    }

    #[inline(always)]
    pub(super) fn set<T>(self, value: T) {
        // SAFETY: the part is aligned, and of a type for which any bytes are a value.
        unsafe { self.0.cast::<T>().write_volatile(value) };
    }

    #[inline(always)]
    pub(super) fn get<T>(self) -> T {
        // SAFETY: as above.
        unsafe { self.0.cast::<T>().read_volatile() }
    }

    #[inline(always)]
    pub(super) fn add(self, more: u64) {
        // SAFETY: as above, and every processor adds in the same way.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(self.0.cast(), more) };
    }

    #[inline(always)]
    pub(super) fn add_one(self) {
        // SAFETY: as above.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(self.0.cast(), 1) };
    }
}

/// A client's account, its current period first.
#[derive(Clone, Copy)]
pub(super) struct Open(pub(super) Place);

impl Open {
    /// The account of a flow's client, opened if there is none.
    #[inline(always)]
    pub(super) fn of(flow: &FlowKey) -> Option<Self> {
        let account = open(flow);
        if account.is_null() { None } else { Some(Self(Place(account.cast()))) }
    }

    #[inline(always)]
    pub(super) fn at(self, offset: usize) -> Place {
        self.0.at(offset)
    }

    #[inline(always)]
    pub(super) fn account(self) -> &'static Account {
        // SAFETY: the map keeps the account while the program runs, and any bytes are one.
        unsafe { &*self.0.0.cast() }
    }

    /// What the client may have.
    #[inline(always)]
    pub(super) fn limits(self) -> Option<&'static Limits> {
        let limits = map::find(&LIMITS, self.account().class_number())?;
        // SAFETY: the map keeps them while the program runs, and any bytes are limits.
        Some(unsafe { &*limits })
    }

    /// Counts a session that comes ([`Account::OPENED`]) or goes ([`Account::CLOSED`]).
    #[inline(always)]
    pub(super) fn moved(self, which: usize) {
        let Some(book) = map::only(&BOOK) else { return };
        if self.account().epoch() != book.epoch() {
            self.at(Account::OPENED).set(0u32);
            self.at(Account::CLOSED).set(0u32);
            self.at(Account::EPOCH).set(book.epoch());
        }
        self.at(which).add_one();
    }

    /// Counts octets that come or go.
    #[inline(always)]
    pub(super) fn add(self, octets: u32, how: u32) {
        if how & FROM_SERVER != 0 {
            add_from_server(self.0.0, octets.into());
        } else {
            add_from_client(self.0.0, octets.into());
        }
    }

    /// Notes the limits that are exceeded, and tells user space of each once a period.
    #[inline(always)]
    pub(super) fn exceeded(self, excess: u32, flow: &FlowKey, reason: Reason) {
        if self.account().current().excess() & excess != excess {
            tell(self.0.0, flow, excess, reason);
        }
    }
}

/// Under what the client of a flow has its account; null: there are no accounts.
#[inline(never)]
pub(super) fn key(flow: &FlowKey) -> *const Address {
    let Some(client) = map::own(&CLIENT) else { return ptr::null() };
    let Some(book) = map::only(&BOOK) else { return ptr::null() };
    // Read before it is known which are needed: the verifier wants one way to each.
    let masks = Place((&raw const *book).cast_mut().cast()).at(Book::MASKS);
    let masks = [masks.get(), masks.at(8).get(), masks.at(16).get()];
    if !book.is_kept() {
        return ptr::null();
    }
    // SAFETY: each processor has its own place, and runs the program for one packet at a time.
    let client = unsafe { &mut *client };
    client.0 = client::client(masks, &flow.client_addr());
    &raw const client.0
}

/// A client's account with the current period begun; null: there is none to be had.
#[inline(never)]
fn open(flow: &FlowKey) -> *mut Account {
    let account = find(key(flow));
    if account.is_null() {
        return account;
    }
    let place = Place(account.cast());
    let now = map::lately();
    // SAFETY: the map keeps the account while the program runs, and any bytes are one.
    if now.wrapping_sub(unsafe { &*account }.last()) > SOON {
        place.at(Account::LAST).set(now);
    }
    let Some(book) = map::only(&BOOK) else { return account };
    if let Some(number) = book.number(now)
        && place.at(Period::NUMBER).get::<u32>() != number
    {
        turn(account, number);
    }
    // The loader has changed something, or the account is new.
    // SAFETY: as above.
    if unsafe { &*account }.generation() != book.generation() {
        classify(account, flow);
    }
    account
}

/// Looks up which limits are the client's.
#[inline(never)]
fn classify(account: *mut Account, flow: &FlowKey) {
    let Some(book) = map::only(&BOOK) else { return };
    let generation = book.generation();
    let place = Place(account.cast());
    place.at(Account::CLASS).set(class(flow));
    place.at(Account::GENERATION).set(generation);
}

#[inline(never)]
fn find(client: *const Address) -> *mut Account {
    // SAFETY: it lies in a map, or is null.
    let Some(client) = (unsafe { client.as_ref() }) else { return ptr::null_mut() };
    if let Some(account) = CLIENTS.get_ptr_mut(client) {
        return account;
    }
    let Some(blank) = map::only(&BLANK) else { return ptr::null_mut() };
    /// Not if another processor was first (linux/bpf.h).
    const ABSENT: u64 = 1;
    CLIENTS.insert(client, blank, ABSENT).ok();
    CLIENTS.get_ptr_mut(client).unwrap_or(ptr::null_mut())
}

/// Begins a period: what was counted becomes the period before.
#[inline(never)]
fn turn(account: *mut Account, number: u32) {
    const WORDS: [usize; 7] = [1, 2, 3, 4, 5, 6, 7];
    let current = Place(account.cast());
    let previous = current.at(size_of::<Period>());
    // First of all: other processors that see the number do not begin it again.
    let head = current.get::<u64>();
    current.set(u64::from(number));
    previous.set(head);
    for octets in [0, 8] {
        current.at(Account::OCTETS + octets).add(current.at(Period::OCTETS + octets).get());
    }
    for word in WORDS {
        let (from, to) = (current.at(8 * word), previous.at(8 * word));
        to.set(from.get::<u64>());
        from.set(0u64);
    }
}

/// The number of a client's limits.
#[inline(always)]
fn class(flow: &FlowKey) -> u32 {
    // SAFETY: it lies in a map, or is null.
    let Some(client) = (unsafe { key(flow).as_ref() }) else { return 0 };
    CLASSES.get(Key::new(128, *client)).copied().unwrap_or(0)
}

/// Tells user space, and notes so if the event found room: else the next packet tells.
#[inline(never)]
pub(super) fn tell(account: *mut u8, flow: &FlowKey, excess: u32, reason: Reason) -> bool {
    let count = map::count(reason) + 1;
    let Some(mut place) = map::EVENTS.reserve::<Event>(0) else { return false };
    // Written where it is to lie: it would be too large for the stack.
    place.write(Event::new(map::now(), count, reason, 0, excess.cast_signed(), *flow));
    place.submit(0);
    let noted = Place(account).at(Period::EXCESS);
    noted.set(noted.get::<u32>() | excess);
    // Else the compiler would compare the pointer to the event again, which is no more to be read.
    black_box(true)
}

// Two functions, each with places of its own: without CAP_PERFMON the verifier takes no pointer to
// which different things are added on different ways.

#[inline(never)]
fn add_from_client(account: *mut u8, octets: u64) {
    Place(account).at(Period::OCTETS).add(octets);
}

#[inline(never)]
fn add_from_server(account: *mut u8, octets: u64) {
    Place(account).at(Period::OCTETS + 8).add(octets);
}
