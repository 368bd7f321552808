//! One run: cases until there were enough packets, and what was wrong with them.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;
use lb_common::abi::Reason;
use lb_world::World;

use super::{
    case::Case,
    compare::{Disagreement, Judges},
    flaw::Broken,
    generate::Generator,
    machine::Kernel,
    options::Options,
    saved, world,
};

/// Packets after which everything begins anew, so that what is remembered stays small.
const EPOCH: u64 = 200_000;
/// Disagreements that are made small and kept, one of each kind; the others are counted.
const KEPT: usize = 20;
/// Disagreements after which there is no use in going on.
const ENOUGH: u64 = 10_000;
/// One packet in so many is run as on a wire, beside those that the program remembers.
const FOR_REAL: u64 = 8;
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(5);

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Packets sent.
    pub packets: u64,
    /// Packets about which the opinions differed.
    pub disagreements: u64,
    /// Packets by the reason for which they left, where all agreed.
    pub by_reason: [u64; Reason::COUNT as usize],
    /// What was wrong, for those that were kept.
    pub kept: Vec<String>,
}

/// Sends as many packets as asked for, with nothing `broken`, or until that is noticed.
///
/// # Errors
/// Without privilege, or when the kernel refuses the program.
pub fn run(options: &Options, broken: Broken) -> Result<Summary> {
    let kernel = Kernel::new()?;
    let world = world::world(kernel.interfaces)?;
    kernel.within(|| Run::new(&world, options, broken).go())
}

struct Run<'a> {
    world: &'a World,
    options: &'a Options,
    broken: Broken,
    summary: Summary,
    kinds: HashSet<String>,
}

impl<'a> Run<'a> {
    fn new(world: &'a World, options: &'a Options, broken: Broken) -> Self {
        Self {
            world,
            options,
            broken,
            summary: Summary {
                packets: 0,
                disagreements: 0,
                by_reason: [0; Reason::COUNT as usize],
                kept: Vec::new(),
            },
            kinds: HashSet::new(),
        }
    }

    fn go(mut self) -> Result<Summary> {
        let mut generator = Generator::new(self.options.seed, self.world);
        let (started, mut told) = (Instant::now(), Instant::now());
        let mut judges = Judges::new(self.world, self.broken)?;
        let mut epoch = 0;
        // One shows that it is noticed.
        let enough = if self.broken != Broken::NOTHING { 1 } else { ENOUGH };
        while self.summary.packets < self.options.packets && self.summary.disagreements < enough {
            if self.summary.packets / EPOCH != epoch {
                epoch = self.summary.packets / EPOCH;
                judges = Judges::new(self.world, self.broken)?;
            }
            let case = generator.case();
            if let Some(found) = self.judge(&case, &mut judges, &mut generator) {
                self.keep(&case, *found)?;
            }
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                let (packets, all) = (self.summary.packets, self.options.packets);
                let rate = packets as f64 / started.elapsed().as_secs_f64();
                let wrong = self.summary.disagreements;
                eprintln!("{packets} of {all} packets, {rate:.0} a second, {wrong} disagreements");
            }
        }
        Ok(self.summary)
    }

    /// The first disagreement over a case.
    fn judge(
        &mut self,
        case: &Case,
        judges: &mut Judges<'_>,
        generator: &mut Generator<'_>,
    ) -> Option<Box<Disagreement>> {
        let packets = case.packets();
        let mut first = None;
        for (i, packet) in packets.iter().enumerate() {
            self.summary.packets += 1;
            let for_real = self.summary.packets.is_multiple_of(FOR_REAL);
            let judged = catch_unwind(AssertUnwindSafe(|| judges.judge(packet, for_real)));
            let judged = judged.unwrap_or_else(|panic| {
                // It is the fault of one of them: what it was over must not get lost.
                match self.save(&saved::frames_as_text(&packets[..=i])) {
                    Ok(path) => eprintln!("{}: a panic", path.display()),
                    Err(error) => eprintln!("{error:#}"),
                }
                resume_unwind(panic)
            });
            match judged {
                Ok(did) => {
                    self.summary.by_reason[did.reason as usize] += 1;
                    generator.note(&packets[..=i], &did);
                }
                Err(found) => {
                    self.summary.disagreements += 1;
                    first = first.or(Some(found));
                }
            }
        }
        first
    }

    /// Makes a case smaller for as long as it is judged differently, and keeps what is left.
    fn keep(&mut self, case: &Case, found: Disagreement) -> Result<()> {
        if self.summary.kept.len() >= KEPT || !self.kinds.insert(found.kind()) {
            return Ok(());
        }
        if self.broken != Broken::NOTHING {
            self.summary.kept.push(found.message);
            return Ok(());
        }
        let (mut case, mut found) = (case.clone(), found);
        while let Some((smaller, still)) = self.smaller(&case)? {
            (case, found) = (smaller, still);
        }
        self.summary.kept.push(found.message.clone());
        let path = self.save(&saved::text(&case.packets(), &found))?;
        eprintln!("{}: {}", path.display(), found.message);
        Ok(())
    }

    /// Writes a row into its file.
    fn save(&self, row: &str) -> Result<PathBuf> {
        let (packet, seed) = (self.summary.packets, self.options.seed);
        let directory = self.options.keep.as_deref();
        let directory = directory.unwrap_or(Path::new(saved::DIRECTORY));
        let text = format!("# packet {packet} of seed {seed}\n{row}");
        saved::keep(directory, &text, &format!("seed-{seed}-packet-{packet}"))
    }

    /// A smaller case that is judged differently, too.
    fn smaller(&self, case: &Case) -> Result<Option<(Case, Disagreement)>> {
        for smaller in case.smaller() {
            let mut judges = Judges::new(self.world, self.broken)?;
            let packets = smaller.packets();
            let found = packets.iter().find_map(|packet| judges.judge(packet, true).err());
            if let Some(found) = found {
                return Ok(Some((smaller, *found)));
            }
        }
        Ok(None)
    }
}
