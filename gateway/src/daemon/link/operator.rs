//! What operators ask of the datapath process, by way of the control socket.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::ipc::Upgraded;

/// How long an operator waits for a reload.
const RELOAD: Duration = Duration::from_secs(10);
/// How long an operator waits for an upgrade: longer than the datapath process waits for the new one.
const UPGRADE: Duration = Duration::from_secs(80);

/// Where the answer goes: what came of it, or why nothing did.
pub(super) type Answer<T> = oneshot::Sender<Result<T, String>>;

/// What operators ask of the datapath process.
pub(super) enum Wish {
    Reload(Answer<()>),
    Upgrade(Option<PathBuf>, Answer<Upgraded>),
    Stop { drop_flows: bool },
}

/// Asks the datapath process on an operator's behalf.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Operator {
    pub(super) wishes: mpsc::Sender<Wish>,
}

impl Operator {
    /// Has the gateway stop; `drop_flows`: flows that the kernel carries end with it.
    pub(in crate::daemon) fn stop(&self, drop_flows: bool) {
        // Where the queue is full, the operator sees that nothing happens, and asks again.
        self.wishes.try_send(Wish::Stop { drop_flows }).ok();
    }

    /// Reads the configuration again and puts it in force.
    pub(in crate::daemon) async fn reload(&self) -> Result<(), String> {
        self.ask(Wish::Reload, RELOAD).await
    }

    /// Has another process take over, started from the file at `binary` or from where the gateway
    /// was started.
    pub(in crate::daemon) async fn upgrade(&self, binary: Option<PathBuf>) -> Result<Upgraded, String> {
        self.ask(|answer| Wish::Upgrade(binary, answer), UPGRADE).await
    }

    async fn ask<T>(&self, wish: impl FnOnce(Answer<T>) -> Wish, time: Duration) -> Result<T, String> {
        let (done, answer) = oneshot::channel();
        self.wishes.send(wish(done)).await.map_err(|_| "the gateway is stopping".to_owned())?;
        match timeout(time, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err("the gateway is stopping".to_owned()),
            Err(_) => Err("the datapath process does not answer; see its log".to_owned()),
        }
    }
}
