//! Services: what leads to them, what is special about them, and where their packets can go.

use crate::abi::{
    AclKey, AclVerdict, Features, Key4, Key6, Lengths, OptionsEntry, ServiceEntry, ServiceLine4,
    ServiceLine6, TableIndex, TagsEntry, TargetEntry,
};

/// The tables of services and of their targets.
pub trait ServiceTables {
    /// Look-ups that can find anything.
    fn features(&self) -> Features;
    /// Where the service table of IPv4 or IPv6 is found.
    fn service_index(&self, v6: bool) -> TableIndex;
    /// A line of map `SERVICES4`.
    fn service_line4(&self, line: u32) -> Option<&ServiceLine4>;
    /// A line of map `SERVICES6`.
    fn service_line6(&self, line: u32) -> Option<&ServiceLine6>;
    /// Follows a chain of `SERVICES4` from line `first` to the line that holds `key`; 0 if none does. Rare, so the
    /// kernel build makes [`crate::abi::follow_chain`] a function of its own, verified once and not at every look-up.
    fn follow4(&self, first: u32, key: &Key4) -> u32;
    /// Follows a chain of `SERVICES6`, as [`Self::follow4`] does one of `SERVICES4`.
    fn follow6(&self, first: u32, key: &Key6) -> u32;
    /// The service of that key: [`crate::pipeline::look_up4`], which the kernel build makes a function of its own.
    fn look_up4(&self, key: &Key4) -> Option<ServiceEntry>;
    /// The service of that key of IPv6: [`crate::pipeline::look_up6`], which the kernel build makes a function of its own.
    fn look_up6(&self, key: &Key6) -> Option<ServiceEntry>;
    /// Lengths of the prefixes of IPv4 or IPv6 that services have as VIPs.
    fn lengths(&self, v6: bool) -> Lengths;
    /// A line of map `OPTIONS`, by a service's number.
    fn options(&self, number: u32) -> Option<&OptionsEntry>;
    /// What the longest entry of map `SOURCES` that agrees with `client` says; `None` if there is none.
    fn access(&self, client: &AclKey) -> Option<AclVerdict>;
    /// An entry of map `TARGETS`.
    fn target(&self, index: u32) -> Option<&TargetEntry>;
    /// An entry of map `TAGS`, by a target's index.
    fn tags(&self, index: u32) -> Option<&TagsEntry>;
}
