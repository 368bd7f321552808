//! The floor: what no forwarder can leave out. It grows the frame by the outer header, writes Ethernet and IP from a
//! template with wide stores, patches length and checksum, and looks nothing up.
//!
//! What must hold: it stays the least. Byte-wise stores would make it slower by half, and everything beside it look fast.

use aya_ebpf::{Global, programs::XdpContext};
use lb_common::net::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};

use crate::packet::{Head, shift};

// The template lies in memory, as a balancer's would; in the code it would cost nothing.
/// Both MACs.
#[unsafe(no_mangle)]
static MACS_HEAD: Global<u64> = Global::new(0x0002_0100_0009_0002);
#[unsafe(no_mangle)]
static MACS_TAIL: Global<u32> = Global::new(0x0100_0000);
/// Version, header length, "don't fragment".
#[unsafe(no_mangle)]
static IPV4_HEAD: Global<u64> = Global::new(0x0040_0000_0000_0045);
/// TTL 64, IPv4 in IP, a source address.
#[unsafe(no_mangle)]
static IPV4_MIDDLE: Global<u64> = Global::new(0x0100_10ac_0000_0440);
/// A destination address.
#[unsafe(no_mangle)]
static IPV4_TAIL: Global<u32> = Global::new(0x0100_000a);
/// The sum of the words above.
#[unsafe(no_mangle)]
static IPV4_SUM: Global<u32> = Global::new(0x45 + 0x40 + 0x440 + 0x10ac + 0x100 + 0xa + 0x100);
/// IPv6 in IP, hop limit 64.
#[unsafe(no_mangle)]
static IPV6_NEXT: Global<u64> = Global::new(0x4029);
/// Addresses.
#[unsafe(no_mangle)]
static IPV6_ADDRESS: Global<u64> = Global::new(0x0100_0000_0000_00fd);

/// IPv4 in IPv4.
#[inline(always)]
pub(crate) fn encapsulate4(context: &XdpContext) -> Option<()> {
    const OUTER: i32 = 20;
    let inner = Head::<54>::of(context)?;
    let tos = u64::from(inner.load::<u16, 14>() >> 8);
    let total = u16::from_be(inner.load::<u16, 16>())
        .wrapping_add(OUTER as u16)
        .to_be();
    shift(context, -OUTER)?;

    let sum = IPV4_SUM.load() + u32::from(total) + ((tos as u32) << 8);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    let outer = Head::<54>::of(context)?;
    outer.store::<u64, 0>(MACS_HEAD.load());
    outer.store::<u32, 8>(MACS_TAIL.load());
    outer.store::<u16, 12>(ETHERTYPE_IPV4);
    outer.store::<u64, 14>(IPV4_HEAD.load() | tos << 8 | u64::from(total) << 16);
    outer.store::<u64, 22>(IPV4_MIDDLE.load() | u64::from(sum) << 16);
    outer.store::<u32, 30>(IPV4_TAIL.load());
    Some(())
}

/// IPv6 in IPv6.
#[inline(always)]
pub(crate) fn encapsulate6(context: &XdpContext) -> Option<()> {
    const OUTER: i32 = 40;
    let inner = Head::<74>::of(context)?;
    let version_class_flow = u64::from(inner.load::<u32, 14>());
    let payload = u16::from_be(inner.load::<u16, 18>())
        .wrapping_add(OUTER as u16)
        .to_be();
    shift(context, -OUTER)?;

    let outer = Head::<74>::of(context)?;
    outer.store::<u64, 0>(MACS_HEAD.load());
    outer.store::<u32, 8>(MACS_TAIL.load());
    outer.store::<u16, 12>(ETHERTYPE_IPV6);
    outer.store::<u64, 14>(version_class_flow | u64::from(payload) << 32 | IPV6_NEXT.load() << 48);
    outer.store::<u64, 22>(IPV6_ADDRESS.load());
    outer.store::<u64, 30>(IPV6_ADDRESS.load());
    outer.store::<u64, 38>(IPV6_ADDRESS.load());
    outer.store::<u64, 46>(IPV6_ADDRESS.load());
    Some(())
}
