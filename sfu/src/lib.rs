//! The media plane: RTP in, RTP out.

pub mod api;
pub mod media;
pub mod peer;
pub mod rtp;
pub mod types;
