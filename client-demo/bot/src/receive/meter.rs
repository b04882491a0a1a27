//! Level and pitch of the last second of audio.

use std::collections::VecDeque;

use crate::send::audio::SAMPLE_RATE;

/// The span measured: one second.
const METER_SAMPLES: usize = SAMPLE_RATE as usize;
/// Quieter than this is silence and has no pitch.
const SILENCE_DBFS: f32 = -60.0;

/// Level and pitch of the last second.
#[derive(Default)]
pub(crate) struct Meter {
    blocks: VecDeque<Block>,
    samples: usize,
    positive: bool,
}

struct Block {
    samples: usize,
    energy: f32,
    rises: u32,
}

impl Meter {
    pub(crate) fn add(&mut self, pcm: &[f32]) {
        let mut rises = 0;
        for sample in pcm {
            // A little hysteresis, so that noise around zero is no pitch.
            if *sample > 0.001 && !self.positive {
                rises += 1;
                self.positive = true;
            } else if *sample < -0.001 {
                self.positive = false;
            }
        }
        self.blocks.push_back(Block {
            samples: pcm.len(),
            energy: pcm.iter().map(|sample| sample * sample).sum(),
            rises,
        });
        self.samples += pcm.len();
        while self.samples > METER_SAMPLES {
            let Some(oldest) = self.blocks.pop_front() else {
                break;
            };
            self.samples -= oldest.samples;
        }
    }

    /// dBFS and Hz.
    pub(crate) fn read(&self) -> (f32, f32) {
        if self.samples == 0 {
            return (-127.0, 0.0);
        }
        let samples = self.samples as f32;
        let energy: f32 = self.blocks.iter().map(|block| block.energy).sum();
        let rises: u32 = self.blocks.iter().map(|block| block.rises).sum();
        let level = (10.0 * (energy / samples).log10()).max(-127.0);
        let tone = rises as f32 * SAMPLE_RATE as f32 / samples;
        (level, if level < SILENCE_DBFS { 0.0 } else { tone })
    }
}
