//! The end: open sessions end first, then everything is taken away that carries no flow, or left to a
//! successor.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::{error, info, warn};

use super::Word;
use super::notify::notify;
use super::signals::{Request, Signals};
use super::{Datapath, TICK, kernel_event, ticking};
use crate::datapath::supervise::Event;
use crate::datapath::takeover::successor::{Successor, Wish};
use crate::ipc::{ToDatapath, ToProxy};

/// How long open sessions may go on when the gateway stops, here and in older processes.
const DRAIN: Duration = Duration::from_secs(20);
/// How long it may take to tell of all flows that the kernel carries.
const SETTLE: Duration = Duration::from_secs(20);

impl Datapath {
    /// Lets open sessions end, for a while and unless a second request to stop comes; then takes
    /// everything away that carries no flow.
    pub(in crate::datapath) async fn stop(mut self, signals: &mut Signals) {
        notify(&[NotifyState::Stopping]);
        // One that is about to take over is dead before anything is taken away.
        drop(self.upgrade.take());
        self.close();
        self.elders.hurry();
        if self.proxy.is_ready() {
            self.settle().await;
        } else if self.unsettled.count() > 0 {
            error!(
                sessions = self.unsettled.count(),
                "these are over, and no proxy process writes their records"
            );
        }
        if self.proxy.is_ready() || self.elders.count().0 != 0 {
            info!("stopping: open sessions may end");
            self.drain(signals).await;
        }
        self.elders.kill();
        self.proxy.kill().await;
        if let Some(steering) = self.steering.take() {
            let flows = steering.stop(self.carried).await;
            if flows > 0 {
                info!(flows, "the kernel goes on carrying these; the next gateway takes them over");
            }
        }
        drop(self.control.take());
        info!("stopped");
    }

    /// Tells the proxy the last of the flows that the kernel carries.
    async fn settle(&mut self) {
        let told = async {
            if let Some(steering) = &self.steering {
                steering.settle(self.carried);
            }
            while let Some(steering) = &mut self.steering {
                match steering.event().await {
                    Some(Word::Settled(_)) => return self.tell_unsettled().await,
                    Some(word) => self.pass_on(word).await,
                    // Interfaces concern nobody any more.
                    None => {}
                }
            }
        };
        if tokio::time::timeout(SETTLE, told).await.is_err() {
            warn!("not all of the flows that the kernel carries are in the log");
        }
    }

    async fn drain(&mut self, signals: &mut Signals) {
        let told = self.proxy.is_ready() && self.proxy.tell(&ToProxy::Drain, &[]).await.is_ok();
        let Self { proxy, elders, .. } = self;
        let mut all_gone = std::pin::pin!(async {
            if told {
                proxy.ended().await;
            }
            elders.gone().await;
        });
        let mut deadline = std::pin::pin!(tokio::time::sleep(DRAIN));
        let mut tick = ticking(TICK);
        loop {
            tokio::select! {
                Request::Stop = signals.next() => {
                    info!("stopping at once");
                    return;
                }
                () = &mut deadline => {
                    warn!("some sessions did not end in time");
                    return;
                }
                _ = tick.tick() => notify(&[NotifyState::Watchdog]),
                () = &mut all_gone => return,
            }
        }
    }

    /// Leaves everything to a successor, and ends with the last session that has sockets. Those
    /// that the kernel carries are the successor's.
    pub(in crate::datapath) async fn retire(mut self, successor: Successor, signals: &mut Signals) {
        if let Some(control) = &mut self.control {
            control.bequeath();
        }
        // Whoever connects from here on must find nobody but the successor.
        self.listeners.clear();
        drop((self.control.take(), std::mem::take(&mut self.elders)));
        if let Some(steering) = &mut self.steering {
            steering.retire();
        }
        if self.proxy.tell(&ToProxy::Retire, &[]).await.is_ok() {
            info!("open sessions end by themselves; then this process leaves");
            self.accompany(&successor, signals).await;
        }
        self.proxy.kill().await;
        if let Some(steering) = self.steering.take() {
            steering.leave();
        }
        info!("this process leaves");
    }

    /// Serves the proxy until it has left or must.
    async fn accompany(&mut self, successor: &Successor, signals: &mut Signals) {
        let mut followed = true;
        loop {
            tokio::select! {
                event = self.proxy.event() => match event {
                    Event::Said(ToDatapath::Draining { sessions }) => successor.mention(sessions),
                    Event::Said(ToDatapath::LockChanges { changes, whole }) => successor.tell_locks(changes, whole).await,
                    Event::Said(ToDatapath::FlowsNoted { ticket }) => self.unsettled.settle(ticket),
                    Event::Said(message) => self.answer(message, Vec::new()),
                    Event::Brought(message, descriptors) => self.answer(message, descriptors),
                    Event::Dead(reason) => {
                        info!(reason, "the proxy process has left");
                        if followed {
                            // What it did not live to write down.
                            for (_, flows) in self.unsettled.messages() {
                                successor.tell_ended(flows.clone()).await;
                            }
                        }
                        return;
                    }
                    Event::Due => return,
                },
                Some(word) = kernel_event(self.steering.as_mut()) => {
                    if let (Word::Ended(flows), true) = (&word, followed) {
                        // Their sessions are the successor's, whoever has handed them off.
                        successor.tell_ended(flows.clone()).await;
                    } else {
                        self.pass_on(word).await;
                    }
                }
                report = self.actions.report() => {
                    self.proxy.mention(&ToProxy::Acted(report));
                }
                wish = successor.wish(), if followed => match wish {
                    Wish::Leave => return self.drain(signals).await,
                    Wish::Gone => {
                        warn!("the process that took over is gone; open sessions go on");
                        followed = false;
                    }
                },
                request = signals.next() => match request {
                    Request::Stop => return self.drain(signals).await,
                    Request::Reload | Request::Upgrade | Request::State => info!("another process serves; tell that one"),
                },
            }
        }
    }
}
