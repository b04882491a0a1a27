//! What an offer and its answer have agreed on, apart from how they said it.
//!
//! `section.rs` is one m-line of it, `matching.rs` finds the payload of a slot for a track.

mod matching;
mod section;

pub(crate) use matching::H264Profile;
pub use matching::match_payload;
pub use section::Section;
pub(crate) use section::{ReceiveSection, SectionInfo, SendSection};

/// Most m-lines of an offer, stopped ones included.
pub const MAX_LINES: usize = 64;

/// Most simulcast encodings of one m-line; the first ones listed are kept.
pub(crate) const MAX_ENCODINGS: usize = 3;
