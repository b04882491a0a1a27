//! A browser's jitter buffer for audio, after libwebrtc's NetEq: what is played when, and what has
//! to be made up.
//!
//! In: the frames that came, from wherever (a packet, a redundant copy, a retransmission), and time.
//! Out: every 10 ms, audio: heard or concealed. The level of the buffer is kept at its target by
//! playing a little faster or slower; a gap is concealed for as long as it lasts unless the buffer
//! holds more than it should; what comes after its turn is of no use.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use confab_bot::sample::AudioReceived;

use super::delay::DelayTarget;

/// Samples a second.
const CLOCK_RATE: u32 = 48_000;

/// Samples of a frame: 20 ms.
pub const FRAME: u64 = 960;

/// Samples that are played at a time, and how long they last.
const TICK: (u64, Duration) = (480, Duration::from_millis(10));

/// Samples that speeding up saves and slowing down adds: a period of a low voice.
const STRETCH: u64 = 240;

/// Ticks between two of these.
const STRETCH_PAUSE: u32 = 5;

/// Samples after which a gap is no longer waited out though the next frame is there: 100 ms.
const MAX_WAIT: u64 = 4800;

/// Samples of concealment until it has faded to silence: 120 ms, libwebrtc's within a tick or two.
const FADE: u64 = 5760;

/// Frames kept at most, as libwebrtc's; then everything is thrown away.
const MAX_FRAMES: usize = 200;

#[derive(Debug)]
struct Frame {
    source: u32,
    arrived: Instant,
}

/// The jitter buffer of one slot.
#[derive(Debug, Default)]
pub struct SoundBuffer {
    /// By the number of their first sample.
    frames: BTreeMap<u64, Frame>,
    target: DelayTarget,
    /// The sample that comes next, once one has been played.
    next: Option<u64>,
    next_tick: Option<Instant>,
    /// Samples decoded and not played.
    decoded: u64,
    /// Samples concealed in a row.
    concealed: u64,
    /// The level, smoothed, in samples.
    level: f64,
    stretch_pause: u32,
    /// Whose audio is being played, or made up.
    source: Option<u32>,
    /// What was played, by source.
    pub heard: BTreeMap<u32, AudioReceived>,
    /// Frames that came after their turn.
    pub too_late: u64,
}

impl SoundBuffer {
    /// Takes a frame that begins with this sample; the first copy counts.
    pub fn insert(&mut self, now: Instant, sample: u64, source: u32) {
        self.target.handle_packet(now, sample, CLOCK_RATE);
        if self.next.is_some_and(|next| sample < next) {
            self.too_late += 1;
            return;
        }
        if self.frames.len() >= MAX_FRAMES {
            self.frames.clear();
        }
        self.frames.entry(sample).or_insert(Frame {
            source,
            arrived: now,
        });
        self.next_tick.get_or_insert(now);
    }

    /// When [`SoundBuffer::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_tick
    }

    /// Plays what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(at) = self.next_tick.take_if(|at| *at <= now) {
            self.next_tick = Some(at + TICK.1);
            self.play(at);
        }
    }

    fn play(&mut self, now: Instant) {
        self.smooth_level();
        if self.decoded < TICK.0 {
            self.decode(now);
        }
        let Some(source) = self.source else {
            return;
        };
        let heard = self.heard.entry(source).or_default();
        heard.samples += TICK.0;
        if self.decoded >= TICK.0 {
            self.decoded -= TICK.0;
            self.concealed = 0;
        } else {
            self.concealed += TICK.0;
            heard.concealed += TICK.0;
            heard.silent_concealed += if self.concealed > FADE { TICK.0 } else { 0 };
        }
    }

    fn smooth_level(&mut self) {
        let waiting = match (self.frames.first_key_value(), self.frames.last_key_value()) {
            (Some((first, _)), Some((last, _))) => last - first + FRAME,
            _ => 0,
        };
        // The larger the target, the smoother, as in libwebrtc's BufferLevelFilter.
        let keep = match self.target.get().as_millis() {
            0..=20 => 251.0,
            21..=60 => 252.0,
            61..=140 => 253.0,
            _ => 254.0,
        } / 256.0;
        self.level = self.level * keep + (waiting + self.decoded) as f64 * (1.0 - keep);
        self.stretch_pause = self.stretch_pause.saturating_sub(1);
    }

    /// Takes the next frame, if there is one and its time has come.
    fn decode(&mut self, now: Instant) {
        let target = self.target.get().as_secs_f64() * f64::from(CLOCK_RATE);
        let Some(first) = self.frames.first_entry() else {
            return;
        };
        let sample = *first.key();
        let gap = self.next.map_or(0, |next| sample - next);
        let is_waited_out =
            self.concealed >= gap.min(MAX_WAIT) || (self.concealed > 0 && self.level >= target);
        if gap > 0 && !is_waited_out {
            return;
        }
        let frame = first.remove();
        self.next = Some(sample + FRAME);
        self.source = Some(frame.source);
        self.decoded += FRAME;
        let heard = self.heard.entry(frame.source).or_default();
        let waited = now.saturating_duration_since(frame.arrived).as_secs_f64();
        heard.jitter_buffer_delay += waited * FRAME as f64;
        heard.jitter_buffer_emitted += FRAME;
        self.stretch(target);
    }

    /// Plays the frame a little shorter or longer, to bring the level to its target.
    fn stretch(&mut self, target: f64) {
        if self.stretch_pause > 0 {
            return;
        }
        let low = target * 0.75;
        let high = target.max(low + FRAME as f64);
        if self.level >= high {
            self.decoded -= STRETCH;
            self.level -= STRETCH as f64;
        } else if self.level < low {
            self.decoded += STRETCH;
            self.level += STRETCH as f64;
        } else {
            return;
        }
        self.stretch_pause = STRETCH_PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays frames that arrive at these milliseconds and begin with these multiples of 20 ms.
    fn play(mut arrivals: Vec<(u64, u64)>, until_ms: u64) -> (AudioReceived, u64) {
        let start = Instant::now();
        let mut buffer = SoundBuffer::default();
        arrivals.sort_unstable();
        let mut arrivals = arrivals.into_iter().peekable();
        for ms in 0..until_ms {
            let now = start + Duration::from_millis(ms);
            while let Some((_, n)) = arrivals.next_if(|&(at, _)| at == ms) {
                buffer.insert(now, n * FRAME, 1);
            }
            buffer.handle_timeout(now);
        }
        (buffer.heard.remove(&1).unwrap_or_default(), buffer.too_late)
    }

    fn share(heard: &AudioReceived) -> f64 {
        heard.concealed as f64 / heard.samples as f64
    }

    #[test]
    fn what_comes_in_time_is_heard_whole() {
        let (heard, too_late) = play((0..500).map(|n| (20 * n, n)).collect(), 10_000);
        assert_eq!((heard.samples, too_late), (480_000, 0));
        assert!(share(&heard) < 0.005, "{heard:?}");
        let waited = heard.jitter_buffer_delay / heard.jitter_buffer_emitted as f64;
        assert!((0.0..0.1).contains(&waited), "{waited}");
    }

    #[test]
    fn what_never_comes_is_concealed_and_no_more() {
        for loss in [10, 4] {
            let frames = (0..3000).filter(|n| n % loss != loss / 2);
            let (heard, too_late) = play(frames.map(|n| (20 * n, n)).collect(), 60_000);
            let expected = 1.0 / loss as f64;
            let share = share(&heard);
            assert!((share - expected).abs() < 0.02, "1 of {loss}: {share}");
            assert_eq!(heard.silent_concealed, 0);
            assert_eq!(too_late, 0);
        }
    }

    #[test]
    fn what_is_often_late_is_waited_for() {
        // A tenth comes 120 ms late, as retransmitted.
        let frames = (0..3000).map(|n| (20 * n + u64::from(n % 10 == 9) * 120, n));
        let (heard, too_late) = play(frames.collect(), 60_000);
        assert!(share(&heard) < 0.02, "{} {too_late}", share(&heard));
        let waited = heard.jitter_buffer_delay / heard.jitter_buffer_emitted as f64;
        assert!((0.08..0.25).contains(&waited), "{waited}");
    }

    #[test]
    fn a_long_silence_of_the_network_is_silence() {
        let frames = (0..100).chain(200..300);
        let (heard, _) = play(frames.map(|n| (20 * n, n)).collect(), 6000);
        let silent = heard.silent_concealed as f64 / 48_000.0;
        assert!((1.7..2.0).contains(&silent), "{silent} s");
    }
}
