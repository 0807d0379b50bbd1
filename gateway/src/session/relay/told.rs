//! What others are told of a session: scanners, and those who hear of locks.

use super::Driver;
use crate::delivery::dsn::Side;
use crate::delivery::incident::Incident;
use crate::delivery::office::{Office, Place};
use crate::ipc::offender::{Auth, Scene, Told};
use crate::scan::Envelope;
use crate::smtp::fault::Fault;
use crate::smtp::transcript::Transcript;

/// What was refused, why, and what was said.
type Refused = (Fault, String, Transcript);

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

    /// Tells the postmaster what the gateway refused in this session, and what was said.
    pub(super) async fn tell_postmaster(&mut self, office: &Office, (fault, reason, transcript): Refused) {
        let peer = format!("[{}]", self.flow.client.ip());
        let incident = Incident { fault, peer, reason, transcript: Some(transcript) };
        let id = self.flow.id.to_string();
        let target = self.target();
        let sender = self.server.last_sender();
        let place = Place { side: Side::Server, id: &id, sender, target: &target };
        office.notice(&incident, place).await;
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
