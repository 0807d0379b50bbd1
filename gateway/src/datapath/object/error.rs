//! Why the kernel side cannot be had.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use gateway_common::ABI_VERSION;

use super::file::OBJECT_VARIABLE;
use crate::datapath::pin;

/// Why the kernel side cannot be had. Each is for the operator, who can act on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no object file.
    #[error(
        "no eBPF object at {}: build it with `cargo xtask build-ebpf`, or name it in ${OBJECT_VARIABLE}",
        join(.looked)
    )]
    Absent {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// The object file cannot be read.
    #[error("cannot read the eBPF object {}", path.display())]
    Read {
        /// The object file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others could have root load what they like.
    #[error(
        "{} can be written by others than its owner (mode {mode:04o}), and root loads it: run `chmod go-w {}`",
        path.display(), path.display()
    )]
    Writable {
        /// The object file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The object file is not one, or the kernel refuses its maps.
    #[error("cannot load the eBPF object {}", path.display())]
    Load {
        /// The object file.
        path: PathBuf,
        /// What the loader said.
        source: Box<EbpfError>,
    },
    /// The object file was built from other sources than this program.
    #[error(
        "{} speaks version {found} of the kernel interface, this program speaks {ABI_VERSION}: \
         build both from the same sources", path.display()
    )]
    Version {
        /// The object file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The object file lacks a part.
    #[error("the eBPF object has no {0}: build it from the same sources as this program")]
    Incomplete(&'static str),
    /// The kernel refuses the program.
    #[error("the kernel refuses the eBPF program")]
    Program(#[source] Box<ProgramError>),
    /// A map cannot be read or written.
    #[error("the eBPF map {map} cannot be used")]
    Map {
        /// The map.
        map: &'static str,
        /// What the kernel said.
        source: MapError,
    },
    /// The listener cannot be marked as the gateway's.
    #[error("cannot set the own mark on the listener")]
    Mark(#[source] io::Error),
    /// The program judged a packet wrongly.
    #[error("self-test: {packet}: expected {expected}, the program said {found}")]
    SelfTest {
        /// The packet.
        packet: &'static str,
        /// What is right.
        expected: String,
        /// What came out.
        found: String,
    },
    /// An interface is not there, or of a kind the program cannot read.
    #[error("interface {interface}")]
    Interface {
        /// Its name.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program cannot be attached to an interface or detached from it.
    #[error("cannot attach to interface {interface}")]
    Attach {
        /// Its name.
        interface: String,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// What outlives the process.
    #[error(transparent)]
    Pins(#[from] pin::Error),
    /// A link cannot be pinned, or what is pinned is no link.
    #[error("cannot use {} as the name of a link", path.display())]
    Link {
        /// The name.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's table of queueing disciplines and filters cannot be read or changed.
    #[error("traffic control on interface {interface}")]
    TrafficControl {
        /// Its name.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl From<ProgramError> for Error {
    fn from(source: ProgramError) -> Self {
        Self::Program(Box::new(source))
    }
}

fn join(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
