//! Whole calls in virtual time: simulated clients over the real media plane, without sockets,
//! threads or clocks. A run is decided by its seed, so a failing one fails again.
//!
//! - [`run::run`] runs a scenario and records what its clients tell
//! - [`call::Call`] is what a test drives: people join, time passes, and what they saw and heard is
//!   asked for
//! - [`judge`] is what it answers
//! - [`plane::Plane`] is the server: the head and its workers as one state machine
//! - [`client::Client`] is one browser: it offers, connects, sends media, and judges what it is sent

mod ask;
pub mod call;
pub mod client;
pub mod judge;
pub mod plane;
pub mod record;
pub mod run;
