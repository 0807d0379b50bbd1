//! The kernel's entries of flows that are handed off, or are to be.

use std::net::SocketAddr;

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use gateway_common::flow::FlowKey;
use gateway_common::name;
use gateway_common::translation::Translation;

use super::maps::{self, address, was_there};
use super::object::Error;

/// The entries, by the addresses and ports with which packets come in.
#[derive(Debug)]
pub struct FlowTable(HashMap<MapData, FlowKey, Translation>);

impl FlowTable {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        maps::take(ebpf, name::TRANSLATIONS).map(Self)
    }

    /// The entry of packets from and to these; `None`: there is none.
    #[must_use]
    pub fn find(&self, key: &FlowKey) -> Option<Translation> {
        self.0.get(key, 0).ok()
    }

    /// Makes an entry, or replaces one.
    ///
    /// # Errors
    ///
    /// The table is full.
    pub fn set(&mut self, key: &FlowKey, entry: Translation) -> Result<(), Error> {
        self.0.insert(key, entry, 0).map_err(of_table)
    }

    /// Removes an entry; false: there is none. Of two processes that remove one at the same time, one
    /// hears that it was there.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn remove(&mut self, key: &FlowKey) -> Result<bool, Error> {
        was_there(self.0.remove(key)).map_err(of_table)
    }

    /// All keys. Entries that come and go meanwhile may be missed or seen twice.
    pub fn keys(&self) -> impl Iterator<Item = FlowKey> {
        self.0.keys().map_while(Result::ok)
    }
}

const fn of_table(source: MapError) -> Error {
    Error::Map { map: name::TRANSLATIONS, source }
}

/// Packets from one socket to another.
#[must_use]
pub fn key(from: SocketAddr, to: SocketAddr) -> FlowKey {
    let end = |socket: SocketAddr| (address(socket.ip()), socket.port().to_be_bytes());
    FlowKey::new(end(from), end(to))
}
