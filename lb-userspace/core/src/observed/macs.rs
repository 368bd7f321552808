//! MACs that frames to this host bear.

use std::collections::BTreeSet;

/// MACs of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceMacs {
    /// Its own.
    pub own: [u8; 6],
    /// MACs of VLAN devices, macvlans and the like on it, of the bond or bridge that it is a part of, and of what lies
    /// on these; of a bond or bridge itself, those of its parts.
    pub others: BTreeSet<[u8; 6]>,
    /// What it is a part of.
    pub master: Option<u32>,
}
