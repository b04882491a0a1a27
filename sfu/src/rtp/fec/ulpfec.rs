//! ULPFEC (RFC 5109) as browsers use it: inside RED, one level that protects packets whole.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |E|L|P|X|  CC   |M| PT recovery |            SN base            |
//! |                          TS recovery                          |
//! |        length recovery        |       protection length       |
//! |             mask              |      mask cont. (L = 1)       |
//! |      mask cont. (L = 1)       | parity
//! ```
//!
//! Its packets count among those of the stream they protect; they only lack a place in the mask.

use super::{FLAGS, MalformedRepair, Mask, Parity, ParityHeader, Repair};

/// Says that the header is longer than RFC 5109 knows.
const EXTENSION: u8 = 0x80;

/// Says that the mask has 48 bits and not 16.
const LONG_MASK: u8 = 0x40;

/// Bytes before the mask: the header of RFC 5109 section 7.3 and the protection length of 7.4.
const MASK_AT: usize = 12;

/// Bits of a short mask.
const SHORT_MASK: usize = 16;

/// Most packets that one repair packet can protect, and the largest distance between them.
pub const MAX_SPAN: usize = 48;

/// Most bytes of a header.
pub const MAX_HEADER_LEN: usize = MASK_AT + MAX_SPAN / 8;

/// Reads a repair packet: what follows the RED header.
///
/// # Errors
/// When it is not a whole ULPFEC packet, protects nothing, or has the extension bit.
pub fn parse(payload: &[u8]) -> Result<Repair<'_>, MalformedRepair> {
    let (fixed, rest) = payload
        .split_first_chunk::<MASK_AT>()
        .ok_or(MalformedRepair::Truncated)?;
    if fixed[0] & EXTENSION != 0 {
        return Err(MalformedRepair::Unsupported);
    }
    let bits = if fixed[0] & LONG_MASK == 0 {
        SHORT_MASK
    } else {
        MAX_SPAN
    };
    let (mask_bytes, body) = rest
        .split_at_checked(bits / 8)
        .ok_or(MalformedRepair::Truncated)?;
    let mut mask = Mask::default();
    for (index, &byte) in mask_bytes.iter().enumerate() {
        mask.insert_bits(index * 8, 8, u64::from(byte));
    }
    if mask.count() == 0 {
        return Err(MalformedRepair::ProtectsNothing);
    }
    let protected = usize::from(u16::from_be_bytes([fixed[10], fixed[11]]));
    Ok(Repair {
        ssrc: None,
        base: u16::from_be_bytes([fixed[2], fixed[3]]),
        mask,
        header: ParityHeader {
            flags: fixed[0] & FLAGS,
            kind: fixed[1],
            length: u16::from_be_bytes([fixed[8], fixed[9]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        },
        // Further levels would follow; nobody sends them.
        body: body.get(..protected).ok_or(MalformedRepair::Truncated)?,
    })
}

/// Writes a repair packet and returns its length.
///
/// None when the buffer is too short, the mask is empty, or it reaches beyond [`MAX_SPAN`].
#[allow(
    clippy::indexing_slicing,
    reason = "the header was cut to the length of what is written into it"
)]
pub fn write(buffer: &mut [u8], base: u16, mask: Mask, parity: &Parity) -> Option<usize> {
    let bits = match mask.span() {
        1..=SHORT_MASK => SHORT_MASK,
        17..=MAX_SPAN => MAX_SPAN,
        _ => return None,
    };
    let header_len = MASK_AT + bits / 8;
    let len = header_len + parity.body().len();
    let (header, body) = buffer.get_mut(..len)?.split_at_mut(header_len);
    let parity_header = parity.header();
    let long = if bits == MAX_SPAN { LONG_MASK } else { 0 };
    header[0] = long | parity_header.flags;
    header[1] = parity_header.kind;
    header[2..4].copy_from_slice(&base.to_be_bytes());
    header[4..8].copy_from_slice(&parity_header.timestamp.to_be_bytes());
    header[8..10].copy_from_slice(&parity_header.length.to_be_bytes());
    header[10..12].copy_from_slice(&(body.len() as u16).to_be_bytes());
    for (index, byte) in header[MASK_AT..].iter_mut().enumerate() {
        *byte = mask.bits(index * 8, 8) as u8;
    }
    body.copy_from_slice(parity.body());
    Some(len)
}
