//! The services of [`super::service_set::ServiceSet::Options`]: each with an option of its own, or for a protocol of its own.

use lb_core::desired::{Forwarder, Fragments, MssClamp, OnEmpty, Service, TtlExpired, Unserved};

use super::service_set::service;

/// Last bytes of the VIPs.
pub(crate) const PLAIN: u8 = 1;
pub(crate) const HASH3: u8 = 2;
pub(crate) const NO_FRAGMENTS: u8 = 3;
pub(crate) const SILENT: u8 = 4;
pub(crate) const REJECTING: u8 = 5;
pub(crate) const CLAMPED: u8 = 6;
pub(crate) const CLAMPED_TO_FIT: u8 = 7;
pub(crate) const SCTP: u8 = 8;
pub(crate) const SCTP_NAT: u8 = 9;
pub(crate) const NAT: u8 = 10;
pub(crate) const REJECTING_ALL: u8 = 11;

pub(crate) const NAT_CLAMPED: u8 = 12;
pub(crate) const DROPPING_UNSERVED: u8 = 13;
pub(crate) const REJECTING_UNSERVED: u8 = 14;

/// The MSS of [`CLAMPED`] and [`NAT_CLAMPED`].
pub(crate) const MSS: u16 = 1000;

/// One line a service: name, last byte of its VIPs, protocol, port, forwarder, backends.
pub(crate) fn services() -> Vec<Service> {
    use Forwarder::{Ipip, L2dsr, Nat};
    let one = ["10.0.0.1"];
    let down = ["10.0.0.208"];
    let nat = ["10.0.0.4", "2001:db8:b::4"];
    let mut all = vec![
        service("plain-udp", PLAIN, "udp", "53", L2dsr, &one),
        service("plain-tcp", PLAIN, "tcp", "80", L2dsr, &one),
        service("hash3", HASH3, "udp", "53", L2dsr, &one),
        service("no-fragments", NO_FRAGMENTS, "udp", "53", L2dsr, &one),
        service("silent", SILENT, "tcp", "80", L2dsr, &one),
        service("reject-tcp", REJECTING, "tcp", "80", L2dsr, &down),
        service("reject-udp", REJECTING, "udp", "53", L2dsr, &down),
        service("reject-sctp", REJECTING, "sctp", "3868", L2dsr, &down),
        service("reject-any", REJECTING_ALL, "tcp", "any", L2dsr, &[]),
        service("clamped", CLAMPED, "tcp", "80", L2dsr, &one),
        service(
            "clamped-to-fit",
            CLAMPED_TO_FIT,
            "tcp",
            "80",
            Ipip,
            &["10.0.0.97"],
        ),
        service("sctp", SCTP, "sctp", "3868", L2dsr, &one),
        service("sctp-any", SCTP_NAT, "sctp", "any", L2dsr, &one),
        service("sctp-nat", SCTP_NAT, "sctp", "3868", Nat, &nat),
        service(
            "nat-clamped",
            NAT_CLAMPED,
            "tcp",
            "80",
            Nat,
            &["10.0.0.5", "2001:db8:b::5"],
        ),
        service("drop-unserved", DROPPING_UNSERVED, "tcp", "80", L2dsr, &one),
        service("leave-unserved", DROPPING_UNSERVED, "udp", "53", L2dsr, &one),
        service("reject-unserved", REJECTING_UNSERVED, "tcp", "80", L2dsr, &one),
        service("nat-udp", NAT, "udp", "53", Nat, &nat),
        service("nat-tcp", NAT, "tcp", "80", Nat, &nat),
    ];
    for service in &mut all {
        match service.name.as_str() {
            "hash3" => service.fragments = Fragments::Hash3,
            "no-fragments" => service.fragments = Fragments::Drop,
            "silent" => service.ttl_expired = TtlExpired::Drop,
            "clamped" => service.mss_clamp = MssClamp::To(MSS),
            "nat-clamped" => {
                service.mss_clamp = MssClamp::To(MSS);
                service.ttl_expired = TtlExpired::Drop;
            }
            "clamped-to-fit" => service.mss_clamp = MssClamp::Auto,
            "drop-unserved" => {
                service.unserved = Unserved::Drop;
                service.vips.push("198.18.0.0/24".parse().unwrap());
            }
            "reject-unserved" => {
                service.unserved = Unserved::Reject;
                service.vips.push("198.18.0.128/25".parse().unwrap());
            }
            "plain-udp" => service.vips.push("198.18.0.200".parse().unwrap()),
            name if name.starts_with("reject") => service.on_empty = OnEmpty::Reject,
            _ => {}
        }
    }
    all
}

/// An address of that VIP and that port.
pub(crate) fn vip4(vip: u8, port: u16) -> String {
    format!("192.0.2.{vip}:{port}")
}

/// An IPv6 address of that VIP and that port.
pub(crate) fn vip6(vip: u8, port: u16) -> String {
    format!("[2001:db8::{vip:x}]:{port}")
}
