//! Taking over a dataplane that an earlier agent left behind.
//!
//! Invariant: nothing of it is used before all of it has been found to be what this binary would make: aya opens a
//! pinned map of any shape without a look at it.

use std::{collections::BTreeMap, io, path::Path};

use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::maps::{Array, Map, MapData};
use lb_common::abi::{ABI_VERSION, Meta, map};

use super::{
    flow_clock,
    macs::PodOwnMacs,
    object::{Present, Shape, shapes},
    pins::{PinDir, pin_name},
    tables::{PodControl, PodMeta},
};
use crate::config;

/// Maps that may grow within one layout, or be missing in what an earlier agent made: there is one more counter for one
/// more reason, notes for the agent are no concern of packets, and where no MACs are known all are accepted.
const MAY_GROW: [&str; 4] = [map::REASONS, map::NEXT_HOPS, map::OWN_MACS, map::MACS];

/// A dataplane that can be taken over.
pub(super) struct FoundDataplane {
    pub(super) meta: Meta,
    pub(super) present: Present,
}

/// The dataplane in `pins`, if there is one.
///
/// # Errors
/// When there is one that this binary cannot take over; the message says what differs, and what to do.
pub(super) fn find(pins: &PinDir, namespace: u64) -> Result<Option<FoundDataplane>> {
    let maps = pins.maps();
    if !maps.exists() {
        return Ok(None);
    }
    let found = meta(&maps, namespace).and_then(|meta| {
        let present = present(pins, &meta)?;
        Ok(FoundDataplane { meta, present })
    });
    found.map(Some).map_err(|error| {
        anyhow!(
            "the dataplane in {0} cannot be taken over: {error:#}. It goes on as it is. Run `lb stop --detach --pin-dir {0}` \
             and start again: clients meet no balancer for that moment, then tables and flows come back from the \
             checkpoint",
            pins.path().display()
        )
    })
}

/// What the dataplane says of itself.
fn meta(maps: &Path, namespace: u64) -> Result<Meta> {
    let (shape, data) = open(maps, map::META)?;
    let expected = shapes(&Meta::EMPTY)?[map::META];
    ensure!(shape == expected, "map {} is {shape}, not {expected}", map::META);
    let PodMeta(meta) = Array::try_from(Map::Array(data))?.get(&0, 0)?;
    ensure!(meta.magic == Meta::MAGIC, "map {} is not of lb", map::META);
    ensure!(
        meta.abi_version == ABI_VERSION,
        "its tables have layout {}, those of this lb have layout {ABI_VERSION}",
        meta.abi_version
    );
    let sizes = config::DataplaneConfig {
        max_services: meta.services,
        max_targets: meta.targets,
        max_slots: meta.slots,
        max_flows: meta.flows,
        ..config::DataplaneConfig::default()
    };
    sizes
        .validate()
        .map_err(|invalid| anyhow!("map {} says {invalid}", map::META))?;
    ensure!(
        meta.flows.is_power_of_two(),
        "map {} says {} flows, which is no power of two",
        map::META,
        meta.flows
    );
    let shift = flow_clock::shift()?;
    ensure!(
        meta.clock_shift == shift,
        "its flow clock is jiffies >> {}, that of this lb jiffies >> {shift}",
        meta.clock_shift
    );
    ensure!(
        meta.namespace == namespace,
        "it belongs to another network namespace (net:[{}], this is net:[{namespace}]): give this lb another --pin-dir",
        meta.namespace
    );
    Ok(meta)
}

/// All maps, found to be of the shapes that `meta` asks for, but for those of [`MAY_GROW`].
pub(super) fn present(pins: &PinDir, meta: &Meta) -> Result<Present> {
    let directory = pins.maps();
    let (mut present, mut grown) = (BTreeMap::new(), BTreeMap::new());
    let (mut control, mut own_macs) = (None, None);
    for (name, expected) in shapes(meta)? {
        let may_grow = MAY_GROW.contains(&name.as_str());
        if may_grow && is_missing(&directory.join(pin_name(&name))) {
            grown.insert(name, None);
            continue;
        }
        let (shape, data) = open(&directory, &name)?;
        if may_grow && shape.is_smaller_than(&expected) {
            grown.insert(name, Some(data));
            continue;
        }
        if shape != expected {
            bail!("map {name} is {shape}, not {expected}");
        }
        if name == map::CONTROL {
            control = Some(Array::<_, PodControl>::try_from(Map::Array(data))?.get(&0, 0)?);
        } else if name == map::OWN_MACS {
            own_macs = Some(Array::<_, PodOwnMacs>::try_from(Map::Array(data))?.get(&0, 0)?);
        }
        present.insert(name.clone(), directory.join(pin_name(&name)));
    }
    Ok(Present {
        pins: present,
        control: control.context("the object holds no control words")?,
        own_macs,
        grown,
    })
}

fn is_missing(path: &Path) -> bool {
    path.symlink_metadata()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn open(maps: &Path, name: &str) -> Result<(Shape, MapData)> {
    let path = maps.join(pin_name(name));
    let data =
        MapData::from_pin(&path).with_context(|| format!("{} cannot be opened as a map", path.display()))?;
    Ok((Shape::of(&data)?, data))
}
