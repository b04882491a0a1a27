//! Tracks as they are published: reception, gaps, history, key frames.

pub mod encoding;
pub mod feed;
pub mod history;
pub mod keyframe;
pub mod media_clock;
pub mod meter;
pub mod nack;
mod pictures;
pub mod publication;
pub mod receive;
mod reception;
pub mod redundancy;
pub mod repair;
pub mod sources;
pub mod unwrap;
pub mod wanted_layers;
