//! What the agent writes down to go on from, and how a new one goes on from it.
//!
//! Invariant: who asked for a change is answered when it is on disk, or with the word that it is not; nothing else
//! waits for the disk, and nothing that is served depends on it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use tokio::{sync::oneshot, task::spawn_blocking, time::timeout};

use crate::agent::{actor::Actor, drains::Drains, events::Event, handle::RequestError};
use crate::checkpoint::{
    self, BackendBelief, BootTime, Checkpoint, ConfigMark, SaveOutcome, SavedFlows, SavedState,
    SavingCondition, SetAside, Store, Unusable, Writer,
};
use crate::config::{self, ConfigFile, HashSeed};
use crate::dataplane::DataplaneSource;
use crate::health::{self, Belief, Beliefs};
use lb_api::Applied;
use lb_api::checkpoint::{CheckpointsView, RestoredView, SavedView, SavingView, SetAsideView};
use lb_core::desired::{Change, Losses, Removal, Service, ServiceName, Services};
use lb_core::plan::{LayoutSnapshot, Memory};

/// How long an answer waits for the disk. What was asked for is done before, and stays done.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after a failure it is tried again, unless there is something new.
const RETRY: Duration = Duration::from_secs(10);

/// The agent's checkpoints.
pub(in crate::agent) struct Persist {
    state_dir: PathBuf,
    writer: Writer,
    every: Duration,
    /// When something was last handed to the writer, and when that was because it was time to.
    last: (Instant, Instant),
    /// Whether there is something that the writer has not been given.
    unsaved: bool,
    /// The configuration file when it was last read.
    file: Option<(ConfigMark, Services)>,
    /// Why the configuration file was not obeyed at the start.
    refused_file: Option<String>,
    /// Files that could not be used when the agent started.
    set_aside: Vec<SetAside>,
}

/// The checkpoints that the agents before have left.
pub(in crate::agent) struct FoundCheckpoint {
    store: Store,
    newest: Option<(u64, Checkpoint)>,
    /// Files that cannot be used.
    set_aside: Vec<SetAside>,
}

impl FoundCheckpoint {
    /// Looks for the newest good checkpoint in `state_dir`.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub(in crate::agent) fn in_directory(
        state_dir: &Path,
        config: &config::CheckpointConfig,
    ) -> Result<Self> {
        let mut store = Store::open(state_dir, config.keep as usize).with_context(|| refused(state_dir))?;
        let (newest, set_aside) = store.newest();
        for aside in &set_aside {
            warn_of(aside);
        }
        Ok(Self {
            store,
            newest,
            set_aside,
        })
    }

    /// The state to go on from.
    pub(in crate::agent) fn state(&self) -> Option<&SavedState> {
        self.newest.as_ref().map(|(_, checkpoint)| &checkpoint.state)
    }

    /// The newest flows on disk, and the tables that they belonged to: flows are written less often than states.
    pub(in crate::agent) fn take_flows(&mut self) -> Option<(SavedFlows, LayoutSnapshot)> {
        if let Some((_, Checkpoint { state, flows })) = &mut self.newest
            && let Some(flows) = flows.take()
        {
            return Some((flows, state.tables.clone()));
        }
        let (older, set_aside) = self.store.newest_with_flows();
        for aside in set_aside {
            warn_of(&aside);
            self.set_aside.push(aside);
        }
        let (_, Checkpoint { state, flows }) = older?;
        Some((flows?, state.tables))
    }

    /// Goes on writing where these were written; the newest comes with its number.
    ///
    /// # Errors
    /// When there can be no thread that writes.
    pub(in crate::agent) fn go_on(
        self,
        state_dir: &Path,
        config: &config::CheckpointConfig,
    ) -> Result<(Persist, Option<(u64, Checkpoint)>)> {
        let now = Instant::now();
        let persist = Persist {
            state_dir: state_dir.to_owned(),
            writer: Writer::spawn(self.store).with_context(|| refused(state_dir))?,
            every: config.every.get(),
            last: (now, now),
            unsaved: false,
            file: None,
            refused_file: None,
            set_aside: self.set_aside,
        };
        Ok((persist, self.newest))
    }
}

fn refused(state_dir: &Path) -> String {
    format!(
        "cannot keep checkpoints in {}: choose another --state-dir",
        state_dir.display()
    )
}

fn warn_of(SetAside { path, reason }: &SetAside) {
    log::warn!("a checkpoint cannot be used: {}: {reason}", path.display());
}

impl Persist {
    /// There is something new; it is handed to the writer within a second.
    pub(in crate::agent) fn note_change(&mut self) {
        self.unsaved = true;
    }

    /// The configuration file was read, and what it says is in force.
    pub(in crate::agent) fn note_file(&mut self, path: &Path, file: &ConfigFile) {
        let mark = ConfigMark {
            path: path.to_owned(),
            sha256: file.digest.clone(),
        };
        self.file = Some((mark, file.config.services.clone()));
        self.refused_file = None;
        self.unsaved = true;
    }

    /// Whether `services` are others than the configuration file had when it was last read; backends that are on their
    /// way out do not count.
    pub(in crate::agent) fn drifts(&self, services: &Services) -> bool {
        let desired = |services: &Services, name: &ServiceName| -> Option<Service> {
            let mut service = Service::clone(services.get(name)?);
            service.backends.retain(|backend| !backend.leaves());
            Some(service)
        };
        let drifts = |file: &Services| {
            let mut differing = file.differing(services);
            differing.any(|name| desired(file, name) != desired(services, name))
        };
        self.file.as_ref().is_some_and(|(_, file)| drifts(file))
    }

    /// How saving goes, for `lb status`.
    pub(in crate::agent) fn view(&self) -> SavingView {
        let SavingCondition { last, failing } = self.writer.condition();
        let (failing_since, failing_reason) = failing.unzip();
        let set_aside = |SetAside { path, reason }: &SetAside| SetAsideView {
            file: path.clone(),
            reason: reason.clone(),
        };
        SavingView {
            last: last.map(|(written, at)| SavedView {
                number: written.number,
                generation: written.generation,
                bytes: written.bytes,
                written: seconds(at),
            }),
            failing_since: failing_since.map(seconds),
            failing_reason,
            set_aside: self.set_aside.iter().map(set_aside).collect(),
        }
    }

    /// What the operator should know about it, in sentences.
    pub(in crate::agent) fn warnings(&self) -> Vec<String> {
        let set_aside = self.set_aside.iter();
        let mut warnings: Vec<String> = set_aside
            .map(|SetAside { path, reason }| {
                format!(
                    "a checkpoint could not be used at the start: {}: {reason}",
                    path.display()
                )
            })
            .collect();
        warnings.extend(self.refused_file.clone());
        if let Some((since, why)) = self.writer.condition().failing {
            let since = humantime::format_rfc3339_seconds(since);
            warnings.push(format!(
                "no checkpoint could be saved since {since}, changes since then would not outlive a restart: {why}"
            ));
        }
        warnings
    }

    fn hand_over(&mut self, state: SavedState, flows: Option<SavedFlows>) -> oneshot::Receiver<SaveOutcome> {
        self.last.0 = Instant::now();
        self.unsaved = false;
        self.writer.save(state, flows)
    }

    /// Whether the writer has something to do, though nobody waits for it.
    fn is_due(&self) -> bool {
        let failed = || self.writer.condition().failing.is_some();
        self.unsaved || self.last.0.elapsed() >= RETRY && failed()
    }
}

impl Actor {
    /// Goes on from a checkpoint, or else begins with what the configuration file says. A file that has changed since
    /// the checkpoint is applied on top, like a reload.
    ///
    /// # Errors
    /// When neither can be put in force.
    pub(in crate::agent) fn begin(
        &mut self,
        kept: Option<(u64, Checkpoint)>,
        file: Option<(PathBuf, ConfigFile)>,
    ) -> Result<()> {
        let known = kept
            .as_ref()
            .and_then(|(_, checkpoint)| checkpoint.state.config.clone());
        let resumed = kept.map(|(number, Checkpoint { state, .. })| self.resume(number, state));
        match (&resumed, &file) {
            (Some(Err(error)), Some(_)) => log::error!("{error:#}: beginning with the configuration file"),
            (Some(Err(_)), None) => return resumed.unwrap_or(Ok(())),
            _ => {}
        }
        let Some((path, file)) = file else {
            return Ok(());
        };
        let unchanged = known.is_some_and(|mark| mark.sha256 == file.digest);
        let losses = Losses::between(&self.services, &file.config.services);
        match resumed {
            Some(Ok(())) if unchanged => {}
            // As with a reload. The start goes on from the checkpoint, or it would be an outage.
            Some(Ok(())) if losses.is_drastic() => {
                let refused = losses.refusal(&path.display());
                log::error!("{refused}");
                self.parts.persist.refused_file = Some(refused);
                return Ok(());
            }
            resumed => {
                let services = file.config.services.clone();
                self.change(Change::ReplaceAll(services, Removal::Drain), None)?;
                if matches!(resumed, Some(Ok(()))) {
                    log::info!(
                        "{} has changed since the checkpoint: reloaded, generation {}",
                        path.display(),
                        self.generation
                    );
                }
            }
        }
        self.parts.persist.note_file(&path, &file);
        Ok(())
    }

    fn resume(&mut self, number: u64, state: SavedState) -> Result<()> {
        let SavedState {
            generation,
            services,
            health,
            drains,
            written,
            clock,
            ..
        } = state;
        let beliefs = self.beliefs_of(&services, health);
        // The same desired state has the same generation; tables that are ahead had changes that nobody could save.
        if self.generation <= generation {
            self.generation = generation.saturating_sub(1);
        }
        let passed = BootTime::now().zip(clock).map(|(now, then)| now.since(&then));
        self.drains = Drains::restored(drains, written, passed.unwrap_or_default());
        self.turn_to_believing(services, &beliefs)
            .with_context(|| format!("checkpoint {number} cannot be gone on from"))?;
        log::info!(
            "going on from checkpoint {number}, generation {}",
            self.generation
        );
        Ok(())
    }

    /// What a start believes of health checks: what the checkpoint says. Tables that an earlier agent left in the kernel are
    /// newer, and a backend that they give no flows to may have failed since: of such a one nothing is believed.
    fn beliefs_of(&self, services: &Services, health: Vec<BackendBelief>) -> Beliefs {
        let adopted = self.parts.dataplane.origin() == DataplaneSource::Adopted;
        let by_the_tables = self
            .parts
            .observed
            .beliefs(&Services::default(), services, &services.names());
        let mut beliefs = if adopted {
            by_the_tables.clone()
        } else {
            Beliefs::new()
        };
        for BackendBelief { service, backend, up } in health {
            let target = services.get(&service).and_then(|service| {
                let backend = service.backend(backend)?;
                service.probe_target(backend)
            });
            let state = match (up, adopted) {
                (true, true) => continue,
                (true, false) => health::Health::Up,
                (false, _) => health::Health::Down,
            };
            if let Some(target) = target {
                beliefs.entry(target).or_insert(Belief { state, after: None });
            }
        }
        for (target, belief) in by_the_tables {
            beliefs.entry(target).or_insert(belief);
        }
        beliefs
    }

    /// All that a checkpoint holds now.
    fn state(&self) -> SavedState {
        let mut health = Vec::new();
        for service in self.services.iter() {
            for backend in &service.backends {
                let target = service.probe_target(backend);
                let verdict = target.and_then(|target| self.parts.observed.verdicts.get(&target));
                let up = match verdict {
                    None | Some(health::Health::Checking) => continue,
                    Some(health::Health::Up) => true,
                    Some(health::Health::Down) => false,
                };
                health.push(BackendBelief {
                    service: service.name.clone(),
                    backend: backend.id(),
                    up,
                });
            }
        }
        let file = self.parts.persist.file.as_ref();
        let written = SystemTime::now();
        SavedState {
            lb_version: env!("CARGO_PKG_VERSION").to_owned(),
            written,
            clock: BootTime::now(),
            generation: self.generation,
            hash_seed: HashSeed(self.parts.layout.seed()),
            capacity: self.parts.capacity,
            config: file.map(|(mark, _)| mark.clone()),
            services: self.services.clone(),
            health,
            drains: self.drains.states(Instant::now(), written),
            tables: self.parts.layout.snapshot(),
        }
    }

    /// Has a checkpoint written; the receiver is told when it is on disk.
    pub(in crate::agent) fn save(&mut self) -> oneshot::Receiver<SaveOutcome> {
        let state = self.state();
        self.parts.persist.hand_over(state, None)
    }

    /// Has a checkpoint written with the flow table, which is larger and changes all the time; the receiver is told
    /// when it is on disk.
    fn save_with_flows(&mut self) -> oneshot::Receiver<SaveOutcome> {
        let (state, flows) = (self.state(), self.flows());
        self.parts.persist.last.1 = Instant::now();
        self.parts.persist.hand_over(state, flows)
    }

    fn flows(&mut self) -> Option<SavedFlows> {
        let clock = match self.parts.dataplane.flow_time() {
            Ok(time) => time.now,
            Err(error) => {
                log::error!("the flows are not saved: {error:#}");
                return None;
            }
        };
        let mut entries = Vec::new();
        self.parts.tables.visit_flows(&mut |key, value| {
            entries.push((key, value));
            None
        });
        Some(SavedFlows { clock, entries })
    }

    /// Has a checkpoint written if it is time to.
    pub(in crate::agent) fn save_in_turn(&mut self) {
        let persist = &self.parts.persist;
        if persist.last.1.elapsed() >= persist.every {
            drop(self.save_with_flows());
        } else if persist.is_due() {
            drop(self.save());
        }
    }

    /// Has the last checkpoint written, and waits for it.
    pub(in crate::agent) async fn save_at_the_end(&mut self) {
        if !is_on_disk(self.save_with_flows()).await {
            log::error!(
                "the last checkpoint was not saved: {}",
                self.parts.persist.warnings().join("; ")
            );
        }
    }

    /// Answers what was asked for as soon as it is on disk, or it is clear that it will not be.
    pub(in crate::agent) fn answer<T: Send + 'static>(
        &mut self,
        made: Result<T, RequestError>,
        saved: impl FnOnce(T, bool) -> T + Send + 'static,
        reply: oneshot::Sender<Result<T, RequestError>>,
    ) {
        // A caller that no longer waits for its answer is no error.
        match made {
            Err(error) => drop(reply.send(Err(error))),
            Ok(done) => {
                let told = self.save();
                tokio::spawn(async move {
                    let on_disk = is_on_disk(told).await;
                    drop(reply.send(Ok(saved(done, on_disk))));
                });
            }
        }
    }

    /// Answers with the checkpoint that is written now.
    pub(in crate::agent) fn save_on_request(
        &mut self,
        reply: oneshot::Sender<Result<SavedView, RequestError>>,
    ) {
        let told = self.save_with_flows();
        tokio::spawn(async move {
            let outcome = timeout(PATIENCE, told).await;
            let answer = match outcome {
                Ok(Ok(Ok(written))) => Ok(SavedView {
                    number: written.number,
                    generation: written.generation,
                    bytes: written.bytes,
                    written: seconds(SystemTime::now()),
                }),
                Ok(Ok(Err(why))) => Err(RequestError::NotSaved(why)),
                Ok(Err(_)) => Err(RequestError::Stopping),
                Err(_) => Err(RequestError::NotSaved(format!(
                    "it is not on disk after {} s: `lb status` shows when it is",
                    PATIENCE.as_secs()
                ))),
            };
            drop(reply.send(answer));
        });
    }

    /// Answers with all checkpoints; they are read beside the agent's other work.
    pub(in crate::agent) fn list_checkpoints(
        &self,
        reply: oneshot::Sender<Result<CheckpointsView, RequestError>>,
    ) {
        let state_dir = self.parts.persist.state_dir.clone();
        spawn_blocking(move || {
            let listed = checkpoint::list(&state_dir).map_err(|error| {
                RequestError::NotSaved(format!(
                    "{}: {error}",
                    checkpoint::directory(&state_dir).display()
                ))
            });
            drop(reply.send(listed.map(|listed| checkpoint::checkpoints_view(&state_dir, &listed))));
        });
    }

    /// Answers with a checkpoint, read beside the agent's other work.
    pub(in crate::agent) fn load_checkpoint(
        &self,
        number: u64,
        reply: oneshot::Sender<Result<Box<Checkpoint>, RequestError>>,
    ) {
        let state_dir = self.parts.persist.state_dir.clone();
        spawn_blocking(move || {
            let loaded = checkpoint::load(&state_dir, number).map_err(|unusable| match unusable {
                Unusable::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    RequestError::NoCheckpoint(number)
                }
                unusable => RequestError::Refused(format!("checkpoint {number} cannot be used: {unusable}")),
            });
            drop(reply.send(loaded.map(Box::new)));
        });
    }

    /// Puts the desired state of a checkpoint in force, as a change like any other.
    pub(in crate::agent) fn restore(
        &mut self,
        number: u64,
        checkpoint: Checkpoint,
        expected: Option<u64>,
    ) -> Result<RestoredView, RequestError> {
        let Checkpoint { state, flows } = checkpoint;
        let mut left_out = Vec::new();
        let HashSeed(seed) = state.hash_seed;
        if seed != self.parts.layout.seed() {
            left_out.push(format!(
                "its hash seed {}: the program that runs has another one",
                state.hash_seed
            ));
        }
        if state.capacity != self.parts.capacity {
            left_out.push("its table sizes: they take effect at a start, from the configuration".to_owned());
        }
        if let Some(flows) = flows {
            left_out.push(format!(
                "its {} flows: those that run now are newer",
                flows.entries.len()
            ));
        }
        left_out.push("its slot tables: those in use lead every flow to its backend".to_owned());
        left_out.push("what it says about health checks: they are known better now".to_owned());
        let applied = self.change(Change::ReplaceAll(state.services, Removal::Drain), expected)?;
        let Applied {
            generation,
            apply_us,
            saved,
            ..
        } = applied;
        self.events
            .tell(&Event::CheckpointRestored { number, generation });
        Ok(RestoredView {
            number,
            generation,
            apply_us,
            saved,
            left_out,
        })
    }
}

async fn is_on_disk(told: oneshot::Receiver<SaveOutcome>) -> bool {
    matches!(timeout(PATIENCE, told).await, Ok(Ok(Ok(_))))
}

/// Seconds since 1970.
fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
