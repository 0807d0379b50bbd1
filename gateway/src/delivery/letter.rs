//! The content of a message in the queue, as it is to be sent: changed on the fly, never held as a whole.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::task::spawn_blocking;

use super::connection::Text;
use super::dkim::{Signature, Signers, Unsigned};
use super::rewrite::{Rewriting, WritePass};
use crate::clock;
use crate::mime::Survey;
use crate::queue::{Content, ContentReader, QueueId, ReadError};
use crate::smtp::client::{Encoder, Report, Status};

/// How a message is signed.
#[derive(Clone, Debug)]
pub(super) struct Signing {
    /// With which keys.
    pub(super) signers: Arc<Signers>,
    /// Who brought it; `None`: the gateway wrote it.
    pub(super) client: Option<IpAddr>,
    /// Where lines are folded on the way; 0: nowhere.
    pub(super) line_length: usize,
}

/// A message's content on its way out.
#[derive(Debug)]
pub(super) struct Letter<'r> {
    id: QueueId,
    content: Content,
    rewriting: &'r Rewriting,
    /// `None`: it is not signed.
    signing: Option<Signing>,
    reader: ContentReader,
    /// It has to become 7-bit.
    downgrade: bool,
    state: State,
    damaged: bool,
    signature: Option<Signature>,
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
    pub(super) fn new(
        id: QueueId,
        content: Content,
        rewriting: &'r Rewriting,
        signing: Option<Signing>,
    ) -> Self {
        let reader = content.reader();
        Self {
            id,
            content,
            rewriting,
            signing,
            reader,
            downgrade: false,
            state: State::Begun,
            damaged: false,
            signature: None,
        }
    }

    /// Whether the content is not what was taken.
    pub(super) const fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// What became of its signature, if a server has asked for the text and it is one to be signed.
    pub(super) const fn signature(&self) -> Option<Signature> {
        self.signature
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Report> {
        let read = self.reader.next().await;
        read.map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&mut self, error: &ReadError) -> Report {
        self.damaged |= matches!(error, ReadError::Damaged);
        Report { elsewhere: false, ..Report::transient(3, 0, error.to_string()) }
    }

    /// Looks at all of it where that is needed before the first octet; also what goes on top of it.
    async fn prepared(&mut self) -> Result<(State, Vec<u8>), Report> {
        let survey = if self.downgrade { Some(self.survey().await?) } else { None };
        let head = match self.signing.clone() {
            Some(signing) => self.signed(signing, survey.as_ref()).await?,
            None => Vec::new(),
        };
        Ok((self.written(survey), head))
    }

    fn written(&self, survey: Option<Survey>) -> State {
        if survey.is_none() && !self.rewriting.is_needed() {
            return State::AsItIs;
        }
        State::Changing(Box::new(self.rewriting.write(survey)))
    }

    /// The signatures over what the server will read: changed as it will be, in lines as they will be.
    async fn signed(&mut self, signing: Signing, survey: Option<&Survey>) -> Result<Vec<u8>, Report> {
        let mut state = self.written(survey.cloned());
        let mut encoder = Encoder::for_chunks(signing.line_length);
        let mut pass = signing.signers.begin(signing.client);
        let (mut changed, mut wire) = (Vec::new(), BytesMut::new());
        let mut wants_more = true;
        while wants_more && let Some(octets) = self.read().await? {
            match &mut state {
                State::Changing(changing) => {
                    changing.octets(&octets, &mut changed);
                    encoder.encode(&changed, &mut wire);
                    changed.clear();
                }
                State::Begun | State::AsItIs | State::Ended => encoder.encode(&octets, &mut wire),
            }
            wants_more = pass.octets(&wire);
            wire.clear();
        }
        if let State::Changing(changing) = state {
            // What there is to note is noted when it is sent.
            drop(changing.finish(&mut changed));
            encoder.encode(&changed, &mut wire);
        }
        encoder.finish(&mut wire);
        pass.octets(&wire);
        self.reader = self.content.reader();
        // An RSA key would hold up others that run on this thread.
        let signed = spawn_blocking(move || pass.finish(clock::wall())).await;
        let failed = |reason: String| Report::new(Status::transient(7, 5), reason);
        let signed = signed.map_err(|error| failed(io::Error::other(error).to_string()))?;
        self.signature = Signature::of(&signed);
        match signed {
            Ok(fields) => Ok(fields),
            Err(error @ Unsigned::Failed(_)) => Err(failed(error.to_string())),
            Err(Unsigned::NotOurs) => Ok(Vec::new()),
            Err(error @ (Unsigned::NoSender | Unsigned::Malformed | Unsigned::TooLong)) => {
                tracing::info!(id = %self.id, reason = %error, "a message goes out without a signature");
                Ok(Vec::new())
            }
        }
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
            let (state, head) = self.prepared().await?;
            self.state = state;
            if !head.is_empty() {
                return Ok(Some(head.into()));
            }
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
