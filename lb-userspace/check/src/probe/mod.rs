//! One check of one target, by its kind.
//!
//! Invariant: a probe ends by its deadline, and blames the backend only for what the backend did: what went wrong on
//! our side is [`Miss::Inconclusive`].

mod attempt;
mod connection;
mod miss;

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;

pub(crate) use attempt::Attempt;
pub use miss::Miss;
pub(crate) use miss::{Deadline, io_miss, io_words};

use crate::ProbeTarget;
use crate::kind::{Kind, probes, *};

/// How a check of one kind is run; the [specification](crate::kind::Spec) of the kind is what it asks.
pub(crate) trait Probe {
    /// What all checks of the kind share, such as sockets. It lives as long as a [`Prober`].
    type Shared: Debug + Default;

    /// Makes one attempt.
    async fn probe(&self, shared: &Self::Shared, attempt: &Attempt<'_>) -> Result<(), Miss>;
}

macro_rules! dispatch {
    ($($(#[doc = $doc:literal])+ $folder:ident $variant:ident($spec:ident) [$($alias:tt),*];)+) => {
        /// What the checks of each kind share.
        #[derive(Debug, Default)]
        struct Shared {
            $($folder: <$spec as Probe>::Shared,)+
        }

        impl Shared {
            async fn probe(&self, kind: &Kind, attempt: &Attempt<'_>) -> Result<(), Miss> {
                match kind { $(Kind::$variant(spec) => spec.probe(&self.$folder, attempt).await),+ }
            }
        }
    };
}

probes!(dispatch);

/// Runs checks of every kind.
#[derive(Debug)]
pub struct Prober {
    /// The VRF device that all checks go through.
    vrf: Option<String>,
    shared: Shared,
    /// One permit for each connection that is being closed.
    closing: Arc<Semaphore>,
}

impl Prober {
    /// Reaches the targets in that VRF, and closes so many connections at a time.
    pub fn new(vrf: Option<String>, max_closing: usize) -> Self {
        Self::closing_within(vrf, Arc::new(Semaphore::new(max_closing)))
    }

    /// Reaches the targets in another VRF. Both close no more connections at a time than one did.
    pub fn moved_to(&self, vrf: Option<String>) -> Self {
        Self::closing_within(vrf, Arc::clone(&self.closing))
    }

    fn closing_within(vrf: Option<String>, closing: Arc<Semaphore>) -> Self {
        Self {
            vrf,
            shared: Shared::default(),
            closing,
        }
    }

    /// The VRF device that it reaches targets through.
    pub fn vrf(&self) -> Option<&str> {
        self.vrf.as_deref()
    }

    /// Asks `target` once, from the first of `sources` that this host has; from the kernel's choice if there are none.
    ///
    /// # Errors
    /// Why the check did not succeed, and whose fault that is.
    pub async fn probe(&self, target: &ProbeTarget, sources: &[IpAddr]) -> Result<(), Miss> {
        let (address, check) = (target.address(), target.check());
        if check.needs_port() && address.port() == 0 {
            let reason = "the backend has no port of its own: set `port` in its check";
            return Err(Miss::Failure(reason.to_owned()));
        }
        let attempt = Attempt {
            address,
            vrf: self.vrf(),
            sources,
            deadline: Deadline::new(check.timing.timeout),
            close: check.close,
            closing: &self.closing,
        };
        self.shared.probe(&check.kind, &attempt).await
    }
}

#[cfg(test)]
impl Default for Prober {
    fn default() -> Self {
        Self::new(None, 64)
    }
}
