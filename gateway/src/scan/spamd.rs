//! The spam scanner spamd: SPAMC over TCP and UNIX sockets (SpamAssassin's `spamd/PROTOCOL`).
//!
//! The protocol wants the length first, so a scan begins when the message is complete.

mod answer;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::Envelope;
use super::connection::{Reply, Sent, connect, converse, open};
use super::failure::Failure;
use super::health::{TEXT_LENGTH, within};
use super::step::StepCell;
use super::text::{printable, word};
use crate::clock;
use crate::config::decimal::Decimal;
use crate::config::file::{ScannerAddress, Spamd as Config};
use crate::outcome::{Finding, Rating, SpamAction};
use crate::spool::SpoolReader;
use answer::Answer;

/// How long a reply may be: some lines, and the names of the rules that matched.
const REPLY_LENGTH: u64 = 64 * 1024;

/// Octets of a stranger's text in the trace lines (RFC 5321 section 4.5.3.1: 255 and 256).
const WORD_LENGTH: usize = 256;

/// One spamd.
#[derive(Debug)]
pub(super) struct Spamd {
    address: ScannerAddress,
    threshold: Option<Decimal>,
    user: String,
}

impl Spamd {
    pub(super) fn new(config: &Config) -> Self {
        Self { address: config.address.clone(), threshold: config.threshold, user: config.user.clone() }
    }

    /// Asks for the points of a complete message.
    pub(super) async fn scan(
        &self,
        reader: &mut SpoolReader,
        envelope: &Envelope,
        step: &StepCell,
    ) -> Result<Finding, Failure> {
        let (mut from, mut to) = tokio::io::split(connect(&self.address, step).await?);
        let head = self.head(&trace(envelope), reader.stream_length());
        let sending = send(head.into(), reader, &mut to);
        match converse(sending, read_reply(&mut from), step).await? {
            Reply::Early(reply) => {
                self.finding(&reply)?;
                Err(Failure::EarlyAnswer)
            }
            Reply::Complete(reply) => self.finding(&reply),
            Reply::Unheard => Err(Failure::Stopped),
        }
    }

    /// The request up to the message, with `trace` above it.
    fn head(&self, trace: &str, message: u64) -> String {
        let length = message.saturating_add(u64::try_from(trace.len()).unwrap_or(u64::MAX));
        let user = if self.user.is_empty() { String::new() } else { format!("User: {}\r\n", self.user) };
        format!("SYMBOLS SPAMC/1.5\r\nContent-length: {length}\r\n{user}\r\n{trace}")
    }

    fn finding(&self, reply: &[u8]) -> Result<Finding, Failure> {
        let Answer { is_spam, score, threshold, symbols } =
            answer::parse(reply).map_err(|excerpt| match excerpt {
                Some(excerpt) => Failure::Answer(excerpt),
                None => Failure::NoAnswer,
            })?;
        let is_spam = self.threshold.map_or(is_spam, |threshold| score >= threshold);
        Ok(Finding::Rated(Rating {
            action: if is_spam { SpamAction::Reject } else { SpamAction::NoAction },
            score,
            threshold: self.threshold.unwrap_or(threshold),
            symbols,
        }))
    }

    /// Asks whether it is well; its version, or what is wrong.
    pub(super) async fn check(&self) -> Result<String, String> {
        within(async {
            let mut stream = open(&self.address).await.map_err(|error| error.to_string())?;
            stream.write_all(b"PING SPAMC/1.5\r\n\r\n").await.map_err(|error| error.to_string())?;
            let reply = read_reply(&mut stream).await.map_err(|failure| failure.to_string())?;
            match answer::pong(&reply) {
                Some(protocol) => Ok(printable(protocol, TEXT_LENGTH)),
                None => Err(format!("answered PING with {}", printable(&reply, TEXT_LENGTH))),
            }
        })
        .await
    }
}

/// What a mail server would have written above the message: SpamAssassin takes the client's address
/// from there, and tests little without it.
fn trace(envelope: &Envelope) -> String {
    let brackets = b"()<>[]\\\"";
    let helo = word(&envelope.helo, WORD_LENGTH, b"()<>\\\"");
    let helo = if helo.is_empty() { "unknown" } else { &helo };
    let sender = word(&envelope.sender, WORD_LENGTH, b"<>");
    let client = match envelope.client {
        std::net::IpAddr::V4(client) => client.to_string(),
        std::net::IpAddr::V6(client) => format!("IPv6:{client}"),
    };
    let with = if envelope.authenticated { "ESMTPA" } else { "ESMTP" };
    let (gateway, id) = (word(&envelope.gateway, WORD_LENGTH, brackets), &envelope.id);
    let wall = jiff::Timestamp::try_from(clock::wall()).unwrap_or_default();
    let date = wall.strftime("%a, %d %b %Y %H:%M:%S +0000");
    format!(
        "X-Envelope-From: <{sender}>\r\nReceived: from {helo} (unknown [{client}])\r\n\
         \tby {gateway} with {with} id {id};\r\n\t{date}\r\n"
    )
}

async fn send(
    head: Bytes,
    reader: &mut SpoolReader,
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<Sent, Failure> {
    let mut next = Some(head);
    while let Some(mut block) = next {
        to.write_all_buf(&mut block).await.map_err(Failure::Send)?;
        next = reader.next().await?;
    }
    to.shutdown().await.map_err(Failure::Send)?;
    Ok(Sent::All)
}

/// Reads a reply, which ends with the connection.
async fn read_reply(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Failure> {
    let mut reply = Vec::new();
    from.take(REPLY_LENGTH).read_to_end(&mut reply).await.map_err(Failure::Receive)?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_lines_tell_who_sent_it_and_hold_nothing_else() {
        let envelope = Envelope {
            id: "01ABC-1".to_owned(),
            client: "2001:db8::7".parse().unwrap(),
            helo: "mx (evil)\r\nX-Spam: no".to_owned(),
            sender: "a>\r\n\r\nb@example.org".to_owned(),
            recipients: vec![],
            authenticated: false,
            gateway: "gw.example".to_owned(),
        };
        let trace = trace(&envelope);
        let lines: Vec<_> = trace.split("\r\n").collect();
        assert_eq!(lines[0], "X-Envelope-From: <a?????b@example.org>");
        assert_eq!(lines[1], "Received: from mx??evil???X-Spam:?no (unknown [IPv6:2001:db8::7])");
        assert_eq!(lines[2], "\tby gw.example with ESMTP id 01ABC-1;");
        assert_eq!((lines.len(), lines[4]), (5, ""));
    }
}
