//! Types that the kernel program and the gateway share.
//!
//! Every type here lies in a BPF map or in its ring buffer: fixed layout, no padding, no enum, no
//! `bool`, fields private. What comes from a packet is in network byte order. Whoever changes the
//! layout or the meaning of anything here raises [`ABI_VERSION`], which the loader compares with
//! the one in the object file.
#![no_std]

pub mod caught;
pub mod client;
pub mod event;
pub mod flow;
pub mod interface;
pub mod lane;
pub mod name;
pub mod port;
pub mod quarantine;
pub mod reason;
pub mod settings;
pub mod translation;
#[cfg(feature = "user")]
mod user;

/// Version of everything in this crate that the kernel program and the loader must agree on.
pub const ABI_VERSION: u32 = 7;
