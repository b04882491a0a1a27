//! Tracks as one subscriber gets them: which layer, renumbered, retransmitted, protected.

pub(crate) mod allocation;
pub(crate) mod asked;
pub(crate) mod layer;
pub(crate) mod monitor;
pub(crate) mod policy;
pub(crate) mod protect;
mod reinforce;
pub(crate) mod retransmit;
pub(crate) mod rewrite;
pub(crate) mod share;
pub(crate) mod slot;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod testing;
