//! The kernel program: found, loaded, checked.
//!
//! [`Kernel`] is all the rest of `datapath` knows of eBPF. It owns the program, its maps and its
//! attachments; dropping it takes all of them out of the kernel, but for pinned state. It never
//! decides which interface, port or prefix is meant: it is told.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use aya::maps::Array;
use aya::programs::{ProgramError, ProgramType, SchedClassifier, SkLookup};
use aya::sys::is_program_supported;
use aya::{Ebpf, EbpfLoader};
use gateway_common::{ABI_VERSION, name};

use super::accounts::{Accounts, Reader};
use super::attach::{Attached, Attachments, Role};
use super::events::{CaughtPackets, Events, Log};
use super::flow_table::FlowTable;
use super::maps::Maps;
use super::pin::Pins;
use super::quarantine::Quarantine;
use super::selftest::{self, Verdict};
use super::verified::Verified;
use crate::config::file::{Attach, Clients, Intercept, WhenDown};

mod error;
mod file;

pub use error::Error;
pub use file::OBJECT_VARIABLE;

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
        let path = file::find()?;
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
            .load(&file::read(&path)?)
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
        answer_for_listeners(&mut ebpf)?;
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

    /// The numbers of the interfaces that a predecessor's program is attached to, until
    /// [`Self::take_over`]. Some may be gone.
    ///
    /// # Errors
    ///
    /// The kernel's tables cannot be read.
    pub fn left(&self) -> Result<Vec<u32>, Error> {
        self.attachments.left()
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

    /// What the program for packets that go out says of one that this machine sends through the interface with this
    /// number, with this mark.
    ///
    /// # Errors
    ///
    /// As [`Self::judge`].
    pub fn judge_sent(&mut self, packet: &[u8], interface: u32, mark: u32) -> Result<Verdict, Error> {
        selftest::judge(egress_program(&mut self.ebpf)?, packet, interface, mark)
    }

    /// What the program says of one packet that came in on the interface with this number, and what
    /// it has made of it.
    ///
    /// # Errors
    ///
    /// As [`Self::judge`].
    pub fn rewrite(&mut self, packet: &[u8], interface: u32) -> Result<(Verdict, Vec<u8>), Error> {
        selftest::rewrite(program(&mut self.ebpf)?, packet, interface)
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

/// Has the stack of this network namespace ask the program for listeners, as long as this process lives; before Linux 5.9
/// it asks none, and clients that use a port again too soon wait for a second.
fn answer_for_listeners(ebpf: &mut Ebpf) -> Result<(), Error> {
    if !is_program_supported(ProgramType::SkLookup)? {
        return Ok(());
    }
    let program =
        ebpf.program_mut(name::LISTENER_PROGRAM).ok_or(Error::Incomplete(name::LISTENER_PROGRAM))?;
    let program: &mut SkLookup = program.try_into()?;
    program.load()?;
    let namespace = File::open("/proc/thread-self/ns/net").map_err(ProgramError::IOError)?;
    program.attach(namespace)?;
    Ok(())
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
