//! Routes as messages of the kernel: how they are made, read and compared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use rtnetlink::{
    RouteMessageBuilder,
    packet_core::{Emitable, Parseable},
    packet_route::{
        AddressFamily,
        route::{RouteAttribute, RouteMessage},
    },
};

/// The metric of IPv6 routes that are made without one.
const METRIC_V6: u32 = 1024;

pub(super) fn default_route(via: IpAddr) -> RouteMessage {
    let anything = if via.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(anything, 0)
        .and_then(|builder| builder.gateway(via));
    // Both are of one family, which is all that could be wrong.
    builder.map_or_else(|_| RouteMessage::default(), RouteMessageBuilder::build)
}

pub(super) fn destination(route: &RouteMessage) -> Option<&RouteAttribute> {
    let is_destination = |attribute: &&RouteAttribute| matches!(attribute, RouteAttribute::Destination(_));
    // The default route has one of zeros, or none.
    (route.header.destination_prefix_length > 0)
        .then(|| route.attributes.iter().find(is_destination))
        .flatten()
}

/// The header has room for the first 256 tables only.
pub(super) fn set_table(route: &mut RouteMessage, table: u32) {
    route.header.table = u8::try_from(table).unwrap_or(0);
    route.attributes.push(RouteAttribute::Table(table));
}

pub(super) fn table(route: &RouteMessage) -> u32 {
    let named = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    named.unwrap_or_else(|| route.header.table.into())
}

pub(super) fn metric(route: &RouteMessage) -> u32 {
    let priority = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    let usual = match route.header.address_family {
        AddressFamily::Inet6 => METRIC_V6,
        _ => 0,
    };
    priority.unwrap_or(usual)
}

/// Whether a route that was found does what a wanted one would.
pub(super) fn same_way(found: &RouteMessage, wanted: &RouteMessage) -> bool {
    let way = |route: &RouteMessage| {
        let of = |wanted: fn(&RouteAttribute) -> bool| route.attributes.iter().find(|a| wanted(a)).cloned();
        of(|attribute| matches!(attribute, RouteAttribute::Gateway(_)))
            .or_else(|| of(|attribute| matches!(attribute, RouteAttribute::Oif(_))))
    };
    found.header.kind == wanted.header.kind && way(found) == way(wanted)
}

pub(super) fn bytes(route: &RouteMessage) -> Vec<u8> {
    let mut bytes = vec![0; route.buffer_len()];
    route.emit(&mut bytes);
    bytes
}

pub(super) fn route(bytes: &[u8]) -> Result<RouteMessage> {
    let mut message = RouteMessage::parse(bytes)?;
    // What the kernel tells of a route and does not take back.
    message
        .attributes
        .retain(|attribute| !matches!(attribute, RouteAttribute::CacheInfo(_)));
    Ok(message)
}
