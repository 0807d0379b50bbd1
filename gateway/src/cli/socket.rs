//! What the commands that talk to a running gateway share: where its socket is, and how an
//! answer is printed.

use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;

use crate::config;
use crate::control::Client;
use crate::control::request::SOCKET;

/// Where the configuration is unless an argument says otherwise.
const CONFIG: &str = "/etc/gateway/gateway.yaml";

/// Which gateway is asked.
#[derive(Debug, clap::Args)]
pub(super) struct SocketArg {
    /// The control socket of the gateway to ask; else the configuration names it.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The configuration that names the control socket [default: /etc/gateway/gateway.yaml].
    #[arg(short, long, global = true, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
}

impl SocketArg {
    /// A client of the socket.
    ///
    /// # Errors
    ///
    /// When a configuration is named and cannot be used. The default one may be unreadable for
    /// the user, or broken: then the default socket is asked.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let path = match (&self.socket, &self.config) {
            (Some(socket), _) => socket.clone(),
            (None, Some(file)) => {
                let name = file.display().to_string();
                let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
                let config = config::parse(&text, &name).map_err(|problems| anyhow::anyhow!("{problems}"))?;
                anyhow::ensure!(
                    !config.control.socket.as_os_str().is_empty(),
                    "`control.socket` in {name} is empty: this gateway has no control socket"
                );
                config.control.socket
            }
            (None, None) => std::fs::read_to_string(CONFIG)
                .ok()
                .and_then(|text| config::parse(&text, CONFIG).ok())
                .map(|config| config.control.socket)
                .filter(|socket| !socket.as_os_str().is_empty())
                .unwrap_or_else(|| PathBuf::from(SOCKET)),
        };
        Ok(Client::new(path))
    }
}

/// Which gateway is asked, and how its answers are printed.
#[derive(Debug, clap::Args)]
pub(super) struct Ask {
    /// Print JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

impl Ask {
    /// A client of the socket.
    ///
    /// # Errors
    ///
    /// As [`SocketArg::client`].
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        self.socket.client()
    }

    /// Prints an answer, in `words` where JSON is not wanted.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub(super) fn say<A: serde::Serialize>(
        &self,
        answer: &A,
        words: impl FnOnce(&A) -> String,
    ) -> anyhow::Result<()> {
        if self.json { say_json(answer) } else { say(&words(answer)) }
    }
}

/// Runs one command's requests.
///
/// # Errors
///
/// Those of the requests.
pub(super) fn block_on<T>(requests: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(requests)
}

/// Prints an answer. A reader that closes early, such as `head`, is no error.
///
/// # Errors
///
/// When standard output cannot be written.
pub(super) fn say(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the answer")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints an answer as JSON.
///
/// # Errors
///
/// When standard output cannot be written.
pub(super) fn say_json(answer: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(answer).context("cannot write the answer as JSON")?;
    text.push('\n');
    say(&text)
}

/// Whether standard output takes colours: a terminal, and nobody asked for none
/// (<https://no-color.org>).
pub(super) fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
