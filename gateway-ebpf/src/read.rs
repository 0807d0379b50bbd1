//! Octets of a packet. They are read through a kernel helper that checks them against the packet's end,
//! wherever they lie.

use aya_ebpf::bindings::bpf_hdr_start_off::BPF_HDR_START_NET;
use aya_ebpf::helpers::{bpf_skb_load_bytes, bpf_skb_load_bytes_relative};
use aya_ebpf::programs::TcContext;
use gateway_common::reason::Reason;
use zerocopy::FromBytes;

use crate::header::ETHERNET_HEADER;
use crate::packet::Packet;

/// Copies `LONG` octets from the IP header on to the end of the packet's headers; of a short packet `SHORT` of
/// them, those that come first. False: there are fewer, or they lie elsewhere.
#[inline(always)]
pub(crate) fn from_ip<const LONG: usize, const SHORT: usize>(ctx: &TcContext, packet: &mut Packet) -> bool {
    // By what the link adds at most: that is not known yet.
    packet.whole = ctx.len() as usize >= ETHERNET_HEADER + LONG;
    let length = if packet.whole { LONG } else { SHORT };
    let Some(place) = packet.headers.octets().last_chunk_mut::<LONG>() else { return false };
    let (skb, place) = (ctx.skb.skb.cast(), place.as_mut_ptr().cast());
    #[expect(clippy::cast_possible_truncation, reason = "headers are short")]
    // SAFETY: the place has so many octets, and the helper checks the packet's end.
    let read = unsafe { bpf_skb_load_bytes_relative(skb, 0, place, length as u32, BPF_HDR_START_NET) };
    read == 0
}

/// Copies the bytes that begin at `offset` to their place.
#[inline(always)]
pub(crate) fn to<T: FromBytes>(ctx: &TcContext, offset: usize, place: &mut T) -> Result<(), Reason> {
    #[expect(clippy::cast_possible_truncation, reason = "headers lie within 64 KiB, and are short")]
    let (offset, length) = (offset as u32, size_of::<T>() as u32);
    // SAFETY: the place has so many octets, and the helper checks the packet's end.
    let read = unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), offset, (&raw mut *place).cast(), length) };
    if read == 0 { Ok(()) } else { Err(Reason::Truncated) }
}

/// Copies the bytes that begin at `offset`.
#[inline(always)]
pub(crate) fn at<T: FromBytes>(ctx: &TcContext, offset: usize) -> Result<T, Reason> {
    ctx.load(offset).map_err(|_| Reason::Truncated)
}
