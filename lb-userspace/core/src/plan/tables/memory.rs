//! Where writes go: the kernel's maps, or plain memory.

use lb_common::{
    abi::{
        CellEntry, Control, FlowKey, FlowLine, FlowValue, OptionsEntry, PoolEntry, QuicSetEntry, ServerLine,
        ServiceLine4, ServiceLine6, Slot, TagsEntry, TargetEntry,
    },
    flow::SharedLine,
};

use super::{sources::SourceEntry, write::Write};

/// Something that holds the tables.
pub trait Memory {
    /// Returns when every packet that was on its way has left.
    fn wait_for_packets(&mut self);
    /// Stores what a number stands for.
    fn write_pool(&mut self, number: u16, record: &PoolEntry);
    /// Stores which backend a target belongs to.
    fn write_cell(&mut self, index: u32, record: &CellEntry);
    /// Stores a whole target.
    fn write_target(&mut self, index: u32, target: &TargetEntry);
    /// Stores the tags of a target that no packet can reach.
    fn write_tags(&mut self, index: u32, tags: TagsEntry);
    /// Stores the options of a service.
    fn write_options(&mut self, number: u16, options: &OptionsEntry);
    /// Stores lines of server IDs.
    fn write_servers(&mut self, line: u32, lines: &[ServerLine]);
    /// Stores a set of QUIC configurations.
    fn write_quic(&mut self, index: u32, set: &QuicSetEntry);
    /// Stores entries of lists of clients.
    fn write_sources(&mut self, entries: &[SourceEntry]);
    /// Removes entries of lists of clients.
    fn remove_sources(&mut self, entries: &[SourceEntry]);
    /// Stores a target's MACs. The half with the next hop's MAC comes first.
    fn write_macs(&mut self, index: u32, target: &TargetEntry);
    /// Stores those previous owners of a slot table that differ from the present ones.
    fn write_previous(&mut self, line: u32, slots: &[Slot]);
    /// Shows every entry of the flow table that is in use to `visit`. The value that `visit` yields takes the place of the
    /// entry's value, if that has not changed meanwhile.
    fn visit_flows(&mut self, visit: &mut dyn FnMut(FlowKey, FlowValue) -> Option<FlowValue>);
    /// Puts an entry into the flow table where the program finds it, unless the flow has one. Yields false if there is no
    /// room.
    fn insert_flow(&mut self, key: FlowKey, value: FlowValue) -> bool;
    /// Stores those slots of a table that differ from the present ones.
    fn write_slots(&mut self, line: u32, slots: &[Slot]);
    /// Stores lines of the IPv4 service table.
    fn write_services4(&mut self, line: u32, lines: &[ServiceLine4]);
    /// Stores lines of the IPv6 service table.
    fn write_services6(&mut self, line: u32, lines: &[ServiceLine6]);
    /// Switches to the tables just written: see [`Control`].
    fn publish(&mut self, control: &Control);
}

/// Takes the writes out of a plan's that fill lists of clients to which nothing leads yet. They may be carried out before
/// all others, in this order.
pub fn take_lists(writes: &mut Vec<Write>) -> Vec<Write> {
    let end = writes
        .iter()
        .position(|write| matches!(write, Write::Publish(_)))
        .unwrap_or(writes.len());
    let rest = writes.split_off(end);
    let (lists, others) = std::mem::take(writes)
        .into_iter()
        .partition(|write| matches!(write, Write::Sources(_) | Write::SourcesGone(_)));
    *writes = others;
    writes.extend(rest);
    lists
}

/// Carries out a plan's writes.
pub fn apply(writes: &[Write], memory: &mut (impl Memory + ?Sized)) {
    for write in writes {
        match write {
            Write::Wait => memory.wait_for_packets(),
            Write::Pool { number, record } => memory.write_pool(*number, record),
            Write::Cell { index, record } => memory.write_cell(*index, record),
            Write::Target { index, entry } => {
                memory.write_tags(*index, entry.tags);
                memory.write_target(*index, &entry.target);
            }
            Write::Options { number, options } => memory.write_options(*number, options),
            Write::Servers { line, lines } => memory.write_servers(*line, lines),
            Write::Quic { index, set } => memory.write_quic(*index, set),
            Write::Sources(entries) => memory.write_sources(entries),
            Write::SourcesGone(entries) => memory.remove_sources(entries),
            Write::Macs { index, target } => memory.write_macs(*index, target),
            Write::Previous { line, slots } => memory.write_previous(*line, slots),
            Write::Flow { key, value } => {
                // If there is no room, the flow is as unknown as it was.
                memory.insert_flow(*key, *value);
            }
            Write::Slots { line, slots } => memory.write_slots(*line, slots),
            Write::Services4 { line, lines } => memory.write_services4(*line, lines),
            Write::Services6 { line, lines } => memory.write_services6(*line, lines),
            Write::Publish(control) => memory.publish(control),
        }
    }
}

/// Puts an entry into a flow table of those lines, unless the flow has one. Yields false if there is no room.
pub fn insert_flow(lines: &[SharedLine], key: FlowKey, value: FlowValue) -> bool {
    let first = key.line(lines.len() as u32);
    let lines = || {
        [first, first ^ 1]
            .into_iter()
            .filter_map(|line| lines.get(line as usize))
    };
    let knows = |line: &SharedLine| {
        let FlowLine { keys, values } = line.read();
        let mut entries = keys.iter().zip(values);
        entries.any(|(known, entry)| {
            *known == key && entry.state().is_some() && entry.service() == value.service()
        })
    };
    lines().any(knows) || lines().any(|line| line.put(key, value))
}
