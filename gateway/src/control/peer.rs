//! Who is at the other end of the control socket.
//!
//! Owns the decision who may do what. The file's mode and group decide who connects at all;
//! everybody who does may read, and only root and the gateway's own account may change things.

use std::io;

use tokio::net::UnixStream;

/// The process that connected, as the kernel noted it then (unix(7), `SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    uid: u32,
}

impl Peer {
    /// Asks the kernel.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        Ok(Self { uid: stream.peer_cred()?.uid() })
    }

    /// Its effective user when it connected.
    #[must_use]
    pub const fn uid(self) -> u32 {
        self.uid
    }

    /// Whether it may change things in a gateway that runs as `own`.
    #[must_use]
    pub const fn may_change(self, own: u32) -> bool {
        self.uid == 0 || self.uid == own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_gateway_change_things() {
        assert!(Peer { uid: 0 }.may_change(990));
        assert!(Peer { uid: 990 }.may_change(990));
        assert!(!Peer { uid: 1000 }.may_change(990));
    }
}
