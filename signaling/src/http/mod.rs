//! HTTP: WHIP and WHEP, the quality of connections, guest links, health, metrics, and the call page.
//!
//! In: requests. Out: responses; every refusal is an `application/problem+json` (RFC 9457) with a
//! stable `code` and a sentence.

mod entrance;
mod health;
mod held;
mod host;
mod invite;
mod metrics;
mod origin;
mod page;
pub(crate) mod problem;
mod proxies;
mod quality;
mod whip;
pub(crate) mod ws;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, header};
use axum::middleware;
use axum::routing::{get, post};
use confab_sockets::listener::Lobby;
use tokio::sync::Semaphore;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::auth::{Auth, Refusal, Refusals};
use crate::connection::MAX_MESSAGE_BYTES;
use crate::control::Endpoint;
use crate::protocol::Failure;
use crate::relay::Relay;
use crate::service::Service;
pub use entrance::Entrance;
pub(crate) use entrance::{Caller, taken};
pub(crate) use held::TooMuch;
pub(crate) use host::Names;
pub use invite::DEFAULT_LIFETIME;
pub use metrics::Certificates;
pub(crate) use origin::Origins;
pub(crate) use proxies::Proxies;

/// Has browsers come by TLS alone from then on (RFC 6797), for a year as is usual. They take it only with a
/// name and a certificate that they trust.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Longest fragment of a description (RFC 8840), in bytes: that of a BUNDLE group of 64 m-lines, in which the
/// first alone has candidates, has a third of it. It is read before it is known whether its address is one.
const MAX_FRAGMENT_BYTES: usize = 16 * 1024;

/// What every handler may need.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) service: Service,
    pub(crate) auth: Auth,
    /// Where links to this server begin, if that is known.
    pub(crate) public_url: Option<Arc<str>>,
    pub(crate) relay: Option<Arc<dyn Relay>>,
    pub(crate) origins: Arc<Origins>,
    /// What this server is called.
    pub(crate) names: Arc<Names>,
    /// Where sockets wait that have not said `hello`.
    pub(crate) lobby: Arc<Lobby>,
    /// One permit for each socket that may be open.
    pub(crate) sockets: Arc<Semaphore>,
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) certificates: Option<Arc<dyn Certificates>>,
    /// What the log has been told of refused tokens.
    pub(crate) refusals: Arc<Mutex<Refusals>>,
}

impl App {
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Writes of a refused token to the log, and gives what its holder is told.
    pub(crate) fn refuse(&self, refusal: Refusal) -> Failure {
        // One whose holder has panicked is as good as before.
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.write(Instant::now(), &refusal);
        refusal.failure
    }
}

/// Every route of the server.
pub(crate) fn router(app: App) -> Router {
    with_app(
        public_routes(&app).route("/metrics", get(metrics::metrics)),
        app,
    )
}

/// The routes for who comes from outside, with TLS: metrics are for who runs the server.
pub(crate) fn public_router(app: App) -> Router {
    let routes = public_routes(&app);
    with_app(routes, app).layer(SetResponseHeaderLayer::overriding(
        header::STRICT_TRANSPORT_SECURITY,
        HSTS,
    ))
}

fn public_routes(app: &App) -> Router<App> {
    let sessions = Router::new()
        .merge(sessions(Endpoint::Whip))
        .merge(sessions(Endpoint::Whep))
        .route(quality::PATH, get(quality::quality).options(whip::options))
        .route(invite::PATH, post(invite::invite).options(whip::options))
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
        .layer(middleware::from_fn(entrance::in_time))
        .layer(middleware::from_fn_with_state(app.clone(), whip::cors));
    Router::new()
        .route("/v1/ws", get(ws::upgrade))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .merge(sessions)
}

fn with_app(routes: Router<App>, app: App) -> Router {
    routes
        .fallback(page::page)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(middleware::from_fn_with_state(app.clone(), host::known))
        .with_state(app)
}

fn sessions(endpoint: Endpoint) -> Router<App> {
    let path = endpoint.path();
    Router::new()
        .route(
            &format!("/{path}/{{room}}"),
            post(move |request| whip::create(endpoint, request)).options(whip::options),
        )
        .route(
            &format!("/{path}/{{room}}/{{secret}}"),
            axum::routing::delete(move |request| whip::delete(endpoint, request))
                .patch(move |request| whip::patch(endpoint, request))
                .options(whip::options)
                .layer(DefaultBodyLimit::max(MAX_FRAGMENT_BYTES)),
        )
}
