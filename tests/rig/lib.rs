//! The lab: a client, a router and a server in network namespaces, with real daemons in them.
//!
//! | module | what it makes |
//! | --- | --- |
//! | [`lab`] | the three namespaces, their links, addresses and routes |
//! | [`netns`] | one network namespace |
//! | [`impaired`] | a link that loses, doubles, holds and reorders packets |
//! | [`tun`] | interfaces whose packets a test carries |
//! | [`process`] | a daemon in the foreground, its log, its end |
//! | [`gateway`] | the gateway under test, with a configuration written for it |
//! | [`clamd`] | a real clamd with one signature |
//! | [`spamd`] | a real spamd, offline |
//! | [`rspamd`] | a real rspamd, offline |
//! | [`log_daemons`] | syslog and the journal, for one gateway |
//! | [`sink`] | Postfix's `smtp-sink`, which keeps every message in a file |
//! | [`source`] | messages at a steady pace |
//! | [`nsd`] | a real name server, with the zones of a test |
//! | [`redis`] | a real Redis |
//! | [`postfix`] | a Postfix that offers STARTTLS and CHUNKING |
//! | [`senders`] | clients that go on whatever happens, and remember what they were told |
//! | [`stuck`] | an SMTP server that hangs, breaks off or drips at one step |
//! | [`disk`] | a small disk that can fill up, hang and fail |
//! | [`scripted`] | an SMTP server that says what a script tells it to |
//! | [`dkim`] | keys that sign mail, and another's verifier |
//! | [`dovecot`] | a Dovecot: mailboxes behind LMTP, and passwords for a Postfix |
//! | [`recorder`] | an SMTP server that keeps every octet it receives, and can misbehave |
//! | [`client`] | an SMTP client that sends exact octets in exact segments |
//! | [`message`] | messages |
//! | [`load`] | keeping the machine busy |
//! | [`possessed`] | a process made to do what an attacker in it would |
//! | [`wait`] | waiting for something, but not for ever |
//!
//! Everything here removes what it made when it is dropped, and nothing else.

pub mod clamd;
pub mod client;
pub mod disk;
pub mod dkim;
pub mod dovecot;
pub mod gateway;
pub mod haproxy;
pub mod helper;
pub mod impaired;
pub mod lab;
pub mod load;
pub mod log_daemons;
pub mod message;
pub mod netns;
pub mod nsd;
#[cfg(target_arch = "x86_64")]
pub mod possessed;
pub mod postfix;
pub mod process;
pub mod recorder;
pub mod redis;
pub mod rspamd;
pub mod scripted;
pub mod senders;
pub mod sink;
pub mod source;
pub mod spamd;
pub mod stuck;
pub mod tun;
pub mod wait;
