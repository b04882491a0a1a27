//! FlexFEC as libwebrtc has it: draft-ietf-payload-flexible-fec-scheme-03 with one protected
//! stream. RFC 8627, which came of the draft, is laid out differently and no browser speaks it.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |R|F|P|X|  CC   |M| PT recovery |        length recovery        |
//! |                          TS recovery                          |
//! |   SSRC count  |                   reserved                    |
//! |                             SSRC                              |
//! |            SN base            |k|         mask [0-14]         |
//! |k|                       mask [15-45]                          |
//! |k|                                                             |
//! |                         mask [46-108]                         |
//! ```
//!
//! A `k` says that the mask ends with its group. Repair packets have an SSRC of their own.

use super::{FLAGS, MAX_PROTECTED, MalformedRepair, Mask, Parity, ParityHeader, Repair};
use crate::types::Ssrc;

/// Retransmission, and a mask that is given by rows and columns: neither is ever sent.
const UNSUPPORTED: u8 = 0xc0;

/// Bytes before the mask.
const MASK_AT: usize = 18;

/// The groups of the mask: its first bit, and how many bits with the `k` before them.
const GROUPS: [(usize, usize); 3] = [(0, 16), (15, 32), (46, 64)];

/// Most bytes of a header.
pub const MAX_HEADER_LEN: usize = MASK_AT + 14;

/// Most packets that one repair packet can protect, and the largest distance between them.
pub const MAX_SPAN: usize = MAX_PROTECTED;

/// Reads a repair packet's payload.
///
/// # Errors
/// When it is not a whole FlexFEC packet, protects nothing, or more than one stream.
pub fn parse(payload: &[u8]) -> Result<Repair<'_>, MalformedRepair> {
    let (fixed, mut rest) = payload
        .split_first_chunk::<MASK_AT>()
        .ok_or(MalformedRepair::Truncated)?;
    if fixed[0] & UNSUPPORTED != 0 || fixed[8] != 1 {
        return Err(MalformedRepair::Unsupported);
    }
    let mut mask = Mask::default();
    let mut is_last = false;
    for (start, len) in GROUPS {
        let (bytes, after) = rest
            .split_at_checked(len / 8)
            .ok_or(MalformedRepair::Truncated)?;
        rest = after;
        let group = bytes.iter().fold(0, |g, &b| g << 8 | u64::from(b));
        is_last = group >> (len - 1) == 1;
        mask.insert_bits(start, len - 1, group);
        if is_last {
            break;
        }
    }
    if !is_last {
        return Err(MalformedRepair::Unsupported);
    }
    if mask.count() == 0 {
        return Err(MalformedRepair::ProtectsNothing);
    }
    Ok(Repair {
        ssrc: Some(Ssrc(u32::from_be_bytes([
            fixed[12], fixed[13], fixed[14], fixed[15],
        ]))),
        base: u16::from_be_bytes([fixed[16], fixed[17]]),
        mask,
        header: ParityHeader {
            flags: fixed[0] & FLAGS,
            kind: fixed[1],
            length: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        },
        body: rest,
    })
}

/// Writes a repair packet's payload and returns its length. `ssrc` is the protected stream.
///
/// None when the buffer is too short or the mask is empty.
#[allow(
    clippy::indexing_slicing,
    reason = "the header was cut to the length of what is written into it"
)]
pub fn write(
    buffer: &mut [u8],
    ssrc: Ssrc,
    base: u16,
    mask: Mask,
    parity: &Parity,
) -> Option<usize> {
    let groups = match mask.span() {
        0 => return None,
        1..=15 => 1,
        16..=46 => 2,
        _ => 3,
    };
    let groups = &GROUPS[..groups];
    let mask_len: usize = groups.iter().map(|(_, len)| len / 8).sum();
    let header_len = MASK_AT + mask_len;
    let len = header_len + parity.body().len();
    let (header, body) = buffer.get_mut(..len)?.split_at_mut(header_len);
    let parity_header = parity.header();
    header[0] = parity_header.flags;
    header[1] = parity_header.kind;
    header[2..4].copy_from_slice(&parity_header.length.to_be_bytes());
    header[4..8].copy_from_slice(&parity_header.timestamp.to_be_bytes());
    header[8..12].copy_from_slice(&[1, 0, 0, 0]);
    header[12..16].copy_from_slice(&ssrc.0.to_be_bytes());
    header[16..18].copy_from_slice(&base.to_be_bytes());
    let mut at = MASK_AT;
    for (index, &(start, len)) in groups.iter().enumerate() {
        let is_last = u64::from(index + 1 == groups.len());
        let group = is_last << (len - 1) | mask.bits(start, len - 1);
        let bytes = &group.to_be_bytes()[8 - len / 8..];
        header[at..at + len / 8].copy_from_slice(bytes);
        at += len / 8;
    }
    body.copy_from_slice(parity.body());
    Some(len)
}
