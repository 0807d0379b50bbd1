//! Octets of a packet. They are read through a kernel helper that checks them against the packet's end,
//! wherever they lie.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::bpf_hdr_start_off::BPF_HDR_START_NET;
use aya_ebpf::helpers::{bpf_skb_load_bytes, bpf_skb_load_bytes_relative};
use aya_ebpf::programs::TcContext;
use gateway_common::reason::Reason;
use zerocopy::FromBytes;

/// The first words from the IP header on, as they lie; `None` where there are fewer, or they lie elsewhere.
#[inline(always)]
pub(crate) fn at_ip<const N: usize>(ctx: &TcContext) -> Option<[u32; N]> {
    let mut words = MaybeUninit::<[u32; N]>::uninit();
    #[expect(clippy::cast_possible_truncation, reason = "headers are short")]
    let length = 4 * N as u32;
    let (skb, place) = (ctx.skb.skb.cast(), words.as_mut_ptr().cast());
    // SAFETY: the place has so many octets, and the helper checks the packet's end.
    let read = unsafe { bpf_skb_load_bytes_relative(skb, 0, place, length, BPF_HDR_START_NET) };
    // SAFETY: the helper has written all of them.
    if read == 0 { Some(unsafe { words.assume_init() }) } else { None }
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
