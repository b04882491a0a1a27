//! What slots show, in which quality, and why not in a better one.

use std::time::Duration;

use crate::media::Codec;
use crate::types::{EncodingIndex, TrackId};
use crate::units::Bitrate;

/// What a track carries, as far as it matters to who gets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Content {
    /// Somebody: a camera, a microphone, or anything else that is no screen.
    #[default]
    Person,
    /// A screen or a window, or its audio. Nobody speaks there, and there is something to read.
    Screen,
}

/// What a client wants of one of its slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotChoice {
    /// The server fills it: while there are slots for every track, in the order they were
    /// published; if there are not, with screens and with those who speak.
    Auto,
    /// This track and no other.
    Pin(TrackId),
    /// Nothing.
    Off,
}

/// After a downward switch a slot rises at most once within this time.
pub const SETTLING: Duration = Duration::from_secs(10);

/// How important a slot is: the more, the more of the estimate it gets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Priority {
    /// None of the others.
    #[default]
    Rest,
    /// Who speaks.
    Speaker,
    /// A screen, on which there is something to read.
    Screen,
    /// What the client asked for by name.
    Pinned,
}

impl Priority {
    /// How much more than the rest: each twice as much as the one below.
    pub(crate) fn weight(self) -> u64 {
        1 << self as u8
    }
}

/// What a client shows of a slot, in pixels of its screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotView {
    /// Whether it is on the screen at all.
    pub visible: bool,
    /// The width of its place, if it says; 0 is as good as hidden.
    pub width: Option<u32>,
    /// The height of its place, if it says; 0 is as good as hidden.
    pub height: Option<u32>,
    /// Frames a second that are enough; any number if it does not say.
    pub frame_rate: Option<u32>,
}

impl SlotView {
    /// Whether nothing of it is seen.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        !self.visible || self.width == Some(0) || self.height == Some(0)
    }
}

impl Default for SlotView {
    /// The client has said nothing: all there is.
    fn default() -> Self {
        SlotView {
            visible: true,
            width: None,
            height: None,
            frame_rate: None,
        }
    }
}

/// Why a slot does not get more, or nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It has the best that is offered.
    Best,
    /// More would not be seen at the size it is shown, or at the frame rate that is wanted.
    Wanted,
    /// More does not fit into the estimate.
    Estimate,
    /// More would fit, but it was switched down not long ago. Paused, if it has no layer.
    Settling,
    /// Paused: it is not visible.
    Hidden,
    /// Paused: the client cannot receive this codec, or this profile of it.
    Codec(Codec),
    /// Paused: the track has no layer now.
    NotOffered,
    /// Paused: not even the lowest layer fits beside those of more important slots.
    NoBandwidth,
}

/// A layer of a track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerInfo {
    /// The simulcast encoding, 0 for the first of the offer.
    pub encoding: EncodingIndex,
    /// The highest spatial layer of it, 0 without scalability.
    pub spatial: u8,
    /// The highest temporal layer of it, 0 without scalability.
    pub temporal: u8,
    /// Pixels; none if not known.
    pub width: u32,
    /// Lines; none if not known.
    pub height: u32,
    /// Frames a second.
    pub frame_rate: u32,
    /// What it takes, with its repair.
    pub bitrate: Bitrate,
}

/// Which part sets the estimate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Limit {
    /// The delay, or what has been tried so far.
    #[default]
    Delay,
    /// Loss that is congestion.
    Loss,
    /// A queue that is being drained.
    Draining,
    /// The receiver, by REMB.
    Receiver,
}
