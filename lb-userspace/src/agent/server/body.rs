//! What a request carries besides its path: the JSON body and the generation it was made for.
//!
//! Invariant: a body is read up to [`MAX_BODY`] bytes and no further.

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::objects::Objects;

/// Largest body, in bytes.
pub(super) const MAX_BODY: usize = 1 << 20;

/// A JSON body of the shape `T`.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let bytes = match Limited::new(request.into_body(), MAX_BODY).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let message = format!("the body has more than {MAX_BODY} bytes: send less at a time");
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
            }
            Err(error) => return Err(ApiError::bad_request(format!("the body broke off: {error}"))),
        };
        parse(&bytes).map(Self)
    }
}

/// A request that carries nothing besides its path and headers.
pub(super) struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        // One byte is enough to know.
        match Limited::new(request.into_body(), 0).collect().await {
            Ok(_) => Ok(Self),
            Err(error) if error.is::<LengthLimitError>() => Err(ApiError::bad_request(format!(
                "{method} {path} takes no body, and what is in it would not count: send none; options go in the path, as in \
                 `?now=true` (docs/api.md)"
            ))),
            Err(error) => Err(ApiError::bad_request(format!("the body broke off: {error}"))),
        }
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let essence = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "expected a JSON body: send it with `Content-Type: application/json`";
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        message,
    ))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let bad = |text: String| ApiError::new(StatusCode::BAD_REQUEST, "bad_json", text);
    let value = serde_path_to_error::deserialize(Objects(&mut deserializer)).map_err(|error| {
        let key = error.path().to_string();
        let key = if key == "." {
            String::new()
        } else {
            format!("{key}: ")
        };
        bad(format!("{key}{}", error.inner()))
    })?;
    deserializer.end().map_err(|error| bad(error.to_string()))?;
    Ok(value)
}

/// The generation of the `If-Match` header; the write is refused when another one is in force.
pub(super) struct IfMatch(pub(super) Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else {
            return Ok(Self(None));
        };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let generation = unquoted.unwrap_or(text).parse().map_err(|_| {
            ApiError::bad_request(
                "expected `If-Match: \"GENERATION\"` with the number that a read or write gave",
            )
        })?;
        Ok(Self(Some(generation)))
    }
}
