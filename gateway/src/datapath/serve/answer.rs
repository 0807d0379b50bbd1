//! What the proxy asks of the kernel side, and what an operator asks of the proxy.

use std::os::fd::OwnedFd;

use tracing::warn;

use super::Datapath;
use crate::datapath::carrier::Order;
use crate::datapath::handoff::Refusal;
use crate::datapath::reset::{Cut, Whose};
use crate::datapath::state_file;
use crate::ipc::flow::FlowEnd;
use crate::ipc::{LOOK_UPS, ToDatapath, ToProxy};

impl Datapath {
    /// What the proxy asks of the kernel side for the sake of its sessions.
    pub(super) fn answer(&mut self, message: ToDatapath, descriptors: Vec<OwnedFd>) {
        match message {
            ToDatapath::LookUp { ticket, flows, without_clients } => {
                let of = |(client, destination)| {
                    self.steering.as_ref()?.facts(client, destination, !without_clients)
                };
                let facts = flows.into_iter().take(LOOK_UPS).map(of).collect();
                self.proxy.mention(&ToProxy::Facts { ticket, facts });
            }
            ToDatapath::HandOff { ticket } => self.hand_off(ticket, descriptors),
            ToDatapath::State => self.write_state(descriptors),
            ToDatapath::EndFlow { client, destination } => {
                if let Some(steering) = &self.steering {
                    let whose = Whose::Flow { client, destination };
                    steering.order(Order::Condemn { whose, cut: Cut::Reset, end: FlowEnd::Ended });
                }
            }
            ToDatapath::Lock(order) => {
                if let Some(steering) = &mut self.steering {
                    steering.lock(&order);
                }
            }
            ToDatapath::Offender(offender) => {
                if let Some(report) = self.actions.act(&self.source.config.on_lock, *offender) {
                    self.proxy.mention(&ToProxy::Acted(report));
                }
            }
            ToDatapath::LockHits { ticket, nets } => {
                let hits = self.steering.as_mut().map(|steering| steering.lock_hits(&nets));
                self.proxy.mention(&ToProxy::LockHits { ticket, hits: hits.unwrap_or_default() });
            }
            ToDatapath::Unread { client, destination } => {
                if let Some(steering) = &mut self.steering {
                    steering.unread(client, destination);
                }
            }
            ToDatapath::ListClients { ticket, sort, most } => {
                if let Some(steering) = &self.steering {
                    steering.list_clients(ticket, sort, most);
                }
            }
            // Alive; and what only counts while it serves.
            ToDatapath::Heartbeat
            | ToDatapath::Counted { .. }
            | ToDatapath::Draining { .. }
            | ToDatapath::FlowsNoted { .. }
            | ToDatapath::LockChanges { .. }
            | ToDatapath::Ready
            | ToDatapath::Stop { .. }
            | ToDatapath::ReloadRequest
            | ToDatapath::Reloaded { .. }
            | ToDatapath::UpgradeRequest { .. } => {}
        }
    }

    /// Asks the proxy for the text of the state file.
    pub(super) fn ask_state(&mut self) {
        if self.source.config.state_file.path.as_os_str().is_empty() {
            warn!("there is no `state-file.path` to write the state to");
        } else if self.proxy.is_ready() {
            self.state_wanted = true;
            self.proxy.mention(&ToProxy::StateWanted);
        } else {
            warn!("the state is not written: there is no proxy process at the moment");
        }
    }

    /// Nobody but an operator has the file written.
    fn write_state(&mut self, brought: Vec<OwnedFd>) {
        if std::mem::take(&mut self.state_wanted) {
            state_file::write(&self.source.config.state_file, brought);
        }
    }

    /// A proxy that sends other descriptors than it says only harms itself.
    fn hand_off(&self, ticket: u64, descriptors: Vec<OwnedFd>) {
        let pair: Result<[OwnedFd; 2], _> = descriptors.try_into();
        match (&self.steering, pair) {
            (Some(steering), Ok([client, server])) => {
                steering.order(Order::HandOff { ticket, client, server });
            }
            _ => {
                let refusal = Some(Refusal::Unavailable);
                self.proxy.mention(&ToProxy::HandOff { ticket, refusal });
            }
        }
    }
}
