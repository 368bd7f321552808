//! The kinds of changes, and how often each is made.
//!
//! What must hold: a mix says all that sets one run's changes apart from another's, but for when they come.

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Add,
    Remove,
    RemoveNow,
    Drain,
    DrainHost,
    DrainAll,
    DrainsOver,
    Maint,
    Ready,
    Weight,
    Failure,
    HostFailure,
    Outage,
    Flapping,
    HealthCheck,
    Growth,
    Window,
    Tracking,
    OnEmpty,
    Scheduler,
    Forwarder,
}

/// What changes are made of.
#[derive(Clone, Copy)]
pub(super) struct Mix {
    /// How often each kind is chosen, against the others.
    pub(super) kinds: &'static [(Kind, u32)],
    /// Weights of new backends.
    pub(super) new_weights: &'static [u16],
    /// Weights that backends are given later.
    pub(super) weights: &'static [u16],
    /// Deadlines of drains, in seconds.
    pub(super) deadlines: (u64, u64),
    /// Whether new backends take flows only after a health check.
    pub(super) checks_first: bool,
}

/// All kinds, with weights that differ much. (Drains end and health checks return by themselves.)
pub(super) const ALL: Mix = Mix {
    kinds: ALL_KINDS,
    new_weights: &[1, 1, 1, 2, 4],
    weights: &[0, 1, 1, 1, 2, 3, 5],
    deadlines: (30, 900),
    checks_first: true,
};

const ALL_KINDS: &[(Kind, u32)] = &[
    (Kind::Add, 16),
    (Kind::Remove, 8),
    (Kind::RemoveNow, 4),
    (Kind::Drain, 10),
    (Kind::DrainHost, 2),
    (Kind::DrainAll, 1),
    (Kind::Maint, 2),
    (Kind::Ready, 10),
    (Kind::Weight, 16),
    (Kind::Failure, 10),
    (Kind::HostFailure, 2),
    (Kind::Outage, 1),
    (Kind::Flapping, 2),
    (Kind::Growth, 1),
    (Kind::Window, 2),
    (Kind::Tracking, 2),
    (Kind::OnEmpty, 1),
    (Kind::Scheduler, 1),
    (Kind::Forwarder, 2),
];

/// What an ordinary day brings, at a service whose backends weigh 10: each change is about one of them.
pub(super) const ORDINARY: Mix = Mix {
    kinds: ORDINARY_KINDS,
    new_weights: &[10],
    weights: &[5, 8, 10, 12, 15, 20],
    deadlines: (60, 300),
    checks_first: false,
};

const ORDINARY_KINDS: &[(Kind, u32)] = &[
    (Kind::Add, 1),
    (Kind::Remove, 1),
    (Kind::RemoveNow, 1),
    (Kind::Drain, 1),
    (Kind::Ready, 1),
    (Kind::Weight, 1),
    (Kind::Failure, 1),
];
