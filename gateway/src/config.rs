//! The configuration: what an operator may write, and what is wrong with what he wrote.
//!
//! Owns the shape of `gateway.yaml` and its defaults. Pure: it is given text and gives back
//! values or problems; only the callers open files. The only module that names `serde_yaml`.

pub mod file;
pub mod units;

pub use file::Config;
