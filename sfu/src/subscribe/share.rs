//! What a slot got of its subscriber's estimate at the last allocation, and how that came about.
//!
//! In: each allocation. Out: whether it changes what is forwarded, and a record of why.

use std::time::Instant;

use super::allocation::{Allocation, SwitchHistory};
use super::layer::Target;
use crate::api::LayerInfo;
use crate::api::Reason;
use crate::units::Bitrate;

/// A change of what a slot gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    /// The layer it had.
    pub from: Option<LayerInfo>,
    /// The layer it gets.
    pub to: Option<LayerInfo>,
    /// Why not a better one.
    pub reason: Reason,
}

/// What one slot gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    /// The layer; none while it is paused.
    pub layer: Option<LayerInfo>,
    /// Why not a better one.
    pub reason: Reason,
    /// Its switches for want of bandwidth, as far as they matter to the next one.
    pub history: SwitchHistory,
    /// How often the layer has changed while the same track was shown.
    pub switches: u64,
    /// Whether there is anything to send: the layer may be one that is only expected.
    pub is_sent: bool,
    /// Whether anything has been decided yet for what is shown.
    is_decided: bool,
}

impl Default for Share {
    fn default() -> Self {
        Share {
            layer: None,
            reason: Reason::NotOffered,
            history: SwitchHistory::default(),
            switches: 0,
            is_sent: false,
            is_decided: false,
        }
    }
}

impl Share {
    /// The slot shows something else.
    pub(crate) fn reset(&mut self) {
        *self = Share {
            switches: self.switches,
            ..Share::default()
        };
    }

    /// The layer that it gets now, as the selector knows it.
    #[must_use]
    pub(crate) fn target(&self) -> Option<Target> {
        self.layer.as_ref().map(Target::from)
    }

    /// Why nothing is forwarded, though something is shown, if that is so.
    #[must_use]
    pub(crate) fn pause(&self) -> Option<Reason> {
        let is_paused = self.is_decided && self.layer.is_none();
        is_paused.then_some(self.reason)
    }

    /// The layer that is sent, and why not a better one.
    #[must_use]
    pub(crate) fn reported(&self) -> (Option<LayerInfo>, Reason) {
        match self.layer {
            Some(_) if !self.is_sent => (None, Reason::NotOffered),
            layer => (layer, self.reason),
        }
    }

    /// Takes what has been decided; `layers` are what was offered, by the allocation's numbers. Says
    /// what has changed.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        allocation: &Allocation,
        layers: &[LayerInfo],
    ) -> Option<Change> {
        let to = allocation
            .layer
            .and_then(|id| layers.get(usize::from(id)).copied());
        let (from, former) = (self.layer, self.reason);
        self.layer = to;
        self.reason = allocation.reason;
        let is_first = !std::mem::replace(&mut self.is_decided, true);
        if from.as_ref().map(Target::from) == self.target() {
            return None;
        }
        let rate = |layer: Option<LayerInfo>| layer.map_or(Bitrate::ZERO, |l| l.bitrate);
        if !is_first {
            self.switches += 1;
            let is_short = |reason| {
                use Reason::{Estimate, NoBandwidth, Settling};
                matches!(reason, Estimate | NoBandwidth | Settling)
            };
            // What the client or the publisher has changed is no switch for want of bandwidth.
            if quality(to) < quality(from) && is_short(allocation.reason) {
                self.history.handle_down(now);
            } else if rate(to) > rate(from) && is_short(former) {
                self.history.handle_up();
            }
        }
        Some(Change {
            from,
            to,
            reason: allocation.reason,
        })
    }
}

fn quality(layer: Option<LayerInfo>) -> (u32, u32) {
    layer.map_or((0, 0), |l| (l.height, l.frame_rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::EncodingIndex;
    use std::time::Duration;

    fn layer(encoding: crate::types::EncodingIndex, kbps: u64, height: u32) -> LayerInfo {
        LayerInfo {
            encoding,
            height,
            frame_rate: 30,
            bitrate: Bitrate::kbps(kbps),
            ..LayerInfo::default()
        }
    }

    #[test]
    fn only_bandwidth_makes_a_slot_wait() {
        let now = Instant::now();
        let layers = [
            layer(EncodingIndex(0), 150, 180),
            layer(EncodingIndex(1), 500, 360),
        ];
        let give = |layer: Option<u8>, reason| Allocation {
            layer,
            bitrate: Bitrate::ZERO,
            wanted: Bitrate::ZERO,
            reason,
        };
        let mut share = Share::default();
        assert!(
            share
                .take(now, &give(Some(1), Reason::Best), &layers)
                .is_some()
        );
        assert_eq!(share.switches, 0, "the first is no switch");
        assert_eq!(
            share.reported(),
            (None, Reason::NotOffered),
            "nothing comes yet"
        );
        share.is_sent = true;
        assert_eq!(share.reported(), (Some(layers[1]), Reason::Best));
        assert!(
            share
                .take(now, &give(Some(1), Reason::Best), &layers)
                .is_none()
        );
        // The client makes the video small and large again.
        share.take(now, &give(Some(0), Reason::Wanted), &layers);
        share.take(now, &give(Some(1), Reason::Best), &layers);
        share.take(now, &give(Some(0), Reason::Estimate), &layers);
        assert!(share.history.may_rise(now), "once");
        let change = share.take(now, &give(Some(1), Reason::Best), &layers);
        assert_eq!(change.and_then(|c| c.from), Some(layers[0]));
        assert!(!share.history.may_rise(now));
        assert!(share.history.may_rise(now + Duration::from_secs(10)));
        assert_eq!(share.switches, 4);
    }
}
