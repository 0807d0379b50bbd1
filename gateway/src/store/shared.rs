//! Rows that several gateways keep: each its own copy, and a server has what is common to all.

use std::time::Duration;

/// What a row is, or was when it was changed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedRow {
    /// Its name, under which all gateways know it.
    pub name: String,
    /// When it was changed, in milliseconds since 1970: the later version counts.
    pub version: u64,
    /// When the server may forget it, in seconds since 1970; `None`: never.
    pub end: Option<u64>,
    /// What it is; `None`: it was removed.
    pub value: Option<String>,
}

impl SharedRow {
    /// A row as it stands in the server: its version, and behind a space what it is.
    pub(super) fn read(name: String, text: &str) -> Option<Self> {
        let (version, value) = text.split_once(' ')?;
        let value = Some(value.to_owned()).filter(|value| !value.is_empty());
        Some(Self { name, version: version.parse().ok()?, end: None, value })
    }
}

/// Who keeps rows that other gateways keep, too. Is called by one thread.
pub trait Replica: Send + Sync + 'static {
    /// Rows that the server may not have as they are, at most so many.
    fn untold(&self, most: usize) -> Vec<SharedRow>;

    /// The server has these, or later ones; for so many there was no room.
    fn told(&self, rows: &[SharedRow], full: u64);

    /// From here to [`Self::complete`] all rows of the server are read.
    fn begin(&self);

    /// The server has these rows, and further ones that make no sense.
    fn merge(&self, rows: Vec<SharedRow>, odd: u64);

    /// All were read: the server has no others.
    fn complete(&self);

    /// For how long a gateway that was away may come back with what others have changed.
    fn kept_at_most(&self) -> Duration;

    /// Whether all rows are to be read again.
    fn again(&self) -> bool;
}
