//! What a bot hears: Opus packets played out by a clock as a listener's loudspeaker would, decoded,
//! their gaps filled by redundancy or concealed, and the audio measured.
//!
//! In: packets and the time. Out: how much was played and how much of it made up, how loud and how
//! high the last second was, and windows of audio to be judged.

use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;

use super::jitter::{JitterBuffer, Playout, Sound};
use super::listening::{Listening, Window};
use super::meter::Meter;
use super::payload::{has_fec, red_blocks, samples};
use crate::BotError;
use crate::codec::AudioFormat;
use crate::sample::AudioReceived;
use crate::send::audio::SAMPLE_RATE;

/// The longest Opus packet, 120 ms at 48 kHz (RFC 6716 section 3.2.5).
const MAX_PACKET_SAMPLES: usize = 5760;
/// After so many samples made up in a row the concealment has faded for good: one second.
const FADED: u64 = SAMPLE_RATE as u64;
/// Concealment no louder than this, of full scale, is silence: −70 dBFS.
const SILENT_AMPLITUDE: f32 = 3e-4;

/// The audio of one slot. Samples are at 48 kHz, as in getStats.
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

pub(crate) struct AudioReceiver {
    decoder: opus::Decoder,
    buffer: JitterBuffer,
    /// The last RTP timestamp, extended.
    timestamp: Option<u64>,
    /// Samples made up since the last that were not.
    concealed_in_a_row: u64,
    decode_errors: u64,
    counters: AudioReceived,
    meter: Meter,
    listening: Listening,
}

impl AudioReceiver {
    pub(crate) fn new() -> Result<AudioReceiver, BotError> {
        Ok(AudioReceiver {
            decoder: opus::Decoder::new(SAMPLE_RATE, opus::Channels::Mono)?,
            buffer: JitterBuffer::new(),
            timestamp: None,
            concealed_in_a_row: 0,
            decode_errors: 0,
            counters: AudioReceived::default(),
            meter: Meter::default(),
            listening: Listening::default(),
        })
    }

    /// Takes a packet as it arrives, in whatever order.
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        format: AudioFormat,
        timestamp: u32,
        payload: Bytes,
    ) {
        self.advance(now);
        // Far enough from zero that a timestamp from before the first does not wrap.
        let last = self.timestamp.unwrap_or(1 << 32 | u64::from(timestamp));
        let ahead = timestamp.wrapping_sub(last as u32) as i32;
        let timestamp = last.saturating_add_signed(i64::from(ahead));
        self.timestamp = Some(timestamp.max(last));
        let mut blocks = match format {
            AudioFormat::Opus => vec![(0, payload)],
            AudioFormat::Red => red_blocks(&payload).unwrap_or_default(),
        };
        let Some((_, primary)) = blocks.pop() else {
            self.decode_errors += 1;
            return;
        };
        // The packet itself first: it sets the clock.
        match samples(&primary) {
            Some(samples) => self.buffer.handle_packet(now, timestamp, samples, primary),
            None => self.decode_errors += 1,
        }
        for (before, block) in blocks {
            if let Some(samples) = samples(&block) {
                let timestamp = timestamp.saturating_sub(u64::from(before));
                self.buffer
                    .handle_redundancy(now, timestamp, samples, block);
            }
        }
    }

    /// Plays what is due.
    pub(crate) fn advance(&mut self, now: Instant) {
        while let Some(playout) = self.buffer.poll_playout(now) {
            self.play(playout);
        }
    }

    /// Who speaks from now on, if it is known.
    pub(crate) fn handle_speaker(&mut self, from: Option<String>) {
        self.listening.handle_speaker(from);
    }

    /// The sender pauses, or goes on, or another one follows: no audio is no loss.
    pub(crate) fn handle_discontinuity(&mut self) {
        self.buffer.restart();
        self.timestamp = None;
        self.concealed_in_a_row = 0;
    }

    /// Audio to be judged.
    pub(crate) fn poll_window(&mut self) -> Option<Window> {
        self.listening.poll_window()
    }

    /// What was played so far; packets are counted elsewhere.
    pub(crate) fn counters(&self) -> &AudioReceived {
        &self.counters
    }

    pub(crate) fn stats(&self) -> AudioStats {
        let (level_dbfs, tone_hz) = self.meter.read();
        AudioStats {
            total_samples: self.counters.samples,
            concealed_samples: self.counters.concealed,
            decode_errors: self.decode_errors,
            level_dbfs,
            tone_hz,
        }
    }

    fn play(&mut self, playout: Playout) {
        let mut pcm = [0.0; MAX_PACKET_SAMPLES];
        let wanted = playout.samples.min(MAX_PACKET_SAMPLES);
        match playout.sound {
            Sound::Packet {
                payload,
                waited,
                hurried,
            } => match self.decoder.decode_float(&payload, &mut pcm, false) {
                Ok(samples) => {
                    self.concealed_in_a_row = 0;
                    self.counters.jitter_buffer_delay += waited.as_secs_f64() * samples as f64;
                    self.counters.jitter_buffer_emitted += samples as u64;
                    self.listening.hear(playout.timestamp, &pcm[..samples]);
                    if !hurried {
                        self.emit(&pcm[..samples]);
                    }
                }
                Err(_) => {
                    self.decode_errors += 1;
                    self.conceal(playout.timestamp, &mut pcm[..wanted]);
                }
            },
            Sound::Following(following) if has_fec(&following) => {
                let pcm = &mut pcm[..wanted];
                match self.decoder.decode_float(&following, pcm, true) {
                    Ok(_) => {
                        self.concealed_in_a_row = 0;
                        self.listening.hear(playout.timestamp, pcm);
                        self.emit(pcm);
                    }
                    Err(_) => self.conceal(playout.timestamp, pcm),
                }
            }
            Sound::Following(_) | Sound::Missing => {
                self.conceal(playout.timestamp, &mut pcm[..wanted]);
            }
        }
    }

    fn conceal(&mut self, timestamp: u64, pcm: &mut [f32]) {
        let faded = self.concealed_in_a_row >= FADED;
        if faded || self.decoder.decode_float(&[], pcm, false).is_err() {
            pcm.fill(0.0);
        }
        self.concealed_in_a_row += pcm.len() as u64;
        self.counters.concealed += pcm.len() as u64;
        if pcm.iter().all(|sample| sample.abs() <= SILENT_AMPLITUDE) {
            self.counters.silent_concealed += pcm.len() as u64;
        }
        self.listening.hear(timestamp, pcm);
        self.emit(pcm);
    }

    fn emit(&mut self, pcm: &[f32]) {
        self.counters.samples += pcm.len() as u64;
        self.meter.add(pcm);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use std::time::Duration;

    use super::*;
    use crate::send::audio::{AudioEncoder, AudioSource};

    const FRAME: Duration = Duration::from_millis(20);

    fn packets(source: AudioSource, count: usize, loss: f64) -> Vec<Bytes> {
        let mut encoder = AudioEncoder::open(&source, "alice").unwrap().unwrap();
        for _ in 0..20 {
            encoder.handle_loss(loss).unwrap();
        }
        (0..count).map(|_| encoder.next_packet().unwrap()).collect()
    }

    /// Hears packets that come every 20 ms but for those whose index is lost, to the last.
    fn hear(packets: &[Bytes], format: AudioFormat, lost: impl Fn(usize) -> bool) -> AudioReceiver {
        let start = Instant::now();
        let mut receiver = AudioReceiver::new().unwrap();
        for (index, packet) in packets
            .iter()
            .enumerate()
            .filter(|(index, _)| !lost(*index))
        {
            let now = start + FRAME * index as u32;
            // The timestamp wraps on the way.
            let timestamp = 0xffff_0000u32.wrapping_add(960 * index as u32);
            receiver.handle_packet(now, format, timestamp, packet.clone());
        }
        let target = Duration::from_millis(if packets.len() < 25 { 80 } else { 40 });
        receiver.advance(start + FRAME * (packets.len() as u32 - 1) + target);
        receiver
    }

    #[test]
    fn a_tone_comes_out_as_high_and_as_loud_as_it_went_in() {
        for hz in [300.0, 440.0, 1000.0] {
            let sent = packets(AudioSource::Tone(hz), 100, 0.0);
            let receiver = hear(&sent, AudioFormat::Opus, |_| false);
            let heard = receiver.stats();
            assert_eq!(heard.concealed_samples, 0);
            assert!(
                (90_000..=96_000).contains(&heard.total_samples),
                "{heard:?}"
            );
            assert!((heard.tone_hz - hz).abs() < 0.03 * hz, "{hz}: {heard:?}");
            assert!((-18.0..=-12.0).contains(&heard.level_dbfs), "{heard:?}");
        }
    }

    #[test]
    fn a_lost_packet_is_recovered_from_the_next_if_that_has_it_and_concealed_if_not() {
        let lost = |index: usize| index % 10 == 5;
        let speech = AudioSource::Speech(None);
        let bare = hear(&packets(speech.clone(), 400, 0.0), AudioFormat::Opus, lost);
        let bare = bare.counters();
        assert!((39 * 960..=40 * 960).contains(&bare.concealed), "{bare:?}");
        let fec = hear(&packets(speech, 400, 0.2), AudioFormat::Opus, lost);
        let concealed = fec.counters().concealed;
        assert!(concealed < bare.concealed / 2, "{concealed}");
    }

    #[test]
    fn red_gives_back_every_single_loss() {
        let sent = packets(AudioSource::Tone(440.0), 200, 0.0);
        let red: Vec<Bytes> = (0..sent.len())
            .map(|index| {
                let earlier: &[u8] = if index > 0 { &sent[index - 1] } else { &[] };
                let header = 0xef00_0000 | 960 << 10 | earlier.len() as u32;
                let parts = [&header.to_be_bytes()[..], &[0x6f], earlier, &sent[index]];
                parts.concat().into()
            })
            .collect();
        let receiver = hear(&red, AudioFormat::Red, |index| index % 2 == 1);
        assert_eq!(
            receiver.counters().concealed,
            0,
            "{:?}",
            receiver.counters()
        );
    }

    #[test]
    fn concealment_fades_to_silence_and_a_pause_is_no_loss() {
        let sent = packets(AudioSource::Tone(440.0), 300, 0.0);
        let outage = |index: usize| (100..200).contains(&index);
        let mut receiver = hear(&sent, AudioFormat::Opus, outage);
        let heard = receiver.counters().clone();
        assert_eq!(heard.concealed, 100 * 960);
        let silent = heard.silent_concealed as f64 / heard.concealed as f64;
        assert!((0.4..0.98).contains(&silent), "{heard:?}");
        receiver.handle_discontinuity();
        receiver.advance(Instant::now() + Duration::from_secs(60));
        assert_eq!(receiver.counters().samples, heard.samples);
    }

    #[test]
    fn garbage_is_counted() {
        let mut receiver = AudioReceiver::new().unwrap();
        let now = Instant::now();
        for (timestamp, format) in [(0, AudioFormat::Opus), (960, AudioFormat::Red)] {
            let garbage = Bytes::from_static(&[0xff]);
            receiver.handle_packet(now, format, timestamp, garbage);
        }
        receiver.advance(now + Duration::from_secs(1));
        assert_eq!(receiver.stats().decode_errors, 2);
    }
}
