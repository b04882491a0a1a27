//! The impaired network, and what a call is like on it.
//!
//! - [`link::Link`] is one direction of one client's network, the same in virtual and real time
//! - [`virtual_time`] runs whole calls without sockets, threads or clocks
//! - [`lab::Lab`] is a network of real processes on one machine, over the same links in real time
//! - [`units`] reads what people write: `30%`, `50ms`, `5 Mbit/s`
//!
//! What is run, and what came of it, is the same in virtual and in real time:
//!
//! - [`real_time::run`] runs a scenario with real programs in a lab; what it leaves is a
//!   [`recording::Recording`]
//! - [`scenario::Scenario`] is a call and its networks, read from a file
//! - [`figures`] makes of what clients tell once a second what a person would notice
//! - [`suite::run`] runs files of them, where [`needs::check`] finds all that they need
//! - [`report::Results`] is what a suite found: as JSON, as a page, against an earlier one

pub mod figures;
pub mod lab;
pub mod link;
pub mod needs;
pub mod real_time;
pub mod recording;
pub mod report;
pub mod scenario;
pub mod suite;
pub mod units;
pub mod virtual_time;
