//! Which encoding and layers of a track a slot forwards, and when it may change over.
//!
//! In: each packet of any of the track's encodings, and which quality is wanted. Out: whether the
//! packet goes to the subscriber, and whether a key frame is needed before anything better can.
//!
//! Going down takes effect with the next picture. Going up waits for a picture that makes it possible:
//! to another encoding a key frame, to a higher temporal layer one that refers to none of those left
//! out, to a higher spatial layer one that refers to its own picture only. What is decided holds from
//! a picture on, by its timestamp, so that all packets of a picture get the same verdict however late
//! they come.

use std::collections::VecDeque;

use crate::api::LayerInfo;
use crate::publish::history::PacketMeta;
use crate::rtp::codec::PictureInfo;
use crate::types::EncodingIndex;

/// Changes of layers remembered to judge late packets and retransmissions by: ten a second as long as
/// a receiver may ask for a packet ([`MAX_AGE`](crate::publish::history::MAX_AGE)).
const MAX_CHANGES: usize = 32;

/// The highest temporal layer that any codec can name (AV1, VP9).
const HIGHEST_TEMPORAL: u8 = 7;

/// Pictures of a wanted higher temporal layer that are left out in a row before a key frame is asked for:
/// two seconds' worth of every second picture at 30 a second. Encoders of H.265 need not mark any picture
/// by which one could go up.
const MAX_LEFT_OUT: u16 = 30;

/// What happens to a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It continues what the subscriber is being sent.
    Forward,
    /// It is the first of another encoding, or of the track: the numbering is re-anchored at it.
    Start,
    /// It is of a layer that is left out of what the subscriber is being sent.
    Omit,
    /// It is not for this subscriber.
    Drop,
}

/// A quality of a track: an encoding, and the highest of its layers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Target {
    /// The simulcast encoding, 0 for the first of the offer.
    pub encoding: EncodingIndex,
    /// The highest spatial layer of it.
    pub spatial: u8,
    /// The highest temporal layer of it.
    pub temporal: u8,
}

impl From<&LayerInfo> for Target {
    fn from(layer: &LayerInfo) -> Self {
        Target {
            encoding: layer.encoding,
            spatial: layer.spatial,
            temporal: layer.temporal,
        }
    }
}

impl Target {
    /// All there is of an encoding.
    #[must_use]
    pub(crate) fn whole(encoding: EncodingIndex) -> Self {
        Target {
            encoding,
            spatial: u8::MAX,
            temporal: u8::MAX,
        }
    }
}

/// The highest layers that are let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layers {
    spatial: u8,
    temporal: u8,
}

impl Layers {
    const LOWEST: Layers = Layers {
        spatial: 0,
        temporal: 0,
    };

    fn of(picture: &PictureInfo) -> Layers {
        Layers {
            spatial: picture.spatial_id.unwrap_or_default(),
            temporal: picture.temporal_id.unwrap_or_default(),
        }
    }

    fn admits(self, other: Layers) -> bool {
        other.spatial <= self.spatial && other.temporal <= self.temporal
    }
}

/// The pictures from which on other layers were let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Change {
    encoding: EncodingIndex,
    epoch: u32,
    timestamp: u64,
    layers: Layers,
}

/// What is being forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Current {
    encoding: EncodingIndex,
    epoch: u32,
    layers: Layers,
    /// The newest picture, by its timestamp.
    newest: u64,
    /// The temporal layers one can go up to after it, and the spatial layer that says so.
    opened: (u8, u8),
    /// The lowest spatial layer of it that was left out.
    refused: Option<u8>,
    /// The highest spatial layer since the last picture that refers to no other.
    highest: u8,
    /// Pictures of wanted higher temporal layers that were left out since one could go up last.
    left_out: u16,
}

/// The choice of one slot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct LayerSelector {
    current: Option<Current>,
    /// What is wanted; nothing while the slot is paused.
    target: Option<Target>,
    changes: VecDeque<Change>,
}

impl LayerSelector {
    /// Says what is wanted; none pauses.
    pub(crate) fn set_target(&mut self, target: Option<Target>) {
        if target.is_none() {
            self.interrupt();
        }
        self.target = target;
    }

    #[must_use]
    pub(crate) fn target(&self) -> Option<Target> {
        self.target
    }

    /// What is being forwarded: the target, or as much of the path there as could be gone.
    #[must_use]
    pub(crate) fn current(&self) -> Option<Target> {
        self.current.map(|current| Target {
            encoding: current.encoding,
            spatial: current.layers.spatial,
            temporal: current.layers.temporal,
        })
    }

    /// Forgets what was being forwarded: the next packet that a decoder can start with starts anew.
    pub(crate) fn interrupt(&mut self) {
        self.current = None;
    }

    /// Whether the wanted encoding, or a wanted layer of it, waits for a key frame.
    #[must_use]
    pub(crate) fn needs_key_frame(&self) -> bool {
        self.target.is_some_and(|target| match &self.current {
            Some(current) if current.encoding == target.encoding => {
                current.layers.spatial < target.spatial.min(current.highest)
                    || current.layers.temporal < target.temporal && current.left_out >= MAX_LEFT_OUT
            }
            _ => true,
        })
    }

    pub(crate) fn judge(&mut self, meta: &PacketMeta) -> Verdict {
        let Some(target) = self.target else {
            return Verdict::Drop;
        };
        match self.current {
            Some(current) if (current.encoding, current.epoch) == (meta.encoding, meta.epoch) => {
                self.judge_layers(current, target, meta)
            }
            current => self.judge_start(current, target, meta),
        }
    }

    /// Judges a packet of another encoding, or of one whose numbering starts anew, which is as good
    /// as another one.
    fn judge_start(
        &mut self,
        current: Option<Current>,
        target: Target,
        meta: &PacketMeta,
    ) -> Verdict {
        let goes_on = current.filter(|current| current.encoding == meta.encoding);
        let is_wanted = meta.encoding == target.encoding || goes_on.is_some();
        let is_older = goes_on.is_some_and(|current| meta.epoch < current.epoch);
        if !is_wanted || is_older || !meta.starts_decoding() {
            return Verdict::Drop;
        }
        let layers = goes_on.map_or(Layers::LOWEST, |current| current.layers);
        let current = Current {
            encoding: meta.encoding,
            epoch: meta.epoch,
            layers: wanted(target, meta.encoding, layers),
            newest: meta.timestamp,
            opened: (0, 0),
            refused: None,
            highest: 0,
            left_out: 0,
        };
        self.change(current);
        Verdict::Start
    }

    /// Judges a packet of what is being forwarded.
    fn judge_layers(&mut self, mut current: Current, target: Target, meta: &PacketMeta) -> Verdict {
        let Some(picture) = layered(meta) else {
            return Verdict::Forward;
        };
        let wanted = wanted(target, current.encoding, current.layers);
        current.handle_picture(meta.timestamp, picture, wanted);
        self.change(current);
        if !self.omits(meta) {
            return Verdict::Forward;
        }
        if meta.timestamp == current.newest {
            let spatial = Layers::of(picture).spatial;
            current.refused = Some(current.refused.map_or(spatial, |old| old.min(spatial)));
            self.current = Some(current);
        }
        Verdict::Omit
    }

    /// Whether a packet that is not newer than those judged is of a layer that was left out.
    #[must_use]
    pub(crate) fn omits(&self, meta: &PacketMeta) -> bool {
        // After so many changes only what everybody gets is certain.
        let layers = self.at(meta).unwrap_or(Layers::LOWEST);
        layered(meta).is_some_and(|picture| !layers.admits(Layers::of(picture)))
    }

    /// Whether a packet that was let through is the last of its picture that was: the publisher's
    /// marker is on one of a layer that may have been left out.
    #[must_use]
    pub(crate) fn ends_picture(&self, meta: &PacketMeta) -> bool {
        let is_last_of_highest = || {
            let picture = layered(meta).filter(|picture| picture.ends_frame)?;
            Some(picture.spatial_id? == self.at(meta)?.spatial)
        };
        meta.marker || is_last_of_highest() == Some(true)
    }

    /// The layers that a packet's picture was judged by.
    fn at(&self, meta: &PacketMeta) -> Option<Layers> {
        let is_at = |change: &&Change| {
            (change.encoding, change.epoch) == (meta.encoding, meta.epoch)
                && change.timestamp <= meta.timestamp
        };
        self.changes.iter().rev().find(is_at).map(|c| c.layers)
    }

    /// Takes over what has become of the current layers.
    fn change(&mut self, current: Current) {
        self.current = Some(current);
        let change = Change {
            encoding: current.encoding,
            epoch: current.epoch,
            timestamp: current.newest,
            layers: current.layers,
        };
        match self.changes.back_mut() {
            Some(last)
                if Change {
                    layers: change.layers,
                    ..*last
                } == change =>
            {
                *last = change
            }
            Some(last)
                if Change {
                    timestamp: change.timestamp,
                    ..*last
                } == change => {}
            _ => {
                if self.changes.len() == MAX_CHANGES {
                    self.changes.pop_front();
                }
                self.changes.push_back(change);
            }
        }
    }
}

/// The layers wanted of the encoding that is being forwarded.
fn wanted(target: Target, encoding: EncodingIndex, current: Layers) -> Layers {
    if target.encoding == encoding {
        return Layers {
            spatial: target.spatial,
            temporal: target.temporal,
        };
    }
    Layers {
        spatial: current.spatial,
        // On the way down to a lower encoding less is to be sent at once, whenever its key frame comes.
        temporal: if target.encoding < encoding {
            0
        } else {
            u8::MAX
        },
    }
}

/// The picture of a packet, if it says which layer it is of.
fn layered(meta: &PacketMeta) -> Option<&PictureInfo> {
    let picture = meta.picture.as_ref()?;
    (picture.temporal_id.is_some() || picture.spatial_id.is_some()).then_some(picture)
}

impl Current {
    /// Decides what a packet's picture, or the part of it that is still to come, is to be judged by.
    fn handle_picture(&mut self, timestamp: u64, picture: &PictureInfo, wanted: Layers) {
        let of = Layers::of(picture);
        if timestamp > self.newest {
            let before = self.layers.temporal;
            self.begin_picture(of.temporal, picture.opens_temporal, wanted);
            self.newest = timestamp;
            if self.layers.temporal != before {
                self.left_out = 0;
            } else if of.temporal > self.layers.temporal && of.temporal <= wanted.temporal {
                self.left_out = self.left_out.saturating_add(1);
            }
        }
        if timestamp < self.newest {
            return;
        }
        if picture.is_independent && of == Layers::LOWEST {
            // A key picture, in which all layers start but those already left out.
            let (spatial, temporal) = match self.refused {
                None => (wanted.spatial, wanted.temporal),
                Some(refused) => (wanted.spatial.min(refused.saturating_sub(1)), 0),
            };
            self.layers = Layers {
                spatial: self.layers.spatial.max(spatial),
                temporal: self.layers.temporal.max(temporal),
            };
            self.highest = 0;
            self.left_out = 0;
        }
        self.highest = self.highest.max(of.spatial);
        let may_enter = picture.is_independent
            && Some(of.spatial) == self.layers.spatial.checked_add(1)
            && of.spatial <= wanted.spatial
            && self.refused.is_none_or(|refused| of.spatial < refused);
        if may_enter {
            self.layers.spatial = of.spatial;
        }
        // The highest layer knows what the lower ones depend on, too.
        if self.layers.admits(of) && of.spatial >= self.opened.1 {
            self.opened = (picture.opens_temporal, of.spatial);
        }
    }

    fn begin_picture(&mut self, temporal: u8, opens_temporal: u8, wanted: Layers) {
        let after_the_last = highest_within(self.opened.0, wanted.temporal);
        self.layers = Layers {
            spatial: self.layers.spatial.min(wanted.spatial),
            temporal: self
                .layers
                .temporal
                .max(after_the_last.unwrap_or(0))
                .min(wanted.temporal),
        };
        let is_next = Some(temporal) == self.layers.temporal.checked_add(1);
        if let Some(open) = highest_within(opens_temporal, wanted.temporal)
            && is_next
            && open >= temporal
        {
            self.layers.temporal = open;
        }
        self.opened = (0, 0);
        self.refused = None;
    }
}

/// The highest temporal layer of a set, one bit each, that does not exceed a limit. When the very last
/// is open, that is the limit itself: all there is.
fn highest_within(open: u8, limit: u8) -> Option<u8> {
    let allowed = open & (u8::MAX >> HIGHEST_TEMPORAL.saturating_sub(limit));
    let highest = allowed.checked_ilog2()? as u8;
    Some(match highest {
        HIGHEST_TEMPORAL => limit,
        below => below,
    })
}

#[cfg(test)]
mod decodable;
#[cfg(test)]
mod tests;
