//! Offers and their answers, as a client sees them: real browsers' offers, renegotiation, refusals,
//! and offers that no browser would make. Answers are parsed again and judged by their meaning.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test begins at some time, and may play the network"
)]
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

mod browsers;
mod clients;
mod hostile;
mod refusals;
mod renegotiation;
mod support;
mod tolerance;
