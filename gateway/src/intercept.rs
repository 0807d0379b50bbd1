//! How a connection that the kernel accepted becomes a [`flow::Flow`].
//!
//! Owns the addresses of a flow and the ways to find its original destination. Never reads what
//! the client says.

pub mod address;
pub mod facts;
pub mod flow;
pub mod identity;
pub mod origin;
pub mod proxy_header;
