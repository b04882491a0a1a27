//! What a person saw and heard of another while a call ran, as a test asks for it.
//!
//! In: what a client's slots have played. Out: frames a second, freezes, gaps.

use std::time::{Duration, Instant};

use confab_sfu::media::Kind;

use super::call::{Call, Person, millis};
use super::client::receive::Played;

impl Call {
    /// What a person saw of another's first camera during the last run.
    #[must_use]
    pub fn sees(&self, viewer: Person, publisher: Person) -> Seen {
        self.seen(viewer, self.source(publisher, Kind::Video))
    }

    /// What a person heard of another's first microphone during the last run.
    #[must_use]
    pub fn hears(&self, listener: Person, publisher: Person) -> Heard {
        let source = self.source(publisher, Kind::Audio);
        let (played, before) = self.played(listener, source);
        Heard {
            played,
            before,
            window: (self.window, self.now),
        }
    }

    /// What a person saw of a source during the last run.
    #[must_use]
    pub fn seen(&self, viewer: Person, source: u32) -> Seen {
        let (played, before) = self.played(viewer, source);
        Seen {
            played,
            before,
            window: (self.window, self.now),
            epoch: self.now - self.elapsed(),
        }
    }

    /// How far audio and video of one person were apart for another, at worst, during the last
    /// run, going by the sender reports. `None` before those have come.
    #[must_use]
    pub fn lip_skew(&self, viewer: Person, publisher: Person) -> Option<Duration> {
        let errors = |kind| -> Option<(i64, i64)> {
            let (played, _) = self.played(viewer, self.source(publisher, kind));
            let errors: Option<Vec<i64>> = played.iter().map(|p| p.clock_error).collect();
            let errors = errors?;
            Some((*errors.iter().min()?, *errors.iter().max()?))
        };
        let (audio, video) = (errors(Kind::Audio)?, errors(Kind::Video)?);
        let worst = (audio.1 - video.0).max(video.1 - audio.0);
        Some(Duration::from_micros(worst.unsigned_abs()))
    }

    fn source(&self, person: Person, kind: Kind) -> u32 {
        let mut sources = self[person].sources.iter();
        sources.find(|s| s.kind == kind).expect("a source").id
    }

    /// What of a source a person was played during the last run, and the last of it before.
    fn played(&self, viewer: Person, source: u32) -> (Vec<Played>, Option<Played>) {
        let slots = self[viewer].slots.iter();
        let mut all: Vec<Played> = slots
            .flat_map(|slot| slot.played.iter().copied())
            .filter(|played| played.stamp.source == source)
            .collect();
        all.sort_by_key(|played| played.at);
        let start = all.partition_point(|played| played.at < self.window);
        let window = all.split_off(start);
        (window, all.pop())
    }
}

/// What somebody saw of a camera.
#[derive(Debug)]
pub struct Seen {
    played: Vec<Played>,
    before: Option<Played>,
    window: (Instant, Instant),
    epoch: Instant,
}

impl Seen {
    /// Frames shown a second.
    #[must_use]
    pub fn fps(&self) -> f64 {
        self.played.len() as f64 / (self.window.1 - self.window.0).as_secs_f64()
    }

    /// Frames shown.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.played.len()
    }

    /// Key frames shown.
    #[must_use]
    pub fn key_frames(&self) -> usize {
        self.played.iter().filter(|played| played.is_key).count()
    }

    /// From the beginning of the run to the first frame.
    #[must_use]
    pub fn first_frame(&self) -> Option<Duration> {
        Some(self.played.first()?.at - self.window.0)
    }

    /// The simulcast encodings that were shown, in order.
    #[must_use]
    pub fn encodings(&self) -> Vec<u8> {
        let mut encodings: Vec<u8> = self.played.iter().map(|p| p.stamp.encoding).collect();
        encodings.dedup();
        encodings
    }

    /// The time from recording to showing that this share of the frames did not exceed, if any was shown.
    #[must_use]
    pub fn delay(&self, share: f64) -> Option<Duration> {
        let recorded = |played: &Played| self.epoch + Duration::from_micros(played.stamp.captured);
        let mut delays: Vec<Duration> = self.played.iter().map(|p| p.at - recorded(p)).collect();
        delays.sort_unstable();
        let last = delays.len().checked_sub(1)?;
        delays.get((last as f64 * share) as usize).copied()
    }

    /// Each freeze as `getStats` counts them: a frame that lasts 150 ms longer than the average, and
    /// three times as long. A picture that stands still at the end of the run is a freeze too.
    #[must_use]
    pub fn freezes(&self) -> Vec<Duration> {
        let mut times: Vec<Instant> = self.before.iter().map(|p| p.at).collect();
        times.extend(self.played.iter().map(|p| p.at));
        times.push(self.window.1);
        let lasts: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        lasts
            .iter()
            .enumerate()
            .filter(|&(at, &last)| {
                let recent = &lasts[at.saturating_sub(30)..at];
                let average = recent.iter().sum::<Duration>() / recent.len().max(1) as u32;
                last > (average * 3).max(average + millis(150))
            })
            .map(|(_, &last)| last)
            .collect()
    }
}

/// What somebody heard of a microphone.
#[derive(Debug)]
pub struct Heard {
    played: Vec<Played>,
    before: Option<Played>,
    window: (Instant, Instant),
}

impl Heard {
    /// Packets of audio that arrived.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.played.len()
    }

    /// The share of audio that did not arrive, 0 to 1, from the first packet to the last.
    #[must_use]
    pub fn missing(&self) -> f64 {
        let numbers = self.played.iter().map(|p| p.stamp.number);
        let Some((first, last)) = numbers.clone().min().zip(numbers.max()) else {
            return 1.0;
        };
        let expected = f64::from(last - first + 1);
        (expected - self.played.len() as f64) / expected
    }

    /// The longest silence between two packets, ends of the run included.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        let mut times: Vec<Instant> = self.before.iter().map(|p| p.at).collect();
        times.extend(self.played.iter().map(|p| p.at));
        times.push(self.window.1);
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or(self.window.1 - self.window.0)
    }

    /// From the beginning of the run to the first packet.
    #[must_use]
    pub fn first_packet(&self) -> Option<Duration> {
        Some(self.played.first()?.at - self.window.0)
    }
}
