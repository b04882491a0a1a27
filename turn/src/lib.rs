//! The STUN/TURN server (RFC 8489, RFC 8656).
//!
//! The protocol does no I/O: it is fed packets, the time and what became of sockets, and says what to
//! send, bind and close. What its answers rest on is a module each: who may ([`credentials`]), whereto
//! ([`policy`]), how much ([`quota`]), and where a message ends in a stream ([`framing`]).

mod auth;
mod binding;
pub mod channel;
mod client;
pub mod credentials;
pub mod framing;
mod limit;
pub mod machine;
mod message;
pub mod net;
mod nonce;
pub mod policy;
mod ports;
pub mod quota;
#[cfg(test)]
mod testing;

pub use binding::{Dropped, Responder, serve};
pub use client::{Client, Transport};
