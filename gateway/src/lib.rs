//! A transparent SMTP gateway.
//!
//! The modules are the stations of a flow, in order:
//!
//! | module | what happens there |
//! | --- | --- |
//! | [`datapath`] | the privileged process: eBPF programs, maps, routes, listeners |
//! | [`intercept`] | an accepted connection becomes a flow with its original destination |
//! | [`session`] | sockets, deadlines, spool and scanners around the SMTP exchange |
//! | [`smtp`] | the protocol itself, without input or output |
//! | [`spool`] | the copy that scanners see |
//! | [`scan`] | scanners and their verdicts |
//! | [`policy`] | what is done with a flow or a message |
//! | [`tls`] | what a client says of itself before its octets pass unread |
//! | [`handoff`] | the splice lane |
//! | [`queue`] | mail that the gateway has taken and not yet handed on |
//! | [`delivery`] | where mail in the queue goes, and what is said of it |
//! | [`outcome`] | one record for each message and session |
//!
//! Around them: [`config`] and [`import`], [`dns`] and [`spf`], [`http`], [`folder`], [`mime`], [`table`], [`store`], [`locks`] and [`quota`], [`hooks`] and [`action`],
//! [`ipc`] between the two processes, [`control`] and [`console`] for operators, [`telemetry`], [`privilege`], [`clock`],
//! [`load`], [`under_way`], and [`daemon`], which wires all of it.

#![forbid(unsafe_code)]

pub mod action;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod control;
mod crockford;
pub mod daemon;
pub mod datapath;
pub mod delivery;
pub mod dns;
pub mod folder;
pub mod handoff;
pub mod helper;
pub mod hooks;
pub mod http;
pub mod import;
pub mod intercept;
pub mod ipc;
pub mod load;
pub mod locks;
pub mod lookup;
pub mod mime;
pub mod outcome;
pub mod policy;
pub mod privilege;
pub mod queue;
pub mod quota;
pub mod scan;
pub mod session;
pub mod smtp;
pub mod spf;
pub mod spool;
pub mod store;
pub mod table;
pub mod telemetry;
pub mod tls;
pub mod under_way;
