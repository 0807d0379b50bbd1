//! One request to an HTTP server, and its answer.
//!
//! Owns that an answer has an end. Knows no addresses and no deadlines: those are the caller's.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection, the other side's words, or what was to be sent.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The answer has more octets than this.
    #[error("more than {0} octets")]
    TooLong(usize),
}

/// Sends one request over `stream` and returns the answer, whose text has at most so many octets. `waiting`
/// is called while there is none.
///
/// # Errors
///
/// As [`Error`] says.
pub async fn ask<S, B>(
    stream: S,
    request: Request<B>,
    most: usize,
    mut waiting: impl FnMut(),
) -> Result<Response<Bytes>, Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(async move {
        let response = sender.send_request(request).await?;
        receive(response, most).await
    });
    // The connection does the work: what it sends and reads, it does when it is polled.
    let driven = std::future::poll_fn(|context| {
        let ended = connection.as_mut().poll(context);
        waiting();
        ended
    });
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // What it has read is still to be had when it has ended.
        _ended = driven => answer.await,
    }
}

async fn receive(response: Response<Incoming>, most: usize) -> Result<Response<Bytes>, Error> {
    let (head, body) = response.into_parts();
    match Limited::new(body, most).collect().await {
        Ok(text) => Ok(Response::from_parts(head, text.to_bytes())),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(Error::Http(*error)),
            Err(_) => Err(Error::TooLong(most)),
        },
    }
}
