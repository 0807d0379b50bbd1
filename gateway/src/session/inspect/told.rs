//! What others are told of a session: scanners, and those who hear of locks.

use super::Driver;
use crate::config::file::AuthSkip;
use crate::ipc::offender::{Auth, Scene, Told};
use crate::scan::{Envelope, Exempt};

impl Driver<'_> {
    /// The scans that a client is spared whose AUTH the server has accepted.
    pub(super) fn exempt(&self) -> Exempt {
        let authenticated = self.exchange.conduct().authenticated;
        let skips = |what| self.settings.config.auth.skips(what, authenticated);
        Exempt { virus: skips(AuthSkip::Antivirus), spam: skips(AuthSkip::Antispam) }
    }

    /// What the scanners are told of the message that has come to its end.
    pub(super) fn envelope(&self) -> Envelope {
        let flow = self.live.flow();
        let (sender, recipients) = match self.exchange.envelope() {
            Some(envelope) => (envelope.sender.clone(), envelope.recipients.clone()),
            None => Default::default(),
        };
        Envelope {
            id: format!("{}-{}", flow.id, self.live.messages()),
            client: flow.client.ip(),
            helo: self.exchange.hello().to_owned(),
            sender,
            recipients,
            authenticated: self.exchange.conduct().authenticated,
            gateway: self.settings.rules.voice.name.clone(),
        }
    }

    /// How far the dialogue has come, for those who are told of an offence.
    pub(super) fn scene(&self) -> Scene {
        let (exchange, conduct) = (&self.exchange, self.exchange.conduct());
        let begun = self.live.messages();
        Scene {
            helo: Told::new(exchange.hello()),
            sender: Told::new(exchange.last_sender()),
            recipients: exchange.recipients(),
            size: exchange.message_size(),
            transaction: if self.message.is_some() { begun } else { begun.saturating_add(1) },
            auth: Auth {
                offered: conduct.auth_offered,
                accepted: conduct.authenticated,
                rejected: conduct.auth_rejected,
            },
        }
    }
}
