//! What is found in the folder at a start.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;

use nix::errno::Errno;

use super::entry::Entry;
use super::envelope::QueueId;
use super::frame::{self, Frame, HEAD, Next, Reader};
use super::journal::Place;
use super::record::Record;
use super::segment::SegmentId;
use crate::folder::Folder;

/// Octets that are no record, between others that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) segment: SegmentId,
    pub(super) from: u64,
    pub(super) length: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Messages with something left to do.
    pub(super) messages: HashMap<QueueId, Entry>,
    /// Segments, and what they take.
    pub(super) segments: BTreeMap<SegmentId, u64>,
    /// Segments without a single record: made in the moment of a crash.
    pub(super) empty: Vec<SegmentId>,
    /// Segments that could not be read, and why. Nothing younger may be removed.
    pub(super) unreadable: Vec<(SegmentId, String)>,
    /// Damage in the middle of segments.
    pub(super) damage: Vec<Damage>,
    /// What was being written when a process died. Nobody was told that it was taken.
    pub(super) torn: Vec<Damage>,
}

/// Whether this passes by itself: what is lacking is descriptors or memory. Of a segment that is read later than those
/// behind it, the marks in these would be missed.
pub(super) fn passes(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN | Errno::EINTR))
}

/// Reads `segments`, which nobody writes.
///
/// # Errors
///
/// What lacks passes by itself: all of them are to be read again.
pub(super) fn read(folder: &Folder, mut segments: Vec<SegmentId>) -> io::Result<Found> {
    segments.sort_unstable();
    let mut found = Found::default();
    let mut said = Said::default();
    for id in &segments {
        match read_segment(folder, *id, &mut found, &mut said) {
            Ok(()) => {}
            Err(error) if passes(&error) => return Err(error),
            Err(error) => found.unreadable.push((*id, error.to_string())),
        }
    }
    found.messages = said.conclude();
    drop_torn(folder, &segments, &mut found)?;
    Ok(found)
}

fn read_segment(folder: &Folder, id: SegmentId, found: &mut Found, said: &mut Said) -> io::Result<()> {
    let file = folder.read(id.to_string())?;
    let length = file.metadata()?.len();
    let Some(mut reader) = Reader::open(&file)? else {
        if length > frame::FIRST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no segment of a queue of this version"));
        }
        found.empty.push(id);
        return Ok(());
    };
    let mut records = 0u64;
    let mut pending: Option<Damage> = None;
    while let Some(next) = reader.next()? {
        match next {
            Next::Frame(frame) => {
                found.damage.extend(pending.take());
                records = records.saturating_add(1);
                said.hear(id, frame)?;
            }
            Next::Damage { from, length } => pending = Some(Damage { segment: id, from, length }),
        }
    }
    found.torn.extend(pending);
    if records == 0 {
        found.empty.push(id);
    } else {
        found.segments.insert(id, length);
    }
    Ok(())
}

/// All that the records say.
#[derive(Debug, Default)]
struct Said {
    messages: HashMap<QueueId, Entry>,
    voids: Vec<(SegmentId, u64)>,
}

impl Said {
    fn hear(&mut self, segment: SegmentId, frame: Frame) -> io::Result<()> {
        let Some(record) = Record::read(&frame.record) else {
            let unknown = "a record of another version: start the gateway that wrote it";
            return Err(io::Error::new(io::ErrorKind::InvalidData, unknown));
        };
        match record {
            Record::Message { id, envelope, standing, settled, warned } => {
                let head = u64::try_from(HEAD.saturating_add(frame.record.len())).unwrap_or(u64::MAX);
                let at = frame.content.at.saturating_sub(head);
                let place = Place { segment, at, length: head.saturating_add(frame.content.length) };
                let recipients = u32::try_from(envelope.recipients.len()).unwrap_or(u32::MAX);
                let (arrived, size) = (envelope.arrived, frame.content.length);
                let entry = Entry { place, arrived, size, recipients, settled, standing, warned };
                self.messages.insert(id, entry);
            }
            Record::Settled { id, recipients } => {
                if let Some(entry) = self.messages.get_mut(&id) {
                    entry.settle(&recipients);
                }
            }
            Record::Standing { id, standing } => {
                if let Some(entry) = self.messages.get_mut(&id) {
                    entry.standing = standing;
                }
            }
            Record::Warned { id } => {
                if let Some(entry) = self.messages.get_mut(&id) {
                    entry.warned = true;
                }
            }
            Record::Gone { id } => drop(self.messages.remove(&id)),
            Record::Void { generation, number, from } => {
                self.voids.push((SegmentId { generation, number }, from));
            }
        }
        Ok(())
    }

    fn conclude(mut self) -> HashMap<QueueId, Entry> {
        let voids = self.voids;
        let is_void =
            |place: Place| voids.iter().any(|(segment, from)| place.segment == *segment && place.at >= *from);
        self.messages.retain(|_, entry| !is_void(entry.place) && !entry.is_done());
        self.messages
    }
}

/// Drops messages whose content did not reach the disk before a crash of the machine: they were the
/// last to be written, and nobody was told that they were taken.
fn drop_torn(folder: &Folder, segments: &[SegmentId], found: &mut Found) -> io::Result<()> {
    let mut checked: Option<u32> = None;
    for id in segments.iter().rev() {
        if checked == Some(id.generation) || !found.segments.contains_key(id) {
            continue;
        }
        let (frames, torn) = match folder.read(id.to_string()).and_then(|file| torn_messages(&file)) {
            Err(error) if passes(&error) => return Err(error),
            looked => looked.unwrap_or_default(),
        };
        for at in torn {
            let place = |entry: &Entry| entry.place.segment == *id && entry.place.at == at;
            found.messages.retain(|_, entry| !place(entry));
            found.torn.push(Damage { segment: *id, from: at, length: 0 });
        }
        // A segment of one message may be one beside that of the many.
        if frames > 1 {
            checked = Some(id.generation);
        }
    }
    Ok(())
}

/// How many frames a segment has, and where those at its end begin whose contents are not what was written.
fn torn_messages(file: &File) -> io::Result<(usize, Vec<u64>)> {
    let Some(mut reader) = Reader::open(file)? else { return Ok(Default::default()) };
    let (mut frames, mut torn) = (0usize, Vec::new());
    while let Some(next) = reader.next()? {
        let Next::Frame(frame) = next else { continue };
        frames = frames.saturating_add(1);
        if frame::is_sound(file, frame.content)? {
            if frame.content.length > 0 {
                // What is damaged before a sound one was whole once: that is found when it is delivered.
                torn.clear();
            }
        } else {
            let head = u64::try_from(HEAD.saturating_add(frame.record.len())).unwrap_or(u64::MAX);
            torn.push(frame.content.at.saturating_sub(head));
        }
    }
    Ok((frames, torn))
}
