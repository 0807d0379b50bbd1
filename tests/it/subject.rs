//! A session to ask about, for tests of checks without one.

use std::net::{IpAddr, SocketAddr};

use gateway::clock;
use gateway::intercept::address::{ClientAddr, OriginalDst};
use gateway::intercept::flow::{Flow, SessionId};
use gateway::session::checks::Subject;

/// The session of `client`, which has said nothing yet.
pub(crate) fn subject(client: &str) -> Subject {
    let client: IpAddr = client.parse().expect("an address");
    let flow = Flow::new(
        SessionId::next(clock::wall()),
        ClientAddr::new(SocketAddr::new(client, 1025)),
        OriginalDst::new(SocketAddr::from(([198, 51, 100, 2], 25))),
    );
    Subject { flow, helo: String::new(), authenticated: false, upstream: None }
}
