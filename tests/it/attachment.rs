//! The kernel program comes and goes.

use gateway::config::file::Attach;
use gateway::datapath::attach::{self, Hook, Role};
use gateway::datapath::object::{Kernel, Settings};
use gateway_tests::lab::{self, LAN, Lab, WAN};
use gateway_tests::process;

use crate::router::{Router, carry, client, connect, listen_on_server, on_router, settings};

#[test]
fn a_clsact_qdisc_goes_with_the_program_unless_it_was_there_before() -> anyhow::Result<()> {
    let clsact = Settings { attach: Attach::Clsact, ..settings() };
    let lab = Lab::new()?;
    lab.router().ip(&format!("link show {LAN}"))?;
    tc(&lab, &format!("qdisc add dev {WAN} clsact"))?;
    lab.router().enter(|| {
        let family = lab::Family::V4;
        let router = Router::start(&lab, &clsact)?;
        assert!(router.kernel.attached().all(|attached| attached.hook() == Hook::Clsact));
        assert!(tc(&lab, &format!("filter show dev {LAN} ingress"))?.contains("gateway_ingress"));
        let client_end = connect(lab.client(), client(family), family.smtp())?;
        let (accepted, _) = router.accept(family)?;
        carry(&client_end, &accepted, b"EHLO client\r\n")?;
        drop(router);
        assert!(!tc(&lab, &format!("qdisc show dev {LAN}"))?.contains("clsact"));
        assert!(tc(&lab, &format!("qdisc show dev {WAN}"))?.contains("clsact"));
        assert_eq!(tc(&lab, &format!("filter show dev {WAN} ingress"))?, "");
        assert_eq!(attach::sweep()?, 0);

        // A process that is killed takes nothing away.
        let mut killed = Kernel::load(&clsact)?;
        killed.attach(LAN, Role::default())?;
        killed.attach(WAN, Role::default())?;
        std::mem::forget(killed);
        assert!(tc(&lab, &format!("filter show dev {WAN} ingress"))?.contains("gateway_ingress"));
        // One filter for what comes in and one for what goes out, on both interfaces.
        assert_eq!(attach::sweep()?, 4);
        assert!(!tc(&lab, &format!("qdisc show dev {LAN}"))?.contains("clsact"));
        assert!(tc(&lab, &format!("qdisc show dev {WAN}"))?.contains("clsact"));
        assert_eq!(tc(&lab, &format!("filter show dev {WAN} ingress"))?, "");
        Ok(())
    })?
}

fn tc(lab: &Lab, arguments: &str) -> anyhow::Result<String> {
    process::done(lab.router().command("tc").args(arguments.split_whitespace()))
}

#[test]
fn a_program_that_is_detached_leaves_flows_to_the_server() -> anyhow::Result<()> {
    on_router(&settings(), |mut router| {
        let family = lab::Family::V4;
        let server = listen_on_server(router.lab, family)?;
        assert!(router.kernel.attached().all(|attached| attached.hook() == Hook::Tcx));
        let all: Vec<_> = router.kernel.attached().map(|attached| attached.index()).collect();
        for index in all {
            router.kernel.detach(index)?;
        }
        assert_eq!(router.kernel.attached().count(), 0);
        let direct = connect(router.lab.client(), client(family), family.smtp())?;
        let (_, seen) = server.accept()?;
        assert_eq!(seen, direct.local_addr()?);
        // And an interface that is gone is detached without complaint.
        let index = router.kernel.attach(LAN, Role::default())?.index();
        router.lab.router().ip(&format!("link del {LAN}"))?;
        router.kernel.detach(index)?;
        Ok(())
    })
}
