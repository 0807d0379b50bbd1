//! Lab tests: real clients and servers on both sides of a gateway in a router's namespace.
//!
//! They need root and what `cargo xtask setup` installs: `cargo xtask test` runs them.

mod network;
