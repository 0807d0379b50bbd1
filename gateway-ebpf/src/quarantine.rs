//! Locks: whose SYNs are held off.

use gateway_common::quarantine::{Action, MAX_NESTED};

use crate::map::{self, Held};
use crate::packet::Packet;

/// What is to become of a SYN; `None`: its client is not locked.
#[inline(never)]
pub(crate) fn judge(packet: &mut Packet) -> Option<Action> {
    let mut length = 128;
    for _ in 0..MAX_NESTED {
        let held = Held::find(packet, length)?;
        let (lock, now) = (held.get(), map::now());
        if lock.holds(now) {
            if map::is_exempt(packet) {
                return None;
            }
            held.hit(now);
            return Some(lock.action());
        }
        // What is around it may still hold.
        if lock.prefix() == 0 || lock.prefix() > length {
            return None;
        }
        length = lock.prefix() - 1;
    }
    None
}
