//! What an operator can have done from the console: each after a yes.

use super::text::safe;
use crate::control::Client;
use crate::control::client::Error;
use crate::control::request::OldLock;
use crate::control::request::queue::{Flush, Which};
use crate::intercept::flow::SessionId;
use crate::policy::lock::Who;
use crate::queue::QueueId;

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// End a session.
    End(SessionId),
    /// Remove a lock.
    Unlock(Who),
    /// Do something with a message in the queue.
    Message(Handling, QueueId),
    /// Try all mail for a destination now.
    Flush(String),
}

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handling {
    /// Keep it from being delivered.
    Hold,
    /// Have it delivered, when it was held.
    Release,
    /// Try it now, when it waits for another attempt.
    Retry,
    /// Throw it away.
    Delete,
}

impl Handling {
    /// Its name, as in the request.
    const fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Retry => "retry",
            Self::Delete => "delete",
        }
    }
}

impl Deed {
    /// What is asked before.
    pub(super) fn question(&self) -> String {
        match self {
            Self::End(id) => format!("end session {id}?"),
            Self::Unlock(who) => format!("unlock {}?", safe(&who.to_string())),
            Self::Message(handling, id) => format!("{} message {id}?", handling.name()),
            Self::Flush(destination) => format!("try mail for {} now?", safe(destination)),
        }
    }

    /// What yes means, and what no does.
    pub(super) const fn answers(&self) -> [&'static str; 2] {
        match self {
            Self::End(_) => ["end it", "let it go on"],
            Self::Unlock(_) => ["unlock", "leave it locked"],
            Self::Message(Handling::Hold, _) => ["hold it", "leave it"],
            Self::Message(Handling::Release, _) => ["release it", "leave it"],
            Self::Message(Handling::Retry, _) => ["try it now", "leave it"],
            Self::Flush(_) => ["try all of it now", "leave it"],
            Self::Message(Handling::Delete, _) => ["delete it; nobody is told", "keep it"],
        }
    }

    /// What is said when it is done.
    pub(super) fn done(&self) -> String {
        match self {
            Self::End(id) => format!("session {id} is told to end"),
            Self::Unlock(who) => format!("{who} is unlocked"),
            Self::Message(Handling::Hold, id) => format!("message {id} is held"),
            Self::Message(Handling::Release, id) => format!("message {id} is released"),
            Self::Message(Handling::Retry, id) => format!("message {id} is tried now"),
            Self::Message(Handling::Delete, id) => format!("message {id} is deleted"),
            Self::Flush(destination) => format!("mail for {destination} is tried now"),
        }
    }

    /// Has the gateway do it; else says why not.
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), String> {
        let said = |error: Error| error.to_string();
        match self {
            Self::End(id) => client.kill(*id).await.map(drop).map_err(said),
            Self::Unlock(who) => {
                client.unlock(&OldLock { who: Some(who.clone()) }).await.map(drop).map_err(said)
            }
            Self::Flush(destination) => {
                let flush = Flush { destination: destination.clone() };
                client.flush(&flush).await.map(drop).map_err(said)
            }
            Self::Message(handling, id) => {
                let which = Which { ids: vec![id.to_string()], all: false };
                let changed = client.change_queue(handling.name(), &which).await.map_err(said)?;
                let why = match handling {
                    Handling::Hold => "gone, or held already",
                    Handling::Release => "gone, or not held",
                    Handling::Retry => "gone, or not deferred",
                    Handling::Delete => "gone",
                };
                if changed.changed == 0 { Err(format!("message {id} is {why}")) } else { Ok(()) }
            }
        }
    }
}
