//! One RTP packet: what a datagram is, what its header says, and how to write a new header.
//!
//! In: bytes from the network. Out: [`PacketClass`], and [`RtpHeader`], a small copyable view whose
//! ranges are known to lie inside the packet. [`write_header`] goes the other way.

use std::ops::Range;

use super::extension::ExtensionWriter;
use crate::types::Ssrc;

/// The fixed part of the header, bytes (RFC 3550 section 5.1).
pub const FIXED_HEADER_LEN: usize = 12;

/// The version in the top two bits of the first byte (RFC 3550 section 5.1).
const VERSION: u8 = 2;

/// The `profile` of an extension block with one-byte element headers (RFC 8285 section 4.2).
pub const ONE_BYTE_PROFILE: u16 = 0xBEDE;

/// The `profile` of an extension block with two-byte element headers and no application bits
/// (RFC 8285 section 4.3).
pub const TWO_BYTE_PROFILE: u16 = 0x1000;

/// Most bytes of one packet that are looked at: what UDP can carry.
const MAX_PACKET_LEN: usize = u16::MAX as usize;

/// What kind of datagram this is, by its first two bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PacketClass {
    /// STUN, first byte 0 to 3.
    Stun,
    /// DTLS, first byte 20 to 63.
    Dtls,
    /// RTP or SRTP.
    Rtp,
    /// RTCP or SRTCP.
    Rtcp,
    /// Nothing a peer may send us, TURN channel data and ZRTP included.
    Unknown,
}

impl PacketClass {
    /// Classifies a datagram by RFC 7983 section 7, and RTP against RTCP by RFC 5761 section 4.
    #[must_use]
    pub fn of(datagram: &[u8]) -> PacketClass {
        match datagram {
            [0..=3, ..] => PacketClass::Stun,
            [20..=63, ..] => PacketClass::Dtls,
            [128..=191, kind, ..] if matches!(kind & 0x7f, 64..=95) => PacketClass::Rtcp,
            [128..=191, _, ..] => PacketClass::Rtp,
            _ => PacketClass::Unknown,
        }
    }
}

/// The packet is not RTP as RFC 3550 section 5.1 has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the packet breaks RFC 3550 section 5.1")]
pub struct MalformedRtp;

/// Where the header extension elements of a packet are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtensionBlock {
    /// The 16 bits that tell the form of the elements.
    pub profile: u16,
    start: u16,
    end: u16,
}

impl ExtensionBlock {
    /// The elements, without the 4 bytes in front of them.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }
}

/// The header of one RTP packet. All lengths and ranges lie inside the packet it was parsed from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtpHeader {
    /// The marker bit.
    pub marker: bool,
    /// The payload type, 0 to 127.
    pub payload_type: u8,
    /// The sequence number as on the wire.
    pub sequence: u16,
    /// The timestamp as on the wire, in ticks of the codec's clock.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: Ssrc,
    /// Bytes before the payload: the fixed header, the contributing sources and the extension.
    pub header_len: usize,
    /// The header extension, if there is one.
    pub extensions: Option<ExtensionBlock>,
    /// Bytes of padding after the payload.
    pub padding_len: usize,
    /// Bytes of payload.
    pub payload_len: usize,
}

impl RtpHeader {
    /// Reads the header of a packet in the clear.
    ///
    /// # Errors
    /// When the version is not 2, a length runs past the end, or the padding count is 0 or more
    /// than there is.
    pub fn parse(packet: &[u8]) -> Result<RtpHeader, MalformedRtp> {
        let mut header = RtpHeader::parse_encrypted(packet)?;
        if packet.first().is_some_and(|first| first & 0x20 != 0) {
            let padding = usize::from(*packet.last().ok_or(MalformedRtp)?);
            if padding == 0 || padding > header.payload_len {
                return Err(MalformedRtp);
            }
            header.padding_len = padding;
            header.payload_len -= padding;
        }
        Ok(header)
    }

    /// Reads the header of an SRTP packet. Its payload range still holds the padding and the
    /// authentication tag, since the padding count is encrypted.
    ///
    /// # Errors
    /// When the version is not 2 or a length runs past the end.
    pub fn parse_encrypted(packet: &[u8]) -> Result<RtpHeader, MalformedRtp> {
        let Some((fixed, _)) = packet.split_first_chunk::<FIXED_HEADER_LEN>() else {
            return Err(MalformedRtp);
        };
        if fixed[0] >> 6 != VERSION || packet.len() > MAX_PACKET_LEN {
            return Err(MalformedRtp);
        }
        let mut header_len = FIXED_HEADER_LEN + 4 * usize::from(fixed[0] & 0x0f);
        let mut extensions = None;
        if fixed[0] & 0x10 != 0 {
            let preamble = packet.get(header_len..).and_then(|p| p.first_chunk::<4>());
            let [p0, p1, l0, l1] = *preamble.ok_or(MalformedRtp)?;
            let start = header_len + 4;
            header_len = start + 4 * usize::from(u16::from_be_bytes([l0, l1]));
            extensions = Some((u16::from_be_bytes([p0, p1]), start));
        }
        if header_len > packet.len() {
            return Err(MalformedRtp);
        }
        Ok(RtpHeader {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: Ssrc(u32::from_be_bytes([
                fixed[8], fixed[9], fixed[10], fixed[11],
            ])),
            header_len,
            extensions: extensions.map(|(profile, start)| ExtensionBlock {
                profile,
                start: start as u16,
                end: header_len as u16,
            }),
            padding_len: 0,
            payload_len: packet.len() - header_len,
        })
    }

    /// Where the payload is, without padding.
    #[must_use]
    pub fn payload_range(&self) -> Range<usize> {
        self.header_len..self.header_len + self.payload_len
    }

    /// The payload, without padding. Empty when `packet` is not the one this was parsed from and
    /// is shorter.
    #[must_use]
    pub fn payload<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.get(self.payload_range()).unwrap_or_default()
    }
}

/// What [`write_header`] puts into the fixed header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderFields {
    /// The marker bit.
    pub marker: bool,
    /// The payload type; only the low 7 bits are used.
    pub payload_type: u8,
    /// The sequence number as on the wire.
    pub sequence: u16,
    /// The timestamp as on the wire.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: Ssrc,
}

/// The buffer cannot hold what was to be written, or an element breaks RFC 8285.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the RTP header does not fit its buffer")]
pub struct HeaderDoesNotFit;

/// Writes a header without contributing sources and without padding, and returns its length.
///
/// `extensions` puts the header extension elements; the block takes the one-byte form when every
/// element allows it, else the two-byte form, and is absent when there are none.
///
/// # Errors
/// When `buffer` is too short or an element has id 0 or more than 255 bytes.
pub fn write_header(
    buffer: &mut [u8],
    fields: HeaderFields,
    extensions: impl FnOnce(&mut ExtensionWriter<'_>),
) -> Result<usize, HeaderDoesNotFit> {
    let (fixed, rest) = buffer
        .split_first_chunk_mut::<FIXED_HEADER_LEN>()
        .ok_or(HeaderDoesNotFit)?;
    let mut writer = ExtensionWriter::new(rest);
    extensions(&mut writer);
    let extension_len = writer.finish().ok_or(HeaderDoesNotFit)?;

    fixed[0] = VERSION << 6 | u8::from(extension_len > 0) << 4;
    fixed[1] = u8::from(fields.marker) << 7 | fields.payload_type & 0x7f;
    fixed[2..4].copy_from_slice(&fields.sequence.to_be_bytes());
    fixed[4..8].copy_from_slice(&fields.timestamp.to_be_bytes());
    fixed[8..12].copy_from_slice(&fields.ssrc.0.to_be_bytes());
    Ok(FIXED_HEADER_LEN + extension_len)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc_shared::marshal::Unmarshal;

    const FIELDS: HeaderFields = HeaderFields {
        marker: true,
        payload_type: 111,
        sequence: 0xfffe,
        timestamp: 0x8000_0001,
        ssrc: Ssrc(0xdead_beef),
    };

    #[test]
    fn first_bytes_tell_the_class() {
        let table: [(&[u8], PacketClass); 14] = [
            (&[], PacketClass::Unknown),
            (&[0, 1], PacketClass::Stun),
            (&[3], PacketClass::Stun),
            (&[4], PacketClass::Unknown),
            (&[16], PacketClass::Unknown),
            (&[20], PacketClass::Dtls),
            (&[63], PacketClass::Dtls),
            (&[64], PacketClass::Unknown),
            (&[127], PacketClass::Unknown),
            (&[128, 96], PacketClass::Rtp),
            (&[191, 0x80 | 127], PacketClass::Rtp),
            (&[128, 200], PacketClass::Rtcp),
            (&[128], PacketClass::Unknown),
            (&[192, 200], PacketClass::Unknown),
        ];
        for (bytes, class) in table {
            assert_eq!(PacketClass::of(bytes), class, "{bytes:?}");
        }
    }

    #[test]
    fn a_header_with_everything_is_read() {
        let mut packet = vec![
            0xb1,
            0x80 | 96,
            0x12,
            0x34,
            0,
            0,
            0,
            9,
            1,
            2,
            3,
            4, // fixed
            5,
            6,
            7,
            8, // one contributing source
            0xbe,
            0xde,
            0,
            1,
            0x10,
            0x41,
            0,
            0, // extension
        ];
        packet.extend([1, 2, 3, 0, 2]);
        let header = RtpHeader::parse(&packet).unwrap();
        assert!(header.marker);
        assert_eq!((header.payload_type, header.sequence), (96, 0x1234));
        assert_eq!((header.timestamp, header.ssrc), (9, Ssrc(0x0102_0304)));
        let block = header.extensions.unwrap();
        assert_eq!((block.profile, block.range()), (ONE_BYTE_PROFILE, 20..24));
        assert_eq!((header.header_len, header.padding_len), (24, 2));
        assert_eq!(header.payload(&packet), [1, 2, 3]);
    }

    #[test]
    fn bad_lengths_are_refused() {
        let good = [0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
        assert!(RtpHeader::parse(&good).is_ok());
        assert_eq!(RtpHeader::parse(&good[..11]), Err(MalformedRtp));
        let changed = |first: u8, tail: &[u8]| {
            let mut packet = good.to_vec();
            packet[0] = first;
            packet.extend(tail);
            RtpHeader::parse(&packet)
        };
        assert!(changed(0x40, &[]).is_err(), "version 1");
        assert!(changed(0x82, &[0; 7]).is_err(), "two sources, one there");
        assert!(changed(0x90, &[0; 3]).is_err(), "no room for the preamble");
        assert!(changed(0x90, &[0xbe, 0xde, 0, 1]).is_err(), "no elements");
        assert!(changed(0xa0, &[]).is_err(), "padding, but nothing there");
        assert!(changed(0xa0, &[7, 0]).is_err(), "padding of 0");
        assert!(changed(0xa0, &[7, 3]).is_err(), "padding over the payload");
        assert_eq!(changed(0xa0, &[7, 2]).unwrap().payload_len, 0);
    }

    #[test]
    fn a_buffer_too_short_is_refused() {
        let mut buffer = [0; 23];
        let put = |w: &mut ExtensionWriter<'_>| w.put(1, &[0; 5]);
        assert_eq!(
            write_header(&mut buffer, FIELDS, put),
            Err(HeaderDoesNotFit)
        );
        assert_eq!(write_header(&mut [0; 24], FIELDS, put), Ok(24));
        assert_eq!(
            write_header(&mut [0; 11], FIELDS, |_| ()),
            Err(HeaderDoesNotFit)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(packet in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(header) = RtpHeader::parse(&packet) {
                prop_assert_eq!(header.header_len + header.payload_len + header.padding_len, packet.len());
                prop_assert_eq!(header.payload(&packet).len(), header.payload_len);
            }
        }

        /// An independent parser reads what we write, and we read it too.
        #[test]
        fn what_is_written_is_read(
            elements in prop::collection::btree_map(1u8..=20, prop::collection::vec(any::<u8>(), 0..40), 0..6),
        ) {
            let mut buffer = [0xaa; 1500];
            let len = write_header(&mut buffer, FIELDS, |w| {
                for (&id, data) in &elements {
                    w.put(id, data);
                }
            }).unwrap();
            let packet = &buffer[..len + 3];
            let header = RtpHeader::parse(packet).unwrap();
            prop_assert_eq!((header.header_len, header.payload_len), (len, 3));
            let ours: Vec<(u8, Vec<u8>)> = super::super::extension::elements(packet, &header)
                .map(|(id, data)| (id, data.to_vec())).collect();
            let sent: Vec<(u8, Vec<u8>)> = elements.clone().into_iter().collect();
            prop_assert_eq!(ours, sent);

            // The other crate mis-sizes id 15 and drops empty elements: leave those to ourselves.
            if !elements.contains_key(&15) && elements.values().all(|data| !data.is_empty()) {
                let theirs = rtp::Header::unmarshal(&mut &packet[..]).unwrap();
                prop_assert_eq!(theirs.ssrc, 0xdead_beef);
                prop_assert_eq!(theirs.sequence_number, 0xfffe);
                prop_assert_eq!(theirs.timestamp, 0x8000_0001);
                prop_assert_eq!((theirs.marker, theirs.payload_type), (true, 111));
                for (id, data) in &elements {
                    prop_assert_eq!(theirs.get_extension(*id).unwrap(), &data[..]);
                }
            }
        }
    }
}
