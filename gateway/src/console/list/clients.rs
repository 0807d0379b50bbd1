//! Clients, as the kernel counts them, as rows of a list.

use std::cmp::Ordering;

use ipnet::IpNet;

use super::{Column, Listed};
use crate::ipc::client::{ClientSort, ClientView};

/// What the list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::console) enum Sort {
    Client,
    By(ClientSort),
    Idle,
}

impl Sort {
    /// The order to ask the gateway for: it lists the first ones only, when there are many.
    pub(in crate::console) fn asked(self) -> ClientSort {
        match self {
            Self::By(sort) => sort,
            Self::Client | Self::Idle => ClientSort::default(),
        }
    }
}

impl Default for Sort {
    fn default() -> Self {
        Self::By(ClientSort::default())
    }
}

impl Column for Sort {
    const ALL: &'static [Self] = &[
        Self::Client,
        Self::By(ClientSort::Open),
        Self::By(ClientSort::Sessions),
        Self::By(ClientSort::Bytes),
        Self::By(ClientSort::FanOut),
        Self::By(ClientSort::Syns),
        Self::By(ClientSort::Failed),
        Self::Idle,
    ];

    fn head(self) -> &'static str {
        match self {
            Self::Client => "CLIENT",
            Self::By(ClientSort::Open) => "OPEN",
            Self::By(ClientSort::Sessions) => "SESSIONS",
            Self::By(ClientSort::Bytes) => "BYTES",
            Self::By(ClientSort::FanOut) => "FAN-OUT",
            Self::By(ClientSort::Syns) => "SYNS",
            Self::By(ClientSort::Failed) => "FAILED",
            Self::Idle => "IDLE",
        }
    }

    fn is_amount(self) -> bool {
        self != Self::Client
    }
}

impl Listed for ClientView {
    type Key = IpNet;
    type Column = Sort;

    const ONE: &'static str = "client";
    const ALL_ARE: &'static str = "known";

    fn key(&self) -> IpNet {
        self.client
    }

    fn texts(&self) -> Vec<String> {
        let mut texts = excess(self);
        texts.push(self.name());
        texts
    }

    fn compare(&self, other: &Self, column: Sort) -> Ordering {
        match column {
            Sort::Client => self.client.cmp(&other.client),
            Sort::By(sort) => sort.of(self).cmp(&sort.of(other)),
            Sort::Idle => self.idle.cmp(&other.idle),
        }
    }

    fn is_marked(&self) -> bool {
        !excess(self).is_empty()
    }
}

/// The limits that the client wanted to go beyond in the current period or the one before.
pub(in crate::console) fn excess(client: &ClientView) -> Vec<String> {
    let mut names = client.current.excess.clone();
    names.extend(client.previous.excess.iter().filter(|name| !client.current.excess.contains(name)).cloned());
    names
}
