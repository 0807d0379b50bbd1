//! `gateway reload`.

use std::process::ExitCode;

use super::socket::{SocketArg, block_on, say};

/// Arguments of `gateway reload`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    socket: SocketArg,
}

/// Has the running gateway read its configuration again.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = args.socket.client()?;
    block_on(async { Ok(client.reload().await?) })?;
    say("the configuration is in force; open sessions go on\n")?;
    Ok(ExitCode::SUCCESS)
}
