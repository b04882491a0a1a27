//! What a bot hears: Opus packets put in order and decoded, gaps concealed, and the sound measured.
//!
//! In: packets with extended sequence numbers. Out: how much was decoded, how much made up, how
//! loud and how high the last second was.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::Serialize;

use crate::BotError;
use crate::send::audio::SAMPLE_RATE;

/// Packets that may wait for an earlier one before it is given up: 60 ms of sound.
const REORDER_DEPTH: usize = 3;
/// A gap longer than this is silence rather than loss, and is not concealed: one second.
const MAX_CONCEALED_FRAMES: u64 = 50;
/// The longest Opus packet, 120 ms at 48 kHz (RFC 6716 section 3.2.5).
const MAX_PACKET_SAMPLES: usize = 5760;
/// The span measured for level and pitch: one second.
const METER_SAMPLES: usize = SAMPLE_RATE as usize;
/// Quieter than this is silence and has no pitch.
const SILENCE_DBFS: f32 = -60.0;

/// The sound of one slot. Samples are at 48 kHz, as in getStats.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AudioStats {
    /// Samples played, the concealed ones among them.
    pub total_samples: u64,
    /// Samples the decoder made up for packets that did not come in time.
    pub concealed_samples: u64,
    /// Packets that were no Opus.
    pub decode_errors: u64,
    /// Root mean square of the last second, in dB of full scale; nothing yet is −∞, written −127.
    pub level_dbfs: f32,
    /// Pitch of the last second by its zero crossings, in Hz: exact for a pure tone, 0 in silence.
    pub tone_hz: f32,
}

impl AudioStats {
    /// The share of what was played that was made up, 0 to 1.
    pub fn concealed(&self) -> f64 {
        self.concealed_samples as f64 / self.total_samples.max(1) as f64
    }
}

/// Decodes one stream.
pub(crate) struct AudioReceiver {
    decoder: opus::Decoder,
    waiting: BTreeMap<u64, Bytes>,
    next: Option<u64>,
    /// Samples in the last packet, which a lost one is taken to have had as well.
    packet_samples: usize,
    total_samples: u64,
    concealed_samples: u64,
    decode_errors: u64,
    meter: Meter,
}

impl AudioReceiver {
    pub(crate) fn new() -> Result<AudioReceiver, BotError> {
        Ok(AudioReceiver {
            decoder: opus::Decoder::new(SAMPLE_RATE, opus::Channels::Mono)?,
            waiting: BTreeMap::new(),
            next: None,
            packet_samples: crate::send::audio::FRAME_SAMPLES,
            total_samples: 0,
            concealed_samples: 0,
            decode_errors: 0,
            meter: Meter::default(),
        })
    }

    pub(crate) fn handle_packet(&mut self, sequence_number: u64, payload: Bytes) {
        let next = *self.next.get_or_insert(sequence_number);
        if sequence_number < next || payload.is_empty() {
            return;
        }
        if sequence_number - next > MAX_CONCEALED_FRAMES {
            self.waiting.clear();
            self.next = Some(sequence_number);
        }
        self.waiting.insert(sequence_number, payload);
        while let Some(next) = self.next {
            if let Some(payload) = self.waiting.remove(&next) {
                self.decode(&payload);
            } else if self.waiting.len() >= REORDER_DEPTH {
                // In-band FEC of the lost packet travels in the one after it.
                let following = self.waiting.get(&(next + 1)).cloned();
                self.conceal(following.as_deref().unwrap_or_default());
            } else {
                break;
            }
            self.next = Some(next + 1);
        }
    }

    pub(crate) fn stats(&self) -> AudioStats {
        let (level_dbfs, tone_hz) = self.meter.read();
        AudioStats {
            total_samples: self.total_samples,
            concealed_samples: self.concealed_samples,
            decode_errors: self.decode_errors,
            level_dbfs,
            tone_hz,
        }
    }

    fn decode(&mut self, payload: &[u8]) {
        let mut pcm = [0.0; MAX_PACKET_SAMPLES];
        match self.decoder.decode_float(payload, &mut pcm, false) {
            Ok(samples) => {
                self.packet_samples = samples;
                self.play(&pcm[..samples]);
            }
            Err(_) => self.decode_errors += 1,
        }
    }

    fn conceal(&mut self, following: &[u8]) {
        let mut pcm = [0.0; MAX_PACKET_SAMPLES];
        let pcm = &mut pcm[..self.packet_samples];
        if self
            .decoder
            .decode_float(following, pcm, !following.is_empty())
            .is_ok()
        {
            self.concealed_samples += pcm.len() as u64;
            self.play(pcm);
        }
    }

    fn play(&mut self, pcm: &[f32]) {
        self.total_samples += pcm.len() as u64;
        self.meter.add(pcm);
    }
}

/// Level and pitch of the last second.
#[derive(Default)]
struct Meter {
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
    fn add(&mut self, pcm: &[f32]) {
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
    fn read(&self) -> (f32, f32) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::send::audio::{AudioEncoder, AudioSource};

    fn packets(hz: f32, count: usize) -> Vec<Bytes> {
        let mut encoder = AudioEncoder::open(&AudioSource::Tone(hz)).unwrap().unwrap();
        (0..count).map(|_| encoder.next_packet().unwrap()).collect()
    }

    fn hear(order: impl IntoIterator<Item = (u64, Bytes)>) -> AudioStats {
        let mut receiver = AudioReceiver::new().unwrap();
        for (sequence_number, payload) in order {
            receiver.handle_packet(sequence_number, payload);
        }
        receiver.stats()
    }

    #[test]
    fn a_tone_comes_out_as_high_and_as_loud_as_it_went_in() {
        for hz in [300.0, 440.0, 1000.0] {
            let heard = hear((0..).zip(packets(hz, 100)));
            assert_eq!((heard.total_samples, heard.concealed_samples), (96_000, 0));
            assert!((heard.tone_hz - hz).abs() < 0.03 * hz, "{hz}: {heard:?}");
            assert!((-18.0..=-12.0).contains(&heard.level_dbfs), "{heard:?}");
        }
    }

    #[test]
    fn every_tenth_packet_lost_is_a_tenth_concealed() {
        let kept = (0..)
            .zip(packets(440.0, 200))
            .filter(|(number, _)| number % 10 != 5);
        let heard = hear(kept);
        assert_eq!(heard.concealed_samples, 20 * 960);
        assert!((heard.concealed() - 0.1).abs() < 1e-9, "{heard:?}");
        assert!((heard.tone_hz - 440.0).abs() < 20.0, "{heard:?}");
    }

    #[test]
    fn reordering_within_the_buffer_conceals_nothing() {
        let mut order: Vec<(u64, Bytes)> = (0..).zip(packets(440.0, 60)).collect();
        for pair in order[1..].chunks_exact_mut(3) {
            pair.reverse();
        }
        let heard = hear(order);
        assert_eq!(
            (heard.total_samples, heard.concealed_samples),
            (60 * 960, 0)
        );
    }

    #[test]
    fn a_long_pause_is_not_loss_and_garbage_is_counted() {
        let order = [(0, 0), (1, 0), (500, 0), (501, 1)].into_iter();
        let tone = packets(440.0, 1).remove(0);
        let heard = hear(order.map(|(number, garbage)| {
            (
                number,
                if garbage == 1 {
                    Bytes::from_static(&[0xff])
                } else {
                    tone.clone()
                },
            )
        }));
        assert_eq!((heard.concealed_samples, heard.decode_errors), (0, 1));
        assert_eq!(heard.total_samples, 3 * 960);
    }
}
