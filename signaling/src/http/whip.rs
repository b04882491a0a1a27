//! WHIP (RFC 9725) and WHEP: publish or receive with one HTTP request.
//!
//! `POST /whip/{room}` or `/whep/{room}` with an SDP offer gives `201`, the answer, the session's
//! address in `Location` and its ICE session in `ETag`. `PATCH` of that address restarts ICE,
//! `DELETE` ends the session.

use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::{App, problem};
use crate::auth::Access;
use crate::control::{Address, Endpoint, HttpAnswer, HttpRequest};
use crate::protocol::{ErrorCode, Failure};
use crate::room::RoomName;

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// A request that may be looked at: its room is a name, its token valid, its body text of the
/// right type.
pub(super) struct Admitted<Params> {
    app: App,
    params: Params,
    access: Access,
    query: Option<String>,
    headers: HeaderMap,
    request: Request,
}

impl<Params: for<'de> Deserialize<'de> + Send> FromRequest<App> for Admitted<Params> {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let access = app
            .auth
            .check(bearer(&parts.headers), SystemTime::now())
            .map_err(|failure| problem::failure(&failure))?;
        let Path(params) = Path::<Params>::from_request_parts(&mut parts, app)
            .await
            .map_err(IntoResponse::into_response)?;
        Ok(Admitted {
            app: app.clone(),
            params,
            access,
            query: parts.uri.query().map(str::to_owned),
            headers: parts.headers.clone(),
            request: Request::from_parts(parts, body),
        })
    }
}

impl<Params> Admitted<Params> {
    /// The body as text, if its type is `wanted`.
    async fn text(self, wanted: &str) -> Result<String, Response> {
        let found = self.headers.get(header::CONTENT_TYPE);
        let found = found.and_then(|value| value.to_str().ok()).unwrap_or("");
        let media_type = found.split(';').next().unwrap_or("").trim();
        if !media_type.eq_ignore_ascii_case(wanted) {
            let failure = Failure::new(
                ErrorCode::BadRequest,
                format!("The `Content-Type` must be `{wanted}`."),
            );
            return Err(problem::response(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                &failure,
            ));
        }
        let bytes = Bytes::from_request(self.request, &self.app)
            .await
            .map_err(|rejection| {
                let failure = Failure::new(ErrorCode::TooLarge, rejection.body_text());
                problem::response(rejection.status(), &failure)
            })?;
        String::from_utf8(bytes.into()).map_err(|_| {
            problem::failure(&Failure::new(ErrorCode::BadSdp, "The body is not UTF-8."))
        })
    }
}

#[derive(Deserialize)]
struct Options {
    name: Option<String>,
}

/// `POST /whip/{room}`, `POST /whep/{room}`.
pub(super) async fn create(
    endpoint: Endpoint,
    admitted: Admitted<String>,
) -> Result<Response, Response> {
    let room = room_name(&admitted.params)?;
    let uri = format!("?{}", admitted.query.as_deref().unwrap_or_default());
    let name = uri
        .parse()
        .ok()
        .and_then(|uri| Query::<Options>::try_from_uri(&uri).ok())
        .and_then(|Query(options)| options.name);
    let service = admitted.app.service.clone();
    let access = admitted.access.clone();
    let location = format!("/{}/{}", endpoint.path(), room.as_str());
    let sdp = admitted.text(SDP).await?;
    let request = HttpRequest::Create {
        endpoint,
        room,
        name,
        access,
        sdp,
    };
    Ok(response(service.http(request).await, &location))
}

/// `DELETE` of a session.
pub(super) async fn delete(
    endpoint: Endpoint,
    admitted: Admitted<(String, String)>,
) -> Result<Response, Response> {
    let address = address(endpoint, &admitted)?;
    let answer = admitted
        .app
        .service
        .http(HttpRequest::Delete(address))
        .await;
    Ok(response(answer, ""))
}

/// `PATCH` of a session.
pub(super) async fn patch(
    endpoint: Endpoint,
    admitted: Admitted<(String, String)>,
) -> Result<Response, Response> {
    let address = address(endpoint, &admitted)?;
    let if_match = admitted.headers.get(header::IF_MATCH);
    let if_match = if_match
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let service = admitted.app.service.clone();
    let request = HttpRequest::Patch {
        address,
        if_match,
        fragment: admitted.text(FRAGMENT).await?,
    };
    Ok(response(service.http(request).await, ""))
}

/// `OPTIONS`: what [`cors`] adds is the answer.
pub(super) async fn options() -> Response {
    let accept = [(header::HeaderName::from_static("accept-post"), SDP)];
    (StatusCode::NO_CONTENT, accept).into_response()
}

/// Lets pages of other origins in (RFC 9725 section 4.6). Where a token is needed, every origin may try,
/// since a browser adds no authority of its own. Where none is, only origins that the WebSocket
/// door would let in.
pub(super) async fn cors(State(app): State<App>, request: Request, next: Next) -> Response {
    if app.auth.is_open() && !app.origins.allow(request.headers()) {
        return problem::response(
            StatusCode::FORBIDDEN,
            &Failure::new(
                ErrorCode::NotAllowed,
                "Pages of this origin may not connect; add it to `http.allowed_origins`.",
            ),
        );
    }
    let is_options = request.method() == Method::OPTIONS;
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = next.run(request).await;
    let Some(origin) = origin else {
        return response;
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        "Location, ETag, Accept-Post",
    );
    if is_options {
        set(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "POST, PATCH, DELETE, OPTIONS",
        );
        set(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, If-Match",
        );
        set(header::ACCESS_CONTROL_MAX_AGE, "3600");
    }
    response
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn room_name(text: &str) -> Result<RoomName, Response> {
    text.parse().map_err(|failure| problem::failure(&failure))
}

fn address(endpoint: Endpoint, admitted: &Admitted<(String, String)>) -> Result<Address, Response> {
    let (room, secret) = &admitted.params;
    Ok(Address {
        endpoint,
        room: room_name(room)?,
        secret: secret.clone(),
        access: admitted.access.clone(),
    })
}

fn response(answer: HttpAnswer, location: &str) -> Response {
    let refuse = |status, code, message| problem::response(status, &Failure::new(code, message));
    match answer {
        HttpAnswer::Created { secret, sdp, etag } => {
            let headers = [
                (header::CONTENT_TYPE, SDP.to_owned()),
                (header::LOCATION, format!("{location}/{secret}")),
                (header::ETAG, etag),
            ];
            (StatusCode::CREATED, headers, sdp).into_response()
        }
        HttpAnswer::Deleted => StatusCode::OK.into_response(),
        HttpAnswer::Restarted { fragment, etag } => {
            let headers = [
                (header::CONTENT_TYPE, FRAGMENT.to_owned()),
                (header::ETAG, etag),
            ];
            (StatusCode::OK, headers, fragment).into_response()
        }
        HttpAnswer::Unchanged => StatusCode::NO_CONTENT.into_response(),
        HttpAnswer::NotFound => refuse(
            StatusCode::NOT_FOUND,
            ErrorCode::UnknownPeer,
            "There is no such session, or no more.",
        ),
        HttpAnswer::PreconditionRequired => refuse(
            StatusCode::PRECONDITION_REQUIRED,
            ErrorCode::BadRequest,
            "An `If-Match` header is needed: `*`, or the session's entity tag.",
        ),
        HttpAnswer::PreconditionFailed => refuse(
            StatusCode::PRECONDITION_FAILED,
            ErrorCode::BadRequest,
            "The entity tag in `If-Match` is not that of the present ICE session.",
        ),
        HttpAnswer::Refused(failure) => problem::failure(&failure),
    }
}
