//! What operators see of the proxy and may do to it, by the control socket.

use std::sync::Arc;

use tokio::sync::watch;

use super::link::Operator;
use crate::clock;
use crate::control::{self, Control, ScannerHealth};
use crate::delivery::office::Office;
use crate::session::Context;
use crate::store::Store;
use crate::telemetry::metrics::millis;
use crate::{ipc, scan};

/// The control socket's view of all of it.
pub(super) fn of(
    context: &Arc<Context>,
    (store, shared): (Store, Option<Store>),
    deliveries: Option<Arc<Office>>,
    datapath: watch::Receiver<ipc::DatapathStatus>,
    operator: Operator,
) -> Control {
    let scanners = Arc::clone(context);
    let upgrader = operator.clone();
    let named = Arc::clone(context);
    Control {
        name: Box::new(move || named.settings.load().rules.voice.name.clone()),
        sessions: Arc::clone(&context.table),
        locks: Arc::clone(&context.locks),
        quotas: Arc::clone(&context.quotas),
        store,
        shared,
        deliveries,
        lock_defaults: Box::new({
            let context = Arc::clone(context);
            move || context.settings.load().config.locks.clone()
        }),
        telemetry: Arc::clone(&context.telemetry),
        datapath,
        scanners: Box::new(move || {
            let views = scanners.settings.load().scanners.view(clock::now());
            views.into_iter().map(health).collect()
        }),
        stop: Box::new({
            let operator = operator.clone();
            move |drop_flows| operator.stop(drop_flows)
        }),
        clients: context.facts.clone(),
        reload: Box::new(move || {
            let operator = operator.clone();
            Box::pin(async move { operator.reload().await })
        }),
        upgrade: Box::new(move |binary| {
            let operator = upgrader.clone();
            Box::pin(async move { operator.upgrade(binary).await })
        }),
    }
}

fn health(view: scan::ScannerView) -> ScannerHealth {
    ScannerHealth {
        name: view.scanner.name().to_owned(),
        address: view.address,
        state: match view.state {
            scan::ScannerState::Unknown => control::ScannerState::Unknown,
            scan::ScannerState::Up => control::ScannerState::Up,
            scan::ScannerState::Down => control::ScannerState::Down,
        },
        version: view.version.unwrap_or_default(),
        last_error: view.last_error.unwrap_or_default(),
        busy: view.busy,
        since: view.since.as_secs(),
        circuit: match view.circuit {
            scan::Circuit::Closed => control::Circuit::Closed,
            scan::Circuit::Open(left) => control::Circuit::Open { seconds_left: left.as_secs() },
            scan::Circuit::HalfOpen => control::Circuit::HalfOpen,
        },
        latency_ms: view.latency.map(millis),
    }
}
