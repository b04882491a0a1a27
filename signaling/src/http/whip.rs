//! WHIP (RFC 9725) and WHEP: publish or receive with one HTTP request.
//!
//! `POST /whip/{room}` or `/whep/{room}` with an SDP offer gives `201`, the answer, the session's
//! address in `Location`, its ICE session in `ETag`, and the relay, if there is one, in `Link`.
//! `PATCH` of that address restarts ICE, `DELETE` ends the session: who knows it needs no token.

use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::Deserialize;

use super::problem::{self, Problem};
use super::{App, Caller};
use crate::auth::{Access, Refusal, check_identity};
use crate::control::{Address, Endpoint, HttpAnswer, HttpRequest};
use crate::names::RoomName;
use crate::protocol::{ErrorCode, Failure, IceServer};

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// What the query may say.
#[derive(Deserialize)]
struct Options {
    /// What the participant is to be called.
    name: Option<String>,
    /// Who it is, where no token says so.
    identity: Option<String>,
}

/// A request whose token is valid.
pub(super) struct Admitted<Params> {
    pub(super) app: App,
    pub(super) params: Params,
    pub(super) access: Access,
    from: IpAddr,
    options: Options,
    request: Request,
}

impl<Params: for<'de> Deserialize<'de> + Send> FromRequest<App> for Admitted<Params> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let access = access(app, &parts.headers)?;
        let params = path(app, &mut parts).await?;
        let Query(options) = Query::<Options>::try_from_uri(&parts.uri).map_err(|rejection| {
            let text = format!("The query is not valid: {}.", rejection.body_text());
            Failure::new(ErrorCode::BadRequest, text)
        })?;
        let caller = parts.extensions.get::<Caller>();
        Ok(Admitted {
            app: app.clone(),
            params,
            access,
            // Every request has come over a connection from somewhere.
            from: caller.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |caller| caller.address),
            options,
            request: Request::from_parts(parts, body),
        })
    }
}

impl<Params> Admitted<Params> {
    /// The body as text, whatever its type, or a refusal with this code.
    pub(super) async fn body(self, not_text: ErrorCode) -> Result<String, Problem> {
        body(&self.app, self.request, not_text).await
    }
}

/// A request to the address of a session. It needs no token, and looks at none: whoever knows the address
/// has made the session, and the token that let it may have ended since.
pub(super) struct Addressed {
    app: App,
    room: RoomName,
    secret: String,
    request: Request,
}

impl FromRequest<App> for Addressed {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let (room, secret): (String, String) = path(app, &mut parts).await?;
        Ok(Addressed {
            app: app.clone(),
            room: room.parse()?,
            secret,
            request: Request::from_parts(parts, body),
        })
    }
}

/// What is variable in the path.
async fn path<Params: for<'de> Deserialize<'de> + Send>(
    app: &App,
    parts: &mut Parts,
) -> Result<Params, Problem> {
    let path = Path::<Params>::from_request_parts(parts, app).await;
    path.map(|Path(params)| params).map_err(|rejection| {
        let text = format!("The path is not valid: {}.", rejection.body_text());
        Failure::new(ErrorCode::BadRequest, text).into()
    })
}

/// What the token of a request allows.
fn access(app: &App, headers: &HeaderMap) -> Result<Access, Failure> {
    let now = SystemTime::now();
    let checked = match app.auth.is_open() {
        // Whatever a proxy in front may have put there.
        true => app.auth.check(None, now),
        false => bearer(headers).and_then(|token| app.auth.check(token, now)),
    };
    checked.map_err(|refusal| app.refuse(refusal))
}

/// The token, if there is one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let value = value.to_str().ok().and_then(|value| value.split_once(' '));
    value
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| Some(token.trim()))
        .ok_or_else(Refusal::of_header)
}

/// The body as text, if its type is `wanted`.
async fn text(app: &App, request: Request, wanted: &str) -> Result<String, Problem> {
    let found = request.headers().get(header::CONTENT_TYPE);
    let found = found.and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = found.split(';').next().unwrap_or("").trim();
    if !media_type.eq_ignore_ascii_case(wanted) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ErrorCode::BadRequest,
            format!("The `Content-Type` must be `{wanted}`."),
        ));
    }
    body(app, request, ErrorCode::BadSdp).await
}

/// The body as text, whatever its type, or a refusal with this code.
async fn body(app: &App, request: Request, not_text: ErrorCode) -> Result<String, Problem> {
    let bytes = Bytes::from_request(request, app).await;
    let bytes = bytes.map_err(|rejection| {
        let text = format!("The body cannot be read: {}.", rejection.body_text());
        Problem::new(rejection.status(), ErrorCode::TooLarge, text)
    })?;
    String::from_utf8(bytes.into())
        .map_err(|_| Failure::new(not_text, "The body is not UTF-8.").into())
}

/// `POST /whip/{room}`, `POST /whep/{room}`.
pub(super) async fn create(
    endpoint: Endpoint,
    admitted: Admitted<String>,
) -> Result<Response, Problem> {
    let Admitted {
        app,
        params,
        access,
        from,
        options,
        request,
    } = admitted;
    let room: RoomName = params.parse()?;
    let Options { name, identity } = options;
    if let Some(identity) = &identity {
        check_identity(identity).map_err(|is| {
            Failure::new(
                ErrorCode::BadRequest,
                format!("The `identity` in the query {is}."),
            )
        })?;
    }
    let location = format!("/{}/{}", endpoint.path(), room.as_str());
    let sdp = text(&app, request, SDP).await?;
    let request = HttpRequest::Create {
        endpoint,
        room,
        name,
        identity,
        access,
        from,
        sdp,
    };
    Ok(response(app.service.http(request).await, &location))
}

/// `DELETE` of a session.
pub(super) async fn delete(endpoint: Endpoint, addressed: Addressed) -> Result<Response, Problem> {
    let service = addressed.app.service.clone();
    let request = HttpRequest::Delete(addressed.address(endpoint));
    Ok(response(service.http(request).await, ""))
}

/// `PATCH` of a session.
pub(super) async fn patch(endpoint: Endpoint, addressed: Addressed) -> Result<Response, Problem> {
    let address = addressed.address(endpoint);
    let Addressed { app, request, .. } = addressed;
    let if_match = request.headers().get(header::IF_MATCH);
    let if_match = if_match
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let request = HttpRequest::Patch {
        address,
        if_match,
        fragment: text(&app, request, FRAGMENT).await?,
    };
    Ok(response(app.service.http(request).await, ""))
}

/// `OPTIONS`: what [`cors`] adds is the answer.
pub(super) async fn options() -> Response {
    let accept = [(header::HeaderName::from_static("accept-post"), SDP)];
    (StatusCode::NO_CONTENT, accept).into_response()
}

/// Lets pages of other origins in (RFC 9725 section 4.6). Where a token is needed, every origin may try,
/// since a browser adds no authority of its own. Where none is, only origins that the WebSocket
/// HTTP would let in.
pub(super) async fn cors(State(app): State<App>, request: Request, next: Next) -> Response {
    if app.auth.is_open() && !app.origins.allow(request.headers()) {
        return problem::foreign_origin().into_response();
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
        "Location, ETag, Link, Accept-Post",
    );
    if is_options {
        set(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, POST, PATCH, DELETE, OPTIONS",
        );
        set(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, If-Match",
        );
        set(header::ACCESS_CONTROL_MAX_AGE, "3600");
    }
    response
}

impl Addressed {
    fn address(&self, endpoint: Endpoint) -> Address {
        Address {
            endpoint,
            room: self.room.clone(),
            secret: self.secret.clone(),
        }
    }
}

/// Every way to reach each server, as a client without a socket is told of it (RFC 9725 section 4.6), but
/// for those that go where media goes anyhow.
fn links(servers: &[IceServer]) -> Vec<(header::HeaderName, String)> {
    let ways = servers
        .iter()
        .filter(|server| !server.at_media_port)
        .flat_map(|server| server.urls.iter().map(move |url| (server, url)));
    let link = |(server, url): (&IceServer, &String)| {
        let IceServer {
            username,
            credential,
            ..
        } = server;
        let link = format!(
            "<{url}>; rel=\"ice-server\"; username=\"{username}\"; credential=\"{credential}\"; \
             credential-type=\"password\""
        );
        (header::LINK, link)
    };
    ways.map(link).collect()
}

pub(super) fn response(answer: HttpAnswer, location: &str) -> Response {
    let refuse = |status, code, message| Problem::new(status, code, message).into_response();
    match answer {
        HttpAnswer::Created {
            secret,
            sdp,
            etag,
            ice_servers,
        } => {
            let headers = [
                (header::CONTENT_TYPE, SDP.to_owned()),
                (header::LOCATION, format!("{location}/{secret}")),
                (header::ETAG, etag),
            ];
            let links = AppendHeaders(links(&ice_servers));
            (StatusCode::CREATED, headers, links, sdp).into_response()
        }
        HttpAnswer::Quality(quality) => Json(quality).into_response(),
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
        HttpAnswer::Refused(failure) => Problem::from(failure).into_response(),
    }
}
