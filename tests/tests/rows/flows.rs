//! Many flows: how a service's packets spread over its backends, the same on the host and in the kernel.

use std::collections::HashMap;

use anyhow::Result;
use lb_common::abi::Reason;
use lb_packets::{Frame, flow_hash};
use lb_world::SEED;

use super::{
    host::{Host, INTERFACES},
    kernel::Kernel,
    service_set::ServiceSet,
    verdict::Verdict,
};

const PORTS: std::ops::Range<u16> = 1024..1324;
const CLIENTS: [&str; 2] = ["198.51.100.77", "2001:db8:c::77"];

fn frame(client: &str, port: u16, vip: u8) -> Frame {
    if client.contains(':') {
        Frame::tcp(&format!("[{client}]:{port}"), &format!("[2001:db8::{vip:x}]:80"))
    } else {
        Frame::tcp(&format!("{client}:{port}"), &format!("192.0.2.{vip}:80"))
    }
}

/// Sends one packet of each flow and returns how often each target was chosen. Slots are checked on the way.
fn targets(
    client: &str,
    vip: u8,
    sticky: bool,
    mut run: impl FnMut(&[u8]) -> Result<Verdict>,
) -> HashMap<u32, u32> {
    let mut chosen = HashMap::new();
    for port in PORTS {
        let frame = frame(client, port, vip);
        let verdict = run(&frame.bytes()).unwrap();
        assert_eq!(verdict.reason, Reason::Forwarded);
        let ports = if sticky { [0, 0] } else { [port, 80] };
        let hash = flow_hash(frame.source, ports, SEED);
        // Four backends get 512 slots.
        assert_eq!(verdict.slot, Some((hash >> 48) as u32 % 512), "from port {port}");
        *chosen.entry(verdict.target.unwrap()).or_default() += 1;
    }
    chosen
}

fn check(mut run: impl FnMut(&[u8]) -> Result<Verdict>) {
    for client in CLIENTS {
        let spread = targets(client, 8, false, &mut run);
        assert_eq!(spread.len(), 4, "all backends get flows: {spread:?}");
        // 75 flows each on average; a binomial spread leaves this range once in some thousand million times.
        assert!(spread.values().all(|n| (30..=120).contains(n)), "{spread:?}");
        let sticky = targets(client, 9, true, &mut run);
        assert_eq!(
            sticky.len(),
            1,
            "one backend gets all flows of a client: {sticky:?}"
        );
    }
}

#[test]
fn flows_spread_unless_the_client_decides_on_the_host() {
    let mut host = Host::new(ServiceSet::Full, INTERFACES);
    check(|frame| Ok(host.run(frame)));
}

#[test]
fn flows_spread_unless_the_client_decides_in_the_kernel() {
    let kernel = Kernel::new().unwrap();
    let mut host = Host::new(ServiceSet::Full, kernel.interfaces);
    let checked = kernel.with_loaded(ServiceSet::Full, |loaded| {
        check(|frame| {
            let verdict = loaded.explain(frame)?;
            assert_eq!(verdict, host.run(frame), "host and kernel agree");
            Ok(verdict)
        });
        Ok(())
    });
    checked.unwrap();
}
