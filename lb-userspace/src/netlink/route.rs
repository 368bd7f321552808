//! Questions about routes. The kernel's own lookup decides, rules and metrics included; nothing here repeats it.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags,
    RouteType, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::neighbour::NeighbourKey;
use super::socket::{Error, Socket, family};
use super::view::View;

/// Gateways that are kept fresh besides those of default routes: the rest are made sure of as packets use them.
pub(super) const MAX_GATEWAYS: usize = 256;
/// Next hops of one route that are looked at; the kernel's own pick is one more.
const MAX_NEXT_HOPS: usize = 64;

/// What the kernel would do with a packet to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Send it.
    Forward {
        interface_index: u32,
        /// `None` when the address is on the link.
        gateway: Option<IpAddr>,
        /// The route's own MTU in bytes, where it has one.
        mtu: Option<u32>,
    },
    /// Keep it: the address is this host's.
    Local,
    /// Neither; the text says why in an operator's words.
    Refused(&'static str),
    /// The kernel could not say.
    Unknown(String),
}

impl Route {
    /// The neighbour that packets of this route to `address` go to.
    pub(super) fn neighbour(&self, address: IpAddr) -> Option<NeighbourKey> {
        match *self {
            Self::Forward {
                interface_index,
                gateway,
                ..
            } => Some(NeighbourKey {
                interface_index,
                address: gateway.unwrap_or(address),
            }),
            Self::Local | Self::Refused(_) | Self::Unknown(_) => None,
        }
    }

    fn from_message(message: &RouteMessage) -> Self {
        match message.header.kind {
            RouteType::Unicast => {}
            RouteType::Local => return Self::Local,
            RouteType::Broadcast => return Self::Refused("it is a broadcast address"),
            RouteType::Multicast => return Self::Refused("it is a multicast address"),
            RouteType::Anycast => return Self::Refused("it is an anycast address of this host's subnet"),
            _ => return Self::Refused("its route sends no packets"),
        }
        Self::from_attributes(&message.attributes)
    }

    fn from_attributes<'a>(attributes: impl IntoIterator<Item = &'a RouteAttribute>) -> Self {
        let mut interface = None;
        let mut gateway = None;
        let mut mtu = None;
        for attribute in attributes {
            match attribute {
                RouteAttribute::Oif(index) => interface = Some(*index),
                RouteAttribute::Metrics(metrics) => mtu = mtu_metric(metrics),
                RouteAttribute::Encap(_) => {
                    return Self::Refused("its route goes into a lightweight tunnel, which XDP cannot build");
                }
                other => gateway = gateway.or(gateway_of(other)),
            }
        }
        match interface {
            Some(interface_index) => Self::Forward {
                interface_index,
                gateway,
                mtu,
            },
            None => Self::Refused("its route names no interface"),
        }
    }
}

/// The next hops among which the kernel picks one for a packet, from the route itself; none where it has but one.
fn next_hops(route: &RouteMessage) -> Vec<Route> {
    let hops = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    let alive = |hop: &&RouteNextHop| !hop.flags.contains(RouteNextHopFlags::Dead);
    let as_route = |hop: &RouteNextHop| {
        let interface = RouteAttribute::Oif(hop.interface_index);
        Route::from_attributes(route.attributes.iter().chain(&hop.attributes).chain([&interface]))
    };
    let hops = hops.into_iter().flatten().filter(alive).map(as_route);
    hops.filter(|hop| matches!(hop, Route::Forward { .. }))
        .take(MAX_NEXT_HOPS)
        .collect()
}

fn mtu_metric(metrics: &[RouteMetric]) -> Option<u32> {
    metrics.iter().find_map(|metric| match *metric {
        RouteMetric::Mtu(mtu) if mtu > 0 => Some(mtu),
        _ => None,
    })
}

fn gateway_of(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// Asks the kernel where it would send a packet to `address`, and between which next hops it chose. With several equal
/// ones, the route is the one that the kernel picks. The first of `views` that has a way counts, else the first of all.
///
/// # Errors
/// Only when the socket is closed; everything that the kernel answers is a [`Route`].
pub(super) async fn look_up(
    socket: &Socket,
    address: IpAddr,
    views: &[View],
) -> Result<(Route, Vec<Route>), Error> {
    let mut first = None;
    for view in views.iter().filter(|view| view.suits(address)) {
        let mut question = question(address, *view);
        let route = match get(socket, question.clone()).await {
            Ok(message) => Route::from_message(&message),
            Err(Error::Closed) => return Err(Error::Closed),
            Err(error) => refusal(&error),
        };
        match route {
            Route::Forward { .. } => {}
            Route::Local => return Ok((route, Vec::new())),
            Route::Refused(_) | Route::Unknown(_) => {
                first.get_or_insert(route);
                continue;
            }
        }
        question.header.flags = RouteFlags::FibMatch;
        let next_hops = match get(socket, question).await {
            Ok(whole) => next_hops(&whole),
            Err(Error::Closed) => return Err(Error::Closed),
            // The kernel's pick does without.
            Err(_) => Vec::new(),
        };
        return Ok((route, next_hops));
    }
    let route = first.unwrap_or_else(|| Route::Unknown(Error::Unanswered.to_string()));
    Ok((route, Vec::new()))
}

fn question(address: IpAddr, view: View) -> RouteMessage {
    let length = if address.is_ipv4() { 32 } else { 128 };
    let mut question = RouteMessage::default();
    question.header.address_family = family(address);
    question.header.destination_prefix_length = length;
    let to = RouteAttribute::Destination(address.into());
    question.attributes.push(to);
    if let Some(source) = view.source {
        question.header.source_prefix_length = length;
        question.attributes.push(RouteAttribute::Source(source.into()));
    }
    // A VRF device as the interface stands for the VRF's table.
    question.attributes.extend(view.vrf.map(RouteAttribute::Oif));
    question
}

async fn get(socket: &Socket, question: RouteMessage) -> Result<RouteMessage, Error> {
    match socket.get(RouteNetlinkMessage::GetRoute(question)).await? {
        RouteNetlinkMessage::NewRoute(message) => Ok(message),
        _ => Err(Error::Unanswered),
    }
}

/// What it means that the kernel names no route.
fn refusal(error: &Error) -> Route {
    // The error numbers of unreachable, prohibit and blackhole routes (ip-route(8)).
    match error.errno() {
        Some(libc::ENETUNREACH) => Route::Refused("the routing table has none; add one, or a default route"),
        Some(libc::EHOSTUNREACH) => Route::Refused("its route is of type unreachable"),
        Some(libc::EACCES) => Route::Refused("its route is of type prohibit"),
        Some(libc::EINVAL) => Route::Refused("its route is of type blackhole, or it is no unicast address"),
        _ => Route::Unknown(error.to_string()),
    }
}

/// The gateways of routes over `interfaces`, in every table; of default routes all, of others so many.
pub(super) async fn gateways<'a>(
    socket: &Socket,
    interfaces: impl IntoIterator<Item = &'a u32>,
) -> Result<HashSet<NeighbourKey>, Error> {
    let (mut gateways, mut others) = (HashSet::new(), HashSet::new());
    for &interface in interfaces {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            question.attributes.push(RouteAttribute::Oif(interface));
            let collect = |answer| {
                if let RouteNetlinkMessage::NewRoute(route) = answer {
                    let is_default = route.header.destination_prefix_length == 0;
                    if is_default {
                        collect_gateways(&route, interface, &mut gateways);
                    } else if others.len() < MAX_GATEWAYS {
                        collect_gateways(&route, interface, &mut others);
                    }
                }
            };
            match socket
                .dump(RouteNetlinkMessage::GetRoute(question), collect)
                .await
            {
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => log::warn!("cannot list the {family:?} routes: {error}"),
                Ok(()) => {}
            }
        }
    }
    gateways.extend(others);
    Ok(gateways)
}

/// Adds the gateways that a route has on that interface.
pub(super) fn collect_gateways(route: &RouteMessage, interface: u32, gateways: &mut HashSet<NeighbourKey>) {
    if route.header.kind != RouteType::Unicast {
        return;
    }
    let mut add = |attributes: &[RouteAttribute]| {
        let addresses = attributes.iter().filter_map(gateway_of);
        gateways.extend(addresses.map(|address| NeighbourKey {
            interface_index: interface,
            address,
        }));
    };
    if route.attributes.contains(&RouteAttribute::Oif(interface)) {
        add(&route.attributes);
    }
    for attribute in &route.attributes {
        if let RouteAttribute::MultiPath(hops) = attribute {
            hops.iter()
                .filter(|hop| hop.interface_index == interface)
                .for_each(|hop| add(&hop.attributes));
        }
    }
}

/// The addresses that a route is for, from the kernel's report of its change; `None` for families other than IP.
pub(super) fn destination(message: &RouteMessage) -> Option<IpNet> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    let unspecified = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    IpNet::new(
        address.unwrap_or(unspecified),
        message.header.destination_prefix_length,
    )
    .ok()
}
