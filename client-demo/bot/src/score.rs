//! How intelligible a voice is: STOI, the short-time objective intelligibility measure of C. H.
//! Taal, R. C. Hendriks, R. Heusdens and J. Jensen, "An Algorithm for Intelligibility Prediction of
//! Time–Frequency Weighted Noisy Speech", IEEE TASLP 19(7), 2011. Equations are numbered as there.
//!
//! In: what was said and what was heard of it, aligned, at 10 kHz. Out: a number, 1 for the same
//! audio and near 0 for something else. It is STOI and not its successor ESTOI because the papers
//! on loss concealment report STOI, so that the figures can be held against theirs; both fall with
//! every gap.

use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

/// The sampling rate of the measure, in Hz (section II).
pub const SCORE_RATE: usize = 10_000;
/// Samples of an analysis frame, of 25.6 ms, and from one to the next.
const FRAME: usize = 256;
const HOP: usize = FRAME / 2;
/// Samples of a frame with its zero padding.
const TRANSFORM: usize = 512;
/// One-third octave bands, and the centre of the lowest in Hz.
const BANDS: usize = 15;
const LOWEST_CENTRE: f64 = 150.0;
/// Frames of a segment: 384 ms, about a syllable.
const SEGMENT: usize = 30;
/// Frames this far below the loudest said are silence, in dB.
const DYNAMIC_RANGE: f64 = 40.0;
/// The lower bound of the signal-to-distortion ratio in a segment, in dB (β in equation 3).
const LOWEST_SDR: f64 = -15.0;
/// Keeps divisions by the energy of nothing finite.
const TINY: f64 = 1e-15;

/// Computes STOI.
pub struct Stoi {
    transform: Arc<dyn Fft<f64>>,
    window: [f64; FRAME],
    /// The first bin of each band and the first above it.
    bands: [(usize, usize); BANDS],
}

/// The levels of a signal: for each band, one a frame.
type Levels = [Vec<f64>; BANDS];

impl Default for Stoi {
    fn default() -> Stoi {
        Stoi::new()
    }
}

impl Stoi {
    /// Prepares the transform and the bands.
    pub fn new() -> Stoi {
        let bin = |hz: f64| (hz * TRANSFORM as f64 / SCORE_RATE as f64).round() as usize;
        let edge = |sixths: f64| bin(LOWEST_CENTRE * 2f64.powf(sixths / 6.0));
        Stoi {
            transform: FftPlanner::new().plan_fft_forward(TRANSFORM),
            // A Hann window without its zeros at both ends.
            window: std::array::from_fn(|at| {
                let turn = (at + 1) as f64 / (FRAME + 1) as f64;
                0.5 - 0.5 * (std::f64::consts::TAU * turn).cos()
            }),
            bands: std::array::from_fn(|band| {
                let sixths = 2.0 * band as f64;
                (edge(sixths - 1.0), edge(sixths + 1.0))
            }),
        }
    }

    /// The intelligibility of `heard`, of which `said` is the original; both at [`SCORE_RATE`] and
    /// cut to the shorter. None if less than a segment was said in it.
    pub fn score(&self, said: &[f32], heard: &[f32]) -> Option<f64> {
        let (said, heard) = self.without_silence(said, heard);
        let (said, heard) = (self.levels(&said), self.levels(&heard));
        let frames = said[0].len();
        let (mut sum, mut count) = (0.0, 0u32);
        for end in SEGMENT..=frames {
            for (said, heard) in said.iter().zip(&heard) {
                sum += correlation(&said[end - SEGMENT..end], &heard[end - SEGMENT..end]);
                count += 1;
            }
        }
        (count > 0).then(|| sum / f64::from(count))
    }

    /// Leaves out the frames in which nothing was said, from both, and joins what is left by
    /// overlapping.
    fn without_silence(&self, said: &[f32], heard: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let starts = frame_starts(said.len().min(heard.len()));
        let energies: Vec<f64> = starts
            .clone()
            .map(|start| {
                let energy = self.frame(&said[start..]).map(|s| s * s).sum::<f64>();
                10.0 * (energy + TINY).log10()
            })
            .collect();
        let loudest = energies.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let spoken: Vec<usize> = starts
            .zip(&energies)
            .filter(|(_, energy)| loudest - **energy < DYNAMIC_RANGE)
            .map(|(start, _)| start)
            .collect();
        let join = |samples: &[f32]| {
            let mut joined = vec![0.0; (spoken.len() + 1) * HOP];
            for (index, start) in spoken.iter().enumerate() {
                let target = joined[index * HOP..].iter_mut();
                for (target, sample) in target.zip(self.frame(&samples[*start..])) {
                    *target += sample;
                }
            }
            joined
        };
        (join(said), join(heard))
    }

    /// A frame behind the window.
    fn frame<'a>(&'a self, samples: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
        let windowed = samples.iter().zip(&self.window);
        windowed.map(|(sample, weight)| f64::from(*sample) * weight)
    }

    /// The level of every band in every frame (equation 1).
    fn levels(&self, samples: &[f64]) -> Levels {
        let mut levels: Levels = Default::default();
        let mut bins = [Complex::default(); TRANSFORM];
        for start in frame_starts(samples.len()) {
            bins.fill(Complex::default());
            let windowed = samples[start..].iter().zip(&self.window);
            for (bin, (sample, weight)) in bins.iter_mut().zip(windowed) {
                bin.re = sample * weight;
            }
            self.transform.process(&mut bins);
            for (level, (from, to)) in levels.iter_mut().zip(self.bands) {
                let power: f64 = bins[from..to].iter().map(Complex::norm_sqr).sum();
                level.push(power.sqrt());
            }
        }
        levels
    }
}

fn frame_starts(samples: usize) -> std::iter::StepBy<std::ops::Range<usize>> {
    (0..samples.saturating_sub(FRAME)).step_by(HOP)
}

/// The intermediate measure of one band in one segment (equations 3 to 5).
fn correlation(said: &[f64], heard: &[f64]) -> f64 {
    let norm = |levels: &[f64]| levels.iter().map(|level| level * level).sum::<f64>().sqrt();
    let scale = norm(said) / (norm(heard) + TINY);
    let clip = 1.0 + 10f64.powf(-LOWEST_SDR / 20.0);
    let centred = |levels: &mut [f64; SEGMENT]| {
        let mean = levels.iter().sum::<f64>() / SEGMENT as f64;
        levels.iter_mut().for_each(|level| *level -= mean);
    };
    let mut clipped = std::array::from_fn(|at| (heard[at] * scale).min(said[at] * clip));
    let mut original = std::array::from_fn(|at| said[at]);
    centred(&mut clipped);
    centred(&mut original);
    let product: f64 = original.iter().zip(&clipped).map(|(a, b)| a * b).sum();
    product / (norm(&original) * norm(&clipped) + TINY)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;

    const SAMPLES: usize = 40_000;

    /// White noise that is the same in every language.
    fn noise(mut state: u32) -> Vec<f64> {
        let step = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some(f64::from(state >> 8) / f64::from(1 << 23) - 1.0)
        };
        std::iter::from_fn(step).take(SAMPLES).collect()
    }

    /// Low noise in syllables of a quarter of a second.
    fn syllables() -> Vec<f64> {
        use std::f64::consts::TAU;
        let mut low = 0.0;
        let shaped = noise(1).into_iter().enumerate().map(|(at, sample)| {
            let time = at as f64 / SCORE_RATE as f64;
            low = 0.8 * low + 0.2 * sample;
            low * (TAU * 2.0 * time).sin().powi(2) * (0.6 + 0.4 * (TAU * 0.7 * time).sin())
        });
        shaped.collect()
    }

    fn with_noise(signal: &[f64], snr: f64) -> Vec<f64> {
        let noise = noise(2);
        let energy = |samples: &[f64]| samples.iter().map(|s| s * s).sum::<f64>();
        let gain = (energy(signal) / energy(&noise) / 10f64.powf(snr / 10.0)).sqrt();
        let mixed = signal.iter().zip(&noise).map(|(s, n)| s + gain * n);
        mixed.collect()
    }

    /// Every so-manieth frame of 20 ms is missing.
    fn with_gaps(signal: &[f64], every: usize) -> Vec<f64> {
        let mut signal = signal.to_vec();
        for frame in signal.chunks_mut(200).skip(every - 1).step_by(every) {
            frame.fill(0.0);
        }
        signal
    }

    fn score(said: &[f64], heard: &[f64]) -> f64 {
        let narrow = |samples: &[f64]| samples.iter().map(|s| *s as f32).collect::<Vec<f32>>();
        Stoi::new().score(&narrow(said), &narrow(heard)).unwrap()
    }

    #[test]
    fn it_is_the_published_measure() {
        // Expected: pystoi 0.4.1 (https://github.com/mpariente/pystoi) on the same samples.
        let said = syllables();
        for (case, heard, expected) in [
            ("the same", said.clone(), 1.0),
            ("20 dB", with_noise(&said, 20.0), 0.995837),
            ("10 dB", with_noise(&said, 10.0), 0.959016),
            ("0 dB", with_noise(&said, 0.0), 0.771025),
            ("-10 dB", with_noise(&said, -10.0), 0.461139),
            ("every 10th missing", with_gaps(&said, 10), 0.926389),
            ("every 3rd missing", with_gaps(&said, 3), 0.769915),
            ("every 2nd missing", with_gaps(&said, 2), 0.689618),
        ] {
            let score = score(&said, &heard);
            assert!((score - expected).abs() < 1e-4, "{case}: {score}");
        }
    }

    #[test]
    fn loudness_does_not_matter_and_silence_or_another_voice_is_unintelligible() {
        let said = syllables();
        let quiet: Vec<f64> = said.iter().map(|sample| 0.1 * sample).collect();
        assert!(score(&said, &quiet) > 0.999);
        assert_eq!(score(&said, &vec![0.0; SAMPLES]), 0.0);
        assert!(score(&said, &noise(3)) < 0.3);
        assert_eq!(Stoi::new().score(&[0.1; 3000], &[0.1; 3000]), None);
    }
}
