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
