//! A message goes into the queue.

use bytes::Bytes;

use super::super::Settings;
use crate::clock;
use crate::intercept::flow::Flow;
use crate::outcome::{Finding, Verdict};
use crate::policy::received::{Trace, received};
use crate::queue::{self, Queue, QueueId, Submitter, Target, WriteError};
use crate::smtp::server::{Server, Submission};
use crate::spool::{self, SpoolReader};

/// Octets up to which messages are written together with others; larger ones get a file of their own.
const SMALL: u64 = 256 * 1024;

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The queue cannot be written.
    #[error(transparent)]
    Queue(#[from] WriteError),
    /// The copy cannot be read.
    #[error(transparent)]
    Spool(#[from] spool::Error),
}

/// What the lane rule says of a message.
pub(super) struct Way {
    pub(super) target: Target,
    pub(super) sign: bool,
}

/// Who brought a message, to whom it goes, and what stands on top of it.
pub(super) struct Entry {
    envelope: queue::Envelope,
    head: String,
}

impl Entry {
    /// The message at hand; `name` is its name in records, `flow` who is taken to have brought it.
    pub(super) fn new(
        server: &Server,
        name: &str,
        flow: &Flow,
        Way { target, sign }: Way,
        verdict: &Verdict,
        settings: &Settings,
    ) -> Option<Self> {
        let submission = server.submission()?;
        let mut head = scan_header(verdict, &settings.config.relay.scan_header);
        head.insert_str(0, &trace(server, &submission, name, flow, &settings.rules.voice.name));
        let wall = clock::wall().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        let envelope = queue::Envelope {
            arrived: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            submitter: Some(submitter(server, &submission, flow)),
            sender: submission.sender,
            recipients: submission.recipients,
            target,
            sign,
            body: submission.body,
            smtputf8: submission.smtputf8,
            ret: submission.ret,
            envid: submission.envid,
        };
        Some(Self { envelope, head })
    }

    /// Puts the message on stable storage.
    pub(super) async fn store(self, queue: Queue, copy: SpoolReader) -> Result<QueueId, Error> {
        let head = Bytes::from(self.head);
        let mut copy = Message { lead: copy.lead(), copy };
        if copy.copy.available() <= SMALL {
            let mut pieces = vec![head];
            while let Some(piece) = copy.next().await? {
                pieces.push(piece);
            }
            return Ok(queue.accept(self.envelope, pieces).await?);
        }
        let mut large = queue.begin(self.envelope).await?;
        large.write(head).await?;
        while let Some(piece) = copy.next().await? {
            large.write(piece).await?;
        }
        Ok(large.finish().await?)
    }
}

/// A copy without what stands above the message for the scanners alone.
struct Message {
    copy: SpoolReader,
    lead: u64,
}

impl Message {
    async fn next(&mut self) -> Result<Option<Bytes>, spool::Error> {
        while let Some(mut piece) = self.copy.next().await? {
            let above = usize::try_from(self.lead).unwrap_or(usize::MAX).min(piece.len());
            self.lead = self.lead.saturating_sub(u64::try_from(above).unwrap_or(u64::MAX));
            let message = piece.split_off(above);
            if !message.is_empty() {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}

fn trace(server: &Server, submission: &Submission, name: &str, flow: &Flow, gateway: &str) -> String {
    let recipient = match submission.recipients.as_slice() {
        [recipient] => Some(recipient.address.as_str()),
        _ => None,
    };
    received(&Trace {
        helo: server.hello(),
        address: flow.client.ip(),
        name: server.told().client().name.as_deref(),
        gateway,
        protocol: submission.protocol,
        tls: server.tls(),
        id: name,
        recipient,
        time: clock::wall(),
    })
}

/// Who brought the message: as a trusted client says of it, or the client.
fn submitter(server: &Server, submission: &Submission, flow: &Flow) -> Submitter {
    let told = server.told();
    let by_flow = Submitter {
        address: flow.client.socket(),
        name: told.client().name.clone(),
        helo: server.hello().to_owned(),
        protocol: submission.protocol.to_owned(),
    };
    let Some(forwarded) = told.forwarded() else { return by_flow };
    let Some(address) = forwarded.socket() else { return by_flow };
    Submitter {
        address,
        name: forwarded.name.clone(),
        helo: forwarded.helo.clone().unwrap_or_default(),
        protocol: forwarded.protocol.clone().unwrap_or(by_flow.protocol),
    }
}

/// The field that says what the scanners found, with its line end; nothing where it has no name.
fn scan_header(verdict: &Verdict, name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    let results = verdict.results.iter().map(|result| {
        let scanner = result.scanner.name();
        match &result.finding {
            Finding::Rated(rating) => {
                format!(
                    "{scanner}={} score={} threshold={}",
                    result.finding.name(),
                    rating.score,
                    rating.threshold
                )
            }
            Finding::Clean
            | Finding::Infected { .. }
            | Finding::TooLarge
            | Finding::Skipped { .. }
            | Finding::Failed { .. } => format!("{scanner}={}", result.finding.name()),
        }
    });
    let results: Vec<_> = results.collect();
    let text = if results.is_empty() { "not-scanned".to_owned() } else { results.join(";\r\n\t") };
    format!("{name}: {text}\r\n")
}
