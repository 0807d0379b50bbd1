//! Network interfaces whose packets a test carries (`Documentation/networking/tuntap.rst`).

use std::fs::File;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, ensure};
use nix::libc::{IFF_NO_PI, IFF_TAP, IFF_TUN};

use crate::netns::Netns;

/// What an interface carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bare IP packets.
    Ip,
    /// Ethernet frames.
    Ethernet,
}

/// The part of `struct ifreq` (netdevice(7)) that says name and flags, and the rest.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

nix::ioctl_write_ptr_bad!(
    /// `TUNSETIFF` (linux/if_tun.h).
    set_interface,
    nix::request_code_write!(b'T', 202, size_of::<nix::libc::c_int>()),
    Request
);

/// Makes an interface in `netns`: what is written to the file comes in on it, what it sends is read. It
/// goes away with the file.
///
/// # Errors
///
/// Not root, or the kernel has no such interfaces.
pub fn open(netns: &Netns, name: &str, kind: Kind) -> anyhow::Result<File> {
    ensure!(name.len() < 16, "{name} is too long for an interface");
    let mut request = Request { name: [0; 16], flags: 0, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    let flags = IFF_NO_PI | if kind == Kind::Ip { IFF_TUN } else { IFF_TAP };
    request.flags = i16::try_from(flags)?;
    netns.enter(|| {
        let path = "/dev/net/tun";
        let file = File::options().read(true).write(true).open(path).with_context(|| path.to_owned())?;
        // SAFETY: the request lives until the call returns, and is as long as the kernel's.
        unsafe { set_interface(file.as_raw_fd(), &raw const request) }.context("TUNSETIFF")?;
        Ok(file)
    })?
}
