//! From where the host's routes are looked up. Pure functions of what the kernel said.
//!
//! Packets leave a VRF by the VRF's own routes, and rules of policy routing may hold for the host's own addresses alone.
//! What XDP sends to a backend has the source of a client or of a tunnel, which such rules do not name. So the first
//! question is without a source; only if that has no way, the host's own addresses follow, as if the host itself sent.

use std::{collections::HashMap, net::IpAddr};

use super::{interface::vrf, link::Link, upper::Addresses};

/// Questions that are asked for one address at most.
const MAX_VIEWS: usize = 32;

/// From where a route is looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// The index of the VRF device.
    pub(super) vrf: Option<u32>,
    /// The packet's source.
    pub(super) source: Option<IpAddr>,
}

impl View {
    /// Whether packets to `address` can be looked up so.
    pub(super) fn suits(&self, address: IpAddr) -> bool {
        self.source
            .is_none_or(|source| source.is_ipv4() == address.is_ipv4())
    }
}

/// The views of a host whose balancer runs on `interfaces`, the first to be asked first.
pub(super) fn views(interfaces: &[u32], links: &HashMap<u32, Link>, addresses: &Addresses) -> Vec<View> {
    let mut vrfs = Vec::new();
    let mut sources = Vec::new();
    for index in interfaces {
        let vrf = links.get(index).and_then(|link| vrf(link, links));
        if !vrfs.contains(&vrf) {
            vrfs.push(vrf);
        }
        let own = addresses.all.get(index).into_iter().flatten();
        sources.extend(own.map(|&source| View {
            vrf,
            source: Some(source),
        }));
    }
    if vrfs.is_empty() {
        vrfs.push(None);
    }
    let without = vrfs.into_iter().map(|vrf| View { vrf, source: None });
    without.chain(sources).take(MAX_VIEWS).collect()
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};

    use super::*;

    fn link(index: u32, master: Option<u32>, kind: InfoKind) -> (u32, Link) {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])];
        message.attributes.extend(master.map(LinkAttribute::Controller));
        (index, Link::from_message(&message).expect("about the interface"))
    }

    fn host() -> (HashMap<u32, Link>, Addresses) {
        let links = HashMap::from([
            link(2, None, InfoKind::Veth),
            link(3, Some(9), InfoKind::Veth),
            link(4, Some(8), InfoKind::Veth),
            link(8, Some(9), InfoKind::Bond),
            link(9, None, InfoKind::Vrf),
            link(5, Some(6), InfoKind::Veth),
            link(6, Some(5), InfoKind::Bridge),
        ]);
        let mut addresses = Addresses::default();
        let of = |text: &str| text.parse().expect("an address");
        addresses.all.insert(2, vec![of("10.0.0.1"), of("2001:db8::1")]);
        addresses.all.insert(3, vec![of("10.0.3.1")]);
        (links, addresses)
    }

    #[test]
    fn an_interface_is_in_the_vrf_of_what_it_is_a_part_of() {
        let (links, _) = host();
        let of = |index: u32| vrf(&links[&index], &links);
        assert_eq!((of(2), of(3), of(4)), (None, Some(9), Some(9)));
        assert_eq!(of(5), None, "a loop ends");
    }

    #[test]
    fn own_addresses_are_asked_with_last_and_in_their_vrf() {
        let (links, addresses) = host();
        let seen = |interfaces: &[u32]| -> Vec<(Option<u32>, Option<String>)> {
            let views = views(interfaces, &links, &addresses).into_iter();
            let text = |view: View| (view.vrf, view.source.map(|source| source.to_string()));
            views.map(text).collect()
        };
        assert_eq!(seen(&[]), [(None, None)]);
        assert_eq!(seen(&[4]), [(Some(9), None)]);
        let source = |text: &str| Some(text.to_owned());
        assert_eq!(
            seen(&[3, 2]),
            [
                (Some(9), None),
                (None, None),
                (Some(9), source("10.0.3.1")),
                (None, source("10.0.0.1")),
                (None, source("2001:db8::1")),
            ]
        );
    }

    #[test]
    fn a_source_is_for_its_own_family() {
        let view = |source: Option<&str>| View {
            vrf: None,
            source: source.map(|text| text.parse().expect("an address")),
        };
        let v6 = "2001:db8::7".parse().expect("an address");
        assert!(view(None).suits(v6) && view(Some("fd00::1")).suits(v6));
        assert!(!view(Some("10.0.0.1")).suits(v6));
    }
}
