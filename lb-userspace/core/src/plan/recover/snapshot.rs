//! The tables by name, to make them again when the kernel has lost them.
//!
//! A snapshot keeps what flows depend on: who owns the slots of a pool and who owned them before, and the numbers by
//! which entries of the flow table name its backends.

use lb_common::abi::Slot;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::desired::{BackendId, Prefix, Protocol, ServiceName, ServicePort};
use crate::plan::{
    layout::{
        CapacityError, Layout,
        placed_pool::{Cell, PlacedPool},
    },
    pools::pool::PoolKey,
};
use crate::schedule::History;

/// A layout's pools by name. Snapshots are kept in files: fields are added with a default, never renamed or retyped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutSnapshot {
    /// Seed of the flow hash.
    pub seed: u64,
    /// The pools.
    pub pools: Vec<PoolSnapshot>,
}

/// A pool by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSnapshot {
    /// The service.
    pub service: ServiceName,
    /// Whether this is the IPv6 part of a `nat` service.
    pub v6_part: bool,
    /// The number by which flows name the pool: [`lb_common::abi::FlowValue::service`].
    pub number: u16,
    /// The VIPs, by the numbers by which flows name them.
    pub vips: Vec<Prefix>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port that clients use.
    pub port: ServicePort,
    /// How packets are treated, in the dataplane's words.
    pub flags: u16,
    /// The target cells, by the indexes by which slots and flows name them.
    pub cells: Vec<CellSnapshot>,
    /// The slots as map `SLOTS` has them, two bytes each, little-endian.
    pub slots: ByteBuf,
    /// The previous owners of the migrating slots, in order, two bytes each, little-endian.
    pub previous: ByteBuf,
    /// How the slots came to be, if the next slots depend on that.
    #[serde(default)]
    pub history: Option<History>,
}

/// Which backend a target cell belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellSnapshot {
    /// It belongs to no backend.
    Free,
    /// It belongs to no backend any more, but flows may name it.
    Gone,
    /// It belonged to a backend that has another cell now. Flows may still name this one.
    Renamed(BackendId),
    /// It belongs to that backend.
    Of(BackendId),
}

/// A snapshot cannot be made into tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot contradicts itself.
    #[error("what is remembered of service {0} makes no sense: {1}")]
    Content(ServiceName, &'static str),
    /// The tables are smaller than they were.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
}

impl Layout {
    /// The pools by name. A layout that was read back needs a plan before, since what its pools mean is not known.
    pub fn snapshot(&self) -> LayoutSnapshot {
        LayoutSnapshot {
            seed: self.seed(),
            pools: self
                .placed_pools
                .values()
                .map(|placed| PoolSnapshot::of(placed))
                .collect(),
        }
    }
}

impl PoolSnapshot {
    fn of(placed: &PlacedPool) -> Self {
        let slots = &placed.slots;
        let flagged = slots
            .current
            .iter()
            .zip(&*slots.previous)
            .filter(|(slot, _)| slot.is_migrating());
        Self {
            service: placed.pool.key.service.clone(),
            v6_part: placed.pool.key.v6_part,
            number: placed.number as u16,
            vips: placed.pool.vips.clone(),
            protocol: placed.pool.service.protocol,
            port: placed.pool.service.port,
            flags: placed.pool.flags.bits(),
            cells: (0..placed.cells.len())
                .map(|local| cell_snapshot(placed, local))
                .collect(),
            slots: bytes(slots.current.iter()),
            previous: bytes(flagged.map(|(_, previous)| previous)),
            history: placed.history.as_deref().cloned(),
        }
    }

    /// Who owns each slot; `None` if half a slot is left.
    pub(super) fn owners(&self) -> Option<Vec<Option<BackendId>>> {
        let owner = |slot: Slot| match self.cells.get(slot.owner()? as usize)? {
            CellSnapshot::Of(id) | CellSnapshot::Renamed(id) => Some(*id),
            CellSnapshot::Free | CellSnapshot::Gone => None,
        };
        Some(slots(&self.slots)?.into_iter().map(owner).collect())
    }

    /// The pool's name.
    pub(super) fn key(&self) -> PoolKey {
        PoolKey {
            service: self.service.clone(),
            v6_part: self.v6_part,
        }
    }

    /// The error that the snapshot of this pool makes no sense.
    pub(super) fn wrong(&self, what: &'static str) -> RestoreError {
        RestoreError::Content(self.service.clone(), what)
    }
}

fn cell_snapshot(placed: &PlacedPool, local: usize) -> CellSnapshot {
    match &placed.cells[local] {
        Cell::Free => CellSnapshot::Free,
        Cell::Owned(id, _) => CellSnapshot::Of(*id),
        Cell::Cooling(_) => match &placed.cells[placed.present_cell(local as u32) as usize] {
            Cell::Owned(id, _) => CellSnapshot::Renamed(*id),
            _ => CellSnapshot::Gone,
        },
    }
}

fn bytes<'a>(slots: impl Iterator<Item = &'a Slot>) -> ByteBuf {
    ByteBuf::from(slots.flat_map(|slot| slot.0.to_le_bytes()).collect::<Vec<u8>>())
}

/// The slots in `bytes`; `None` if the number of bytes is odd.
pub(super) fn slots(bytes: &[u8]) -> Option<Vec<Slot>> {
    let (words, rest) = bytes.as_chunks();
    rest.is_empty()
        .then(|| words.iter().map(|word| Slot(u16::from_le_bytes(*word))).collect())
}
