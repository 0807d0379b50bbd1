//! Mail leaves the queue: where it goes, what is done to it on the way, and what is said of it.
//!
//! Owns the decisions of the delivering half of the gateway; its protocol is [`crate::smtp`]'s. The modules
//! here but [`connection`], [`lookup`] and [`tls`] are pure: answers of the DNS, the time and chance are arguments.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod attempt;
pub mod bounce;
pub mod checks;
pub mod connection;
pub mod destination;
pub mod dsn;
pub mod generic;
pub mod lookup;
pub mod record;
pub mod rewrite;
pub mod route;
pub mod settings;
pub mod tls;
