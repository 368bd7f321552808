//! The routes under `/v1`, each a thin step from HTTP to the agent's queue.
//!
//! Invariant: a handler holds no state; whatever it answers comes from the agent.

use axum::{
    Json, Router,
    extract::{FromRequestParts, Path, Query, State, rejection::PathRejection},
    http::{HeaderName, Method, StatusCode, Uri, header, request::Parts},
    routing::{get, patch, post},
};
use serde::Deserialize;

use lb_api::Applied;
use lb_api::checkpoint::{CheckpointsView, RestoredView, SavedView};
use lb_api::packet::ExplainRequest;
use lb_api::plan::PlanView;
use lb_api::view::{
    DrainsView, ExplainView, ServiceView, ServicesView, StatsView, StatusView, StopRequest, StopView,
};

use lb_core::desired::{
    Backend, BackendId, BackendPatch, Change, Removal, Selection, Service, ServiceName, ServicePatch,
};

use super::body::{Body, IfMatch, NoBody};
use super::error::ApiError;
use crate::agent::handle::AgentHandle;

type Written = Result<Json<Applied>, ApiError>;
/// A read with the generation that it was made at, for a later `If-Match`.
type Read<T> = Result<([(HeaderName, String); 1], Json<T>), ApiError>;

/// Every route, served by `agent`.
pub(super) fn router(agent: AgentHandle) -> Router {
    let backend = patch(set_backend).delete(remove_backend);
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/stats", get(stats))
        .route("/v1/services", get(services).post(add_service))
        .route(
            "/v1/services/{name}",
            get(service).patch(set_service).delete(remove_service),
        )
        .route("/v1/services/{name}/backends", post(add_backend))
        .route("/v1/services/{name}/backends/{id}", backend)
        .route("/v1/drains", get(drains))
        .route("/v1/drain", post(drain))
        .route("/v1/ready", post(ready))
        .route("/v1/reload", post(reload))
        .route("/v1/write", post(write_change))
        .route("/v1/plan", post(plan))
        .route("/v1/checkpoints", get(checkpoints).post(save_checkpoint))
        .route("/v1/checkpoints/{number}/restore", post(restore))
        .route("/v1/explain", post(explain))
        .route("/v1/stop", post(stop))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(agent)
}

async fn unknown_route(uri: Uri) -> ApiError {
    ApiError::not_found(format!(
        "there is no {}: the routes are listed in docs/api.md",
        uri.path()
    ))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}: see docs/api.md", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

async fn status(State(agent): State<AgentHandle>, _: NoBody) -> Read<StatusView> {
    let view = agent.status().await?;
    Ok(tagged(view.generation, view))
}

async fn stats(State(agent): State<AgentHandle>, _: NoBody) -> Read<StatsView> {
    let view = agent.stats().await?;
    Ok(tagged(view.generation, view))
}

/// Which services are asked for: the one of that name, or all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServicesQuery {
    name: Option<ServiceName>,
}

impl<S: Send + Sync> FromRequestParts<S> for ServicesQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<Self>::from_request_parts(parts, state).await;
        query
            .map(|Query(query)| query)
            .map_err(|_| ApiError::bad_request("expected no query, or `?name=` and the name of a service"))
    }
}

async fn services(
    State(agent): State<AgentHandle>,
    ServicesQuery { name }: ServicesQuery,
    _: NoBody,
) -> Read<ServicesView> {
    let view = agent.services(name).await?;
    Ok(tagged(view.generation, view))
}

async fn service(
    State(agent): State<AgentHandle>,
    ServicePath(name): ServicePath,
    _: NoBody,
) -> Read<ServiceView> {
    let ServicesView {
        generation,
        mut services,
        ..
    } = agent.services(Some(name.clone())).await?;
    let view = services
        .pop()
        .ok_or_else(|| ApiError::not_found(format!("there is no service {name}")))?;
    Ok(tagged(generation, view))
}

async fn add_service(
    State(agent): State<AgentHandle>,
    if_match: IfMatch,
    Body(service): Body<Service>,
) -> Written {
    write(&agent, if_match, Change::AddService(service)).await
}

async fn set_service(
    State(agent): State<AgentHandle>,
    ServicePath(service): ServicePath,
    if_match: IfMatch,
    Body(patch): Body<ServicePatch>,
) -> Written {
    write(&agent, if_match, Change::SetService { service, patch }).await
}

async fn remove_service(
    State(agent): State<AgentHandle>,
    ServicePath(service): ServicePath,
    if_match: IfMatch,
    _: NoBody,
) -> Written {
    write(&agent, if_match, Change::RemoveService { service }).await
}

async fn add_backend(
    State(agent): State<AgentHandle>,
    ServicePath(service): ServicePath,
    if_match: IfMatch,
    Body(backend): Body<Backend>,
) -> Written {
    write(&agent, if_match, Change::AddBackend { service, backend }).await
}

async fn set_backend(
    State(agent): State<AgentHandle>,
    BackendPath(service, backend): BackendPath,
    if_match: IfMatch,
    Body(patch): Body<BackendPatch>,
) -> Written {
    write(
        &agent,
        if_match,
        Change::SetBackend {
            service,
            backend,
            patch,
        },
    )
    .await
}

async fn remove_backend(
    State(agent): State<AgentHandle>,
    BackendPath(service, backend): BackendPath,
    Now(removal): Now,
    if_match: IfMatch,
    _: NoBody,
) -> Written {
    write(
        &agent,
        if_match,
        Change::RemoveBackend {
            service,
            backend,
            removal,
        },
    )
    .await
}

async fn drains(State(agent): State<AgentHandle>, _: NoBody) -> Read<DrainsView> {
    let view = agent.drains().await?;
    Ok(tagged(view.generation, view))
}

async fn drain(
    State(agent): State<AgentHandle>,
    if_match: IfMatch,
    Body(selection): Body<Selection>,
) -> Written {
    write(&agent, if_match, Change::Drain(selection)).await
}

async fn ready(
    State(agent): State<AgentHandle>,
    if_match: IfMatch,
    Body(selection): Body<Selection>,
) -> Written {
    write(&agent, if_match, Change::Ready(selection)).await
}

/// What a reload is told: `?now=true` cuts the flows of backends that go, `?force=true` obeys a file that takes away much.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadQuery {
    #[serde(default)]
    now: Removal,
    #[serde(default)]
    force: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for ReloadQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<Self>::from_request_parts(parts, state).await;
        query.map(|Query(query)| query).map_err(|_| {
            ApiError::bad_request(
                "expected no query, `?now=true` to cut flows instead of draining them, or `?force=true`",
            )
        })
    }
}

async fn reload(
    State(agent): State<AgentHandle>,
    ReloadQuery { now: removal, force }: ReloadQuery,
    if_match: IfMatch,
    _: NoBody,
) -> Written {
    write(&agent, if_match, Change::Reload { removal, force }).await
}

async fn write_change(
    State(agent): State<AgentHandle>,
    if_match: IfMatch,
    Body(change): Body<Change>,
) -> Written {
    write(&agent, if_match, change).await
}

async fn plan(
    State(agent): State<AgentHandle>,
    IfMatch(expected): IfMatch,
    Body(change): Body<Change>,
) -> Result<Json<PlanView>, ApiError> {
    Ok(Json(agent.plan(change, expected).await?))
}

async fn checkpoints(State(agent): State<AgentHandle>, _: NoBody) -> Result<Json<CheckpointsView>, ApiError> {
    Ok(Json(agent.checkpoints().await?))
}

async fn save_checkpoint(State(agent): State<AgentHandle>, _: NoBody) -> Result<Json<SavedView>, ApiError> {
    Ok(Json(agent.save_checkpoint().await?))
}

async fn restore(
    State(agent): State<AgentHandle>,
    number: Result<Path<u64>, PathRejection>,
    IfMatch(expected): IfMatch,
    _: NoBody,
) -> Result<Json<RestoredView>, ApiError> {
    let Path(number) = number.map_err(bad_path)?;
    Ok(Json(agent.restore(number, expected).await?))
}

async fn explain(
    State(agent): State<AgentHandle>,
    Body(request): Body<ExplainRequest>,
) -> Result<Json<ExplainView>, ApiError> {
    let frame = request
        .frame()
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    let is_for_interface = request.is_for_interface();
    Ok(Json(
        agent.explain(frame, is_for_interface, request.interface).await?,
    ))
}

async fn stop(
    State(agent): State<AgentHandle>,
    Body(StopRequest { detach }): Body<StopRequest>,
) -> Result<Json<StopView>, ApiError> {
    Ok(Json(agent.stop(detach).await?))
}

async fn write(agent: &AgentHandle, IfMatch(expected): IfMatch, change: Change) -> Written {
    Ok(Json(agent.write(change, expected).await?))
}

fn tagged<T>(generation: u64, view: T) -> ([(HeaderName, String); 1], Json<T>) {
    ([(header::ETAG, format!("\"{generation}\""))], Json(view))
}

/// The service that the path names.
struct ServicePath(ServiceName);

impl<S: Send + Sync> FromRequestParts<S> for ServicePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(bad_path)?;
        name.parse()
            .map(Self)
            .map_err(|error| ApiError::not_found(format!("there is no such service: {error}")))
    }
}

/// The service and backend that the path names.
struct BackendPath(ServiceName, BackendId);

impl<S: Send + Sync> FromRequestParts<S> for BackendPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((name, id)) = path.map_err(bad_path)?;
        let missing = |error| ApiError::not_found(format!("there is no such backend: {error}"));
        Ok(Self(name.parse().map_err(missing)?, id.parse().map_err(missing)?))
    }
}

/// How backends go that are removed: `?now=true` cuts them.
struct Now(Removal);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NowQuery {
    #[serde(default)]
    now: Removal,
}

impl<S: Send + Sync> FromRequestParts<S> for Now {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<NowQuery>::from_request_parts(parts, state).await;
        let Query(NowQuery { now }) = query.map_err(|_| {
            ApiError::bad_request("expected no query, or `?now=true` to cut flows instead of draining them")
        })?;
        Ok(Self(now))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn bad_path(rejection: PathRejection) -> ApiError {
    ApiError::bad_request(format!("the path cannot be read: {rejection}"))
}
