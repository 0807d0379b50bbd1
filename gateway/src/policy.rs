//! What is done with a flow and with a message.
//!
//! Owns the operator's rules as decisions. Pure: no sockets, no files, no clocks; the same
//! question always has the same answer.

pub mod decision;
pub mod dnsbl;
pub mod filter;
pub mod introduction;
pub mod lane;
pub mod lock;
pub mod nat_header;
pub mod quota;
pub mod received;
pub mod ruling;
pub mod source;
pub mod spf;
