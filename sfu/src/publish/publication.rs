//! One track as its publisher sends it: an m-line with one encoding, or several in simulcast.
//!
//! In: RTP packets of the m-line after decryption. Out: the same packets, named and numbered, for
//! the track's feed; what to ask the publisher for; which encoding is the best one alive.

use std::time::{Duration, Instant};

use super::encoding::Encoding;
use super::history::PacketMeta;
use crate::media::{ExtensionMap, Kind, PayloadMap};
use crate::peer::sdp::{ReceiveSection, Section};
use crate::rtp::codec;
use crate::rtp::extension::HeaderExtensions;
use crate::rtp::packet::RtpHeader;
use crate::types::{Mid, Rid, Ssrc, TrackId};

/// How often the best encoding is chosen anew.
const CHOICE_INTERVAL: Duration = Duration::from_millis(250);

/// How much more an encoding must send than the one forwarded to be preferred. Layers of a
/// simulcast usually differ by a factor of three to four, noise in their rates by far less.
const BETTER_BY: f64 = 1.5;

/// Why a packet of a publication went no further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// Its payload type was not negotiated on the m-line.
    PayloadType,
    /// It repairs nothing that is missing.
    Unneeded,
    /// Its payload is not what its codec's payloads look like.
    Malformed,
}

impl Unusable {
    /// A label for counters.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Unusable::PayloadType => "rtp_payload_type",
            Unusable::Unneeded => "rtx_unneeded",
            Unusable::Malformed => "rtp_malformed_payload",
        }
    }
}

/// A published m-line.
#[derive(Debug)]
pub struct Publication {
    /// Its name.
    pub mid: Mid,
    /// Audio or video.
    pub kind: Kind,
    /// The track it is published as, if it is.
    pub track: Option<TrackId>,
    /// Nothing is forwarded.
    pub muted: bool,
    /// Its encodings, in the order they were negotiated.
    pub encodings: Vec<Encoding>,
    /// Which id each header extension has.
    pub extensions: ExtensionMap,
    payloads: Vec<PayloadMap>,
    best: u8,
    next_choice: Option<Instant>,
}

impl Publication {
    /// For an m-line as negotiated.
    #[must_use]
    pub fn new(section: &Section, receive: &ReceiveSection) -> Self {
        let encodings = if receive.rids.is_empty() {
            let (ssrc, rtx) = receive.ssrcs.first().copied().unzip();
            vec![Encoding::new(None, ssrc, rtx.flatten())]
        } else {
            let encoding = |(index, &rid): (usize, &Rid)| {
                let (ssrc, rtx) = receive.ssrcs.get(index).copied().unzip();
                Encoding::new(Some(rid), ssrc, rtx.flatten())
            };
            receive.rids.iter().enumerate().map(encoding).collect()
        };
        Publication {
            mid: section.mid,
            kind: section.kind,
            track: None,
            muted: false,
            encodings,
            extensions: receive.extensions,
            payloads: section.payloads.clone(),
            best: 0,
            next_choice: None,
        }
    }

    /// Takes over what another offer has changed.
    pub fn renegotiate(&mut self, section: &Section, receive: &ReceiveSection) {
        self.payloads.clone_from(&section.payloads);
        self.extensions = receive.extensions;
        let known: Vec<Option<Rid>> = self.encodings.iter().map(|e| e.rid).collect();
        let fresh = Publication::new(section, receive);
        if fresh.encodings.iter().map(|e| e.rid).ne(known) {
            self.encodings = fresh.encodings;
            self.best = 0;
        }
    }

    /// The payload a payload type stands for, and whether it is that of its retransmissions.
    #[must_use]
    pub fn payload(&self, payload_type: u8) -> Option<(PayloadMap, bool)> {
        self.payloads.iter().find_map(|map| {
            let is_rtx = map.rtx_payload_type == Some(payload_type);
            (is_rtx || map.payload_type == payload_type).then_some((*map, is_rtx))
        })
    }

    /// The encoding with a simulcast name, or the only one there is.
    #[must_use]
    pub fn encoding_named(&self, rid: Option<Rid>) -> Option<u8> {
        let index = match rid {
            Some(rid) => self.encodings.iter().position(|e| e.rid == Some(rid))?,
            None if self.encodings.len() == 1 => 0,
            None => return None,
        };
        u8::try_from(index).ok()
    }

    /// The encoding that retransmissions on an SSRC belong to, from the SDP.
    #[must_use]
    pub fn encoding_of_rtx(&self, ssrc: Ssrc) -> Option<u8> {
        let index = self
            .encodings
            .iter()
            .position(|e| e.rtx_ssrc == Some(ssrc))?;
        u8::try_from(index).ok()
    }

    /// Takes a packet of one encoding; `packet` is plaintext. Returns what the feed needs to know.
    ///
    /// # Errors
    /// When the packet can be of no use to a subscriber.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        encoding: u8,
        header: &RtpHeader,
        extensions: HeaderExtensions,
        packet: &[u8],
    ) -> Result<PacketMeta, Unusable> {
        let (map, is_rtx) = self
            .payload(header.payload_type)
            .ok_or(Unusable::PayloadType)?;
        let stream = self
            .encodings
            .get_mut(usize::from(encoding))
            .ok_or(Unusable::PayloadType)?;
        let mut payload = header.payload_range();
        let numbered = if is_rtx {
            let original = packet
                .get(payload.clone())
                .and_then(|p| p.first_chunk())
                .map(|b| u16::from_be_bytes(*b))
                // An empty retransmission is padding that probes for bandwidth.
                .ok_or(Unusable::Unneeded)?;
            payload.start += 2;
            stream
                .handle_repaired(now, original, header.timestamp, map.codec.clock_rate())
                .ok_or(Unusable::Unneeded)?
        } else {
            let clock_rate = map.codec.clock_rate();
            stream.handle_packet(
                now,
                header.sequence,
                header.timestamp,
                clock_rate,
                packet.len(),
            )
        };
        if numbered.needs_key_frame && self.kind == Kind::Video {
            stream.key_frames.wish(now);
        }
        let bytes = packet.get(payload.clone()).unwrap_or_default();
        let descriptor = extensions.dependency_descriptor.map(|span| span.of(packet));
        let picture = match map.codec.kind() {
            Kind::Audio => None,
            // Padding: it carries a number that receivers must see, but no picture.
            Kind::Video if bytes.is_empty() => None,
            Kind::Video => {
                Some(codec::inspect(map.codec, bytes, descriptor).ok_or(Unusable::Malformed)?)
            }
        };
        if picture.as_ref().is_some_and(|p| p.key_frame) {
            stream.key_frames.granted();
        }
        Ok(PacketMeta {
            encoding,
            epoch: numbered.epoch,
            sequence: numbered.sequence,
            timestamp: numbered.timestamp,
            marker: header.marker,
            codec: map.codec,
            arrival: numbered.due,
            picture,
            extensions,
            payload,
        })
    }

    /// The best encoding, if it is another one now.
    pub fn choose_best(&mut self, now: Instant) -> Option<u8> {
        if self.encodings.len() < 2 || self.next_choice.is_some_and(|at| now < at) {
            return None;
        }
        self.next_choice = Some(now + CHOICE_INTERVAL);
        let current = &self.encodings[usize::from(self.best)];
        let to_beat = if current.is_alive(now) {
            current.bitrate() as f64 * BETTER_BY
        } else {
            -1.0
        };
        let (index, _) = self
            .encodings
            .iter()
            .enumerate()
            .filter(|(_, e)| e.is_alive(now))
            .map(|(index, e)| (index, e.bitrate() as f64))
            .filter(|&(_, rate)| rate > to_beat)
            .max_by(|a, b| a.1.total_cmp(&b.1))?;
        let index = u8::try_from(index).ok()?;
        (index != self.best).then(|| {
            self.best = index;
            index
        })
    }

    /// The encoding to forward.
    #[must_use]
    pub fn best(&self) -> u8 {
        self.best
    }

    /// When something is to be asked of the publisher.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.encodings
            .iter()
            .flat_map(|e| [e.nack.next_deadline(), e.key_frames.next_deadline()])
            .flatten()
            .min()
    }

    /// Whether lost packets may be asked for again on an encoding.
    #[must_use]
    pub fn may_nack(&self) -> bool {
        self.payloads.iter().any(|p| p.nack)
    }
}
