//! The buffer before the loudspeaker: packets wait in it until their turn, so that audio plays
//! evenly though they come unevenly. In spirit it is libwebrtc's NetEq.
//!
//! In: packets with their RTP timestamps (extended), and the time. Out: one thing to play for every
//! frame of time: a packet, the redundancy in the one after it, or nothing, so that the decoder
//! must make something up.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::send::audio::{FRAME_SAMPLES, SAMPLE_RATE};

/// Bounds of the delay that is aimed at, and where it begins (NetEq begins there too).
const MIN_DELAY: Duration = Duration::from_millis(40);
const MAX_DELAY: Duration = Duration::from_millis(500);
const START_DELAY: Duration = Duration::from_millis(80);
/// The delays considered are multiples of this, and the delay is changed by one packet at a time.
const DELAY_STEP: Duration = Duration::from_millis(20);
/// One percent of audio lost is as bad as this much delay (libwebrtc's reorder optimizer).
const DELAY_PER_PERCENT: f64 = 0.020;
/// Packets whose delays are remembered, ten seconds, and after how many the aim is set anew.
const HISTORY: usize = 500;
const ADAPT_EVERY: usize = 25;
/// Packets played between two that are hurried to shorten the delay.
const HURRY_EVERY: u32 = 5;
/// A timestamp further than this from what is played belongs to another timeline: ten seconds.
const MAX_JUMP: u64 = 10 * SAMPLE_RATE as u64;
/// Packets that may wait; more than that and the buffer starts anew (NetEq has as many).
const MAX_WAITING: usize = 200;

/// What to play next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Playout {
    /// Where it stands on the sender's timeline, in samples.
    pub(crate) timestamp: u64,
    /// How long it takes, in samples.
    pub(crate) samples: usize,
    pub(crate) sound: Sound,
}

/// Where the audio is to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sound {
    /// A packet, and how long it waited. A hurried one is left out to shorten the delay.
    Packet {
        payload: Bytes,
        waited: Duration,
        hurried: bool,
    },
    /// A packet is missing, and the one after it, which may hold it once more, is here.
    Following(Bytes),
    Missing,
}

struct Waiting {
    payload: Bytes,
    samples: usize,
    arrived: Instant,
}

/// Holds the packets of one stream.
pub(crate) struct JitterBuffer {
    waiting: BTreeMap<u64, Waiting>,
    /// What is played next and when, once something has come.
    next: Option<(u64, Instant)>,
    /// Samples played since the timeline last moved.
    stalled: u64,
    /// Samples of the last packet, which a missing one is taken to have had too.
    packet_samples: usize,
    since_hurried: u32,
    delays: Delays,
}

impl JitterBuffer {
    pub(crate) fn new() -> JitterBuffer {
        JitterBuffer {
            waiting: BTreeMap::new(),
            next: None,
            stalled: 0,
            packet_samples: FRAME_SAMPLES,
            since_hurried: 0,
            delays: Delays::new(),
        }
    }

    /// Takes a packet of so many samples. One that is too late is discarded. Everything due before
    /// must have been polled.
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        timestamp: u64,
        samples: usize,
        payload: Bytes,
    ) {
        // While nothing comes the sender's clock goes on.
        let reach = MAX_JUMP + self.stalled;
        let jumped = |(next, _): (u64, Instant)| next.abs_diff(timestamp) > reach;
        if self.next.is_some_and(jumped) || self.waiting.len() >= MAX_WAITING {
            self.restart();
        }
        self.delays.add(now, timestamp);
        let start = (timestamp, now + self.delays.target);
        let (next, _) = *self.next.get_or_insert(start);
        if timestamp >= next {
            let arrived = now;
            self.packet_samples = samples;
            self.waiting.entry(timestamp).or_insert(Waiting {
                payload,
                samples,
                arrived,
            });
        }
    }

    /// Takes a copy of an earlier packet that a later one carried. It says nothing about delay.
    pub(crate) fn handle_redundancy(
        &mut self,
        now: Instant,
        timestamp: u64,
        samples: usize,
        payload: Bytes,
    ) {
        if self.next.is_some_and(|(next, _)| timestamp >= next) {
            self.waiting.entry(timestamp).or_insert(Waiting {
                payload,
                samples,
                arrived: now,
            });
        }
    }

    /// Forgets everything: the sender pauses, or another one follows.
    pub(crate) fn restart(&mut self) {
        self.waiting.clear();
        self.next = None;
        self.stalled = 0;
        self.delays = Delays::new();
    }

    /// What is due by now, piece by piece.
    pub(crate) fn poll_playout(&mut self, now: Instant) -> Option<Playout> {
        let (timestamp, due) = self.next?;
        if now < due {
            return None;
        }
        let playout = self.play(timestamp, due);
        let hurried = matches!(playout.sound, Sound::Packet { hurried: true, .. });
        let passed = if hurried { 0 } else { playout.samples };
        let moved = if self.stalled > 0 {
            timestamp
        } else {
            playout.timestamp + playout.samples as u64
        };
        self.next = Some((moved, due + duration(passed as u64)));
        Some(playout)
    }

    fn play(&mut self, timestamp: u64, due: Instant) -> Playout {
        let first = self.waiting.first_key_value();
        let mut timestamp = timestamp;
        if self.stalled > 0
            && let Some((first, _)) = first
        {
            // The packets missing before the first that came have been made up for already, if
            // the first is to be played now rather than to fill the buffer again.
            let gap = first - timestamp;
            if gap > 0 && self.delays.delay(due, *first) < self.delays.target {
                return self.stall(timestamp);
            }
            timestamp += gap.min(self.stalled);
            self.stalled = 0;
        }
        if let Some(packet) = self.waiting.remove(&timestamp) {
            let late = self.delays.delay(due, timestamp);
            self.since_hurried += 1;
            let hurried = late > self.delays.target + DELAY_STEP
                && self.since_hurried > HURRY_EVERY
                && !self.waiting.is_empty();
            if hurried {
                self.since_hurried = 0;
            }
            return Playout {
                timestamp,
                samples: packet.samples,
                sound: Sound::Packet {
                    waited: due.saturating_duration_since(packet.arrived),
                    payload: packet.payload,
                    hurried,
                },
            };
        }
        let may_wait = self.delays.delay(due, timestamp) + DELAY_STEP < self.delays.target;
        let first = self.waiting.first_key_value();
        let Some((first, packet)) = first.filter(|_| !may_wait) else {
            return self.stall(timestamp);
        };
        let gap = (first - timestamp) as usize;
        let sound = match gap <= self.packet_samples {
            true => Sound::Following(packet.payload.clone()),
            false => Sound::Missing,
        };
        Playout {
            timestamp,
            samples: gap.min(self.packet_samples),
            sound,
        }
    }

    /// What is due may still come: time stands still for it.
    fn stall(&mut self, timestamp: u64) -> Playout {
        let samples = self.packet_samples;
        let timestamp = timestamp + self.stalled;
        self.stalled += samples as u64;
        Playout {
            timestamp,
            samples,
            sound: Sound::Missing,
        }
    }
}

fn duration(samples: u64) -> Duration {
    Duration::from_nanos(samples * 1_000_000_000 / u64::from(SAMPLE_RATE))
}

/// How much later than the quickest packets arrive, and the delay that follows from it.
struct Delays {
    /// The first arrival, and its timestamp.
    origin: Option<(Instant, u64)>,
    /// Seconds between arrival and where the timestamp puts it, against the first.
    recent: VecDeque<f64>,
    quickest: f64,
    until_adapted: usize,
    target: Duration,
}

impl Delays {
    fn new() -> Delays {
        Delays {
            origin: None,
            recent: VecDeque::new(),
            quickest: 0.0,
            until_adapted: ADAPT_EVERY,
            target: START_DELAY,
        }
    }

    fn add(&mut self, now: Instant, timestamp: u64) {
        self.origin.get_or_insert((now, timestamp));
        let delay = self.against_first(now, timestamp);
        self.recent.push_back(delay);
        if self.recent.len() > HISTORY {
            self.recent.pop_front();
        }
        self.quickest = self.quickest.min(delay);
        self.until_adapted -= 1;
        if self.until_adapted == 0 {
            self.until_adapted = ADAPT_EVERY;
            self.quickest = self.recent.iter().copied().fold(f64::INFINITY, f64::min);
            self.target = self.best_target();
        }
    }

    /// How long after its quickest possible arrival a timestamp is played, if at `due`.
    fn delay(&self, due: Instant, timestamp: u64) -> Duration {
        let delay = self.against_first(due, timestamp) - self.quickest;
        Duration::from_secs_f64(delay.max(0.0))
    }

    fn against_first(&self, now: Instant, timestamp: u64) -> f64 {
        let Some((first, origin)) = self.origin else {
            return 0.0;
        };
        let elapsed = match now.checked_duration_since(first) {
            Some(elapsed) => elapsed.as_secs_f64(),
            None => -(first - now).as_secs_f64(),
        };
        elapsed - (timestamp as i64 - origin as i64) as f64 / f64::from(SAMPLE_RATE)
    }

    /// The delay with the least cost, where packets that come later than it are lost.
    fn best_target(&self) -> Duration {
        let steps = (MAX_DELAY.as_millis() / DELAY_STEP.as_millis()) as usize;
        let mut arrived_by = vec![0usize; steps + 2];
        for delay in &self.recent {
            let step = ((delay - self.quickest) / DELAY_STEP.as_secs_f64()).ceil();
            arrived_by[(step as usize).min(steps + 1)] += 1;
        }
        let (mut best, mut lowest, mut in_time) = (MIN_DELAY, f64::INFINITY, 0);
        for (step, count) in arrived_by[..=steps].iter().enumerate() {
            in_time += count;
            // One step more than it takes, for the packet that is being played.
            let delay = DELAY_STEP * (step as u32 + 1);
            let late = 100.0 * (self.recent.len() - in_time) as f64 / self.recent.len() as f64;
            let cost = delay.as_secs_f64() + DELAY_PER_PERCENT * late;
            if cost < lowest {
                (best, lowest) = (delay, cost);
            }
        }
        best.clamp(MIN_DELAY, MAX_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of 20 ms, the n-th sent after n × 20 ms, and what was played of them: the packet's
    /// index, `f` for one recovered from the following, `-` for nothing.
    fn played(arrivals: &[(u64, u64)], until_ms: u64) -> (Vec<String>, JitterBuffer) {
        let start = Instant::now();
        let mut buffer = JitterBuffer::new();
        let mut played = Vec::new();
        let mut arrivals: Vec<_> = arrivals.to_vec();
        arrivals.sort_by_key(|(ms, _)| *ms);
        let mut arrivals = arrivals.into_iter().peekable();
        for ms in 0..until_ms {
            let now = start + Duration::from_millis(ms);
            while let Some(playout) = buffer.poll_playout(now) {
                played.push(match playout.sound {
                    Sound::Packet {
                        payload,
                        hurried: false,
                        ..
                    } => payload[0].to_string(),
                    Sound::Packet { payload, .. } => format!("{}!", payload[0]),
                    Sound::Following(_) => "f".to_owned(),
                    Sound::Missing => "-".to_owned(),
                });
            }
            while let Some((_, index)) = arrivals.next_if(|(at, _)| *at == ms) {
                let payload = Bytes::from(vec![index as u8]);
                buffer.handle_packet(now, 1 << 32 | (960 * index), 960, payload);
            }
        }
        (played, buffer)
    }

    fn on_time(indices: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
        indices
            .into_iter()
            .map(|index| (10 + 20 * index, index))
            .collect()
    }

    #[test]
    fn packets_in_time_are_played_in_order_and_copies_once() {
        let mut arrivals = on_time(0..10);
        arrivals[3].0 += 70;
        arrivals[6].0 += 30;
        arrivals.push((150, 4));
        let (played, _) = played(&arrivals, 10 + 80 + 10 * 20);
        assert_eq!(played.join(" "), "0 1 2 3 4 5 6 7 8 9");
    }

    #[test]
    fn a_lost_packet_is_sought_in_the_following_and_two_are_not() {
        let lost = on_time([0, 1, 3, 4, 7, 8, 9]);
        let (played, _) = played(&lost, 10 + 80 + 10 * 20);
        assert_eq!(played.join(" "), "0 1 f 3 4 - f 7 8 9");
    }

    #[test]
    fn what_is_merely_late_is_waited_for_and_the_delay_shrinks_again() {
        let mut arrivals = on_time(0..400);
        // Nothing for 200 ms, then all of it at once.
        for arrival in &mut arrivals[20..30] {
            arrival.0 = 605;
        }
        let (played, buffer) = played(&arrivals, 400 * 20);
        let text = played.join(" ");
        assert!(text.contains(" 19 - - - - - - 20 21 "), "{text}");
        assert_eq!(text.matches('-').count(), 6, "{text}");
        assert!(text.matches('!').count() >= 6, "{text}");
        assert_eq!(buffer.delays.target, MIN_DELAY);
    }

    #[test]
    fn an_outage_is_filled_and_afterwards_the_buffer_fills_first() {
        let (played, buffer) = played(&on_time((0..10).chain(110..200)), 70 + 200 * 20);
        let text = played.join(" ");
        assert_eq!(text.matches('-').count(), 100, "{text}");
        assert!(text.contains("- 110 111 112"), "{text}");
        assert_eq!(
            buffer.next.map(|(next, _)| next),
            Some(1 << 32 | (200 * 960))
        );
    }

    #[test]
    fn the_delay_follows_what_arrives_late() {
        // Every tenth packet comes 150 ms late, as if it had been sent again.
        let arrivals: Vec<_> = on_time(0..400)
            .into_iter()
            .map(|(ms, index)| (if index % 10 == 5 { ms + 150 } else { ms }, index))
            .collect();
        let (played, buffer) = played(&arrivals, 8000);
        let target = buffer.delays.target;
        assert!((150..=200).contains(&target.as_millis()), "{target:?}");
        let late = &played[200..];
        assert!(
            late.iter().all(|what| what != "-" && what != "f"),
            "{late:?}"
        );
        let (_, buffer) = super::tests::played(&on_time(0..400), 8000);
        assert_eq!(buffer.delays.target, MIN_DELAY);
    }

    #[test]
    fn memory_and_jumps_are_bounded() {
        let mut buffer = JitterBuffer::new();
        let now = Instant::now();
        for index in 0..1000 {
            buffer.handle_packet(now, 960 * index, 960, Bytes::new());
            assert!(buffer.waiting.len() <= MAX_WAITING);
        }
        buffer.handle_packet(now, 1 << 40, 960, Bytes::new());
        assert_eq!(buffer.waiting.len(), 1);
        buffer.handle_packet(now, 0, 960, Bytes::new());
        assert_eq!(buffer.next.map(|(next, _)| next), Some(0));
    }
}
