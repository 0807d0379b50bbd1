//! The message at hand, as the queue and its trace have it.

use super::Server;
use crate::queue::{Body, Recipient, Ret};

/// A message that a client submits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The reverse-path without brackets and quotes.
    pub sender: String,
    /// The recipients, as the sender.
    pub recipients: Vec<Recipient>,
    /// What the content is.
    pub body: Body,
    /// Whether addresses or headers are UTF-8.
    pub smtputf8: bool,
    /// `RET`.
    pub ret: Option<Ret>,
    /// `ENVID`.
    pub envid: Option<String>,
    /// The protocol it came by (RFC 3848, RFC 6531 section 4.3).
    pub protocol: &'static str,
}

impl Server {
    /// The message at hand; `None` outside of a transaction.
    #[must_use]
    pub fn submission(&self) -> Option<Submission> {
        let transaction = self.transaction.as_ref()?;
        let parameters = &transaction.parameters;
        Some(Submission {
            sender: transaction.sender.clone(),
            recipients: transaction.recipients.clone(),
            body: parameters.body,
            smtputf8: parameters.smtputf8,
            ret: parameters.ret,
            envid: parameters.envid.clone(),
            protocol: self.protocol(parameters.smtputf8),
        })
    }

    fn protocol(&self, smtputf8: bool) -> &'static str {
        let extended = self.hello.as_ref().is_some_and(|hello| hello.extended);
        match (smtputf8, extended, self.tls.is_some()) {
            (true, _, true) => "UTF8SMTPS",
            (true, _, false) => "UTF8SMTP",
            (false, true, true) => "ESMTPS",
            (false, true, false) => "ESMTP",
            (false, false, _) => "SMTP",
        }
    }
}
