//! Congestion control: what the network can carry.

pub(crate) mod acknowledged;
pub(crate) mod application_limited;
pub(crate) mod arrival_groups;
pub(crate) mod carried;
pub(crate) mod competition;
pub mod estimator;
pub mod feedback;
mod link_loss;
pub(crate) mod loss_based;
mod loss_experiment;
pub(crate) mod outage;
pub(crate) mod probe;
pub(crate) mod probe_result;
pub(crate) mod queueing;
pub(crate) mod rate_control;
pub(crate) mod round_trip;
pub mod sent;
pub(crate) mod trendline;

#[cfg(test)]
mod tests;
