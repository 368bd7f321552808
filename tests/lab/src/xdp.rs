//! The lab's own XDP programs (`lb-ebpf/src/lab.rs`), attached in native mode.

use anyhow::{Context, Result};
use aya::{
    Ebpf, include_bytes_aligned,
    maps::PerCpuArray,
    programs::{Xdp, XdpMode},
};

use super::Namespace;

/// A program of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LabProgram {
    /// Passes everything: lets the other end of a veth pair send with `XDP_TX`.
    Pass,
    /// Counts TCP packets over IPv4, and drops them.
    Count,
    /// Puts IP packets into VLAN 100.
    Tag,
    /// Puts IP packets into VLAN 100 of a provider's VLAN 200.
    Stack,
    /// Takes all tags off.
    Untag,
}

impl LabProgram {
    const ALL: [Self; 5] = [Self::Pass, Self::Count, Self::Tag, Self::Stack, Self::Untag];

    const fn symbol(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Count => "count",
            Self::Tag => "tag",
            Self::Stack => "stack",
            Self::Untag => "untag",
        }
    }
}

/// The loaded programs; dropping them detaches them everywhere.
#[derive(Debug)]
pub(super) struct LabPrograms {
    ebpf: Ebpf,
}

impl LabPrograms {
    /// Loads the programs into the kernel.
    ///
    /// # Errors
    /// When the kernel refuses them.
    pub(super) fn load() -> Result<Self> {
        let object = include_bytes_aligned!(env!("LB_LAB_OBJECT"));
        let mut ebpf = Ebpf::load(object).context("cannot load the lab's BPF object")?;
        for program in LabProgram::ALL {
            let name = program.symbol();
            xdp(&mut ebpf, name)?
                .load()
                .with_context(|| format!("the kernel refuses the XDP program {name}; run this as root"))?;
        }
        Ok(Self { ebpf })
    }

    /// How many packets [`LabProgram::Count`] has taken, on all interfaces together.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(super) fn counted(&self) -> Result<u64> {
        let map = self
            .ebpf
            .map("RECEIVED")
            .context("the lab's BPF object has no map RECEIVED")?;
        let received: PerCpuArray<_, u64> = map.try_into()?;
        Ok(received.get(&0, 0)?.iter().sum())
    }

    /// Attaches `program` to `interface` of `namespace` in native mode.
    ///
    /// # Errors
    /// When the interface is missing or carries another program.
    pub(super) fn attach(
        &mut self,
        program: LabProgram,
        namespace: &Namespace,
        interface: &str,
    ) -> Result<()> {
        let name = program.symbol();
        let attach = || {
            xdp(&mut self.ebpf, name)?.attach(interface, XdpMode::Driver)?;
            anyhow::Ok(())
        };
        namespace.run(attach)?.with_context(|| {
            format!(
                "cannot attach the XDP program {name} to {interface} in {}",
                namespace.name()
            )
        })
    }
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the lab's BPF object has no program {name}"))?;
    program
        .try_into()
        .with_context(|| format!("{name} is no XDP program"))
}
