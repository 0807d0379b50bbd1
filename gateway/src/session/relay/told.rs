//! What others are told of a session: scanners, and those who hear of locks.

use super::Driver;
use crate::ipc::offender::{Auth, Scene, Told};
use crate::scan::Envelope;

impl Driver<'_> {
    /// What the scanners are told of the message that has come to its end.
    pub(super) fn envelope(&self) -> Envelope {
        let (sender, recipients) = match self.server.envelope() {
            Some(envelope) => (envelope.sender.clone(), envelope.recipients.clone()),
            None => Default::default(),
        };
        Envelope {
            id: self.name(),
            client: self.flow.client.ip(),
            helo: self.server.hello().to_owned(),
            sender,
            recipients,
            authenticated: false,
            gateway: self.relaying.rules.voice.name.clone(),
        }
    }

    /// The name of the message at hand in records.
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.flow.id, self.live.messages())
    }

    /// How far the dialogue has come, for those who are told of an offence.
    pub(super) fn scene(&self) -> Scene {
        let begun = self.live.messages();
        Scene {
            helo: Told::new(self.server.hello()),
            sender: Told::new(self.server.last_sender()),
            recipients: self.server.recipients(),
            size: self.server.message_size(),
            transaction: if self.message.is_some() { begun } else { begun.saturating_add(1) },
            auth: Auth { offered: false, accepted: false, rejected: false },
        }
    }
}
