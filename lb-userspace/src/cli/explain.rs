//! `lb explain`: what would the dataplane do with a packet?

use std::fmt::Write as _;

use clap::{Args, ValueEnum};

use super::{
    decode::decoded,
    output::{Failure, Output},
    status::sentence,
    words::Endpoint,
};
use crate::netlink::interface_name;
use lb_api::{
    client::Client,
    packet::{CLIENT_PORT, ExplainCid, ExplainRequest, FlowProtocol, PacketSpec, TcpFlags, from_hex},
    view::ExplainView,
};
use lb_core::desired::MacAddress;

#[derive(Args, Debug)]
#[command(
    override_usage = "lb explain [OPTIONS] <tcp|udp> <CLIENT[:PORT]> <VIP:PORT>\n       \
                      lb explain [OPTIONS] icmp <CLIENT> <VIP>\n       \
                      lb explain [OPTIONS] --hex <FRAME>",
    after_help = "\
The loaded program itself runs on the packet, with the tables in use; counters and tables stay as they are.

Examples:
  lb explain tcp 198.51.100.7:40000 192.0.2.80:80
  lb explain tcp '[2001:db8:1::7]:40000' '[2001:db8::80]:80' --flags A \\
      --size 1500
  lb explain udp 198.51.100.7 192.0.2.83:443 \\
      --connection-id 10c3f2a4b58d7e6f90112233445566778a
  lb explain icmp 198.51.100.7 192.0.2.80
  lb explain --hex '02 00 00 00 00 01 02 00 00 00 00 02 08 00 45 00 ...'"
)]
pub(super) struct ExplainArgs {
    /// What kind of packet; icmp is an echo request.
    #[arg(
        value_enum,
        requires = "client",
        requires = "vip",
        required_unless_present = "hex"
    )]
    protocol: Option<Protocol>,
    /// Who sends it; the port is 40000 where none is given.
    #[arg(value_name = "CLIENT[:PORT]")]
    client: Option<Endpoint>,
    /// Whom it is sent to.
    #[arg(value_name = "VIP[:PORT]")]
    vip: Option<Endpoint>,
    /// The flags of a TCP packet, letters of FSRPAU; S by default.
    #[arg(long, value_name = "LETTERS", conflicts_with = "hex")]
    flags: Option<TcpFlags>,
    /// The size of the IP packet in bytes; just its headers by default.
    #[arg(long, value_name = "N", conflicts_with = "hex")]
    size: Option<u16>,
    /// Only for udp: makes it a QUIC packet that is sent to this connection ID, in hexadecimal.
    #[arg(long, value_name = "HEX", conflicts_with = "hex")]
    connection_id: Option<ExplainCid>,
    /// The MAC that the frame is sent to; that of the interface by default.
    #[arg(long, value_name = "MAC", conflicts_with = "hex")]
    mac: Option<MacAddress>,
    /// An Ethernet frame in hexadecimal, without its checksum; blanks and colons are ignored.
    #[arg(long, value_name = "FRAME", conflicts_with_all = ["protocol", "client", "vip"])]
    hex: Option<String>,
    /// The interface it arrives on; the first one of the agent by default.
    #[arg(long, value_name = "IFACE", value_parser = interface_name)]
    iface: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

impl ExplainArgs {
    pub(super) async fn execute(self, client: &Client, json: bool) -> Result<Output, Failure> {
        let request = self.request()?;
        let view = client.explain(&request).await?;
        let text = text(&view)?;
        Output::either(json, &view, || text)
    }

    /// The question, with a packet that can be.
    pub(super) fn request(self) -> Result<ExplainRequest, Failure> {
        let Self {
            protocol,
            client,
            vip,
            flags,
            size,
            connection_id,
            mac,
            hex,
            iface,
        } = self;
        let flow = match (protocol, client, vip) {
            (Some(protocol), Some(client), Some(vip)) => Some(PacketSpec {
                size,
                connection_id,
                mac,
                ..flow(protocol, client, vip, flags)?
            }),
            _ => None,
        };
        let request = ExplainRequest {
            frame_hex: hex,
            flow,
            interface: iface,
        };
        request.frame()?;
        Ok(request)
    }
}

fn flow(
    protocol: Protocol,
    client: Endpoint,
    vip: Endpoint,
    flags: Option<TcpFlags>,
) -> Result<PacketSpec, Failure> {
    let bad = |message: &str| Err(Failure::BadInput(message.into()));
    let protocol = match protocol {
        Protocol::Tcp => FlowProtocol::Tcp,
        Protocol::Udp => FlowProtocol::Udp,
        Protocol::Icmp => FlowProtocol::Icmp,
    };
    if protocol == FlowProtocol::Icmp && (client.port.is_some() || vip.port.is_some()) {
        return bad("an icmp packet has no ports: expected `lb explain icmp CLIENT VIP`");
    }
    if protocol != FlowProtocol::Tcp && flags.is_some() {
        return bad("only a tcp packet has flags: leave --flags out");
    }
    Ok(PacketSpec {
        protocol,
        client: client.address,
        client_port: client.port.unwrap_or(CLIENT_PORT),
        vip: vip.address,
        vip_port: vip.port,
        flags: flags.unwrap_or_default(),
        size: None,
        connection_id: None,
        mac: None,
    })
}

fn text(view: &ExplainView) -> Result<String, Failure> {
    let mut text = String::new();
    let mut put = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10}{value}");
    };
    put("action", &view.action);
    put("reason", &format!("{} ({})", view.reason, view.reason_code));
    put("", &view.meaning.split_whitespace().collect::<Vec<_>>().join(" "));
    put("service", view.service.as_deref().unwrap_or("none"));
    put("backend", view.backend.as_deref().unwrap_or("none"));
    put("slot", &view.slot.map_or("none".into(), |slot| slot.to_string()));
    if view.backend.is_some() {
        put(
            "found",
            &format!("{}: {}", view.placement, view.placement_meaning),
        );
    }
    put("interface", &view.interface);
    for outage in &view.outages {
        put("OUTAGE", &sentence(outage));
    }
    for (name, hex) in [("in", Some(&view.in_hex)), ("out", view.out_hex.as_ref())] {
        let Some(hex) = hex else { continue };
        let mut name = name;
        for line in decoded(&from_hex(hex)?) {
            put(name, &line);
            name = "";
        }
    }
    Ok(text)
}
