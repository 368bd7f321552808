//! What differs between IPv4 and IPv6. Everything else in the pipeline is written once, over this trait.

use crate::{
    abi::{Key4, Key6, Reason, Selector, ServiceEntry, ServiceKey, TargetEntry},
    hash,
    net::{
        ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP, ICMPV6, IPV4_HEADER, IPV4_IN_IP, IPV6_HEADER, IPV6_IN_IP,
        checksum, load16, load32, load64, store16, store32, store64,
    },
};

use super::{Packet, ServiceTables, parse::Ip};

/// Length of the EtherType in front of an IP header.
pub(super) const ETHER_TYPE: usize = 2;
/// TTL and hop limit of headers that the balancer makes itself.
const OWN_TTL: u8 = 64;
/// "Don't fragment", as loaded from the wire.
const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();
/// "More fragments" and the fragment offset, as loaded from the wire.
const FRAGMENT: u16 = 0x3fff_u16.to_be();
/// What a TTL less by one adds to the IPv4 header's sum: ~m + (m - 1), whatever m.
const TTL_DELTA: u32 = 0xfffe;

/// One of a packet's two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// A new address for one end, and what it adds to the IPv4 header's sum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readdress<A> {
    pub(super) end: End,
    pub(super) address: A,
    pub(super) header_sum: u32,
}

/// What an outer IP header says of what it carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outer {
    /// Protocol of what follows it.
    pub(super) protocol: u8,
    /// Traffic class of the packet inside (RFC 2983 §4.2; RFC 6040 §4.1, normal mode).
    pub(super) tos: u8,
    /// Length of what follows it.
    pub(super) len: u16,
    /// The flow's hash: spreads a backend's tunnel traffic over its receive queues.
    pub(super) hash: u64,
}

/// An address family.
pub(super) trait Family {
    const V6: bool;
    /// Length of an IP header without options.
    const HEADER: usize;
    /// IP protocol number of the family's ICMP.
    const ICMP: u8;
    /// ICMP types: echo request, echo reply.
    const ECHO: (u8, u8);
    /// ICMP types of errors about packets: bit n for type n. (Source quench and redirect are none: RFC 6633, and they
    /// are for routers to make.)
    const ICMP_ERRORS: u32;
    /// EtherType, as a word loaded from the wire.
    const ETHER_TYPE: u16;
    /// IP protocol number of this family inside a tunnel.
    const IN_IP: u8;

    /// An address in wire order.
    type Address: Copy;
    /// Key of the family's service table.
    type Key: ServiceKey;

    /// The IP header at `at` of the frame; `None` when the frame ends before the addresses.
    fn parse<P: Packet>(packet: &P, at: usize) -> Option<Ip<Self::Address>>;
    fn key(address: Self::Address, selector: Selector) -> Self::Key;
    /// What a line says about a key, and the line after it.
    fn find_in_line<T: ServiceTables>(
        tables: &T,
        line: u32,
        key: &Self::Key,
    ) -> Option<(Option<ServiceEntry>, u32)>;
    /// Follows a chain: see [`ServiceTables::follow4`].
    fn follow<T: ServiceTables>(tables: &T, first: u32, key: &Self::Key) -> u32;
    /// The service of that key: see [`ServiceTables::look_up4`].
    fn look_up<T: ServiceTables>(tables: &T, key: &Self::Key) -> Option<ServiceEntry>;
    /// The first address of the prefix of that length (1 to 127) that holds `address`.
    fn masked(address: Self::Address, length: u8) -> Self::Address;
    fn hash(source: Self::Address, ports: u32, seed: u64) -> u64;
    /// To the form of [`TargetEntry::addresses`].
    fn wide(address: Self::Address) -> [u64; 2];
    /// From the form of [`TargetEntry::addresses`].
    fn narrow(address: [u64; 2]) -> Self::Address;
    /// One hop further: TTL less by one, and perhaps a new address. `at` is where the IP header stands in the frame.
    fn forwarded<P: Packet>(
        packet: &mut P,
        at: usize,
        readdress: Option<Readdress<Self::Address>>,
    ) -> Option<()>;
    /// New addresses, which add `delta` to the sum of addresses, for the IP header at `at` of the frame. What that adds
    /// to sums which cover the whole header.
    fn readdress<P: Packet>(
        packet: &mut P,
        at: usize,
        source: Self::Address,
        destination: Self::Address,
        delta: u32,
    ) -> Option<u32>;
    /// Whether the address is that of a group, or of all hosts of the link. (Whether it is the last one of some network, which
    /// stands for all of its hosts, nobody knows here.)
    fn is_group(address: Self::Address) -> bool;
    /// Whether the address is that of one host: neither a group's, nor nobody's.
    fn is_one_host(address: Self::Address) -> bool;
    /// Turns a packet to this host into one from it: addresses swapped, a fresh TTL.
    fn turn_around<P: Packet>(packet: &mut P, ip: &Ip<Self::Address>) -> Option<()>;
    /// Writes an EtherType at `at` of the frame, and the outer IP header behind it.
    fn write_outer<P: Packet>(packet: &mut P, at: usize, target: &TargetEntry, outer: &Outer) -> Option<()>;
}

/// IPv4.
pub(super) struct V4;

impl Family for V4 {
    const V6: bool = false;
    const HEADER: usize = IPV4_HEADER;
    const ICMP: u8 = ICMP;
    const ECHO: (u8, u8) = (8, 0);
    const ICMP_ERRORS: u32 = 1 << 3 | 1 << 11 | 1 << 12;
    const ETHER_TYPE: u16 = ETHERTYPE_IPV4;
    const IN_IP: u8 = IPV4_IN_IP;

    type Address = u32;
    type Key = Key4;

    #[inline(always)]
    fn parse<P: Packet>(packet: &P, at: usize) -> Option<Ip<u32>> {
        let header: &[u8; 20] = packet.view(at)?;
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let len = u16::from_be(load16(header, 2));
        let fragment_word = load16(header, 6);
        Some(Ip {
            source: load32(header, 12),
            destination: load32(header, 16),
            protocol: header[9],
            tos: header[1],
            ttl: header[8],
            len,
            network: at,
            transport: at + header_len,
            oddity: if header[0] >> 4 != 4 || header_len < 20 || usize::from(len) < header_len {
                Some(Reason::BadHeader)
            } else if at + usize::from(len) > packet.frame_len() {
                Some(Reason::Truncated)
            } else if fragment_word & FRAGMENT != 0 {
                Some(Reason::Fragment)
            } else {
                None
            },
        })
    }

    #[inline(always)]
    fn key(address: u32, selector: Selector) -> Key4 {
        Key4::new(address, selector)
    }

    #[inline(always)]
    fn find_in_line<T: ServiceTables>(
        tables: &T,
        line: u32,
        key: &Key4,
    ) -> Option<(Option<ServiceEntry>, u32)> {
        tables.service_line4(line).map(|line| (line.find(key), line.next))
    }

    #[inline(always)]
    fn follow<T: ServiceTables>(tables: &T, first: u32, key: &Key4) -> u32 {
        tables.follow4(first, key)
    }

    #[inline(always)]
    fn look_up<T: ServiceTables>(tables: &T, key: &Key4) -> Option<ServiceEntry> {
        tables.look_up4(key)
    }

    #[inline(always)]
    fn masked(address: u32, length: u8) -> u32 {
        address & !(u32::MAX >> (length & 31)).to_be()
    }

    #[inline(always)]
    fn hash(source: u32, ports: u32, seed: u64) -> u64 {
        hash::mix(u64::from(source) << 32 | u64::from(ports), seed)
    }

    #[inline(always)]
    fn wide(address: u32) -> [u64; 2] {
        [u64::from(address), 0]
    }

    #[inline(always)]
    fn narrow(address: [u64; 2]) -> u32 {
        address[0] as u32
    }

    #[inline(always)]
    fn forwarded<P: Packet>(packet: &mut P, at: usize, readdress: Option<Readdress<u32>>) -> Option<()> {
        let header: &mut [u8; 20] = packet.view_mut(at)?;
        let mut delta = TTL_DELTA;
        if let Some(Readdress {
            end,
            address,
            header_sum,
        }) = readdress
        {
            delta += header_sum;
            store32(header, if end == End::Source { 12 } else { 16 }, address);
        }
        header[8] = header[8].wrapping_sub(1);
        let sum = checksum::adjusted(load16(header, 10), delta);
        store16(header, 10, sum);
        Some(())
    }

    #[inline(always)]
    fn readdress<P: Packet>(
        packet: &mut P,
        at: usize,
        source: u32,
        destination: u32,
        delta: u32,
    ) -> Option<u32> {
        let header: &mut [u8; 20] = packet.view_mut(at)?;
        let old = load16(header, 10);
        let new = checksum::adjusted(old, delta);
        store16(header, 10, new);
        store32(header, 12, source);
        store32(header, 16, destination);
        Some(checksum::fold(
            delta + checksum::delta(u32::from(old), u32::from(new)),
        ))
    }

    #[inline(always)]
    fn is_group(address: u32) -> bool {
        address & 0xf0_u32.to_le() == 0xe0_u32.to_le() || address == u32::MAX
    }

    #[inline(always)]
    fn is_one_host(address: u32) -> bool {
        let first = u32::from_be(address) >> 24;
        // RFC 1122 §3.2.1.3: this network, loopback; RFC 1112: groups; and what was never given out.
        first != 0 && first != 127 && first < 224
    }

    #[inline(always)]
    fn turn_around<P: Packet>(packet: &mut P, ip: &Ip<u32>) -> Option<()> {
        let header: &mut [u8; 20] = packet.view_mut(ip.network)?;
        let delta = checksum::delta(u32::from(header[8]), u32::from(OWN_TTL));
        header[8] = OWN_TTL;
        let sum = checksum::adjusted(load16(header, 10), delta);
        store16(header, 10, sum);
        store32(header, 12, ip.destination);
        store32(header, 16, ip.source);
        Some(())
    }

    #[inline(always)]
    fn write_outer<P: Packet>(packet: &mut P, at: usize, target: &TargetEntry, outer: &Outer) -> Option<()> {
        let Outer {
            protocol,
            tos,
            len,
            hash,
        } = *outer;
        let total = len.wrapping_add(Self::HEADER as u16).to_be();
        let varied = (hash >> 8) as u32 & target.variation;
        let source = target.addresses[TargetEntry::OUTER_SOURCE][0] as u32 | varied;
        let destination = target.addresses[TargetEntry::OUTER_DESTINATION][0] as u32;
        let version_tos = 0x45 | u16::from(tos) << 8;
        let ttl_protocol = u16::from(OWN_TTL) | u16::from(protocol) << 8;
        // RFC 6864: a packet that may not be fragmented needs no identification.
        let words =
            u32::from(version_tos) + u32::from(total) + u32::from(DONT_FRAGMENT) + u32::from(ttl_protocol);
        let sum = !checksum::fold(target.header_sum + words + checksum::halves(varied)) as u16;

        let header: &mut [u8; ETHER_TYPE + 20] = packet.view_mut(at)?;
        store16(header, 0, ETHERTYPE_IPV4);
        store64(
            header,
            2,
            u64::from(version_tos) | u64::from(total) << 16 | u64::from(DONT_FRAGMENT) << 48,
        );
        store64(
            header,
            10,
            u64::from(ttl_protocol) | u64::from(sum) << 16 | u64::from(source) << 32,
        );
        store32(header, 18, destination);
        Some(())
    }
}

/// IPv6.
pub(super) struct V6;

impl Family for V6 {
    const V6: bool = true;
    const HEADER: usize = IPV6_HEADER;
    const ICMP: u8 = ICMPV6;
    const ECHO: (u8, u8) = (128, 129);
    const ICMP_ERRORS: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4;
    const ETHER_TYPE: u16 = ETHERTYPE_IPV6;
    const IN_IP: u8 = IPV6_IN_IP;

    type Address = [u64; 2];
    type Key = Key6;

    #[inline(always)]
    fn parse<P: Packet>(packet: &P, at: usize) -> Option<Ip<[u64; 2]>> {
        let header: &[u8; 40] = packet.view(at)?;
        let payload = u16::from_be(load16(header, 4));
        let len = payload.wrapping_add(40);
        Some(Ip {
            source: [load64(header, 8), load64(header, 16)],
            destination: [load64(header, 24), load64(header, 32)],
            protocol: header[6],
            tos: (u16::from_be(load16(header, 0)) >> 4) as u8,
            ttl: header[7],
            len,
            network: at,
            transport: at + 40,
            oddity: if header[0] >> 4 != 6 || len < 40 {
                Some(Reason::BadHeader)
            } else if at + usize::from(len) > packet.frame_len() {
                Some(Reason::Truncated)
            } else {
                None
            },
        })
    }

    #[inline(always)]
    fn key(address: [u64; 2], selector: Selector) -> Key6 {
        Key6::new(address, selector)
    }

    #[inline(always)]
    fn find_in_line<T: ServiceTables>(
        tables: &T,
        line: u32,
        key: &Key6,
    ) -> Option<(Option<ServiceEntry>, u32)> {
        tables.service_line6(line).map(|line| (line.find(key), line.next))
    }

    #[inline(always)]
    fn follow<T: ServiceTables>(tables: &T, first: u32, key: &Key6) -> u32 {
        tables.follow6(first, key)
    }

    #[inline(always)]
    fn look_up<T: ServiceTables>(tables: &T, key: &Key6) -> Option<ServiceEntry> {
        tables.look_up6(key)
    }

    #[inline(always)]
    fn masked([high, low]: [u64; 2], length: u8) -> [u64; 2] {
        let mask = |bits: u8| !(u64::MAX >> (bits & 63)).to_be();
        if length < 64 {
            [high & mask(length), 0]
        } else {
            [high, low & mask(length)]
        }
    }

    #[inline(always)]
    fn hash(source: [u64; 2], ports: u32, seed: u64) -> u64 {
        hash::mix_wide(source, ports, seed)
    }

    #[inline(always)]
    fn wide(address: [u64; 2]) -> [u64; 2] {
        address
    }

    #[inline(always)]
    fn narrow(address: [u64; 2]) -> [u64; 2] {
        address
    }

    #[inline(always)]
    fn forwarded<P: Packet>(packet: &mut P, at: usize, readdress: Option<Readdress<[u64; 2]>>) -> Option<()> {
        let header: &mut [u8; 40] = packet.view_mut(at)?;
        if let Some(Readdress { end, address, .. }) = readdress {
            store_address(header, if end == End::Source { 8 } else { 24 }, address);
        }
        header[7] = header[7].wrapping_sub(1);
        Some(())
    }

    #[inline(always)]
    fn readdress<P: Packet>(
        packet: &mut P,
        at: usize,
        source: [u64; 2],
        destination: [u64; 2],
        delta: u32,
    ) -> Option<u32> {
        let header: &mut [u8; 40] = packet.view_mut(at)?;
        store_address(header, 8, source);
        store_address(header, 24, destination);
        Some(delta)
    }

    #[inline(always)]
    fn is_group([high, _]: [u64; 2]) -> bool {
        u64::from_be(high) >> 56 == 0xff
    }

    #[inline(always)]
    fn is_one_host([high, low]: [u64; 2]) -> bool {
        let is_group = u64::from_be(high) >> 56 == 0xff;
        let is_nobody_or_loopback = high == 0 && u64::from_be(low) <= 1;
        !is_group && !is_nobody_or_loopback
    }

    #[inline(always)]
    fn turn_around<P: Packet>(packet: &mut P, ip: &Ip<[u64; 2]>) -> Option<()> {
        let header: &mut [u8; 40] = packet.view_mut(ip.network)?;
        header[7] = OWN_TTL;
        store_address(header, 8, ip.destination);
        store_address(header, 24, ip.source);
        Some(())
    }

    #[inline(always)]
    fn write_outer<P: Packet>(packet: &mut P, at: usize, target: &TargetEntry, outer: &Outer) -> Option<()> {
        let Outer {
            protocol,
            tos,
            len,
            hash,
        } = *outer;
        let flow_label = (hash >> 8) as u32 & 0xf_ffff;
        let first = (0x6000_0000 | u32::from(tos) << 20 | flow_label).to_be();
        let [source_high, source_low] = target.addresses[TargetEntry::OUTER_SOURCE];
        let varied = u64::from((hash >> 8) as u32 & target.variation) << 32;
        let destination = target.addresses[TargetEntry::OUTER_DESTINATION];

        let header: &mut [u8; ETHER_TYPE + 40] = packet.view_mut(at)?;
        store16(header, 0, ETHERTYPE_IPV6);
        store64(
            header,
            2,
            u64::from(first)
                | u64::from(len.to_be()) << 32
                | u64::from(protocol) << 48
                | u64::from(OWN_TTL) << 56,
        );
        store64(header, 10, source_high);
        store64(header, 18, source_low | varied);
        store64(header, 26, destination[0]);
        store64(header, 34, destination[1]);
        Some(())
    }
}

#[inline(always)]
fn store_address(header: &mut [u8; 40], offset: usize, address: [u64; 2]) {
    store64(header, offset, address[0]);
    store64(header, offset + 8, address[1]);
}
