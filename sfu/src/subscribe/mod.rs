//! Tracks as one subscriber gets them: which layer, renumbered, retransmitted, protected.

pub mod allocation;
pub mod asked;
pub mod layer;
pub mod monitor;
pub mod policy;
pub mod protect;
mod reinforce;
pub mod retransmit;
pub mod rewrite;
pub mod share;
pub mod slot;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod testing;
