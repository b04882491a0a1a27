//! The STUN/TURN server (RFC 8489, RFC 8656).
//!

mod binding;
mod limit;

pub use binding::{Dropped, Responder, serve};
