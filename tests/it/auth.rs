//! What AUTH changes, seen from outside.

use gateway_tests::gateway::Settings;
use gateway_tests::message::{self, END};
use gateway_tests::recorder::Manners;

use crate::bench::Bench;

#[test]
fn with_auth_skip_direct_a_client_that_the_server_knows_is_not_read_and_others_are() -> anyhow::Result<()> {
    let mut manners = Manners::default();
    manners.keywords.push("AUTH PLAIN".to_owned());
    let more = "auth:\n  skip: [direct]\n".to_owned();
    let bench = Bench::with(|settings| Settings { more, ..settings }, manners)?;
    let mut stranger = bench.up_to_data()?;
    stranger.send(&message::infected("from a stranger"))?;
    stranger.send(END)?;
    stranger.expect(550)?;
    drop(stranger);

    let mut known = bench.greeted()?;
    known.send(b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n")?;
    known.expect(235)?;
    known.begin_data()?;
    let sent = message::infected("of one that the server knows");
    known.send(&sent)?;
    known.send(END)?;
    known.expect(250)?;
    known.send(b"QUIT\r\n")?;
    known.expect(221)?;
    drop(known);
    bench.seen()?;
    assert_eq!(bench.server.messages(), [sent]);
    let record = bench.gateway.wait_for_log("lane=splice")?;
    assert!(record.contains("authenticated=true"), "{record}");
    assert!(!bench.gateway.log().contains("AGJvYgBzZWNyZXQ="), "the log has the password");
    Ok(())
}
