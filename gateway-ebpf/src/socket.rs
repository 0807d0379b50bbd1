//! Sockets: whose packet it is, and whose it becomes.
//!
//! The gateway's sockets carry its own mark: connections to servers because the proxy sets it,
//! accepted ones because they inherit it from the listener.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_NOT_FWDED, BPF_TCP_LISTEN, BPF_TCP_NEW_SYN_RECV, BPF_TCP_SYN_SENT, BPF_TCP_TIME_WAIT,
    bpf_fib_lookup as FibLookup, bpf_sock, bpf_sock_tuple,
};
use aya_ebpf::helpers::{
    bpf_fib_lookup, bpf_map_lookup_elem, bpf_sk_assign, bpf_sk_fullsock, bpf_sk_lookup_tcp, bpf_sk_release,
    bpf_skc_lookup_tcp, bpf_tcp_check_syncookie, bpf_tcp_sock,
};
use aya_ebpf::programs::TcContext;
use gateway_common::flow::FlowKey;
use gateway_common::interface::{LISTENER_V4, LISTENER_V6};
use gateway_common::settings::Settings;

use crate::map;
use crate::packet::Packet;

/// Address families (linux/socket.h).
const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;
/// Look-ups are made where the interface is (`BPF_F_CURRENT_NETNS`, linux/bpf.h).
const THIS_NETNS: u64 = u64::MAX;

/// A socket the program holds a reference to, and gives back.
pub(crate) struct Socket(*mut bpf_sock);

impl Drop for Socket {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the pointer came from a look-up that took a reference, and nothing else gives
        // that reference back.
        unsafe { bpf_sk_release(self.0.cast()) };
    }
}

impl Socket {
    #[inline(always)]
    fn new(found: *mut bpf_sock) -> Option<Self> {
        if found.is_null() { None } else { Some(Self(found)) }
    }

    /// The socket, of whatever kind, that the stack would give the packet to.
    #[inline(always)]
    fn look_up(ctx: &TcContext, tuple: &Tuple) -> Option<Self> {
        let (address, length) = tuple.parts();
        // SAFETY: `address` points to `length` bytes that outlive the call.
        let found = unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), address, length, THIS_NETNS, 0) };
        Self::new(found)
    }

    /// The same, but the listener instead of one of its half-open connections.
    #[inline(always)]
    fn look_up_full(ctx: &TcContext, tuple: &Tuple) -> Option<Self> {
        let (address, length) = tuple.parts();
        // SAFETY: as in `look_up`.
        let found = unsafe { bpf_sk_lookup_tcp(ctx.as_ptr(), address, length, THIS_NETNS, 0) };
        Self::new(found)
    }

    /// The gateway's listener for new flows, if there is one.
    #[inline(always)]
    pub(crate) fn listener(v6: bool) -> Option<Self> {
        let place = if v6 { LISTENER_V6 } else { LISTENER_V4 };
        let listeners = (&raw const map::LISTENERS).cast_mut().cast::<c_void>();
        // SAFETY: the map is one of sockets and its keys are numbers of 32 bits.
        let found = unsafe { bpf_map_lookup_elem(listeners, (&raw const place).cast()) };
        Self::new(found.cast())
    }

    #[inline(always)]
    fn state(&self) -> u32 {
        // SAFETY: the reference keeps the socket; the kernel lets programs read this field of
        // every kind of socket.
        unsafe { (*self.0).state }
    }

    /// Whether it carries the gateway's own mark. Neither half-open nor closing connections do,
    /// as far as programs can see.
    #[inline(always)]
    fn is_own(&self, settings: &Settings) -> bool {
        // SAFETY: the reference keeps the socket.
        let full = unsafe { bpf_sk_fullsock(self.0) };
        if full.is_null() {
            return false;
        }
        // SAFETY: `full` is the same socket, which the kernel lets programs read once it is known
        // to be a whole one.
        settings.is_own(unsafe { (*full).mark })
    }

    /// What the stack remembers of the connection that this SYN's sender had.
    #[inline(never)]
    pub(crate) fn remembered(ctx: &TcContext, packet: &Packet) -> Option<Self> {
        Self::look_up(ctx, &packet.tuple)
    }

    /// The sequence number up to which the other side has everything; at first, the initial one.
    #[inline(always)]
    fn first_unacknowledged(&self) -> Option<u32> {
        // SAFETY: the reference keeps the socket.
        let tcp = unsafe { bpf_tcp_sock(self.0) };
        if tcp.is_null() {
            return None;
        }
        // SAFETY: `tcp` is the same socket, which the kernel lets programs read once it is known
        // to be one of TCP.
        Some(unsafe { (*tcp).snd_una })
    }

    /// Whether the packet ends a handshake that this listener has answered with a SYN cookie.
    #[inline(never)]
    pub(crate) fn knows_cookie(&self, ctx: &TcContext, packet: &Packet) -> bool {
        if packet.v6 {
            ctx.load(packet.ip).is_ok_and(|ip: [u8; 40]| self.check_cookie(ip, 40, packet))
        } else {
            ctx.load(packet.ip).is_ok_and(|ip: [u8; 20]| self.check_cookie(ip, 20, packet))
        }
    }

    #[inline(always)]
    fn check_cookie<const N: usize>(&self, mut ip: [u8; N], length: u32, packet: &Packet) -> bool {
        let [mut tcp @ .., _, _, _, _, _, _, _, _, _, _, _, _] = packet.headers.tcp;
        let (ip, tcp) = (ip.as_mut_ptr().cast(), tcp.as_mut_ptr().cast());
        // SAFETY: both headers are copies on the stack, `length` and 20 octets long.
        0 == unsafe { bpf_tcp_check_syncookie(self.0.cast(), ip, length, tcp, 20) }
    }

    /// Gives the packet to this socket, or names it to the stack that looks for a listener.
    ///
    /// # Errors
    ///
    /// The negative errno of the kernel, mostly because the socket has just been closed.
    #[inline(always)]
    pub(crate) fn take(self, ctx: &impl EbpfContext) -> Result<(), i32> {
        // SAFETY: the reference keeps the socket; the kernel takes one of its own.
        match unsafe { bpf_sk_assign(ctx.as_ptr(), self.0.cast(), 0) } {
            0 => Ok(()),
            #[expect(clippy::cast_possible_truncation, reason = "a negative errno")]
            error => Err(error as i32),
        }
    }
}

/// Whose packet it is.
pub(crate) enum Owner {
    /// A connection of the gateway's; true: it is half open, and the client's answer is awaited.
    Gateway(Socket, bool),
    /// A connection of somebody else on this machine.
    Foreign,
    /// No connection.
    Nobody,
}

impl Owner {
    #[inline(always)]
    pub(crate) fn of(ctx: &TcContext, packet: &mut Packet, settings: &Settings) -> Self {
        packet.remembered = false;
        let Some(socket) = Socket::look_up(ctx, &packet.tuple) else { return Self::Nobody };
        let mut opening = false;
        let own = match socket.state() {
            BPF_TCP_LISTEN => return Self::Nobody,
            BPF_TCP_TIME_WAIT if packet.opens() => {
                packet.remembered = true;
                return Self::Nobody;
            }
            // Its mark cannot be read. The stack would give the packet to the same socket, if it
            // got that far, so nothing is taken from anybody.
            BPF_TCP_TIME_WAIT => true,
            BPF_TCP_NEW_SYN_RECV => {
                opening = true;
                Socket::look_up_full(ctx, &packet.tuple).is_some_and(|listener| listener.is_own(settings))
            }
            _ => socket.is_own(settings),
        };
        if own { Self::Gateway(socket, opening) } else { Self::Foreign }
    }
}

/// Whether packets with these addresses and ports are for a connection of the gateway's.
#[inline(never)]
pub(crate) fn is_gateways(ctx: &TcContext, packet: &Packet, settings: &Settings) -> bool {
    let Some(socket) = Socket::look_up(ctx, &packet.tuple) else { return false };
    socket.state() != BPF_TCP_LISTEN && socket.is_own(settings)
}

/// Addresses and ports as the kernel wants them for look-ups: `bpf_sock_tuple`, whose two forms
/// begin at the same place.
#[repr(C, align(4))]
pub(crate) struct Tuple {
    bytes: [u8; 36],
    length: u32,
}

impl Tuple {
    /// Names a flow.
    #[inline(always)]
    pub(crate) fn fill(&mut self, flow: &FlowKey, v6: bool) {
        if v6 {
            // The longer form has the layout of `FlowKey`.
            self.bytes = zerocopy::transmute!(*flow);
            self.length = 36;
            return;
        }
        let [client, server] = flow.v4();
        let (places, _) = self.bytes.as_chunks_mut();
        for (place, part) in places.iter_mut().zip([client, server, flow.ports()]) {
            *place = part;
        }
        self.length = 12;
    }

    #[inline(always)]
    const fn parts(&self) -> (*mut bpf_sock_tuple, u32) {
        let length = if self.length == 36 { 36 } else { 12 };
        (self.bytes.as_ptr().cast_mut().cast(), length)
    }
}

/// Whether the gateway itself has just sent this SYN: then there is a socket that waits for the
/// answer to it, and that began with its sequence number. The number matters, because a client may
/// use the very addresses and ports that the gateway uses on behalf of another flow of its.
#[inline(never)]
pub(crate) fn sent(ctx: &TcContext, packet: &mut Packet, settings: &Settings) -> bool {
    packet.out.reverse_of(&packet.flow);
    packet.answer.fill(&packet.out, packet.v6);
    let Some(socket) = Socket::look_up(ctx, &packet.answer) else { return false };
    socket.state() == BPF_TCP_SYN_SENT
        && socket.is_own(settings)
        && socket.first_unacknowledged() == Some(packet.sequence())
}

pub(crate) type Route = FibLookup;
/// Length of `struct bpf_fib_lookup`.
const FIB_LOOKUP_LENGTH: i32 = 64;
const _: () = assert!(size_of::<FibLookup>() == 64);

/// Whether the packet is for this machine itself, or for nobody the machine has a route to: not
/// one to forward.
#[inline(never)]
pub(crate) fn is_local(ctx: &TcContext, packet: &mut Packet, interface: u32) -> bool {
    set_route(&mut packet.route, packet.v6, &packet.flow, interface);
    look_up_route(ctx, &mut packet.route) == i64::from(BPF_FIB_LKUP_RET_NOT_FWDED)
}

/// Asks; returns what the kernel says.
#[inline(always)]
pub(crate) fn look_up_route(ctx: &TcContext, route: &mut FibLookup) -> i64 {
    // SAFETY: `route` has the length given.
    unsafe { bpf_fib_lookup(ctx.as_ptr(), &raw mut *route, FIB_LOOKUP_LENGTH, 0) }
}

/// The question which way packets of this flow go that came in on this interface.
#[inline(always)]
pub(crate) fn set_route(route: &mut FibLookup, v6: bool, flow: &FlowKey, interface: u32) {
    // SAFETY: all fields are integers, for which zero is a value.
    *route = unsafe { core::mem::zeroed::<FibLookup>() };
    route.ifindex = interface;
    route.l4_protocol = 6;
    if v6 {
        route.family = AF_INET6;
        route.__bindgen_anon_3.ipv6_src = words(flow.client_addr());
        route.__bindgen_anon_4.ipv6_dst = words(flow.server_addr());
    } else {
        route.family = AF_INET;
        route.__bindgen_anon_3.ipv4_src = words(flow.client_addr())[3];
        route.__bindgen_anon_4.ipv4_dst = words(flow.server_addr())[3];
    }
}

/// An address as words that keep the order of its bytes.
#[inline(always)]
const fn words(address: [u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}
