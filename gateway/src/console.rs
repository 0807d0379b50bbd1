//! The console, `gateway top`: what a running gateway does, on a terminal.
//!
//! Owns the screen and the keys. An ordinary client of the control socket; the only module that
//! names `ratatui`. Never writes a byte from the network to the terminal as it came.

pub mod text;
