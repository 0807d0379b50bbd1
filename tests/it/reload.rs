//! A changed configuration takes effect without a session being lost; a bad one does not.

use std::sync::atomic::{AtomicBool, Ordering};

use gateway_tests::client::Client;
use gateway_tests::gateway::Settings;
use gateway_tests::lab::Family;
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

#[test]
fn no_connection_is_lost_while_the_configuration_is_reloaded_again_and_again() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let clients = scope.spawn(|| -> anyhow::Result<usize> {
            let mut greeted = 0;
            while !over.load(Ordering::SeqCst) {
                let mut client = Client::connect(bench.lab.client(), Family::V4.smtp())?;
                client.expect(220)?;
                client.send(b"QUIT\r\n")?;
                client.expect(221)?;
                greeted += 1;
            }
            Ok(greeted)
        });
        let reloads = (0..10).try_for_each(|_| -> anyhow::Result<()> {
            let (reloaded, said) = bench.gateway.control_command("reload")?;
            anyhow::ensure!(reloaded, "{said}");
            Ok(())
        });
        over.store(true, Ordering::SeqCst);
        let greeted = clients.join().expect("does not panic")?;
        reloads?;
        assert!(greeted > 0);
        Ok(())
    })
}
