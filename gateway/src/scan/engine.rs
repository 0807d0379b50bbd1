//! The protocols of the scanners behind one set of questions.

use super::Envelope;
use super::clamd::Clamd;
use super::failure::Failure;
use super::limit::Place;
use super::rspamd::Rspamd;
use super::spamd::Spamd;
use super::step::StepCell;
use crate::config::file::Scan;
use crate::outcome::{Finding, Scanner};
use crate::spool::SpoolReader;

/// One scanner's protocol.
#[derive(Debug)]
pub(super) enum Engine {
    Clamd(Clamd),
    Spamd(Spamd),
    Rspamd(Rspamd),
}

impl Engine {
    /// The one for `scanner`, if it is configured.
    pub(super) fn new(scanner: Scanner, config: &Scan) -> Option<Self> {
        match scanner {
            Scanner::Clamd => config.clamd.as_ref().map(|clamd| Self::Clamd(Clamd::new(&clamd.address))),
            Scanner::Spamd => config.spamd.as_ref().map(|spamd| Self::Spamd(Spamd::new(spamd))),
            Scanner::Rspamd => config.rspamd.as_ref().map(|rspamd| Self::Rspamd(Rspamd::new(rspamd))),
        }
    }

    /// Scans a complete message, or with a scanner that takes such, one that still arrives: `None`
    /// when that takes too long to hold a place for it.
    pub(super) async fn scan(
        &self,
        reader: &mut SpoolReader,
        envelope: Option<&Envelope>,
        place: Place,
        step: &StepCell,
    ) -> Result<Option<Finding>, Failure> {
        match (self, envelope) {
            (Self::Clamd(clamd), _) => clamd.scan(reader, place, step).await,
            (Self::Spamd(spamd), Some(envelope)) => spamd.scan(reader, envelope, step).await.map(Some),
            (Self::Rspamd(rspamd), Some(envelope)) => rspamd.scan(reader, envelope, step).await.map(Some),
            (Self::Spamd(_) | Self::Rspamd(_), None) => Err(Failure::Stopped),
        }
    }

    /// Asks the scanner whether it is well: its version, or what is wrong.
    pub(super) async fn check(&self) -> Result<String, String> {
        match self {
            Self::Clamd(clamd) => clamd.check().await,
            Self::Spamd(spamd) => spamd.check().await,
            Self::Rspamd(rspamd) => rspamd.check().await,
        }
    }
}
