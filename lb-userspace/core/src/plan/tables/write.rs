//! The steps that lead from one content of the tables to another.

use std::sync::Arc;

use lb_common::abi::{
    CellEntry, Control, FlowKey, FlowValue, OptionsEntry, PoolEntry, QuicSetEntry, ServerLine, ServiceLine4,
    ServiceLine6, Slot, TargetEntry,
};

use super::{sources::SourceEntry, target::TargetCell};

/// One step toward other content of the tables. The order of a plan's writes matters.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Wait until every packet that is on its way now has left.
    Wait,
    /// Note which service a number stands for, and where it lies.
    Pool {
        /// The number.
        number: u16,
        /// What to note.
        record: PoolEntry,
    },
    /// Note which backend a target cell belongs to.
    Cell {
        /// Its index.
        index: u32,
        /// What to note.
        record: CellEntry,
    },
    /// Fill a target cell that no packet can reach.
    Target {
        /// Its index.
        index: u32,
        /// Its content.
        entry: TargetCell,
    },
    /// Put entries into lists of clients that no service has yet.
    Sources(Vec<SourceEntry>),
    /// Take entries of lists away that no service has any more.
    SourcesGone(Vec<SourceEntry>),
    /// Fill lines of server IDs that no packet can reach.
    Servers {
        /// The first one.
        line: u32,
        /// Their content.
        lines: Vec<ServerLine>,
    },
    /// Fill a set of QUIC configurations that no packet can reach.
    Quic {
        /// Its index.
        index: u32,
        /// Its content.
        set: Box<QuicSetEntry>,
    },
    /// Bring the options of a service to this content, word by word.
    Options {
        /// The service's number.
        number: u16,
        /// The content of the options.
        options: OptionsEntry,
    },
    /// Change the MACs of a target cell that packets may be reading: the next hop's MAC in one store, then our own.
    Macs {
        /// Its index.
        index: u32,
        /// Where the MACs are taken from.
        target: TargetEntry,
    },
    /// Bring the previous owners of a slot table to this content, one store a slot.
    Previous {
        /// First line of the table.
        line: u32,
        /// All of its slots.
        slots: Arc<[Slot]>,
    },
    /// Put an entry into the flow table, unless the flow has one.
    Flow {
        /// The flow.
        key: FlowKey,
        /// What is known of it.
        value: FlowValue,
    },
    /// Bring a slot table to this content, one store a slot.
    Slots {
        /// First line of the table.
        line: u32,
        /// All of its slots.
        slots: Arc<[Slot]>,
    },
    /// Fill a half of the IPv4 service table that no packet reads.
    Services4 {
        /// First line of the half.
        line: u32,
        /// All of its lines.
        lines: Vec<ServiceLine4>,
    },
    /// Fill a half of the IPv6 service table that no packet reads.
    Services6 {
        /// First line of the half.
        line: u32,
        /// All of its lines.
        lines: Vec<ServiceLine6>,
    },
    /// Switch to the tables just written.
    Publish(Control),
}
