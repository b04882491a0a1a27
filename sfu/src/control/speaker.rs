//! Who speaks: the dominant speaker of a room.
//!
//! In: the audio level of every packet of audio (RFC 6464). Out: the dominant speaker, who has spoken
//! of late, and who is loudest now. After I. Volfin and I. Cohen, "Dominant speaker identification
//! for multipoint videoconferencing", Computer Speech and Language 27 (2013): activity is scored
//! over an immediate, a medium and a long time, and somebody takes over who beats the dominant
//! speaker in all three. So a cough does not (too short), nor one who goes on humming (too quiet),
//! nor a word thrown in (the other's long score is higher).
//!
//! The paper looks at sub-bands of the spectrum; as in Jitsi's videobridge, steps of the level take
//! their place.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often it is decided who speaks (the paper's decision interval, as Jitsi has it).
pub(crate) const DECISION_INTERVAL: Duration = Duration::from_millis(300);

/// What a packet of audio usually holds.
const FRAME: Duration = Duration::from_millis(20);

/// Without a packet for this time there is silence: longer than packets of any usual length.
const SILENCE: Duration = Duration::from_millis(60);

/// Steps of the level that make up the immediate score (the paper's N1), each of ten decibels.
const STEPS: u8 = 13;
const STEP: u8 = 10;

/// Frames of the medium time (N2), and medium times of the long one (N3): 100 ms and one second.
const FRAMES: usize = 5;
const BLOCKS: usize = 10;
const HISTORY: usize = FRAMES * BLOCKS;

/// A frame counts when more steps than this are reached (Jitsi's `MEDIUM_THRESHOLD`), a block when
/// more frames than this count (`LONG_THRESHOLD`).
const FRAME_THRESHOLD: u8 = 7;
const BLOCK_THRESHOLD: usize = 4;

/// The parameters of the exponential distribution of silence, of the three times (the paper's
/// lambda, as Jitsi has them), and the least score.
const LAMBDA: [f64; 3] = [0.78, 24.0, 47.0];
const LEAST_SCORE: f64 = 1e-10;

/// By how much the logarithm of each score must be above the dominant speaker's (the paper's C1, C2
/// and C3, as Jitsi has them).
const ADVANTAGE: [f64; 3] = [3.0, 2.0, 0.0];

/// Whoever has taken over keeps the floor for this time, unless silent: faces are not to hop.
const HOLD: Duration = Duration::from_secs(2);

/// The noise of a microphone is the least level within this many frames: 15 s, as Jitsi has it.
const NOISE_FRAMES: u32 = 750;

/// Weight of each frame in the loudness (Jitsi's `energyAlphaPct`).
const LOUDNESS_WEIGHT: f64 = 0.5;

/// Most speakers listened to. In a larger room nobody can be told apart anyway.
pub(crate) const MAX_SPEAKERS: usize = 1000;

#[derive(Debug)]
struct Speaker {
    /// Steps reached in each of the last frames, as a ring.
    frames: [u8; HISTORY],
    /// Where the next one goes.
    next: usize,
    heard: Instant,
    /// The least loudness in this window, in the one before, and what is left of this one.
    noise: (u8, u8, u32),
    loudness: f64,
    dominated: Option<Instant>,
}

impl Speaker {
    fn new(now: Instant) -> Self {
        Speaker {
            frames: [0; HISTORY],
            next: 0,
            heard: now,
            noise: (u8::MAX, u8::MAX, NOISE_FRAMES),
            loudness: 0.0,
            dominated: None,
        }
    }

    fn push(&mut self, loudness: u8) {
        let noise = self.noise.0.min(self.noise.1);
        let is_noise = loudness < noise.saturating_add(STEP);
        let steps = if is_noise { 0 } else { loudness / STEP };
        self.frames[self.next] = steps.min(STEPS);
        self.next = (self.next + 1) % HISTORY;
        let effective = if is_noise { 0.0 } else { f64::from(loudness) };
        self.loudness += LOUDNESS_WEIGHT * (effective - self.loudness);
    }

    fn hear(&mut self, now: Instant, loudness: u8) {
        self.fall_silent(now);
        let (least, before, left) = self.noise;
        self.noise = match left {
            0 => (loudness, least, NOISE_FRAMES),
            _ => (least.min(loudness), before, left - 1),
        };
        self.push(loudness);
        self.heard = now;
    }

    /// Fills in the silence since the last packet.
    fn fall_silent(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.heard);
        if since <= SILENCE {
            return;
        }
        let frames = since.as_millis() / FRAME.as_millis() - 1;
        let frames = usize::try_from(frames).unwrap_or(HISTORY).min(HISTORY);
        (0..frames).for_each(|_| self.push(0));
        self.heard = now.checked_sub(FRAME).unwrap_or(now);
    }

    /// The immediate, medium and long scores.
    fn scores(&self) -> [f64; 3] {
        let newest_first = |n: usize| self.frames[(self.next + HISTORY - 1 - n) % HISTORY];
        let count = |block: usize| {
            let frames = block * FRAMES..(block + 1) * FRAMES;
            frames
                .filter(|n| newest_first(*n) > FRAME_THRESHOLD)
                .count()
        };
        let immediate = usize::from(newest_first(0));
        let long = (0..BLOCKS)
            .filter(|block| count(*block) > BLOCK_THRESHOLD)
            .count();
        [
            score(immediate, usize::from(STEPS), LAMBDA[0]),
            score(count(0), FRAMES, LAMBDA[1]),
            score(long, BLOCKS, LAMBDA[2]),
        ]
    }
}

/// How much likelier it is that `active` of `all` come from speech, of which each is active with
/// probability one half, than from silence, of which the number falls exponentially: the logarithm
/// of the ratio, and at least [`LEAST_SCORE`].
fn score(active: usize, all: usize, lambda: f64) -> f64 {
    let (k, n) = (active as f64, all as f64);
    let choose: f64 = (1..=active)
        .map(|i| ((n - k + i as f64) / i as f64).ln())
        .sum();
    let ratio = choose + n * 0.5f64.ln() - lambda.ln() + lambda * k;
    ratio.max(LEAST_SCORE)
}

/// The speakers of one room.
#[derive(Debug)]
pub(crate) struct Speakers<K> {
    speakers: BTreeMap<K, Speaker>,
    dominant: Option<(K, Instant)>,
    next_decision: Option<Instant>,
}

impl<K> Default for Speakers<K> {
    fn default() -> Self {
        Speakers {
            speakers: BTreeMap::new(),
            dominant: None,
            next_decision: None,
        }
    }
}

impl<K: Copy + Ord> Speakers<K> {
    /// Notes the level of a packet: 0 is the loudest, 127 silence (RFC 6464 section 3).
    pub(crate) fn handle_level(&mut self, now: Instant, who: K, level: u8) {
        if self.speakers.len() == MAX_SPEAKERS && !self.speakers.contains_key(&who) {
            return;
        }
        let speaker = self
            .speakers
            .entry(who)
            .or_insert_with(|| Speaker::new(now));
        speaker.hear(now, 127 - level.min(127));
        self.next_decision.get_or_insert(now + DECISION_INTERVAL);
    }

    /// Somebody has left, or is muted for good.
    pub(crate) fn remove(&mut self, who: K) {
        self.speakers.remove(&who);
        self.dominant = self.dominant.filter(|(dominant, _)| *dominant != who);
    }

    /// When to poll next.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_decision
    }

    /// Decides, when it is time to, and gives the dominant speaker when it is another one.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<K> {
        self.next_decision.take_if(|due| now >= *due)?;
        if !self.speakers.is_empty() {
            self.next_decision = Some(now + DECISION_INTERVAL);
        }
        for speaker in self.speakers.values_mut() {
            speaker.fall_silent(now);
        }
        let dominant = self.dominant;
        let rival = dominant.and_then(|(who, _)| self.speakers.get(&who));
        let scores = rival.map_or([LEAST_SCORE; 3], Speaker::scores);
        let speaks = scores[2] > LEAST_SCORE;
        let holds = dominant.is_some_and(|(_, since)| now.saturating_duration_since(since) < HOLD);
        if holds && speaks {
            self.note(now);
            return None;
        }
        let advantage = |speaker: &Speaker| {
            let own = speaker.scores();
            let relative: [f64; 3] = std::array::from_fn(|n| (own[n] / scores[n]).ln());
            let wins = relative
                .iter()
                .zip(ADVANTAGE)
                .all(|(relative, least)| *relative > least);
            wins.then_some(relative[1])
        };
        let best = self
            .speakers
            .iter()
            .filter(|(who, _)| dominant.is_none_or(|(dominant, _)| dominant != **who))
            .filter_map(|(who, speaker)| Some((*who, advantage(speaker)?, speaker.loudness)))
            .max_by(|(_, a, a_loud), (_, b, b_loud)| a.total_cmp(b).then(a_loud.total_cmp(b_loud)));
        if let Some((who, ..)) = best {
            self.dominant = Some((who, now));
        }
        self.note(now);
        best.map(|(who, ..)| who)
    }

    /// Remembers that the dominant speaker is it.
    fn note(&mut self, now: Instant) {
        let dominant = self
            .dominant
            .and_then(|(who, _)| self.speakers.get_mut(&who));
        if let Some(speaker) = dominant.filter(|speaker| speaker.scores()[2] > LEAST_SCORE) {
            speaker.dominated = Some(now);
        }
    }

    /// The dominant speaker; who stays it in silence.
    #[must_use]
    pub(crate) fn dominant(&self) -> Option<K> {
        self.dominant.map(|(who, _)| who)
    }

    /// The loudest at the moment, loudest first. Who is silent is not among them.
    #[must_use]
    pub(crate) fn loudest(&self, now: Instant, most: usize) -> Vec<K> {
        let audible = |speaker: &Speaker| {
            speaker.loudness >= f64::from(STEP)
                && now.saturating_duration_since(speaker.heard) <= SILENCE + FRAME
        };
        let mut loudest: Vec<(f64, K)> = self
            .speakers
            .iter()
            .filter(|(_, speaker)| audible(speaker))
            .map(|(who, speaker)| (speaker.loudness, *who))
            .collect();
        loudest.sort_by(|a, b| b.0.total_cmp(&a.0));
        loudest.truncate(most);
        loudest.into_iter().map(|(_, who)| who).collect()
    }

    /// Puts the dominant speaker into places that show others, if it is in none of them: in the
    /// place of nobody, or of the one who has not been it for longest. Everyone else stays where
    /// they are. Gives the place that has changed.
    pub(crate) fn follow(&self, places: &mut [Option<K>]) -> Option<usize> {
        let dominant = self.dominant()?;
        if places.contains(&Some(dominant)) {
            return None;
        }
        let dominated = |who: &K| self.speakers.get(who).and_then(|speaker| speaker.dominated);
        let place = (0..places.len())
            .min_by_key(|place| places[*place].as_ref().map(|who| (dominated(who), *place)))?;
        places[place] = Some(dominant);
        Some(place)
    }
}

#[cfg(test)]
mod tests;
