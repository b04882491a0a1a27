//! What each layer of an encoding takes: its bitrate, its frames, its size.
//!
//! In: each packet of the encoding. Out: for a spatial and a temporal layer, what a subscriber gets
//! who is sent it and all layers below. Key frames do not count: they are rare, the pacer spreads
//! them out, and a rate that jumps with them would have layers flap.

use std::time::{Duration, Instant};

use super::history::PacketMeta;
use crate::media::Kind;
use crate::units::{Bitrate, DataSize};

/// Spatial layers told apart: `L3T3_KEY` has three.
const MAX_SPATIAL: usize = 3;

/// Temporal layers told apart: VP8 has no more than four (RFC 7741 section 4.2).
const MAX_TEMPORAL: usize = 4;

/// Over how long it is measured, and for the first time.
const WINDOW: Duration = Duration::from_secs(1);
const FIRST_WINDOW: Duration = Duration::from_millis(300);

/// How far a measurement moves what is known: encoders vary from second to second.
const SMOOTHING: f64 = 0.3;

/// An encoding that sends less than this share of what it did has been asked to, and is believed sooner.
const FELL: f64 = 0.7;
const SMOOTHING_WHEN_FELL: f64 = 0.6;

/// Without a packet for this long an encoding is not sent any more: over a frame of the slowest
/// screen share several times (Chromium repeats a still one once a second).
const ALIVE_FOR: Duration = Duration::from_secs(2);

/// What a packet takes beside itself: IP, UDP, the tag of SRTP, our header extensions.
const OVERHEAD: usize = 28 + 16 + 12;

#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Flow {
    bytes: f64,
    frames: f64,
}

type Layers = [[Flow; MAX_TEMPORAL]; MAX_SPATIAL];

/// What a subscriber gets of an encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Measured {
    /// On the wire, repair aside.
    pub bitrate: Bitrate,
    /// Frames a second.
    pub frame_rate: u32,
}

/// The layers of one encoding.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    counted: Layers,
    began: Option<Instant>,
    /// A second's worth.
    smoothed: Option<Layers>,
    /// The highest layers of late.
    spatial: usize,
    temporal: usize,
    size: Option<(u16, u16)>,
    last: Option<Instant>,
    /// The timestamp of the last key frame.
    key_frame: Option<u64>,
}

impl Meter {
    pub(crate) fn handle_packet(&mut self, now: Instant, meta: &PacketMeta, bytes: usize) {
        if !self.is_alive(now) {
            // What it takes when it comes is not less for not having come.
            (self.counted, self.began) = (Layers::default(), None);
        }
        self.last = Some(now);
        let began = *self.began.get_or_insert(now);
        let elapsed = now.saturating_duration_since(began);
        let window = match self.smoothed {
            Some(_) => WINDOW,
            None => FIRST_WINDOW,
        };
        if elapsed >= window {
            self.close(elapsed);
            self.began = Some(now);
        }
        let picture = meta.picture.unwrap_or_default();
        let layer = |id: Option<u8>, most| usize::from(id.unwrap_or_default()).min(most - 1);
        let spatial = layer(picture.spatial_id, MAX_SPATIAL);
        let temporal = layer(picture.temporal_id, MAX_TEMPORAL);
        let flow = &mut self.counted[spatial][temporal];
        if picture.starts_frame {
            flow.frames += 1.0;
        }
        if meta.codec.kind() == Kind::Video && meta.starts_decoding() {
            self.size = picture.size.or(self.size);
            self.key_frame = Some(meta.timestamp);
        }
        if !meta.is_void && self.key_frame != Some(meta.timestamp) {
            flow.bytes += (bytes + OVERHEAD) as f64;
        }
    }

    fn close(&mut self, elapsed: Duration) {
        let counted = std::mem::take(&mut self.counted);
        let known = self.smoothed.is_some();
        let smoothed = self.smoothed.get_or_insert_default();
        let seconds = elapsed.as_secs_f64();
        let all = |layers: &Layers| layers.iter().flatten().map(|f| f.bytes).sum::<f64>();
        let weight = match known {
            false => 1.0,
            true if all(&counted) / seconds < FELL * all(smoothed) => SMOOTHING_WHEN_FELL,
            true => SMOOTHING,
        };
        (self.spatial, self.temporal) = (0, 0);
        for (spatial, row) in counted.iter().enumerate() {
            for (temporal, flow) in row.iter().enumerate() {
                let place = &mut smoothed[spatial][temporal];
                place.bytes += weight * (flow.bytes / seconds - place.bytes);
                place.frames += weight * (flow.frames / seconds - place.frames);
                if flow.frames > 0.0 {
                    self.spatial = spatial;
                    self.temporal = self.temporal.max(temporal);
                }
            }
        }
    }

    /// Whether packets are coming.
    #[must_use]
    pub(crate) fn is_alive(&self, now: Instant) -> bool {
        let last = self.last;
        last.is_some_and(|last| now.saturating_duration_since(last) < ALIVE_FOR)
    }

    /// The highest spatial and temporal layer of late; none before it has been measured.
    #[must_use]
    pub(crate) fn highest(&self) -> Option<(u8, u8)> {
        self.smoothed?;
        Some((self.spatial as u8, self.temporal as u8))
    }

    /// Width and height of the largest picture, if the last key frame said.
    #[must_use]
    pub(crate) fn size(&self) -> Option<(u16, u16)> {
        self.size
    }

    /// What a layer takes, with all that it needs.
    #[must_use]
    pub(crate) fn measured(&self, spatial: u8, temporal: u8) -> Measured {
        let (spatial, temporal) = (usize::from(spatial), usize::from(temporal));
        let rows = self.smoothed.iter().flatten().take(spatial + 1);
        let bytes: f64 = rows
            .flat_map(|row| &row[..MAX_TEMPORAL.min(temporal + 1)])
            .map(|flow| flow.bytes)
            .sum();
        let top = self.smoothed.as_ref().and_then(|rows| rows.get(spatial));
        let frames: f64 = top
            .into_iter()
            .flat_map(|row| &row[..MAX_TEMPORAL.min(temporal + 1)])
            .map(|flow| flow.frames)
            .sum();
        Measured {
            bitrate: DataSize::bytes(bytes as u64).over(Duration::from_secs(1)),
            frame_rate: frames.round() as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::history::tests::video;
    use crate::types::EncodingIndex;

    const MS: Duration = Duration::from_millis(1);

    /// Frames of 1,000 bytes, 30 a second, in three temporal layers, and a key frame of 20,000 bytes
    /// each second.
    fn play(meter: &mut Meter, start: Instant, frames: std::ops::Range<u32>) -> Instant {
        let mut now = start;
        for frame in frames {
            now = start + frame * 100 * MS / 3;
            let is_key = frame % 30 == 0;
            let mut meta = video(EncodingIndex(0), 0, u64::from(frame), is_key);
            meta.timestamp = u64::from(frame) * 3000;
            if let Some(picture) = &mut meta.picture {
                picture.starts_frame = true;
                picture.temporal_id = Some([0, 2, 1, 2][frame as usize % 4]);
                picture.size = is_key.then_some((640, 360));
            }
            let packets = if is_key { 20 } else { 1 };
            for _ in 0..packets {
                meter.handle_packet(now, &meta, 1000 - OVERHEAD);
                // The rest of the frame's packets.
                if let Some(picture) = &mut meta.picture {
                    picture.starts_frame = false;
                    picture.key_frame = false;
                }
            }
        }
        now
    }

    #[test]
    fn layers_add_up_and_key_frames_do_not_count() {
        let start = Instant::now();
        let mut meter = Meter::default();
        assert_eq!(meter.highest(), None);
        let now = play(&mut meter, start, 0..300);
        assert!(meter.is_alive(now));
        assert_eq!(meter.highest(), Some((0, 2)));
        assert_eq!(meter.size(), Some((640, 360)));
        let kbps = |temporal| meter.measured(0, temporal).bitrate.as_bps() / 1000;
        let [base, middle, all] = [kbps(0), kbps(1), kbps(2)];
        assert!((45..65).contains(&base), "{base}");
        assert!((100..125).contains(&middle), "{middle}");
        assert!((220..240).contains(&all), "{all}");
        let frames = [0, 1, 2].map(|temporal| meter.measured(0, temporal).frame_rate);
        assert!(frames[0] == 7 || frames[0] == 8, "{frames:?}");
        assert_eq!(frames[1..], [15, 30]);
        // More than there is.
        assert_eq!(meter.measured(9, 9).bitrate, meter.measured(0, 2).bitrate);
        assert!(!meter.is_alive(now + ALIVE_FOR));
    }

    #[test]
    fn something_is_known_soon() {
        let start = Instant::now();
        let mut meter = Meter::default();
        play(&mut meter, start, 0..12);
        assert!(meter.highest().is_some());
        assert!(meter.measured(0, 2).bitrate > Bitrate::kbps(150));
    }

    #[test]
    fn a_silence_is_no_part_of_what_a_second_holds() {
        let start = Instant::now();
        let mut meter = Meter::default();
        play(&mut meter, start, 0..120);
        let before = meter.measured(0, 2);
        // Off for half a minute.
        play(&mut meter, start, 1000..1045);
        let after = meter.measured(0, 2);
        assert!(after.frame_rate >= 29, "{after:?}");
        assert!(
            after.bitrate.ratio(before.bitrate) > 0.9,
            "{after:?}, {before:?}"
        );
    }
}
