//! What the API answers; the CLI reads the same types.
//!
//! Invariant: within `/v1` fields are added, never renamed, retyped or removed.

mod drains;
mod explain;
mod services;
mod stats;
mod status;

pub use drains::{DrainEnd, DrainView, DrainingView, DrainsView, EndedView};
pub use explain::ExplainView;
pub use services::{BackendView, OutageView, ServiceView, ServicesView};
pub use stats::{ConnectionIdsView, ReasonView, ServiceStats, StatsView, Totals, TrackingView};
pub use status::{
    AttachMode, DataplaneOrigin, InterfaceView, MapView, SourceView, StatusView, StopRequest, StopView,
};

pub use lb_core::plan::BackendState;
