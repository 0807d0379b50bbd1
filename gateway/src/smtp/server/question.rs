//! What becomes of a command that others were asked about.

use std::time::Instant;

use super::Server;
use crate::outcome::SessionEnd;
use crate::smtp::command::Command;
use crate::smtp::question::Ruling;
use crate::smtp::refusal::Refusal;

/// What waits for a ruling.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) since: Instant,
    /// The command in question; none when the client arrives.
    pub(super) command: Option<Command>,
}

impl Server {
    /// The ruling on the question that [`super::Action::Ask`] put. One that nobody waits for any more
    /// changes nothing.
    pub fn answered(&mut self, ruling: Ruling, now: Instant) {
        let Some(asked) = self.asked.take() else { return };
        self.clocks.command = now;
        if let Some(cause) = ruling.refusal().and_then(Refusal::offence) {
            self.offence(cause);
        }
        match asked.command {
            None => self.admit(ruling, now),
            Some(command) => self.ruled(command, ruling, now),
        }
        self.pump(now);
    }

    pub(super) fn ruled(&mut self, command: Command, ruling: Ruling, now: Instant) {
        if let Some(refusal) = ruling.refusal() {
            self.path_refused(&command, refusal);
        }
        match (ruling, command) {
            (Ruling::Pass, command) => {
                self.ruled = true;
                self.run(command, now);
                self.ruled = false;
            }
            (Ruling::Refuse(refusal), Command::Bdat { size, .. }) => self.skip_chunk(size, refusal, now),
            (Ruling::Takeover(refusal), Command::Bdat { size, .. }) => {
                self.take_no_more(&refusal, false, now);
                self.skip_chunk(size, refusal, now);
            }
            (Ruling::Refuse(refusal) | Ruling::Takeover(refusal), _)
                if refusal.reply(&self.rules.voice).is_closing() =>
            {
                self.close_with(&refusal, SessionEnd::Gateway, now);
            }
            (Ruling::Refuse(refusal), _) => self.refuse(&refusal, now),
            (Ruling::Takeover(refusal), _) => {
                self.refuse(&refusal, now);
                self.take_no_more(&refusal, false, now);
            }
            (Ruling::Close(refusal), _) => self.close_with(&refusal, SessionEnd::Gateway, now),
        }
    }
}
