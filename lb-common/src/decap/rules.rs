//! Which tunnels end here, as the operator says.

/// An address in the wire's byte order; an IPv4 address as IPv6 maps it (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// What stands in front of an IPv4 address, in bits: add it to the length of a prefix.
    pub const MAPPED: u32 = 96;

    /// An IPv4 address, as a word loaded from the wire.
    #[inline(always)]
    pub const fn v4(address: u32) -> Self {
        Self([0, 0, 0xffff_u32.to_be(), address])
    }
}

impl From<[u8; 16]> for Address {
    fn from(octets: [u8; 16]) -> Self {
        let word = |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
        Self([word(0), word(4), word(8), word(12)])
    }
}

/// Up to four UDP ports in the wire's byte order, in one word; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Ports(pub u64);

impl Ports {
    /// How many there can be.
    pub const MAX: usize = 4;

    /// The ports of a list, which has them in native byte order; `None` if they are too many.
    pub fn of(ports: &[u16]) -> Option<Self> {
        if ports.len() > Self::MAX {
            return None;
        }
        let place = |(i, port): (usize, &u16)| u64::from(port.to_be()) << (16 * i);
        Some(Self(
            ports.iter().enumerate().map(place).fold(0, |all, one| all | one),
        ))
    }

    /// Whether that port, as it is on the wire, is among them.
    #[inline(always)]
    pub const fn contain(self, port: u16) -> bool {
        let Self(all) = self;
        port != 0
            && (all as u16 == port
                || (all >> 16) as u16 == port
                || (all >> 32) as u16 == port
                || (all >> 48) as u16 == port)
    }
}

/// In [`Rules::protocols`]: IP in IP.
pub const IPIP_BIT: u32 = 1;
/// In [`Rules::protocols`]: GRE.
pub const GRE_BIT: u32 = 2;

/// What the operator says.
pub trait Rules {
    /// Which tunnels without UDP are taken off: [`IPIP_BIT`], [`GRE_BIT`].
    fn protocols(&self) -> u32;
    /// Ports of Generic UDP Encapsulation.
    fn gue_ports(&self) -> Ports;
    /// Ports of Foo over UDP: bare IP.
    fn fou_ports(&self) -> Ports;
    /// Whether tunnels end at that address.
    fn is_ours(&self, destination: &Address) -> bool;
    /// Whether tunnels may begin at that address.
    fn allows(&self, source: &Address) -> bool;
}
