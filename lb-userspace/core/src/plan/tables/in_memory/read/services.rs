//! Services, and where their packets can go.

use lb_common::{
    abi::{
        AclKey, AclVerdict, Features, Key4, Key6, Lengths, OptionsEntry, ServiceEntry, ServiceLine4,
        ServiceLine6, TableIndex, TagsEntry, TargetEntry, follow_chain,
    },
    pipeline::{self, ServiceTables},
};

use super::InMemory;

impl ServiceTables for InMemory {
    fn features(&self) -> Features {
        self.control.features
    }

    fn service_index(&self, v6: bool) -> TableIndex {
        self.control.index(v6, self.service_bits)
    }

    fn service_line4(&self, line: u32) -> Option<&ServiceLine4> {
        self.services4.get(line as usize)
    }

    fn service_line6(&self, line: u32) -> Option<&ServiceLine6> {
        self.services6.get(line as usize)
    }

    fn follow4(&self, first: u32, key: &Key4) -> u32 {
        follow_chain(first, key, |line| self.service_line4(line))
    }

    fn follow6(&self, first: u32, key: &Key6) -> u32 {
        follow_chain(first, key, |line| self.service_line6(line))
    }

    fn look_up4(&self, key: &Key4) -> Option<ServiceEntry> {
        pipeline::look_up4(self, key)
    }

    fn look_up6(&self, key: &Key6) -> Option<ServiceEntry> {
        pipeline::look_up6(self, key)
    }

    fn lengths(&self, v6: bool) -> Lengths {
        self.control.lengths[usize::from(v6)]
    }

    fn options(&self, number: u32) -> Option<&OptionsEntry> {
        self.options.get(number as usize)
    }

    fn access(&self, client: &AclKey) -> Option<AclVerdict> {
        let holding = self
            .sources
            .iter()
            .filter(|entry| entry.key.agrees(client, entry.bits));
        holding.max_by_key(|entry| entry.bits).map(|entry| entry.access)
    }

    fn target(&self, index: u32) -> Option<&TargetEntry> {
        self.targets.get(index as usize)
    }

    fn tags(&self, index: u32) -> Option<&TagsEntry> {
        self.tags.get(index as usize)
    }
}
