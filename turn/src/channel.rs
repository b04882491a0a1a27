//! ChannelData messages (RFC 8656 section 12.4): four bytes before the payload instead of thirty-six.
//!
//! In: a packet, or a payload and its channel. Out: the payload and its channel, or the packet.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

/// The channel numbers that a client may bind. RFC 8656 section 12 ends at 0x4fff; clients after RFC
/// 5766 section 11, coturn's among them, choose from four times as many, and nothing else begins
/// with these bytes (RFC 7983 section 7).
pub const CHANNEL_NUMBERS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;

/// Bytes before the payload: channel number and length (RFC 8656 section 12.4).
pub const HEADER_LEN: usize = 4;

/// Over a stream messages begin at multiples of this many bytes (RFC 8656 section 12.5).
pub const ALIGNMENT: usize = 4;

/// A payload and the channel it came on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelData<'a> {
    /// One of [`CHANNEL_NUMBERS`].
    pub number: u16,
    /// What is relayed; may be empty.
    pub payload: &'a [u8],
}

impl<'a> ChannelData<'a> {
    /// Reads a packet. Bytes after the payload are padding (RFC 8656 section 12.5).
    #[must_use]
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (&[n0, n1, l0, l1], rest) = packet.split_first_chunk::<HEADER_LEN>()?;
        let number = u16::from_be_bytes([n0, n1]);
        let len = u16::from_be_bytes([l0, l1]);
        let payload = rest.get(..usize::from(len))?;
        CHANNEL_NUMBERS
            .contains(&number)
            .then_some(ChannelData { number, payload })
    }

    /// Appends the message to `out`, with the padding of a stream if `padded`. Writes nothing and
    /// returns `false` when the payload is longer than 65,535 bytes.
    pub fn write(&self, padded: bool, out: &mut Vec<u8>) -> bool {
        let Ok(len) = u16::try_from(self.payload.len()) else {
            return false;
        };
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(self.payload);
        if padded {
            let padding = self.payload.len().next_multiple_of(ALIGNMENT) - self.payload.len();
            out.extend(std::iter::repeat_n(0, padding));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (len, padded, total) in [
            (0, false, 4),
            (0, true, 4),
            (1, false, 5),
            (1, true, 8),
            (4, true, 8),
            (65_535, false, 65_539),
            (65_535, true, 65_540),
        ] {
            let payload = vec![7; len];
            let message = ChannelData {
                number: 0x7fff,
                payload: &payload,
            };
            let mut packet = Vec::new();
            assert!(message.write(padded, &mut packet));
            assert_eq!(packet.len(), total);
            assert_eq!(ChannelData::parse(&packet), Some(message));
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let payload = vec![0; 65_536];
        let mut packet = Vec::new();
        let message = ChannelData {
            number: 0x4000,
            payload: &payload,
        };
        assert!(!message.write(true, &mut packet) && packet.is_empty());
    }

    #[test]
    fn only_whole_messages_of_valid_channels_are_read() {
        for (packet, good) in [
            (&[][..], false),
            (&[0x40, 0, 0], false),
            (&[0x40, 0, 0, 0], true),
            (&[0x40, 0, 0, 1], false),
            (&[0x40, 0, 0, 1, 9], true),
            (&[0x40, 0, 0, 1, 9, 0, 0, 0], true),
            (&[0x7f, 0xff, 0, 0], true),
            (&[0x80, 0, 0, 0], false),
            (&[0x3f, 0xff, 0, 0], false),
            (&[0x7f, 0xff, 0xff, 0xff], false),
        ] {
            assert_eq!(ChannelData::parse(packet).is_some(), good, "{packet:02x?}");
        }
    }
}
