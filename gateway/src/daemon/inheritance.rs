//! What the proxy process starts with: all of it comes from the datapath process, in its first message.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;

use anyhow::{Context as _, bail};

use super::settings;
use crate::config::Config;
use crate::ipc::{self, Channel, ToProxy, memfile};

/// What the datapath process hands over at the start.
pub(super) struct Inheritance {
    /// Where the configuration was read.
    pub(super) config_path: String,
    /// The configuration.
    pub(super) config: Config,
    /// Whom flows come to.
    pub(super) listeners: Vec<TcpListener>,
    /// Whom operators come to.
    pub(super) control: Option<StdUnixListener>,
    /// Whether another proxy serves until this one does.
    pub(super) heir: bool,
}

/// Waits for what is handed over, on this thread alone: the sandbox holds for the threads that come
/// after it.
pub(super) fn first_message(channel: OwnedFd) -> anyhow::Result<(OwnedFd, Inheritance)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let channel = Channel::new(channel).context("the channel to the datapath process is unusable")?;
        let inheritance = inherit(&channel).await?;
        Ok((channel.into_socket()?, inheritance))
    })
}

async fn inherit(channel: &Channel) -> anyhow::Result<Inheritance> {
    let Some((message, descriptors)) = channel.receive::<ToProxy>().await? else {
        bail!("the datapath process has left");
    };
    let ToProxy::Start { version, config_path, listeners, control, heir } = message else {
        bail!("the datapath process did not begin with a start message");
    };
    if version != ipc::VERSION {
        bail!("the datapath process speaks version {version}, this is {}: restart the gateway", ipc::VERSION);
    }
    let mut descriptors = descriptors.into_iter();
    let text = memfile::read(descriptors.next().context("the configuration is missing")?)?;
    let config = settings::read(&text, &config_path)?;
    let listeners: Vec<_> = descriptors.by_ref().take(listeners).map(TcpListener::from).collect();
    let control = if control { descriptors.next().map(StdUnixListener::from) } else { None };
    if listeners.is_empty() {
        bail!("the datapath process has handed over no listener");
    }
    Ok(Inheritance { config_path, config, listeners, control, heir })
}
