//! What a bot sees: packets put in order and joined to frames, and those frames judged as a decoder
//! would: after a lost packet nothing can be shown until the next key frame.
//!
//! In: packets with extended sequence numbers, the time, and which packets are still asked for. Out:
//! frames, freezes, requests for key frames.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use super::nack::NackGenerator;
use crate::codec::{VideoCodec, vp8_size};
use crate::sample::VideoReceived;

/// Packets that may wait behind a missing one.
const MAX_WAITING: usize = 2048;
/// Time between two requests for a key frame while none comes.
const KEY_FRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(500);
/// Frames over which the usual frame duration is averaged (webrtc-stats, `freezeCount`).
const FREEZE_WINDOW: usize = 30;
/// A freeze is at least this much longer than the usual frame duration (webrtc-stats).
const FREEZE_MARGIN: Duration = Duration::from_millis(150);

/// The picture of one slot. Times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VideoStats {
    /// The codec of the last frame.
    pub codec: Option<VideoCodec>,
    /// Frames a decoder could show: complete, and everything since the last key frame too.
    pub frames: u64,
    /// The key frames among them.
    pub key_frames: u64,
    /// Frames that came but could not be shown, for want of a key frame or of an earlier packet.
    pub undecodable_frames: u64,
    /// Requests for a key frame that the bot sent.
    pub key_frame_requests: u64,
    /// Intervals between two shown frames that are at least 3 times the average of the last 30
    /// intervals and at least 150 ms longer than it: `freezeCount` of webrtc-stats. Muting or
    /// re-pointing the slot is none.
    pub freezes: u64,
    /// The sum of those intervals: `totalFreezesDuration`.
    pub freeze_ms: u64,
    /// Shown frames in the last whole second.
    pub frames_per_second: f32,
}

/// A packet of a frame as it waits for its turn.
struct Waiting {
    codec: VideoCodec,
    timestamp: u32,
    marker: bool,
    payload: Bytes,
    arrived: Instant,
}

/// A complete frame that can be shown, packet by packet.
pub(crate) struct ShownFrame {
    pub(crate) codec: VideoCodec,
    pub(crate) payloads: Vec<Bytes>,
}

#[derive(Default)]
pub(crate) struct VideoReceiver {
    waiting: BTreeMap<u64, Waiting>,
    next: Option<u64>,
    frame: Vec<Waiting>,
    /// Whether every packet since a key frame has come.
    intact: bool,
    wants_key_frame: bool,
    last_request: Option<Instant>,
    last_shown: Option<Instant>,
    intervals: VecDeque<Duration>,
    shown: VecDeque<ShownFrame>,
    /// When the frames of the last second were shown.
    recent: VecDeque<Instant>,
    size: Option<(u32, u32)>,
    /// How long frames have waited from their first packet's arrival, all added up.
    waited: Duration,
    frozen: Duration,
    stats: VideoStats,
}

impl VideoReceiver {
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        sequence_number: u64,
        codec: VideoCodec,
        packet: &rtp::Packet,
        nack: &NackGenerator,
    ) {
        let next = *self.next.get_or_insert(sequence_number);
        if sequence_number < next {
            return;
        }
        let waiting = Waiting {
            codec,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            payload: packet.payload.clone(),
            arrived: now,
        };
        self.waiting.insert(sequence_number, waiting);
        self.advance(now, nack);
    }

    /// Whether to ask for a key frame now.
    pub(crate) fn poll_key_frame_request(&mut self, now: Instant) -> bool {
        let due = self
            .last_request
            .is_none_or(|last| now - last >= KEY_FRAME_REQUEST_INTERVAL);
        if !self.wants_key_frame || !due {
            return false;
        }
        self.last_request = Some(now);
        self.stats.key_frame_requests += 1;
        true
    }

    /// The next frame that could be shown, in order.
    pub(crate) fn poll_frame(&mut self) -> Option<ShownFrame> {
        self.shown.pop_front()
    }

    /// The slot was muted or shows another track now: the pause around that is no freeze.
    pub(crate) fn handle_discontinuity(&mut self) {
        self.last_shown = None;
        self.intervals.clear();
    }

    /// The counters of the picture; packets are counted elsewhere.
    pub(crate) fn counters(&self) -> VideoReceived {
        VideoReceived {
            frames: self.stats.frames,
            key_frames: self.stats.key_frames,
            freezes: self.stats.freezes,
            frozen: self.frozen.as_secs_f64(),
            width: self.size.map(|(width, _)| width),
            height: self.size.map(|(_, height)| height),
            key_frame_requests: self.stats.key_frame_requests,
            jitter_buffer_delay: self.waited.as_secs_f64(),
            jitter_buffer_emitted: self.stats.frames,
            ..Default::default()
        }
    }

    pub(crate) fn stats(&self, now: Instant) -> VideoStats {
        let second = Duration::from_secs(1);
        let recent = self.recent.iter().filter(|shown| now - **shown <= second);
        VideoStats {
            frames_per_second: recent.count() as f32,
            ..self.stats.clone()
        }
    }

    /// Shows what can be shown. A missing packet holds up those behind it as long as it is asked for.
    pub(crate) fn advance(&mut self, now: Instant, nack: &NackGenerator) {
        while let Some(next) = self.next {
            if let Some(packet) = self.waiting.remove(&next) {
                self.next = Some(next + 1);
                self.take(now, packet);
                continue;
            }
            let Some((first_waiting, _)) = self.waiting.first_key_value() else {
                return;
            };
            if nack.awaits(next) && self.waiting.len() <= MAX_WAITING {
                return;
            }
            self.next = Some(*first_waiting);
            self.intact = false;
            self.wants_key_frame = true;
            self.frame.clear();
        }
    }

    fn take(&mut self, now: Instant, packet: Waiting) {
        // Padding, sent to probe the bandwidth, belongs to no frame.
        if packet.payload.is_empty() {
            return;
        }
        if let Some(first) = self.frame.first()
            && (first.timestamp != packet.timestamp || first.codec != packet.codec)
        {
            self.frame.clear();
            self.intact = false;
        }
        let complete = packet.marker;
        self.frame.push(packet);
        if complete {
            self.finish_frame(now);
        }
    }

    fn finish_frame(&mut self, now: Instant) {
        let frame = std::mem::take(&mut self.frame);
        let Some(first) = frame.first() else { return };
        let codec = first.codec;
        let key = codec.starts_key_frame(&first.payload);
        // A decoder for another codec starts afresh.
        self.intact &= self.stats.codec == Some(codec);
        self.stats.codec = Some(codec);
        if key {
            self.intact = true;
            self.wants_key_frame = false;
            // Only VP8's is easily read.
            let size = (codec == VideoCodec::Vp8).then(|| vp8_size(&first.payload));
            self.size = size.flatten();
        }
        if !self.intact {
            self.stats.undecodable_frames += 1;
            self.wants_key_frame = true;
            return;
        }
        self.stats.frames += 1;
        self.stats.key_frames += u64::from(key);
        let first_arrival = frame.iter().map(|packet| packet.arrived).min();
        self.waited += first_arrival.map_or(Duration::ZERO, |arrived| now - arrived);
        self.measure_interval(now);
        let payloads = frame.into_iter().map(|packet| packet.payload).collect();
        self.shown.push_back(ShownFrame { codec, payloads });
    }

    fn measure_interval(&mut self, now: Instant) {
        self.recent.push_back(now);
        while self
            .recent
            .front()
            .is_some_and(|shown| now - *shown > Duration::from_secs(1))
        {
            self.recent.pop_front();
        }
        let Some(last) = self.last_shown.replace(now) else {
            return;
        };
        let interval = now - last;
        if !self.intervals.is_empty() {
            let average = self.intervals.iter().sum::<Duration>() / self.intervals.len() as u32;
            if interval >= (3 * average).max(average + FREEZE_MARGIN) {
                self.stats.freezes += 1;
                self.frozen += interval;
                self.stats.freeze_ms = self.frozen.as_millis() as u64;
            }
        }
        self.intervals.push_back(interval);
        if self.intervals.len() > FREEZE_WINDOW {
            self.intervals.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;
    use crate::send::packetize::Packetizer;

    const FRAME: Duration = Duration::from_millis(33);

    /// A VP8 sender and a receiver on a clock of their own.
    struct Story {
        now: Instant,
        sender: Packetizer,
        receiver: VideoReceiver,
        nack: NackGenerator,
        next: u64,
    }

    impl Story {
        fn new() -> Story {
            Story {
                now: Instant::now(),
                sender: Packetizer::video(VideoCodec::Vp8, 1, 96),
                receiver: VideoReceiver::default(),
                nack: NackGenerator::new(),
                next: 1000,
            }
        }

        /// Sends a frame of four packets; those whose index `lost` names do not arrive.
        fn frame(&mut self, key: bool, lost: &[usize]) -> Vec<(u64, rtp::Packet)> {
            let data = [&[u8::from(!key)][..], &[0; 4000]].concat();
            let mut withheld = Vec::new();
            for (index, packet) in self
                .sender
                .packetize(&data.into(), 3000)
                .unwrap()
                .into_iter()
                .enumerate()
            {
                if lost.contains(&index) {
                    withheld.push((self.next, packet));
                } else {
                    self.arrive(self.next, &packet);
                }
                self.next += 1;
            }
            self.now += FRAME;
            self.nack.poll_requests(self.now);
            self.receiver.advance(self.now, &self.nack);
            withheld
        }

        fn arrive(&mut self, number: u64, packet: &rtp::Packet) {
            self.nack.handle_packet(self.now, number);
            self.receiver
                .handle_packet(self.now, number, VideoCodec::Vp8, packet, &self.nack);
        }

        fn frames(&mut self, count: usize) {
            for _ in 0..count {
                self.frame(false, &[]);
            }
        }

        fn shown(&self) -> (u64, u64) {
            let stats = self.receiver.stats(self.now);
            (stats.frames, stats.undecodable_frames)
        }
    }

    #[test]
    fn a_stream_that_starts_between_key_frames_asks_for_one() {
        let mut story = Story::new();
        story.frames(3);
        assert_eq!(story.shown(), (0, 3));
        assert!(story.receiver.poll_key_frame_request(story.now));
        assert!(!story.receiver.poll_key_frame_request(story.now));
        story.frame(true, &[]);
        story.frames(9);
        assert_eq!(story.shown(), (10, 3));
        story.now += KEY_FRAME_REQUEST_INTERVAL;
        assert!(!story.receiver.poll_key_frame_request(story.now));
        assert_eq!(
            std::iter::from_fn(|| story.receiver.poll_frame()).count(),
            10
        );
    }

    #[test]
    fn a_retransmission_in_time_saves_the_picture() {
        let mut story = Story::new();
        story.frame(true, &[]);
        let withheld = story.frame(false, &[1]);
        story.frames(3);
        assert_eq!(story.shown(), (1, 0));
        for (number, packet) in withheld {
            story.arrive(number, &packet);
        }
        assert_eq!(story.shown(), (5, 0));
        assert!(!story.receiver.poll_key_frame_request(story.now));
    }

    #[test]
    fn without_it_the_picture_stands_until_the_next_key_frame() {
        let mut story = Story::new();
        story.frame(true, &[]);
        story.frames(40);
        story.frame(false, &[1]);
        // Ten requests of 100 ms each and some.
        story.frames(40);
        assert!(story.receiver.poll_key_frame_request(story.now));
        let (frames, undecodable) = story.shown();
        assert_eq!(frames, 41);
        assert!(undecodable > 35, "{undecodable}");
        story.frame(true, &[]);
        story.frames(5);
        let stats = story.receiver.stats(story.now);
        assert_eq!((stats.frames, stats.key_frames, stats.freezes), (47, 2, 1));
        // One lost frame and forty behind it.
        assert_eq!(stats.freeze_ms, 42 * 33);
    }

    #[test]
    fn a_pause_is_a_freeze_unless_it_was_meant() {
        for (meant, freezes) in [(false, 1), (true, 0)] {
            let mut story = Story::new();
            story.frame(true, &[]);
            story.frames(30);
            story.now += Duration::from_millis(200);
            if meant {
                story.receiver.handle_discontinuity();
            }
            story.frames(30);
            let stats = story.receiver.stats(story.now);
            assert_eq!(stats.freezes, freezes, "meant: {meant}");
            assert!(
                (29.0..=31.0).contains(&stats.frames_per_second),
                "{stats:?}"
            );
        }
    }

    #[test]
    fn padding_belongs_to_no_frame_and_waiting_is_bounded() {
        let mut story = Story::new();
        story.frame(true, &[]);
        let padding = rtp::Packet::default();
        story.arrive(story.next, &padding);
        story.next += 1;
        story.frames(1);
        assert_eq!(story.shown(), (2, 0));
        story.frame(false, &[0]);
        for _ in 0..2 * MAX_WAITING / 4 {
            story.frame(false, &[]);
            story.now -= FRAME;
        }
        assert!(story.receiver.waiting.len() <= MAX_WAITING);
    }
}
