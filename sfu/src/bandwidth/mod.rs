//! Congestion control: what the network can carry.
//!
//! Constants that follow others name them by revision. *libwebrtc M125* is branch-heads/6422 at
//! 89e26b72494b, compared value by value, and *gcc-02* is draft-ietf-rmcat-gcc-02. A constant that
//! names neither, nor another document, is our own, for the reason beside it.

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
