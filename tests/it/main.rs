//! Lab tests: real clients and servers on both sides of a gateway in a router's namespace.
//!
//! They need root and what `cargo xtask setup` installs: `cargo xtask test` runs them.

mod bench;
mod deadlines;
mod forwarding;
mod infected;
mod lanes;
mod lifecycle;
mod netfilter;
mod network;
mod packet;
mod packets;
mod reload;
mod scan;
mod scanner_failure;
mod source_address;
mod spool;
mod starttls;
mod steer;
