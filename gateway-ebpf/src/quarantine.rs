//! Locks: whose SYNs are held off.

use aya_ebpf::maps::lpm_trie::Key;
use gateway_common::flow::FlowKey;
use gateway_common::quarantine::{Action, MAX_NESTED};

use crate::map::{self, Held};

/// What is to become of a SYN of this flow; `None`: its client is not locked.
#[inline(never)]
pub(crate) fn judge(flow: &FlowKey) -> Option<Action> {
    let mut length = 128;
    for _ in 0..MAX_NESTED {
        let held = Held::find(length, flow.client_addr())?;
        let (lock, now) = (held.get(), map::now());
        if lock.holds(now) {
            if map::EXEMPT.get(Key::new(128, flow.client_addr())).is_some() {
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
