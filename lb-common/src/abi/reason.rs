//! Every way a packet can leave the pipeline.

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Left to the host's network stack, untouched.
    Pass,
    /// Dropped.
    Drop,
    /// Rewritten and sent out.
    Send,
    /// Rewritten, and left to the host's network stack, which is to send it.
    Hand,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $number:literal $variant:ident $name:literal $action:ident;)+) => {
        /// Why a packet left the pipeline as it did. Numbers are append-only: they are counters, metric labels and
        /// documentation at once, and a number never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl Reason {
            /// Every reason, by number.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its number, for a counter or a word that stands for it.
            #[inline(always)]
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// The name used in listings, metrics and documentation.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What it means, for an operator.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii()),+ }
            }

            /// What becomes of such a packet.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self { $(Self::$variant => Action::$action),+ }
            }
        }
    };
}
pub(crate) use reasons;

reasons! {
    /// Sent to a backend of its service.
    0 Forwarded "forwarded" Send;
    /// An answer of a nat or fullnat backend, sent to the client with the VIP as its source.
    1 Returned "returned" Send;
    /// An ICMP echo request to a VIP, answered.
    2 EchoReply "echo-reply" Send;
    /// Neither IPv4 nor IPv6, or behind more than two VLAN tags: the host's business.
    3 NotIp "not-ip" Pass;
    /// For no service: the host's business.
    4 NoService "no-service" Pass;
    /// The service has no usable backend and says on_empty = "pass".
    5 EmptyPassed "empty-passed" Pass;
    /// The service has no usable backend. See the backends' states with `lb list`.
    6 NoBackend "no-backend" Drop;
    /// The frame ends before the headers that it announces.
    7 Truncated "truncated" Drop;
    /// A header contradicts itself: version, header length or total length.
    8 BadHeader "bad-header" Drop;
    /// A fragment whose backend cannot be told: the first one has not come by, or the service takes none.
    9 Fragment "fragment" Drop;
    /// Too many or too long IPv6 extension headers, or a routing header that leads elsewhere.
    10 ExtensionHeader "extension-header" Drop;
    /// The TTL or hop limit ends here.
    11 TtlExpired "ttl-expired" Drop;
    /// Larger than what its way carries, with the tunnel's header, and its sender could not be told. Raise the MTU toward the
    /// backends, or lower the clients' MSS.
    12 TooBig "too-big" Drop;
    /// The driver left no room in front of the frame for the tunnel's header.
    13 NoHeadroom "no-headroom" Drop;
    /// The backend's next hop is not known (any more).
    14 Unresolved "unresolved" Drop;
    /// A nat or fullnat answer finds no way to the client: its route says unreachable, or IP forwarding is off on this host.
    /// (Without any route the answer is left to the host.)
    15 NoWayBack "no-way-back" Drop;
    /// Larger than what its way carries: the sender was told what fits (ICMP).
    16 TooBigAnswered "too-big-answered" Send;
    /// The TTL or hop limit ends here: the sender was told (ICMP), as traceroute wants it.
    17 TtlAnswered "ttl-answered" Send;
    /// The service has no usable backend and says on_empty = "reject": the client was told (TCP reset or ICMP).
    18 Rejected "rejected" Send;
    /// The service's source list does not allow the client.
    19 Denied "denied" Drop;
    /// A fragment that overlaps another, or a first one that is too small to hold the transport header.
    20 BadFragment "bad-fragment" Drop;
    /// No address and port of the pool is free for a new flow through fullnat. Add fullnat_addresses; or, if the pool has
    /// room, raise max_nat_flows.
    21 NoSourcePort "no-source-port" Drop;
    /// For a backend that is this host.
    22 Local "local" Pass;
    /// An answer of a nat or fullnat backend whose next hop toward the client is not known by its MAC address yet: the host's
    /// stack asks for it, and sends the answer with the VIP as its source.
    23 ReturnedByHost "returned-by-host" Hand;
    /// The frame is for another host's MAC; or for several hosts, though its packet is for one. The host's stack discards it,
    /// or bridges it. See accept_macs if the MAC is this host's.
    24 OtherHost "other-host" Pass;
    /// Its way goes over an interface that XDP may not send out of. The backend is unresolved, or the interface toward the
    /// client has to be named with --iface.
    25 NoEgress "no-egress" Drop;
    /// It is not plain, and the program for such packets is not there. Restart lb.
    26 NoDetour "no-detour" Drop;
    /// As no-source-port, and it is certain: the client was told (TCP reset or ICMP).
    27 NoSourcePortAnswered "no-source-port-answered" Send;
    /// For a VIP, but for none of its services, one of which says unserved = "drop"; or "reject", and the sender could not be
    /// told. Compare protocol and port with lb list.
    28 Unserved "unserved" Drop;
    /// For a VIP, but for none of its services, one of which says unserved = "reject": the client was told (TCP reset or
    /// ICMP).
    29 UnservedAnswered "unserved-answered" Send;
}

impl Reason {
    /// How many there are; the length of the counter array.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// The reason with that number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    /// The reason of a packet whose sender was to be told, by an ICMP error or a TCP reset, and could not be; `None` of a
    /// reason that tells the sender nothing.
    #[inline(always)]
    pub const fn untold(self) -> Option<Self> {
        match self {
            Self::TooBigAnswered => Some(Self::TooBig),
            Self::TtlAnswered => Some(Self::TtlExpired),
            Self::Rejected => Some(Self::NoBackend),
            Self::NoSourcePortAnswered => Some(Self::NoSourcePort),
            Self::UnservedAnswered => Some(Self::Unserved),
            _ => None,
        }
    }

    /// Whether the sender of a packet that leaves for this reason is told.
    #[inline(always)]
    pub const fn is_answer(self) -> bool {
        self.untold().is_some()
    }

    /// Whether the sender is told that nobody serves the packet, which TCP says by a reset.
    #[inline(always)]
    pub const fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::Rejected | Self::NoSourcePortAnswered | Self::UnservedAnswered
        )
    }
}

const _: () = {
    let mut i = 0;
    while i < Reason::ALL.len() {
        assert!(
            Reason::ALL[i] as usize == i,
            "reasons are numbered from 0 without gaps"
        );
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    /// Counters, metrics and alerts of operators hang on these: lines are added, never changed or removed.
    const FOREVER: &[(u32, &str)] = &[
        (0, "forwarded"),
        (1, "returned"),
        (2, "echo-reply"),
        (3, "not-ip"),
        (4, "no-service"),
        (5, "empty-passed"),
        (6, "no-backend"),
        (7, "truncated"),
        (8, "bad-header"),
        (9, "fragment"),
        (10, "extension-header"),
        (11, "ttl-expired"),
        (12, "too-big"),
        (13, "no-headroom"),
        (14, "unresolved"),
        (15, "no-way-back"),
        (16, "too-big-answered"),
        (17, "ttl-answered"),
        (18, "rejected"),
        (19, "denied"),
        (20, "bad-fragment"),
        (21, "no-source-port"),
        (22, "local"),
        (23, "returned-by-host"),
        (24, "other-host"),
        (25, "no-egress"),
        (26, "no-detour"),
        (27, "no-source-port-answered"),
        (28, "unserved"),
        (29, "unserved-answered"),
    ];

    #[test]
    fn numbers_and_names_never_change() {
        assert_eq!(Reason::ALL.len(), FOREVER.len());
        for (number, name) in FOREVER {
            assert_eq!(Reason::from_number(*number).map(Reason::name), Some(*name));
        }
        assert_eq!(Reason::from_number(Reason::COUNT), None);
    }

    #[test]
    fn an_answer_is_sent_and_what_cannot_be_told_is_dropped() {
        let is_named_so = |name: &str| name.ends_with("-answered") || name == "rejected";
        for reason in Reason::ALL {
            assert_eq!(reason.is_answer(), is_named_so(reason.name()), "{reason:?}");
            assert!(!reason.is_refusal() || reason.is_answer(), "{reason:?}");
            if let Some(untold) = reason.untold() {
                let actions = (reason.action(), untold.action());
                assert_eq!(actions, (Action::Send, Action::Drop), "{reason:?}");
            }
        }
    }

    #[test]
    fn the_guide_lists_every_reason() {
        let guide = include_str!("../../../docs/guide.md");
        for reason in Reason::ALL {
            let action = match reason.action() {
                Action::Pass => "pass",
                Action::Drop => "drop",
                Action::Send => "tx",
                Action::Hand => "host",
            };
            let row = std::format!("| {} | `{}` | {action} |", reason.number(), reason.name());
            assert!(guide.contains(&row), "no row starts with {row}");
        }
    }

    #[test]
    fn every_reason_says_what_it_means() {
        for reason in Reason::ALL {
            assert!(
                reason.meaning().ends_with(['.', ')']),
                "{}: {:?}",
                reason.name(),
                reason.meaning()
            );
        }
    }
}
