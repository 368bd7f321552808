//! What programs of `lb decap` are attached, and what they have counted. The kernel knows; nothing else need be running.

use anyhow::{Context, Result};
use aya::{
    maps::{Map, MapData, MapType, PerCpuArray},
    programs::loaded_programs,
};
use lb_common::decap::{PROGRAM, Reason};
use serde::Serialize;

use crate::netlink;

/// Every program of `lb decap` that is attached in this network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DecapView {
    /// One for each `lb decap` that was started.
    pub programs: Vec<DecapProgram>,
}

/// A program and its counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DecapProgram {
    /// The kernel's id of the program.
    pub program_id: u32,
    /// The interfaces that it is attached to.
    pub interfaces: Vec<String>,
    /// Packets whose outer headers were taken off.
    pub decapsulated: u64,
    /// All counters.
    pub counts: Vec<DecapCount>,
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DecapCount {
    /// The reason's name.
    pub reason: &'static str,
    /// Packets.
    pub packets: u64,
    /// What the reason means.
    pub meaning: &'static str,
}

impl DecapProgram {
    /// The view of a program whose counters stand so.
    pub fn new(program_id: u32, interfaces: Vec<String>, counts: &[u64]) -> Self {
        let of = |reason: Reason| counts.get(reason as usize).copied().unwrap_or(0);
        let decapsulated = Reason::ALL.iter().filter(|reason| reason.is_decapsulated());
        Self {
            program_id,
            interfaces,
            decapsulated: decapsulated.map(|&reason| of(reason)).sum(),
            counts: Reason::ALL
                .iter()
                .map(|&reason| DecapCount {
                    reason: reason.name(),
                    packets: of(reason),
                    meaning: reason.meaning(),
                })
                .collect(),
        }
    }
}

/// What is attached in the calling thread's network namespace.
///
/// # Errors
/// When the kernel does not answer, as it does not without root.
pub async fn status() -> Result<DecapView> {
    let interfaces = netlink::interfaces().await?;
    let mut programs = Vec::new();
    for program in loaded_programs() {
        let program = program.context("cannot list the BPF programs: run this as root")?;
        if program.name_as_str() != Some(PROGRAM) {
            continue;
        }
        let on = interfaces
            .iter()
            .filter(|interface| interface.xdp.iter().any(|xdp| xdp.program_id == program.id()))
            .map(|interface| interface.name.clone())
            .collect::<Vec<_>>();
        // Else it is attached elsewhere: in another network namespace.
        if on.is_empty() {
            continue;
        }
        for id in program.map_ids()?.into_iter().flatten() {
            let data = MapData::from_id(id)?;
            if is_counts(&data)? {
                let counts = sums(&Map::PerCpuArray(data))?;
                programs.push(DecapProgram::new(program.id(), on, &counts));
                break;
            }
        }
    }
    Ok(DecapView { programs })
}

/// Whether these are the counters. They are known by their shape: of some kernels aya cannot read the release (`7.3-amd64`),
/// and gives their maps no names.
fn is_counts(data: &MapData) -> Result<bool> {
    let info = data.info()?;
    Ok(info.map_type()? == MapType::PerCpuArray
        && info.value_size() as usize == size_of::<u64>()
        && info.max_entries() == Reason::COUNT)
}

/// The sums over all CPUs, by number of the reason.
pub(super) fn sums(counts: &Map) -> Result<Vec<u64>> {
    let counts: PerCpuArray<&MapData, u64> = counts.try_into()?;
    (0..Reason::COUNT)
        .map(|reason| Ok(counts.get(&reason, 0)?.iter().sum()))
        .collect()
}
