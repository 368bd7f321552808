//! Packet cases: each runs on the host build of the pipeline and in the kernel, and both must do what the row says.

mod bystanders;
mod forward;
mod host;
mod icmp;
mod malformed;
mod nat;
mod routes;
mod row;
mod verdict;
mod world;

use host::{Host, INTERFACES};
use row::Row;
use world::World;

fn all() -> Vec<Row> {
    [
        forward::rows(),
        nat::rows(),
        icmp::rows(),
        bystanders::rows(),
        malformed::rows(),
    ]
    .concat()
}

/// Runs the rows of every world and reports all that go wrong.
#[test]
fn rows_hold_on_the_host() {
    let mut wrong = Vec::new();
    for world in World::ALL {
        let mut host = Host::new(world, INTERFACES);
        for row in all().iter().filter(|row| row.world == world) {
            if let Err(error) = host.run(&row.input).check(row, &host.layout) {
                wrong.push(format!("{}: {error:#}", row.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
