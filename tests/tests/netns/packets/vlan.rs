//! Clients whose packets carry VLAN tags: the balancer looks at what is inside, and its own answers carry the same.

use lb_lab::{Forwarder, Tags};

use super::{Rig, services, transfer};
use crate::support::{LIMIT, allow_ping, lab, ping};

fn tagged_clients_are_served(tags: Tags) {
    let mut lab = lab(Forwarder::Ipip, 1);
    lab.tag_client(0, tags).unwrap();
    let config = services(&lab, Forwarder::Ipip, |service| service);
    let rig = Rig::new(lab, &config);
    allow_ping(&rig.client().namespace);
    for &vip in &rig.lab.options().vips {
        transfer(&rig, vip);
        assert!(ping(rig.client(), vip, LIMIT), "{vip}");
    }
    assert_eq!(rig.count("echo-reply"), 2);
    assert_eq!(rig.drops(), []);
}

#[test]
fn clients_with_one_tag_are_served() {
    tagged_clients_are_served(Tags::One);
}

#[test]
fn clients_with_two_tags_are_served() {
    tagged_clients_are_served(Tags::Two);
}
