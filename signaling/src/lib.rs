//! The control plane: WebSocket, HTTP, rooms, tokens.
//!
//! From the outside in: [`server`] listens, `http` takes requests and WebSockets, `service` is the one
//! task behind it, and it drives [`control`], which is sans-I/O like everything it is made of:
//! [`session`], [`room`], [`connection`]. What goes over the wire is in [`protocol`], the way to
//! the SFU in [`media`], that to the TURN server in [`relay`].
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod auth;
pub mod connection;
pub mod control;
mod deflate;
pub mod holder;
mod http;
pub mod link;
pub mod media;
pub mod names;
pub mod protocol;
pub mod relay;
pub mod room;
pub mod server;
mod service;
pub mod session;

pub use http::{Certificates, DEFAULT_LIFETIME, Entrance};
pub use server::{BindError, Server, Settings, Stopped, max_connections};
