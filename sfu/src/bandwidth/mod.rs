//! Congestion control: what the network can carry.

pub mod feedback;
mod link_loss;
pub mod sent;
