//! What the datapath process says: answers to what was asked of it, news of flows, orders.

use std::os::fd::OwnedFd;

use super::{FlowNews, Link};
use crate::config::Config;
use crate::daemon::settings;
use crate::ipc::{ToDatapath, ToProxy, memfile};

impl Link {
    /// Does what the datapath process says, or hands on what it answers; false when nobody is there any more.
    pub(super) async fn heard(
        &mut self,
        message: ToProxy,
        descriptors: Vec<OwnedFd>,
        config_path: &str,
        reload: &impl Fn(Result<Config, String>) -> Result<(), String>,
    ) -> bool {
        match message {
            ToProxy::Facts { ticket, facts } => {
                let asked = self.unanswered.remove(&ticket).unwrap_or_default();
                asked.into_iter().zip(facts).for_each(|(asked, facts)| asked.answer(facts));
                true
            }
            ToProxy::Status(status) => {
                self.status.send_replace(status);
                true
            }
            ToProxy::Reload { ticket } => {
                let result = reload(read(descriptors, config_path));
                match &result {
                    Ok(()) => tracing::info!(config = config_path, "configuration reloaded"),
                    Err(problem) => {
                        tracing::warn!(config = config_path, problem, "configuration not reloaded")
                    }
                }
                self.answer_reloads(&result);
                self.send(&ToDatapath::Reloaded { ticket, problem: result.err() }).await
            }
            ToProxy::ReloadRefused { problems } => {
                self.answer_reloads(&reload(Err(problems)));
                true
            }
            ToProxy::HandOff { ticket, refusal } => {
                if let Some(answer) = self.handing_off.remove(&ticket) {
                    // Its session has ended meanwhile, with the whole proxy.
                    answer.send(refusal).ok();
                }
                true
            }
            ToProxy::LockHits { ticket, hits } => {
                if let Some(answer) = self.counting.remove(&ticket) {
                    drop(answer.send(hits));
                }
                true
            }
            ToProxy::Acted(report) => {
                self.kernel.hooks.reported(&report);
                true
            }
            ToProxy::FlowsEnded { ticket, flows } => {
                (self.direct)(FlowNews::Ended(flows));
                self.noted = Some(ticket);
                self.tell_noted();
                true
            }
            ToProxy::FlowsCarried { flows } => {
                (self.direct)(FlowNews::Carried(flows));
                true
            }
            ToProxy::LockChanges { changes, whole } => {
                self.enforce(self.kernel.held.inherit(changes, whole)).await
            }
            ToProxy::Upgraded { outcome } => {
                for done in self.upgrading.drain(..) {
                    drop(done.send(outcome.clone()));
                }
                true
            }
            ToProxy::Clients { ticket, list } => {
                if let Some(answer) = self.listing.remove(&ticket) {
                    // Whoever asked may have lost patience.
                    drop(answer.send(list));
                }
                true
            }
            ToProxy::FannedOut { client, destination, servers } => {
                (self.direct)(FlowNews::FannedOut { client, destination, servers });
                true
            }
            ToProxy::EndUnread { client } => {
                self.table.end_unread(client);
                true
            }
            ToProxy::Retire => {
                self.retired.send_replace(true);
                true
            }
            ToProxy::Start { .. } | ToProxy::Drain | ToProxy::StateWanted => true,
        }
    }

    fn answer_reloads(&mut self, result: &Result<(), String>) {
        for done in self.reloading.drain(..) {
            drop(done.send(result.clone()));
        }
    }
}

fn read(descriptors: Vec<OwnedFd>, path: &str) -> Result<Config, String> {
    let file = descriptors.into_iter().next().ok_or("the configuration is missing")?;
    let text = memfile::read(file).map_err(|error| error.to_string())?;
    settings::read(&text, path).map_err(|problems| problems.to_string())
}
