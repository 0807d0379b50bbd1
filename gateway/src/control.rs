//! The control socket: what operators may ask of a running gateway, and how.
//!
//! Owns requests and answers (HTTP with JSON over a UNIX socket, so that `curl` can ask too),
//! who may ask for what, and the client that the commands and the console use. Never reads the
//! session's bytes and decides nothing: it shows what others keep and rings their bells.

pub mod client;
mod gauges;
mod locks;
pub mod peer;
mod queue;
mod quotas;
pub mod request;
pub mod server;
pub mod shown;
pub mod state_file;
#[cfg(test)]
pub(crate) mod tests;

pub use client::Client;
pub use request::{Circuit, ScannerHealth, ScannerState, Status};
pub use server::serve;
pub use shown::Control;
