//! What the operator's rules say of a command, before anybody is asked and anything is relayed.

use std::time::Instant;

use super::Exchange;
use crate::config::file::{AuthRequire, AuthSkip, OnMatch, StartTls};
use crate::outcome::Cause;
use crate::policy::filter;
use crate::smtp::command::Command;
use crate::smtp::question::Ruling;
use crate::smtp::refusal::Refusal;
use crate::smtp::report::Note;

impl Exchange {
    /// Refuses a command that the rules keep out; true when it did.
    pub(super) fn barred(&mut self, command: &Command, now: Instant) -> bool {
        if self.is_ruled() {
            return false;
        }
        if let Some(refusal) = self.lacks_protection(command) {
            self.ruled(command.clone(), Ruling::Refuse(refusal), now);
            self.count_error(now);
            return true;
        }
        let Some(cause) = self.filtered(command) else { return false };
        let refusal = Refusal::Filtered(cause);
        self.offence(cause);
        let ruling = match self.rules.filters.on_match {
            OnMatch::Takeover => Ruling::Takeover(refusal),
            OnMatch::Refuse => Ruling::Refuse(refusal),
        };
        self.ruled(command.clone(), ruling, now);
        true
    }

    /// Notes what the client has done, for its record and for those who count offences.
    pub(super) fn offence(&mut self, cause: Cause) {
        self.conduct.cause = Some(cause);
        self.note(Note::Offence(cause));
    }

    /// Whether encryption (RFC 3207 section 4) or AUTH (RFC 4954 section 6) must come first.
    fn lacks_protection(&self, command: &Command) -> Option<Refusal> {
        let may_come_first = matches!(
            command,
            Command::Hello { extended: true, .. } | Command::StartTls | Command::Noop | Command::Quit
        );
        if self.terms.starttls == StartTls::Require && !may_come_first {
            let offered = self.offers.starttls || !self.greeted_extended;
            return Some(if offered { Refusal::EncryptionRequired } else { Refusal::EncryptionMissing });
        }
        let required = match self.rules.auth.require {
            AuthRequire::No => false,
            AuthRequire::IfSupported => self.offers.auth,
            AuthRequire::Mandatory => true,
        };
        let sends = matches!(command, Command::Mail { .. });
        (required && sends && !self.conduct.authenticated).then_some(Refusal::AuthRequired)
    }

    fn filtered(&self, command: &Command) -> Option<Cause> {
        let skipped = self.rules.auth.skips(AuthSkip::Regex, self.conduct.authenticated);
        if skipped { None } else { filter::offence(&self.rules.filters, command) }
    }
}
