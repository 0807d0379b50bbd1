//! A changed configuration, put in force while the gateway runs.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::{error, info, warn};

use super::Datapath;
use super::notify::{notify, notify_reloading};
use crate::clock;
use crate::datapath::source::Source;
use crate::datapath::{Error, actions, chain};
use crate::ipc::{ToProxy, memfile};

/// How long the proxy may take to answer a reload.
const RELOAD: Duration = Duration::from_secs(10);
/// Octets of a list of problems that fit into a message whatever they are.
const PROBLEMS: usize = 16 * 1024;

/// A reload that the proxy has not answered.
pub(super) struct Reload {
    ticket: u64,
    source: Source,
    deadline: Instant,
}

impl Datapath {
    /// Reads the configuration again and hands a good one to the proxy; what is wrong with a bad
    /// one goes to the log, and to the operator who `asked` over the control socket.
    pub(super) async fn reload(&mut self, asked: bool) {
        if self.upgrade.is_some() {
            warn!("the configuration is not read again: an upgrade is under way");
            if asked {
                let problems = "an upgrade is under way, and reads it".to_owned();
                self.proxy.mention(&ToProxy::ReloadRefused { problems });
            }
            return;
        }
        let read = self.source.reread().map_err(Error::from);
        let new = match read.and_then(|new| actions::check(&new.config).map(|()| new)) {
            Ok(new) => new,
            Err(error) => {
                let problems = shorten(chain(&error));
                error!(problems, "the configuration is refused; the old one stays in force");
                if asked {
                    self.proxy.mention(&ToProxy::ReloadRefused { problems });
                }
                return;
            }
        };
        if !self.proxy.is_ready() {
            // The next proxy starts with it.
            self.adopt(new).await;
            return;
        }
        notify_reloading();
        self.tickets = self.tickets.wrapping_add(1);
        let ticket = self.tickets;
        if let Err(error) = self.hand_over(ticket, &new).await {
            error!(error = chain(&error), "the new configuration does not reach the proxy process");
            notify(&[NotifyState::Ready]);
            return;
        }
        self.reload = Some(Reload { ticket, source: new, deadline: clock::now() + RELOAD });
    }

    async fn hand_over(&self, ticket: u64, source: &Source) -> Result<(), Error> {
        let text = memfile::seal(&source.text)?;
        let descriptors = [text.as_fd()];
        Ok(self.proxy.tell(&ToProxy::Reload { ticket }, &descriptors).await?)
    }

    pub(super) async fn reloaded(&mut self, ticket: u64, problem: Option<String>) {
        let Some(reload) = self.reload.take_if(|reload| reload.ticket == ticket) else { return };
        match problem {
            None => self.adopt(reload.source).await,
            Some(problem) => {
                error!(problem, "the proxy process refuses the configuration; the old one stays in force");
            }
        }
        notify(&[NotifyState::Ready]);
    }

    /// Puts this process's part of a configuration in force.
    async fn adopt(&mut self, new: Source) {
        if let Some(steering) = &mut self.steering
            && let Err(error) = steering.configure(&new.config)
        {
            error!(error = chain(&error), "the kernel refuses a part of the configuration");
        }
        if let Err(error) = self.logging.reload(&new.config.log) {
            warn!(%error, "this process logs as before");
        }
        for warning in &new.warnings.list {
            warn!(line = warning.line, message = warning.message, "configuration");
        }
        self.source = new;
        self.follow().await;
        info!(path = %self.source.path.display(), "the configuration is in force");
    }

    pub(super) fn give_up_reload(&mut self) {
        if self.reload.take_if(|reload| reload.deadline <= clock::now()).is_some() {
            error!("the proxy process does not answer to the new configuration; the old one stays in force");
            notify(&[NotifyState::Ready]);
        }
    }
}

/// A text that fits into a message.
pub(super) fn shorten(mut text: String) -> String {
    if text.len() > PROBLEMS {
        text.truncate(text.floor_char_boundary(PROBLEMS));
        text.push_str("\n…");
    }
    text
}
