//! Congestion control: what the network can carry.

pub mod acknowledged;
pub mod application_limited;
pub mod arrival_groups;
pub mod carried;
pub mod competition;
pub mod estimator;
pub mod feedback;
mod link_loss;
pub mod loss_based;
mod loss_experiment;
pub(crate) mod outage;
pub mod probe;
pub mod probe_result;
pub mod queueing;
pub mod rate_control;
pub mod round_trip;
pub mod sent;
pub mod trendline;

#[cfg(test)]
mod tests;
