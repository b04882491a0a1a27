//! Packets on their way out: written, paced, sealed, and laid into runs.
//!
//! `egress.rs` writes and seals, with the extensions that `fit.rs` leaves room for within the path's size
//! (`path_size.rs`); `pacing.rs` asks the estimate when a packet may leave and `pacer.rs` holds it until then;
//! `sealed.rs` keeps numbers that were sealed once, and `outbox.rs` is what the kernel gets.

pub(crate) mod egress;
mod fit;
pub(crate) mod outbox;
pub(crate) mod pacer;
pub(crate) mod pacing;
pub(crate) mod path_size;
pub(crate) mod sealed;
