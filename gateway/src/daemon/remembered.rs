//! What was kept in the state store, read at the start.
//!
//! A large table takes its time. The datapath process, which takes a silent proxy for dead, is told that it
//! goes on for as long as it does, so that one that hangs is still found out.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::link::HEARTBEAT;
use crate::config::Config;
use crate::config::file::State;
use crate::ipc::{Channel, ToDatapath};
use crate::locks::{self, Locks};
use crate::quota::Quotas;
use crate::store::{News, Progress, Store};

/// The store, and who owns what was in it.
pub(super) struct Remembered {
    pub(super) store: Store,
    pub(super) learnt: mpsc::UnboundedReceiver<News>,
    pub(super) quotas: Arc<Quotas>,
    pub(super) locks: Arc<Locks>,
}

/// Reads the state store of `config`. Amounts are added up in `shared` where there is such a store;
/// `requests` lead to the datapath process, at the other end of `channel`; `heir`: another process has
/// changes that are not in the store yet.
pub(super) async fn read(
    config: &Config,
    heir: bool,
    shared: Option<Store>,
    requests: mpsc::Sender<locks::Request>,
    channel: &Channel,
) -> Result<Remembered, tokio::task::JoinError> {
    let progress = Progress::default();
    let (config, watched, told_of) = (config.clone(), progress.clone(), progress.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let (store, mut contents, learnt) = Store::open_watched(&config.state_directory, watched);
        let quotas = Quotas::new(config.quotas.clone(), store.clone(), shared, &mut contents);
        let mut locks = Locks::new(config.locks.clone(), store.clone(), &mut contents, requests);
        if heir {
            locks.await_rest();
        }
        locks.import(&config.spool.directory.join(locks::FILE));
        let locks = Arc::new(locks);
        if config.state == State::Redis {
            locks.share(config.redis.clone(), told_of);
        }
        Remembered { store, learnt, quotas: Arc::new(quotas), locks }
    });
    told(channel, &progress, reading).await
}

/// Waits for `work`, and tells the datapath process whenever there was progress.
async fn told<T>(channel: &Channel, progress: &Progress, work: impl Future<Output = T>) -> T {
    let mut beat = interval(HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work = pin!(work);
    let mut before = progress.steps();
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = beat.tick() => {
                let steps = progress.steps();
                if steps != std::mem::replace(&mut before, steps)
                    && let Err(error) = channel.send(&ToDatapath::Heartbeat, &[]).await
                {
                    tracing::debug!(%error, "the datapath process does not hear");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::ipc;

    #[tokio::test]
    async fn the_datapath_process_hears_of_progress_and_of_nothing_else() {
        let (ours, theirs) = ipc::channel::pair().unwrap();
        let (ours, theirs) = (Channel::new(ours).unwrap(), Channel::new(theirs).unwrap());
        let progress = Progress::default();
        let work = async {
            progress.step();
            let heard = theirs.receive::<ToDatapath>().await.unwrap().unwrap().0;
            // No step, no word.
            let silence = timeout(HEARTBEAT * 4, theirs.receive::<ToDatapath>()).await.is_err();
            progress.step();
            (heard, silence, theirs.receive::<ToDatapath>().await.unwrap().unwrap().0)
        };
        let told = timeout(Duration::from_secs(60), told(&ours, &progress, work)).await.unwrap();
        assert_eq!(told, (ToDatapath::Heartbeat, true, ToDatapath::Heartbeat));
    }
}
