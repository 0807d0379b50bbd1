//! Sessions as rows of a list.

use std::cmp::Ordering;
use std::net::SocketAddr;

use super::{Column, Listed};
use crate::intercept::flow::SessionId;
use crate::session::table::{SessionView, Stage};

/// What the list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::console) enum Sort {
    Client,
    Destination,
    Stage,
    #[default]
    Age,
    Messages,
    FromClient,
    FromServer,
}

impl Column for Sort {
    const ALL: &'static [Self] = &[
        Self::Client,
        Self::Destination,
        Self::Stage,
        Self::Age,
        Self::Messages,
        Self::FromClient,
        Self::FromServer,
    ];

    fn head(self) -> &'static str {
        match self {
            Self::Client => "CLIENT",
            Self::Destination => "DESTINATION",
            Self::Stage => "STAGE",
            Self::Age => "AGE",
            Self::Messages => "MSGS",
            Self::FromClient => "SENT",
            Self::FromServer => "RECVD",
        }
    }

    fn is_amount(self) -> bool {
        match self {
            Self::Client | Self::Destination | Self::Stage => false,
            Self::Age | Self::Messages | Self::FromClient | Self::FromServer => true,
        }
    }
}

/// The lane a stage belongs to.
pub(in crate::console) const fn lane(stage: Stage) -> &'static str {
    match stage {
        Stage::Splice => "splice",
        Stage::Takeover => "takeover",
        Stage::Connect
        | Stage::Greeting
        | Stage::Command
        | Stage::Envelope
        | Stage::Data
        | Stage::Scan
        | Stage::EndOfData
        | Stage::Closing => "inspect",
    }
}

impl Listed for SessionView {
    type Key = SessionId;
    type Column = Sort;

    const ONE: &'static str = "session";
    const ALL_ARE: &'static str = "open";

    fn key(&self) -> SessionId {
        self.id
    }

    fn texts(&self) -> Vec<String> {
        let interface = self.facts.as_ref().map(|facts| facts.interface.clone()).unwrap_or_default();
        let stage = self.stage;
        vec![
            self.client.clone(),
            self.destination.clone(),
            self.helo.clone(),
            self.id.to_string(),
            stage.name().to_owned(),
            lane(stage).to_owned(),
            interface,
        ]
    }

    fn compare(&self, other: &Self, column: Sort) -> Ordering {
        match column {
            Sort::Client => address(&self.client).cmp(&address(&other.client)),
            Sort::Destination => address(&self.destination).cmp(&address(&other.destination)),
            Sort::Stage => self.stage.cmp(&other.stage),
            Sort::Age => self.age.cmp(&other.age),
            Sort::Messages => self.messages.cmp(&other.messages),
            Sort::FromClient => self.from_client.cmp(&other.from_client),
            Sort::FromServer => self.from_server.cmp(&other.from_server),
        }
    }
}

/// Addresses sort as numbers, not as texts.
fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}
