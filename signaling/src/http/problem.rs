//! Refusals over HTTP: `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::protocol::{ErrorCode, Failure};

/// When to try again what the server has no room for now, in seconds.
const RETRY_AFTER: &str = "5";

#[derive(Serialize)]
struct Problem<'a> {
    status: u16,
    code: ErrorCode,
    title: &'a str,
}

/// A refusal with the status that its code stands for.
pub(crate) fn failure(failure: &Failure) -> Response {
    response(status(failure.code), failure)
}

/// A refusal.
pub(crate) fn response(status: StatusCode, failure: &Failure) -> Response {
    let problem = Problem {
        status: status.as_u16(),
        code: failure.code,
        title: &failure.message,
    };
    let mut response = (status, Json(problem)).into_response();
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, "application/problem+json");
    match status {
        StatusCode::UNAUTHORIZED => {
            set(header::WWW_AUTHENTICATE, "Bearer");
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            set(header::RETRY_AFTER, RETRY_AFTER);
        }
        _ => {}
    }
    response
}

/// What a method that a path does not know is answered with.
pub(crate) async fn method_not_allowed() -> Response {
    response(
        StatusCode::METHOD_NOT_ALLOWED,
        &Failure::new(
            ErrorCode::NotAllowed,
            "This address does not know this method; the `Allow` header lists those it does.",
        ),
    )
}

fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadMessage
        | ErrorCode::BadRequest
        | ErrorCode::BadRoom
        | ErrorCode::BadName
        | ErrorCode::BadSdp => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::WrongRoom | ErrorCode::NotAllowed => StatusCode::FORBIDDEN,
        ErrorCode::UnknownPeer => StatusCode::NOT_FOUND,
        ErrorCode::OfferPending => StatusCode::CONFLICT,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UnsupportedSdp | ErrorCode::TooManyTracks => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::RoomFull
        | ErrorCode::ServerFull
        | ErrorCode::Overloaded
        | ErrorCode::WorkerFailed
        | ErrorCode::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
