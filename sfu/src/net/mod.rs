//! The rim: sockets, threads and clocks. Nothing below this folder does I/O.
//!
//! `run.rs` is the loop of a worker's thread. `udp.rs`, `tcp.rs` and `relay.rs` are where packets come from and
//! leave by; `framing.rs` and `backlog.rs` are what a TCP connection needs, and `tcp_door.rs` finds the worker
//! that a connection to a shared port is for.

pub mod backlog;
pub mod framing;
pub mod relay;
pub mod run;
pub mod tcp;
pub mod tcp_door;
pub mod udp;
