//! Refusals over HTTP: `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::protocol::{ErrorCode, Failure, TokenFault};

/// When to try again what the server has no room for now, in seconds.
const RETRY_AFTER: &str = "5";

/// A refusal and its status.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    failure: Failure,
}

impl Problem {
    /// A refusal with a status of its own.
    pub(crate) fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Problem {
        Problem {
            status,
            failure: Failure::new(code, message),
        }
    }
}

impl From<Failure> for Problem {
    /// A refusal with the status that its code stands for.
    fn from(failure: Failure) -> Problem {
        Problem {
            status: status(failure.code),
            failure,
        }
    }
}

/// The document, as it goes over the wire.
#[derive(Serialize)]
struct Document {
    status: u16,
    code: ErrorCode,
    title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<TokenFault>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            status: self.status.as_u16(),
            code: self.failure.code,
            title: self.failure.message,
            reason: self.failure.reason,
        };
        let challenge = challenge(&document);
        let mut response = (self.status, Json(document)).into_response();
        let headers = response.headers_mut();
        let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
        set(header::CONTENT_TYPE, "application/problem+json");
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                set(header::RETRY_AFTER, RETRY_AFTER);
            }
            _ => {}
        }
        response
    }
}

/// What says how to be let in, and what was wrong with a token that has been shown (RFC 6750 section 3).
fn challenge(document: &Document) -> HeaderValue {
    let bare = HeaderValue::from_static("Bearer");
    if matches!(document.reason, None | Some(TokenFault::Missing)) {
        return bare;
    }
    // No more than these may be in a description.
    let plain = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    let title = document.title.chars();
    let title: String = title.map(|c| if plain(c) { c } else { '\'' }).collect();
    let text = format!("Bearer error=\"invalid_token\", error_description=\"{title}\"");
    HeaderValue::try_from(text).unwrap_or(bare)
}

/// What a method that a path does not know is answered with.
pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::NotAllowed,
        "This address does not know this method; the `Allow` header lists those it does.",
    )
}

/// What a page of a foreign origin is answered with.
pub(crate) fn foreign_origin() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        ErrorCode::NotAllowed,
        "Pages of this origin may not connect; add it to `http.allowed_origins`.",
    )
}

fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadMessage
        | ErrorCode::BadRequest
        | ErrorCode::BadRoom
        | ErrorCode::BadName
        | ErrorCode::BadSdp => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthorized | ErrorCode::TokenExpired => StatusCode::UNAUTHORIZED,
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
