//! What a suite found: kept as `results.json`, shown as one page, compared with an earlier one.
//!
//! In: the logs of a [`Scenario`](crate::scenario::Scenario)'s clients. Out: a [`RunResult`], many of
//! which are [`Results`]. The same logs make the same bytes: no clock is read here.

mod compare;
mod group;
mod html;
pub mod progress;
mod results;

pub use compare::{Compared, compare};
pub use group::{Group, Spread, Verdict, groups};
pub use html::write_html;
pub use results::{
    ExpectationResult, ParticipantResult, ReadError, Results, RunInfo, RunResult, StreamResult,
};

#[cfg(test)]
mod tests;
