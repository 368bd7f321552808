//! What became of a packet, and whether that is what its row expects.

use anyhow::{Context, Result, bail, ensure};
use lb_common::abi::{Action, Placement, Reason};
use lb_core::plan::{Layout, PoolKey};
use lb_packets::check_sums;

use super::row::Row;

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) reason: Reason,
    pub(crate) redirected: bool,
    pub(crate) service: Option<u32>,
    pub(crate) slot: Option<u32>,
    pub(crate) target: Option<u32>,
    pub(crate) placement: Placement,
    pub(crate) frame: Vec<u8>,
}

impl Verdict {
    /// Whether this is what `row` expects, with `layout` in the tables.
    pub(crate) fn check(&self, row: &Row, layout: &Layout) -> Result<()> {
        ensure!(
            self.reason == row.reason,
            "left for {:?}, not for {:?}",
            self.reason,
            row.reason
        );
        if self.frame != row.output {
            bail!("the frame is\n{}not\n{}", dump(&self.frame), dump(&row.output));
        }
        ensure!(
            self.redirected == row.redirected,
            "redirected: {}",
            self.redirected
        );
        if !matches!(row.reason.action(), Action::Send | Action::Hand) {
            ensure!(
                row.input == row.output,
                "the row expects a change of a packet not sent"
            );
        } else if check_sums(&row.input).is_ok() {
            check_sums(&self.frame).context("the frame sent has a wrong checksum")?;
        }
        if let Some(placement) = row.placement {
            ensure!(self.placement == placement, "placed by {:?}", self.placement);
        }
        self.check_backend(row, layout)
    }

    fn check_backend(&self, row: &Row, layout: &Layout) -> Result<()> {
        let Some(backend) = row.backend else {
            return Ok(());
        };
        let target = self.target.context("no target was chosen")?;
        let (_, whose) = layout
            .owners()
            .find(|(index, _)| *index == target)
            .with_context(|| format!("target {target} belongs to nobody"))?;
        ensure!(
            whose.backend == backend,
            "sent to {}, not to {backend}",
            whose.backend
        );
        let Some(hash) = row.hash else { return Ok(()) };
        let v6_part = |v6_part| {
            let service = whose.service.clone();
            layout.pool(&PoolKey { service, v6_part })
        };
        let pool = [false, true]
            .into_iter()
            .filter_map(v6_part)
            .find(|pool| pool.owned().contains_key(&backend))
            .context("no pool has that backend")?;
        let slot = (hash >> 48) as u32 % pool.slots() as u32;
        ensure!(self.slot == Some(slot), "slot {:?}, not {slot}", self.slot);
        Ok(())
    }
}

fn dump(frame: &[u8]) -> String {
    let line = |(i, bytes): (usize, &[u8])| format!("  {:04x} {bytes:02x?}\n", i * 16);
    frame.chunks(16).enumerate().map(line).collect()
}
