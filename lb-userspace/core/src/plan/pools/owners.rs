//! Which member of a pool owns each of its slots.

use std::{collections::HashMap, sync::Arc};

use super::{
    backend_state::Observed,
    pool::{Pool, declared},
};
use crate::desired::{BackendId, Scheduler, Services};
use crate::schedule::{Last, Member, homeward, schedule};

/// All pools that `services` want, given what is observed. Where there are pools already, [`Layout::pools`] gives the
/// answer for less work.
///
/// [`Layout::pools`]: crate::plan::Layout::pools
pub fn pools(services: &Services, observed: &impl Observed) -> Vec<Pool> {
    let mut owners = SharedOwners::default();
    let mut pools = declared(services.iter(), observed);
    for pool in &mut pools {
        pool.owners = owners.of(pool, None);
    }
    pools
}

/// A pool whose slots another one takes over.
#[derive(Clone, Debug)]
pub(in crate::plan) struct PresentPool<'a> {
    /// The pool.
    pub(in crate::plan) pool: &'a Pool,
    /// Which member owns each slot once every backend is back that is out; `None` if no slot is lent.
    pub(in crate::plan) homes: Option<Vec<u16>>,
}

/// Slot tables that were worked out already. Pools whose members agree share one table and the work.
#[derive(Default)]
pub(in crate::plan) struct SharedOwners(HashMap<TableKey, Option<Arc<Vec<u16>>>>);

/// All that a slot table depends on, as [`Pool::shares_table_with`] compares it. The number is the address of the
/// present owners, which live longer than this key. The last field has the homes, if slots are lent.
type TableKey = (Scheduler, u32, Vec<Member>, usize, Option<Vec<u16>>);

impl SharedOwners {
    /// The owners of a pool's slots. `present` is the pool whose slots it takes over.
    pub(in crate::plan) fn of(
        &mut self,
        pool: &Pool,
        present: Option<PresentPool<'_>>,
    ) -> Option<Arc<Vec<u16>>> {
        let takers: Vec<Member> = pool.takers().collect();
        // A scheduler that is a pure function of the set knows its own tables only; `consistent` starts from any table.
        let present = present.filter(|present| {
            let ours = pool.service.scheduler;
            ours == Scheduler::Consistent || ours == present.pool.service.scheduler
        });
        let (present, homes) = present.map_or((None, None), |present| (Some(present.pool), present.homes));
        let ids: Vec<BackendId> = present
            .map_or(&[][..], |present| &present.members)
            .iter()
            .map(|member| member.id)
            .collect();
        let owners = present.and_then(|present| present.owners.as_ref());
        let last = owners.map(|owners| Last { owners, ids: &ids });
        let in_use = owners.map_or(0, |owners| owners.as_ptr() as usize);
        self.0
            .entry((pool.service.scheduler, pool.slots, takers, in_use, homes))
            .or_insert_with_key(|(scheduler, slots, takers, _, homes)| {
                match homes {
                    Some(homes) => {
                        let owners = owners.map_or(&[][..], |owners| &owners[..]);
                        homeward(&Last { owners, ids: &ids }, homes, takers, *slots)
                    }
                    None => schedule(*scheduler, last.as_ref(), takers, *slots),
                }
                .map(Arc::new)
            })
            .clone()
    }
}
