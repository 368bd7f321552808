//! What is printed for people.

use std::time::{Duration, UNIX_EPOCH};

use etherparse::{PacketBuilder, ip_number};
use proptest::prelude::*;
use serde_json::json;

use crate::cli::{decode::decoded, list::listing};

#[test]
fn the_listing_reads_like_that_of_ipvsadm() {
    let backend = |address: &str, state: &str, reason: Option<&str>, share: f64, bits: f64| {
        json!({"address": address, "port": null, "weight": 1, "state": state, "reason": reason, "since": 1000.0,
            "share": share, "packets": 1, "bytes": 1, "flows": 120, "packets_per_second": 1.0,
            "bits_per_second": bits, "flows_per_second": 3.25})
    };
    let service = |name: &str, vips: &[&str], port, affinity: &str, backends: &[serde_json::Value]| {
        json!({"name": name, "vips": vips, "protocol": "tcp", "port": port, "forwarder": "ipip",
            "scheduler": "consistent", "affinity": affinity, "on_empty": "drop", "tracking": "changes",
            "window": "2m", "idle": "15m", "drain_deadline": "1h", "check": null, "slots": 64,
            "packets": 0, "bytes": 0, "flows": 0, "backends": backends})
    };
    let down = backend("10.0.0.6", "down", Some("connection refused"), 0.0, 0.0);
    let checking = backend("2001:db8::7", "checking", None, 0.0, 0.0);
    let backends = [backend("10.0.0.5", "up", None, 1.0, 1_234_567.0), down, checking];
    let web = service(
        "web",
        &["192.0.2.80", "2001:db8::80"],
        json!(80),
        "flow",
        &backends,
    );
    let rest = service("rest", &["192.0.2.81"], json!("any"), "client-ip", &[]);
    let view = serde_json::from_value(json!({"generation": 12, "services": [rest, web]})).expect("a view");
    let expected = "\
Generation 12, services: 2
Prot LocalAddress:Port Scheduler Forwarder Name Flags
  -> RemoteAddress:Port  Forward  Weight  State     Share   Flows  Flows/s  Rate
TCP  192.0.2.81:any consistent ipip rest affinity=client-ip
TCP  192.0.2.80:80 consistent ipip web
TCP  [2001:db8::80]:80 consistent ipip web
  -> 10.0.0.5:80         ipip     1       up        100.0%  120    3.2      1.2 Mbit/s
  -> 10.0.0.6:80         ipip     1       down      0.0%    120    3.2      0.0 bit/s   connection refused, for 1m 5s
  -> [2001:db8::7]:80    ipip     1       checking  0.0%    120    3.2      0.0 bit/s   for 1m 5s
";
    assert_eq!(listing(&view, UNIX_EPOCH + Duration::from_secs(1065)), expected);
}

#[test]
fn the_listing_shows_zones_and_drains() {
    let backend = |address: &str, state: &str, zone: Option<&str>, drain: Option<bool>| {
        let drain = drain.map(|leaving| {
            json!({"leaving": leaving, "flows": 12, "silent_seconds": 3.7, "over_in_seconds": 117.0, "ends_in_seconds": 597.0})
        });
        json!({"address": address, "port": null, "weight": 1, "state": state, "reason": null, "since": 1000.0,
            "zone": zone, "drain": drain, "share": 0.0, "packets": 1, "bytes": 1, "flows": 120,
            "packets_per_second": 1.0, "bits_per_second": 0.0, "flows_per_second": 0.0})
    };
    let backends = [
        backend("10.0.0.5", "up", Some("rack-2"), None),
        backend("10.0.0.6", "drain", None, Some(false)),
        backend("10.0.0.7", "drain", Some("b"), Some(true)),
    ];
    let web = json!({"name": "web", "vips": ["192.0.2.80"], "protocol": "tcp", "port": 80, "forwarder": "ipip",
        "scheduler": "maglev", "affinity": "flow", "on_empty": "drop", "tracking": "changes", "window": "2m",
        "idle": "15m", "drain_deadline": "1h", "check": null, "slots": 64, "packets": 0, "bytes": 0, "flows": 0,
        "backends": backends});
    let view = serde_json::from_value(json!({"generation": 12, "services": [web]})).expect("a view");
    let expected = "\
Generation 12, services: 1
Prot LocalAddress:Port Scheduler Forwarder Name Flags
  -> RemoteAddress:Port  Forward  Weight  State  Share  Flows  Flows/s  Rate       Zone
TCP  192.0.2.80:80 maglev ipip web
  -> 10.0.0.5:80         ipip     1       up     0.0%   120    0.0      0.0 bit/s  rack-2
  -> 10.0.0.6:80         ipip     1       drain  0.0%   120    0.0      0.0 bit/s          12 flows left, silent for \
        3s, over in 1m 57s if it stays so, ends in 9m 57s, for 1m 5s
  -> 10.0.0.7:80         ipip     1       drain  0.0%   120    0.0      0.0 bit/s  b       leaving, 12 flows left, \
        silent for 3s, over in 1m 57s if it stays so, ends in 9m 57s, for 1m 5s
";
    assert_eq!(listing(&view, UNIX_EPOCH + Duration::from_secs(1065)), expected);
}

#[test]
fn a_tunnelled_packet_is_decoded_inside_out() {
    let mut inner = Vec::new();
    let packet = PacketBuilder::ipv4([198, 51, 100, 7], [192, 0, 2, 80], 63).udp(1234, 53);
    packet.write(&mut inner, &[1, 2, 3]).expect("written");
    let mut frame = Vec::new();
    let outer = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv6([1; 16], [2; 16], 64);
    outer.write(&mut frame, ip_number::IPV4, &inner).expect("written");
    let expected = [
        "Ethernet 02:00:00:00:00:01 > 02:00:00:00:00:02, type 0x86dd",
        "IPv6 101:101:101:101:101:101:101:101 > 202:202:202:202:202:202:202:202, IPv4, hop limit 64, 71 bytes",
        "IPv4 198.51.100.7 > 192.0.2.80, UDP, TTL 63, 31 bytes",
        "UDP 1234 > 53, 3 bytes of payload",
    ];
    assert_eq!(decoded(&frame), expected);
    let cut = decoded(&frame[..60]);
    assert!(
        cut.last()
            .is_some_and(|line| line.contains("malformed") || line.contains("no IP packet")),
        "{cut:?}"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_decoded(mut frame in proptest::collection::vec(any::<u8>(), 0..200), kind in 0usize..3) {
        let _ = decoded(&frame);
        // Most noise is no IP; make some of it look like it.
        let types = [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00]];
        if frame.len() > 15 {
            frame[12..14].copy_from_slice(&types[kind]);
            frame[14] = [0x45, 0x60, 0x00][kind];
            let _ = decoded(&frame);
        }
    }
}
