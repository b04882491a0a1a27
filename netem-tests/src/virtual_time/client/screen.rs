//! When a browser shows a frame that it has decoded, after libwebrtc's `VCMTiming`, and what a
//! person sees of it.
//!
//! In: decoded frames, the round-trip time, time. Out: the frames as they are shown; their counters,
//! freezes among them. A frame waits as long as most others have needed, so that the picture moves
//! evenly; once some had to be sent again, for another round trip, so that it need not stand still
//! for the next one.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use confab_bot::sample::VideoReceived;
use confab_sfu::inside::rtp::extension::PlayoutDelay;

use super::decode::Frame;

/// Ticks of a video stream's clock in a millisecond.
const TICKS_PER_MS: i64 = 90;

/// How far back delays are compared.
const HISTORY: Duration = Duration::from_secs(10);

/// The share of frames that are waited for, in percent.
const PERCENTILE: usize = 95;

/// Repaired frames after which each waits for a round trip more, and the time for which they count:
/// libwebrtc's `kNackLimit` and `kNackCountTimeout`.
const REPAIRS: (u32, Duration) = (3, Duration::from_secs(60));

/// The delay changes by at most a tenth of the time that passes: libwebrtc's
/// `kDelayMaxChangeMsPerS`.
const MAX_CHANGE: u32 = 10;

/// Frames of whose durations the mean is taken, and how many there must be
/// (<https://www.w3.org/TR/webrtc-stats/#dom-rtcinboundrtpstreamstats-freezecount>).
const FREEZE_WINDOW: (usize, usize) = (30, 5);

/// How much longer than the mean a frame stands that is a freeze.
const FREEZE: Duration = Duration::from_millis(150);

/// Whose frames are counted before the first one has told.
const UNKNOWN: u32 = 0;

#[derive(Debug)]
struct Waiting {
    due: Instant,
    came: Instant,
    frame: Frame,
}

/// The screen of one slot.
#[derive(Debug, Default)]
pub struct Screen {
    /// The first frame's arrival and timestamp.
    anchor: Option<(Instant, u32)>,
    /// When frames came that needed no repair, and how much later than at their recording, in
    /// microseconds and up to a constant.
    history: VecDeque<(Instant, i64)>,
    repairs: u32,
    last_repair: Option<Instant>,
    delay: Duration,
    last_came: Option<Instant>,
    waiting: VecDeque<Waiting>,
    last_shown: Option<Instant>,
    durations: VecDeque<Duration>,
    source: Option<u32>,
    /// What was shown, by source.
    seen: BTreeMap<u32, VideoReceived>,
}

impl Screen {
    /// Takes a decoded frame.
    pub fn handle_frame(
        &mut self,
        now: Instant,
        frame: Frame,
        round_trip: Duration,
        bounds: Option<PlayoutDelay>,
    ) {
        let (began, first) = *self.anchor.get_or_insert((now, frame.timestamp));
        let ticks = frame.timestamp.wrapping_sub(first) as i32;
        let recorded = i64::from(ticks) * 1000 / TICKS_PER_MS;
        let since = |at: Instant| (at - began).as_micros() as i64 - recorded;
        let offset = since(now);
        self.note_arrival(now, since(frame.came), frame.was_repaired);

        let fastest = self.history.iter().map(|h| h.1).min().unwrap_or(offset);
        let lateness = Duration::from_micros(offset.saturating_sub(fastest).max(0).unsigned_abs());
        self.change_delay(now, self.target(fastest, round_trip, bounds), lateness);
        let wait = self.delay.saturating_sub(lateness);
        let after_others = self.waiting.back().map_or(now, |last| last.due);
        self.waiting.push_back(Waiting {
            due: (now + wait).max(after_others),
            came: now,
            frame,
        });
    }

    fn note_arrival(&mut self, now: Instant, offset: i64, was_repaired: bool) {
        if was_repaired {
            self.repairs += 1;
            self.last_repair = Some(now);
        } else {
            self.history.push_back((now, offset));
        }
        if self.last_repair.is_some_and(|at| at + REPAIRS.1 < now) {
            self.repairs = 0;
        }
        while self.history.front().is_some_and(|h| h.0 + HISTORY < now) {
            self.history.pop_front();
        }
    }

    /// How long the fastest frame should wait.
    fn target(&self, fastest: i64, round_trip: Duration, bounds: Option<PlayoutDelay>) -> Duration {
        let mut delays: Vec<i64> = self.history.iter().map(|h| h.1 - fastest).collect();
        let high = delays.len() * PERCENTILE / 100;
        let jitter = match delays.is_empty() {
            true => 0,
            false => *delays.select_nth_unstable(high).1,
        };
        let mut target = Duration::from_micros(jitter.unsigned_abs());
        if self.repairs >= REPAIRS.0 {
            target += round_trip;
        }
        match bounds {
            Some(PlayoutDelay { min_ms, max_ms }) => {
                let [min, max] = [min_ms, max_ms].map(|ms| Duration::from_millis(ms.into()));
                target.min(max).max(min)
            }
            None => target,
        }
    }

    fn change_delay(&mut self, now: Instant, target: Duration, lateness: Duration) {
        let step = self
            .last_came
            .replace(now)
            .map(|last| (now - last) / MAX_CHANGE);
        self.delay = match step {
            Some(step) if self.delay < target => target.min(self.delay + step),
            Some(step) => target.max(self.delay.saturating_sub(step)),
            None => target,
        };
        // What is late has shown that the delay is too short.
        self.delay = self.delay.max(lateness.min(target));
    }

    /// The next frame to show now. `since_beginning` is how long ago the call began.
    pub fn poll(&mut self, now: Instant, since_beginning: Duration) -> Option<Frame> {
        let next = self.waiting.pop_front_if(|next| next.due <= now)?;
        let stamp = next.frame.stamp;
        if let Some(early) = self.seen.remove(&UNKNOWN) {
            self.seen.entry(stamp.source).or_insert(early);
        }
        self.source = Some(stamp.source);
        let freeze = self.freeze(now);
        let seen = self.counters();
        seen.frames += 1;
        seen.key_frames += u64::from(next.frame.is_key);
        let [width, height] = next.frame.size.map(u32::from);
        (seen.width, seen.height) = (Some(width), Some(height));
        if let Some(freeze) = freeze {
            seen.freezes += 1;
            seen.frozen += freeze.as_secs_f64();
        }
        seen.jitter_buffer_delay += (now - next.came).as_secs_f64();
        seen.jitter_buffer_emitted += 1;
        let delay = since_beginning.as_micros() as u64 - stamp.captured;
        seen.picture_delays.push(delay as f64 / 1000.0);
        Some(next.frame)
    }

    /// The time for which the last frame stood, if that was a freeze.
    fn freeze(&mut self, now: Instant) -> Option<Duration> {
        let stood = now - self.last_shown.replace(now)?;
        self.durations.push_back(stood);
        let (window, least) = FREEZE_WINDOW;
        if self.durations.len() > window {
            self.durations.pop_front();
        }
        let mean = self.durations.iter().sum::<Duration>() / self.durations.len() as u32;
        let is_freeze = self.durations.len() >= least && stood > (mean * 3).max(mean + FREEZE);
        is_freeze.then_some(stood)
    }

    /// When [`Screen::poll`] has something.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|next| next.due)
    }

    /// The counters of the source that is being shown.
    pub fn counters(&mut self) -> &mut VideoReceived {
        self.seen.entry(self.source.unwrap_or(UNKNOWN)).or_default()
    }

    /// What was shown of each source, with picture delays since this was last asked.
    pub fn take_seen(&mut self) -> BTreeMap<u32, VideoReceived> {
        let seen = self.seen.clone();
        for shown in self.seen.values_mut() {
            shown.picture_delays.clear();
        }
        seen
    }
}
