//! The content of a message in the queue, as it is to be sent: changed on the fly, never held as a whole.

use bytes::Bytes;

use super::connection::Text;
use super::rewrite::{Rewriting, WritePass};
use crate::mime::Survey;
use crate::queue::{Content, ContentReader, QueueId, ReadError};
use crate::smtp::client::Report;

/// A message's content on its way out.
#[derive(Debug)]
pub(super) struct Letter<'r> {
    id: QueueId,
    content: Content,
    rewriting: &'r Rewriting,
    reader: ContentReader,
    /// It has to become 7-bit.
    downgrade: bool,
    state: State,
    damaged: bool,
}

#[derive(Debug)]
enum State {
    /// Nothing was read.
    Begun,
    /// Octets are sent as they are.
    AsItIs,
    /// Octets are changed.
    Changing(Box<WritePass>),
    /// All was sent.
    Ended,
}

impl<'r> Letter<'r> {
    pub(super) fn new(id: QueueId, content: Content, rewriting: &'r Rewriting) -> Self {
        let reader = content.reader();
        Self { id, content, rewriting, reader, downgrade: false, state: State::Begun, damaged: false }
    }

    /// Whether the content is not what was taken.
    pub(super) const fn is_damaged(&self) -> bool {
        self.damaged
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Report> {
        let read = self.reader.next().await;
        read.map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&mut self, error: &ReadError) -> Report {
        self.damaged |= matches!(error, ReadError::Damaged);
        Report { elsewhere: false, ..Report::transient(3, 0, error.to_string()) }
    }

    /// Looks at all of it where that is needed before the first octet.
    async fn prepared(&mut self) -> Result<State, Report> {
        if !self.downgrade && !self.rewriting.is_needed() {
            return Ok(State::AsItIs);
        }
        let survey = if self.downgrade { Some(self.survey().await?) } else { None };
        Ok(State::Changing(Box::new(self.rewriting.write(survey))))
    }

    async fn survey(&mut self) -> Result<Survey, Report> {
        let mut pass = self.rewriting.survey();
        while let Some(octets) = self.read().await? {
            pass.octets(&octets);
        }
        self.reader = self.content.reader();
        pass.finish()
    }

    fn finish(&self, pass: WritePass, out: &mut Vec<u8>) {
        let (notes, more) = pass.finish(out);
        for note in &notes {
            // The operator asked for them, one pattern at a time.
            tracing::info!(id = %self.id, %note, "content check");
        }
        if more > 0 {
            tracing::info!(id = %self.id, more, "further content checks");
        }
    }
}

impl Text for Letter<'_> {
    fn begin(&mut self, downgrade: bool) {
        self.reader = self.content.reader();
        self.downgrade = downgrade;
        self.state = State::Begun;
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Report> {
        if matches!(self.state, State::Begun) {
            self.state = self.prepared().await?;
        }
        loop {
            if matches!(self.state, State::Ended) {
                return Ok(None);
            }
            let piece = self.read().await?;
            let mut out = Vec::new();
            match (&mut self.state, piece) {
                (State::Changing(pass), Some(octets)) => pass.octets(&octets, &mut out),
                (_, Some(octets)) => return Ok(Some(octets)),
                (state, None) => {
                    if let State::Changing(pass) = std::mem::replace(state, State::Ended) {
                        self.finish(*pass, &mut out);
                    }
                }
            }
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
    }
}
