//! Parts of the process that are to run as long as it does: begun again when they end or panic, after pauses that grow.
//!
//! Invariant: a part that does not run is told of ([`Vitals::ailments`]) until it does, and one that cannot be helped ends
//! the process, so that somebody else can begin anew.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt::Display,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// The pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A part that has run for so long was well.
const STEADY: Duration = Duration::from_secs(30);
/// A part that has failed for so long, without ever being well, cannot be helped.
const GIVE_UP: Duration = Duration::from_secs(60);
/// How long a failure is remembered that is over.
const REMEMBERED: Duration = Duration::from_secs(600);

/// How the parts of a process fare; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Vitals(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ailments: Mutex<BTreeMap<&'static str, Ailment>>,
    hopeless: watch::Sender<Option<String>>,
}

/// What is or was wrong with a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ailment {
    /// The part.
    pub part: &'static str,
    /// Since when it does not run; or else, when it failed last.
    pub since: SystemTime,
    /// How often it has failed, until it was well for a while.
    pub failures: u32,
    /// What it failed for.
    pub why: String,
    /// Whether it runs again.
    pub runs: bool,
    last: Instant,
}

impl Vitals {
    /// The parts that do not run, and those that failed of late.
    pub fn ailments(&self) -> Vec<Ailment> {
        let is_told = |ailment: &&Ailment| !ailment.runs || ailment.last.elapsed() < REMEMBERED;
        self.lock().values().filter(is_told).cloned().collect()
    }

    /// Says why, when something cannot be helped.
    pub fn hopeless(&self) -> watch::Receiver<Option<String>> {
        self.0.hopeless.subscribe()
    }

    fn failed(&self, part: &'static str, why: &str) {
        let (since, last) = (SystemTime::now(), Instant::now());
        let mut ailments = self.lock();
        let before = ailments.remove(part);
        let of_late = before.filter(|before| !before.runs || last - before.last < STEADY);
        let (since, failures) = match of_late {
            Some(before) if !before.runs => (before.since, before.failures),
            Some(before) => (since, before.failures),
            None => (since, 0),
        };
        let ailment = Ailment {
            part,
            since,
            failures: failures + 1,
            why: why.to_owned(),
            runs: false,
            last,
        };
        ailments.insert(part, ailment);
    }

    fn begun_again(&self, part: &'static str) {
        if let Some(ailment) = self.lock().get_mut(part) {
            ailment.runs = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Ailment>> {
        self.0.ailments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of one part when it fails.
#[derive(Debug)]
pub struct Supervisor {
    part: &'static str,
    vitals: Vitals,
    pause: Duration,
    begun: Instant,
    failing: Option<Instant>,
    gives_up: bool,
}

impl Supervisor {
    /// For a part, named as in "the API", that runs from now on.
    pub fn new(part: &'static str, vitals: &Vitals) -> Self {
        Self {
            part,
            vitals: vitals.clone(),
            pause: FIRST_PAUSE,
            begun: Instant::now(),
            failing: None,
            gives_up: true,
        }
    }

    /// A supervisor of one part among many, which the process can do without.
    pub fn of_one(part: &'static str, vitals: &Vitals) -> Self {
        Self {
            gives_up: false,
            ..Self::new(part, vitals)
        }
    }

    /// The part has failed. Waits until it is to begin again; false if it is not to.
    pub async fn again_after(&mut self, why: &str) -> bool {
        let part = self.part;
        if self.begun.elapsed() >= STEADY {
            (self.failing, self.pause) = (None, FIRST_PAUSE);
        }
        let failing = *self.failing.get_or_insert_with(Instant::now);
        self.vitals.failed(part, why);
        if self.gives_up && failing.elapsed() >= GIVE_UP {
            log::error!("{part} has failed, and cannot be helped: {why}");
            let why = format!("{part} fails again and again: {why}");
            self.vitals.0.hopeless.send_replace(Some(why));
            return false;
        }
        log::error!("{part} has failed, and begins again in {:?}: {why}", self.pause);
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.begun = Instant::now();
        self.vitals.begun_again(part);
        true
    }
}

/// Runs a part to its end. A panic is a failure like any other.
///
/// # Errors
/// Why the part has failed.
pub async fn guarded<T, E: Display>(part: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match AssertUnwindSafe(part).catch_unwind().await {
        Ok(ended) => ended.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("it panicked: {}", words(panic.as_ref()))),
    }
}

/// What a panic said.
pub fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: &str = "the clockwork";

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let ended: Result<(), String> = guarded(async { Err::<(), _>("worn out") }).await;
        assert_eq!(ended, Err("worn out".to_owned()));
        let panicked: Result<(), String> = guarded(async {
            let wheels: Vec<u32> = Vec::new();
            if wheels.is_empty() {
                panic!("a wheel is missing");
            }
            Ok::<(), String>(())
        })
        .await;
        assert_eq!(panicked, Err("it panicked: a wheel is missing".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_told_and_begun_again() {
        let vitals = Vitals::default();
        let mut supervisor = Supervisor::new(PART, &vitals);
        assert_eq!(vitals.ailments(), []);
        let waiting = supervisor.again_after("worn out");
        {
            let mut waiting = std::pin::pin!(waiting);
            assert!(waiting.as_mut().now_or_never().is_none(), "there is a pause");
            let told = vitals.ailments();
            assert_eq!((told[0].part, told[0].runs, told[0].failures), (PART, false, 1));
            assert!(waiting.await);
        }
        assert!(vitals.ailments()[0].runs);
        sleep(REMEMBERED).await;
        assert_eq!(vitals.ailments(), [], "it is forgotten in time");
        assert!(vitals.hopeless().borrow().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_helped_ends_the_process() {
        let vitals = Vitals::default();
        let mut supervisor = Supervisor::new(PART, &vitals);
        let begun = Instant::now();
        let mut times = 0;
        while supervisor.again_after("worn out").await {
            times += 1;
        }
        assert!(
            begun.elapsed() >= GIVE_UP && times > 8,
            "{times} times in {:?}",
            begun.elapsed()
        );
        let why = vitals.hopeless().borrow().clone();
        assert_eq!(
            why.as_deref(),
            Some("the clockwork fails again and again: worn out")
        );
        assert!(!vitals.ailments()[0].runs);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_well_in_between_is_helped_for_ever() {
        let vitals = Vitals::default();
        let mut supervisor = Supervisor::new(PART, &vitals);
        for _ in 0..100 {
            assert!(supervisor.again_after("worn out").await);
            sleep(STEADY).await;
        }
        let mut one = Supervisor::of_one(PART, &vitals);
        for _ in 0..100 {
            assert!(one.again_after("worn out").await);
        }
    }
}
