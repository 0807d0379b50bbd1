//! How mail is delivered: `delivery`, with a key for each parameter of Postfix's smtp(8) and lmtp(8).

mod controls;
mod dkim;
mod domain;
mod sources;
#[cfg(test)]
mod tests;
mod value;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Span;
use crate::queue::schedule::Feedback;

pub use controls::{
    Compatibility, ContentInspection, Miscellaneous, OwnCompatibility, OwnContentInspection,
    OwnMiscellaneous, OwnResources, OwnSasl, OwnStarttls, Resources, Sasl, Starttls,
};
pub use dkim::{Canonicalization, Dkim, FieldName};
pub use domain::{DomainName, DomainPattern};
pub use sources::{SourceAddress, SourceChoice, SourcePool};
pub use value::{
    AddressPreference, CipherGrade, DebugPeer, FingerprintDigest, HostLookup, InetProtocol, Interface,
    NextHop, NotifyClass, PixWorkaround, SaslOption, SecurityLevel, Transport,
};

/// How mail is delivered by SMTP, and by LMTP where `lmtp` says nothing else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Delivery {
    /// For servers that need something else than others, and what is done to messages.
    pub compatibility: Compatibility,
    /// Messages with parts.
    pub mime: Mime,
    /// For content filters that mail is delivered to.
    pub content_inspection: ContentInspection,
    /// Passwords for servers.
    pub sasl: Sasl,
    /// TLS with servers.
    pub starttls: Starttls,
    /// How much, how many, and how long.
    pub resources: Resources,
    /// When mail is tried again, and for how long.
    pub schedule: Schedule,
    /// What operators are told.
    pub trouble_shooting: TroubleShooting,
    /// Signatures on mail that leaves, each with a key of its own.
    pub dkim: Vec<Dkim>,
    /// Pools of addresses that connections to SMTP servers come from; the first that is for a mail counts, and mail that none
    /// is for goes by `miscellaneous.bind-address` and `miscellaneous.helo-name`.
    pub sources: Vec<SourcePool>,
    /// Everything else.
    pub miscellaneous: Miscellaneous,
    /// What LMTP has instead.
    pub lmtp: Lmtp,
}

/// What LMTP has instead of the same keys above; what is not written is as for SMTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Lmtp {
    /// Instead of `delivery.compatibility`.
    pub compatibility: OwnCompatibility,
    /// Instead of `delivery.content-inspection`.
    pub content_inspection: OwnContentInspection,
    /// Instead of `delivery.sasl`.
    pub sasl: OwnSasl,
    /// Instead of `delivery.starttls`.
    pub starttls: OwnStarttls,
    /// Instead of `delivery.resources`.
    pub resources: OwnResources,
    /// Instead of `delivery.miscellaneous`.
    pub miscellaneous: OwnMiscellaneous,
    /// Reports on success say `delivered` for servers that do not announce DSN, not `relayed`.
    pub assume_final: bool,
}

impl Delivery {
    /// The section as it holds for LMTP.
    #[must_use]
    pub fn for_lmtp(&self) -> Self {
        let Lmtp { compatibility, content_inspection, sasl, starttls, resources, miscellaneous, .. } =
            &self.lmtp;
        Self {
            compatibility: self.compatibility.with(compatibility),
            mime: self.mime.clone(),
            content_inspection: self.content_inspection.with(content_inspection),
            sasl: self.sasl.with(sasl),
            starttls: self.starttls.with(starttls),
            resources: self.resources.with(resources),
            schedule: self.schedule.clone(),
            trouble_shooting: self.trouble_shooting.clone(),
            dkim: self.dkim.clone(),
            sources: Vec::new(),
            miscellaneous: self.miscellaneous.with(miscellaneous),
            lmtp: self.lmtp.clone(),
        }
    }
}

/// Messages with parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Mime {
    /// Messages go with octets above 127 to servers that do not announce 8BITMIME.
    pub disable_mime_output_conversion: bool,
    /// Characters of a boundary that count.
    pub mime_boundary_length_limit: usize,
    /// Parts within parts. A message with more is returned where it has to be converted.
    pub mime_nesting_limit: usize,
}

impl Default for Mime {
    fn default() -> Self {
        Self {
            disable_mime_output_conversion: false,
            mime_boundary_length_limit: 2_048,
            mime_nesting_limit: 100,
        }
    }
}

/// When mail is tried again, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Schedule {
    /// The least time between two attempts, and how long a destination in trouble is left alone.
    pub minimal_backoff_time: Span,
    /// The longest time between two attempts.
    pub maximal_backoff_time: Span,
    /// The age from which on mail is returned; 0: after its first attempt.
    pub maximal_queue_lifetime: Span,
    /// The same for mail with an empty sender.
    pub bounce_queue_lifetime: Span,
    /// The age from which on senders are told that their mail takes longer; 0: they never are.
    pub delay_warning_time: Span,
    /// Octets of a message that is returned whole.
    pub bounce_size_limit: usize,
    /// Deliveries at once to a destination of which nothing is known.
    pub initial_destination_concurrency: u32,
    /// How much a success moves that number: `1`, `0.5`, `1/concurrency`, `1/sqrt_concurrency`.
    pub destination_concurrency_positive_feedback: Feedback,
    /// How much a failure moves it.
    pub destination_concurrency_negative_feedback: Feedback,
    /// A destination is left alone after failures of as many deliveries as it may have at once, so many
    /// times in a row.
    pub destination_concurrency_failed_cohort_limit: u32,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            minimal_backoff_time: Span::seconds(300),
            maximal_backoff_time: Span::seconds(4_000),
            maximal_queue_lifetime: Span::seconds(5 * 86_400),
            bounce_queue_lifetime: Span::seconds(5 * 86_400),
            delay_warning_time: Span::seconds(0),
            bounce_size_limit: 50_000,
            initial_destination_concurrency: 5,
            destination_concurrency_positive_feedback: Feedback::ONE,
            destination_concurrency_negative_feedback: Feedback::ONE,
            destination_concurrency_failed_cohort_limit: 1,
        }
    }
}

/// What operators are told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TroubleShooting {
    /// How much more is logged of sessions with peers of `debug-peer-list`.
    pub debug_peer_level: u32,
    /// Domains, host names, addresses and networks whose sessions are logged in more detail.
    pub debug_peer_list: Vec<DebugPeer>,
    /// Who gets notices of the other classes than bounces and delays.
    pub error_notice_recipient: String,
    /// What the postmaster is told of.
    pub notify_classes: Vec<NotifyClass>,
    /// Notices of sessions that an hour brings at most, of each class and of different peers; of more there is a sum behind it.
    pub notices_per_hour: usize,
}

impl Default for TroubleShooting {
    fn default() -> Self {
        Self {
            debug_peer_level: 2,
            debug_peer_list: Vec::new(),
            error_notice_recipient: "postmaster".to_owned(),
            notify_classes: vec![NotifyClass::Resource, NotifyClass::Software],
            notices_per_hour: 10,
        }
    }
}
