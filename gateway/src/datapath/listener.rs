//! The sockets the proxy is handed: it could not make them itself.
//!
//! Owns their options, and the control socket's place in the file system with its owner and mode.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tracing::warn;

use super::maps::Family;
use crate::config::file::{Config, Control, Origin};
use crate::privilege::Account;

/// Why a socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener.
    #[error("cannot listen on {address}{}", hint(.source))]
    Listen {
        /// Its address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The group of the control socket.
    #[error("there is no group `{0}`; make it with `groupadd --system {0}`, or change `control.group`")]
    NoGroup(String),
    /// Another gateway answers there.
    #[error("another gateway is running: it answers at {}", .0.display())]
    Running(PathBuf),
    /// Something that is not a socket.
    #[error("{} is there and is not a socket; remove it, or change `control.socket`", .0.display())]
    NotASocket(PathBuf),
    /// The control socket or its folder.
    #[error("cannot make the control socket {}", path.display())]
    Control {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn hint(source: &io::Error) -> &'static str {
    let kind = source.kind();
    if kind == io::ErrorKind::PermissionDenied {
        "; ports below 1024 and `origin: assign` need root, or choose another port in `listen`"
    } else if kind == io::ErrorKind::AddrInUse {
        "; another program listens there"
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "; no interface has this address"
    } else if source.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) {
        "; this kernel has no IPv6: leave the address out of `listen`"
    } else {
        ""
    }
}

/// A listener for flows.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    family: Family,
}

impl Listener {
    /// Takes over a listener of another process.
    ///
    /// # Errors
    ///
    /// When it is not one.
    pub fn inherit(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(descriptor);
        if !socket.is_listener()? {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { socket, family: Family::of(address.ip()) })
    }

    /// The family of flows it takes.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Makes all listeners of the configuration.
///
/// # Errors
///
/// [`Error::Listen`] for the first that cannot be had.
pub fn open(config: &Config) -> Result<Vec<Listener>, Error> {
    let open = |address: &SocketAddr| {
        let family = Family::of(address.ip());
        let socket =
            listen(*address, config).map_err(|source| Error::Listen { address: *address, source })?;
        Ok(Listener { socket, family })
    };
    config.listen.iter().map(open).collect()
}

fn listen(address: SocketAddr, config: &Config) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait until old connections are out of TIME_WAIT.
    socket.set_reuse_address(true)?;
    if config.origin == Origin::Assign {
        // Connections keep the addresses of the flow, which are not this machine's. The listener
        // itself is bound to loopback, where nobody reaches it but through the program.
        match Family::of(address.ip()) {
            Family::V4 => socket.set_ip_transparent_v4(true)?,
            Family::V6 => socket.set_ip_transparent_v6(true)?,
        }
        socket.set_mark(config.intercept.routing.own_mark)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(i32::try_from(config.limits.backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// The control socket, in the file system until it is dropped, unless a successor has it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    made_folder: Option<PathBuf>,
    bequeathed: bool,
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl ControlSocket {
    /// Binds the control socket, with mode 0660 from its first moment, and gives it to the
    /// configured group. Its folder is made where it is missing, mode 0755. A socket that a killed
    /// predecessor left is removed. `None` where the configuration wants none.
    ///
    /// # Errors
    ///
    /// What stands in the way, [`Error::Running`] above all.
    pub fn open(control: &Control, account: Option<&Account>) -> Result<Option<Self>, Error> {
        if control.socket.as_os_str().is_empty() {
            return Ok(None);
        }
        let path = &control.socket;
        let failed = |source| Error::Control { path: path.clone(), source };
        let group = group(&control.group)?;
        let owner = account.map(Account::uid);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let made_folder = match folder {
            Some(folder) => make_folder(folder).map_err(failed)?,
            None => None,
        };
        remove_stale(path)?;
        // The mode must be right when the socket appears: a moment later is too late.
        let before = umask(Mode::S_IXUSR | Mode::S_IXGRP | Mode::S_IRWXO);
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound.map_err(failed)?;
        let socket = Self { listener, path: path.clone(), made_folder, bequeathed: false };
        chown(path, owner, group.map(Gid::as_raw)).map_err(failed)?;
        socket.listener.set_nonblocking(true).map_err(failed)?;
        Ok(Some(socket))
    }

    /// Takes over the control socket of another process that has the same configuration. Whose it
    /// is until [`Self::keep`] is not decided: until then it stays in the file system.
    #[must_use]
    pub fn inherit(listener: UnixListener, control: &Control, made_folder: bool) -> Self {
        let path = control.socket.clone();
        let made_folder = path.parent().filter(|_| made_folder).map(Path::to_owned);
        Self { listener, path, made_folder, bequeathed: true }
    }

    /// It is this process that removes it in the end.
    pub const fn keep(&mut self) {
        self.bequeathed = false;
    }

    /// It is a successor that removes it in the end.
    pub const fn bequeath(&mut self) {
        self.bequeathed = true;
    }

    /// Whether its folder was made for it.
    #[must_use]
    pub const fn has_made_folder(&self) -> bool {
        self.made_folder.is_some()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.bequeathed {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
        // Another's file in it keeps the folder, which is as it should be.
        if let Some(folder) = &self.made_folder {
            fs::remove_dir(folder).ok();
        }
    }
}

fn group(name: &str) -> Result<Option<Gid>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    let found = Group::from_name(name).ok().flatten();
    found.map(|group| Some(group.gid)).ok_or_else(|| Error::NoGroup(name.to_owned()))
}

/// Makes the last folder of a path; returns it if it was not there. It stays the maker's, so that
/// nobody else can put another socket in the place of ours.
fn make_folder(folder: &Path) -> io::Result<Option<PathBuf>> {
    match DirBuilder::new().mode(0o755).create(folder) {
        Ok(()) => Ok(Some(folder.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove_stale(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Control { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(Error::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Error::Running(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Makes a folder of the proxy's for `account` where it is missing: the account itself may not be
/// allowed to. A folder that is there is left as it is; the proxy checks it.
///
/// # Errors
///
/// When it can be neither found nor made.
pub fn make_folder_for(folder: &Path, account: &Account) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => chown(folder, Some(account.uid()), Some(account.gid())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Copies of all descriptors, in the order in which the proxy is told of them.
#[must_use]
pub fn descriptors<'l>(listeners: &'l [Listener], control: Option<&'l ControlSocket>) -> Vec<BorrowedFd<'l>> {
    let listeners = listeners.iter().map(AsFd::as_fd);
    listeners.chain(control.map(AsFd::as_fd)).collect()
}
