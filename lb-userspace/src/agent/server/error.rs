//! What a client is told when its request was not met: a status, and the body of the answer.
//!
//! Invariant: within `/v1` a code keeps its meaning.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use lb_api::{ErrorBody, ErrorText};
use lb_core::desired::ChangeError;

use crate::agent::handle::RequestError;

/// A refused request.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        let message = error.to_string();
        match error {
            ChangeError::NoService(_) | ChangeError::NoBackend(..) | ChangeError::NobodySelected(_) => {
                Self::not_found(message)
            }
            ChangeError::ServiceExists(_) | ChangeError::BackendExists(..) => {
                Self::new(StatusCode::CONFLICT, "exists", message)
            }
            ChangeError::Invalid(_) => Self::invalid(message),
        }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        match error {
            RequestError::Change(error) => error.into(),
            RequestError::Conflict { .. } => Self::new(StatusCode::PRECONDITION_FAILED, "conflict", message),
            RequestError::Config(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "config", message),
            RequestError::Capacity(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "capacity", message),
            RequestError::Drastic(_) => Self::new(StatusCode::CONFLICT, "drastic", message),
            RequestError::Refused(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", message),
            RequestError::NoCheckpoint(_) => Self::not_found(message),
            RequestError::NotSaved(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "not_saved", message),
            RequestError::Dataplane(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "dataplane", message),
            RequestError::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self {
            status,
            code,
            message,
        } = self;
        let error = ErrorText {
            code: code.to_owned(),
            message,
        };
        (status, Json(ErrorBody { error })).into_response()
    }
}
