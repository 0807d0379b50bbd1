//! What each parameter of smtp(8) and lmtp(8) does here: from a line of main.cf to what servers read
//! and what is logged.
//!
//! Each row is played twice, without the parameter and with it, by all that delivers mail in the gateway: the importer, the
//! configuration, the queue, the delivery manager. Servers follow a script on the loopback; so does the name server.

mod compatibility;
mod content;
mod names;
mod reports;
mod resources;
mod routes;
mod sasl;
mod scene;
mod server;
mod starttls;
mod trust;
