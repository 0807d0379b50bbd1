//! What is asked about the queue.

use std::time::Duration;

use hyper::Method;

use super::{Client, Error, TIME};
use crate::control::request::queue::{
    DestinationList, Flush, QueueChanged, QueueList, QueuedMessage, Requeue, Which,
};

/// How long it may take to look through the whole queue.
const SEARCH_TIME: Duration = Duration::from_secs(80);

impl Client {
    /// Messages in the queue behind `after`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where there is no queue.
    pub async fn queue(&self, after: Option<&str>) -> Result<QueueList, Error> {
        let query = after.map(|id| format!("?after={id}")).unwrap_or_default();
        self.ask(Method::GET, &format!("/v1/queue{query}"), TIME).await
    }

    /// The destinations that mail waits for.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where there is no queue, or the user may not.
    pub async fn destinations(&self) -> Result<DestinationList, Error> {
        self.ask(Method::GET, "/v1/queue/destinations", SEARCH_TIME).await
    }

    /// One of them.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it is not there or the user may not.
    pub async fn queued(&self, id: &str) -> Result<QueuedMessage, Error> {
        self.ask(Method::GET, &format!("/v1/queue/{id}"), TIME).await
    }

    /// Its content.
    ///
    /// # Errors
    ///
    /// As [`Self::queued`], and when it is larger than an answer may be.
    pub async fn content(&self, id: &str) -> Result<Vec<u8>, Error> {
        self.octets(&format!("/v1/queue/{id}/content"), SEARCH_TIME).await
    }

    /// Does something with messages: `retry`, `hold`, `release` or `delete`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the user may not.
    pub async fn change_queue(&self, verb: &str, which: &Which) -> Result<QueueChanged, Error> {
        self.tell(&format!("/v1/queue/{verb}"), which, SEARCH_TIME).await
    }

    /// Puts a message into the queue anew.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it is not there or under way, or the user may not.
    pub async fn requeue(&self, requeue: &Requeue) -> Result<QueueChanged, Error> {
        self.tell("/v1/queue/requeue", requeue, SEARCH_TIME).await
    }

    /// Tries all mail for a destination now.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it is no destination or the user may not.
    pub async fn flush(&self, flush: &Flush) -> Result<QueueChanged, Error> {
        self.tell("/v1/queue/flush", flush, SEARCH_TIME).await
    }
}
