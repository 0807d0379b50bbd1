//! Sessions whose two connections have other TCP options than usual, on a network that loses packets.

use anyhow::Context as _;
use gateway_tests::lab::Lab;
use gateway_tests::netns::Netns;

use super::impaired::lose;
use super::{directly, on_router};
use crate::router::FAMILIES;

/// What is different in a lab.
type SetUp = fn(&Lab) -> anyhow::Result<()>;

/// Streams through sessions of both families in a lab that `set_up` has changed, while segments are lost
/// on both sides.
fn streams_with_loss(set_up: SetUp) -> anyhow::Result<()> {
    on_router(|mut router| {
        let lab = router.lab;
        set_up(lab)?;
        for netns in [lab.client(), lab.server()] {
            lose(netns)?;
        }
        for family in FAMILIES {
            let direct = directly(&mut router, family)?;
            direct.stream(3_000_000, 17).with_context(|| format!("{family:?}"))?;
            direct.close(true)?;
        }
        Ok(())
    })
}

fn without(netns: &Netns, options: &[&str]) -> anyhow::Result<()> {
    options.iter().try_for_each(|option| netns.sysctl(&format!("ipv4/tcp_{option}"), "0"))
}

fn both_without(lab: &Lab, options: &[&str]) -> anyhow::Result<()> {
    without(lab.client(), options)?;
    without(lab.server(), options)
}

#[test]
fn without_timestamps_lost_segments_are_sent_again() -> anyhow::Result<()> {
    streams_with_loss(|lab| both_without(lab, &["timestamps"]))
}

#[test]
fn without_selective_acknowledgements_lost_segments_are_sent_again() -> anyhow::Result<()> {
    streams_with_loss(|lab| both_without(lab, &["sack"]))?;
    streams_with_loss(|lab| both_without(lab, &["sack", "timestamps"]))
}

#[test]
fn windows_are_scaled_from_what_one_end_says_to_what_the_other_expects() -> anyhow::Result<()> {
    // No scale at either end, or at both; and another scale than the router's.
    let kinds: [SetUp; 5] = [
        |lab| without(lab.client(), &["window_scaling"]),
        |lab| without(lab.server(), &["window_scaling"]),
        |lab| both_without(lab, &["window_scaling"]),
        |lab| lab.client().sysctl("ipv4/tcp_rmem", "4096 131072 200000"),
        |lab| lab.server().sysctl("ipv4/tcp_rmem", "4096 131072 200000"),
    ];
    kinds
        .into_iter()
        .enumerate()
        .try_for_each(|(kind, set_up)| streams_with_loss(set_up).with_context(|| format!("kind {kind}")))
}

#[test]
fn an_end_that_takes_larger_segments_than_the_other_gets_no_larger_ones() -> anyhow::Result<()> {
    streams_with_loss(|lab| lab.client().ip("link set eth0 mtu 9000").map(drop))?;
    streams_with_loss(|lab| lab.server().ip("link set eth0 mtu 9000").map(drop))
}
