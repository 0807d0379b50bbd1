//! All that deliveries are made with, resolved from the configuration.

use std::sync::Arc;

use super::dkim::Signers;
use super::office::Reports;
use super::settings::{self, Files, Host, Settings, SettingsError};
use crate::config::Config;
use crate::queue::schedule::Retry;
use crate::smtp::client::Protocol;
use crate::smtp::fault::Fault;

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
    /// The keys that sign mail.
    pub signers: Arc<Signers>,
    /// When mail is tried again.
    pub retry: Retry,
    /// What is told of mail, and to whom.
    pub reports: Reports,
    /// Digits behind the point of delays (`delay-logging-resolution-limit`).
    pub digits: u32,
}

impl Setup {
    /// What the configuration says, for this host.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or does not hold what it should.
    pub fn new(config: &Config, host: Host<'_>, files: &impl Files) -> Result<Self, SettingsError> {
        let (section, dns) = (&config.delivery, &config.dns);
        let attempts = u32::try_from(dns.attempts).unwrap_or(u32::MAX).max(1);
        // One look-up asks each server as often as it is allowed to.
        let deadline = dns.timeout.duration().saturating_mul(attempts).saturating_mul(2);
        let own = |protocol| Settings::new(section, protocol, host, deadline, files);
        let smtp = own(Protocol::Smtp)?;
        Ok(Self {
            name: host.name.to_owned(),
            lmtp: own(Protocol::Lmtp)?,
            signers: Arc::new(settings::signers(&section.dkim, files)?),
            retry: smtp.retry,
            reports: Reports {
                size_limit: section.schedule.bounce_size_limit,
                classes: section.trouble_shooting.notify_classes.clone(),
                faults: Fault::wanted(&section.trouble_shooting.notify_classes),
                notices_per_hour: section.trouble_shooting.notices_per_hour,
                postmaster: section.trouble_shooting.error_notice_recipient.clone(),
            },
            digits: smtp.digits,
            smtp,
        })
    }

    /// What holds for that protocol.
    #[must_use]
    pub const fn transport(&self, protocol: Protocol) -> &Settings {
        match protocol {
            Protocol::Smtp => &self.smtp,
            Protocol::Lmtp => &self.lmtp,
        }
    }
}
