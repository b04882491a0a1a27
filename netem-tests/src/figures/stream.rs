//! What one receiver had of one sender.
//!
//! Samples become intervals between two of them, and a figure is taken over the intervals whose
//! middle is in the window. Without a window that is from the first picture (the first audio, where
//! there are no pictures) to the end: how long that took is a figure of its own.
//!
//! Freezes need care, for getStats counts one only when it ends. Each is placed so that it ends with
//! the interval in which it was counted. A standstill that was never counted, because the call or
//! the connection ended first, is found by itself: pictures had come, and then there are intervals
//! without any for longer than is usual between two pictures.

use confab_bot::sample::{AudioReceived, Line, VideoReceived};

use super::{
    CallTime, ClientLog, Figure, SILENCE, Series, Summary, Window, grown, grown_f64, median,
    quantile, ratio, summary,
};

/// The shortest standstill, in seconds, that is taken for a freeze where getStats did not count it.
/// Samples are a second apart, give or take a few milliseconds: it is one without a picture.
const STANDSTILL: f64 = 0.9;

/// Pictures over which their usual distance is taken, and how many times that is a freeze
/// (<https://www.w3.org/TR/webrtc-stats/#dom-rtcinboundrtpstreamstats-freezecount>).
const USUAL: f64 = 30.0;
const FREEZE: f64 = 3.0;

/// How long after a change of the network, in seconds, pictures may begin to fail because of it.
const EFFECT: f64 = 3.0;

/// So near a standstill that the receiver has measured, in seconds, is what samples say of one: half of
/// the pictures of a second may be missing in the last of it, and the sample be late.
const COUNTED: f64 = 1.2;

/// What a sender publishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sends {
    /// Its voice.
    pub audio: bool,
    /// Its picture.
    pub video: bool,
}

/// What one receiver had of one sender in the course of a call.
#[derive(Debug)]
pub struct Stream {
    sends: Sends,
    intervals: Vec<Interval>,
    freezes: Vec<Freeze>,
    first_frame_ms: Option<f64>,
    /// When the networks of the two changed, seconds, in order.
    changes: Vec<f64>,
}

/// Between two samples, times in seconds.
#[derive(Clone, Debug, Default)]
struct Interval {
    from: f64,
    to: f64,
    samples: f64,
    concealed: f64,
    audio_waited: f64,
    audio_emitted: f64,
    score: Option<f64>,
    frames: f64,
    frozen: f64,
    freezes: f64,
    height: Option<f64>,
    key_frame_requests: f64,
    video_waited: f64,
    video_emitted: f64,
    bytes: f64,
    repair_bytes: f64,
    picture_delays: Vec<f64>,
}

/// A standstill, times in seconds; of several that were counted together, their sum.
#[derive(Clone, Copy, Debug)]
struct Freeze {
    from: f64,
    to: f64,
    count: f64,
}

impl Stream {
    /// Takes apart what a receiver told of a sender, who publishes this, in a call in which the
    /// networks of the two changed at these times (seconds).
    #[must_use]
    pub fn new(
        receiver: &ClientLog,
        sender: &ClientLog,
        sends: Sends,
        mut changes: Vec<f64>,
        call: CallTime,
    ) -> Self {
        changes.sort_by(f64::total_cmp);
        changes.dedup();
        let intervals = intervals(receiver, &sender.name, call);
        Stream {
            sends,
            freezes: freezes(&intervals),
            intervals,
            first_frame_ms: first_frame(receiver, sender),
            changes,
        }
    }

    /// The figures over a part of the call, or from the first picture on.
    #[must_use]
    pub fn summary(&self, window: Option<Window>) -> Summary {
        let intervals: Vec<&Interval> = match window {
            Some(window) => {
                let is_in = |interval: &&Interval| {
                    (window.from..window.until).contains(&((interval.from + interval.to) / 2.0))
                };
                self.intervals.iter().filter(is_in).collect()
            }
            None => {
                let began = |i: &Interval| i.frames > 0.0 || (!self.sends.video && i.samples > 0.0);
                // The interval in which it began has a part before that.
                let first = self.intervals.iter().position(began).map(|first| first + 1);
                let first = first.filter(|first| *first < self.intervals.len());
                self.intervals.iter().skip(first.unwrap_or(0)).collect()
            }
        };
        let mut all = self.figures(&intervals);
        if self.sends.video {
            all.extend(summary([
                (Figure::FirstFrame, self.first_frame_ms),
                (Figure::Recovery, self.recovery(window)),
            ]));
        }
        all
    }

    /// The figures sample by sample.
    #[must_use]
    pub fn series(&self) -> Series {
        let points = self.intervals.iter();
        Series::of(points.map(|interval| (interval.to, self.figures(&[interval]))))
    }

    fn figures(&self, intervals: &[&Interval]) -> Summary {
        let sum = |value: fn(&Interval) -> f64| intervals.iter().map(|i| value(i)).sum::<f64>();
        let (Some(first), Some(last)) = (intervals.first(), intervals.last()) else {
            return Summary::new();
        };
        let seconds = sum(|i| i.to - i.from);
        let mut all = Summary::new();
        if self.sends.audio {
            let score = intervals.iter().rev().find_map(|i| i.score);
            all.extend(summary([
                (
                    Figure::AudioConcealed,
                    ratio(sum(|i| i.concealed), sum(|i| i.samples), 100.0),
                ),
                (Figure::AudioScore, score),
                (
                    Figure::AudioBuffer,
                    ratio(sum(|i| i.audio_waited), sum(|i| i.audio_emitted), 1e3),
                ),
            ]));
        }
        if self.sends.video {
            let within = |freeze: &Freeze| freeze.to.min(last.to) - freeze.from.max(first.from);
            let lengths = || self.freezes.iter().map(|f| within(f).max(0.0));
            let frozen: f64 = lengths().sum();
            let longest = lengths().fold(0.0, f64::max);
            let ended = |freeze: &&Freeze| freeze.to > first.from && freeze.to <= last.to;
            let freezes: f64 = self.freezes.iter().filter(ended).map(|f| f.count).sum();
            let delays = || {
                intervals
                    .iter()
                    .flat_map(|i| i.picture_delays.iter().copied())
                    .collect()
            };
            let heights: Vec<f64> = intervals.iter().filter_map(|i| i.height).collect();
            let changes = |is_one: fn(f64, f64) -> bool| {
                let pairs = heights.windows(2).filter(|pair| is_one(pair[0], pair[1]));
                pairs.count() as f64
            };
            let (ups, downs) = (changes(|a, b| b > a), changes(|a, b| b < a));
            let repair = sum(|i| i.repair_bytes);
            let media = sum(|i| i.bytes) - repair;
            all.extend(summary([
                (
                    Figure::FramesPerSecond,
                    ratio(sum(|i| i.frames), seconds, 1.0),
                ),
                (
                    Figure::VideoFrozen,
                    ratio(frozen.min(seconds), seconds, 100.0),
                ),
                (Figure::Freezes, Some(freezes)),
                (Figure::LongestFreeze, Some(longest)),
                (
                    Figure::ResolutionSwitches,
                    ratio(ups + downs, seconds, 60.0),
                ),
                (Figure::Switches, Some(ups + downs)),
                (Figure::SwitchesUp, Some(ups)),
                (Figure::SwitchesDown, Some(downs)),
                (Figure::Height, median(heights)),
                (Figure::PictureDelay, median(delays())),
                (Figure::PictureDelayP95, quantile(delays(), 0.95)),
                (
                    Figure::VideoBuffer,
                    ratio(sum(|i| i.video_waited), sum(|i| i.video_emitted), 1e3),
                ),
                (
                    Figure::KeyFrameRequests,
                    Some(sum(|i| i.key_frame_requests)),
                ),
                (Figure::VideoBitrate, ratio(sum(|i| i.bytes), seconds, 8e-3)),
                (Figure::ReceivedRepair, ratio(repair, media, 100.0)),
            ]));
        }
        all
    }

    /// The longest time from a change within the window until pictures were back, in seconds.
    fn recovery(&self, window: Option<Window>) -> Option<f64> {
        let end = self.intervals.last()?.to;
        let ends = self.changes.iter().skip(1).copied().chain([end]);
        let times = self
            .changes
            .iter()
            .copied()
            .zip(ends)
            .filter(|(change, _)| {
                window.is_none_or(|window| (window.from..window.until).contains(change))
            });
        let times = times.filter_map(|(change, next)| self.recovery_from(change, next, end));
        times.max_by(f64::total_cmp)
    }

    /// From one change until pictures were back; nothing if the next change came first.
    fn recovery_from(&self, change: f64, next: f64, end: f64) -> Option<f64> {
        let rate = |i: &Interval| i.frames / (i.to - i.from);
        let before = self
            .intervals
            .iter()
            .filter(|i| i.to <= change && i.frames > 0.0);
        let usual = median(before.map(rate).collect())?;
        let mut after = self
            .intervals
            .iter()
            .filter(|i| i.to > change && i.from < next);
        let fell = after
            .by_ref()
            .any(|i| i.from < change + EFFECT && rate(i) < usual / 2.0);
        if !fell {
            return Some(0.0);
        }
        // `any` has stopped behind the first that failed, or it has seen them all.
        let back = after.find(|i| rate(i) >= usual / 2.0).map(|i| i.from);
        let back = back.or((next >= end).then_some(end))?;
        let to_the_second = (back - change).max(0.0);
        let near = |i: &&Interval| (change..=back + COUNTED).contains(&i.to);
        let counted = self.intervals.iter().filter(near);
        let measured = counted
            .filter(|i| i.freezes == 1.0)
            .map(|i| i.frozen)
            .find(|length| (length - to_the_second).abs() < COUNTED);
        Some(measured.unwrap_or(to_the_second))
    }
}

fn intervals(receiver: &ClientLog, sender: &str, call: CallTime) -> Vec<Interval> {
    let mut intervals = Vec::new();
    let mut from = receiver.joining().map_or(0.0, |at| call.seconds(at));
    let mut audio = AudioReceived::default();
    let mut video = VideoReceived::default();
    for sample in receiver.samples() {
        let to = call.seconds(sample.at);
        if to <= from {
            continue;
        }
        let mut interval = Interval {
            from,
            to,
            ..Interval::default()
        };
        // What is not told of stands where it stood.
        let of_sender = sample.received.iter().find(|one| one.from == sender);
        if let Some(now) = of_sender.and_then(|one| one.audio.as_ref()) {
            interval.add_audio(&audio, now);
            audio = now.clone();
        }
        if let Some(now) = of_sender.and_then(|one| one.video.as_ref()) {
            interval.add_video(&video, now);
            video = now.clone();
        }
        intervals.push(interval);
        from = to;
    }
    if call.duration - from > SILENCE {
        intervals.push(Interval {
            from,
            to: call.duration,
            ..Interval::default()
        });
    }
    intervals
}

impl Interval {
    fn add_audio(&mut self, before: &AudioReceived, now: &AudioReceived) {
        let concealed = grown(before.concealed, now.concealed);
        let silent = grown(before.silent_concealed, now.silent_concealed);
        let emitted = (before.jitter_buffer_emitted, now.jitter_buffer_emitted);
        self.samples = grown(before.samples, now.samples);
        self.concealed = (concealed - silent).max(0.0);
        self.audio_waited = grown_f64(before.jitter_buffer_delay, now.jitter_buffer_delay);
        self.audio_emitted = grown(emitted.0, emitted.1);
        self.score = now.score;
    }

    fn add_video(&mut self, before: &VideoReceived, now: &VideoReceived) {
        let emitted = (before.jitter_buffer_emitted, now.jitter_buffer_emitted);
        let requests = (before.key_frame_requests, now.key_frame_requests);
        self.frames = grown(before.frames, now.frames);
        self.frozen = grown_f64(before.frozen, now.frozen);
        self.freezes = grown(before.freezes, now.freezes);
        self.height = now.height.map(f64::from).filter(|_| self.frames > 0.0);
        self.key_frame_requests = grown(requests.0, requests.1);
        self.video_waited = grown_f64(before.jitter_buffer_delay, now.jitter_buffer_delay);
        self.video_emitted = grown(emitted.0, emitted.1);
        self.bytes = grown(before.bytes, now.bytes);
        self.repair_bytes = grown(before.retransmitted_bytes, now.retransmitted_bytes)
            + grown(before.fec_bytes, now.fec_bytes);
        self.picture_delays.clone_from(&now.picture_delays);
    }
}

fn freezes(intervals: &[Interval]) -> Vec<Freeze> {
    let (Some(first), Some(last)) = (intervals.first(), intervals.last()) else {
        return Vec::new();
    };
    let once = |from, to| Freeze {
        from,
        to,
        count: 1.0,
    };
    let Some(shown) = intervals.iter().position(|i| i.frames > 0.0) else {
        return vec![once(first.from, last.to)];
    };
    let counted = intervals.iter().skip(shown);
    let counted = counted.filter(|i| i.frozen > 0.0 || i.freezes > 0.0);
    let mut freezes: Vec<Freeze> = counted
        .map(|interval| Freeze {
            from: interval.to - interval.frozen,
            to: interval.to,
            count: interval.freezes,
        })
        .collect();
    let mut at = shown;
    while let Some(begin) = next_still(intervals, at) {
        let still = intervals[begin..].iter().take_while(|i| i.frames == 0.0);
        at = begin + still.count();
        let (from, to) = (intervals[begin].from, intervals[at - 1].to);
        let least = STANDSTILL.max(FREEZE * usual_distance(&intervals[..begin]));
        // It is counted when the next picture is shown, which may be after the next sample.
        let is_counted = intervals[at..]
            .iter()
            .take(2)
            .any(|i| i.frozen >= (to - from) / 2.0);
        if to - from >= least && !is_counted {
            freezes.push(once(from, to));
        }
    }
    freezes
}

/// The next interval without a picture.
fn next_still(intervals: &[Interval], from: usize) -> Option<usize> {
    let still = intervals[from..].iter().position(|i| i.frames == 0.0);
    still.map(|index| from + index)
}

/// The usual time from one picture to the next, in seconds, at the end of these intervals.
fn usual_distance(intervals: &[Interval]) -> f64 {
    let (mut pictures, mut seconds) = (0.0, 0.0);
    for interval in intervals.iter().rev().filter(|i| i.frames > 0.0) {
        pictures += interval.frames;
        seconds += interval.to - interval.from;
        if pictures >= USUAL {
            break;
        }
    }
    ratio(seconds, pictures, 1.0).unwrap_or_default()
}

fn first_frame(receiver: &ClientLog, sender: &ClientLog) -> Option<f64> {
    let shown = receiver.lines.iter().find_map(|line| match line {
        Line::FirstFrame { at, from } if *from == sender.name => Some(*at),
        _ => None,
    })?;
    let both_joined = receiver.joining()?.max(sender.joining()?);
    Some((shown - both_joined).max(0.0))
}
