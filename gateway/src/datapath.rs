//! The privileged side: eBPF programs, maps, attachments. The only user of `aya`.

pub mod attach;
pub mod events;
pub mod maps;
pub mod object;
mod qdisc;
mod selftest;
