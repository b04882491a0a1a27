//! Takes off what a packet is wrapped in: RTX (RFC 4588) and RED (RFC 2198).
//!
//! In: a packet in the clear, as the publisher sent it. Out: the same bytes with the header moved up
//! to the payload that it carried, as if it had been sent plainly. Nothing is copied but the header.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::rtp::packet::RtpHeader;

/// Removes the first `len` bytes of the payload and gives the packet another payload type. The
/// spans of header extensions stay true. None when the payload is shorter.
pub fn strip<'a>(
    packet: &'a mut [u8],
    header: &mut RtpHeader,
    len: usize,
    payload_type: u8,
) -> Option<&'a mut [u8]> {
    let payload_len = header.payload_len.checked_sub(len)?;
    if header.header_len + header.payload_len > packet.len() {
        return None;
    }
    packet.copy_within(..header.header_len, len);
    let packet = packet.get_mut(len..)?;
    let kind = packet.get_mut(1)?;
    *kind = *kind & 0x80 | payload_type & 0x7f;
    header.payload_type = payload_type & 0x7f;
    header.payload_len = payload_len;
    Some(packet)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;

    #[test]
    fn the_header_moves_up_to_the_payload() {
        let mut packet = vec![
            0x90,
            0x80 | 118,
            1,
            2,
            0,
            0,
            0,
            3,
            0,
            0,
            0,
            4,
            0xbe,
            0xde,
            0,
            1,
            0x10,
            0x41,
            0,
            0,
            96,
            7,
            8,
        ];
        let mut header = RtpHeader::parse(&packet).unwrap();
        let plain = strip(&mut packet, &mut header, 1, 96).unwrap();
        assert_eq!(RtpHeader::parse(plain).unwrap(), header);
        assert_eq!(
            (header.payload_type, header.sequence, header.marker),
            (96, 0x0102, true)
        );
        assert_eq!(header.payload(plain), [7, 8]);
        assert!(strip(&mut packet, &mut header, 3, 96).is_none());
    }
}
