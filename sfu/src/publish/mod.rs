//! Tracks as they are published: reception, gaps, history, key frames.

pub(crate) mod encoding;
pub(crate) mod feed;
pub(crate) mod history;
pub(crate) mod keyframe;
pub(crate) mod media_clock;
pub(crate) mod meter;
pub(crate) mod nack;
mod pictures;
pub(crate) mod publication;
pub(crate) mod receive;
mod reception;
pub(crate) mod redundancy;
pub mod repair;
pub(crate) mod sources;
pub mod unwrap;
pub(crate) mod wanted_layers;
