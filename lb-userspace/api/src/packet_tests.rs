//! Packets in words and in hexadecimal.

use etherparse::SlicedPacket;
use proptest::prelude::*;

use super::{ExplainCid, ExplainRequest, FlowProtocol, MAX_FRAME, PacketSpec, TcpFlags, from_hex, to_hex};

fn flow(protocol: FlowProtocol, client: &str, vip: &str) -> PacketSpec {
    PacketSpec {
        protocol,
        client: client.parse().expect("an address"),
        client_port: 1234,
        vip: vip.parse().expect("an address"),
        vip_port: Some(80),
        flags: TcpFlags::default(),
        size: None,
        connection_id: None,
        mac: None,
    }
}

#[test]
fn has_the_size_that_is_asked_for() {
    for protocol in [FlowProtocol::Tcp, FlowProtocol::Udp, FlowProtocol::Icmp] {
        for (client, vip) in [("192.0.2.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::2")] {
            let mut flow = flow(protocol, client, vip);
            let least = flow.frame().expect("a frame").len() - 14;
            for size in [least, 576, 1500, MAX_FRAME - 14] {
                flow.size = size.try_into().ok();
                let frame = flow.frame().expect("a frame");
                assert_eq!(frame.len(), size + 14);
                let parsed = SlicedPacket::from_ethernet(&frame).expect("well formed");
                assert!(parsed.net.is_some() && parsed.transport.is_some());
            }
            for size in [0, least - 1, MAX_FRAME - 13] {
                flow.size = size.try_into().ok();
                assert!(flow.frame().is_err(), "{size}");
            }
        }
    }
}

#[test]
fn a_connection_id_makes_a_quic_packet() {
    let quic = PacketSpec {
        connection_id: Some("c0:ff ee".parse().expect("a connection ID")),
        ..flow(FlowProtocol::Udp, "192.0.2.1", "10.0.0.1")
    };
    let frame = quic.frame().expect("a frame");
    let payload = &frame[14 + 20 + 8..];
    // A short header, and as many bytes as the longest connection ID has.
    assert_eq!(
        (payload.len(), &payload[..5]),
        (21, &[0x40, 0xc0, 0xff, 0xee, 0][..])
    );
    let longer = PacketSpec {
        size: Some(100),
        ..quic
    };
    assert_eq!(longer.frame().expect("a frame").len(), 114);
    for bad in ["", "0", "x", &"00".repeat(21)] {
        assert!(bad.parse::<ExplainCid>().is_err(), "{bad:?}");
    }
}

#[test]
fn refuses_what_does_not_fit_together() {
    assert!(
        flow(FlowProtocol::Tcp, "192.0.2.1", "2001:db8::2")
            .frame()
            .is_err()
    );
    let portless = PacketSpec {
        vip_port: None,
        ..flow(FlowProtocol::Udp, "192.0.2.1", "10.0.0.1")
    };
    assert!(portless.frame().is_err());
    let ping = PacketSpec {
        vip_port: None,
        ..flow(FlowProtocol::Icmp, "192.0.2.1", "10.0.0.1")
    };
    ping.frame().expect("a ping has no port");
    let quic = PacketSpec {
        connection_id: Some("01".parse().expect("a connection ID")),
        ..flow(FlowProtocol::Tcp, "192.0.2.1", "10.0.0.1")
    };
    assert!(quic.frame().is_err());
    let both = ExplainRequest {
        frame_hex: Some("00".repeat(60)),
        flow: Some(ping),
        interface: None,
    };
    assert!(both.frame().is_err());
}

#[test]
fn flags_are_letters() {
    assert_eq!("sa".parse::<TcpFlags>().expect("flags").to_string(), "SA");
    assert_eq!("FSRPAU".parse::<TcpFlags>().expect("flags").to_string(), "FSRPAU");
    assert_eq!("".parse::<TcpFlags>().expect("flags").to_string(), "");
    assert!("SX".parse::<TcpFlags>().is_err());
}

#[test]
fn hexadecimal_may_be_written_as_tools_do() {
    for text in ["0a0b0c", "0A:0b:0C", "0x0a0b0c", " 0a 0b\n0c ", "0a-0b-0c"] {
        assert_eq!(from_hex(text).expect(text), [10, 11, 12]);
    }
    assert!(from_hex("0a0").expect_err("half a byte").message.contains("odd"));
    assert!(from_hex("0ä").is_err());
    assert!(from_hex(&"00".repeat(MAX_FRAME + 1)).is_err());
}

proptest! {
    #[test]
    fn hexadecimal_survives(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        prop_assert_eq!(from_hex(&to_hex(&bytes)), Ok(bytes));
    }

    #[test]
    fn any_text_is_a_frame_or_an_error(text in "\\PC{0,60}") {
        let request = ExplainRequest { frame_hex: Some(text), ..ExplainRequest::default() };
        let _ = request.frame();
    }
}
