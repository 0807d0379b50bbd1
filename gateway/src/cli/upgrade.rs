//! `gateway upgrade`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::socket::{SocketArg, block_on, say};

/// Arguments of `gateway upgrade`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The new release [default: the file that the running gateway was started from].
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    #[command(flatten)]
    socket: SocketArg,
}

/// Has a new release take over.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.socket.client()?;
    // The gateway has another working directory.
    let binary =
        args.binary.map(std::path::absolute).transpose().context("cannot tell what --binary names")?;
    let upgraded = block_on(async { Ok(client.upgrade(binary).await?) })?;
    let (release, pid) = (upgraded.release, upgraded.pid);
    say(&format!("gateway {release} serves as process {pid}; open sessions end where they are\n"))?;
    Ok(ExitCode::SUCCESS)
}
