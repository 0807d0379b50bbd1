//! Attaching by a TCX link, which has a name where it is to outlive the process.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{SchedClassifier, TcAttachType};
use nix::libc;
use tracing::debug;

use super::{attach_by, errno, refused};
use crate::datapath::object::Error;

/// How often, and after what time, a link is tried again whose predecessor has not gone yet.
const RELINKS: u32 = 20;
const RELINK: Duration = Duration::from_millis(5);

/// Attaches by a TCX link, in the place of a predecessor's if `pin` names one.
pub(super) fn attach(
    program: &mut SchedClassifier,
    interface: &str,
    way: TcAttachType,
    pin: Option<&Path>,
) -> Result<SchedClassifierLink, Error> {
    if let Some(link) = pin.and_then(|pin| replace(program, pin)) {
        return Ok(link);
    }
    let mut tries = 0..RELINKS;
    let linked = loop {
        let linked = attach_by(program, interface, way, TcAttachOptions::TcxOrder(LinkOrder::first()));
        match linked {
            // A link goes with its last descriptor, and a process that is about to be started has
            // copies of all of them for a moment.
            Err(error) if errno(&error) == Some(libc::EEXIST) && tries.next().is_some() => {
                std::thread::sleep(RELINK);
            }
            linked => break linked.map_err(|error| refused(interface, error))?,
        }
    };
    let Some(pin) = pin else { return Ok(linked) };
    name_link(linked, pin).map_err(|source| Error::Link { path: pin.to_owned(), source })
}

/// Puts the program into the place of the one whose link has this name. A link that holds no
/// interface any more loses its name.
fn replace(program: &mut SchedClassifier, pin: &Path) -> Option<SchedClassifierLink> {
    let left = FdLink::from(PinnedLink::from_pin(pin).ok()?);
    let replaced = SchedClassifierLink::try_from(left)
        .map_err(io::Error::other)
        .and_then(|left| program.attach_to_link(left).map_err(io::Error::other))
        .and_then(|id| program.take_link(id).map_err(io::Error::other));
    match replaced {
        Ok(link) => Some(link),
        Err(error) => {
            debug!(pin = %pin.display(), %error, "a link that cannot be taken over");
            // Should that fail, the new link says so: it cannot have this name.
            fs::remove_file(pin).ok();
            None
        }
    }
}

fn name_link(link: SchedClassifierLink, pin: &Path) -> io::Result<SchedClassifierLink> {
    let link = FdLink::try_from(link).map_err(io::Error::other)?;
    let link = link.pin(pin).map_err(io::Error::other)?;
    SchedClassifierLink::try_from(FdLink::from(link)).map_err(io::Error::other)
}
