//! The frames of a segment: what is written, and what is found again after a crash.
//!
//! A segment begins with [`PREAMBLE`] and a mark of eight random octets. Each frame begins with that
//! mark, which nobody outside knows: a message whose content looks like a frame is not taken for one
//! when the reader has to look for the next sound frame.
//!
//! ```text
//! mark        8 octets
//! meta        4 octets, little endian: length of the record
//! content     8 octets, little endian: length of the message's content
//! content sum 4 octets: CRC-32 of the content
//! sum         4 octets: CRC-32 of all above and the record
//! the record (JSON), the content
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use memchr::memmem;

/// What a segment begins with: format and version.
pub(super) const PREAMBLE: &[u8; 16] = b"gateway queue 1\n";
/// Length of what stands before the first frame.
pub(super) const FIRST: u64 = 24;
/// Length of what stands before a record.
pub(super) const HEAD: usize = 28;
/// Longest record, in octets: an envelope of more recipients than any server takes.
pub(super) const LONGEST_RECORD: usize = 16 * 1024 * 1024;
/// Read at once when looking for the next sound frame.
const STRIDE: usize = 64 * 1024;
/// Read at once for head and record; most records are shorter.
const SHORT: usize = 1024;

/// The mark of one segment.
pub(super) type Mark = [u8; 8];

/// What stands before a record.
pub(super) fn head(mark: &Mark, record: &[u8], content: &[Bytes]) -> [u8; HEAD] {
    let mut sum = crc32fast::Hasher::new();
    let mut length = 0u64;
    for piece in content {
        sum.update(piece);
        length = length.saturating_add(octets(piece.len()));
    }
    head_of(mark, record, length, sum.finalize())
}

/// What stands before a record whose content has `length` octets and this sum.
pub(super) fn head_of(mark: &Mark, record: &[u8], length: u64, sum: u32) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let record_length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    let fields: [&[u8]; 4] = [mark, &record_length.to_le_bytes(), &length.to_le_bytes(), &sum.to_le_bytes()];
    let (fields_part, sum_part) = head.split_at_mut(HEAD - 4);
    for (place, octet) in fields_part.iter_mut().zip(fields.concat()) {
        *place = octet;
    }
    let sum = whole(fields_part, record);
    sum_part.copy_from_slice(&sum.to_le_bytes());
    head
}

fn whole(fields: &[u8], record: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(fields);
    sum.update(record);
    sum.finalize()
}

fn octets(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A frame that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its record.
    pub(super) record: Vec<u8>,
    /// Where its content is.
    pub(super) content: Span,
}

/// Where a content is in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Its first octet.
    pub(super) at: u64,
    /// Its length.
    pub(super) length: u64,
    /// Its CRC-32.
    pub(super) sum: u32,
}

impl Span {
    const fn end(self) -> u64 {
        self.at.saturating_add(self.length)
    }
}

/// What comes next in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A sound frame.
    Frame(Frame),
    /// Octets that are no frame, up to the next sound one or the end.
    Damage {
        /// The first of them.
        from: u64,
        /// How many.
        length: u64,
    },
}

/// Reads a segment from its beginning to its end.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    file: &'a File,
    mark: Mark,
    at: u64,
    end: u64,
}

impl<'a> Reader<'a> {
    /// `None` for a file that is no segment of this format.
    pub(super) fn open(file: &'a File) -> io::Result<Option<Self>> {
        let end = file.metadata()?.len();
        let mut first = [0; 24];
        if end < FIRST {
            return Ok(None);
        }
        file.read_exact_at(&mut first, 0)?;
        let Some((PREAMBLE, mark)) = first.split_first_chunk() else { return Ok(None) };
        let Ok(mark) = mark.try_into() else { return Ok(None) };
        Ok(Some(Self { file, mark, at: FIRST, end }))
    }

    /// The sound frame at `at`, whose content may be damaged.
    pub(super) fn at(&self, at: u64) -> io::Result<Option<Frame>> {
        if at >= self.end { Ok(None) } else { self.frame(at) }
    }

    /// What comes next; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Next>> {
        if self.at >= self.end {
            return Ok(None);
        }
        if let Some(frame) = self.frame(self.at)? {
            self.at = frame.content.end();
            return Ok(Some(Next::Frame(frame)));
        }
        let from = self.at;
        self.at = self.sound(from.saturating_add(1))?.unwrap_or(self.end);
        Ok(Some(Next::Damage { from, length: self.at.saturating_sub(from) }))
    }

    /// The sound frame at `at`.
    fn frame(&self, at: u64) -> io::Result<Option<Frame>> {
        let start = self.read(at, SHORT)?;
        let Some((head, rest)) = start.split_first_chunk::<HEAD>() else { return Ok(None) };
        let Some(fields) = Fields::read(head, &self.mark) else { return Ok(None) };
        let length = fields.record;
        let after = at.saturating_add(octets(HEAD));
        let content_at = after.saturating_add(octets(length));
        let content = Span { at: content_at, length: fields.content, sum: fields.content_sum };
        if length > LONGEST_RECORD || content.end() > self.end {
            return Ok(None);
        }
        let record = match rest.get(..length) {
            Some(record) => record.to_vec(),
            None => self.read(after, length)?,
        };
        let (counted, _) = head.split_at(HEAD - 4);
        Ok((record.len() == length && whole(counted, &record) == fields.sum)
            .then_some(Frame { record, content }))
    }

    /// Where the next sound frame begins, at or after `from`.
    fn sound(&self, mut from: u64) -> io::Result<Option<u64>> {
        let finder = memmem::Finder::new(&self.mark);
        while from < self.end {
            let piece = self.read(from, STRIDE)?;
            for found in finder.find_iter(&piece) {
                let at = from.saturating_add(octets(found));
                if self.frame(at)?.is_some() {
                    return Ok(Some(at));
                }
            }
            // A mark may lie across two pieces.
            from = from.saturating_add(octets(piece.len().saturating_sub(self.mark.len()).max(1)));
        }
        Ok(None)
    }

    /// Up to `length` octets from `at`.
    fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut octets = vec![0; length.min(left)];
        self.file.read_exact_at(&mut octets, at)?;
        Ok(octets)
    }
}

/// The numbers of a head.
struct Fields {
    record: usize,
    content: u64,
    content_sum: u32,
    sum: u32,
}

impl Fields {
    /// `None` without the segment's mark.
    fn read(head: &[u8; HEAD], mark: &Mark) -> Option<Self> {
        let rest = head.strip_prefix(mark)?;
        let (record, rest) = rest.split_first_chunk()?;
        let (content, rest) = rest.split_first_chunk()?;
        let (content_sum, rest) = rest.split_first_chunk()?;
        let sum = rest.first_chunk()?;
        Some(Self {
            record: usize::try_from(u32::from_le_bytes(*record)).ok()?,
            content: u64::from_le_bytes(*content),
            content_sum: u32::from_le_bytes(*content_sum),
            sum: u32::from_le_bytes(*sum),
        })
    }
}

/// Whether a content is what was written. Reads all of it.
pub(super) fn is_sound(file: &File, content: Span) -> io::Result<bool> {
    let mut sum = crc32fast::Hasher::new();
    let mut piece = vec![0; STRIDE];
    let mut at = content.at;
    while at < content.end() {
        let left = usize::try_from(content.end().saturating_sub(at)).unwrap_or(usize::MAX);
        let some = piece.get_mut(..left.min(STRIDE)).unwrap_or_default();
        file.read_exact_at(some, at)?;
        sum.update(some);
        at = at.saturating_add(octets(some.len()));
    }
    Ok(sum.finalize() == content.sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARK: Mark = *b"\x01mark\xff\x00\x09";

    fn segment(frames: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut octets = [PREAMBLE.as_slice(), &MARK].concat();
        for (record, content) in frames {
            let content = Bytes::copy_from_slice(content);
            octets.extend(head(&MARK, record, std::slice::from_ref(&content)));
            octets.extend_from_slice(record);
            octets.extend_from_slice(&content);
        }
        octets
    }

    fn file(octets: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(octets, 0).unwrap();
        file
    }

    fn read(octets: &[u8]) -> Vec<Next> {
        let file = file(octets);
        let mut reader = Reader::open(&file).unwrap().unwrap();
        std::iter::from_fn(|| reader.next().unwrap()).collect()
    }

    fn records(octets: &[u8]) -> Vec<Vec<u8>> {
        let frames = read(octets).into_iter();
        let records = frames.filter_map(|next| match next {
            Next::Frame(frame) => Some(frame.record),
            Next::Damage { .. } => None,
        });
        records.collect()
    }

    #[test]
    fn frames_are_read_as_they_were_written() {
        let long = vec![b'l'; 5_000];
        let octets = segment(&[(b"one", b"first"), (&long, b""), (b"", &long)]);
        assert_eq!(records(&octets), [b"one".to_vec(), long, Vec::new()]);
        let file = file(&octets);
        let mut reader = Reader::open(&file).unwrap().unwrap();
        let Some(Next::Frame(frame)) = reader.next().unwrap() else { unreachable!("a frame is there") };
        assert!(is_sound(&file, frame.content).unwrap());
        file.write_all_at(b"X", frame.content.at).unwrap();
        assert!(!is_sound(&file, frame.content).unwrap());
    }

    #[test]
    fn what_comes_after_damage_is_found() {
        let octets = segment(&[(b"one", b"first"), (b"two", b"second"), (b"three", b"third")]);
        let two = octets.windows(3).position(|window| window == b"two").unwrap();
        let mut damaged = octets.clone();
        damaged[two] ^= 1;
        assert_eq!(records(&damaged), [b"one".to_vec(), b"three".to_vec()]);
        let torn = &octets[..octets.len() - 3];
        assert_eq!(records(torn), [b"one".to_vec(), b"two".to_vec()]);
        assert!(matches!(read(torn).last(), Some(Next::Damage { .. })));
    }

    #[test]
    fn a_frame_inside_a_content_is_not_taken_for_one() {
        let forged = segment(&[(b"forged", b"")]);
        let mut foreign = segment(&[(b"one", &forged)]);
        // The same frame with another segment's mark, in a message whose own head is damaged.
        let place = foreign.windows(6).position(|window| window == b"forged").unwrap();
        for octet in &mut foreign[place - HEAD..place - HEAD + 8] {
            *octet ^= 0x55;
        }
        foreign[24 + 10] ^= 1;
        assert_eq!(records(&foreign), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn other_files_are_no_segments() {
        for octets in [&b""[..], b"gateway queue 1\n", b"gateway queue 2\nxxxxxxxx", &[0; 100]] {
            assert!(Reader::open(&file(octets)).unwrap().is_none());
        }
    }

    proptest! {
        /// Whatever happens to a segment, reading ends, and no record is made up.
        #[test]
        fn no_damage_makes_up_a_record(at in 0usize..400, octets in proptest::collection::vec(any::<u8>(), 0..80), cut in 0usize..400) {
            let contents: Vec<Vec<u8>> = (0..5u8).map(|number| vec![number; 40]).collect();
            let frames: Vec<(&[u8], &[u8])> = contents.iter().map(|content| (&content[..9], &content[..])).collect();
            let mut segment = segment(&frames);
            for (place, octet) in segment.iter_mut().skip(24 + at).zip(&octets) {
                *place = *octet;
            }
            segment.truncate((24 + cut).max(24));
            for record in records(&segment) {
                prop_assert!(contents.iter().any(|content| content[..9] == record));
            }
        }
    }
}
