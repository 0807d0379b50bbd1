//! The structure of a message, line by line: which header a field belongs to, and which part a line.
//!
//! Owns what MIME means (RFC 2045, RFC 2046). Pure, and bounded: a field, a stack of boundaries, and nothing of
//! bodies. Never changes a line by itself: whoever writes what [`Scanner`] gives writes the message again.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod downgrade;
mod field;
mod scanner;

pub use downgrade::{Downgrade, Survey};
pub use field::{Encoding, is_field, name_of};
pub use scanner::{Class, Kind, Limits, Part, Piece, Scanner};
