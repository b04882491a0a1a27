//! Packets on their way out: written, paced, sealed, and laid into runs.
//!
//! `egress.rs` writes and seals, with the extensions that `fit.rs` leaves room for within the path's size
//! (`path_size.rs`); `pacing.rs` asks the estimate when a packet may leave and `pacer.rs` holds it until then;
//! `sealed.rs` keeps numbers that were sealed once, and `outbox.rs` is what the kernel gets.

pub mod egress;
mod fit;
pub mod outbox;
pub mod pacer;
pub mod pacing;
pub mod path_size;
pub mod sealed;
