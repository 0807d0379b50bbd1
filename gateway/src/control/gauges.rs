//! What a scrape says beside the counters: how things are now, asked of those who know.

use gateway_common::reason::Reason;

use super::request::{Circuit, ScannerHealth, ScannerState};
use super::shown::Control;
use crate::queue::Counts;
use crate::store::Health;
use crate::telemetry::scrape::Gauge;

impl Control {
    pub(super) fn gauges(&self) -> Vec<Gauge> {
        let datapath = self.datapath.borrow().clone();
        let (clients, syns) = (datapath.clients.unwrap_or_default(), syns(&datapath.packets));
        let (scanners, shared) = ((self.scanners)(), self.locks.shared());
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let by_scanner = |value: &dyn Fn(&ScannerHealth) -> u64| {
            scanners.iter().map(|scanner| (vec![("scanner", scanner.name.clone())], value(scanner))).collect()
        };
        vec![
            Gauge {
                name: "gateway_sessions_open",
                help: "Open sessions.",
                kind: "gauge",
                values: vec![(vec![], count(self.sessions.len()))],
            },
            Gauge {
                name: "gateway_locks",
                help: "Networks and identities that are held off, by what becomes of their new flows.",
                kind: "gauge",
                values: self
                    .locks
                    .by_action()
                    .map(|(action, count)| (vec![("action", action.name().to_owned())], count))
                    .to_vec(),
            },
            Gauge {
                name: "gateway_state_store_up",
                help: "1 while what is known of clients outlives the process.",
                kind: "gauge",
                values: vec![(vec![], u64::from(self.store.health() == Health::Kept))],
            },
            Gauge {
                name: "gateway_redis_up",
                help: "1 while this gateway counts together with others; absent without state: redis.",
                kind: "gauge",
                values: self
                    .shared
                    .iter()
                    .map(|shared| (vec![], u64::from(shared.health() == Health::Kept)))
                    .collect(),
            },
            Gauge {
                name: "gateway_redis_locks_up",
                help: "1 while locks are shared with other gateways; absent without state: redis.",
                kind: "gauge",
                values: shared.iter().map(|shared| (vec![], u64::from(shared.lost.is_none()))).collect(),
            },
            Gauge {
                name: "gateway_redis_locks_unusable_total",
                help: "Locks of other gateways that were left out, each time they were read, by why.",
                kind: "counter",
                values: shared
                    .iter()
                    .flat_map(|shared| [("odd", shared.odd), ("full", shared.full)])
                    .map(|(why, count)| (vec![("why", why.to_owned())], count))
                    .collect(),
            },
            Gauge {
                name: "gateway_quota_clients",
                help: "Clients whose use is kept in mind.",
                kind: "gauge",
                values: vec![(vec![], count(self.quotas.len()))],
            },
            Gauge {
                name: "gateway_quota_clients_forgotten_total",
                help: "Clients whose use was forgotten for want of room: quotas.table-size.",
                kind: "counter",
                values: vec![(vec![], self.quotas.evicted())],
            },
            Gauge {
                name: "gateway_queue_messages",
                help: "Messages in the queue, by when they are to be delivered; absent without a queue.",
                kind: "gauge",
                values: self
                    .deliveries
                    .iter()
                    .flat_map(|office| by_standing(office.queue.counts()))
                    .collect(),
            },
            Gauge {
                name: "gateway_scanner_up",
                help: "1 while the scanner answers.",
                kind: "gauge",
                values: by_scanner(&|scanner| u64::from(scanner.state == ScannerState::Up)),
            },
            Gauge {
                name: "gateway_scanner_busy",
                help: "Scans under way.",
                kind: "gauge",
                values: by_scanner(&|scanner| count(scanner.busy)),
            },
            Gauge {
                name: "gateway_scanner_circuit_open",
                help: "1 while the circuit breaker keeps scans from the scanner.",
                kind: "gauge",
                values: by_scanner(&|scanner| u64::from(scanner.circuit != Circuit::Closed)),
            },
            Gauge {
                name: "gateway_datapath_packets_total",
                help: "Packets the eBPF program saw, by what it did and why.",
                kind: "counter",
                values: datapath
                    .packets
                    .into_iter()
                    .map(|(reason, packets)| (vec![("reason", reason)], packets))
                    .collect(),
            },
            Gauge {
                name: "gateway_clients",
                help: "Clients the eBPF program keeps an account of; absent where it keeps none.",
                kind: "gauge",
                values: clients.known.into_iter().map(|known| (vec![], known)).collect(),
            },
            Gauge {
                name: "gateway_clients_over_limit_total",
                help: "Clients that wanted to go beyond a limit, once a period, by what becomes of them.",
                kind: "counter",
                values: clients
                    .over_limit
                    .into_iter()
                    .map(|(limit, action, count)| (vec![("limit", limit), ("action", action)], count))
                    .collect(),
            },
            Gauge {
                name: "gateway_client_syns_total",
                help: "SYNs of flows that the gateway would take, by what became of them.",
                kind: "counter",
                values: syns,
            },
            Gauge {
                name: "gateway_datapath_interfaces",
                help: "Interfaces the eBPF program is attached to.",
                kind: "gauge",
                values: vec![(vec![], count(datapath.interfaces.len()))],
            },
            Gauge {
                name: "gateway_proxy_restarts_total",
                help: "Restarts of the proxy process.",
                kind: "counter",
                values: vec![(vec![], datapath.proxy_restarts)],
            },
            Gauge {
                name: "gateway_draining_processes",
                help: "Processes of before an upgrade that let their sessions end.",
                kind: "gauge",
                values: vec![(vec![], datapath.draining_processes)],
            },
            Gauge {
                name: "gateway_draining_sessions",
                help: "Open sessions of those processes.",
                kind: "gauge",
                values: vec![(vec![], datapath.draining_sessions)],
            },
            Gauge {
                name: "gateway_info",
                help: "Always 1; the release is a label.",
                kind: "gauge",
                values: vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1)],
            },
        ]
    }
}

/// SYNs by what became of them, of the program's packets by reason.
fn syns(packets: &[(String, u64)]) -> Vec<(Vec<(&'static str, String)>, u64)> {
    const OUTCOMES: [(&str, &[Reason]); 4] = [
        ("taken", &[Reason::Opened]),
        ("over-limit", &[Reason::RefusedSyn, Reason::ResetSyn]),
        ("locked", &[Reason::Locked, Reason::LockReset, Reason::LockRejected]),
        ("down", &[Reason::DownPassed, Reason::DownDropped]),
    ];
    let count = |reasons: &[Reason]| {
        let wanted = |name: &str| reasons.iter().any(|reason| reason.name() == name);
        packets.iter().filter(|(name, _)| wanted(name)).map(|(_, packets)| packets).sum()
    };
    let sample =
        |(outcome, reasons): (&str, &[Reason])| (vec![("outcome", outcome.to_owned())], count(reasons));
    if packets.is_empty() { Vec::new() } else { OUTCOMES.map(sample).to_vec() }
}

fn by_standing(counts: Counts) -> [(Vec<(&'static str, String)>, u64); 3] {
    let Counts { ready, deferred, held } = counts;
    [("ready", ready), ("deferred", deferred), ("held", held)].map(|(standing, count)| {
        (vec![("standing", standing.to_owned())], u64::try_from(count).unwrap_or(u64::MAX))
    })
}
