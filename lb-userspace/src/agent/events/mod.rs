//! What the agent tells of what happens, and where it tells it: the sinks that there are, a line each.
//!
//! Invariant: every event goes to every sink, in the order in which things happened. A sink neither fails nor waits.

use std::path::PathBuf;

use lb_api::view::DrainEnd;
use lb_core::desired::{BackendId, Losses, ServiceName};
use lb_core::plan::BackendState;

/// Something that an operator may want to know.
#[derive(Debug)]
pub(super) enum Event {
    /// A backend has another state, or is new.
    BackendChanged {
        service: ServiceName,
        backend: BackendId,
        /// Absent for a new backend.
        before: Option<BackendState>,
        now: BackendState,
        /// Why; for a backend that is up, why it was down the last time.
        why: Option<String>,
    },
    /// The drain of a backend is over.
    DrainEnded {
        service: ServiceName,
        backend: BackendId,
        end: DrainEnd,
        /// Its flows when they were counted last.
        flows: Option<u64>,
        /// Whether the backend has left, and is not just drained.
        has_left: bool,
    },
    /// A configuration file was put in force that no longer has everything that there was.
    FileTakesAway { path: PathBuf, losses: Losses },
    /// The desired state of a checkpoint was put in force.
    CheckpointRestored { number: u64, generation: u64 },
}

/// Where events are told.
trait Sink {
    /// Tells of an event.
    fn tell(&self, event: &Event);
}

/// The registry of sinks: a sink is a folder or file `events/<module>` with a type that is a [`Sink`], and a line here.
macro_rules! sinks {
    ($($(#[doc = $doc:literal])+ $module:ident $type:ident;)+) => {
        $(mod $module;)+

        /// All sinks.
        #[derive(Debug, Default)]
        pub(super) struct Sinks {
            $($(#[doc = $doc])+ $module: $module::$type,)+
        }

        impl Sinks {
            /// Tells every sink of an event.
            pub(super) fn tell(&self, event: &Event) {
                $(self.$module.tell(event);)+
            }
        }
    };
}

sinks! {
    /// The agent's log.
    log LogSink;
}
