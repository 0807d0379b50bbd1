//! Lab tests: real clients and servers on both sides of a gateway in a router's namespace.
//!
//! They need root and what `cargo xtask setup` installs: `cargo xtask test` runs them.

mod attachment;
mod bench;
mod bridge;
mod clients;
mod condemned;
mod deadlines;
mod delivery;
mod direct;
mod dnsbl;
mod flood;
mod forwarding;
mod handoff;
mod infected;
mod lanes;
mod lifecycle;
mod locks;
mod logging;
mod neighbours;
mod netfilter;
mod network;
mod notes;
mod odd_packets;
mod packet;
mod packets;
mod preflight;
mod process;
mod proxy_protocol;
mod quarantine;
mod quotas;
mod reload;
mod router;
mod scan;
mod scanner_failure;
mod scanners;
mod seeing;
mod source_address;
mod spam;
mod spf;
mod spool;
mod starttls;
mod steer;
mod subject;
mod survive;
mod upgrade;
