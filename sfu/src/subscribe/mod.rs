//! Tracks as one subscriber gets them: which layer, renumbered, retransmitted.

pub mod layer;
pub mod retransmit;
pub mod rewrite;
pub mod slot;
