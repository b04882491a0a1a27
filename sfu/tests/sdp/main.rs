//! Offers and their answers, as a client sees them: real browsers' offers, renegotiation, refusals,
//! and offers that no browser would make. Answers are parsed again and judged by their meaning.
#![allow(clippy::unwrap_used)]

mod browsers;
mod clients;
mod hostile;
mod refusals;
mod renegotiation;
mod support;
mod tolerance;
