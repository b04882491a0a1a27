//! The STUN/TURN server (RFC 8489, RFC 8656).
//!

mod binding;
pub mod channel;
pub mod framing;
mod limit;
pub mod policy;

pub use binding::{Dropped, Responder, serve};
