//! How intelligible the others are: what was heard of them is held against what they said.
//!
//! In: audio with its place on the sender's timeline. Out: a score for each participant. Audio is
//! collected in windows on the way and judged on a thread of its own, because judging takes tens of
//! milliseconds, and packets must be stamped when they arrive.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use super::reference::{Reference, Resampler};
use crate::score::Stoi;
use crate::send::audio::{AudioSource, SAMPLE_RATE};
use crate::sync::lock;

/// Samples that are judged together: five seconds.
pub(crate) const WINDOW: u64 = 5 * SAMPLE_RATE as u64;
/// How long after its end a window is still open for what replaces what was made up: one second.
const GRACE: u64 = SAMPLE_RATE as u64;
/// Windows that may wait to be judged; those beyond are not judged.
const WINDOW_QUEUE: usize = 64;

/// Five seconds of one participant's voice as they were heard.
pub(crate) struct Window {
    from: String,
    /// The RTP timestamp of the first sample, extended.
    start: u64,
    samples: Vec<f32>,
}

/// Collects one stream's audio in windows.
#[derive(Default)]
pub(crate) struct Listening {
    from: Option<String>,
    open: VecDeque<Window>,
    closed: VecDeque<Window>,
}

impl Listening {
    /// Who speaks from now on. What was heard in a window that is not full is not judged.
    pub(crate) fn handle_speaker(&mut self, from: Option<String>) {
        self.from = from;
        self.open.clear();
    }

    /// Takes audio at its place, instead of what may have been there before.
    pub(crate) fn hear(&mut self, timestamp: u64, pcm: &[f32]) {
        let Some(from) = &self.from else { return };
        let first = self.open.front().map_or(timestamp, |window| window.start);
        let (Some(mut at), mut rest) = (timestamp.checked_sub(first), pcm) else {
            return;
        };
        while !rest.is_empty() {
            let (index, offset) = ((at / WINDOW) as usize, (at % WINDOW) as usize);
            if index > self.open.len() + 1 {
                // The sender's clock has jumped.
                self.open.clear();
                return;
            }
            while self.open.len() <= index {
                self.open.push_back(Window {
                    from: from.clone(),
                    start: first + self.open.len() as u64 * WINDOW,
                    samples: vec![0.0; WINDOW as usize],
                });
            }
            let room = &mut self.open[index].samples[offset..];
            let (now, later) = rest.split_at(rest.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            at += now.len() as u64;
            rest = later;
        }
        if at >= WINDOW + GRACE {
            self.closed.extend(self.open.pop_front());
        }
    }

    /// The next window that is full.
    pub(crate) fn poll_window(&mut self) -> Option<Window> {
        self.closed.pop_front()
    }
}

/// A sum of scores.
#[derive(Clone, Copy, Default)]
struct Score {
    sum: f64,
    windows: u32,
}

/// Judges windows on a thread that ends when this is dropped.
pub(crate) struct Scorer {
    windows: SyncSender<Window>,
    scores: Arc<Mutex<HashMap<String, Score>>>,
}

impl Scorer {
    /// `source` is what the others say.
    pub(crate) fn start(source: AudioSource) -> Scorer {
        let (windows, queue) = sync_channel(WINDOW_QUEUE);
        let scores = Arc::new(Mutex::new(HashMap::new()));
        let judge = Judge::new(source);
        let judged = scores.clone();
        std::thread::spawn(move || judge.run(&queue, &judged));
        Scorer { windows, scores }
    }

    /// Has a window judged.
    pub(crate) fn handle_window(&self, window: Window) {
        if self.windows.try_send(window).is_err() {
            tracing::warn!("the machine is too slow to judge all that is heard");
        }
    }

    /// How intelligible a participant has been so far, 0 to 1; none in the first seconds.
    pub(crate) fn score(&self, from: &str) -> Option<f64> {
        let score = lock(&self.scores).get(from).copied()?;
        Some(score.sum / f64::from(score.windows))
    }
}

struct Judge {
    source: AudioSource,
    resampler: Resampler,
    stoi: Stoi,
    /// What each participant says, and where in it and on its timeline it was last found.
    known: HashMap<String, Option<(Reference, Option<Found>)>>,
}

#[derive(Clone, Copy)]
struct Found {
    timestamp: u64,
    place: usize,
}

impl Judge {
    fn new(source: AudioSource) -> Judge {
        Judge {
            source,
            resampler: Resampler::new(),
            stoi: Stoi::new(),
            known: HashMap::new(),
        }
    }

    fn run(mut self, queue: &Receiver<Window>, scores: &Mutex<HashMap<String, Score>>) {
        while let Ok(window) = queue.recv() {
            if let Some(judged) = self.judge(&window) {
                let mut scores = lock(scores);
                let score = scores.entry(window.from).or_default();
                score.sum += judged;
                score.windows += 1;
            }
        }
    }

    /// The score of a window. None if nothing is known of who speaks.
    fn judge(&mut self, window: &Window) -> Option<f64> {
        let known = self.known.entry(window.from.clone()).or_insert_with(|| {
            let said = self.source.repeated(&window.from).unwrap_or_else(|error| {
                tracing::warn!(%error, "what is heard cannot be judged");
                None
            });
            Some((Reference::new(&said?, &self.resampler), None))
        });
        let (reference, found) = known.as_mut()?;
        let heard = self.resampler.resample(&window.samples);
        match (reference.locate(&heard), &found) {
            (Some(place), _) => {
                *found = Some(Found {
                    timestamp: window.start,
                    place,
                });
            }
            // Too little is left of it to tell, but the sender's clock has gone on.
            (None, Some(before)) if before.timestamp <= window.start => {
                let passed = (window.start - before.timestamp) * heard.len() as u64 / WINDOW;
                *found = Some(Found {
                    timestamp: window.start,
                    place: before.place + passed as usize,
                });
            }
            // It is like nothing that was said: nobody can have understood it.
            (None, _) => return Some(0.0),
        }
        let said: Vec<f32> = reference.from((*found)?.place).take(heard.len()).collect();
        self.stoi.score(&said, &heard).map(|score| score.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;
    use crate::send::speech::{ROUND, speech};

    /// What is heard of alice, from the middle of a word on, in frames of 20 ms.
    fn judged(rounds: usize, change: impl Fn(usize, &mut [f32])) -> Vec<f64> {
        let mut listening = Listening::default();
        listening.handle_speaker(Some("alice".into()));
        let mut said = speech("alice").repeat(rounds);
        said.rotate_left(12_345);
        for (index, frame) in said.chunks_mut(960).enumerate() {
            change(index, frame);
            listening.hear((1 << 40) + 960 * index as u64, frame);
        }
        let mut judge = Judge::new(AudioSource::Speech(None));
        std::iter::from_fn(|| listening.poll_window())
            .map(|window| judge.judge(&window).unwrap())
            .collect()
    }

    #[test]
    fn what_is_heard_as_it_was_said_is_intelligible_and_less_so_with_every_gap() {
        let whole = judged(2, |_, _| ());
        assert_eq!(whole.len(), 2 * ROUND / WINDOW as usize - 1);
        assert!(whole.iter().all(|score| *score > 0.99), "{whole:?}");
        let mut last = 1.0;
        for every in [10, 3, 2] {
            let scores = judged(1, |index, frame| {
                if index % every == 0 {
                    frame.fill(0.0);
                }
            });
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            assert!(mean < last - 0.03, "every {every}: {mean} after {last}");
            last = mean;
        }
        assert!(last > 0.3, "{last}");
    }

    #[test]
    fn an_outage_is_unintelligible_and_what_follows_is_not() {
        let scores = judged(2, |index, frame| {
            if (250..500).contains(&index) {
                frame.fill(0.0);
            }
        });
        assert!(
            scores[0] > 0.99 && scores[1] < 0.01 && scores[2] > 0.99,
            "{scores:?}"
        );
        let scores = judged(1, |_, frame| frame.fill(0.0));
        assert!(scores.iter().all(|score| *score == 0.0));
    }

    #[test]
    fn what_comes_late_replaces_what_was_made_up_and_a_jump_starts_anew() {
        let mut listening = Listening::default();
        listening.handle_speaker(Some("alice".into()));
        listening.hear(1000, &[0.1; 960]);
        listening.hear(1960, &[0.2; 960]);
        listening.hear(1960, &[0.3; 960]);
        assert_eq!(listening.open[0].samples[960], 0.3);
        listening.hear(1000 + 10 * WINDOW, &[0.1; 960]);
        assert!(listening.open.is_empty());
        listening.hear(1000 + 10 * WINDOW, &[0.1; 960]);
        assert_eq!(listening.open.len(), 1);
    }
}
