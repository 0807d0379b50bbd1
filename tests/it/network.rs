//! The lab itself, without a gateway: what is not true here is no news about the gateway.

use gateway_tests::client::Client;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message;
use gateway_tests::recorder::{Manners, Recorder};

#[test]
fn the_router_forwards_both_families_and_the_recorder_keeps_every_octet() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    for family in [Family::V4, Family::V6] {
        let recorder = Recorder::start(lab.server(), family.smtp(), Manners::default())?;
        let mut client = Client::up_to_data(lab.client(), family.smtp())?;
        let sent = message::large("lab", 300_000, 1);
        client.send(&sent)?;
        client.send(message::END)?;
        client.expect(250)?;
        client.send(b"QUIT\r\n")?;
        client.expect(221)?;
        let connections = recorder.wait_closed(std::time::Duration::from_secs(5))?;
        assert_eq!(connections[0].peer, family.client());
        assert!(connections[0].messages == [sent]);
    }
    Ok(())
}
