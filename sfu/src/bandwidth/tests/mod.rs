//! Estimator, pacer and a source in a closed loop over a simulated bottleneck, in virtual time.

mod call;
mod link;
mod slots;
mod stories;
mod tcp;
