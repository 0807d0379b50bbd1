//! Of whom the log says more (`debug-peer-list`, `tls-loglevel`, `tls-note-starttls-offer`).

use std::net::IpAddr;

use crate::config::file::delivery::{DebugPeer, Delivery};
use crate::delivery::connection::Detail;
use crate::delivery::destination::Destination;
use crate::smtp::client::Peer;

/// The level of `tls-loglevel` from which on handshakes are told, and from which on notes on them are.
const HANDSHAKES: u8 = 1;
const NOTES: u8 = 2;

/// What the operator wants to know.
#[derive(Clone, Debug)]
pub(super) struct Details {
    peers: Vec<DebugPeer>,
    level: u32,
    all: Detail,
}

impl Details {
    pub(super) fn new(section: &Delivery) -> Self {
        let tls = section.starttls.tls_loglevel;
        Self {
            peers: section.trouble_shooting.debug_peer_list.clone(),
            level: section.trouble_shooting.debug_peer_level,
            all: Detail {
                handshakes: tls >= HANDSHAKES,
                offers: section.starttls.tls_note_starttls_offer,
                notes: tls >= NOTES,
                stages: false,
            },
        }
    }

    /// What is told of a server of that next hop.
    pub(super) fn of(&self, next_hop: &Destination, peer: &Peer) -> Detail {
        let address = peer.address.parse::<IpAddr>().ok();
        let name = next_hop.name();
        let is_listed = |listed: &DebugPeer| listed.is(&name, &peer.name, address);
        if self.level == 0 || !self.peers.iter().any(is_listed) {
            return self.all;
        }
        // Each level includes those below it.
        Detail { handshakes: true, notes: true, stages: self.level > 1, ..self.all }
    }
}
