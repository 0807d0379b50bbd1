//! Whether clamd is well: PING and VERSION (clamd(8), section COMMANDS).

use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::read_reply;
use crate::config::file::ScannerAddress;
use crate::scan::connection::open;
use crate::scan::health::{CHECK_TIMEOUT, TEXT_LENGTH, too_late, within};
use crate::scan::text::printable;

/// The checks of one clamd, one at a time.
#[derive(Debug, Default)]
pub(super) struct Check {
    /// A check through `clamav-tcp` that hangs; none is begun beside it.
    stuck: Mutex<Option<Outcome>>,
}

impl Check {
    pub(super) async fn ask(&self, address: &ScannerAddress) -> Result<String, String> {
        match address {
            ScannerAddress::Unix(_) => within(check_unix(address)).await,
            ScannerAddress::Tcp(address) => self.check_tcp(address.to_string()).await,
        }
    }

    /// The same through `clamav-tcp`, which blocks without any deadline.
    ///
    /// It has a thread of its own: a thread of the runtime's pool would hold up the end of the process.
    async fn check_tcp(&self, address: String) -> Result<String, String> {
        let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut outcome = match stuck {
            Some(outcome) => outcome,
            None => begin_tcp(address)?,
        };
        match timeout(CHECK_TIMEOUT, &mut outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("the check itself failed".to_owned()),
            Err(_) => {
                *self.stuck.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
                Err(too_late())
            }
        }
    }
}

/// PING and VERSION, each on a connection of its own, as clamd wants it outside of a session.
async fn check_unix(address: &ScannerAddress) -> Result<String, String> {
    let pong = ask(address, b"zPING\0").await?;
    let version = ask(address, b"zVERSION\0").await?;
    judge(&pong, &version)
}

async fn ask(address: &ScannerAddress, command: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = open(address).await.map_err(|error| error.to_string())?;
    stream.write_all(command).await.map_err(|error| error.to_string())?;
    read_reply(&mut stream).await.map_err(|failure| failure.to_string())
}

type Outcome = oneshot::Receiver<Result<String, String>>;

fn begin_tcp(address: String) -> Result<Outcome, String> {
    let (tell, outcome) = oneshot::channel();
    let check = move || {
        let pong = clamav_tcp::ping(&address).map_err(|error| explain(&error));
        let version = pong.and_then(|pong| {
            let version = clamav_tcp::version(&address).map_err(|error| explain(&error))?;
            judge(pong.trim_end_matches('\0').as_bytes(), version.trim_end_matches('\0').as_bytes())
        });
        // Nobody listens any more when the scanner left the configuration.
        tell.send(version).unwrap_or_default();
    };
    thread::Builder::new()
        .name("scanner-check".to_owned())
        .spawn(check)
        .map(|_detached| outcome)
        .map_err(|error| error.to_string())
}

/// The error with its source: `clamav-tcp` names only the step.
fn explain(error: &clamav_tcp::ClamAVClientError) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => format!("{error}"),
    }
}

fn judge(pong: &[u8], version: &[u8]) -> Result<String, String> {
    if pong == b"PONG" {
        Ok(printable(version, TEXT_LENGTH))
    } else {
        Err(format!("answered PING with {}", printable(pong, TEXT_LENGTH)))
    }
}
