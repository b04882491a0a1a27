//! Load for a running server, and what it costs.
//!
//! - `fanout`: one publisher, many subscribers: is anything lost, what does a packet cost
//! - `baseline`: the same packets through the simplest forwarder there can be
//! - `lossy`: a bad link between one bot and the server
//! - `relay`: what a relayed packet, and an allocation, costs `confab turn`, and coturn
//! - `server`: the `confab` binary as a child process, on ports of its own
//! - `cpu`, `metrics`: what the kernel and the server count

pub mod baseline;
pub mod cpu;
pub mod fanout;
pub mod lossy;
pub mod metrics;
pub mod relay;
pub mod server;
