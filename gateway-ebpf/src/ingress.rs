//! What becomes of a packet that comes in.
//!
//! The order is that of cost and of certainty: what most packets fail is asked first, and a packet
//! of a flow that the gateway has is the gateway's whatever the rules for new flows say.

use aya_ebpf::programs::TcContext;
use aya_log_ebpf::debug;
use gateway_common::flow::{FlowNote, SEEN_REFUSED};
use gateway_common::lane::Lane;
use gateway_common::quarantine::Action;
use gateway_common::reason::Reason;
use gateway_common::settings::Settings;

use crate::account::Begun;
use crate::glance::Seen;
use crate::packet::{Metadata, Packet};
use crate::socket::{self, Owner, Socket};
use crate::{account, counter, glance, header, icmp, map, quarantine, refuse, translate};

/// Decides, and does what it decides but for the verdict.
#[inline(always)]
pub(crate) fn judge(ctx: &TcContext, packet: &mut Packet) -> Reason {
    match examine(ctx, packet) {
        Ok(reason) | Err(reason) => reason,
    }
}

/// `Err`: the packet is none of the gateway's business. Each step is a function of its own, for each has registers
/// of its own: see [`crate::map`].
#[inline(always)]
fn examine(ctx: &TcContext, packet: &mut Packet) -> Result<Reason, Reason> {
    know(ctx)?;
    let seen = glance::look(ctx, packet);
    if let Seen::Unrelated(reason) = seen {
        return Err(reason);
    }
    if let Err(reason) = read(ctx, packet, matches!(seen, Seen::Headers)) {
        return if packet.icmp { Ok(icmp::judge(ctx, packet)) } else { Err(reason) };
    }
    if let Some(reason) = translate::judge(ctx, packet) {
        return Ok(reason);
    }
    packet.ask(true);
    let reason = route(ctx, packet);
    packet.ask(false);
    log(ctx, packet, reason as u32);
    Ok(reason)
}

/// `Err`: its mark shows that it has been judged before.
#[inline(never)]
fn know(ctx: &TcContext) -> Result<(), Reason> {
    let metadata = Metadata::of(ctx);
    let settings = map::settings().ok_or(Reason::UnknownInterface)?;
    if settings.is_own(metadata.mark()) {
        return Err(Reason::Own);
    }
    if settings.is_steered(metadata.mark()) && metadata.has_socket() {
        return Err(Reason::Steered);
    }
    Ok(())
}

/// Fills `packet`. With [`Packet::icmp`] it may be an error about a packet.
#[inline(never)]
fn read(ctx: &TcContext, packet: &mut Packet, seen: bool) -> Result<(), Reason> {
    packet.icmp = false;
    if !map::interface(packet, Metadata::of(ctx).interface()) {
        return Err(Reason::UnknownInterface);
    }
    if !(seen && header::take(ctx, packet)) {
        header::parse(ctx, packet)?;
        packet.to_server = map::is_intercepted(&mut packet.number, packet.flow.server_port());
        if !packet.to_server && !map::is_intercepted(&mut packet.number, packet.flow.client_port()) {
            return Err(Reason::OtherPort);
        }
    }
    packet.check(ctx)
}

/// A packet from or to an intercepted port, of no flow that is handed off.
#[inline(never)]
fn route(ctx: &TcContext, packet: &mut Packet) -> Reason {
    let Some(settings) = map::settings() else { return Reason::UnknownInterface };
    packet.name();
    let here = Here { ctx, settings, again: settings.is_steered(Metadata::of(ctx).mark()) };
    here.route(packet)
}

/// A line for a packet from or to an intercepted port. The loader fixes the level before the
/// verifier sees the program, so without debug lines this is no code at all.
#[inline(never)]
fn log(ctx: &TcContext, packet: &Packet, reason: u32) {
    debug!(
        ctx,
        "{:i} port {} to {:i} port {}: reason {}",
        packet.flow.client_addr(),
        packet.flow.client_port(),
        packet.flow.server_addr(),
        packet.flow.server_port(),
        reason
    );
}

/// Has the stack take the packet for one to this machine.
#[inline(always)]
pub(crate) fn divert(ctx: &TcContext, settings: &Settings, packet: &Packet) {
    ctx.set_mark(settings.steer(Metadata::of(ctx).mark()));
    if let Some(mac) = packet.interface.bridge_mac() {
        // A frame that keeps its address is sent on by the bridge: not inspected, not lost.
        ctx.store(0, &mac, 0).ok();
    }
}

/// Where a packet is while it is looked at.
struct Here<'a> {
    ctx: &'a TcContext,
    settings: &'static Settings,
    /// An interface below this one has steered it, and then its socket was lost.
    again: bool,
}

impl Here<'_> {
    /// A packet from or to an intercepted port.
    #[inline(always)]
    fn route(&self, packet: &mut Packet) -> Reason {
        let from_client = packet.to_server && (self.again || packet.interface.is_for_clients());
        match Owner::of(self.ctx, packet, self.settings) {
            Owner::Foreign => return Reason::ForeignSocket,
            Owner::Gateway(socket, opening) => return self.belongs(socket, packet, from_client, opening),
            Owner::Nobody => {}
        }
        if packet.opens() {
            if from_client { self.open(packet) } else { Reason::NotFromClient }
        } else if from_client && packet.acknowledges() {
            self.check_cookie(packet)
        } else {
            Reason::NoSocket
        }
    }

    /// A packet of a connection that the gateway has.
    #[inline(always)]
    fn belongs(&self, socket: Socket, packet: &mut Packet, from_client: bool, opening: bool) -> Reason {
        // Seen again, it was counted before.
        if from_client && !self.again && self.is_over(packet, opening) {
            return Reason::OverLimit;
        }
        match self.steer(socket, packet) {
            Ok(()) => self.steered(Reason::Established),
            Err(error) => self.tell(Reason::SocketVanished, error, packet),
        }
    }

    /// Counts a client's packet. True: it is one too many.
    #[inline(never)]
    fn is_over(&self, packet: &mut Packet, opening: bool) -> bool {
        if opening && packet.acknowledges() {
            account::complete(&packet.flow, packet.acknowledgement());
        }
        if packet.resets() {
            account::end(&packet.flow);
        }
        packet.carried.flow = packet.flow;
        packet.carried.octets = packet.text();
        account::meet(&mut packet.carried, false)
    }

    /// A SYN of a client.
    #[inline(always)]
    fn open(&self, packet: &mut Packet) -> Reason {
        if socket::sent(self.ctx, packet, self.settings) {
            return Reason::OwnReturned;
        }
        packet.rejected = false;
        match quarantine::judge(packet) {
            Some(Action::Drop) => return Reason::Locked,
            Some(Action::Reset) => return self.refuse(packet, Reason::LockReset, Reason::Locked),
            Some(Action::Reject) => packet.rejected = true,
            None => match map::lane(packet) {
                Lane::Bypass => return Reason::Bypassed,
                Lane::Block => return Reason::Blocked,
                Lane::User => {}
            },
        }
        if socket::is_local(self.ctx, packet, Metadata::of(self.ctx).interface()) {
            return Reason::LocalDestination;
        }
        let Some(listener) = Socket::listener(packet.v6) else { return self.down(0, packet) };
        if !self.again {
            let seen = match account::begin(&packet.flow) {
                Begun::Taken => 0,
                Begun::Refused => SEEN_REFUSED,
                Begun::Dropped => return Reason::RefusedSyn,
                Begun::Reset => return self.refuse(packet, Reason::ResetSyn, Reason::RefusedSyn),
            };
            self.note(packet, seen);
        }
        let socket = if packet.remembered {
            Socket::remembered(self.ctx, packet).unwrap_or(listener)
        } else {
            listener
        };
        match self.steer(socket, packet) {
            Ok(()) => self.steered(if packet.rejected { Reason::LockRejected } else { Reason::Opened }),
            Err(error) => self.down(error, packet),
        }
    }

    /// Says no to a SYN, or drops it where that cannot be said.
    #[inline(always)]
    fn refuse(&self, packet: &mut Packet, reset: Reason, dropped: Reason) -> Reason {
        if refuse::reset(self.ctx, packet) { reset } else { dropped }
    }

    /// Nobody listens for new flows.
    #[inline(always)]
    fn down(&self, error: i32, packet: &mut Packet) -> Reason {
        let reason = if self.settings.drops_when_down() { Reason::DownDropped } else { Reason::DownPassed };
        self.tell(reason, error, packet)
    }

    /// Under a flood of SYNs the listener keeps no half-open connections: the acknowledgement
    /// itself says that there was one.
    #[inline(always)]
    fn check_cookie(&self, packet: &mut Packet) -> Reason {
        let Some(listener) = Socket::listener(packet.v6) else { return Reason::NoSocket };
        if !listener.knows_cookie(self.ctx, packet) {
            return Reason::NoSocket;
        }
        account::complete(&packet.flow, packet.acknowledgement());
        match self.steer(listener, packet) {
            Ok(()) => self.steered(Reason::Cookie),
            Err(error) => self.tell(Reason::SocketVanished, error, packet),
        }
    }

    /// A flow is counted once.
    #[inline(always)]
    const fn steered(&self, reason: Reason) -> Reason {
        if self.again { Reason::SteeredAgain } else { reason }
    }

    #[inline(always)]
    fn steer(&self, socket: Socket, packet: &Packet) -> Result<(), i32> {
        socket.take(self.ctx)?;
        divert(self.ctx, self.settings, packet);
        Ok(())
    }

    #[inline(never)]
    fn note(&self, packet: &mut Packet, seen: u8) {
        packet.read_options(self.ctx);
        packet.note = FlowNote::new(
            map::now(),
            Metadata::of(self.ctx).interface(),
            packet.link,
            packet.ttl,
            packet.window(),
            packet.options,
        )
        .with(seen);
        // A note that finds no room is missed by nobody: it only tells more of a flow.
        let (flow, note) = (&packet.flow, &packet.note);
        map::FLOWS.insert(flow, note, 0).ok();
    }

    #[inline(always)]
    fn tell(&self, reason: Reason, error: i32, packet: &mut Packet) -> Reason {
        counter::tell(reason, Metadata::of(self.ctx).interface(), error, &packet.flow);
        reason
    }
}
