//! The text of a message on its way: behind DATA, or in BDAT chunks (RFC 3030).

use std::time::Instant;

use bytes::{BufMut as _, BytesMut};

use super::content::Encoder;
use super::transaction::{Transaction, What};
use super::wire::Wire;
use super::{HIGH_WATER, Note, Protocol, Rules, Stage};

/// Octets of a chunk.
const CHUNK: usize = 256 * 1024;
/// Chunks that may wait for their replies, where the server takes commands in groups.
const CHUNKS_IN_FLIGHT: usize = 4;

/// Where the text is.
#[derive(Debug)]
pub(super) enum Text {
    /// Not begun, or its end is sent.
    None,
    /// Behind DATA.
    Lines { encoder: Encoder, ended: bool },
    /// Complete but for its dot, which waits for its time (`pix-workaround-delay-time`).
    Pausing,
    /// In chunks; the octets of the next one.
    Chunks { encoder: Encoder, chunk: BytesMut, ended: bool },
}

impl Text {
    pub(super) const fn for_data(rules: &Rules) -> Self {
        Self::Lines { encoder: Encoder::new(rules.line_length), ended: false }
    }

    pub(super) fn for_chunks(rules: &Rules) -> Self {
        Self::Chunks { encoder: Encoder::for_chunks(rules.line_length), chunk: BytesMut::new(), ended: false }
    }

    pub(super) const fn is_open(&self) -> bool {
        !matches!(self, Self::None)
    }

    pub(super) const fn is_pausing(&self) -> bool {
        matches!(self, Self::Pausing)
    }
}

impl Transaction {
    pub(super) fn wants_text(&self, wire: &Wire) -> bool {
        let room = wire.output.len() < HIGH_WATER;
        match &self.text {
            Text::Lines { ended, .. } => room && !ended,
            Text::Chunks { ended, chunk, .. } => room && !ended && chunk.len() < CHUNK,
            Text::Pausing | Text::None => false,
        }
    }

    pub(super) fn text(&mut self, octets: &[u8], wire: &mut Wire, now: Instant) {
        match &mut self.text {
            Text::Lines { encoder, ended: false } => encoder.encode(octets, &mut wire.output),
            Text::Chunks { encoder, chunk, ended: false } => encoder.encode(octets, chunk),
            Text::Lines { .. } | Text::Chunks { .. } | Text::Pausing | Text::None => return,
        }
        self.send_chunks(wire);
        self.set_clock(false, wire, now);
    }

    pub(super) fn text_ended(&mut self, wire: &mut Wire, now: Instant) {
        let folded = match &mut self.text {
            Text::Lines { encoder, ended } if !*ended => {
                *ended = true;
                encoder.finish(&mut wire.output);
                encoder.folded()
            }
            Text::Chunks { encoder, chunk, ended } if !*ended => {
                *ended = true;
                encoder.finish(chunk);
                encoder.folded()
            }
            Text::Lines { .. } | Text::Chunks { .. } | Text::Pausing | Text::None => return,
        };
        if folded {
            wire.note(Note::Folded);
        }
        if matches!(self.text, Text::Lines { .. }) && !self.waits_for_dot(wire) {
            self.send_dot(wire);
        }
        self.send_chunks(wire);
        self.set_clock(false, wire, now);
    }

    /// Octets were written, or a reply came.
    pub(super) fn flushed(&mut self, wire: &mut Wire, now: Instant) {
        if matches!(self.text, Text::Lines { ended: true, .. }) && wire.output.is_empty() {
            self.text = Text::Pausing;
        }
        if self.is_in_text() {
            self.send_chunks(wire);
            self.set_clock(false, wire, now);
        }
    }

    /// The time for the dot has come; false where it is not waited for.
    pub(super) fn pause_ended(&mut self, wire: &mut Wire, now: Instant) -> bool {
        let pausing = self.text.is_pausing() && wire.clock.stage() == Stage::Pause;
        if pausing {
            self.send_dot(wire);
            self.set_clock(false, wire, now);
        }
        pausing
    }

    fn send_dot(&mut self, wire: &mut Wire) {
        wire.send(".");
        self.text = Text::None;
        self.await_end(wire.rules.protocol);
    }

    /// A PIX wants the dot in a segment of its own, behind a pause.
    fn waits_for_dot(&self, wire: &Wire) -> bool {
        wire.pix
            && wire.terms.pix.delay_dotcrlf
            && !wire.rules.pix_delay.is_zero()
            && self.age() >= wire.rules.pix_threshold
    }

    /// Sends full chunks, and the last one however long it is.
    fn send_chunks(&mut self, wire: &mut Wire) {
        loop {
            let in_flight = self.awaits_replies();
            // How many replies an LMTP server gives behind a refused chunk is nowhere written.
            let grouped = wire.features.pipelining && wire.rules.protocol == Protocol::Smtp;
            let most = if grouped { CHUNKS_IN_FLIGHT } else { 1 };
            let Text::Chunks { chunk, ended, .. } = &mut self.text else { return };
            let is_last = *ended && chunk.len() <= CHUNK;
            if in_flight >= most || (chunk.len() < CHUNK && !is_last) {
                return;
            }
            let octets = chunk.split_to(chunk.len().min(CHUNK));
            let end = if is_last { " LAST" } else { "" };
            wire.send(&format!("BDAT {}{end}", octets.len()));
            wire.output.put(octets);
            if is_last {
                self.text = Text::None;
                self.await_end(wire.rules.protocol);
                return;
            }
            self.await_reply(What::Chunk);
        }
    }
}
