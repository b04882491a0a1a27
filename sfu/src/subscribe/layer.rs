//! Which encoding of a track a slot forwards, and when it may change over.
//!
//! In: each packet of any of the track's encodings, and which encoding is wanted. Out: whether the
//! packet goes to the subscriber, and whether a key frame is needed before anything better can.

use crate::publish::history::PacketMeta;

/// What happens to a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It continues what the subscriber is being sent.
    Forward,
    /// It is the first of another encoding, or of the track: the numbering is re-anchored at it.
    Start,
    /// It is not for this subscriber.
    Drop,
}

/// A quality of a track: an encoding, and the highest of its layers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Target {
    /// The simulcast encoding, 0 for the first of the offer.
    pub encoding: u8,
    /// The highest spatial layer of it.
    pub spatial: u8,
    /// The highest temporal layer of it.
    pub temporal: u8,
}

impl Target {
    /// All there is of an encoding.
    #[must_use]
    pub fn whole(encoding: u8) -> Self {
        Target {
            encoding,
            spatial: u8::MAX,
            temporal: u8::MAX,
        }
    }
}

/// The choice of one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LayerSelector {
    /// The encoding and epoch being forwarded.
    current: Option<(u8, u32)>,
    /// What is wanted; nothing while the slot is paused.
    target: Option<Target>,
}

impl LayerSelector {
    /// Says what is wanted; none pauses.
    pub fn set_target(&mut self, target: Option<Target>) {
        if target.is_none() {
            self.interrupt();
        }
        self.target = target;
    }

    /// What is wanted.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        self.target
    }

    /// What is forwarded now.
    #[must_use]
    pub fn current(&self) -> Option<Target> {
        self.current.map(|(encoding, _)| Target::whole(encoding))
    }

    /// Forgets what was being forwarded: the next packet that a decoder can start with starts anew.
    pub fn interrupt(&mut self) {
        self.current = None;
    }

    /// Whether the wanted encoding waits for a key frame.
    #[must_use]
    pub fn needs_key_frame(&self) -> bool {
        let current = self.current.map(|(encoding, _)| encoding);
        let target = self.target.map(|target| target.encoding);
        target.is_some() && current != target
    }

    /// Judges a packet.
    pub fn judge(&mut self, meta: &PacketMeta) -> Verdict {
        let key = (meta.encoding, meta.epoch);
        if self.current == Some(key) {
            return Verdict::Forward;
        }
        // An encoding whose numbering starts anew is as good as another encoding.
        let Some(target) = self.target else {
            return Verdict::Drop;
        };
        let wanted = meta.encoding == target.encoding
            || self
                .current
                .is_some_and(|(encoding, _)| encoding == meta.encoding);
        let is_older = self
            .current
            .is_some_and(|(encoding, epoch)| encoding == meta.encoding && meta.epoch < epoch);
        if wanted && !is_older && meta.starts_decoding() {
            self.current = Some(key);
            return Verdict::Start;
        }
        Verdict::Drop
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Drop, Forward, Start};
    use super::*;
    use crate::publish::history::tests::video;

    #[test]
    fn an_encoding_is_entered_at_a_key_frame_only() {
        let mut layer = LayerSelector::default();
        layer.set_target(Some(Target::whole(0)));
        assert!(layer.needs_key_frame());
        let story = [
            // (encoding, epoch, key frame, target, verdict)
            (0, 0, false, 0, Drop),
            (0, 0, true, 0, Start),
            (0, 0, false, 0, Forward),
            (1, 0, true, 0, Drop),
            (0, 0, false, 1, Forward),
            (1, 0, false, 1, Drop),
            (1, 0, true, 1, Start),
            (0, 0, true, 1, Drop),
            (1, 0, true, 1, Forward),
            (1, 1, false, 1, Drop),
            (1, 1, true, 1, Start),
            (1, 0, true, 1, Drop),
        ];
        for (step, (encoding, epoch, key, target, verdict)) in story.into_iter().enumerate() {
            layer.set_target(Some(Target::whole(target)));
            let meta = video(encoding, epoch, step as u64, key);
            assert_eq!(layer.judge(&meta), verdict, "step {step}");
        }
        assert!(!layer.needs_key_frame());
        layer.interrupt();
        assert!(layer.needs_key_frame());
    }
}
