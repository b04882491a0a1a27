//! A simulated camera or microphone with its encoder, and the streams it sends.
//!
//! In: time, and what the server asks for (packets again, key frames, other encodings). Out:
//! plaintext RTP packets.
#![allow(
    missing_docs,
    reason = "what has no line of its own is what its name says"
)]

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use confab_sfu::inside::rtp::extension::{AudioLevel, HeaderExtensions};
use confab_sfu::inside::rtp::packet::{HeaderFields, write_header};
use confab_sfu::media::{Extension, ExtensionMap, Kind};
use confab_sfu::types::{Mid, Rid, Ssrc};

use super::fec;
use super::media::{self, Descriptor, Size, Stamp};

/// Time between two packets of audio.
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);

/// Time between two pictures, at 30 frames per second.
const VIDEO_INTERVAL: Duration = Duration::from_nanos(33_333_333);

/// How much larger a key frame is.
const KEY_FRAME_FACTOR: u32 = 4;

/// Packets kept for retransmission: about what libwebrtc keeps.
const HISTORY: usize = 600;

/// A second request for a key frame within this time is not heard: libwebrtc's
/// `kMinKeyframeSendInterval`.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(300);

/// How loud audio says it is: as a voice, but one that never rises and falls.
const LEVEL: u8 = 30;

/// Bytes of the smallest inter frame under a limit: some 25 kbit/s.
const MIN_FRAME_LEN: u32 = 100;

/// Bytes of the largest packet.
const MAX_PACKET: usize = 1400;

/// One picture in a pattern of temporal layers.
#[derive(Clone, Copy, Debug)]
struct Step {
    temporal: u8,
    /// How many pictures before it the one is that it is predicted from.
    back: u8,
    is_sync: bool,
    /// Its size, in tenths of the mean.
    tenths: u32,
}

/// Without layers: each picture is predicted from the one before.
const FLAT: [Step; 1] = [Step::new(0, 1, false, 10)];

/// L1T3 of the W3C's scalability modes, as libwebrtc encodes VP8 in simulcast: 40, 20 and 40 percent
/// of the bits are in layers 0, 1 and 2.
const L1T3: [Step; 4] = [
    Step::new(0, 4, false, 16),
    Step::new(2, 1, true, 8),
    Step::new(1, 2, true, 8),
    Step::new(2, 1, false, 8),
];

impl Step {
    const fn new(temporal: u8, back: u8, is_sync: bool, tenths: u32) -> Self {
        Step {
            temporal,
            back,
            is_sync,
            tenths,
        }
    }
}

/// Where the numbers of a stream begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beginning {
    /// The first sequence number.
    pub sequence: u16,
    /// The RTP timestamp of the beginning of the call.
    pub timestamp: u32,
    /// The first picture id, 15 bits.
    pub picture_id: u16,
}

/// A plaintext packet on its way to encryption.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The packet, without transport-wide sequence number.
    pub fields: HeaderFields,
    /// How often the sequence number has wrapped.
    pub rollover: u32,
    pub extensions: HeaderExtensions,
    /// The m-line it says it belongs to.
    pub mid: Mid,
    /// Which ids those have.
    pub map: ExtensionMap,
    pub payload: Vec<u8>,
}

impl Outgoing {
    /// Writes the packet with a transport-wide sequence number; returns its length.
    ///
    /// # Panics
    /// When it does not fit, which would be a fault of the simulation.
    pub fn write(&self, transport_sequence: u16, buffer: &mut [u8]) -> usize {
        let extensions = HeaderExtensions {
            transport_sequence: Some(transport_sequence),
            ..self.extensions
        };
        let header = write_header(buffer, self.fields, |writer| {
            extensions.write(writer, &self.map, &[]);
            if let Some(id) = self.map.id(Extension::Mid) {
                writer.put(id, self.mid.as_bytes());
            }
        })
        .expect("room for the header");
        let end = header + self.payload.len();
        buffer[header..end].copy_from_slice(&self.payload);
        end
    }
}

/// What an encoding is like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub rid: Option<Rid>,
    pub ssrc: Ssrc,
    /// The SSRC of its retransmissions.
    pub rtx_ssrc: Option<Ssrc>,
    /// Bytes of an inter frame, on average.
    pub frame_len: u32,
    /// The size of its pictures.
    pub size: Size,
    /// Whether it has three temporal layers.
    pub is_layered: bool,
}

/// One encoding and its stream.
#[derive(Debug)]
pub struct Encoding {
    pub rid: Option<Rid>,
    pub ssrc: Ssrc,
    /// The SSRC of its retransmissions.
    pub rtx_ssrc: Option<Ssrc>,
    /// Whether its encoder can send it.
    pub is_alive: bool,
    /// Whether the server wants it: somebody receives it.
    pub is_wanted: bool,
    /// When the server asked for a key frame.
    pub key_frame_requests: Vec<Instant>,
    /// How many packets the server asked for again.
    pub packets_asked_for: u64,
    frame_len: u32,
    /// That without a limit.
    planned_len: u32,
    size: Size,
    pattern: &'static [Step],
    /// Pictures since the last key frame.
    since_key: usize,
    wants_key_frame: bool,
    sequence: u64,
    rtx_sequence: u64,
    picture_id: u16,
    tl0: u8,
    frames: u32,
    packets: u32,
    octets: u32,
    sent: HashMap<u16, Kept>,
    sent_order: VecDeque<u16>,
}

/// A packet kept for retransmission.
#[derive(Debug)]
struct Kept {
    packet: Outgoing,
    last_resent: Option<Instant>,
}

/// What a source has sent.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sent {
    /// Bytes of payload, retransmissions among them.
    pub bytes: u64,
    pub retransmitted_bytes: u64,
    /// Frames of the largest encoding, or packets of audio.
    pub frames: u64,
}

/// What a client publishes on one m-line.
#[derive(Debug)]
pub struct Source {
    /// Its name in what it records.
    pub id: u32,
    pub mid: Mid,
    pub kind: Kind,
    /// Its encodings, one unless in simulcast.
    pub encodings: Vec<Encoding>,
    /// The payload types of media and retransmissions.
    pub payload_types: (u8, Option<u8>),
    /// The ids of header extensions.
    pub map: ExtensionMap,
    /// How loud it says its audio is (RFC 6464: 0 is the loudest, 127 silence).
    pub level: u8,
    /// RED and ULPFEC were negotiated.
    pub has_fec: bool,
    /// The share of its packets that the server last said it had lost.
    pub loss: f64,
    /// What it has sent so far.
    pub sent: Sent,
    beginning: Beginning,
    next: Option<Instant>,
}

impl Source {
    /// A source that is not being recorded yet.
    #[must_use]
    pub fn new(id: u32, mid: Mid, kind: Kind, plans: &[Plan], beginning: Beginning) -> Self {
        let encodings = plans
            .iter()
            .map(|plan| Encoding {
                rid: plan.rid,
                ssrc: plan.ssrc,
                rtx_ssrc: plan.rtx_ssrc,
                is_alive: true,
                is_wanted: true,
                key_frame_requests: Vec::new(),
                packets_asked_for: 0,
                frame_len: plan.frame_len,
                planned_len: plan.frame_len,
                size: plan.size,
                pattern: if plan.is_layered { &L1T3 } else { &FLAT },
                since_key: 0,
                wants_key_frame: true,
                sequence: u64::from(beginning.sequence),
                rtx_sequence: u64::from(beginning.sequence / 2),
                picture_id: beginning.picture_id,
                tl0: 0,
                frames: 0,
                packets: 0,
                octets: 0,
                sent: HashMap::new(),
                sent_order: VecDeque::new(),
            })
            .collect();
        Source {
            id,
            mid,
            kind,
            encodings,
            payload_types: (0, None),
            map: ExtensionMap::default(),
            level: LEVEL,
            has_fec: false,
            loss: 0.0,
            sent: Sent::default(),
            beginning,
            next: None,
        }
    }

    pub fn start(&mut self, now: Instant) {
        self.next.get_or_insert(now);
    }

    /// Stops recording. Decoders need a key frame when it goes on.
    pub fn stop(&mut self) {
        self.next = None;
        self.encodings
            .iter_mut()
            .for_each(|e| e.wants_key_frame = true);
    }

    /// When there is something to record.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// The RTP timestamp of an instant.
    #[must_use]
    pub fn timestamp(&self, since_beginning: Duration) -> u32 {
        let clock_rate = match self.kind {
            Kind::Audio => 48_000,
            Kind::Video => 90_000,
        };
        let ticks = since_beginning.as_nanos() * clock_rate / 1_000_000_000;
        self.beginning.timestamp.wrapping_add(ticks as u32)
    }

    /// Records and encodes what is due.
    pub fn handle_timeout(&mut self, now: Instant, epoch: Instant, out: &mut Vec<Outgoing>) {
        while let Some(at) = self.next.filter(|&at| at <= now) {
            let interval = match self.kind {
                Kind::Audio => AUDIO_INTERVAL,
                Kind::Video => VIDEO_INTERVAL,
            };
            self.next = Some(at + interval);
            for index in 0..self.encodings.len() {
                if self.encodings[index].is_sent() {
                    let is_largest = index + 1 == self.encodings.len();
                    self.sent.frames += u64::from(is_largest);
                    self.record(index, at - epoch, out);
                }
            }
        }
    }

    fn record(&mut self, index: usize, at: Duration, out: &mut Vec<Outgoing>) {
        let timestamp = self.timestamp(at);
        let (kind, payload_type, map, mid) = (self.kind, self.payload_types.0, self.map, self.mid);
        let encoding = &mut self.encodings[index];
        let is_key = std::mem::take(&mut encoding.wants_key_frame);
        encoding.since_key = if is_key { 0 } else { encoding.since_key + 1 };
        let step = encoding.pattern[encoding.since_key % encoding.pattern.len()];
        let stamp = Stamp {
            source: self.id,
            encoding: index as u8,
            number: encoding.frames,
            captured: at.as_micros() as u64,
            len: match is_key {
                true => encoding.frame_len * KEY_FRAME_FACTOR,
                false => encoding.frame_len * step.tenths / 10,
            },
            back: if is_key { 0 } else { step.back },
        };
        encoding.tl0 = encoding.tl0.wrapping_add(u8::from(step.temporal == 0));
        let payloads = match kind {
            Kind::Audio => vec![media::audio(stamp)],
            Kind::Video => media::packetize(
                &media::video(stamp, is_key.then_some(encoding.size)),
                Descriptor {
                    starts_frame: true,
                    picture_id: encoding.picture_id,
                    tl0_picture_index: encoding.tl0,
                    temporal: step.temporal,
                    is_sync: step.is_sync,
                },
            ),
        };
        encoding.frames += 1;
        encoding.picture_id = (encoding.picture_id + 1) & 0x7fff;
        let last = payloads.len() - 1;
        let mut packets = Vec::new();
        for (n, payload) in payloads.into_iter().enumerate() {
            let packet = Outgoing {
                fields: HeaderFields {
                    marker: kind == Kind::Video && n == last,
                    payload_type,
                    sequence: encoding.sequence as u16,
                    timestamp,
                    ssrc: encoding.ssrc,
                },
                rollover: (encoding.sequence >> 16) as u32,
                mid,
                extensions: HeaderExtensions {
                    rid: encoding.rid,
                    audio_level: (kind == Kind::Audio).then_some(AudioLevel {
                        voice: true,
                        level: self.level,
                    }),
                    ..HeaderExtensions::default()
                },
                map,
                payload,
            };
            encoding.sequence += 1;
            encoding.packets += 1;
            encoding.octets += packet.payload.len() as u32;
            self.sent.bytes += packet.payload.len() as u64;
            encoding.remember(packet.clone());
            packets.push(packet);
        }
        if self.has_fec {
            encoding.sequence += fec::protect(&mut packets, self.loss);
        }
        out.append(&mut packets);
    }

    /// Answers a NACK; not twice within a round trip, as libwebrtc.
    pub fn resend(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        lost: &[u16],
        round_trip: Duration,
        out: &mut Vec<Outgoing>,
    ) {
        let Some(encoding) = self.encodings.iter_mut().find(|e| e.ssrc == ssrc) else {
            return;
        };
        encoding.packets_asked_for += lost.len() as u64;
        let Some((rtx_ssrc, payload_type)) = encoding.rtx_ssrc.zip(self.payload_types.1) else {
            return;
        };
        for number in lost {
            let Some(kept) = encoding.sent.get_mut(number) else {
                continue;
            };
            if kept.last_resent.is_some_and(|at| now < at + round_trip) {
                continue;
            }
            kept.last_resent = Some(now);
            let mut packet = kept.packet.clone();
            packet.payload.splice(0..0, number.to_be_bytes());
            packet.fields.ssrc = rtx_ssrc;
            packet.fields.payload_type = payload_type;
            packet.fields.sequence = encoding.rtx_sequence as u16;
            packet.rollover = (encoding.rtx_sequence >> 16) as u32;
            packet.extensions.repaired_rid = packet.extensions.rid.take();
            encoding.rtx_sequence += 1;
            self.sent.bytes += packet.payload.len() as u64;
            self.sent.retransmitted_bytes += packet.payload.len() as u64;
            out.push(packet);
        }
    }

    /// Answers a PLI or FIR.
    pub fn key_frame_wanted(&mut self, now: Instant, ssrc: Ssrc) {
        if let Some(encoding) = self.encodings.iter_mut().find(|e| e.ssrc == ssrc) {
            let last = encoding.key_frame_requests.last();
            if last.is_none_or(|&last| now >= last + KEY_FRAME_INTERVAL) {
                encoding.wants_key_frame = true;
            }
            encoding.key_frame_requests.push(now);
        }
    }

    /// Encodes at no more than so many bits a second, if it is in one encoding.
    pub fn limit(&mut self, most: f64) {
        if let [encoding] = &mut self.encodings[..] {
            let len = most / 8.0 * VIDEO_INTERVAL.as_secs_f64();
            encoding.frame_len = encoding.planned_len.min(len as u32).max(MIN_FRAME_LEN);
        }
    }

    /// What the encoders aim at together, in bits a second.
    #[must_use]
    pub fn target_bitrate(&self) -> f64 {
        let (interval, lens): (Duration, u32) = match self.kind {
            Kind::Audio => (AUDIO_INTERVAL, media::AUDIO_LEN),
            Kind::Video => {
                let live = self.encodings.iter().filter(|e| e.is_sent());
                (VIDEO_INTERVAL, live.map(|e| e.frame_len).sum())
            }
        };
        f64::from(lens * 8) / interval.as_secs_f64()
    }

    /// Packets and bytes for a sender report of each live encoding.
    pub fn reports(&self) -> impl Iterator<Item = (Ssrc, u32, u32)> + '_ {
        let live = self
            .encodings
            .iter()
            .filter(|e| e.packets > 0 && e.is_sent());
        live.map(|e| (e.ssrc, e.packets, e.octets))
    }
}

impl Encoding {
    /// Whether it is being sent.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.is_alive && self.is_wanted
    }

    /// Sets whether anybody receives it. What comes back begins with a key frame.
    pub fn set_wanted(&mut self, is_wanted: bool) {
        self.wants_key_frame |= is_wanted && !self.is_wanted;
        self.is_wanted = is_wanted;
    }

    /// Sends it again after a pause; decoders need a key frame then.
    pub fn revive(&mut self) {
        self.is_alive = true;
        self.wants_key_frame = true;
    }

    fn remember(&mut self, packet: Outgoing) {
        let number = packet.fields.sequence;
        let kept = Kept {
            packet,
            last_resent: None,
        };
        self.sent.insert(number, kept);
        self.sent_order.push_back(number);
        if self.sent_order.len() > HISTORY
            && let Some(oldest) = self.sent_order.pop_front()
        {
            self.sent.remove(&oldest);
        }
    }
}

/// A buffer for one packet with its encryption's trailer.
#[must_use]
pub fn packet_buffer() -> [u8; MAX_PACKET] {
    [0; MAX_PACKET]
}
