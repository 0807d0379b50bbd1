//! Another process takes over: started, waited for, followed or buried.

use std::path::PathBuf;
use std::pin::Pin;

use sd_notify::NotifyState;
use tracing::{error, info};

use super::Datapath;
use super::notify::{notify, notify_reloading};
use super::reload::shorten;
use crate::datapath::carrier::Order;
use crate::datapath::chain;
use crate::datapath::takeover::binary::{Binary, Own};
use crate::datapath::takeover::elders::News;
use crate::datapath::takeover::successor::{Estate, Successor};
use crate::datapath::takeover::{Error, Thing};
use crate::ipc::{ToProxy, Upgraded};

type Work = Pin<Box<dyn Future<Output = Result<Successor, Error>>>>;

/// A process that is to take over and does not serve yet; dropped, it is killed.
pub(super) struct Upgrade {
    work: Work,
    /// Whether an operator waits for the answer at the control socket.
    asked: bool,
}

/// Waits for the new process. Cancelled, it loses nothing.
pub(super) async fn upgraded(upgrade: Option<&mut Upgrade>) -> Result<Successor, Error> {
    match upgrade {
        Some(upgrade) => upgrade.work.as_mut().await,
        None => std::future::pending().await,
    }
}

impl Datapath {
    /// Whether another file is where this process was started from.
    pub(super) fn is_replaced(&self) -> bool {
        self.own.as_ref().is_some_and(Own::is_replaced)
    }

    /// Starts a process that is to take over, from the file at `binary` or from where this process
    /// was started; whether an operator `asked` over the control socket.
    pub(super) async fn upgrade(&mut self, binary: Option<PathBuf>, asked: bool) {
        match self.begin(binary) {
            Ok(work) => {
                notify_reloading();
                self.upgrade = Some(Upgrade { work, asked });
            }
            Err(error) => self.refuse(&error, asked).await,
        }
    }

    fn begin(&mut self, binary: Option<PathBuf>) -> Result<Work, Error> {
        if std::process::id() == 1 {
            return Err(Error::FirstProcess);
        }
        if self.upgrade.is_some() || self.reload.is_some() || !self.serving {
            return Err(Error::Busy);
        }
        let own = || self.own.as_ref().map(|own| own.path().to_owned());
        let binary = Binary::open(&binary.or_else(own).ok_or(Error::Unknown)?)?;
        let estate = self.estate()?;
        // From here on, flows that end are the successor's: it would make places for them, and never
        // hear of their end.
        if let Some(steering) = &self.steering {
            steering.order(Order::Pause);
        }
        Ok(Box::pin(Successor::start(binary, self.source.path.clone(), estate)))
    }

    fn estate(&mut self) -> Result<Estate, Error> {
        let mut estate = Estate::new(&self.source.text)?;
        if let Some(steering) = &self.steering {
            estate.add(Thing::Lock, steering.namespace_lock())?;
        }
        for listener in &self.listeners {
            estate.add(Thing::Listener, listener)?;
        }
        if let Some(control) = &self.control {
            let what = if control.has_made_folder() { Thing::ControlWithFolder } else { Thing::Control };
            estate.add(what, control)?;
        }
        self.elders.bequeath(&mut estate)?;
        Ok(estate)
    }

    /// The new process serves and is returned, or is dead, and all is as it was.
    pub(super) async fn upgraded(&mut self, result: Result<Successor, Error>) -> Option<Successor> {
        let asked = self.upgrade.take().is_some_and(|upgrade| upgrade.asked);
        match result {
            Ok(successor) => {
                let (pid, release) = (successor.pid(), successor.release().to_owned());
                // Its first word to systemd counts only after this one.
                notify(&[NotifyState::MainPid(pid), NotifyState::Ready]);
                info!(pid, release, "upgrade: another process serves");
                if asked {
                    self.tell_operator(Ok(Upgraded { pid, release })).await;
                }
                Some(successor)
            }
            Err(error) => {
                self.refuse(&error, asked).await;
                self.restore().await;
                None
            }
        }
    }

    /// Tells everybody why nobody takes over.
    async fn refuse(&self, error: &Error, asked: bool) {
        let problem = shorten(chain(error));
        error!(problem, "upgrade: this process goes on");
        notify(&[NotifyState::Ready, NotifyState::Status(&format!("upgrade failed: {problem}"))]);
        if asked {
            self.tell_operator(Err(problem)).await;
        }
    }

    async fn tell_operator(&self, outcome: Result<Upgraded, String>) {
        if let Err(error) = self.proxy.tell(&ToProxy::Upgraded { outcome }, &[]).await {
            error!(error = chain(&error), "upgrade: the operator cannot be told");
        }
    }

    /// A new process that came to nothing may have changed what the two share.
    async fn restore(&mut self) {
        let Some(steering) = &mut self.steering else { return };
        if self.proxy.is_ready() {
            if let Err(error) = steering.open(&self.listeners) {
                error!(error = chain(&error), "flows cannot be steered any more");
            }
            steering.order(Order::Announce);
        }
        self.follow().await;
    }

    /// This process serves: the one that did is told to drain.
    pub(super) async fn inherit(&mut self) {
        let (Some(predecessor), Some(process)) = (self.predecessor.take(), self.predecessor_process.take())
        else {
            return;
        };
        if let Some(control) = &mut self.control {
            control.keep();
        }
        if let Err(error) = self.write_pid_file() {
            error!(error = chain(&error), "the number of another process stays in the pid file");
        }
        if let Some(elder) = predecessor.succeed(process).await {
            self.elders.add(elder);
        }
    }

    /// What an older process leaves is this one's.
    pub(super) async fn heard_of_elder(&mut self, news: News) {
        let message = match news {
            News::Locks { changes, whole } => ToProxy::LockChanges { changes, whole },
            News::FlowsEnded(flows) => return self.tell_ended(flows).await,
            News::Left => {
                // Sessions that it has handed off and in which nothing passes are known to nobody yet.
                if let Some(steering) = self.steering.as_ref().filter(|_| self.proxy.is_ready()) {
                    steering.order(Order::Announce);
                }
                return;
            }
        };
        if let Err(error) = self.proxy.tell(&message, &[]).await {
            error!(error = chain(&error), "upgrade: what an older process has changed is lost");
        }
    }

    /// Leaves everything to the process that serves, and tells it why.
    pub(in crate::datapath) async fn abandon(mut self, problem: String) {
        self.proxy.kill().await;
        if let Some(steering) = self.steering.take() {
            steering.leave();
        }
        // The control socket is still the other's.
        drop(self.control.take());
        if let Some(predecessor) = self.predecessor.take() {
            predecessor.fail(shorten(problem)).await;
        }
    }
}
