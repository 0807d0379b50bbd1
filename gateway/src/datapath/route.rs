//! The policy routing that delivers steered packets to this machine.
//!
//! Owns one rule `fwmark MARK/MASK lookup TABLE` and one route `local default dev lo table TABLE`
//! for each family. Both carry our own protocol number (`FRA_PROTOCOL`, `rtm_protocol`), by which
//! they are found again: also those that a killed predecessor left under another mark or table.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use nix::libc;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};
use tracing::{info, warn};

use super::maps::Family;
use crate::config::file::Routing;

/// Who made a rule or a route, in the kernel's tables: a number that iproute2's `rt_protos` gives
/// to nobody.
const PROTOCOL: u8 = 225;

/// The number of `lo` in every network namespace (`LOOPBACK_IFINDEX` of the kernel).
const LOOPBACK: u32 = 1;

/// Why the routing could not be set up or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct Error {
    step: &'static str,
    #[source]
    source: io::Error,
}

fn step(step: &'static str) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |error| Error { step, source: to_io(error) }
}

/// The error number of the kernel's answer, where there is one.
fn to_io(error: rtnetlink::Error) -> io::Error {
    if let rtnetlink::Error::NetlinkError(answer) = &error {
        return answer.to_io();
    }
    io::Error::other(error)
}

/// Adds rule and route of each family.
///
/// # Errors
///
/// When the kernel refuses; what was added by then is found by [`remove`].
pub async fn install(handle: &Handle, routing: &Routing, families: &[Family]) -> Result<(), Error> {
    for family in families {
        let add = handle.route().add(local_route(*family, routing.table));
        add.execute().await.map_err(step("add the local route; is the interface `lo` up?"))?;
        add_rule(handle, *family, routing).await?;
    }
    Ok(())
}

async fn add_rule(handle: &Handle, family: Family, routing: &Routing) -> Result<(), Error> {
    let request = handle.rule().add().table_id(routing.table).action(RuleAction::ToTable);
    let mut request = request.priority(routing.priority).fw_mark(routing.mark);
    let message = request.message_mut();
    message.header.family = address_family(family);
    message.attributes.push(RuleAttribute::FwMask(routing.mask));
    message.attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
    match request.execute().await {
        Err(rtnetlink::Error::NetlinkError(answer)) if answer.raw_code() == -libc::EEXIST => {
            warn!(
                priority = routing.priority,
                "the policy-routing rule is there already, made by another; it will stay"
            );
            Ok(())
        }
        done => done.map_err(step("add the policy-routing rule")),
    }
}

/// Removes every rule and route that carries our protocol number. Returns how many there were.
///
/// # Errors
///
/// When the kernel's tables cannot be read or changed.
pub async fn remove(handle: &Handle) -> Result<usize, Error> {
    let mut removed = 0;
    for (family, version) in [(Family::V4, IpVersion::V4), (Family::V6, IpVersion::V6)] {
        let rules: Vec<_> =
            handle.rule().get(version).execute().try_collect().await.map_err(step("read the rules"))?;
        for rule in rules {
            let ours = RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
            // For a family it does not know, the kernel lists those of all others.
            if rule.header.family == address_family(family) && rule.attributes.contains(&ours) {
                handle.rule().del(rule).execute().await.map_err(step("remove the policy-routing rule"))?;
                removed += 1;
            }
        }
        for route in routes(handle, family).await? {
            handle.route().del(route).execute().await.map_err(step("remove the local route"))?;
            removed += 1;
        }
    }
    if removed > 0 {
        info!(removed, "policy routing removed");
    }
    Ok(removed)
}

/// Our routes in all tables. The kernel looks for them, so that a full table of the Internet's
/// routes is not copied here (`NETLINK_GET_STRICT_CHK`); an older one lists all.
async fn routes(handle: &Handle, family: Family) -> Result<Vec<RouteMessage>, Error> {
    let mut wanted = RouteMessage::default();
    wanted.header.address_family = address_family(family);
    wanted.header.protocol = RouteProtocol::Other(PROTOCOL);
    let found: Vec<_> =
        handle.route().get(wanted).execute().try_collect().await.map_err(step("read the routes"))?;
    let ours = |route: &RouteMessage| {
        route.header.protocol == RouteProtocol::Other(PROTOCOL)
            && route.header.address_family == address_family(family)
    };
    Ok(found.into_iter().filter(ours).collect())
}

/// `local default dev lo table TABLE`: whatever is looked up here is for this machine.
fn local_route(family: Family, table: u32) -> RouteMessage {
    let mut message = match family {
        Family::V4 => {
            RouteMessageBuilder::<Ipv4Addr>::new().table_id(table).output_interface(LOOPBACK).build()
        }
        Family::V6 => {
            RouteMessageBuilder::<Ipv6Addr>::new().table_id(table).output_interface(LOOPBACK).build()
        }
    };
    message.header.kind = RouteType::Local;
    message.header.scope = RouteScope::Host;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message
}

const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}
