//! As many networks as `gateway check` lets through are put in force, and one more is refused before anything is.

use std::fmt::Write as _;

use anyhow::ensure;
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::recorder::{Manners, Recorder};

const ROOM: usize = 65_536;

/// So many networks of one customer each, below `first`, a thousand on a line.
fn networks(first: u8, count: usize) -> String {
    let mut list = String::new();
    for number in 0..count {
        let line = if number % 1_000 == 0 { "\n     " } else { "" };
        write!(list, "{line}{first}{:x}:{:x}::/48,", number >> 12, number & 0xfff).ok();
    }
    list
}

fn settings(sections: String) -> Settings {
    Settings { more: sections, ..Settings::default() }
}

#[test]
fn what_the_check_lets_through_the_kernel_has_room_for_at_the_start_and_at_reloads() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    // The one that the test uses is the last to be put into the map.
    let lanes = |count| format!("lanes:\n  - {{lane: block, client: [{}192.0.2.2]}}\n", networks(1, count));
    let gateway = Gateway::start(&lab, &settings(lanes(ROOM - 1)))?;
    ensure!(Client::connect(lab.client(), Family::V4.smtp()).is_err(), "the last network is not in force");

    let exempt = |first| format!("locks:\n  exempt: [{}]\n", networks(first, ROOM));
    let limited = |first| format!("clients:\n  networks: [{{client: [{}]}}]\n", networks(first, ROOM));
    // Others in the place of those that are there, too.
    for more in [exempt(2), exempt(3), limited(2)] {
        gateway.write_settings(&settings(more))?;
        let (reloaded, said) = gateway.control_command("reload")?;
        ensure!(reloaded, "{said}");
        Client::greeted(lab.client(), Family::V4.smtp())?;
    }

    gateway.write_settings(&settings(lanes(ROOM)))?;
    let (reloaded, said) = gateway.control_command("reload")?;
    ensure!(!reloaded && said.contains("65537 client networks"), "{said}");
    ensure!(said.contains("write neighbouring networks as one larger one"), "{said}");
    Client::greeted(lab.client(), Family::V4.smtp())?;
    ensure!(!gateway.log().contains("the kernel refuses"), "{}", gateway.log());
    drop(server);
    Ok(())
}
