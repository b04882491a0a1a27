//! What a publication makes of each packet: plain media with extended numbers.
//!
//! In: RTP packets of the m-line after decryption, as the publisher wraps them: RTX, RED with old
//! audio or ULPFEC in it, FlexFEC. Out: the packets it meant, named and numbered, for the track's
//! feed: the one that came, those that redundancy or repair packets gave back, and the numbers that
//! were spent on repair, or on what nothing can be made of, and hold nothing. From here on nobody needs
//! to know how they came.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use super::encoding::Numbered;
use super::history::PacketMeta;
use super::publication::{Format, Publication};
use super::redundancy::{Position, positions};
use super::unwrap::strip;
use crate::api::DropReason;
use crate::media::{Codec, Kind, PayloadMap};
use crate::rtp::codec;
use crate::rtp::extension::{HeaderExtensions, clear_mutable};
use crate::rtp::fec::{flexfec, ulpfec};
use crate::rtp::packet::{FIXED_HEADER_LEN, HeaderFields, RtpHeader, write_header};
use crate::rtp::red::{self, Block};
use crate::types::{EncodingIndex, Ssrc};

/// The clock of repair packets, which there only are of video.
const VIDEO_CLOCK: u32 = 90_000;

/// Bytes of the original sequence number in a retransmission (RFC 4588 section 4).
const ORIGINAL_LEN: usize = 2;

/// Why a packet of a publication went no further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unusable {
    /// Its payload type was not negotiated on the m-line, or does not go with the audio there.
    PayloadType,
    /// It repairs nothing that is missing.
    Unneeded,
    /// Its payload is not what its payload type's payloads look like.
    Malformed,
}

impl Unusable {
    /// As what it is counted.
    #[must_use]
    pub(crate) fn reason(self) -> DropReason {
        match self {
            Unusable::PayloadType => DropReason::RtpPayloadType,
            Unusable::Unneeded => DropReason::RtxUnneeded,
            Unusable::Malformed => DropReason::RtpMalformedPayload,
        }
    }
}

/// Packets that did not come as they are, in their order.
#[derive(Debug, Default)]
pub(super) struct Repaired {
    queue: VecDeque<(PacketMeta, Range<usize>)>,
    /// Kept until the queue is empty, so that it is reused.
    bytes: Vec<u8>,
}

impl Repaired {
    fn push(&mut self, meta: PacketMeta, packet: &[u8]) {
        if self.queue.is_empty() {
            self.bytes.clear();
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packet);
        self.queue.push_back((meta, start..self.bytes.len()));
    }

    fn poll(&mut self) -> Option<(PacketMeta, &[u8])> {
        let (meta, range) = self.queue.pop_front()?;
        Some((meta, self.bytes.get(range)?))
    }
}

/// What is inside a packet.
#[derive(Clone, Copy, Debug)]
struct Content {
    format: Format,
    payload_type: u8,
    /// What stands before it in the payload, bytes.
    wrapping: usize,
    /// The number it was sent with first, in a retransmission.
    original: Option<u16>,
}

impl Publication {
    /// Takes a packet of one encoding; `packet` is in the clear, and is brought into its plain form in
    /// place. Gives `take` what comes of it, each with what the feed needs to know: first what it has shown of
    /// others, packets recovered and numbers without media; then the packet itself, unless it only helps
    /// others.
    ///
    /// # Errors
    /// When the packet can be of no use to a subscriber. If it has spent a number of the media, `take` hears
    /// that nothing is under it.
    pub(crate) fn handle_rtp(
        &mut self,
        now: Instant,
        encoding: EncodingIndex,
        header: RtpHeader,
        extensions: HeaderExtensions,
        packet: &mut [u8],
        mut take: impl FnMut(PacketMeta, &[u8]),
    ) -> Result<(), Unusable> {
        let own = self.unwrap(now, encoding, header, extensions, packet);
        while let Some((meta, packet)) = self.repaired.poll() {
            take(meta, packet);
        }
        if let Some((meta, packet)) = own? {
            take(meta, packet);
        }
        Ok(())
    }

    /// Makes of a packet what it is itself, and puts what it shows of others where they are taken from.
    fn unwrap<'p>(
        &mut self,
        now: Instant,
        encoding: EncodingIndex,
        mut header: RtpHeader,
        extensions: HeaderExtensions,
        packet: &'p mut [u8],
    ) -> Result<Option<(PacketMeta, &'p [u8])>, Unusable> {
        let content = match self.look_inside(encoding, &header, header.payload(packet)) {
            Ok(content) => content,
            Err(unusable) => {
                self.handle_unusable(now, encoding, &header, packet.len());
                return Err(unusable);
            }
        };
        let clock_rate = match content.format {
            Format::Flexfec => {
                self.handle_flexfec(now, encoding, header.payload(packet))?;
                return Ok(None);
            }
            Format::Media(map) => map.codec.clock_rate(),
            _ => VIDEO_CLOCK,
        };
        let stream = self
            .encodings
            .get_mut(usize::from(encoding))
            .ok_or(Unusable::PayloadType)?;
        let before = stream.newest();
        let numbered = match content.original {
            Some(original) => stream
                .handle_repaired(now, original, header.timestamp, clock_rate)
                .inspect(|_| self.repaired_by.rtx += 1)
                .ok_or(Unusable::Unneeded)?,
            None => {
                let (number, timestamp) = (header.sequence, header.timestamp);
                if let Format::Media(PayloadMap { codec, .. }) = content.format
                    && codec.stands_alone()
                {
                    stream.set_codec(codec, number);
                }
                stream.handle_packet(now, number, timestamp, clock_rate, packet.len())
            }
        };
        if numbered.needs_key_frame && self.kind == Kind::Video {
            stream.key_frames.request(now);
        }
        let Format::Media(map) = content.format else {
            // ULPFEC, or padding in RED: a number without media.
            let payload = header.payload(packet).get(content.wrapping..);
            self.handle_ulpfec(now, encoding, &numbered, payload.unwrap_or_default());
            return Ok(Some((self.void(encoding, &numbered), &[])));
        };
        if self.kind == Kind::Audio
            && content.wrapping > 0
            && content.original.is_none()
            && let Some(before) = before
        {
            let after = numbered.position();
            let ssrc = header.ssrc;
            self.use_redundancy(
                now,
                encoding,
                map,
                [before, after],
                ssrc,
                header.payload(packet),
            );
        }
        let Some(packet) = strip(packet, &mut header, content.wrapping, content.payload_type)
        else {
            self.leave_empty(encoding, &numbered);
            return Err(Unusable::Malformed);
        };
        // What was sent again may carry other header extensions than what was protected.
        let stream = self.encodings.get_mut(usize::from(encoding));
        let stream = stream.ok_or(Unusable::PayloadType)?;
        if content.original.is_none()
            && let Some(kept) = stream.repairer.handle_media(numbered.sequence, packet)
        {
            clear_mutable(kept, &header, &self.extensions);
            self.recover(now, encoding);
        }
        let packet: &[u8] = packet;
        let described = self.describe(encoding, map, &numbered, &header, extensions, packet);
        match &described {
            Ok(meta) => self.find_voids(now, meta),
            Err(_) => self.leave_empty(encoding, &numbered),
        }
        described.map(|meta| Some((meta, packet)))
    }

    /// Notes a packet that nothing can be made of. If it is one of the media's numbers, that is neither
    /// missing, nor will anything come under it.
    fn handle_unusable(
        &mut self,
        now: Instant,
        encoding: EncodingIndex,
        header: &RtpHeader,
        bytes: usize,
    ) {
        let stream = self.encodings.get_mut(usize::from(encoding));
        let Some(stream) = stream.filter(|stream| stream.ssrc == Some(header.ssrc)) else {
            return;
        };
        let numbered = stream.handle_unusable(now, header.sequence, bytes);
        if numbered.needs_key_frame && self.kind == Kind::Video {
            stream.key_frames.request(now);
        }
        self.leave_empty(encoding, &numbered);
    }

    /// Tells the subscribers that nothing will come under a number.
    fn leave_empty(&mut self, encoding: EncodingIndex, numbered: &Numbered) {
        let Some(stream) = self.encodings.get_mut(usize::from(encoding)) else {
            return;
        };
        stream.pictures.handle_void(numbered.sequence);
        let void = self.void(encoding, numbered);
        self.repaired.push(void, &[]);
    }

    /// Looks through RTX and RED at what a payload is about.
    fn look_inside(
        &self,
        encoding: EncodingIndex,
        header: &RtpHeader,
        payload: &[u8],
    ) -> Result<Content, Unusable> {
        let stream = self.encodings.get(usize::from(encoding));
        let is_of_media = stream.is_some_and(|stream| stream.ssrc == Some(header.ssrc));
        let payload_type = header.payload_type;
        let format_of = |payload_type| self.format(payload_type).ok_or(Unusable::PayloadType);
        let mut content = Content {
            format: format_of(payload_type)?,
            payload_type,
            wrapping: 0,
            original: None,
        };
        // Both have an SSRC of their own.
        let is_foreign = matches!(content.format, Format::Retransmission(_) | Format::Flexfec);
        if is_foreign && is_of_media {
            return Err(Unusable::PayloadType);
        }
        if let Format::Retransmission(repaired) = content.format {
            // An empty retransmission is padding that probes for bandwidth.
            let number = payload.first_chunk::<ORIGINAL_LEN>();
            let number = number.ok_or(Unusable::Unneeded)?;
            content = Content {
                format: format_of(repaired)?,
                payload_type: repaired,
                wrapping: ORIGINAL_LEN,
                original: Some(u16::from_be_bytes(*number)),
            };
        }
        let payload = payload.get(content.wrapping..).unwrap_or_default();
        if content.format == Format::Red && !payload.is_empty() {
            let blocks = red::parse(payload).map_err(|_| Unusable::Malformed)?;
            let own = blocks.last().ok_or(Unusable::Malformed)?;
            content.format = format_of(own.payload_type)?;
            content.payload_type = own.payload_type;
            content.wrapping += payload.len() - own.data.len();
            if !matches!(content.format, Format::Media(_) | Format::Ulpfec) {
                return Err(Unusable::Malformed);
            }
        }
        match content.format {
            // What goes with audio has its timestamps (RFC 4733 section 2.1), or they mean nothing.
            Format::Media(map) if !map.codec.stands_alone() => {
                let sound = stream.and_then(|stream| stream.codec);
                let has_clock = sound.is_some_and(|s| s.clock_rate() == map.codec.clock_rate());
                has_clock.then_some(content).ok_or(Unusable::PayloadType)
            }
            _ => Ok(content),
        }
    }

    /// Takes a packet under whose number there is no media, whether or not it repairs.
    fn handle_ulpfec(
        &mut self,
        now: Instant,
        encoding: EncodingIndex,
        numbered: &Numbered,
        payload: &[u8],
    ) {
        let Some(stream) = self.encodings.get_mut(usize::from(encoding)) else {
            return;
        };
        stream.pictures.handle_void(numbered.sequence);
        if let Ok(repair) = ulpfec::parse(payload) {
            stream.repairer.handle_repair(numbered.sequence, &repair);
            self.recover(now, encoding);
        }
    }

    /// Takes a repair packet that has an SSRC of its own.
    fn handle_flexfec(
        &mut self,
        now: Instant,
        encoding: EncodingIndex,
        payload: &[u8],
    ) -> Result<(), Unusable> {
        let repair = flexfec::parse(payload).map_err(|_| Unusable::Malformed)?;
        let stream = self.encodings.get_mut(usize::from(encoding));
        let stream = stream.filter(|s| s.ssrc == repair.ssrc);
        let stream = stream.ok_or(Unusable::Unneeded)?;
        let newest = stream.newest_sequence().ok_or(Unusable::Unneeded)?;
        stream.repairer.handle_repair(newest, &repair);
        self.recover(now, encoding);
        Ok(())
    }

    /// Takes the audio that a packet repeats and that is missing before it.
    fn use_redundancy(
        &mut self,
        now: Instant,
        encoding: EncodingIndex,
        map: PayloadMap,
        [before, after]: [Position; 2],
        ssrc: Ssrc,
        payload: &[u8],
    ) {
        let Ok(blocks) = red::parse(payload) else {
            return;
        };
        let is_same = |block: &Block<'_>| block.payload_type == map.payload_type;
        let old = blocks.filter(|block| is_same(block) && block.offset > 0);
        for (position, data) in positions(before, after, old) {
            let Some(stream) = self.encodings.get_mut(usize::from(encoding)) else {
                return;
            };
            let timestamp = position.timestamp as u32;
            let rate = map.codec.clock_rate();
            let recovered = stream.handle_recovered(now, position.sequence, timestamp, rate);
            let Some(numbered) = recovered else {
                continue;
            };
            // The longest block and its header.
            let mut packet = [0; FIXED_HEADER_LEN + red::MAX_BLOCK_LEN];
            let fields = HeaderFields {
                marker: false,
                payload_type: map.payload_type,
                sequence: position.sequence.wire(),
                timestamp,
                ssrc,
            };
            let Ok(start) = write_header(&mut packet, fields, |_| ()) else {
                continue;
            };
            let len = start + data.len();
            let Some(packet) = packet.get_mut(..len) else {
                continue;
            };
            if let Some(place) = packet.get_mut(start..) {
                place.copy_from_slice(data);
            }
            let packet = &*packet;
            let described = RtpHeader::parse(packet).ok().and_then(|header| {
                let extensions = HeaderExtensions::default();
                self.describe(encoding, map, &numbered, &header, extensions, packet)
                    .ok()
            });
            if let Some(meta) = described {
                self.repaired_by.red += 1;
                self.repaired.push(meta, packet);
            }
        }
    }

    /// What the feed needs to know of a plain media packet.
    fn describe(
        &mut self,
        encoding: EncodingIndex,
        map: PayloadMap,
        numbered: &Numbered,
        header: &RtpHeader,
        extensions: HeaderExtensions,
        packet: &[u8],
    ) -> Result<PacketMeta, Unusable> {
        let payload = header.payload_range();
        let bytes = packet.get(payload.clone()).unwrap_or_default();
        let stream = self.encodings.get_mut(usize::from(encoding));
        let stream = stream.ok_or(Unusable::PayloadType)?;
        let frame = extensions
            .dependency_descriptor
            .and_then(|span| stream.dependencies.read(numbered.sequence, span.of(packet)));
        let picture = match map.codec.kind() {
            Kind::Audio => None,
            // Padding: it carries a number that receivers must see, but no picture.
            Kind::Video if bytes.is_empty() => None,
            Kind::Video => {
                let picture = codec::inspect(map.codec, bytes, frame.as_ref());
                let mut picture = picture.ok_or(Unusable::Malformed)?;
                // What several packets of one frame say, only the first means.
                let says_often = map.codec.starts_frames_often();
                if frame.is_none() && says_often && picture.starts_frame {
                    picture.starts_frame =
                        stream.starts_frame(numbered.timestamp, picture.key_frame);
                }
                Some(picture)
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
            is_void: false,
        })
    }

    /// What the feed needs to know of a number without media.
    fn void(&self, encoding: EncodingIndex, numbered: &Numbered) -> PacketMeta {
        let streams = self.encodings.get(usize::from(encoding));
        let first = || self.payloads.first().map(|map| map.codec);
        let codec = streams.and_then(|stream| stream.codec).or_else(first);
        PacketMeta {
            encoding,
            epoch: numbered.epoch,
            sequence: numbered.sequence,
            timestamp: numbered.timestamp,
            marker: false,
            codec: codec.unwrap_or(Codec::Vp8),
            arrival: numbered.due,
            picture: None,
            extensions: HeaderExtensions::default(),
            payload: 0..0,
            is_void: true,
        }
    }

    /// Takes what repair packets have given back.
    fn recover(&mut self, now: Instant, encoding: EncodingIndex) {
        let index = usize::from(encoding);
        let Some(stream) = self.encodings.get_mut(index) else {
            return;
        };
        // Lent out, so that the packets in it can be looked at.
        let mut repairer = std::mem::take(&mut stream.repairer);
        let ssrc = stream.ssrc.unwrap_or(Ssrc(0));
        while let Some((sequence, packet)) = repairer.poll_recovered(ssrc) {
            let Ok(header) = RtpHeader::parse(packet) else {
                continue;
            };
            let Some(Format::Media(map)) = self.format(header.payload_type) else {
                continue;
            };
            let extensions = HeaderExtensions::parse(packet, &header, &self.extensions);
            let rate = map.codec.clock_rate();
            let Some(stream) = self.encodings.get_mut(index) else {
                break;
            };
            let numbered = stream.handle_recovered(now, sequence, header.timestamp, rate);
            let meta = numbered.and_then(|numbered| {
                self.describe(encoding, map, &numbered, &header, extensions, packet)
                    .ok()
            });
            if let Some(meta) = meta {
                self.repaired_by.fec += 1;
                self.find_voids(now, &meta);
                self.repaired.push(meta, packet);
            }
        }
        if let Some(stream) = self.encodings.get_mut(index) {
            stream.repairer = repairer;
        }
    }

    /// Finds out that what is missing was repair between two pictures: nothing is lost then, and nothing to
    /// be asked for.
    fn find_voids(&mut self, now: Instant, meta: &PacketMeta) {
        let (Some(picture), Some(_)) = (&meta.picture, self.repair.ulpfec) else {
            return;
        };
        let own = meta.encoding;
        let is_news = self.frames.handle_media(own, picture);
        if let Some(stream) = self.encodings.get_mut(usize::from(own)) {
            let pictures = &mut stream.pictures;
            pictures.handle_media(meta.sequence, meta.marker, picture);
        }
        for encoding in EncodingIndex::all().take(self.encodings.len()) {
            if is_news || encoding == own {
                self.leave_out_voids(now, encoding);
            }
        }
    }

    /// Tells the subscribers what of an encoding nobody needs to wait for.
    fn leave_out_voids(&mut self, now: Instant, encoding: EncodingIndex) {
        let Some(stream) = self.encodings.get(usize::from(encoding)) else {
            return;
        };
        let mut voids = std::mem::take(&mut self.voids_found);
        let missing = stream.nack.missing_numbers();
        voids.extend(stream.pictures.voids(missing, encoding, &self.frames));
        for sequence in voids.drain(..) {
            let stream = self.encodings.get_mut(usize::from(encoding));
            if let Some(numbered) = stream.and_then(|stream| stream.handle_void(now, sequence)) {
                let void = self.void(encoding, &numbered);
                self.repaired.push(void, &[]);
            }
        }
        self.voids_found = voids;
    }
}

#[cfg(test)]
mod tests;
