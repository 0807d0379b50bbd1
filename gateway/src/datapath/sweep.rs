//! Flows that the kernel carried and that are over.
//!
//! The table itself is the only list of flows: user space keeps none.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gateway_common::flow::FlowKey;
use gateway_common::translation::{State, Translation};

use super::flow_table::FlowTable;
use super::progress::Look;
use crate::intercept::address::{ClientAddr, LocalAddr, OriginalDst, UpstreamAddr};
use crate::ipc::flow::{CarriedFlow, FlowEnd, FlowEnds, FlowReport, Traffic};

/// How long a flow stays after both sides have closed it: the last acknowledgement may be lost,
/// and then the last segment comes again.
const CLOSED: Duration = Duration::from_secs(3);
/// How long after a reset of an open flow. Somebody else may have sent it: then the flow goes on. The
/// program notes only resets with the number that is due, so that a stranger has to guess it.
const RESET: Duration = Duration::from_secs(30);
/// How long a flow stays whose packets are dropped, after the last one: retransmissions come up to
/// two minutes apart (`TCP_RTO_MAX` of Linux).
const DROPPED: Duration = Duration::from_secs(150);
/// How long a session is watched in whose direction nothing passes.
const WATCHED: Duration = Duration::from_secs(30);
/// After this long a frozen flow is one whose process has died: a handoff takes milliseconds.
const FROZEN: Duration = Duration::from_secs(10);

/// What is to become of an entry.
enum Fate {
    /// Nobody misses it.
    Forget,
    /// Its flow is over.
    Over(FlowEnd),
}

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Swept {
    /// Flows that were over.
    pub ended: Vec<FlowReport>,
    /// Flows that have changed and are to be told of.
    pub told: Vec<CarriedFlow>,
    /// How many have changed.
    pub changed: usize,
    /// The servers' ports of those that go on.
    pub ports: BTreeSet<u16>,
}

/// Removes what is over, and reports it; with a `look`, tells of what has changed. `idle`: how long
/// nothing may pass; zero: for ever.
pub fn sweep(table: &mut FlowTable, idle: Duration, now: u64, look: Option<&Look>) -> Swept {
    let mut swept = Swept::default();
    // Only what is over or to be told of is kept in mind: there may be very many flows.
    let mut over: Vec<(FlowKey, Fate)> = Vec::new();
    for key in table.keys() {
        let Some(up) = table.find(&key) else { continue };
        // A flow that is being reset has its packets looked at, too.
        if up.is_from_client() && matches!(up.state(), State::Forwarding | State::Condemned) {
            swept.ports.insert(key.server_port());
        }
        let down = if is_carried(&up) { table.find(&up.peer(&key)) } else { None };
        if let Some(fate) = fate(table, &key, &up, down.as_ref(), idle, now) {
            over.push((key, fate));
        } else if let Some(look) = look
            && let Some(down) = down
            && look.sees(Duration::from_nanos(up.idle(now).min(down.idle(now))))
        {
            swept.changed += 1;
            if look.tells(key.client_port()) {
                swept.told.push(tell(&key, &up, &down));
            }
        }
    }
    swept.ended = over.into_iter().filter_map(|(key, fate)| carry_out(table, &key, &fate)).collect();
    swept
}

/// The servers' ports of all flows that are carried.
pub fn ports(table: &FlowTable) -> BTreeSet<u16> {
    table
        .keys()
        .filter(|key| table.find(key).is_some_and(|up| is_carried(&up)))
        .map(|key| key.server_port())
        .collect()
}

/// All flows that are carried and not over.
pub fn all(table: &FlowTable) -> Vec<CarriedFlow> {
    let tell = |key: FlowKey| carried(table, &key).map(|(up, down)| tell(&key, &up, &down));
    table.keys().filter_map(tell).collect()
}

/// Removes flows that are over but for the time they would still have been kept, and with `end`
/// all others too. Reports them.
pub fn settle(table: &mut FlowTable, end: Option<FlowEnd>) -> Vec<FlowReport> {
    let keys: Vec<FlowKey> = table.keys().collect();
    let ended = keys.into_iter().filter_map(|key| {
        let up = table.find(&key).filter(is_carried)?;
        let down = table.find(&up.peer(&key));
        let end = verdict(&up, down.as_ref(), Duration::ZERO, u64::MAX).or(end)?;
        remove(table, &key, &up, down.as_ref(), end)
    });
    ended.collect()
}

/// Both entries of a flow, by that of its client's packets.
fn carried(table: &FlowTable, key: &FlowKey) -> Option<(Translation, Translation)> {
    let up = table.find(key).filter(is_carried)?;
    let down = table.find(&up.peer(key))?;
    Some((up, down))
}

fn tell(key: &FlowKey, up: &Translation, down: &Translation) -> CarriedFlow {
    CarriedFlow { ends: ends(key, up), from_client: traffic(up), from_server: traffic(down) }
}

fn ends(key: &FlowKey, up: &Translation) -> FlowEnds {
    let out = up.out(key);
    FlowEnds {
        client: ClientAddr::new(socket(key.client_addr(), key.client_port())),
        destination: OriginalDst::new(socket(key.server_addr(), key.server_port())),
        upstream: (
            LocalAddr::new(socket(out.client_addr(), out.client_port())),
            UpstreamAddr::new(socket(out.server_addr(), out.server_port())),
        ),
    }
}

const fn traffic(entry: &Translation) -> Traffic {
    Traffic { octets: entry.bytes(), packets: entry.packets() as u64 }
}

fn carry_out(table: &mut FlowTable, key: &FlowKey, fate: &Fate) -> Option<FlowReport> {
    match fate {
        Fate::Forget => {
            forget(table, key);
            None
        }
        Fate::Over(end) => {
            let up = table.find(key)?;
            let down = table.find(&up.peer(key));
            remove(table, key, &up, down.as_ref(), *end)
        }
    }
}

/// Removes what a flow that is over has left in the place of a new one.
pub fn make_room(table: &mut FlowTable, key: &FlowKey) -> Option<FlowReport> {
    let up = table.find(key).filter(is_carried)?;
    let down = table.find(&up.peer(key));
    let end = verdict(&up, down.as_ref(), Duration::ZERO, u64::MAX).unwrap_or(FlowEnd::Ended);
    remove(table, key, &up, down.as_ref(), end)
}

fn is_carried(entry: &Translation) -> bool {
    entry.is_from_client() && !entry.is_reported() && matches!(entry.state(), State::Forwarding | State::Over)
}

/// What is to become of an entry; `down` is that of the other direction, of a flow that is carried.
fn fate(
    table: &FlowTable,
    key: &FlowKey,
    entry: &Translation,
    down: Option<&Translation>,
    limit: Duration,
    now: u64,
) -> Option<Fate> {
    if is_carried(entry) {
        return verdict(entry, down, limit, now).map(Fate::Over);
    }
    if entry.state() == State::Condemned {
        // Those whose ends are reset are in other hands.
        let other = table.find(&entry.peer(key)).map_or(u64::MAX, |other| other.idle(now));
        let quiet = Duration::from_nanos(entry.idle(now).min(other));
        return (!entry.resets() && quiet >= DROPPED).then_some(Fate::Forget);
    }
    let idle = Duration::from_nanos(entry.idle(now));
    if entry.state() == State::Frozen {
        // Another process may be handing it off.
        return (idle >= FROZEN).then_some(Fate::Forget);
    }
    // The other direction goes with its flow; one that has lost it goes alone.
    let silent = idle >= WATCHED;
    let peer = entry.peer(key);
    let alone = || table.find(&peer).is_none_or(|other| other.peer(&peer) != *key);
    (silent && (entry.state() == State::Watched || entry.is_reported() || alone())).then_some(Fate::Forget)
}

/// Whether a flow is over, and how; for `now` at the end of time, how it would be.
fn verdict(up: &Translation, down: Option<&Translation>, idle: Duration, now: u64) -> Option<FlowEnd> {
    let Some(down) = down else { return Some(FlowEnd::Ended) };
    let quiet =
        if now == u64::MAX { Duration::MAX } else { Duration::from_nanos(up.idle(now).min(down.idle(now))) };
    let over = up.state() == State::Over;
    let closing = up.has_fin() || down.has_fin();
    let believed = over || quiet >= if closing { CLOSED } else { RESET };
    if believed && up.has_reset() {
        return Some(FlowEnd::ClientReset);
    }
    if believed && down.has_reset() {
        return Some(FlowEnd::ServerReset);
    }
    if over || up.has_fin() && down.has_fin() && quiet >= CLOSED {
        return Some(FlowEnd::Closed);
    }
    (!idle.is_zero() && quiet >= idle).then_some(FlowEnd::Idle)
}

/// Removes a flow, and reports it, unless another process has: each flow has one record.
pub(super) fn remove(
    table: &mut FlowTable,
    key: &FlowKey,
    up: &Translation,
    down: Option<&Translation>,
    end: FlowEnd,
) -> Option<FlowReport> {
    let mine = forget(table, key);
    if down.is_some() {
        forget(table, &up.peer(key));
    }
    mine.then(|| report(key, up, down, end))
}

/// What became of a flow.
pub(super) fn report(
    key: &FlowKey,
    up: &Translation,
    down: Option<&Translation>,
    end: FlowEnd,
) -> FlowReport {
    FlowReport {
        ends: ends(key, up),
        from_client: traffic(up),
        from_server: down.map(traffic).unwrap_or_default(),
        end,
    }
}

fn forget(table: &mut FlowTable, key: &FlowKey) -> bool {
    table.remove(key).unwrap_or_else(|error| {
        tracing::warn!(%error, "an entry of a flow that is over");
        false
    })
}

fn socket(address: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(address), port)
}

#[cfg(test)]
mod tests {
    use gateway_common::translation::{End, SEEN_FIN, SEEN_RST};
    use zerocopy::{FromBytes as _, IntoBytes as _};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn entry(seen: u8) -> Translation {
        let entry = Translation::watch(&FlowKey::default(), true, 0);
        let entry = entry.forwarding(&End::default(), &End::default());
        let mut bytes = [0; size_of::<Translation>()];
        bytes.copy_from_slice(entry.as_bytes());
        bytes[Translation::SEEN] = seen;
        Translation::read_from_bytes(&bytes).unwrap()
    }

    #[test]
    fn a_flow_is_over_when_both_sides_have_closed_and_are_quiet() {
        let (open, closed) = (entry(0), entry(SEEN_FIN));
        let after = |seconds| verdict(&closed, Some(&closed), Duration::ZERO, seconds * SECOND);
        assert_eq!(after(1), None);
        assert_eq!(after(4), Some(FlowEnd::Closed));
        assert_eq!(verdict(&closed, Some(&open), Duration::ZERO, 1_000 * SECOND), None);
    }

    #[test]
    fn a_reset_counts_when_nothing_follows_it() {
        let (open, reset) = (entry(0), entry(SEEN_RST));
        assert_eq!(verdict(&open, Some(&reset), Duration::ZERO, 2 * SECOND), None);
        assert_eq!(verdict(&open, Some(&reset), Duration::ZERO, 31 * SECOND), Some(FlowEnd::ServerReset));
        let closing = entry(SEEN_FIN);
        assert_eq!(verdict(&closing, Some(&reset), Duration::ZERO, 4 * SECOND), Some(FlowEnd::ServerReset));
        assert_eq!(verdict(&reset, Some(&open), Duration::ZERO, 31 * SECOND), Some(FlowEnd::ClientReset));
    }

    #[test]
    fn silence_ends_a_flow_only_where_there_is_a_limit() {
        let open = entry(0);
        let limit = Duration::from_secs(60);
        assert_eq!(verdict(&open, Some(&open), limit, 59 * SECOND), None);
        assert_eq!(verdict(&open, Some(&open), limit, 61 * SECOND), Some(FlowEnd::Idle));
        assert_eq!(verdict(&open, Some(&open), Duration::ZERO, 1_000_000 * SECOND), None);
    }
}
