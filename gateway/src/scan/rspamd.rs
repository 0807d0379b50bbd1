//! The spam scanner rspamd: HTTP `POST /checkv2` over TCP and UNIX sockets (its `protocol`
//! documentation).
//!
//! The envelope stands in header fields before the message, so a scan begins when the message is
//! complete. Each scan has a connection of its own: rspamd closes it behind its answer.

mod answer;
mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{Empty, StreamBody};
use hyper::body::{Body, Frame};
use hyper::{Request, StatusCode};

use super::Envelope;
use super::connection::{Stream, connect, open};
use super::failure::Failure;
use super::health::{TEXT_LENGTH, within};
use super::step::{Step, StepCell};
use super::text::printable;
use crate::config::file::{Rspamd as Config, ScannerAddress, Secret};
use crate::http;
use crate::outcome::Finding;
use crate::spool::{self, SpoolReader};

/// How long an answer may be: rspamd names every symbol with its options.
const ANSWER_LENGTH: usize = 1 << 20;

/// How long the answer to a check of its health may be.
const PONG_LENGTH: usize = 4096;

/// Longest part of an unknown answer that is shown to the operator.
const EXCERPT_LENGTH: usize = 200;

/// One rspamd.
#[derive(Debug)]
pub(super) struct Rspamd {
    address: ScannerAddress,
    password: Option<Secret>,
}

impl Rspamd {
    pub(super) fn new(config: &Config) -> Self {
        Self { address: config.address.clone(), password: config.password.clone() }
    }

    /// Asks what it recommends for a complete message.
    pub(super) async fn scan(
        &self,
        reader: &mut SpoolReader,
        envelope: &Envelope,
        step: &StepCell,
    ) -> Result<Finding, Failure> {
        let stream = connect(&self.address, step).await?;
        let length = reader.stream_length();
        let sent = Arc::new(AtomicBool::new(length == 0));
        let body = body(reader.clone(), length, Arc::clone(&sent));
        let request =
            request::check(envelope, self.password.as_ref(), length, body).ok_or(Failure::Stopped)?;
        let (status, answer, _) = ask(stream, request, ANSWER_LENGTH, || {
            if sent.load(Ordering::Relaxed) {
                step.store(Step::Answer);
            }
        })
        .await?;
        match status {
            StatusCode::OK if sent.load(Ordering::Relaxed) => {
                answer::parse(&answer).map(Finding::Rated).map_err(Failure::Answer)
            }
            StatusCode::OK => Err(Failure::EarlyAnswer),
            StatusCode::PAYLOAD_TOO_LARGE => Ok(Finding::TooLarge),
            status => Err(Failure::Answer(format!(
                "HTTP {}: {}",
                status.as_u16(),
                printable(answer.trim_ascii(), EXCERPT_LENGTH)
            ))),
        }
    }

    /// Asks whether it is well; its version, or what is wrong.
    pub(super) async fn check(&self) -> Result<String, String> {
        within(async {
            let stream = open(&self.address).await.map_err(|error| error.to_string())?;
            let request = request::ping().ok_or("no request can be made")?;
            let asked = ask::<Empty<Bytes>>(stream, request, PONG_LENGTH, || {}).await;
            let (status, answer, server) = asked.map_err(|failure| failure.to_string())?;
            if status == StatusCode::OK && answer.trim_ascii() == b"pong" {
                Ok(printable(server.as_bytes(), TEXT_LENGTH))
            } else {
                let said = printable(answer.trim_ascii(), TEXT_LENGTH);
                Err(format!("answered a ping with HTTP {}: {said}", status.as_u16()))
            }
        })
        .await
    }
}

/// The message; `sent` turns true with its last octet. HTTP, told its length, asks for no more.
fn body(
    reader: SpoolReader,
    length: u64,
    sent: Arc<AtomicBool>,
) -> impl Body<Data = Bytes, Error = spool::Error> + Send {
    let blocks = stream::unfold((reader, length, sent), |(mut reader, left, sent)| async move {
        let block = match reader.next().await {
            Ok(block) => block?,
            Err(error) => return Some((Err(error), (reader, left, sent))),
        };
        let left = left.saturating_sub(u64::try_from(block.len()).unwrap_or(u64::MAX));
        sent.store(left == 0, Ordering::Relaxed);
        Some((Ok(Frame::data(block)), (reader, left, sent)))
    });
    StreamBody::new(Box::pin(blocks))
}

/// Sends one request; returns the answer's status, its text and who it is of. `waiting` is called
/// while there is no answer.
async fn ask<B>(
    stream: Box<dyn Stream>,
    request: Request<B>,
    most: usize,
    waiting: impl FnMut(),
) -> Result<(StatusCode, Bytes, String), Failure>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let response = http::ask(stream, request, most, waiting).await.map_err(failure)?;
    let server = response.headers().get(hyper::header::SERVER).and_then(|server| server.to_str().ok());
    let server = server.unwrap_or("rspamd").to_owned();
    Ok((response.status(), response.into_body(), server))
}

/// What went wrong with a request: the copy, the other side's words, or the connection.
fn failure(error: http::Error) -> Failure {
    match error {
        http::Error::TooLong(_) => Failure::Answer(error.to_string()),
        http::Error::Http(error) if error.is_user() => Failure::Spool(spool::Error::Closed),
        http::Error::Http(error) if error.is_parse() => Failure::Answer(error.to_string()),
        http::Error::Http(error) => Failure::Http(error),
    }
}
