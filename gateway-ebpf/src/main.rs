//! The TC program that steers SMTP flows into the gateway.
//!
//! It runs on every packet that comes in on the interfaces it is attached to. What it does with a
//! packet follows from one [`Reason`], which is also what it counts. A packet it cannot read, or
//! that is no business of the gateway, goes on untouched to the programs behind this one.
#![no_std]
#![no_main]
// For one atomic addition.
#![feature(asm_experimental_arch)]
// `core::sync::atomic` adds nothing on BPF, which has no compare-and-swap before its version 3.
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the only way to the instruction that adds in one step")]

use aya_ebpf::bindings::sk_action::SK_PASS;
use aya_ebpf::bindings::{TC_ACT_OK, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::{classifier, sk_lookup};
use aya_ebpf::programs::{SkLookupContext, TcContext};
use gateway_common::reason::Reason;

use crate::packet::Metadata;

mod account;
mod counter;
mod egress;
mod entry;
mod glance;
mod header;
mod icmp;
mod ingress;
mod map;
mod packet;
mod quarantine;
mod read;
mod refuse;
mod remembered;
mod rewrite;
mod socket;
mod translate;
mod way;
mod wire;

/// Goes on to the next program, or to the stack.
const PASS: i32 = TC_ACT_UNSPEC;
/// Goes to the stack with its socket, past all other programs.
const STEER: i32 = TC_ACT_OK;
/// Goes no further.
const DROP: i32 = TC_ACT_SHOT;

/// Goes straight to a neighbour.
const REDIRECT: i32 = TC_ACT_REDIRECT;

/// Listeners that the stack looks for.
#[sk_lookup]
fn gateway_listener(ctx: SkLookupContext) -> u32 {
    remembered::find_listener(&ctx);
    SK_PASS
}

/// Packets that come in.
#[classifier]
fn gateway_ingress(ctx: TcContext) -> i32 {
    let Some(packet) = map::packet() else { return PASS };
    let reason = ingress::judge(&ctx, packet);
    map::bump(packet, reason);
    match reason {
        Reason::Opened
        | Reason::LockRejected
        | Reason::Established
        | Reason::Cookie
        | Reason::SteeredAgain => STEER,
        Reason::Blocked
        | Reason::DownDropped
        | Reason::SocketVanished
        | Reason::Frozen
        | Reason::Unwritable
        | Reason::Condemned
        | Reason::Locked
        | Reason::RefusedSyn
        | Reason::OverLimit
        | Reason::Stray => DROP,
        Reason::Redirected | Reason::IcmpRedirected | Reason::LockReset | Reason::ResetSyn => REDIRECT,
        Reason::Own
        | Reason::OwnReturned
        | Reason::Steered
        | Reason::UnknownInterface
        | Reason::NotIp
        | Reason::TooManyTags
        | Reason::Fragment
        | Reason::Truncated
        | Reason::BadHeader
        | Reason::ExtensionHeaders
        | Reason::NotTcp
        | Reason::OtherPort
        | Reason::ForeignSocket
        | Reason::NoSocket
        | Reason::NotFromClient
        | Reason::LocalDestination
        | Reason::Bypassed
        | Reason::Translated
        | Reason::TooLarge
        | Reason::IcmpTranslated
        | Reason::IcmpSteered
        | Reason::DownPassed => PASS,
    }
}

/// Packets that go out.
#[classifier]
fn gateway_egress(ctx: TcContext) -> i32 {
    // What is forwarded was judged when it came in.
    if Metadata::of(&ctx).came_in() {
        return PASS;
    }
    let Some(packet) = map::packet() else { return PASS };
    let Some(reason) = egress::judge(&ctx, packet) else { return PASS };
    map::bump(packet, reason);
    DROP
}

/// What the kernel asks of programs that use its helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program from which it is.
    loop {}
}
