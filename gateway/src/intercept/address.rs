//! The four addresses of a session, as four types, so that none is passed for another.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(SocketAddr);

        impl $name {
            /// The address, with an IPv4 address mapped into IPv6 made plain.
            #[must_use]
            pub fn new(addr: SocketAddr) -> Self {
                Self(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
            }

            /// Address and port.
            #[must_use]
            pub const fn socket(self) -> SocketAddr {
                self.0
            }

            /// The address without the port.
            #[must_use]
            pub const fn ip(self) -> IpAddr {
                self.0.ip()
            }

            /// The port.
            #[must_use]
            pub const fn port(self) -> u16 {
                self.0.port()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

address! {
    /// Where a flow comes from.
    ClientAddr
}
address! {
    /// Where the client meant its flow to go.
    OriginalDst
}
address! {
    /// Where the gateway connects to.
    UpstreamAddr
}
address! {
    /// The gateway's own end of its connection to the server.
    LocalAddr
}
