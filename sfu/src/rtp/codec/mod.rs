//! The first bytes of each codec's payload: what a forwarder must know of a picture.

pub mod av1;
pub mod h264;
pub mod opus;
pub mod vp8;
pub mod vp9;
