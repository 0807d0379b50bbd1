//! Signals to the datapath process, and what they ask for.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::datapath::Error;

/// The signals an operator or a service manager sends.
pub(in crate::datapath) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    /// Catches them from here on.
    pub(in crate::datapath) fn listen() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            user_1: listen(SignalKind::user_defined1())?,
            user_2: listen(SignalKind::user_defined2())?,
        })
    }

    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hang_up.recv() => Request::Reload,
            _ = self.user_1.recv() => Request::State,
            _ = self.user_2.recv() => Request::Upgrade,
        }
    }
}

/// What a signal asks for.
pub(super) enum Request {
    Stop,
    /// The configuration; or a new release, if there is one where this one was.
    Reload,
    Upgrade,
    /// The state file.
    State,
}
