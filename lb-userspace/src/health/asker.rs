//! Asks targets from the addresses that checks may come from.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use lb_check::{Miss, ProbeTarget, Prober};

use super::ProbeSources;

/// A [`Prober`] that never asks from a VIP.
#[derive(Debug)]
pub(super) struct Asker {
    prober: Prober,
    /// The addresses to come from.
    sources: RwLock<Arc<ProbeSources>>,
    /// How many checks are to panic.
    #[cfg(test)]
    pub(super) panics: std::sync::atomic::AtomicU32,
}

impl Asker {
    /// Reaches the targets in that VRF, and closes so many connections at a time.
    pub(super) fn new(vrf: Option<String>, max_closing: usize) -> Self {
        Self::with(Prober::new(vrf, max_closing), Arc::default())
    }

    fn with(prober: Prober, sources: Arc<ProbeSources>) -> Self {
        Self {
            prober,
            sources: RwLock::new(sources),
            #[cfg(test)]
            panics: 0.into(),
        }
    }

    /// Asks from those addresses from now on.
    pub(super) fn set_sources(&self, sources: ProbeSources) {
        *self.sources.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sources);
    }

    /// What to ask `target` from; empty where that is the kernel's to choose.
    fn sources_toward(&self, target: IpAddr) -> Vec<IpAddr> {
        self.present_sources().toward(target, self.prober.vrf())
    }

    fn present_sources(&self) -> Arc<ProbeSources> {
        Arc::clone(&self.sources.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reaches the targets in another VRF, and is otherwise as this one.
    pub(super) fn moved_to(&self, vrf: Option<String>) -> Self {
        Self::with(self.prober.moved_to(vrf), self.present_sources())
    }

    /// Whether it reaches the targets in that VRF.
    pub(super) fn is_in(&self, vrf: Option<&str>) -> bool {
        self.prober.vrf() == vrf
    }

    /// Asks `target` once.
    pub(super) async fn ask(&self, target: &ProbeTarget) -> Result<(), Miss> {
        #[cfg(test)]
        self.stumble();
        let sources = self.sources_toward(target.address().ip());
        self.prober.probe(target, &sources).await
    }

    #[cfg(test)]
    fn stumble(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        let left = self
            .panics
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        assert!(left.is_err(), "a check stumbles");
    }
}

#[cfg(test)]
impl Default for Asker {
    fn default() -> Self {
        Self::new(None, 64)
    }
}
