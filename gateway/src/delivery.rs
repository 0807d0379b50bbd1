//! Mail leaves the queue: where it goes, what is done to it on the way, and what is said of it.
//!
//! Owns the decisions of the delivering half of the gateway; its protocol is [`crate::smtp`]'s. The modules
//! here are pure but [`connection`], [`lookup`] and [`tls`], and those that set them to work: [`manager`], which empties the
//! queue, and what it consists of. Answers of the DNS, the time and chance are arguments.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod attempt;
pub mod bounce;
pub mod checks;
mod closing;
pub mod connection;
mod courier;
pub mod destination;
pub mod dkim;
pub mod dsn;
pub mod generic;
pub mod incident;
mod letter;
pub mod lookup;
pub mod manager;
pub mod next_hop;
pub mod office;
pub mod operate;
pub mod password;
mod pool;
pub mod record;
pub mod rewrite;
pub mod route;
pub mod settings;
pub mod source;
pub mod tls;
pub mod transport;
pub mod waiting;
