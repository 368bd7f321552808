//! The tables as both sides see them: one file per table.
//!
//! Invariant: every type here is `repr(C)` without padding, and its size is asserted. Whoever changes a layout or
//! the meaning of a field raises [`ABI_VERSION`].
//!
//! Byte order: addresses, ports and MACs are stored as the wire has them; a word that holds them was made with
//! `from_ne_bytes`. Counts, indexes and lengths are native.

mod control;
mod count;
mod flow;
mod fragment;
mod macs;
mod meta;
mod nat;
mod next_hop;
mod options;
mod placement;
mod quic;
mod reason;
mod record;
mod selector;
mod service;
mod slot;
mod source;
mod tags;
mod target;
mod trace;
mod upper;

pub use control::{Control, Features, TableIndex};
pub use count::TargetCounters;
pub use flow::{FLOWS_PER_LINE, FlowKey, FlowLine, FlowState, FlowValue, TrackingCounters};
pub use fragment::{FragmentEntry, FragmentKey};
pub use macs::{MAX_MACS, Mac, MacKey, OwnMacs};
pub use meta::Meta;
pub use nat::{FlowEnds, MAX_NAT_SOURCES, NatEntry, SnatPoolEntry};
pub use next_hop::{MAX_NEXT_HOPS, NextHopKey};
pub use options::{FragmentMode, OptionsEntry, TtlExpiredMode};
pub use placement::Placement;
pub use quic::{
    QuicConfigEntry, QuicKind, QuicSetEntry, RoundKeys, SERVERS_PER_LINE, ServerIdEntry, ServerLine,
    ServerTable,
};
pub(crate) use reason::reasons;
pub use reason::{Action, Reason};
pub use record::{CellEntry, NAME_BYTES, PLACES, PoolEntry, PoolLocation};
pub use selector::{Direction, Lengths, Meaning, PortBlock, Scope, Selector};
pub use service::{
    KEYS_PER_LINE_V4, KEYS_PER_LINE_V6, Key4, Key6, MAX_CHAIN, ServiceEntry, ServiceFlags, ServiceKey,
    ServiceLine, ServiceLine4, ServiceLine6, follow_chain,
};
pub use slot::{SLOTS_PER_LINE, Slot, SlotLine};
pub use source::{AclKey, AclVerdict, MAX_SOURCES};
pub use tags::TagsEntry;
pub use target::{Forward, TargetEntry};
pub use trace::Trace;
pub use upper::{DeviceEntry, MAX_UPPERS};

/// The version of everything in this module.
pub const ABI_VERSION: u32 = 3;

/// Names of the BPF maps.
pub mod map {
    /// One [`super::Control`].
    pub const CONTROL: &str = ".data.control";
    /// Two halves of [`super::ServiceLine4`].
    pub const SERVICES4: &str = "SERVICES4";
    /// Two halves of [`super::ServiceLine6`].
    pub const SERVICES6: &str = "SERVICES6";
    /// [`super::SlotLine`]s, handed out to slot tables in runs.
    pub const SLOTS: &str = "SLOTS";
    /// [`super::SlotLine`]s: who owned the slot before, read where `SLOTS` says unsafe.
    pub const PREVIOUS: &str = "PREVIOUS";
    /// [`super::FlowLine`]s, indexed by [`super::FlowKey::line`].
    pub const FLOWS: &str = "FLOWS";
    /// Per CPU one [`super::TrackingCounters`] a [`super::ServiceEntry::number`].
    pub const TRACKING: &str = "TRACKING";
    /// [`super::TargetEntry`]s, handed out to services in runs.
    pub const TARGETS: &str = "TARGETS";
    /// One [`super::TagsEntry`] a target.
    pub const TAGS: &str = "TAGS";
    /// [`super::PoolEntry`]s, indexed by [`super::ServiceEntry::number`]. The program does not read them.
    pub const POOLS: &str = "POOLS";
    /// [`super::CellEntry`]s, indexed like `TARGETS`. The program does not read them.
    pub const CELLS: &str = "CELLS";
    /// One [`super::OptionsEntry`] a [`super::ServiceEntry::number`].
    pub const OPTIONS: &str = "OPTIONS";
    /// A trie of [`super::AclKey`]s, and [`super::AclVerdict`] as a `u32` of each.
    pub const SOURCES: &str = "SOURCES";
    /// [`super::QuicSetEntry`]s, handed out to services that route by connection IDs.
    pub const QUIC: &str = "QUIC";
    /// [`super::ServerLine`]s, handed out to those in runs.
    pub const SERVERS: &str = "SERVERS";
    /// Per CPU one [`super::TargetCounters`] a target.
    pub const COUNTS: &str = "COUNTS";
    /// Per CPU one `u64` a [`super::Reason`].
    pub const REASONS: &str = "REASONS";
    /// Per [`super::FragmentKey`] one [`super::FragmentEntry`], the program's own.
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// Per CPU one `u64`, the program's own: the unit of the flow clock in which answers were made last (upper half),
    /// and how many.
    pub const ANSWERS: &str = "ANSWERS";
    /// Per CPU, the program's own: what the host's routing said last, by destination.
    pub const ROUTES: &str = "ROUTES";
    /// [`super::NextHopKey`] → 0: next hops of answers, until the agent has had the kernel make sure of them.
    pub const NEXT_HOPS: &str = "NEXT_HOPS";
    /// [`super::FlowEnds`] → [`super::NatEntry`]: flows through `fullnat`, two entries each.
    pub const TRANSLATIONS: &str = "TRANSLATIONS";
    /// Two [`super::SnatPoolEntry`]s: of IPv4 and of IPv6.
    pub const SOURCE_POOLS: &str = "SOURCE_POOLS";
    /// Addresses that `fullnat` flows show their backends, wide (see [`super::TargetEntry::addresses`]).
    pub const NAT_SOURCES: &str = "NAT_SOURCES";
    /// One [`super::OwnMacs`].
    pub const OWN_MACS: &str = ".data.macs";
    /// [`super::MacKey`]s: MACs that frames to this host bear. Their values say nothing.
    pub const MACS: &str = "MACS";
    /// Interface index → [`super::DeviceEntry`]: how to send out of it.
    pub const UPPERS: &str = "UPPERS";
    /// Interface index → interface index: where `XDP_REDIRECT` may send to.
    pub const EGRESS: &str = "EGRESS";
    /// Per CPU one [`crate::pipeline::detour::Scratch`], the program's own.
    pub const SEEN: &str = "SEEN";
    /// The program for packets which take the detour, at index 0.
    pub const DETOURS: &str = "DETOURS";
    /// One [`super::Meta`], the agent's own.
    pub const META: &str = "META";
}

/// Names of the program's globals, set when it is loaded.
pub mod global {
    /// `u64`: seed of the flow hash; equal on balancers that must agree.
    pub const SEED: &str = "SEED";
    /// `u32`: [`super::TableIndex::bits`] of both service tables.
    pub const SERVICE_BITS: &str = "SERVICE_BITS";
    /// `u32`: the flow clock is the kernel's jiffies shifted right by this.
    pub const CLOCK_SHIFT: &str = "CLOCK_SHIFT";
    /// `u32`: lines of `FLOWS`, a power of two.
    pub const FLOW_LINES: &str = "FLOW_LINES";
    /// `u32`: new flows that one service may write down on one CPU in one unit of the flow clock.
    pub const FLOW_BUDGET: &str = "FLOW_BUDGET";
    /// `u32`: answers (ICMP errors, TCP resets) that one CPU may make in one unit of the flow clock.
    pub const ANSWER_BUDGET: &str = "ANSWER_BUDGET";
    /// `u64`: not 0 to log every packet.
    pub const DEBUG: &str = "DEBUG";
    /// [`super::Control`]: the one entry of [`super::map::CONTROL`].
    pub const CONTROL: &str = "CONTROL";
    /// [`super::OwnMacs`]: the one entry of [`super::map::OWN_MACS`].
    pub const OWN_MACS: &str = "OWN_MACS";
}

/// Name of the XDP program that interfaces run.
pub const PROGRAM: &str = "lb";
/// Name of the XDP program that it calls for packets which take the detour.
pub const DETOUR_PROGRAM: &str = "lb_detour";
