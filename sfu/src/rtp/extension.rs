//! RTP header extensions (RFC 8285): the elements, and what each we understand says.
//!
//! In: a packet, its parsed header and the negotiated [`ExtensionMap`]. Out: [`HeaderExtensions`],
//! copyable and typed. [`HeaderExtensions::write`] goes the other way through an
//! [`ExtensionWriter`], with another connection's map.

use std::ops::Range;
use std::time::Duration;

use super::packet::{ONE_BYTE_PROFILE, RtpHeader, TWO_BYTE_PROFILE};
use crate::media::{Extension, ExtensionMap};
use crate::types::Rid;

/// Bytes before the elements: profile and length (RFC 3550 section 5.3.1).
const PREAMBLE_LEN: usize = 4;

/// Highest id of a one-byte element; 15 is reserved (RFC 8285 section 4.2).
const MAX_ONE_BYTE_ID: u8 = 14;

/// Most data of a one-byte element, bytes (RFC 8285 section 4.2).
const MAX_ONE_BYTE_LEN: usize = 16;

/// Absolute send time is 6.18 fixed-point seconds: 24 bits, wrapping after 64 seconds.
const ABS_SEND_TIME_BITS: u32 = 24;
const ABS_SEND_TIME_FRACTION_BITS: u32 = 18;

/// Ticks of the absolute send time in a second.
pub const ABS_SEND_TIME_TICKS: u64 = 1 << ABS_SEND_TIME_FRACTION_BITS;

/// One step of a playout delay limit, milliseconds.
const PLAYOUT_DELAY_STEP_MS: u16 = 10;

/// The header extension elements of a packet in order. Stops at the first that does not fit.
///
/// Each costs at least one byte of the packet, so their number is bounded by its length.
pub fn elements<'a>(packet: &'a [u8], header: &RtpHeader) -> Elements<'a> {
    let (form, rest) = match header.extensions {
        Some(block) => (
            Form::of(block.profile),
            packet.get(block.range()).unwrap_or_default(),
        ),
        None => (None, &[][..]),
    };
    Elements {
        rest: if form.is_some() { rest } else { &[] },
        two_byte: form == Some(Form::TwoByte),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
}

impl Form {
    fn of(profile: u16) -> Option<Form> {
        match profile {
            ONE_BYTE_PROFILE => Some(Form::OneByte),
            // The low four bits are the application's (RFC 8285 section 4.3).
            _ if profile & 0xfff0 == TWO_BYTE_PROFILE => Some(Form::TwoByte),
            _ => None,
        }
    }
}

/// See [`elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
    two_byte: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // A zero byte is padding in both forms.
        let padding = self.rest.iter().take_while(|&&b| b == 0).count();
        let rest = std::mem::take(&mut self.rest).get(padding..)?;
        let (id, len, data) = match *rest {
            [id, len, ref data @ ..] if self.two_byte => (id, usize::from(len), data),
            [head, ref data @ ..] if !self.two_byte && head >> 4 <= MAX_ONE_BYTE_ID => {
                (head >> 4, usize::from(head & 0x0f) + 1, data)
            }
            _ => return None,
        };
        let (value, rest) = data.split_at_checked(len)?;
        self.rest = rest;
        Some((id, value))
    }
}

/// Where the timing of a frame begins to be filled in last: with the time at which it leaves the pacer.
/// What goes before is known when repair packets are computed (libwebrtc's
/// `VideoTimingExtension::kPacerExitDeltaOffset`).
const TIMING_FILLED_LAST: usize = 7;

/// Sets to zero what a sender fills in last, after it has computed repair packets: the
/// transport-wide sequence number, the absolute send time, the transmission offset and the end of the
/// timing of a frame. As libwebrtc does (`RtpPacket::ZeroMutableExtensions`) on both sides of ULPFEC and
/// FlexFEC: a byte more or less, and what is recovered is not what was sent.
pub fn clear_mutable(packet: &mut [u8], header: &RtpHeader, map: &ExtensionMap) {
    set_mutable(packet, header, map, 0, 0);
}

/// Fills in what a sender fills in last: the transport-wide sequence number, and the absolute send
/// time in 24 bits, where the packet has a place for them. What else it would, is zero.
pub fn set_mutable(
    packet: &mut [u8],
    header: &RtpHeader,
    map: &ExtensionMap,
    transport_sequence: u16,
    abs_send_time: u32,
) {
    let Some(block) = header.extensions else {
        return;
    };
    let mut spans = [const { None }; 4];
    let mut all = elements(packet, header);
    while let Some((id, data)) = all.next() {
        let end = block.range().end - all.rest.len();
        match map.extension(id) {
            Some(Extension::TransportSequence) => spans[0] = Some(end - data.len()..end),
            Some(Extension::AbsSendTime) => spans[1] = Some(end - data.len()..end),
            Some(Extension::TransmissionOffset) => spans[2] = Some(end - data.len()..end),
            Some(Extension::VideoTiming) => {
                let last = data.get(TIMING_FILLED_LAST..).unwrap_or_default();
                spans[3] = Some(end - last.len()..end);
            }
            _ => {}
        }
    }
    let [_, send_time @ ..] = abs_send_time.to_be_bytes();
    let values: [&[u8]; 4] = [&transport_sequence.to_be_bytes(), &send_time, &[], &[]];
    for (span, value) in spans.into_iter().zip(values) {
        // A publisher may have sent another length than the one that is written here.
        let place = span.and_then(|span| packet.get_mut(span));
        if let Some(place) = place {
            place.fill(0);
            if place.len() == value.len() {
                place.copy_from_slice(value);
            }
        }
    }
}

/// A piece of the packet it was found in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    start: u16,
    len: u8,
}

impl Span {
    /// The piece. Empty when `packet` is not the one this was found in and is shorter.
    #[must_use]
    pub fn of(self, packet: &[u8]) -> &[u8] {
        let start = usize::from(self.start);
        packet
            .get(start..start + usize::from(self.len))
            .unwrap_or_default()
    }
}

/// How loud the audio in a packet is (RFC 6464).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AudioLevel {
    /// Attenuation, 0 (loudest) to 127 (silence), in -dBov.
    pub level: u8,
    /// The sender thinks it is speech.
    pub voice: bool,
}

impl AudioLevel {
    fn parse(data: &[u8]) -> Option<Self> {
        data.first().map(|&byte| AudioLevel {
            level: byte & 0x7f,
            voice: byte & 0x80 != 0,
        })
    }

    fn encode(self) -> [u8; 1] {
        [u8::from(self.voice) << 7 | self.level.min(0x7f)]
    }
}

/// Bounds on how long a receiver may hold a frame back before it shows it, in steps of 10 ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlayoutDelay {
    /// At least this long, milliseconds, at most 40,950.
    pub min_ms: u16,
    /// At most this long, milliseconds, at most 40,950.
    pub max_ms: u16,
}

impl PlayoutDelay {
    fn parse(data: &[u8]) -> Option<Self> {
        let &[a, b, c] = data.first_chunk()?;
        Some(PlayoutDelay {
            min_ms: (u16::from(a) << 4 | u16::from(b) >> 4) * PLAYOUT_DELAY_STEP_MS,
            max_ms: (u16::from(b & 0x0f) << 8 | u16::from(c)) * PLAYOUT_DELAY_STEP_MS,
        })
    }

    fn encode(self) -> [u8; 3] {
        let steps = |ms: u16| u32::from((ms / PLAYOUT_DELAY_STEP_MS).min(0xfff));
        let [_, a, b, c] = (steps(self.min_ms) << 12 | steps(self.max_ms)).to_be_bytes();
        [a, b, c]
    }
}

/// When the first sample of a frame was captured, by the capturing system's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbsCaptureTime {
    /// NTP time, 32.32 fixed-point seconds.
    pub timestamp: u64,
    /// What to add to compare with the sender's clock, 32.32 fixed-point seconds, if known.
    pub clock_offset: Option<i64>,
}

impl AbsCaptureTime {
    fn parse(data: &[u8]) -> Option<Self> {
        let (timestamp, rest) = data.split_first_chunk()?;
        Some(AbsCaptureTime {
            timestamp: u64::from_be_bytes(*timestamp),
            clock_offset: rest.first_chunk().map(|o| i64::from_be_bytes(*o)),
        })
    }

    fn encode(self) -> ([u8; 16], usize) {
        let mut data = [0; 16];
        data[..8].copy_from_slice(&self.timestamp.to_be_bytes());
        data[8..].copy_from_slice(&self.clock_offset.unwrap_or(0).to_be_bytes());
        (data, if self.clock_offset.is_some() { 16 } else { 8 })
    }
}

/// The value of absolute send time: the low 24 bits of 6.18 fixed-point seconds.
#[must_use]
pub fn abs_send_time(since_epoch: Duration) -> u32 {
    let seconds = (since_epoch.as_secs() % 64) as u32;
    let fraction = (u64::from(since_epoch.subsec_nanos()) << ABS_SEND_TIME_FRACTION_BITS)
        / u64::from(Duration::from_secs(1).as_nanos() as u32);
    seconds << ABS_SEND_TIME_FRACTION_BITS | fraction as u32
}

/// An absolute send time without wrapping, in ticks: of those with these low bits the one nearest to
/// the last, none of them below zero.
#[must_use]
pub fn unwrap_abs_send_time(last: u64, send_time: u32) -> u64 {
    let cycle = 1u64 << ABS_SEND_TIME_BITS;
    let ahead = u64::from(send_time).wrapping_sub(last) % cycle;
    if ahead < cycle / 2 {
        last + ahead
    } else {
        (last + ahead).saturating_sub(cycle)
    }
}

/// Bytes of the values of which [`HeaderExtensions`] knows the place in a packet alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lengths {
    /// Of the name of the m-line.
    pub mid: usize,
    /// Of the dependency descriptor.
    pub descriptor: usize,
}

/// Every header extension we understand, as one packet carries them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeaderExtensions {
    /// Where in the packet the name of its m-line is: copied with every packet, a name of its full
    /// length would be most of it.
    pub mid: Option<Span>,
    /// The simulcast encoding it belongs to.
    pub rid: Option<Rid>,
    /// The simulcast encoding it repairs.
    pub repaired_rid: Option<Rid>,
    /// The transport-wide sequence number.
    pub transport_sequence: Option<u16>,
    /// Absolute send time, 24 bits of 6.18 fixed-point seconds.
    pub abs_send_time: Option<u32>,
    /// How loud it is.
    pub audio_level: Option<AudioLevel>,
    /// Video orientation: camera, flip and rotation bits as 3GPP TS 26.114 section 7.4.5 has them.
    pub orientation: Option<u8>,
    /// Bounds on the receiver's delay.
    pub playout_delay: Option<PlayoutDelay>,
    /// When it was captured.
    pub capture_time: Option<AbsCaptureTime>,
    /// Where in the packet its dependency descriptor is.
    pub dependency_descriptor: Option<Span>,
}

impl HeaderExtensions {
    /// Reads the extensions of a packet. One that is malformed or not negotiated is left out.
    #[must_use]
    pub fn parse(packet: &[u8], header: &RtpHeader, map: &ExtensionMap) -> Self {
        let mut found = HeaderExtensions::default();
        let Some(block) = header.extensions else {
            return found;
        };
        let mut all = elements(packet, header);
        while let Some((id, data)) = all.next() {
            let Some(extension) = map.extension(id) else {
                continue;
            };
            match extension {
                Extension::Mid => found.mid = Some(span_of(block.range(), &all, data)),
                Extension::Rid => found.rid = Rid::new(data).ok(),
                Extension::RepairedRid => found.repaired_rid = Rid::new(data).ok(),
                Extension::TransportSequence => {
                    found.transport_sequence = data.first_chunk().map(|b| u16::from_be_bytes(*b));
                }
                Extension::AbsSendTime => {
                    found.abs_send_time = data
                        .first_chunk()
                        .map(|&[a, b, c]| u32::from_be_bytes([0, a, b, c]));
                }
                Extension::AudioLevel => found.audio_level = AudioLevel::parse(data),
                Extension::VideoOrientation => found.orientation = data.first().copied(),
                Extension::PlayoutDelay => found.playout_delay = PlayoutDelay::parse(data),
                Extension::AbsCaptureTime => found.capture_time = AbsCaptureTime::parse(data),
                Extension::DependencyDescriptor => {
                    found.dependency_descriptor = Some(span_of(block.range(), &all, data));
                }
                Extension::TransmissionOffset
                | Extension::VideoContentType
                | Extension::VideoTiming
                | Extension::ColorSpace
                | Extension::VideoLayersAllocation => {}
            }
        }
        found
    }

    /// How many bytes [`write_header`](super::packet::write_header) makes of those extensions that `map`
    /// has an id for, with these `lengths` of what is not kept here; a value that is filled in last
    /// takes its place whether it is there or not.
    #[must_use]
    pub fn block_len(&self, map: &ExtensionMap, lengths: Lengths) -> usize {
        let len = |extension| match extension {
            Extension::Mid => lengths.mid,
            Extension::Rid => self.rid.map_or(0, |rid| rid.as_bytes().len()),
            Extension::RepairedRid => self.repaired_rid.map_or(0, |rid| rid.as_bytes().len()),
            Extension::TransportSequence => 2,
            Extension::AbsSendTime => 3,
            Extension::AudioLevel => usize::from(self.audio_level.is_some()),
            Extension::VideoOrientation => usize::from(self.orientation.is_some()),
            Extension::PlayoutDelay => self.playout_delay.map_or(0, |_| 3),
            Extension::AbsCaptureTime => self.capture_time.map_or(0, |time| time.encode().1),
            Extension::DependencyDescriptor => lengths.descriptor,
            Extension::TransmissionOffset
            | Extension::VideoContentType
            | Extension::VideoTiming
            | Extension::ColorSpace
            | Extension::VideoLayersAllocation => 0,
        };
        let elements = || map.iter().map(|(e, id)| (id, len(e)));
        let elements = || elements().filter(|(_, len)| *len > 0);
        let is_one_byte =
            elements().all(|(id, len)| id <= MAX_ONE_BYTE_ID && len <= MAX_ONE_BYTE_LEN);
        let head = if is_one_byte { 1 } else { 2 };
        match elements().map(|(_, len)| head + len).sum::<usize>() {
            0 => 0,
            all => PREAMBLE_LEN + all.next_multiple_of(4),
        }
    }

    /// Writes those extensions that `map` has an id for. `packet` is the one this was parsed from,
    /// for the mid and the dependency descriptor; without them it may be empty.
    pub fn write(&self, writer: &mut ExtensionWriter<'_>, map: &ExtensionMap, packet: &[u8]) {
        for (extension, id) in map.iter() {
            match extension {
                Extension::Mid => put_span(writer, id, self.mid, packet),
                Extension::Rid => put(writer, id, self.rid.as_ref().map(Rid::as_bytes)),
                Extension::RepairedRid => {
                    put(writer, id, self.repaired_rid.as_ref().map(Rid::as_bytes));
                }
                Extension::TransportSequence => {
                    put(writer, id, self.transport_sequence.map(u16::to_be_bytes));
                }
                Extension::AbsSendTime => {
                    let bytes = self.abs_send_time.map(u32::to_be_bytes);
                    put(writer, id, bytes.map(|[_, a, b, c]| [a, b, c]));
                }
                Extension::AudioLevel => put(writer, id, self.audio_level.map(AudioLevel::encode)),
                Extension::VideoOrientation => put(writer, id, self.orientation.map(|o| [o])),
                Extension::PlayoutDelay => {
                    put(writer, id, self.playout_delay.map(PlayoutDelay::encode));
                }
                Extension::AbsCaptureTime => {
                    if let Some((data, len)) = self.capture_time.map(AbsCaptureTime::encode) {
                        put(writer, id, data.get(..len));
                    }
                }
                Extension::DependencyDescriptor => {
                    put_span(writer, id, self.dependency_descriptor, packet);
                }
                Extension::TransmissionOffset
                | Extension::VideoContentType
                | Extension::VideoTiming
                | Extension::ColorSpace
                | Extension::VideoLayersAllocation => {}
            }
        }
    }
}

/// Where the element is that the iterator has just given.
fn span_of(block: Range<usize>, all: &Elements<'_>, data: &[u8]) -> Span {
    let start = block.end - all.rest.len() - data.len();
    Span {
        start: start as u16,
        len: data.len() as u8,
    }
}

fn put_span(writer: &mut ExtensionWriter<'_>, id: u8, span: Option<Span>, packet: &[u8]) {
    let data = span.map(|span| span.of(packet));
    put(writer, id, data.filter(|data| !data.is_empty()));
}

fn put(writer: &mut ExtensionWriter<'_>, id: u8, data: Option<impl AsRef<[u8]>>) {
    if let Some(data) = data {
        writer.put(id, data.as_ref());
    }
}

/// Lays out a header extension block; made by [`write_header`](super::packet::write_header).
#[derive(Debug)]
pub struct ExtensionWriter<'a> {
    /// The block, preamble first. Elements are laid out in the two-byte form until the end.
    buffer: &'a mut [u8],
    len: usize,
    one_byte: bool,
    failed: bool,
}

impl<'a> ExtensionWriter<'a> {
    pub(super) fn new(buffer: &'a mut [u8]) -> Self {
        ExtensionWriter {
            buffer,
            len: PREAMBLE_LEN,
            one_byte: true,
            failed: false,
        }
    }

    /// Adds an element. One that does not fit, has id 0 or more than 255 bytes makes the whole
    /// header fail.
    #[allow(
        clippy::indexing_slicing,
        reason = "the element was cut to the length of what it gets"
    )]
    pub fn put(&mut self, id: u8, data: &[u8]) {
        let end = self.len + 2 + data.len();
        let (Ok(len), Some(element)) = (
            u8::try_from(data.len()),
            self.buffer.get_mut(self.len..end).filter(|_| id != 0),
        ) else {
            self.failed = true;
            return;
        };
        element[0] = id;
        element[1] = len;
        element[2..].copy_from_slice(data);
        self.len = end;
        self.one_byte &= id <= MAX_ONE_BYTE_ID && (1..=MAX_ONE_BYTE_LEN).contains(&data.len());
    }

    /// Completes the block and returns its length, 0 when nothing was put, or `None` when
    /// something did not fit.
    #[allow(
        clippy::indexing_slicing,
        reason = "the preamble has its room since the first element was put behind it"
    )]
    pub(super) fn finish(mut self) -> Option<usize> {
        if self.failed {
            return None;
        }
        if self.len == PREAMBLE_LEN {
            return Some(0);
        }
        if self.one_byte {
            self.shorten_element_headers();
        }
        let end = self.len.next_multiple_of(4);
        self.buffer.get_mut(self.len..end)?.fill(0);
        let words = u16::try_from((end - PREAMBLE_LEN) / 4).ok()?;
        let profile = if self.one_byte {
            ONE_BYTE_PROFILE
        } else {
            TWO_BYTE_PROFILE
        };
        self.buffer[..2].copy_from_slice(&profile.to_be_bytes());
        self.buffer[2..4].copy_from_slice(&words.to_be_bytes());
        Some(end)
    }

    #[allow(
        clippy::indexing_slicing,
        reason = "it goes over elements that were put there, and becomes shorter"
    )]
    fn shorten_element_headers(&mut self) {
        let (mut from, mut to) = (PREAMBLE_LEN, PREAMBLE_LEN);
        while from < self.len {
            let (id, len) = (self.buffer[from], usize::from(self.buffer[from + 1]));
            self.buffer[to] = id << 4 | (len - 1) as u8;
            self.buffer.copy_within(from + 2..from + 2 + len, to + 1);
            from += 2 + len;
            to += 1 + len;
        }
        self.len = to;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::super::packet::{HeaderFields, write_header};
    use super::*;
    use crate::types::Ssrc;
    use proptest::prelude::*;

    const FIELDS: HeaderFields = HeaderFields {
        marker: false,
        payload_type: 96,
        sequence: 1,
        timestamp: 2,
        ssrc: Ssrc(3),
    };

    /// A packet with this extension block.
    fn packet(profile: u16, block: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend(profile.to_be_bytes());
        packet.extend(((block.len() / 4) as u16).to_be_bytes());
        packet.extend(block);
        packet
    }

    fn elements_of(profile: u16, block: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let packet = packet(profile, block);
        let header = RtpHeader::parse(&packet).unwrap();
        elements(&packet, &header)
            .map(|(id, data)| (id, data.to_vec()))
            .collect()
    }

    fn full_map(first_id: u8) -> ExtensionMap {
        let mut map = ExtensionMap::default();
        for (extension, id) in Extension::ALL.into_iter().zip(first_id..) {
            map.set(extension, id);
        }
        map
    }

    #[test]
    fn what_a_sender_fills_in_last_is_cleared_and_nothing_else() {
        let mut map = ExtensionMap::default();
        map.set(Extension::TransportSequence, 1);
        map.set(Extension::AbsSendTime, 2);
        map.set(Extension::TransmissionOffset, 3);
        map.set(Extension::VideoTiming, 4);
        map.set(Extension::ColorSpace, 5);
        let timing = |last: [u8; 6]| {
            // Flags, encode start and finish, packetization; pacer exit and two of the network's.
            let mut timing = vec![0x4c, 1, 2, 3, 4, 5, 6, 7];
            timing.extend(last);
            timing
        };
        let sent = [
            &[0x11, 9, 9, 0x22, 8, 8, 8, 0x32, 7, 7, 7][..],
            &timing([6, 6, 6, 6, 6, 6]),
            &[0x53, 5, 5, 5, 5, 0, 0],
        ];
        let protected = [
            &[0x11, 0, 0, 0x22, 0, 0, 0, 0x32, 0, 0, 0][..],
            &timing([0; 6]),
            &[0x53, 5, 5, 5, 5, 0, 0],
        ];
        let mut sent = packet(0xbede, &sent.concat());
        let header = RtpHeader::parse(&sent).unwrap();
        clear_mutable(&mut sent, &header, &map);
        assert_eq!(sent, packet(0xbede, &protected.concat()));
    }

    #[test]
    fn one_byte_elements() {
        let e = |block: &[u8]| elements_of(0xbede, block);
        let one = || (1, vec![7]);
        assert_eq!(e(&[0x10, 7, 0x21, 8, 9, 0, 0, 0]), [one(), (2, vec![8, 9])]);
        assert_eq!(e(&[0, 0, 0x10, 7]), [one()], "padding in front");
        assert_eq!(e(&[0x10, 7, 0xf0, 1, 0x20, 8, 0, 0]), [one()], "15 stops");
        assert_eq!(e(&[0x10, 7, 0x22, 8]), [one()], "an overrun stops");
        assert_eq!(e(&[]), []);
    }

    #[test]
    fn two_byte_elements() {
        let e = |block: &[u8]| elements_of(0x1000, block);
        let long: Vec<u8> = (0..17).collect();
        let mut block = vec![15, 17];
        block.extend(&long);
        block.extend([0, 200, 0, 0, 0]);
        assert_eq!(e(&block), [(15, long), (200, vec![])]);
        assert_eq!(e(&[1, 3, 9, 9]), [], "an overrun stops");
        assert_eq!(e(&[0, 0, 0, 5]), [], "an id without a length stops");
        assert_eq!(elements_of(0x100f, &[1, 1, 9, 0]), [(1, vec![9])]);
        assert_eq!(elements_of(0x1010, &[1, 1, 9, 0]), [], "unknown profile");
    }

    #[test]
    fn known_bytes_of_each_extension() {
        let block = [
            0x10, b'0', // mid
            0x21, b'h', b'i', // rid
            0x31, 0x12, 0x34, // repaired rid: not visible ASCII
            0x41, 0x12, 0x34, // transport sequence
            0x52, 0x12, 0x34, 0x56, // absolute send time
            0x60, 0x85, // audio level
            0x70, 0x0b, // orientation
            0x82, 0x00, 0xa0, 0x28, // playout delay 100 to 400 ms
            0x91, 0xaa, 0xbb, // dependency descriptor
            0xa7, 1, 2, 3, 4, 5, 6, 7, 8, // capture time
            0, 0,
        ];
        let packet = packet(0xbede, &block);
        let header = RtpHeader::parse(&packet).unwrap();
        let found = HeaderExtensions::parse(&packet, &header, &full_map(1));
        let descriptor = found.dependency_descriptor.unwrap();
        assert_eq!(descriptor.of(&packet), [0xaa, 0xbb]);
        assert_eq!(found.mid.unwrap().of(&packet), b"0");
        assert_eq!(
            found,
            HeaderExtensions {
                mid: found.mid,
                rid: Rid::new("hi").ok(),
                repaired_rid: None,
                transport_sequence: Some(0x1234),
                abs_send_time: Some(0x12_3456),
                audio_level: Some(AudioLevel {
                    level: 5,
                    voice: true
                }),
                orientation: Some(0x0b),
                playout_delay: Some(PlayoutDelay {
                    min_ms: 100,
                    max_ms: 400
                }),
                capture_time: Some(AbsCaptureTime {
                    timestamp: 0x0102_0304_0506_0708,
                    clock_offset: None
                }),
                dependency_descriptor: Some(descriptor),
            }
        );
    }

    #[test]
    fn absolute_send_time_is_six_eighteen_fixed_point() {
        let table = [
            (Duration::ZERO, 0),
            (Duration::from_millis(500), 1 << 17),
            (Duration::from_secs(63), 63 << 18),
            (Duration::from_secs(64 + 2), 2 << 18),
            (Duration::from_nanos(63_999_999_999), 0xff_ffff),
        ];
        for (time, value) in table {
            assert_eq!(abs_send_time(time), value, "{time:?}");
        }
    }

    #[test]
    fn absolute_send_time_is_unwrapped_to_the_nearest() {
        let cycle = 1 << 24;
        let table = [
            (5, 5, 5),
            (5, 9, 9),
            (9, 5, 5),
            (cycle - 1, 2, cycle + 2),
            (cycle + 2, 0xff_ffff, cycle - 1),
            (3 * cycle + 7, 0x80_0000, 3 * cycle + cycle / 2),
            (2, 0xff_ffff, 0),
        ];
        for (last, send_time, unwrapped) in table {
            let found = unwrap_abs_send_time(last, send_time);
            assert_eq!(found, unwrapped, "{send_time:#x} after {last}");
        }
    }

    #[test]
    fn only_what_the_other_side_negotiated_is_written() {
        let extensions = HeaderExtensions {
            rid: Rid::new("a").ok(),
            transport_sequence: Some(7),
            orientation: Some(1),
            ..HeaderExtensions::default()
        };
        let mut map = ExtensionMap::default();
        map.set(Extension::Rid, 9);
        map.set(Extension::TransportSequence, 3);
        map.set(Extension::AudioLevel, 4);
        let mut buffer = [0; 64];
        let len = write_header(&mut buffer, FIELDS, |w| extensions.write(w, &map, &[])).unwrap();
        assert_eq!(
            buffer[12..len],
            [0xbe, 0xde, 0, 2, 0x90, b'a', 0x31, 0, 7, 0, 0, 0]
        );
    }

    fn some_extensions() -> impl Strategy<Value = HeaderExtensions> {
        let id = "[a-zA-Z0-9]{1,16}";
        let delay = (0u16..4096, 0u16..4096).prop_map(|(min, max)| PlayoutDelay {
            min_ms: min * 10,
            max_ms: max * 10,
        });
        let level =
            (0u8..128, any::<bool>()).prop_map(|(level, voice)| AudioLevel { level, voice });
        let capture =
            any::<(u64, Option<i64>)>().prop_map(|(timestamp, clock_offset)| AbsCaptureTime {
                timestamp,
                clock_offset,
            });
        (
            prop::option::of(id.prop_map(|t| Rid::new(t).unwrap())),
            prop::option::of(any::<u16>()),
            prop::option::of(0u32..1 << 24),
            prop::option::of(level),
            prop::option::of(any::<u8>()),
            prop::option::of(delay),
            prop::option::of(capture),
        )
            .prop_map(
                |(rid, seq, send, level, turn, delay, capture)| HeaderExtensions {
                    mid: None,
                    rid,
                    repaired_rid: rid,
                    transport_sequence: seq,
                    abs_send_time: send,
                    audio_level: level,
                    orientation: turn,
                    playout_delay: delay,
                    capture_time: capture,
                    dependency_descriptor: None,
                },
            )
    }

    proptest! {
        #[test]
        fn no_bytes_panic(block in prop::collection::vec(any::<u8>(), 0..120), two in any::<bool>()) {
            let packet = packet(if two { 0x1000 } else { 0xbede }, &block);
            if let Ok(header) = RtpHeader::parse(&packet) {
                let found = HeaderExtensions::parse(&packet, &header, &full_map(1));
                for span in [found.mid, found.dependency_descriptor].into_iter().flatten() {
                    prop_assert!(elements(&packet, &header).any(|(_, data)| data == span.of(&packet)));
                }
            }
        }

        /// In either form, with any ids, the other side reads what was written, and mid and dependency
        /// descriptor travel from packet to packet.
        #[test]
        fn forwarding_keeps_everything(
            sent in some_extensions(),
            mid in "[a-zA-Z0-9]{1,64}",
            descriptor in prop::collection::vec(any::<u8>(), 1..100),
            (first_in, first_out) in (1u8..30, 1u8..30),
        ) {
            let (map_in, map_out) = (full_map(first_in), full_map(first_out));
            let mut buffer = [0; 1500];
            let len = write_header(&mut buffer, FIELDS, |w| {
                w.put(map_in.id(Extension::Mid).unwrap(), mid.as_bytes());
                w.put(map_in.id(Extension::DependencyDescriptor).unwrap(), &descriptor);
                sent.write(w, &map_in, &[]);
            }).unwrap();
            let came = buffer[..len].to_vec();
            let header = RtpHeader::parse(&came).unwrap();
            let inside = HeaderExtensions::parse(&came, &header, &map_in);

            let len = write_header(&mut buffer, FIELDS, |w| inside.write(w, &map_out, &came)).unwrap();
            let went = &buffer[..len];
            let header = RtpHeader::parse(went).unwrap();
            let mut seen = HeaderExtensions::parse(went, &header, &map_out);
            prop_assert_eq!(seen.dependency_descriptor.take().unwrap().of(went), &descriptor[..]);
            prop_assert_eq!(seen.mid.take().unwrap().of(went), mid.as_bytes());
            prop_assert_eq!(seen, sent);
        }
    }
}
