//! Tables that are wrong on purpose, for tests that show that the fuzzer would notice a broken dataplane.

use std::sync::Arc;

use lb_common::abi::{Forward, FragmentMode, TagsEntry, TtlExpiredMode};
use lb_core::plan::Write;

use super::model::Mistake;

/// What is wrong in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Backends can be sent a byte more than their way carries.
    Room,
    /// Next hops have another MAC.
    NextHop,
    /// Tags stand the other way round.
    Tags,
    /// What `nat` adds to checksums is one too much.
    Sums,
    /// Backends behind `fullnat` listen elsewhere.
    Port,
    /// Slots belong to others.
    Owners,
    /// Slots belonged to others before.
    PreviousOwners,
    /// SYNs may ask for a byte more.
    Segment,
    /// Whether senders are told of their packets' last hop is the other way round.
    LastHop,
    /// Fragments of all services follow the first one.
    Fragments,
    /// Lists of clients are empty.
    Clients,
    /// Server IDs name others.
    Servers,
}

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broken {
    /// A rule of the model.
    pub model: Option<Mistake>,
    /// The kernel's tables.
    pub kernel: Option<Flaw>,
    /// The host build's tables.
    pub host: Option<Flaw>,
}

impl Broken {
    /// Nothing is.
    pub const NOTHING: Self = Self {
        model: None,
        kernel: None,
        host: None,
    };
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Room,
        Self::NextHop,
        Self::Tags,
        Self::Sums,
        Self::Port,
        Self::Owners,
        Self::PreviousOwners,
        Self::Segment,
        Self::LastHop,
        Self::Fragments,
        Self::Clients,
        Self::Servers,
    ];

    /// Makes the writes that fill the tables wrong.
    pub(super) fn spoil(self, writes: &mut [Write]) {
        for write in writes {
            match (self, write) {
                (Self::Room, Write::Target { entry, .. }) => {
                    entry.target.max_len = entry.target.max_len.saturating_add(1);
                }
                (Self::NextHop, Write::Target { entry, .. }) => entry.target.macs_head ^= 1,
                (Self::Tags, Write::Target { entry, .. }) => {
                    let TagsEntry([outer, inner]) = entry.tags;
                    entry.tags = TagsEntry([inner, outer]);
                }
                (Self::Sums, Write::Target { entry, .. }) if entry.target.forward == Forward::Nat => {
                    entry.target.variation += 1;
                }
                (Self::Port, Write::Target { entry, .. }) if entry.target.forward == Forward::FullNat => {
                    entry.target.backend_port = 9_u16.to_be();
                }
                (Self::Owners, Write::Slots { slots, .. })
                | (Self::PreviousOwners, Write::Previous { slots, .. }) => Arc::make_mut(slots).reverse(),
                (Self::Segment, Write::Options { options, .. }) if options.mss4 > 0 => {
                    options.mss4 += 1;
                    options.mss6 += 1;
                }
                (Self::LastHop, Write::Options { options, .. }) => {
                    options.ttl_expired = if options.ttl_expired == TtlExpiredMode::Drop {
                        TtlExpiredMode::Answer
                    } else {
                        TtlExpiredMode::Drop
                    };
                }
                (Self::Fragments, Write::Options { options, .. }) => {
                    options.fragments = FragmentMode::Follow;
                }
                (Self::Clients, Write::Sources(entries)) => entries.clear(),
                (Self::Servers, Write::Servers { lines, .. }) => {
                    for line in lines {
                        line.targets.rotate_left(1);
                    }
                }
                _ => {}
            }
        }
    }
}
