//! A changed configuration takes effect without a session being lost; a bad one does not.

use gateway_tests::gateway::Settings;
use gateway_tests::message;

use crate::bench::Bench;

/// Sends EICAR; the reply's code shows whether anybody scans.
fn eicar_reply(bench: &Bench) -> anyhow::Result<u16> {
    let mut client = bench.up_to_data()?;
    client.send(&message::infected("reload"))?;
    client.send(message::END)?;
    Ok(client.reply()?.code)
}

#[test]
fn a_bad_file_keeps_the_old_configuration_and_says_why() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    bench.gateway.write_config("scan:\n  clamd: nonsense\nno-such-key: 1\n")?;
    let (reloaded, said) = bench.gateway.control_command("reload")?;
    assert!(!reloaded, "{said}");
    assert!(said.contains("no-such-key"), "{said}");
    assert_eq!(eicar_reply(&bench)?, 550);
    bench.gateway.hang_up()?;
    bench.gateway.wait_for_log("no-such-key")?;
    assert_eq!(eicar_reply(&bench)?, 550);
    Ok(())
}

#[test]
fn a_good_file_takes_effect_and_open_sessions_go_on() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut open = bench.up_to_data()?;
    open.send(b"Subject: open\r\n\r\nfirst half\r\n")?;
    bench.gateway.write_settings(&Settings::default())?;
    let (reloaded, said) = bench.gateway.control_command("reload")?;
    assert!(reloaded, "{said}");
    // The new configuration has no scanner.
    assert_eq!(eicar_reply(&bench)?, 250);
    open.send(b"second half\r\n.\r\n")?;
    open.expect(250)?;
    assert_eq!(bench.server.messages().len(), 2);
    Ok(())
}
