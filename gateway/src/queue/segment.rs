//! Names of segments and of the locks that say whose they are.

use std::fmt;

/// A segment: the `number`th of the queue's `generation`th owner. In the order of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SegmentId {
    /// Each process that opens the queue is a generation.
    pub(super) generation: u32,
    /// Counts from 1.
    pub(super) number: u32,
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:08x}.segment", self.generation, self.number)
    }
}

impl SegmentId {
    /// The segment of this name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (generation, number) = name.strip_suffix(".segment")?.split_once('-')?;
        Some(Self { generation: hexadecimal(generation)?, number: hexadecimal(number)? })
    }
}

/// The name of the file that a generation holds locked while it lives.
pub(super) fn lock_name(generation: u32) -> String {
    format!("{generation:08x}.lock")
}

/// The generation of a lock of this name.
pub(super) fn lock_generation(name: &str) -> Option<u32> {
    hexadecimal(name.strip_suffix(".lock")?)
}

/// Exactly what is written, so that no two names mean the same.
fn hexadecimal(text: &str) -> Option<u32> {
    let plain = text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let segment = SegmentId { generation: 7, number: 0xab };
        assert_eq!(segment.to_string(), "00000007-000000ab.segment");
        assert_eq!(SegmentId::parse(&segment.to_string()), Some(segment));
        assert_eq!(lock_generation(&lock_name(7)), Some(7));
        for name in
            ["7-ab.segment", "00000007-000000AB.segment", "+0000007-000000ab.segment", "00000007.lock"]
        {
            assert_eq!(SegmentId::parse(name), None, "{name}");
        }
        assert!(SegmentId { generation: 1, number: 9 } < SegmentId { generation: 2, number: 1 });
    }
}
