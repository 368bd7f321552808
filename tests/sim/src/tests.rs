//! Short runs.

use std::time::Duration;

use super::{
    kinds::{self, Kind},
    run::{Run, Scenario},
    services,
};

#[test]
fn no_flow_breaks_under_overlapping_changes() {
    let scenario = Scenario {
        name: "short",
        plots: services::MANY,
        mix: kinds::ALL,
        seed: 3,
        flows: 30_000,
        changes: 200,
        entries: 1 << 16,
        pace: Duration::from_secs(3),
        overlaps: true,
    };
    let tally = Run::new(scenario).unwrap().run(|_| {}).unwrap();
    assert_eq!(tally.breaks, 0, "{tally:?}");
    assert_eq!(tally.refused, 0, "{tally:?}");
    // A drain between a client's FIN and its last ACK makes that look like a connection that goes on.
    assert!(tally.strays < 10, "{tally:?}");
    assert!(
        tally.flows >= scenario.flows && tally.all_changes() >= scenario.changes,
        "{tally:?}"
    );
    assert!(tally.changes.contains_key(&Kind::Forwarder), "{tally:?}");
    // The same changes break flows where nothing is done about it, or the test would prove nothing.
    assert!(
        tally.stateless_breaks > 1000 && tally.syn_rule_breaks > 100,
        "{tally:?}"
    );
}
