//! Parity over RTP packets: what ULPFEC (RFC 5109) and FlexFEC have in common.
//!
//! Both send the exclusive or of some packets, named by a base sequence number and a mask. In: the
//! packets that a sender protects, or those that a receiver has of them. Out: the parity to send, or
//! the one packet that was missing, byte for byte. [`ulpfec`] and [`flexfec`] only differ in how a
//! repair packet's header is laid out.

pub mod flexfec;
pub mod ulpfec;

use super::packet::FIXED_HEADER_LEN;
use crate::types::Ssrc;

/// Most packets that one repair packet can protect: FlexFEC's longest mask.
pub const MAX_PROTECTED: usize = 109;

/// Largest packet that is protected or recovered, bytes: what fits the Ethernet paths that datagrams
/// cross unfragmented.
pub const MAX_PACKET: usize = 1500;

/// The parts of a packet's first eight bytes that are protected as they are: padding, extension and
/// source count, but not the version (RFC 5109 section 7.3).
const FLAGS: u8 = 0x3f;

/// RTP version 2, in the first byte.
const VERSION: u8 = 0x80;

/// Which packets are protected, as distances from the base: 0 to [`MAX_PROTECTED`] - 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Mask(u128);

impl Mask {
    /// Adds a packet. One too far away is left out, and said so.
    pub fn insert(&mut self, distance: usize) -> bool {
        let fits = distance < MAX_PROTECTED;
        if fits {
            self.0 |= 1 << distance;
        }
        fits
    }

    /// Takes a packet out. Says whether it was in.
    pub fn remove(&mut self, distance: usize) -> bool {
        let was_in = self.contains(distance);
        if was_in {
            self.0 &= !(1 << distance);
        }
        was_in
    }

    /// Whether a packet is protected.
    #[must_use]
    pub fn contains(self, distance: usize) -> bool {
        distance < MAX_PROTECTED && self.0 >> distance & 1 == 1
    }

    /// How many packets are protected.
    #[must_use]
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The distance of the last packet, and one more; 0 when there is none.
    #[must_use]
    pub fn span(self) -> usize {
        (u128::BITS - self.0.leading_zeros()) as usize
    }

    /// The distances of the packets, nearest first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let distance = rest.trailing_zeros() as usize;
            // Clears the lowest bit that is set.
            rest &= rest.checked_sub(1)?;
            Some(distance)
        })
    }

    /// `len` bits from `start` on, the nearest packet in the highest of them.
    fn bits(self, start: usize, len: usize) -> u64 {
        (0..len).fold(0, |bits, at| {
            bits << 1 | u64::from(self.contains(start + at))
        })
    }

    /// The reverse of [`Mask::bits`].
    fn insert_bits(&mut self, start: usize, len: usize, bits: u64) {
        for at in (0..len).filter(|at| bits >> (len - 1 - at) & 1 == 1) {
            self.insert(start + at);
        }
    }
}

/// A repair packet as it was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repair<'a> {
    /// The stream it protects, when the packet says: FlexFEC does.
    pub ssrc: Option<Ssrc>,
    /// The sequence number that the mask counts from.
    pub base: u16,
    /// The packets it protects: at least one.
    pub mask: Mask,
    /// The parity of their first bytes.
    pub header: ParityHeader,
    /// The parity of what follows the fixed header.
    pub body: &'a [u8],
}

/// The repair packet is no such, or is of a form that nobody sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MalformedRepair {
    /// It ends within its own header, or its length runs past the end.
    #[error("the repair packet is shorter than it says")]
    Truncated,
    /// Its mask has no bit set.
    #[error("the repair packet protects nothing")]
    ProtectsNothing,
    /// RFC 5109's extension bit, FlexFEC's retransmissions, fixed masks and several sources.
    #[error("the repair packet is of a form that is not supported")]
    Unsupported,
}

/// The exclusive or of what the fixed headers of some packets say. Sequence number and SSRC are
/// not in it: the receiver knows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ParityHeader {
    /// Padding, extension and source count.
    pub flags: u8,
    /// Marker and payload type.
    pub kind: u8,
    /// Bytes after the fixed header.
    pub length: u16,
    /// Timestamp.
    pub timestamp: u32,
}

impl ParityHeader {
    fn add(&mut self, other: ParityHeader) {
        self.flags ^= other.flags;
        self.kind ^= other.kind;
        self.length ^= other.length;
        self.timestamp ^= other.timestamp;
    }
}

/// The exclusive or of some packets. Grows to [`MAX_PACKET`] once and is then reused.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Parity {
    header: ParityHeader,
    body: Vec<u8>,
}

impl Parity {
    /// Forgets every packet.
    pub fn clear(&mut self) {
        self.header = ParityHeader::default();
        self.body.clear();
    }

    /// The parity of the fixed headers.
    #[must_use]
    pub fn header(&self) -> ParityHeader {
        self.header
    }

    /// The parity of the rest, as long as the longest packet.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Starts with the parity that a repair packet carries.
    pub fn start(&mut self, header: ParityHeader, body: &[u8]) {
        self.header = header;
        self.body.clear();
        self.body.extend_from_slice(body);
    }

    /// Adds a packet, or takes it out again, which is the same. Says no, and does nothing, when it
    /// is not a packet or longer than [`MAX_PACKET`].
    pub fn add(&mut self, packet: &[u8]) -> bool {
        self.add_parts(packet, &[])
    }

    /// As [`Parity::add`], for a packet in two parts of which the first has the whole header.
    pub fn add_parts(&mut self, head: &[u8], tail: &[u8]) -> bool {
        let Some((fixed, rest)) = head.split_first_chunk::<FIXED_HEADER_LEN>() else {
            return false;
        };
        let length = rest.len() + tail.len();
        if FIXED_HEADER_LEN + length > MAX_PACKET {
            return false;
        }
        self.header.add(ParityHeader {
            flags: fixed[0] & FLAGS,
            kind: fixed[1],
            length: length as u16,
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        });
        if self.body.len() < length {
            self.body.resize(length, 0);
        }
        let (first, second) = self.body.split_at_mut(rest.len());
        xor(first, rest);
        xor(second, tail);
        true
    }

    /// What is left once all packets but one are taken out: that one. It is put into `packet`, which
    /// is left empty when the parity is not that of a packet; says whether it is.
    pub fn recover(&self, sequence: u16, ssrc: Ssrc, packet: &mut Vec<u8>) -> bool {
        packet.clear();
        let Some(rest) = self.body.get(..usize::from(self.header.length)) else {
            return false;
        };
        packet.extend_from_slice(&[VERSION | self.header.flags, self.header.kind]);
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&self.header.timestamp.to_be_bytes());
        packet.extend_from_slice(&ssrc.0.to_be_bytes());
        packet.extend_from_slice(rest);
        true
    }
}

fn xor(sum: &mut [u8], bytes: &[u8]) {
    for (sum, byte) in sum.iter_mut().zip(bytes) {
        *sum ^= byte;
    }
}

#[cfg(test)]
pub(crate) mod tests;
