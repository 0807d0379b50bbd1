//! Which interfaces the program is attached to, as they come and go.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{info, warn};

use super::{Error, Steering};
use crate::config::file::Config;
use crate::datapath::attach::Role;
use crate::datapath::interfaces::{self, Link};
use crate::datapath::probe::{self, State};
use crate::datapath::{chain, source};

impl Steering {
    /// Attaches to the interfaces that are meant and detaches from all others. What one interface
    /// refuses keeps none of the others waiting; it is told once.
    ///
    /// # Errors
    ///
    /// When the list of interfaces cannot be had.
    pub async fn follow(&mut self, config: &Config) -> Result<(), Error> {
        let links = interfaces::list(&self.netlink).await.map_err(Error::Interfaces)?;
        // A flow that the kernel carries is seen from both sides.
        let direct = config.splice.engine.hands_off() || self.held.carries();
        let answers = direct || source::servers_answer_clients(config);
        let mut wanted = interfaces::wanted(&links, &config.intercept, answers);
        self.keep_attached(&links, &mut wanted);
        let present: BTreeMap<u32, (String, Role)> = self
            .kernel
            .attached()
            .map(|attached| (attached.index(), (attached.name().to_owned(), attached.role())))
            .collect();
        for (index, (name, _)) in &present {
            if wanted.contains_key(index) {
                continue;
            }
            match self.kernel.detach(*index) {
                Ok(()) => info!(interface = %name, "detached"),
                Err(error) => warn!(interface = %name, %error, "cannot detach"),
            }
        }
        let news: Vec<_> = wanted.iter().filter(|(index, meant)| present.get(index) != Some(meant)).collect();
        for (index, (name, role)) in &news {
            self.attach(**index, name, *role);
        }
        if !news.is_empty() {
            self.tell_settings(&links, config);
        }
        if !self.took_over {
            self.took_over = true;
            let left = self.kernel.take_over()?;
            if left > 0 {
                info!(attachments = left, "removed what a predecessor left");
            }
        }
        self.refused.retain(|(index, _)| wanted.contains_key(index));
        self.tell_idle(&links, config);
        self.names = links.into_iter().map(|link| (link.index, link.name)).collect();
        Ok(())
    }

    /// Adds the interfaces on which flows in the kernel may come in, though the configuration names them no
    /// more: those of this program, or of the one before.
    fn keep_attached(&self, links: &[Link], wanted: &mut BTreeMap<u32, (String, Role)>) {
        if !self.held.may_carry() {
            return;
        }
        let own = self.kernel.attached().map(|attached| (attached.index(), attached.role().bridge_mac));
        let left = if self.took_over { Vec::new() } else { self.kernel.left().unwrap_or_default() };
        let before = left.into_iter().map(|index| (index, None));
        for (index, bridge_mac) in own.chain(before) {
            if let Some(link) = links.iter().find(|link| link.index == index) {
                wanted
                    .entry(index)
                    .or_insert_with(|| (link.name.clone(), Role { client: false, bridge_mac }));
            }
        }
    }

    fn attach(&mut self, index: u32, name: &str, role: Role) {
        match self.kernel.attach(name, role) {
            Ok(attached) => {
                let hook = attached.hook().name();
                info!(interface = %name, hook, clients = role.client, "attached");
                self.refused.retain(|(refused, _)| *refused != index);
            }
            Err(error) => {
                let reason = chain(&error);
                if self.refused.insert((index, reason.clone())) {
                    warn!(interface = %name, error = reason, "cannot attach");
                }
            }
        }
    }

    /// Tells once what of the kernel's settings keeps flows from getting through.
    fn tell_settings(&mut self, links: &[Link], config: &Config) {
        for finding in probe::settings(links, config) {
            if finding.state != State::Fine && self.told.insert(finding.what.clone()) {
                warn!(setting = finding.what, advice = finding.advice, "kernel setting");
            }
        }
    }

    /// Tells of patterns that came to mean no interface.
    fn tell_idle(&mut self, links: &[Link], config: &Config) {
        let idle: BTreeSet<String> =
            interfaces::idle_patterns(links, &config.intercept).iter().map(ToString::to_string).collect();
        for pattern in idle.difference(&self.idle) {
            warn!(%pattern, "no interface matches; flows are intercepted when one appears");
        }
        self.idle = idle;
    }
}
