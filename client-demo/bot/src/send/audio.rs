//! What a bot says: made-up speech, a tone or a WAV file, encoded with Opus in frames of 20 ms.
//!
//! In: the source and the losses to expect. Out: one Opus packet a call, for ever (speech and files
//! are looped).

use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;

use super::speech::speech;
use crate::BotError;

/// Opus' RTP clock and the only sampling rate the bot takes, in Hz (RFC 7587 section 4.1).
pub(crate) const SAMPLE_RATE: u32 = 48_000;
/// Samples in a frame of 20 ms.
pub(crate) const FRAME_SAMPLES: usize = 960;
/// The tone when none is named: concert pitch, in Hz.
const DEFAULT_TONE_HZ: f32 = 440.0;
/// How loud a tone is, of full scale: −12 dBFS peak.
const TONE_AMPLITUDE: f32 = 0.25;
/// More than a 20 ms frame takes at Opus' highest bitrate (RFC 6716 section 3.2.1).
const MAX_OPUS_PACKET: usize = 1276;
/// What browsers spend on a voice, in bits a second (libwebrtc's default for mono).
const BITRATE: i32 = 32_000;
/// The highest loss an encoder is told of, in percent: beyond, redundancy takes too much from the
/// voice itself (libwebrtc's limit).
const MAX_EXPECTED_LOSS: f64 = 20.0;
/// How much of a reported loss counts beside those before (libwebrtc smooths as well).
const NEW_LOSS_WEIGHT: f64 = 0.3;
/// The largest WAV file read, in bytes: ten minutes of stereo.
const MAX_WAV_BYTES: u64 = 128 << 20;

/// What `--audio` names.
#[derive(Clone, Debug, PartialEq)]
pub enum AudioSource {
    /// No audio is published.
    None,
    /// Speech-like audio, the same for the same speaker; its own name if none is given, so that
    /// whoever hears a bot knows what it said.
    Speech(Option<String>),
    /// A sine wave of this frequency in Hz.
    Tone(f32),
    /// A WAV file: 48 kHz, 16 bit, any number of channels; looped.
    Wav(PathBuf),
}

impl FromStr for AudioSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "none" => Ok(AudioSource::None),
            None if text == "speech" => Ok(AudioSource::Speech(None)),
            Some(("speech", speaker)) => Ok(AudioSource::Speech(Some(speaker.to_owned()))),
            None if text == "tone" => Ok(AudioSource::Tone(DEFAULT_TONE_HZ)),
            Some(("tone", hz)) => match hz.parse::<f32>() {
                Ok(hz) if (20.0..=20_000.0).contains(&hz) => Ok(AudioSource::Tone(hz)),
                _ => Err(format!(
                    "\"{hz}\" is no tone: give 20 to 20000 Hz, as in tone:440"
                )),
            },
            _ if text.ends_with(".wav") => Ok(AudioSource::Wav(text.into())),
            _ => Err(format!(
                "\"{text}\" is no audio source: give speech, speech:NAME, tone, tone:HZ, a .wav file or none"
            )),
        }
    }
}

impl AudioSource {
    /// What `speaker` says over and over, at 48 kHz; none if it is a tone or nothing.
    pub(crate) fn repeated(&self, speaker: &str) -> Result<Option<Vec<f32>>, BotError> {
        Ok(match self {
            AudioSource::None | AudioSource::Tone(_) => None,
            AudioSource::Speech(other) => Some(speech(other.as_deref().unwrap_or(speaker))),
            AudioSource::Wav(path) => Some(read_wav(path)?),
        })
    }
}

/// Encodes a source, one frame a call.
pub(crate) struct AudioEncoder {
    samples: Samples,
    encoder: opus::Encoder,
    /// Of the packets, in percent.
    expected_loss: f64,
}

enum Samples {
    Tone { step: f32, phase: f32 },
    Loop { samples: Vec<f32>, next: usize },
}

impl AudioEncoder {
    /// An encoder for what `speaker` says, or none if nothing is to be published.
    pub(crate) fn open(
        source: &AudioSource,
        speaker: &str,
    ) -> Result<Option<AudioEncoder>, BotError> {
        let samples = match (source, source.repeated(speaker)?) {
            (_, Some(samples)) => Samples::Loop { samples, next: 0 },
            (AudioSource::Tone(hz), _) => Samples::Tone {
                step: hz / SAMPLE_RATE as f32,
                phase: 0.0,
            },
            _ => return Ok(None),
        };
        let mut encoder =
            opus::Encoder::new(SAMPLE_RATE, opus::Channels::Mono, opus::Application::Voip)?;
        encoder.set_bitrate(opus::Bitrate::Bits(BITRATE))?;
        encoder.set_inband_fec(true)?;
        Ok(Some(AudioEncoder {
            samples,
            encoder,
            expected_loss: 0.0,
        }))
    }

    /// The far side has lost this share of the packets since it last said so (`fraction_lost` of a
    /// receiver report, RFC 3550 section 6.4.1). The encoder adds redundancy in proportion.
    pub(crate) fn handle_loss(&mut self, fraction: f64) -> Result<(), BotError> {
        let reported = 100.0 * fraction.clamp(0.0, 1.0);
        self.expected_loss += NEW_LOSS_WEIGHT * (reported - self.expected_loss);
        let told = self.expected_loss.min(MAX_EXPECTED_LOSS).round();
        Ok(self.encoder.set_packet_loss_perc(told as i32)?)
    }

    /// The next 20 ms.
    pub(crate) fn next_packet(&mut self) -> Result<Bytes, BotError> {
        let frame = self.next_frame();
        Ok(self
            .encoder
            .encode_vec_float(&frame, MAX_OPUS_PACKET)?
            .into())
    }

    /// Says 20 ms to nobody: time passes for the source too.
    pub(crate) fn skip(&mut self) {
        self.next_frame();
    }

    fn next_frame(&mut self) -> [f32; FRAME_SAMPLES] {
        let mut frame = [0.0; FRAME_SAMPLES];
        match &mut self.samples {
            Samples::Tone { step, phase } => {
                for sample in &mut frame {
                    *sample = TONE_AMPLITUDE * (*phase * std::f32::consts::TAU).sin();
                    *phase = (*phase + *step).fract();
                }
            }
            Samples::Loop { samples, next } => {
                for sample in &mut frame {
                    *sample = samples[*next];
                    *next = (*next + 1) % samples.len();
                }
            }
        }
        frame
    }
}

fn read_wav(path: &Path) -> Result<Vec<f32>, BotError> {
    let bytes = super::read_bounded(path, MAX_WAV_BYTES)?;
    parse_wav(&bytes).map_err(|reason| BotError::Media {
        path: path.to_owned(),
        reason,
    })
}

/// Mixes a RIFF WAVE file down to mono.
fn parse_wav(bytes: &[u8]) -> Result<Vec<f32>, String> {
    let chunk_header = |at: usize| -> Option<(&[u8], usize)> {
        let header = bytes.get(at..at + 8)?;
        let size = u32::from_le_bytes(header[4..8].try_into().ok()?);
        Some((&header[..4], size as usize))
    };
    if !bytes.starts_with(b"RIFF") || bytes.get(8..12) != Some(b"WAVE") {
        return Err("this is not a WAV file".into());
    }
    let mut at = 12;
    let mut channels = 0;
    while let Some((id, size)) = chunk_header(at) {
        let body = &bytes[at + 8..bytes.len().min(at + 8 + size)];
        match id {
            b"fmt " if body.len() >= 16 => {
                let word = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
                let rate = u32::from(word(4)) | u32::from(word(6)) << 16;
                // 1 is PCM; 0xfffe is "extensible", which a 16-bit file from ffmpeg may use.
                if !matches!(word(0), 1 | 0xfffe) || word(14) != 16 || rate != SAMPLE_RATE {
                    return Err(format!(
                        "it holds {} bits at {rate} Hz in format {}; give 16-bit PCM at 48000 Hz \
                         (ffmpeg -i FILE -ar 48000 -c:a pcm_s16le OUT.wav)",
                        word(14),
                        word(0)
                    ));
                }
                channels = usize::from(word(2));
            }
            b"data" if channels > 0 => {
                let scale = f32::from(i16::MAX) * channels as f32;
                let samples: Vec<f32> = body
                    .chunks_exact(2 * channels)
                    .map(|frame| {
                        let sum: i32 = frame
                            .chunks_exact(2)
                            .map(|sample| i32::from(i16::from_le_bytes([sample[0], sample[1]])))
                            .sum();
                        sum as f32 / scale
                    })
                    .collect();
                if samples.is_empty() {
                    return Err("it holds no samples".into());
                }
                return Ok(samples);
            }
            _ => {}
        }
        // Chunks are padded to an even length.
        at += 8 + size + (size & 1);
    }
    Err("it has no \"fmt \" chunk followed by a \"data\" chunk".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;

    fn wav(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
        let data: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
        let mut out = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0".to_vec();
        out.extend(channels.to_le_bytes());
        out.extend(rate.to_le_bytes());
        out.extend([0; 6]);
        out.extend(16u16.to_le_bytes());
        out.extend(b"data");
        out.extend((data.len() as u32).to_le_bytes());
        out.extend(data);
        out
    }

    #[test]
    fn sources_are_named_on_the_command_line() {
        assert_eq!("none".parse(), Ok(AudioSource::None));
        assert_eq!("speech".parse(), Ok(AudioSource::Speech(None)));
        let bob = AudioSource::Speech(Some("bob".into()));
        assert_eq!("speech:bob".parse(), Ok(bob));
        assert_eq!("tone".parse(), Ok(AudioSource::Tone(440.0)));
        assert_eq!("tone:1000".parse(), Ok(AudioSource::Tone(1000.0)));
        assert_eq!("a/b.wav".parse(), Ok(AudioSource::Wav("a/b.wav".into())));
        for wrong in ["tone:0", "tone:x", "tones", "a.mp3", ""] {
            let error = wrong.parse::<AudioSource>().unwrap_err();
            assert!(error.contains("give"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_wav_is_mixed_to_mono_and_others_are_refused_with_the_remedy() {
        let samples = parse_wav(&wav(48_000, 2, &[i16::MAX, 0, -i16::MAX, -i16::MAX])).unwrap();
        assert_eq!(samples, [0.5, -1.0]);
        let error = parse_wav(&wav(44_100, 1, &[0])).unwrap_err();
        assert!(
            error.contains("44100") && error.contains("-ar 48000"),
            "{error}"
        );
        assert!(parse_wav(b"RIFF").is_err());
        assert!(parse_wav(&wav(48_000, 1, &[])).is_err());
    }
}
