//! The inspect lane's input and output: drives `smtp::Exchange` with sockets, deadlines, spool
//! and scanners.
//!
//! Decides nothing about the protocol and nothing about policy.

pub mod table;
