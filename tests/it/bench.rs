//! What most lab tests stand on: a client, the gateway with a scanner, and a recording server.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use gateway_tests::clamd::Clamd;
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::recorder::{Connection, Manners, Recorder};

/// Fields are dropped in order, the network last.
pub(crate) struct Bench {
    pub(crate) gateway: Gateway,
    pub(crate) server: Recorder,
    pub(crate) clamd: Clamd,
    pub(crate) lab: Lab,
}

impl Bench {
    /// A gateway with its defaults and a polite server on IPv4.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Self::with(|settings| settings, Manners::default())
    }

    /// A gateway whose settings, which scan, are changed first.
    pub(crate) fn with(change: impl FnOnce(Settings) -> Settings, manners: Manners) -> anyhow::Result<Self> {
        let lab = Lab::new()?;
        let clamd = Clamd::start(&lab)?;
        let server = Recorder::start(lab.server(), Family::V4.smtp(), manners)?;
        let gateway = Gateway::start(&lab, &change(Settings::scanning(clamd.address())))?;
        Ok(Self { gateway, server, clamd, lab })
    }

    /// A client that has been told to go ahead with its text.
    pub(crate) fn up_to_data(&self) -> anyhow::Result<Client> {
        Client::up_to_data(self.lab.client(), Family::V4.smtp())
    }

    /// A client that has its answer to EHLO.
    pub(crate) fn greeted(&self) -> anyhow::Result<Client> {
        Client::greeted(self.lab.client(), Family::V4.smtp()).map(|(client, _)| client)
    }

    /// What the server saw, once all its connections are closed.
    pub(crate) fn seen(&self) -> anyhow::Result<Vec<Connection>> {
        self.server.wait_closed(Duration::from_secs(10))
    }

    /// The names of files that the spool keeps.
    pub(crate) fn spooled(&self) -> anyhow::Result<Vec<String>> {
        let entries = std::fs::read_dir(self.gateway.spool())?.collect::<Result<Vec<_>, _>>()?;
        Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }
}

/// A connection from one of the client's addresses.
pub(crate) fn from(lab: &Lab, address: IpAddr, server: SocketAddr) -> anyhow::Result<TcpStream> {
    let connected = lab.client().enter(|| {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(server),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        socket.bind(&SocketAddr::new(address, 0).into())?;
        // A lost SYN is sent again after one second and after three.
        socket.connect_timeout(&server.into(), Duration::from_secs(5))?;
        Ok::<TcpStream, std::io::Error>(socket.into())
    })??;
    connected.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(connected)
}

/// Whether the end of data (RFC 5321 section 4.1.1.4) is somewhere in these octets.
pub(crate) fn ends_data(octets: &[u8]) -> bool {
    octets.windows(5).any(|window| window == b"\r\n.\r\n")
}
