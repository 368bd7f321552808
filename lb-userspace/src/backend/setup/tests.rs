use super::*;
use crate::backend::decap::PIN_DIR;
use crate::dataplane::Mode;
use lb_core::desired::{Forwarder, Prefix};

/// A kernel that lacks these modules.
struct Without(&'static [&'static str]);

impl Kernel for Without {
    fn has(&self, module: &str) -> bool {
        !self.0.contains(&module)
    }
}

const ALL: Without = Without(&[]);

fn need(forwarders: &[Forwarder], vips: &[&str]) -> ServiceNeed {
    let vips: Vec<Prefix> = vips.iter().map(|vip| vip.parse().unwrap()).collect();
    ServiceNeed {
        outer: Families::of(vips.iter().map(|vip| vip.address())),
        vips,
        forwarders: forwarders.to_vec(),
        tunnel_port: None,
    }
}

fn options() -> SetupOptions {
    SetupOptions {
        interface: "eth0".into(),
        vrf: None,
        via: Vec::new(),
        mtu: None,
        decap: false,
        mode: Mode::Native,
        pin_dir: PIN_DIR.into(),
    }
}

fn commands(need: &ServiceNeed, options: &SetupOptions, kernel: &impl Kernel) -> Vec<String> {
    let plan = plan(need, options, kernel).unwrap();
    plan.steps.iter().map(ToString::to_string).collect()
}

#[test]
fn whoever_owns_a_vip_is_silent_before_it_has_it() {
    let need = need(
        &[Forwarder::L2dsr],
        &["192.0.2.80", "2001:db8::80", "198.51.100.0/24"],
    );
    assert_eq!(
        commands(&need, &options(), &ALL),
        [
            "sysctl -w net/ipv4/conf/all/arp_ignore=1",
            "sysctl -w net/ipv4/conf/all/arp_announce=2",
            "sysctl -w net/ipv4/conf/eth0/rp_filter=2",
            "ip address replace 192.0.2.80/32 dev lo",
            "ip address replace 2001:db8::80/128 dev lo",
            "ip route replace local 198.51.100.0/24 dev lo",
        ]
    );
}

#[test]
fn forwarders_that_translate_leave_the_vip_to_the_balancer() {
    let nat = need(&[Forwarder::Nat], &["192.0.2.80", "2001:db8::80"]);
    let refusal = plan(&nat, &options(), &ALL).unwrap_err();
    assert!(refusal.contains("--via"), "{refusal}");
    let through = SetupOptions {
        via: vec!["2001:db8:1::2".parse().unwrap(), "10.0.0.2".parse().unwrap()],
        ..options()
    };
    assert_eq!(
        commands(&nat, &through, &ALL),
        [
            "ip route replace default via 10.0.0.2",
            "ip -6 route replace default via 2001:db8:1::2"
        ]
    );
    let local = need(&[Forwarder::Local], &["192.0.2.80"]);
    assert_eq!(
        commands(&local, &options(), &ALL),
        ["ip address replace 192.0.2.80/32 dev lo"],
        "of the balancer itself"
    );
    let fullnat = plan(&need(&[Forwarder::Fullnat], &["192.0.2.80"]), &options(), &ALL).unwrap();
    assert!(fullnat.steps.is_empty(), "{fullnat:?}");
    assert_eq!(fullnat.notes, ["fullnat needs nothing of a backend"]);
}

#[test]
fn in_a_vrf_everything_is_the_vrfs() {
    let in_red = SetupOptions {
        vrf: Some("red".into()),
        via: vec!["2001:db8:1::2".parse().unwrap()],
        ..options()
    };
    assert_eq!(
        commands(
            &need(&[Forwarder::Gue], &["2001:db8::80", "2001:db8:9::/64"]),
            &in_red,
            &ALL
        ),
        [
            "ip address replace 2001:db8::80/128 dev red",
            "ip -6 route replace local 2001:db8:9::/64 dev red vrf red",
            "sysctl -w net/ipv4/udp_l3mdev_accept=1",
            "modprobe fou6",
            "ip -6 fou add port 6080 gue",
            "modprobe ip6_tunnel",
            "ip -6 tunnel add lb-ip6 mode any local any remote any dev eth0",
            "ip link set lb-ip6 master red",
            "ip link set lb-ip6 up",
            "sysctl -w net/ipv4/conf/lb-ip6/rp_filter=2"
        ]
    );
    assert_eq!(
        commands(&need(&[Forwarder::Nat], &["2001:db8::80"]), &in_red, &ALL),
        ["ip -6 route replace default via 2001:db8:1::2 vrf red"]
    );
    let plan = plan(&need(&[Forwarder::L2dsr], &["2001:db8::80"]), &in_red, &ALL).unwrap();
    assert!(
        plan.notes.iter().any(|note| note.contains("ip vrf exec red")),
        "{plan:?}"
    );
}

/// What ends the tunnel, behind what owns the VIPs.
fn tunnel_commands(forwarder: Forwarder, vips: &[&str], kernel: &impl Kernel) -> Vec<String> {
    let owned = commands(&need(&[Forwarder::L2dsr], vips), &options(), kernel).len();
    commands(&need(&[forwarder], vips), &options(), kernel).split_off(owned)
}

#[test]
fn devices_end_tunnels_where_the_kernel_has_them() {
    assert_eq!(
        tunnel_commands(Forwarder::Ipip, &["192.0.2.80"], &ALL),
        [
            "modprobe ipip",
            "ip link set tunl0 up",
            "sysctl -w net/ipv4/conf/tunl0/rp_filter=2"
        ]
    );
    assert_eq!(
        tunnel_commands(Forwarder::Gue, &["2001:db8::80"], &ALL),
        [
            "modprobe fou6",
            "ip -6 fou add port 6080 gue",
            "modprobe ip6_tunnel",
            "ip -6 tunnel change ip6tnl0 mode any",
            "ip link set ip6tnl0 up",
            "sysctl -w net/ipv4/conf/ip6tnl0/rp_filter=2"
        ]
    );
    let fou = ServiceNeed {
        tunnel_port: std::num::NonZeroU16::new(7777),
        ..need(&[Forwarder::Fou], &["192.0.2.80"])
    };
    let fou = commands(&fou, &options(), &ALL);
    assert!(
        fou.contains(&"ip fou add port 7777 ipproto 4".to_owned()),
        "{fou:?}"
    );
    let gre = tunnel_commands(Forwarder::Gre, &["192.0.2.80", "2001:db8::80"], &ALL);
    for device in ["gre0", "ip6gre0"] {
        assert!(gre.contains(&format!("ip link set {device} up")), "{gre:?}");
    }
}

#[test]
fn lb_decap_ends_them_where_it_does_not() {
    let without = Without(&["sit"]);
    assert_eq!(
        tunnel_commands(Forwarder::Ipip, &["192.0.2.80"], &without).len(),
        3,
        "sit is for IPv6 in IPv4"
    );
    let crossing = ServiceNeed {
        outer: Families { v4: true, v6: false },
        ..need(&[Forwarder::Ipip], &["2001:db8::80"])
    };
    let plan = plan(&crossing, &options(), &without).unwrap();
    assert!(
        plan.notes.iter().any(|note| note.contains("no module sit")),
        "{plan:?}"
    );
    let last = plan.steps.last().unwrap().to_string();
    assert_eq!(last, "lb decap --iface eth0 --tunnel ipip --keep");
    let fou = tunnel_commands(Forwarder::Fou, &["192.0.2.80", "2001:db8::80"], &ALL);
    assert_eq!(
        fou,
        ["lb decap --iface eth0 --tunnel fou --keep"],
        "one port takes one family"
    );
}

#[test]
fn what_is_printed_for_lb_decap_is_what_it_takes() {
    let step = SetupStep::Decap {
        interface: "eth0".into(),
        mode: Mode::Generic,
        tunnels: [(Forwarder::Gue, [7777].into()), (Forwarder::Gre, [].into())].into(),
        pin_dir: "/mnt/bpf".into(),
    };
    assert_eq!(
        step.to_string(),
        "lb decap --iface eth0 --tunnel gue,gre --gue-port 7777 --mode generic --keep --pin-dir /mnt/bpf"
    );
    let usual = SetupStep::Decap {
        interface: "eth0".into(),
        mode: Mode::Native,
        tunnels: [(Forwarder::Gue, [6080].into()), (Forwarder::Fou, [5555].into())].into(),
        pin_dir: "/mnt/bpf".into(),
    };
    assert_eq!(
        usual.clone().widened(&step).to_string(),
        "lb decap --iface eth0 --tunnel gue,fou,gre --gue-port 6080,7777 --keep --pin-dir /mnt/bpf",
        "what another service needs stays"
    );
    let elsewhere = SetupStep::Decap {
        interface: "eth1".into(),
        mode: Mode::Native,
        tunnels: [].into(),
        pin_dir: "/mnt/bpf".into(),
    };
    assert!(usual.is_same_decap(&step) && !usual.is_same_decap(&elsewhere));
}

#[test]
fn the_mtu_that_a_tunnel_asks_for_is_named() {
    for (forwarder, vip, mtu) in [
        (Forwarder::Ipip, "192.0.2.80", "1520"),
        (Forwarder::Gue, "192.0.2.80", "1532"),
        (Forwarder::Fou, "2001:db8::80", "1548"),
        (Forwarder::Gre, "2001:db8::80", "1544"),
    ] {
        let notes = plan(&need(&[forwarder], &[vip]), &options(), &ALL).unwrap().notes;
        assert!(
            notes.iter().any(|note| note.contains(mtu)),
            "{forwarder}: {notes:?}"
        );
    }
}

#[test]
fn what_was_changed_is_remembered_until_it_is_undone() {
    let directory = tempfile::tempdir().unwrap();
    let change = |address: &str| {
        let address = address.parse().unwrap();
        SetupChange {
            step: SetupStep::Address { address, vrf: None },
            undo: Undo::RemoveAddress { address, vrf: None },
        }
    };
    let (first, second) = (change("192.0.2.80"), change("2001:db8::80"));
    let mut done = Done::load(directory.path()).unwrap();
    done.add(first.clone()).unwrap();
    done.add(second.clone()).unwrap();
    let mut later = Done::load(directory.path()).unwrap();
    assert!(later.has(&first.step));
    assert_eq!(later.last(), Some(&second));
    later.remove_last().unwrap();
    assert_eq!(later.last(), Some(&first));
    later.remove_last().unwrap();
    assert!(
        std::fs::read_dir(directory.path()).unwrap().next().is_none(),
        "no file is left"
    );
}
