//! All that deliveries are made with, resolved from the configuration.

use super::office::Reports;
use super::settings::Settings;
use crate::queue::schedule::Retry;
use crate::smtp::client::Protocol;

/// Deliveries at once (`default_process_limit` of Postfix).
pub const PLACES: u32 = 100;

/// What all deliveries are made with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The gateway's name.
    pub name: String,
    /// For SMTP.
    pub smtp: Settings,
    /// For LMTP.
    pub lmtp: Settings,
    /// When mail is tried again.
    pub retry: Retry,
    /// What is told of mail, and to whom.
    pub reports: Reports,
    /// Digits behind the point of delays (`delay-logging-resolution-limit`).
    pub digits: u32,
}

impl Setup {
    /// What holds for that protocol.
    #[must_use]
    pub const fn transport(&self, protocol: Protocol) -> &Settings {
        match protocol {
            Protocol::Smtp => &self.smtp,
            Protocol::Lmtp => &self.lmtp,
        }
    }
}
