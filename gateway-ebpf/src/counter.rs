//! What the program tells of what it does: numbers always, events rarely.

use gateway_common::event::{Event, QUIET};
use gateway_common::flow::FlowKey;
use gateway_common::reason::Reason;

use crate::map;

/// Tells of a packet, unless one of its kind was told of just before: strangers choose how many
/// such packets there are, not how many lines the log has.
#[inline(never)]
pub(crate) fn tell(reason: Reason, interface: u32, error: i32, flow: &FlowKey) {
    let now = map::now();
    let place = reason as u32;
    let quiet = map::LAST_EVENTS.get(place).is_some_and(|last| *last != 0 && now - *last < QUIET);
    if quiet || map::LAST_EVENTS.set(place, now, 0).is_err() {
        return;
    }
    // This packet is counted after the event is made.
    let count = map::count(reason) + 1;
    // A full buffer means that nobody reads: the counters still tell.
    map::EVENTS.output::<Event>(Event::new(now, count, reason, interface, error, *flow), 0).ok();
}
