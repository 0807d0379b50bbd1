//! What all states of a connection share: the octets both ways, the clock, and what is known of the server.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut as _, BytesMut};

use super::deadline::Clock;
use super::{Action, Features, Note, Rules, Stage, Terms, TlsFacts};
use crate::smtp::reply::{Reply, ReplyDecoder, ReplyError};
use crate::smtp::transcript::{Transcript, Way};

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) rules: Arc<Rules>,
    pub(super) terms: Terms,
    pub(super) input: BytesMut,
    replies: ReplyDecoder,
    pub(super) output: BytesMut,
    pub(super) actions: VecDeque<Action>,
    pub(super) clock: Clock,
    pub(super) features: Features,
    pub(super) transcript: Option<Transcript>,
    /// The handshake has succeeded.
    pub(super) tls: Option<TlsFacts>,
    /// AUTH has succeeded.
    pub(super) authenticated: bool,
    /// EHLO is not to be sent: the server is behind a PIX, or the operator does not want it.
    pub(super) plain_hello: bool,
    /// The greeting was a PIX's.
    pub(super) pix: bool,
}

impl Wire {
    pub(super) fn new(rules: Arc<Rules>, terms: Terms, now: Instant) -> Self {
        Self {
            transcript: rules.transcript.then(Transcript::default),
            rules,
            terms,
            input: BytesMut::new(),
            replies: ReplyDecoder::default(),
            output: BytesMut::new(),
            actions: VecDeque::new(),
            clock: Clock::new(now),
            features: Features::default(),
            tls: None,
            authenticated: false,
            plain_hello: false,
            pix: false,
        }
    }

    /// Sends a command line.
    pub(super) fn send(&mut self, line: &str) {
        if let Some(transcript) = &mut self.transcript {
            transcript.command(Way::Out, line.as_bytes());
        }
        self.output.put_slice(line.as_bytes());
        self.output.put_slice(b"\r\n");
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn note(&mut self, note: Note) {
        self.act(Action::Note(note));
    }

    /// What is waited for from `now` on.
    pub(super) fn enter(&mut self, stage: Stage, now: Instant) {
        let limit = stage.limit(&self.rules.timeouts, self.rules.pix_delay);
        self.clock.enter(stage, limit, now);
    }

    /// The next reply. The operator's filter sees each line before it is read: it can mend what is none.
    pub(super) fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        while let Some(end) = memchr::memchr(b'\n', &self.input) {
            let mut line = self.input.split_to(end.saturating_add(1));
            if let Some(transcript) = &mut self.transcript {
                transcript.line(Way::In, line.trim_ascii_end());
            }
            if let Some(mended) = self.rules.reply_filter.find(line.trim_ascii_end()) {
                line = BytesMut::from(mended.as_ref());
                line.put_u8(b'\n');
            }
            if let Some(reply) = self.replies.next(&mut line)? {
                return Ok(Some(reply));
            }
        }
        // A line without an end may be too long.
        self.replies.next(&mut self.input)
    }

    /// Whether the server has sent what nothing asked for.
    pub(super) fn has_unread(&self) -> bool {
        !self.input.is_empty() || self.replies.is_inside()
    }

    /// Throws away what the server has sent so far; says whether there was anything.
    pub(super) fn forget_input(&mut self) -> bool {
        let had = self.has_unread();
        self.input.clear();
        self.replies = ReplyDecoder::default();
        had
    }
}
