//! RTP and RTCP on the wire: views, rewriting, and the codec headers a forwarder must read.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod codec;
pub mod extension;
pub mod fec;
pub mod packet;
pub mod red;
pub mod rtcp;
pub mod sequence;
