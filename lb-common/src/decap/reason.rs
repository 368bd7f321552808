//! What can become of a packet where tunnels end.

use crate::abi::{Action, reasons};

reasons! {
    /// IP in IP: the outer header was taken off.
    0 Ipip "ipip" Pass;
    /// Generic UDP Encapsulation: the outer headers were taken off.
    1 Gue "gue" Pass;
    /// Foo over UDP: the outer headers were taken off.
    2 Fou "fou" Pass;
    /// GRE: the outer headers were taken off.
    3 Gre "gre" Pass;
    /// No tunnel, or none that was asked for: the host's business.
    4 NotTunnel "not-tunnel" Pass;
    /// A tunnel that does not end at this host: the host's business.
    5 NotOurs "not-ours" Pass;
    /// A fragment of a tunnel's packet: the host's business. Raise the MTU on the way from the balancer.
    6 Fragment "fragment" Pass;
    /// What is inside is not IP, or comes with options that change it: the host's business.
    7 Unsupported "unsupported" Pass;
    /// The tunnel begins at an address that --from does not allow.
    8 Denied "denied" Drop;
    /// The frame ends before the outer packet does.
    9 Truncated "truncated" Drop;
    /// An outer header contradicts itself, or its checksum is wrong.
    10 BadHeader "bad-header" Drop;
    /// The packet inside contradicts itself, or is longer than what carries it.
    11 BadInner "bad-inner" Drop;
    /// The network marked congestion, and the sender inside would not be told by it (RFC 6040 §4.2).
    12 Congestion "congestion" Drop;
}

impl Reason {
    /// How many there are; the length of the counter array.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// Whether outer headers were taken off.
    pub const fn is_decapsulated(self) -> bool {
        matches!(self, Self::Ipip | Self::Gue | Self::Fou | Self::Gre)
    }
}
