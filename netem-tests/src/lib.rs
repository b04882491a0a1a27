//! Whole calls in virtual time: simulated clients over the real media plane, without sockets,
//! threads or clocks. A run is decided by its seed, so a failing one fails again.
//!
//! - [`call::Call`] is what a test drives: people join, time passes, and what they saw and heard is
//!   asked for
//! - [`plane::Plane`] is the server: the head and its workers as one state machine
//! - [`client::Client`] is one browser: it offers, connects, sends media, and judges what it is sent
//! - [`link::Link`] is one direction of one client's network
//! - [`lab::Lab`] is a network of real processes on one machine, over the same links in real time
//! - [`units`] reads what people write: `30%`, `50ms`, `5 Mbit/s`
//!
//! What is run, and what came of it, is the same in virtual and in real time:
//!
//! - [`real_time::run`] runs a scenario with real programs in a lab; what it leaves is a
//!   [`recording::Recording`]
//! - [`scenario::Scenario`] is a call and its networks, read from a file
//! - [`figures`] makes of what clients tell once a second what a person would notice
//! - [`report::Results`] is what a suite found: as JSON, as a page, against an earlier one

pub mod call;
pub mod client;
pub mod figures;
pub mod lab;
pub mod link;
pub mod plane;
pub mod real_time;
pub mod recording;
pub mod report;
pub mod scenario;
pub mod units;
