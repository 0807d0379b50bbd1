//! `gateway stop`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::socket::{SocketArg, block_on, say};
use crate::console::text::plural;
use crate::control::client::Error;
use crate::datapath::steer;
use crate::privilege::user;

/// How long a gateway may take to stop: its open sessions end first.
const STOP: Duration = Duration::from_secs(60);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// Arguments of `gateway stop`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Let sessions that the kernel carries go on: the next gateway takes them over. This is what
    /// happens without either option.
    #[arg(long, conflicts_with = "drop_flows")]
    keep_flows: bool,
    /// End sessions that the kernel carries, and leave nothing in the kernel; also where no gateway
    /// runs any more.
    #[arg(long)]
    drop_flows: bool,
    #[command(flatten)]
    socket: SocketArg,
}

/// Stops the gateway, and says so when it has stopped.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = args.socket.client()?;
    block_on(async {
        match client.stop(args.drop_flows).await {
            Ok(_) => {}
            Err(Error::NoSocket(_) | Error::NotRunning(_)) if args.drop_flows => return drop_flows().await,
            Err(error) => return Err(error.into()),
        }
        // The socket goes last of all.
        let stopped = async {
            while !matches!(client.version().await, Err(Error::NoSocket(_))) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let stopped = tokio::time::timeout(STOP, stopped).await;
        stopped.context("the gateway has not stopped within a minute; its log may say why")?;
        say("the gateway has stopped\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn drop_flows() -> anyhow::Result<()> {
    ensure!(user::is_root(), "no gateway runs, and what one has left in the kernel is root's to remove");
    let ended = u64::try_from(steer::drop_flows().await?)?;
    say(&format!("no gateway runs; ended {} that the kernel carried\n", plural(ended, "session")))
}
