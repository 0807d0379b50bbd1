//! A packet under examination, and what the kernel knows of it.

use core::ptr;

use aya_ebpf::bindings::{__sk_buff, bpf_redir_neigh};
use aya_ebpf::programs::TcContext;
use gateway_common::flow::{FlowKey, FlowNote, Link, SynOptions};
use gateway_common::interface::Interface;
use gateway_common::reason::Reason;

use crate::map::{self, Prefix};
use crate::read;
use crate::rewrite::Difference;
use crate::socket::{Route, Tuple};
use crate::wire::{Headers, IPV4_HEADER, IPV6_HEADER, TCP_HEADER, TIMESTAMPS, USUAL_HEADER};

/// Options in a SYN that the program looks at: padding is an option too, an octet each.
const MAX_OPTIONS: usize = 40;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What the kernel knows of a packet beside its bytes. It is asked each time: what was kept would lie on
/// the stack.
#[derive(Clone, Copy)]
pub(crate) struct Metadata(*const __sk_buff);

impl Metadata {
    #[inline(always)]
    pub(crate) const fn of(ctx: &TcContext) -> Self {
        Self(ctx.skb.skb)
    }

    #[inline(always)]
    const fn get(&self) -> &__sk_buff {
        // SAFETY: the kernel passes a context that stays valid while the program runs.
        unsafe { &*self.0 }
    }

    /// The packet's mark.
    #[inline(always)]
    pub(crate) const fn mark(self) -> u32 {
        self.get().mark
    }

    /// Number of the interface.
    #[inline(always)]
    pub(crate) const fn interface(self) -> u32 {
        self.get().ifindex
    }

    /// Whether it has been given to a socket.
    #[inline(always)]
    pub(crate) const fn has_socket(self) -> bool {
        // SAFETY: the union has one member, a pointer that is only compared.
        !unsafe { self.get().__bindgen_anon_2.sk }.is_null()
    }

    /// Whether it came in on an interface, and was not made here.
    #[inline(always)]
    pub(crate) const fn came_in(self) -> bool {
        self.get().ingress_ifindex != 0
    }

    /// If it stands for many segments: octets of data in each; else 0.
    #[inline(always)]
    pub(crate) const fn segment_size(self) -> u32 {
        self.get().gso_size
    }

    /// How many segments it stands for.
    #[inline(always)]
    pub(crate) const fn segments(self) -> u32 {
        let segments = self.get().gso_segs;
        if segments == 0 { 1 } else { segments }
    }

    /// What the stack takes the packet for: its ethertype in network byte order, without VLAN tags that
    /// were taken out of it.
    #[inline(always)]
    pub(crate) const fn ethertype(self) -> u32 {
        self.get().protocol
    }

    /// The tag that the card or the stack has taken out of the packet, in network byte order.
    #[inline(always)]
    pub(crate) const fn vlan(self) -> Option<[u8; 2]> {
        #[expect(clippy::cast_possible_truncation, reason = "a tag has 16 bits")]
        let tag = (self.get().vlan_tci as u16).to_be_bytes();
        if self.get().vlan_present != 0 { Some(tag) } else { None }
    }
}

/// What is counted of a packet under its client's name. One argument for all of it: what does not fit
/// into registers would lie on the stack.
#[repr(C)]
pub(crate) struct Carried {
    /// The flow from its client's point of view.
    pub(crate) flow: FlowKey,
    /// Octets of text.
    pub(crate) octets: u32,
    /// Bits that [`crate::account`] names.
    pub(crate) how: u32,
}

/// A TCP packet.
///
/// It lies in a map and is filled in place. That spares the stack, which has 512 octets, and the
/// verifier, which would otherwise follow each place a header can be at to the end of the program.
/// What is copied most lies at multiples of four octets: the machine moves it by words.
#[repr(C)]
pub(crate) struct Packet {
    /// Its headers, as far as they have been read.
    pub(crate) headers: Headers,
    /// Whether that includes the first options of TCP, or what lies in their place.
    pub(crate) whole: bool,
    /// Whether it is IPv6.
    pub(crate) v6: bool,
    /// The number that is being looked up: see [`crate::map`].
    pub(crate) number: u32,
    /// The interface it is on.
    pub(crate) interface: Interface,
    /// Whether its destination is an intercepted port.
    pub(crate) to_server: bool,
    /// From its sender, as if that were the client.
    pub(crate) flow: FlowKey,
    /// As whose it goes out; filled when it is renumbered.
    pub(crate) out: FlowKey,
    /// What is counted of it; filled when it is.
    pub(crate) carried: Carried,
    /// Octets that its IP header says there are from there on; 0: too many to be said.
    pub(crate) said: u32,
    /// Octets from its IP header on, without the padding of the link; filled by [`Packet::check`].
    pub(crate) octets: u32,
    /// How many segments it stands for, and the same of each; filled when its way is looked for.
    pub(crate) segments: u32,
    pub(crate) segment: u32,
    /// Whether it goes to its neighbour at once.
    pub(crate) straight: bool,
    /// Whether it goes out with other addresses than it came in with; filled when it is renumbered, as the next.
    pub(crate) readdressed: bool,
    /// Whether its options begin as those of nearly all packets do, and have been translated so far.
    pub(crate) usual: bool,
    /// When it came: nanoseconds of `CLOCK_MONOTONIC`, to a tick of the kernel's clock; filled when its way
    /// is looked for.
    pub(crate) now: u64,
    /// The same for look-ups of sockets; filled when there is one.
    pub(crate) tuple: Tuple,
    /// Where it came from; filled for packets that open a flow.
    pub(crate) link: Link,
    /// How many VLAN tags it has, priority tags among them.
    pub(crate) tags: u32,
    /// Time to live, or hop limit.
    pub(crate) ttl: u8,
    /// Where the IP header begins.
    pub(crate) ip: usize,
    /// Where the TCP header begins, or the ICMP header.
    pub(crate) tcp: usize,
    /// Whether it is ICMP.
    pub(crate) icmp: bool,
    /// Where the TCP header begins that an ICMP error quotes.
    pub(crate) quoted: usize,
    /// Through which interface it goes out, and to whom behind it.
    pub(crate) way_out: u32,
    pub(crate) neighbour: bpf_redir_neigh,
    /// The question which way it goes, and the answer.
    pub(crate) route: Route,
    /// What has changed in it, and what in its addresses.
    pub(crate) change: Difference,
    pub(crate) moved: Difference,
    /// Whether its client is locked, and told so by the proxy. It is here, and not on the stack, so
    /// that the verifier does not follow both cases to the end.
    pub(crate) rejected: bool,
    /// Its socket is being looked for, by the program itself: see [`Packet::ask`].
    pub(crate) asking: bool,
    /// The stack remembers a connection with its addresses and ports that is over.
    pub(crate) remembered: bool,
    /// What it offers; filled by [`Packet::read_options`] for packets that open a flow.
    pub(crate) options: SynOptions,
    /// What user space is to know of its flow; filled when that is noted.
    pub(crate) note: FlowNote,
    /// The prefix that is being looked up.
    pub(crate) prefix: Prefix,
    /// As its flow for look-ups, but of packets that go the other way; filled when there is one.
    pub(crate) answer: Tuple,
}

impl Packet {
    /// Notes that the program itself looks for sockets from here on, or no more: see [`crate::remembered`].
    #[inline(always)]
    pub(crate) fn ask(&mut self, asking: bool) {
        // The program that reads it is called by look-ups, of which the compiler does not know.
        // SAFETY: it is a field of the packet.
        unsafe { ptr::write_volatile(&raw mut self.asking, asking) };
    }

    /// Four octets of its TCP header.
    #[inline(always)]
    pub(crate) const fn word<const AT: usize>(&self) -> [u8; 4] {
        [self.headers.tcp[AT], self.headers.tcp[AT + 1], self.headers.tcp[AT + 2], self.headers.tcp[AT + 3]]
    }

    /// Replaces them, and notes what that changes in the checksum.
    #[inline(always)]
    pub(crate) fn put<const AT: usize>(&mut self, octets: [u8; 4]) {
        self.change.add(self.word::<AT>(), octets);
        let Some(place) = self.headers.tcp.get_mut(AT..).and_then(<[u8]>::first_chunk_mut) else { return };
        *place = octets;
    }

    /// Whether the port at this place of its TCP header is intercepted.
    #[inline(always)]
    pub(crate) fn has_intercepted<const AT: usize>(&mut self) -> bool {
        let port = u16::from_be_bytes([self.headers.tcp[AT], self.headers.tcp[AT + 1]]);
        map::is_intercepted(&mut self.number, port)
    }

    /// Its flags.
    #[inline(always)]
    pub(crate) const fn flags(&self) -> u8 {
        self.headers.tcp[13]
    }

    /// Whether it opens a flow, or answers one that does.
    #[inline(always)]
    pub(crate) const fn is_of_handshake(&self) -> bool {
        self.headers.tcp[13] & SYN != 0
    }

    /// Whether it opens a flow.
    #[inline(always)]
    pub(crate) const fn opens(&self) -> bool {
        self.headers.tcp[13] & (FIN | SYN | RST | ACK) == SYN
    }

    /// Whether it may be the end of a handshake.
    #[inline(always)]
    pub(crate) const fn acknowledges(&self) -> bool {
        self.headers.tcp[13] & (SYN | RST | ACK) == ACK
    }

    /// Whether it answers a SYN.
    #[inline(always)]
    pub(crate) const fn answers(&self) -> bool {
        self.headers.tcp[13] & (SYN | RST | ACK) == SYN | ACK
    }

    /// Whether its sender has no more to say.
    #[inline(always)]
    pub(crate) const fn ends(&self) -> bool {
        self.headers.tcp[13] & (FIN | RST) != 0
    }

    /// Whether its sender gives the flow up.
    #[inline(always)]
    pub(crate) const fn resets(&self) -> bool {
        self.headers.tcp[13] & RST != 0
    }

    /// Its acknowledgement number.
    #[inline(always)]
    pub(crate) const fn acknowledgement(&self) -> u32 {
        u32::from_be_bytes(self.word::<8>())
    }

    /// Its sequence number.
    #[inline(always)]
    pub(crate) const fn sequence(&self) -> u32 {
        u32::from_be_bytes(self.word::<4>())
    }

    /// Its window, in network byte order.
    #[inline(always)]
    pub(crate) const fn window(&self) -> [u8; 2] {
        [self.headers.tcp[14], self.headers.tcp[15]]
    }

    /// Prepares look-ups of sockets.
    #[inline(never)]
    pub(crate) fn name(&mut self) {
        self.tuple.fill(&self.flow, self.v6);
    }

    /// Length of the TCP header with options.
    #[inline(always)]
    pub(crate) const fn header_length(&self) -> usize {
        (self.headers.tcp[12] >> 4) as usize * 4
    }

    /// Length of its IP and TCP headers.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a packet has less than 4 GiB")]
    pub(crate) const fn headers(&self) -> u32 {
        (self.tcp - self.ip + self.header_length()) as u32
    }

    /// Whether its options begin as those of nearly all packets do: with timestamps behind two octets of
    /// padding (RFC 7323 appendix A). It reads the first ones if need be.
    #[inline(always)]
    pub(crate) fn has_timestamps(&mut self, ctx: &TcContext) -> bool {
        if self.header_length() < USUAL_HEADER {
            return false;
        }
        if !self.whole {
            let Some(options) = self.headers.tcp.last_chunk_mut::<TIMESTAMPS>() else { return false };
            self.whole = read::to(ctx, self.tcp + TCP_HEADER, options).is_ok();
        }
        self.whole && self.word::<TCP_HEADER>() == [1, 1, 8, 10]
    }

    /// Whether the first options are in [`Packet::headers`], and are options.
    #[inline(always)]
    pub(crate) const fn has_first_options(&self) -> bool {
        self.whole && self.header_length() >= USUAL_HEADER
    }

    /// Whether nothing lies between the headers of IP and TCP.
    #[inline(always)]
    pub(crate) const fn is_plain(&self) -> bool {
        self.tcp - self.ip == if self.v6 { IPV6_HEADER } else { IPV4_HEADER }
    }

    /// Octets of text.
    #[inline(always)]
    pub(crate) const fn text(&self) -> u32 {
        self.octets.saturating_sub(self.headers())
    }

    /// Whether the stack is to answer it as it goes out, when it can go nowhere: as it came in it is
    /// for this machine. All others are answered as they came.
    #[inline(always)]
    pub(crate) const fn is_answered_translated(&self, from_client: bool) -> bool {
        !from_client && self.readdressed
    }

    /// Whether routers may not divide it.
    #[inline(always)]
    pub(crate) const fn keeps_whole(&self) -> bool {
        // "Do not fragment" (RFC 791 section 3.1); IPv6 routers never do.
        self.v6 || self.headers.v4.fragment[0] & 0x40 != 0
    }

    /// Whether the TCP header has the length that it says, within the packet.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a packet has less than 4 GiB")]
    pub(crate) fn check(&mut self, ctx: &TcContext) -> Result<(), Reason> {
        if self.header_length() < TCP_HEADER {
            return Err(Reason::BadHeader);
        }
        if self.tcp + self.header_length() > ctx.len() as usize {
            return Err(Reason::Truncated);
        }
        let whole = ctx.len() - self.ip as u32;
        // Packets of more than 64 KiB say 0.
        self.octets = if self.said < self.headers() || self.said > whole { whole } else { self.said };
        Ok(())
    }

    /// Notes what a SYN offers. An option that contradicts itself ends the list (RFC 9293
    /// section 3.1).
    #[inline(never)]
    pub(crate) fn read_options(&mut self, ctx: &TcContext) {
        let end = self.tcp + self.header_length();
        let mut at = self.tcp + TCP_HEADER;
        for _ in 0..MAX_OPTIONS {
            if at + 1 >= end {
                break;
            }
            let Ok([kind, length]) = ctx.load::<[u8; 2]>(at) else { break };
            if kind == 1 {
                at += 1;
                continue;
            }
            if kind == 0 || length < 2 {
                break;
            }
            match (kind, length) {
                (2, 4) => self.options.mss = ctx.load(at + 2).unwrap_or_default(),
                (3, 3) => self.options.window_scale = ctx.load(at + 2).ok(),
                (4, 2) => self.options.sack = true,
                (8, 10) => self.options.timestamps = true,
                _ => {}
            }
            at += length as usize;
        }
    }
}
