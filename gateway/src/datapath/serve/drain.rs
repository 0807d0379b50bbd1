//! The end: open sessions end first, then everything is taken away that carries no flow.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::{info, warn};

use super::notify::notify;
use super::signals::{Request, Signals};
use super::{Datapath, TICK, ticking};
use crate::datapath::steer::Carried;
use crate::ipc::ToProxy;

/// How long the proxy may take to let open sessions end when the gateway stops.
const DRAIN: Duration = Duration::from_secs(20);

impl Datapath {
    /// Lets open sessions end, for a while and unless a second request to stop comes; then takes
    /// everything away that carries no flow.
    pub(in crate::datapath) async fn stop(mut self, signals: &mut Signals) {
        notify(&[NotifyState::Stopping]);
        self.close();
        if self.proxy.is_ready() {
            info!("stopping: open sessions may end");
            self.drain(signals).await;
        }
        self.proxy.kill().await;
        if let Some(steering) = self.steering.take() {
            let flows = steering.stop(Carried::Keep).await;
            if flows > 0 {
                info!(flows, "the kernel goes on carrying these; the next gateway takes them over");
            }
        }
        drop(self.control.take());
        info!("stopped");
    }

    async fn drain(&mut self, signals: &mut Signals) {
        if self.proxy.tell(&ToProxy::Drain, &[]).await.is_err() {
            return;
        }
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
                () = self.proxy.ended() => return,
            }
        }
    }
}
