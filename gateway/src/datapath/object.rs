//! The kernel program: found, loaded, checked.
//!
//! [`Kernel`] is all the rest of `datapath` knows of eBPF. It owns the program, its maps and its
//! attachments; dropping it takes all of them out of the kernel, but for pinned state. It never
//! decides which interface, port or prefix is meant: it is told.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{Array, MapError};
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader};
use gateway_common::{ABI_VERSION, name};

use super::accounts::{Accounts, Reader};
use super::attach::{Attached, Attachments, Role};
use super::events::{CaughtPackets, Events, Log};
use super::flow_table::FlowTable;
use super::maps::Maps;
use super::pin::{self, Pins};
use super::quarantine::Quarantine;
use super::selftest::{self, Verdict};
use super::source;
use super::verified::Verified;
use crate::config::file::{Attach, Clients, Intercept, WhenDown};

/// Names another object file than the installed one.
pub const OBJECT_VARIABLE: &str = "GATEWAY_EBPF_OBJECT";
/// The object file's name beside the executable.
const BESIDE_EXECUTABLE: &str = "gateway-ebpf.o";
/// Where packages put it.
const INSTALLED: &str = "/usr/lib/gateway/gateway-ebpf.o";

/// What the kernel program is loaded with.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Mark of steered packets.
    pub steered_mark: u32,
    /// Mark of the gateway's own sockets: its connections to servers and its listeners.
    pub own_mark: u32,
    /// Which bits of a mark belong to the gateway.
    pub mask: u32,
    /// What happens to new flows while there is no listener.
    pub when_down: WhenDown,
    /// How the program is attached.
    pub attach: Attach,
    /// How many recent flows the kernel keeps notes of.
    pub flow_table_size: u32,
    /// How many clients the kernel keeps accounts of.
    pub client_table_size: u32,
    /// Whether the program writes a line for each packet it looks at closely. Costs nothing when off.
    pub debug: bool,
}

impl From<&Intercept> for Settings {
    fn from(intercept: &Intercept) -> Self {
        Self {
            steered_mark: intercept.routing.mark,
            own_mark: intercept.routing.own_mark,
            mask: intercept.routing.mask,
            when_down: intercept.when_down,
            attach: intercept.attach,
            flow_table_size: intercept.flow_table_size,
            client_table_size: Clients::default().table_size,
            debug: false,
        }
    }
}

impl Settings {
    /// The part the program reads from its map.
    pub(super) const fn shared(&self) -> gateway_common::settings::Settings {
        let shared = gateway_common::settings::Settings::new(self.steered_mark, self.own_mark, self.mask);
        match self.when_down {
            WhenDown::Pass => shared,
            WhenDown::Drop => shared.dropping_when_down(),
        }
    }
}

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

/// The program in the kernel, its maps and its attachments.
pub struct Kernel {
    attachments: Attachments,
    ebpf: Ebpf,
    /// What its methods in `maps.rs` work on.
    pub(super) maps: Maps,
    /// What it was loaded or last configured with.
    pub(super) settings: Settings,
    events: Option<Events>,
    caught: Option<CaughtPackets>,
    log: Option<Log>,
    flow_table: Option<FlowTable>,
    quarantine: Quarantine,
    accounts: Option<(Accounts, Reader)>,
}

impl Kernel {
    /// Loads the program, which is then attached nowhere, has no listener and no port.
    ///
    /// # Errors
    ///
    /// There is no object file, it does not fit this program, or the kernel refuses it.
    pub fn load(settings: &Settings) -> Result<Self, Error> {
        Self::load_with(settings, None)
    }

    /// The same, but its state and its links are pinned: what lies there already is taken over, and
    /// what [`Self::leave`] leaves there works on without this process.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn load_pinned(settings: &Settings, pins: Pins) -> Result<Self, Error> {
        Self::load_with(settings, Some(pins))
    }

    fn load_with(settings: &Settings, pins: Option<Pins>) -> Result<Self, Error> {
        let path = find()?;
        let level = log_level(settings.debug);
        let mut loader = EbpfLoader::new();
        loader
            .override_global(aya_log::LEVEL, level, true)
            .map_max_entries(name::FLOWS, settings.flow_table_size)
            .map_max_entries(name::CLIENTS, settings.client_table_size)
            .map_max_entries(name::REPORTS, settings.client_table_size);
        for map in name::STATE {
            if let Some(pins) = &pins {
                loader.map_pin_path(map, pins.map(map));
            }
        }
        let mut ebpf = loader
            .load(&read(&path)?)
            .map_err(|source| Error::Load { path: path.clone(), source: Box::new(source) })?;
        check_version(&mut ebpf, &path)?;
        let mut maps = Maps::take(&mut ebpf)?;
        maps.configure(&settings.shared())?;
        let events = Some(Events::take(&mut ebpf)?);
        let caught = Some(CaughtPackets::take(&mut ebpf)?);
        let log = if settings.debug { Some(Log::take(&mut ebpf)?) } else { None };
        let quarantine = Quarantine::take(&mut ebpf)?;
        program(&mut ebpf)?.load()?;
        egress_program(&mut ebpf)?.load()?;
        let flow_table = Some(FlowTable::take(&mut ebpf)?);
        let accounts = Some(Accounts::take(&mut ebpf)?);
        Ok(Self {
            attachments: Attachments::new(settings.attach, pins),
            ebpf,
            maps,
            settings: settings.clone(),
            events,
            caught,
            log,
            flow_table,
            quarantine,
            accounts,
        })
    }

    /// Runs the program over a fixed set of packets, before anything depends on it. Leaves ports,
    /// listeners and interfaces unset: call it right after [`Self::load`].
    ///
    /// # Errors
    ///
    /// The program judged one of them wrongly.
    pub fn self_test(&mut self) -> Result<(), Error> {
        let drops = self.settings.when_down == WhenDown::Drop;
        selftest::run(program(&mut self.ebpf)?, &mut self.maps, self.settings.own_mark, drops)
    }

    /// Changes marks, mask, and what happens to new flows while there is no listener. How the
    /// program is attached, the size of the flow table and debug lines stay as loaded.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn configure(&mut self, settings: &Settings) -> Result<(), Error> {
        self.maps.configure(&settings.shared())?;
        self.settings = settings.clone();
        Ok(())
    }

    /// Lets new flows pass from now on while there is no listener, whatever was configured.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn pass_when_down(&mut self) -> Result<(), Error> {
        self.configure(&Settings { when_down: WhenDown::Pass, ..self.settings.clone() })
    }

    /// Attaches the program to an interface, or changes the role of one it is attached to.
    ///
    /// # Errors
    ///
    /// There is no such interface, it carries neither Ethernet nor bare IP, or the kernel refuses.
    pub fn attach(&mut self, interface: &str, role: Role) -> Result<&Attached, Error> {
        let index =
            self.attachments.attach(program(&mut self.ebpf)?, &mut self.maps, interface, role)?.index();
        let attached = self.attachments.attach_egress(egress_program(&mut self.ebpf)?, index);
        if let Err(error) = attached {
            self.attachments.detach(&mut self.maps, index)?;
            return Err(error);
        }
        self.attachments
            .all()
            .find(|attached| attached.index() == index)
            .ok_or(Error::Incomplete("attachment"))
    }

    /// Detaches the program from the interface with this number; nothing happens if it is not
    /// attached there. An interface that has left the system is detached without complaint.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn detach(&mut self, index: u32) -> Result<(), Error> {
        self.attachments.detach(&mut self.maps, index)
    }

    /// Takes the program of a predecessor from all interfaces that this one is not attached to, and
    /// every other way to be attached that it had. Returns how many links and filters there were.
    ///
    /// # Errors
    ///
    /// The kernel's tables cannot be read or changed.
    pub fn take_over(&mut self) -> Result<usize, Error> {
        self.attachments.take_over()
    }

    /// Lets the program go on without this process, where its links and its state are pinned.
    pub fn leave(self) {
        self.attachments.leave();
    }

    /// The interfaces the program is attached to, by number.
    pub fn attached(&self) -> impl Iterator<Item = &Attached> {
        self.attachments.all()
    }

    /// What the program tells as it happens: the first call gets it.
    pub const fn events(&mut self) -> Option<Events> {
        self.events.take()
    }

    /// Packets of condemned flows: the first call gets them.
    pub const fn caught(&mut self) -> Option<CaughtPackets> {
        self.caught.take()
    }

    /// The locks.
    pub const fn quarantine(&mut self) -> &mut Quarantine {
        &mut self.quarantine
    }

    /// The entries of handed-off flows: the first call gets them.
    pub const fn flow_table(&mut self) -> Option<FlowTable> {
        self.flow_table.take()
    }

    /// The accounts of clients, and what reads all of them: the first call gets them.
    pub const fn accounts(&mut self) -> Option<(Accounts, Reader)> {
        self.accounts.take()
    }

    /// Writes the program's debug lines, if any, to the log.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Becomes readable when there are debug lines; absent unless they were asked for.
    #[must_use]
    pub fn log_fd(&self) -> Option<BorrowedFd<'_>> {
        self.log.as_ref().map(Log::fd)
    }

    /// How many instructions the kernel followed to prove the programs safe; a figure for reports.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub fn verified_instructions(&mut self) -> Result<Verified, Error> {
        let ingress = program(&mut self.ebpf)?.info()?.verified_instruction_count();
        let egress = egress_program(&mut self.ebpf)?.info()?.verified_instruction_count();
        Ok([(name::PROGRAM, ingress), (name::EGRESS_PROGRAM, egress)])
    }

    /// What the program says of one packet, as if it came in on the interface with this number
    /// with this mark. A packet that the program steers goes nowhere, because there is no such
    /// packet: then it counts as one whose socket vanished.
    ///
    /// # Errors
    ///
    /// The kernel takes no such packet: it is shorter than an Ethernet header, mostly.
    pub fn judge(&mut self, packet: &[u8], interface: u32, mark: u32) -> Result<Verdict, Error> {
        selftest::judge(program(&mut self.ebpf)?, packet, interface, mark)
    }

    /// How long the program takes for one packet that came in on the interface with this number: the
    /// mean of so many runs over the same packet, which meet what the ones before made of it.
    ///
    /// # Errors
    ///
    /// As [`Self::judge`].
    pub fn time(&mut self, packet: &[u8], interface: u32, runs: u32) -> Result<Duration, Error> {
        selftest::time(program(&mut self.ebpf)?, packet, interface, runs)
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, Error> {
    let program = ebpf.program_mut(name::PROGRAM).ok_or(Error::Incomplete(name::PROGRAM))?;
    Ok(program.try_into()?)
}

fn egress_program(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, Error> {
    let program = ebpf.program_mut(name::EGRESS_PROGRAM).ok_or(Error::Incomplete(name::EGRESS_PROGRAM))?;
    Ok(program.try_into()?)
}

fn find() -> Result<PathBuf, Error> {
    let mut looked = Vec::new();
    if let Some(named) = std::env::var_os(OBJECT_VARIABLE) {
        looked.push(PathBuf::from(named));
    } else {
        let executable = std::env::current_exe().ok();
        looked.extend(executable.and_then(|path| Some(path.parent()?.join(BESIDE_EXECUTABLE))));
        looked.push(PathBuf::from(INSTALLED));
    }
    match looked.iter().find(|path| path.is_file()) {
        Some(found) => Ok(found.clone()),
        None => Err(Error::Absent { looked }),
    }
}

/// Reads an object file that nobody but its owner may have written.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    if let Some(mode) = source::lets_others_write(&file).map_err(failed)? {
        return Err(Error::Writable { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// `aya-log` levels: 0 none, 4 debug.
const fn log_level(debug: bool) -> &'static u8 {
    if debug { &4 } else { &0 }
}

fn check_version(ebpf: &mut Ebpf, path: &Path) -> Result<(), Error> {
    let map = ebpf.map(name::ABI).ok_or(Error::Incomplete(name::ABI))?;
    let failed = |source| Error::Map { map: name::ABI, source };
    let found = Array::<_, u32>::try_from(map).map_err(failed)?.get(&0, 0).map_err(failed)?;
    if found == ABI_VERSION { Ok(()) } else { Err(Error::Version { path: path.to_owned(), found }) }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::privilege::user;

    #[test]
    fn an_object_that_others_may_write_is_refused_to_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(BESIDE_EXECUTABLE);
        fs::write(&path, "an object").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o646)).unwrap();
        assert_eq!(matches!(read(&path), Err(Error::Writable { mode: 0o646, .. })), user::is_root());
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(&path).unwrap(), b"an object");
        assert!(matches!(read(&folder.path().join("absent")), Err(Error::Read { .. })));
    }
}
