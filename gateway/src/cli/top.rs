//! `gateway top`.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use anyhow::Context as _;

use super::socket::{SocketArg, block_on, colours};
use crate::console;

/// Arguments of `gateway top`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    socket: SocketArg,
}

/// Runs the console.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        io::stdin().is_terminal() && io::stdout().is_terminal(),
        "the console needs a terminal; `gateway status` and `gateway sessions` print what it shows"
    );
    let client = args.socket.client()?;
    block_on(async {
        // What waiting does not mend is said at once; a gateway that is away is waited for.
        if let Err(error) = client.version().await
            && !error.is_absence()
        {
            return Err(error.into());
        }
        console::run(client, colours()).await.context("cannot use the terminal")
    })?;
    Ok(ExitCode::SUCCESS)
}
