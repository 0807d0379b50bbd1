//! The SMTP protocol without input or output: octets and events in, actions out.
//!
//! Owns what octets mean. Never opens a socket or a file and never reads a clock: the time is an
//! argument, so that every behaviour can be tested by a dialogue. One strict line and body
//! parser feeds both the scanners' copy and the server's stream: what is scanned is what is
//! forwarded.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod address;
pub mod body;
pub mod client;
pub mod command;
pub mod envelope;
pub mod exchange;
pub mod extension;
pub mod fault;
pub mod line;
pub mod line_end;
pub mod question;
pub mod refusal;
pub mod reply;
pub mod report;
pub mod server;
pub mod stage;
pub mod tally;
pub mod transcript;
pub mod verb;
pub mod voice;
pub mod xclient;
pub mod xtext;
