//! The call page and the SDK, embedded in the binary.
//!
//! `/` is `client-demo/web`, `/sdk/` is `client-demo/sdk`, and `/NAME` the call page for that room.
//! Every file has an entity tag, and a
//! browser asks each time whether it has changed: an upgraded server is never met with an old page.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use include_dir::{Dir, include_dir};

use super::problem::{self, Problem};
use crate::link::room_at;
use crate::names::RoomName;
use crate::protocol::ErrorCode;

static WEB: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../client-demo/web");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../client-demo/sdk");

/// The page may use the devices; a page that embeds it may not lend it others.
const PERMISSIONS: &str = "camera=(self), microphone=(self), display-capture=(self), \
                           autoplay=(self), fullscreen=(self)";

struct Asset {
    bytes: &'static [u8],
    content_type: &'static str,
    etag: String,
}

static ASSETS: LazyLock<HashMap<String, Asset>> = LazyLock::new(|| {
    let mut assets = HashMap::new();
    collect(&WEB, "/", &mut assets);
    collect(&SDK, "/sdk/", &mut assets);
    assets
});

fn collect(dir: &'static Dir<'static>, prefix: &str, assets: &mut HashMap<String, Asset>) {
    for file in dir.files() {
        let Some(path) = file.path().to_str() else {
            continue;
        };
        let bytes = file.contents();
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let asset = Asset {
            bytes,
            content_type: content_type(path),
            etag: format!("\"{:016x}\"", hasher.finish()),
        };
        assets.insert(format!("{prefix}{path}"), asset);
    }
    for dir in dir.dirs() {
        collect(dir, prefix, assets);
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("wasm") => "application/wasm",
        Some("md" | "txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

pub(super) async fn page(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = match uri.path() {
        "/" => "/index.html",
        path if ASSETS.contains_key(path) => path,
        path => match room_at(path) {
            // What the page loads is named from where it is.
            Some(room) if path.ends_with('/') => return without_slash(&room, uri.query()),
            Some(_) => "/index.html",
            None => path,
        },
    };
    let is_sdk = path.starts_with("/sdk/");
    let Some(asset) = ASSETS.get(path) else {
        return Problem::new(
            StatusCode::NOT_FOUND,
            ErrorCode::BadRequest,
            "There is nothing at this address.",
        )
        .into_response();
    };
    if method == Method::OPTIONS && is_sdk {
        let allow = [(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD")];
        return (StatusCode::NO_CONTENT, for_everybody(), allow).into_response();
    }
    if method != Method::GET && method != Method::HEAD {
        let mut response = problem::method_not_allowed().await.into_response();
        let allow = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(header::ALLOW, allow);
        return response;
    }
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|tags| tags.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == asset.etag));
    let common = [
        (header::ETAG, asset.etag.clone()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_SECURITY_POLICY, security_policy(&headers)),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (
            header::HeaderName::from_static("permissions-policy"),
            PERMISSIONS.to_owned(),
        ),
    ];
    let mut response = match known {
        true => (StatusCode::NOT_MODIFIED, common).into_response(),
        false => {
            let content_type = [(header::CONTENT_TYPE, asset.content_type)];
            (common, content_type, asset.bytes).into_response()
        }
    };
    if is_sdk {
        response.headers_mut().extend(for_everybody());
    }
    response
}

/// Lets pages of every origin use a file, also those that take nothing from elsewhere unless it says
/// that they may. It is the same for everybody, and nothing in it is secret.
fn for_everybody() -> HeaderMap {
    let anybody = HeaderValue::from_static("*");
    let elsewhere = HeaderValue::from_static("cross-origin");
    let resource = header::HeaderName::from_static("cross-origin-resource-policy");
    HeaderMap::from_iter([
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, anybody),
        (resource, elsewhere),
    ])
}

/// Leads to the page of a room, as it is seen from a folder of its name: a proxy may have this server
/// in a folder of its own.
fn without_slash(room: &RoomName, query: Option<&str>) -> Response {
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    let location = format!("../{}{query}", room.as_str());
    let location = [(header::LOCATION, location)];
    (StatusCode::PERMANENT_REDIRECT, location).into_response()
}

/// Everything from this server and nothing from elsewhere. Its sockets are named by host, since
/// not every browser counts them as `'self'`.
fn security_policy(headers: &HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .filter(|host| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b".:-[]".contains(&b);
            host.bytes().all(plain)
        });
    let sockets = host.map_or(String::new(), |host| format!(" ws://{host} wss://{host}"));
    format!(
        "default-src 'self'; connect-src 'self'{sockets}; img-src 'self' data: blob:; \
         media-src 'self' blob: mediastream:; object-src 'none'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'"
    )
}
