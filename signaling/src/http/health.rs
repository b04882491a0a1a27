//! Whether the server lives, and whether it takes new calls.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;

use super::App;

/// The process answers, and every part of it that it cannot go on without lives.
pub(super) async fn live(State(app): State<App>) -> (StatusCode, &'static str) {
    match failed(&app) {
        Some(part) => (StatusCode::SERVICE_UNAVAILABLE, part),
        None => (StatusCode::OK, "live\n"),
    }
}

/// New calls are welcome; not while the server is stopping, or without one of its parts.
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    match failed(&app) {
        Some(part) => (StatusCode::SERVICE_UNAVAILABLE, part),
        None if app.ready.load(Ordering::Relaxed) => (StatusCode::OK, "ready\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

/// A part that has failed, if one has.
fn failed(app: &App) -> Option<&'static str> {
    if !app.service.is_alive() {
        return Some("the control plane has failed\n");
    }
    let relay = app.relay.as_ref().filter(|relay| !relay.is_alive());
    relay.map(|_| "the relay has failed\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use confab_sfu::Sfu;
    use confab_sockets::listener::Lobby;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::auth::Auth;
    use crate::control::{Config, Control};
    use crate::service::Service;

    #[tokio::test]
    async fn a_dead_control_plane_is_told() {
        let settings = confab_sfu::Config {
            workers: 1,
            port: 0,
            ..confab_sfu::Config::default()
        };
        let (sfu, events) = Sfu::start(&settings).unwrap();
        let (service, task) = Service::start(Control::new(Config::default()), sfu, events);
        let app = App {
            service: service.clone(),
            auth: Auth::open(),
            public_url: None,
            relay: None,
            origins: Arc::default(),
            names: Arc::default(),
            lobby: Arc::new(Lobby::new(1)),
            sockets: Arc::new(Semaphore::new(1)),
            ready: Arc::new(AtomicBool::new(true)),
            certificates: None,
            refusals: Arc::default(),
        };
        let ok = |text| (StatusCode::OK, text);
        assert_eq!(live(State(app.clone())).await, ok("live\n"));
        assert_eq!(ready(State(app.clone())).await, ok("ready\n"));
        service.fail().await;
        assert!(task.await.unwrap_err().is_panic());
        let failed = "the control plane has failed\n";
        let failed = (StatusCode::SERVICE_UNAVAILABLE, failed);
        assert_eq!(live(State(app.clone())).await, failed);
        assert_eq!(ready(State(app)).await, failed);
    }
}
