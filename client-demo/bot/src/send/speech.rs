//! Audio that an encoder, a loss concealment and a measure of intelligibility take for speech:
//! pulses of a voice through the formants of vowels, with consonants of noise, in syllables.
//!
//! In: a speaker's name. Out: the same fifteen seconds for the same name, to be said over and over;
//! who knows the name knows what was said.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::audio::SAMPLE_RATE;

/// Samples of one round. No shorter piece of it is like another, so that it can be found in time.
pub(crate) const ROUND: usize = 15 * SAMPLE_RATE as usize;
/// The loudest sample, of full scale.
const PEAK: f32 = 0.5;
/// The mouth moves in steps of this many samples: 5 ms.
const STEP: usize = SAMPLE_RATE as usize / 200;
/// Formants of [a], [e], [i], [o], [u], [ø] and [ə], in Hz, of an average adult (Peterson and
/// Barney, "Control methods used in a study of the vowels", 1952, rounded).
const VOWELS: [[f32; 3]; 7] = [
    [730.0, 1090.0, 2440.0],
    [530.0, 1840.0, 2480.0],
    [270.0, 2290.0, 3010.0],
    [570.0, 840.0, 2410.0],
    [300.0, 870.0, 2240.0],
    [490.0, 1350.0, 1690.0],
    [640.0, 1190.0, 2390.0],
];
/// How broad those formants are, in Hz.
const BANDWIDTHS: [f32; 3] = [70.0, 100.0, 150.0];

/// What a speaker says.
pub(crate) fn speech(speaker: &str) -> Vec<f32> {
    let mut mouth = Mouth::new(speaker);
    let mut said = Vec::with_capacity(2 * ROUND);
    while said.len() < ROUND {
        for _ in 0..mouth.random.random_range(2..=4) {
            mouth.syllable(&mut said);
        }
        let pause = mouth.random.random_range(0.04..0.14);
        mouth.pause(pause, &mut said);
    }
    said.truncate(ROUND);
    let loudest = said
        .iter()
        .fold(0.0, |loudest, s: &f32| s.abs().max(loudest));
    said.iter_mut().for_each(|sample| *sample *= PEAK / loudest);
    said
}

struct Mouth {
    random: StdRng,
    /// The speaker's usual pitch, in Hz, and how long its throat is against the average.
    pitch: f32,
    size: f32,
    /// Where in the current pulse the voice is, 0 to 1.
    phase: f32,
    /// What softens the pulses.
    glottis: f32,
    formants: [f32; 3],
    resonators: [Resonator; 3],
    hiss: Resonator,
}

impl Mouth {
    fn new(speaker: &str) -> Mouth {
        // FNV-1a, so that neighbouring names sound different.
        let seed = speaker.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut random = StdRng::seed_from_u64(seed);
        Mouth {
            pitch: random.random_range(95.0..210.0),
            size: random.random_range(0.92..1.12),
            random,
            phase: 0.0,
            glottis: 0.0,
            formants: VOWELS[0],
            resonators: Default::default(),
            hiss: Resonator::default(),
        }
    }

    /// A consonant, more often than not, and a vowel.
    fn syllable(&mut self, said: &mut Vec<f32>) {
        let (seconds, loudness) = match self.random.random_range(0..4) {
            0 => (0.0, 0.0),
            // As in "t": short and sharp, behind a closed mouth.
            1 => {
                self.pause(0.03, said);
                (0.015, 0.5)
            }
            // As in "s" and "f".
            _ => (
                self.random.random_range(0.04..0.09),
                self.random.random_range(0.08..0.25),
            ),
        };
        self.consonant(seconds, loudness, said);
        self.vowel(said);
    }

    fn pause(&mut self, seconds: f32, said: &mut Vec<f32>) {
        let samples = (seconds * SAMPLE_RATE as f32) as usize;
        said.extend(std::iter::repeat_n(0.0, samples));
    }

    fn consonant(&mut self, seconds: f32, loudness: f32, said: &mut Vec<f32>) {
        let samples = (seconds * SAMPLE_RATE as f32) as usize;
        self.hiss
            .tune(self.random.random_range(2500.0..6000.0), 1500.0);
        for at in 0..samples {
            let swell = (std::f32::consts::PI * at as f32 / samples as f32).sin();
            let noise = self.random.random_range(-1.0..1.0);
            said.push(loudness * swell * self.hiss.pass(noise));
        }
    }

    fn vowel(&mut self, said: &mut Vec<f32>) {
        let steps = self.random.random_range(18..42);
        let from = self.formants;
        let vowel = VOWELS[self.random.random_range(0..VOWELS.len())];
        let to = vowel.map(|hz| hz * self.size);
        let pitches = [(); 2].map(|()| self.pitch * self.random.random_range(0.85..1.2));
        let loudness = self.random.random_range(0.6..1.0);
        for step in 0..steps {
            let passed = step as f32 / steps as f32;
            // The tongue is where it shall be after a third of the time.
            let moved = (3.0 * passed).min(1.0);
            for (index, resonator) in self.resonators.iter_mut().enumerate() {
                self.formants[index] = from[index] + moved * (to[index] - from[index]);
                resonator.tune(self.formants[index], BANDWIDTHS[index]);
            }
            let pitch = pitches[0] + passed * (pitches[1] - pitches[0]);
            for at in 0..STEP {
                let passed = passed + at as f32 / (STEP * steps) as f32;
                // In fast, out slowly.
                let swell = (8.0 * passed).min(1.0) * (2.5 * (1.0 - passed)).min(1.0);
                said.push(loudness * swell * self.voice(pitch));
            }
        }
    }

    /// One sample of a voice.
    fn voice(&mut self, pitch: f32) -> f32 {
        self.phase += pitch / SAMPLE_RATE as f32;
        let mut pulse = self.random.random_range(-0.01..0.01);
        if self.phase >= 1.0 {
            self.phase -= 1.0;
            pulse += 1.0;
        }
        self.glottis = 0.97 * self.glottis + pulse;
        self.resonators
            .iter_mut()
            .fold(self.glottis, |sound, resonator| resonator.pass(sound))
    }
}

/// A resonance of the throat: two poles, and 0 dB at 0 Hz (Klatt, "Software for a cascade/parallel
/// formant synthesizer", 1980).
#[derive(Default)]
struct Resonator {
    gains: [f32; 3],
    memory: [f32; 2],
}

impl Resonator {
    fn tune(&mut self, hz: f32, bandwidth: f32) {
        let radius = (-std::f32::consts::PI * bandwidth / SAMPLE_RATE as f32).exp();
        let turn = (std::f32::consts::TAU * hz / SAMPLE_RATE as f32).cos();
        let (near, far) = (2.0 * radius * turn, -radius * radius);
        self.gains = [1.0 - near - far, near, far];
    }

    fn pass(&mut self, sample: f32) -> f32 {
        let [own, near, far] = self.gains;
        let sound = own * sample + near * self.memory[0] + far * self.memory[1];
        self.memory = [sound, self.memory[0]];
        sound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_words_of_their_own_and_repeats_them() {
        let alice = speech("alice");
        assert_eq!(alice.len(), ROUND);
        assert!(alice == speech("alice"));
        assert!(alice != speech("bob"));
    }

    #[test]
    fn it_is_as_loud_as_a_person_and_never_silent_for_long() {
        for speaker in ["alice", "bob", "carol", "dave-7"] {
            let said = speech(speaker);
            let rms = |samples: &[f32]| {
                let energy: f32 = samples.iter().map(|s| s * s).sum();
                (energy / samples.len() as f32).sqrt()
            };
            let level = 20.0 * rms(&said).log10();
            assert!((-30.0..-12.0).contains(&level), "{speaker}: {level} dBFS");
            let quarter = SAMPLE_RATE as usize / 4;
            assert!(
                said.chunks(quarter).all(|part| rms(part) > 0.003),
                "{speaker}"
            );
        }
    }
}
