//! A case loaded into the kernel, and what was measured of it.

use std::path::Path;

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    programs::{ProgramFd, ProgramInfo},
};

use super::{
    case::{Case, Expected, Program},
    scenario::Balancer,
    wrapper::{OBJECT, Wrapper, xdp},
};

/// A case, ready to be measured.
pub(super) struct Subject<'a> {
    pub(super) case: &'a Case,
    pub(super) own: Candidate,
    /// Another program, fed with the same frames.
    pub(super) peer: Option<Candidate>,
}

/// One program behind its wrapper.
pub(super) struct Candidate {
    pub(super) wrapper: Wrapper,
    program: Loaded,
    expected: Expected,
    /// Nanoseconds a frame, one for each round.
    pub(super) samples: Vec<f64>,
    /// Why there are no more.
    pub(super) fault: Option<String>,
}

/// What keeps the program under test loaded.
enum Loaded {
    Bench(#[expect(dead_code, reason = "held, so that the program stays loaded")] Ebpf),
    Balancer(Box<Balancer>),
    /// A program that stays loaded because another process pinned it.
    Elsewhere,
}

/// The counts before a run.
pub(super) struct Before {
    rewritten: u64,
    counted: Option<u64>,
}

impl<'a> Subject<'a> {
    /// Loads the program of `case`, and finds the one pinned at `peer`.
    pub(super) fn load(case: &'a Case, peer: Option<&Path>, interface: u32) -> Result<Self> {
        let own = Candidate::load(case, interface).with_context(|| format!("case {}", case.name))?;
        let peer = peer.filter(|_| case.for_peer).map(|pin| {
            Candidate::pinned(case, pin, interface)
                .with_context(|| format!("case {}, program {}", case.name, pin.display()))
        });
        Ok(Self {
            case,
            own,
            peer: peer.transpose()?,
        })
    }

    /// All of its programs.
    pub(super) fn candidates(&mut self) -> impl Iterator<Item = &mut Candidate> {
        std::iter::once(&mut self.own).chain(&mut self.peer)
    }
}

impl Candidate {
    fn load(case: &Case, interface: u32) -> Result<Self> {
        let (program, fd) = match &case.program {
            Program::Bench(name) => {
                let mut ebpf = Ebpf::load(OBJECT)?;
                let program = xdp(&mut ebpf, name)?;
                program
                    .load()
                    .with_context(|| format!("the kernel refuses {name}"))?;
                let fd = program.fd()?.try_clone()?;
                (Loaded::Bench(ebpf), fd)
            }
            Program::Balancer(scenario) => {
                let balancer = Balancer::load(scenario, interface)?;
                let fd = balancer.dataplane.program()?.fd()?.try_clone()?;
                (Loaded::Balancer(Box::new(balancer)), fd)
            }
        };
        Self::new(case, program, &fd, interface)
    }

    fn pinned(case: &Case, pin: &Path, interface: u32) -> Result<Self> {
        let program = ProgramInfo::from_pin(pin).context("no program is pinned there")?;
        Self::new(case, Loaded::Elsewhere, &program.fd()?, interface)
    }

    fn new(case: &Case, program: Loaded, fd: &ProgramFd, interface: u32) -> Result<Self> {
        Ok(Self {
            wrapper: Wrapper::load(&case.frame, case.flows, fd, interface)?,
            program,
            expected: case.expected,
            samples: Vec::new(),
            fault: None,
        })
    }

    /// Notes the counts before a run.
    pub(super) fn before(&self) -> Result<Before> {
        Ok(Before {
            rewritten: self.wrapper.rewritten()?,
            counted: self.counted()?,
        })
    }

    /// What went wrong in a run of `repeat` frames whose last came back as `action` and `frame`.
    pub(super) fn fault_since(
        &self,
        before: &Before,
        repeat: u32,
        action: u32,
        frame: &[u8],
    ) -> Result<Option<String>> {
        let Expected {
            action: wanted,
            rewritten: rewrites,
            reason,
        } = self.expected;
        let last = u64::from(!self.wrapper.is_unchanged(frame));
        let rewritten = self.wrapper.rewritten()? - before.rewritten + last;
        let wanted_rewritten = if rewrites { u64::from(repeat) } else { 0 };
        if action != wanted {
            return Ok(Some(format!("the XDP action was {action}, not {wanted}")));
        }
        if rewritten != wanted_rewritten {
            return Ok(Some(format!(
                "{rewritten} frames of {repeat} were rewritten, not {wanted_rewritten}"
            )));
        }
        if let (Some(before), Some(now)) = (before.counted, self.counted()?)
            && now - before != u64::from(repeat)
        {
            let (counted, reason) = (now - before, reason.name());
            return Ok(Some(format!(
                "the balancer counted {counted} frames of {repeat} as {reason}"
            )));
        }
        Ok(None)
    }

    fn counted(&self) -> Result<Option<u64>> {
        match &self.program {
            Loaded::Balancer(balancer) => balancer.counted(self.expected.reason).map(Some),
            Loaded::Bench(_) | Loaded::Elsewhere => Ok(None),
        }
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bench(_) => "Bench",
            Self::Balancer(_) => "Balancer",
            Self::Elsewhere => "Elsewhere",
        })
    }
}
