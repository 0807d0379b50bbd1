//! Handed-off sessions on networks that lose packets.

use super::on_router;
use crate::router::{FAMILIES, listen_on_server};
#[test]
fn lost_packets_are_sent_again_and_fill_the_right_gaps() -> anyhow::Result<()> {
    on_router(|mut router| {
        for netns in [router.lab.client(), router.lab.server()] {
            let mut nft = netns.command("nft");
            nft.arg(
                "add table inet loss; add chain inet loss in { type filter hook input priority 0; }; \
                 add rule inet loss in meta l4proto tcp numgen inc mod 61 == 7 drop",
            );
            gateway_tests::process::done(&mut nft)?;
        }
        for family in FAMILIES {
            for source in [family.client(), family.router()] {
                let server = listen_on_server(router.lab, family)?;
                let session = router.session(&server, family, source)?;
                let direct = router.direct(session)?;
                direct.stream(6_000_000, 11)?;
                direct.close(true)?;
            }
        }
        Ok(())
    })
}
