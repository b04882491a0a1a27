//! The STUN/TURN server (RFC 8489, RFC 8656).
//!
//! [`machine::Turn`] is the protocol, without I/O: it is fed packets, the time and what became of
//! sockets, and says what to send, bind and close. What its answers rest on is a module each: who may
//! ([`credentials`]), whereto ([`policy`]), how much ([`quota`]), and where a message ends in a stream
//! ([`framing`]). [`net::Server`] is I/O: sockets and streams. Those over TLS it is handed by whoever
//! has the certificate.
//!
//! Read `machine/mod.rs`, then one request (`machine/allocate.rs`), then how a packet is relayed
//! (`machine/relay.rs`), then the task that drives it all (`net/worker.rs`).
//!
//! ```
//! use confab_turn::credentials::Secret;
//! use confab_turn::machine::RelayAddress;
//! use confab_turn::net::{Config, Server};
//!
//! let loopback = "127.0.0.1".parse()?;
//! let secret = Secret::new("shared with whoever mints credentials");
//! let server = Server::bind(Config {
//!     udp: vec!["127.0.0.1:0".parse()?],
//!     relays: vec![RelayAddress { bind: loopback, public: loopback }],
//!     secret: Some(secret.clone()),
//!     ..Config::default()
//! })?;
//! let handle = server.handle(); // revokes labels, tells how the server is doing
//! // tokio::spawn(server.run(stop));
//! let credentials = secret.mint(1_900_000_000, "room/participant");
//! assert_eq!(credentials.username, "1900000000:room/participant");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
