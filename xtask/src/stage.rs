//! The demo network with everything in it: what `lab` leaves up and `demo` sends mail through.

use gateway_tests::clamd::Clamd;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::postfix::Postfix;
use gateway_tests::sink::Sink;

use crate::interrupt::Interrupt;
use crate::say;

/// Everything runs while this lives. Fields are dropped in order, the network last.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The gateway in the router's namespace.
    pub(crate) gateway: Gateway,
    /// A real SMTP server that keeps every message, for each family.
    pub(crate) sink_v4: Sink,
    /// The same on IPv6.
    pub(crate) sink_v6: Sink,
    /// A real SMTP server with STARTTLS and CHUNKING, at the second address.
    pub(crate) postfix: Postfix,
    /// A real scanner.
    pub(crate) clamd: Clamd,
    /// The network.
    pub(crate) lab: Lab,
}

impl Stage {
    /// Starts everything.
    pub(crate) fn set(interrupt: &Interrupt) -> anyhow::Result<Self> {
        say::doing("network namespaces for client, router and server, IPv4 and IPv6");
        let lab = Lab::new()?;
        interrupt.check()?;
        say::doing("clamd with one hand-written signature");
        let clamd = Clamd::start(&lab)?;
        interrupt.check()?;
        say::doing("smtp-sink on IPv4 and IPv6");
        let sink_v4 = Sink::start(&lab, Family::V4)?;
        let sink_v6 = Sink::start(&lab, Family::V6)?;
        interrupt.check()?;
        say::doing("Postfix with STARTTLS and a certificate of its own");
        let postfix = Postfix::start(lab.server(), Family::V4.second_smtp(), lab.directory())?;
        interrupt.check()?;
        say::doing("the gateway on the router");
        let gateway = Gateway::start(&lab, &settings(&clamd))?;
        Ok(Self { gateway, sink_v4, sink_v6, postfix, clamd, lab })
    }
}

/// What the gateway is configured to at the start.
pub(crate) fn settings(clamd: &Clamd) -> Settings {
    Settings::scanning(clamd.address())
}
