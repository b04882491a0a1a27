//! The slots of a subscriber, each of which shows a camera in layers, filled by the allocator.

use std::time::Instant;

use crate::api::Priority;
use crate::subscribe::allocation::{Demand, Layer, SwitchHistory, View, allocate};
use crate::units::{Bitrate, DataSize};

/// How many times as large as others a key frame is.
const KEY_FRAME: u64 = 6;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    current: Option<u8>,
    history: SwitchHistory,
}

#[derive(Debug)]
pub(super) struct Slots {
    layers: Vec<Layer>,
    slots: Vec<Slot>,
    pub(super) switches: u32,
}

impl Slots {
    pub(super) fn new(count: usize, kbps: &[u64]) -> Self {
        let layers = (0u8..).zip(kbps).map(|(id, kbps)| Layer {
            id,
            bitrate: Bitrate::kbps(*kbps),
            height: 180 << id,
            frame_rate: 30,
        });
        Slots {
            layers: layers.collect(),
            slots: vec![Slot::default(); count],
            switches: 0,
        }
    }

    pub(super) fn wanted(&self) -> Bitrate {
        let best = self
            .layers
            .last()
            .map_or(Bitrate::ZERO, |layer| layer.bitrate);
        self.slots.iter().map(|_| best).sum()
    }

    /// How many show nothing.
    pub(super) fn paused(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| slot.current.is_none())
            .count()
    }

    /// The best layer that any shows.
    pub(super) fn best(&self) -> Option<u8> {
        self.slots.iter().filter_map(|slot| slot.current).max()
    }

    /// Divides the estimate. Returns the rate, and what key frames take beyond it.
    pub(super) fn divide(&mut self, now: Instant, estimate: Bitrate) -> (Bitrate, DataSize) {
        let demands: Vec<Demand<'_>> = self
            .slots
            .iter()
            .map(|slot| Demand {
                layers: &self.layers,
                unreceivable: None,
                view: View::default(),
                priority: Priority::Rest,
                current: slot.current,
                switches: slot.history,
            })
            .collect();
        let answers = allocate(now, estimate, estimate, &demands);
        let mut key_frames = 0;
        for (slot, answer) in self.slots.iter_mut().zip(&answers) {
            if answer.layer == slot.current {
                continue;
            }
            if answer.layer > slot.current {
                slot.history.handle_up();
                key_frames += answer.bitrate.as_bps() / 8 / 30 * (KEY_FRAME - 1);
            } else {
                slot.history.handle_down(now);
            }
            slot.current = answer.layer;
            self.switches += 1;
        }
        let rate = answers.iter().map(|answer| answer.bitrate).sum();
        (rate, DataSize::bytes(key_frames))
    }
}
