//! One change to the wish, as the CLI, the API and a reload express it.

use super::{Backend, BackendId, BackendPatch, Service, ServiceName, ServicePatch, Services};

/// A change; applied as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new service.
    AddService(Service),
    /// Some parts of a service become others.
    SetService(ServiceName, ServicePatch),
    /// A service goes, with its backends.
    RemoveService(ServiceName),
    /// A new backend.
    AddBackend(ServiceName, Backend),
    /// Some parts of a backend become others.
    SetBackend(ServiceName, BackendId, BackendPatch),
    /// A backend goes.
    RemoveBackend(ServiceName, BackendId),
    /// Everything becomes what a configuration file says.
    ReplaceAll(Services),
}
