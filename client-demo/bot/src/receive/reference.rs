//! What a participant is known to say over and over, and where in it something heard belongs.
//!
//! In: the samples of one round, and audio as it was heard. Out: the place in the round, by
//! cross-correlation, and from there what should have been heard.

use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use crate::score::SCORE_RATE;
use crate::send::audio::SAMPLE_RATE;

/// Output and input samples of the change of sampling rate, in lowest terms: 5 for 24.
const UP: usize = 5;
pub(crate) const DOWN: usize = UP * SAMPLE_RATE as usize / SCORE_RATE;
/// Zero crossings of the resampling filter on either side, at the lower rate.
const HALF_WIDTH: usize = 16;
/// Where that filter cuts, as a share of half the lower rate.
const CUTOFF: f64 = 0.92;
/// Below this correlation with the best place, 0 to 1, the place is not believed.
const MIN_CORRELATION: f32 = 0.3;

/// Brings audio from 48 kHz to [`SCORE_RATE`], by a Hann-windowed sinc.
pub(crate) struct Resampler {
    /// The filter for each of the `UP` positions of an output sample between two input samples.
    phases: [Vec<f32>; UP],
}

impl Resampler {
    pub(crate) fn new() -> Resampler {
        let ratio = DOWN as f64 / UP as f64;
        let reach = (HALF_WIDTH as f64 * ratio).ceil() as i64;
        Resampler {
            phases: std::array::from_fn(|phase| {
                let offset = (phase * DOWN % UP) as f64 / UP as f64;
                let taps: Vec<f64> = (-reach..=reach)
                    .map(|tap| {
                        let at = (tap as f64 - offset) / ratio;
                        let turn = std::f64::consts::PI * at;
                        let sinc = match turn.abs() < 1e-9 {
                            true => CUTOFF,
                            false => (CUTOFF * turn).sin() / turn,
                        };
                        let edge = (turn / (HALF_WIDTH as f64 + 1.0)).clamp(-3.15, 3.15);
                        sinc * (0.5 + 0.5 * edge.cos())
                    })
                    .collect();
                let gain: f64 = taps.iter().sum();
                taps.iter().map(|tap| (tap / gain) as f32).collect()
            }),
        }
    }

    /// The audio at the lower rate; beyond its ends there is silence.
    pub(crate) fn resample(&self, samples: &[f32]) -> Vec<f32> {
        let count = samples.len() * UP / DOWN;
        let reach = self.phases[0].len() / 2;
        let output = |index: usize| {
            let centre = index * DOWN / UP;
            let from = centre.saturating_sub(reach);
            let taps = &self.phases[index % UP][from + reach - centre..];
            taps.iter()
                .zip(&samples[from..])
                .map(|(tap, sample)| tap * sample)
                .sum()
        };
        (0..count).map(output).collect()
    }
}

/// One round of what somebody says, at [`SCORE_RATE`].
pub(crate) struct Reference {
    round: Vec<f32>,
    /// The conjugate of its spectrum.
    spectrum: Vec<Complex<f32>>,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
}

impl Reference {
    /// Takes a round at 48 kHz, of [`DOWN`] samples at least.
    pub(crate) fn new(round: &[f32], resampler: &Resampler) -> Reference {
        let round = resampler.resample(round);
        let mut planner = FftPlanner::new();
        let forward = planner.plan_fft_forward(round.len());
        let mut spectrum: Vec<_> = round.iter().map(Complex::from).collect();
        forward.process(&mut spectrum);
        spectrum.iter_mut().for_each(|bin| *bin = bin.conj());
        Reference {
            inverse: planner.plan_fft_inverse(round.len()),
            forward,
            spectrum,
            round,
        }
    }

    /// Where in the round the audio begins, if it is alike enough to tell.
    pub(crate) fn locate(&self, heard: &[f32]) -> Option<usize> {
        let heard = &heard[..heard.len().min(self.round.len())];
        let mut bins: Vec<_> = heard.iter().map(Complex::from).collect();
        bins.resize(self.round.len(), Complex::default());
        self.forward.process(&mut bins);
        for (bin, reference) in bins.iter_mut().zip(&self.spectrum) {
            // The correlation for every delay, its order reversed.
            *bin *= reference;
        }
        self.inverse.process(&mut bins);
        let (at, peak) = bins
            .iter()
            .map(|bin| bin.re.abs() / self.round.len() as f32)
            .enumerate()
            .max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let place = (self.round.len() - at) % self.round.len();
        let energy = |samples: &mut dyn Iterator<Item = f32>| samples.map(|s| s * s).sum::<f32>();
        let said = energy(&mut self.from(place).take(heard.len()));
        let alike = peak / (said * energy(&mut heard.iter().copied())).sqrt();
        (alike >= MIN_CORRELATION).then_some(place)
    }

    /// What is said from a place on, for ever.
    pub(crate) fn from(&self, place: usize) -> impl Iterator<Item = f32> + '_ {
        self.round
            .iter()
            .cycle()
            .skip(place % self.round.len())
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send::speech::speech;

    #[test]
    fn resampling_keeps_what_is_below_and_drops_what_is_above() {
        let resampler = Resampler::new();
        let tone = |hz: f32| -> Vec<f32> {
            let turn = std::f32::consts::TAU * hz / SAMPLE_RATE as f32;
            (0..48_000).map(|at| (at as f32 * turn).sin()).collect()
        };
        for (hz, kept) in [
            (200.0, true),
            (1000.0, true),
            (4000.0, true),
            (6000.0, false),
        ] {
            let low = resampler.resample(&tone(hz));
            assert_eq!(low.len(), SCORE_RATE);
            let middle = &low[1000..9000];
            let energy = middle.iter().map(|s| s * s).sum::<f32>() / 8000.0;
            let expected = if kept { 0.5 } else { 0.0 };
            assert!((energy - expected).abs() < 0.01, "{hz} Hz: {energy}");
            let error = (1000..9000).map(|at| {
                let exact = (std::f32::consts::TAU * hz * at as f32 / SCORE_RATE as f32).sin();
                (low[at] - exact).abs()
            });
            assert!(
                !kept || error.fold(0.0, f32::max) < 0.02,
                "{hz} Hz is delayed"
            );
        }
    }

    #[test]
    fn a_piece_is_found_to_the_sample_though_half_of_it_is_missing() {
        let resampler = Resampler::new();
        let reference = Reference::new(&speech("alice"), &resampler);
        for place in [0, 1, 77_777, 149_000] {
            let mut heard: Vec<f32> = reference.from(place).take(50_000).collect();
            for gap in heard.chunks_mut(200).step_by(2) {
                gap.fill(0.0);
            }
            assert_eq!(reference.locate(&heard), Some(place));
        }
        assert_eq!(reference.locate(&[0.0; 50_000]), None);
        let bob = resampler.resample(&speech("bob"));
        assert_eq!(reference.locate(&bob[..50_000]), None);
    }
}
