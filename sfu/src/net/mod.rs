//! I/O: sockets, threads and clocks. Nothing below this folder does I/O.
//!
//! `run.rs` is the loop of a worker's thread. `udp.rs`, `tcp.rs` and `relay.rs` are where packets come from and
//! leave by; `framing.rs` and `backlog.rs` are what a TCP connection needs, and `tcp_dispatcher.rs` finds the worker
//! that a connection to a shared port is for.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is where sockets, clocks and threads are"
)]

pub(crate) mod backlog;
pub mod framing;
pub(crate) mod relay;
pub(crate) mod run;
pub(crate) mod tcp;
pub(crate) mod tcp_dispatcher;
pub(crate) mod udp;
