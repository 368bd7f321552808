//! Writes checkpoints on a thread of its own, so that a slow disk holds nobody up but those who wait for it.
//!
//! Invariant: who waits for a state is told only when that state, or a later one, is on disk or could not be written.
//! At most one state and one state with flows wait in the queue; a newer one takes an older one's place.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::SystemTime,
};

use tokio::sync::oneshot;

use super::{
    state::{SavedFlows, SavedState},
    store::{Store, WrittenCheckpoint},
};
use crate::supervise::words;

/// What became of a checkpoint; why it was not written, in a sentence.
pub type SaveOutcome = Result<WrittenCheckpoint, String>;

/// How saving goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavingCondition {
    /// The last checkpoint on disk, and since when.
    pub last: Option<(WrittenCheckpoint, SystemTime)>,
    /// Since when nothing could be written, and why.
    pub failing: Option<(SystemTime, String)>,
}

/// The thread's other end; when it is dropped, the thread writes what waits and ends.
#[derive(Debug)]
pub struct Writer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    condition: Mutex<SavingCondition>,
}

#[derive(Debug, Default)]
struct Queue {
    with_flows: Option<Job>,
    state: Option<Job>,
    closed: bool,
}

#[derive(Debug)]
struct Job {
    state: SavedState,
    flows: Option<SavedFlows>,
    waiting: Vec<oneshot::Sender<SaveOutcome>>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no room for one.
    pub fn spawn(mut store: Store) -> std::io::Result<Self> {
        Self::spawn_with(move |state, flows| store.write(state, flows).map_err(|error| error.to_string()))
    }

    pub(super) fn spawn_with(
        write: impl FnMut(&SavedState, Option<&SavedFlows>) -> SaveOutcome + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("checkpoints".into())
            .spawn(move || of_thread.run(write))?;
        Ok(Self(shared))
    }

    /// Has a checkpoint written; the receiver is told when it is on disk, and may be dropped.
    pub fn save(&self, state: SavedState, flows: Option<SavedFlows>) -> oneshot::Receiver<SaveOutcome> {
        let (tell, told) = oneshot::channel();
        let mut queue = lock(&self.0.queue);
        // What waits is older than `state`. A state alone does not stand for one with flows.
        let mut waiting = queue.state.take().map_or_else(Vec::new, |job| job.waiting);
        if flows.is_some() {
            waiting.extend(queue.with_flows.take().into_iter().flat_map(|job| job.waiting));
        }
        waiting.push(tell);
        let has_flows = flows.is_some();
        let job = Some(Job {
            state,
            flows,
            waiting,
        });
        match has_flows {
            true => queue.with_flows = job,
            false => queue.state = job,
        }
        drop(queue);
        self.0.wake.notify_one();
        told
    }

    /// How saving goes.
    pub fn condition(&self) -> SavingCondition {
        lock(&self.0.condition).clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        lock(&self.0.queue).closed = true;
        self.0.wake.notify_one();
    }
}

impl Shared {
    fn run(&self, mut write: impl FnMut(&SavedState, Option<&SavedFlows>) -> SaveOutcome) {
        while let Some(Job {
            state,
            flows,
            waiting,
        }) = self.next()
        {
            // The thread is to write the next one, whatever becomes of this one.
            let outcome = catch_unwind(AssertUnwindSafe(|| write(&state, flows.as_ref())))
                .unwrap_or_else(|panic| Err(format!("writing it panicked: {}", words(panic.as_ref()))));
            self.note(&outcome);
            for waits in waiting {
                // Who no longer waits has nothing to be told.
                let _ = waits.send(outcome.clone());
            }
        }
    }

    /// What is to be written next, the older first; `None` when there is nothing more to come.
    fn next(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.with_flows.take().or_else(|| queue.state.take()) {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn note(&self, outcome: &SaveOutcome) {
        let mut condition = lock(&self.condition);
        match outcome {
            Ok(written) => {
                if let Some((since, _)) = condition.failing.take() {
                    log::info!(
                        "checkpoints are saved again, after {} without",
                        humantime::format_duration(whole_seconds(since))
                    );
                }
                condition.last = Some((written.clone(), SystemTime::now()));
            }
            Err(why) => {
                let (_, present) = condition.failing.get_or_insert_with(|| {
                    log::error!("no checkpoint was saved, what is served goes on: {why}");
                    (SystemTime::now(), why.clone())
                });
                present.clone_from(why);
            }
        }
    }
}

fn whole_seconds(since: SystemTime) -> std::time::Duration {
    let seconds = since.elapsed().unwrap_or_default().as_secs();
    std::time::Duration::from_secs(seconds)
}

/// No thread panics while it holds one of these; if one did, what it left is whole all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
