//! Feedback about lost packets and pictures, and a receiver's bandwidth.

use super::{split_words, words};
use crate::types::Ssrc;

/// What marks application feedback as REMB (draft-alvestrand-rmcat-remb-03 section 2.2).
pub(super) const REMB_NAME: u32 = u32::from_be_bytes(*b"REMB");

/// Bits of the mantissa of a REMB bitrate; the 6 above are its exponent.
pub(super) const REMB_MANTISSA_BITS: u32 = 18;

/// A receiver misses packets (RFC 4585 section 6.2.1).
#[derive(Clone, Copy, Debug)]
pub struct Nack<'a> {
    /// Who misses them.
    pub sender: Ssrc,
    /// The stream they belong to.
    pub media: Ssrc,
    pairs: &'a [u8],
}

impl<'a> Nack<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let ([sender, media], pairs) = split_words(body)?;
        Some(Nack {
            sender: Ssrc(sender),
            media: Ssrc(media),
            pairs,
        })
    }

    /// The sequence numbers it misses, at most 17 for 4 bytes of the packet.
    pub fn lost(&self) -> impl Iterator<Item = u16> + 'a {
        words(self.pairs).flat_map(|pair| {
            let (first, bitmask) = ((pair >> 16) as u16, pair as u16);
            let follow = (0..16).filter(move |bit| bitmask >> bit & 1 != 0);
            std::iter::once(first).chain(follow.map(move |bit| first.wrapping_add(bit + 1)))
        })
    }
}

/// A receiver cannot decode without a key frame (RFC 4585 section 6.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PictureLoss {
    /// Who cannot.
    pub sender: Ssrc,
    /// The stream.
    pub media: Ssrc,
}

impl PictureLoss {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let ([sender, media], _) = split_words(body)?;
        Some(PictureLoss {
            sender: Ssrc(sender),
            media: Ssrc(media),
        })
    }
}

/// Somebody wants a key frame (RFC 5104 section 4.3.1).
#[derive(Clone, Copy, Debug)]
pub struct FullIntraRequest<'a> {
    /// Who wants it.
    pub sender: Ssrc,
    entries: &'a [u8],
}

impl<'a> FullIntraRequest<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let ([sender, _media], entries) = split_words(body)?;
        Some(FullIntraRequest {
            sender: Ssrc(sender),
            entries,
        })
    }

    /// The streams it is wanted of, each with a number that differs from request to request but
    /// not when one is repeated.
    pub fn entries(&self) -> impl Iterator<Item = (Ssrc, u8)> + 'a {
        self.entries
            .as_chunks::<8>()
            .0
            .iter()
            .filter_map(|entry| split_words(entry))
            .map(|([ssrc, number], _)| (Ssrc(ssrc), (number >> 24) as u8))
    }
}

/// A receiver's estimate of its bandwidth (draft-alvestrand-rmcat-remb-03).
#[derive(Clone, Copy, Debug)]
pub struct Remb<'a> {
    /// Who estimates.
    pub sender: Ssrc,
    /// For all the streams together, bits per second.
    pub bitrate: u64,
    streams: &'a [u8],
}

impl<'a> Remb<'a> {
    pub(super) fn is_named_in(body: &[u8]) -> bool {
        matches!(split_words(body), Some(([_, _, REMB_NAME], _)))
    }

    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let ([sender, _media, _name, rate], rest) = split_words(body)?;
        let mantissa = u128::from(rate & ((1 << REMB_MANTISSA_BITS) - 1));
        let exponent = rate >> REMB_MANTISSA_BITS & 0x3f;
        Some(Remb {
            sender: Ssrc(sender),
            bitrate: u64::try_from(mantissa << exponent).unwrap_or(u64::MAX),
            streams: rest.get(..(rate >> 24) as usize * 4)?,
        })
    }

    /// The streams it is about.
    pub fn ssrcs(&self) -> impl Iterator<Item = Ssrc> + 'a {
        words(self.streams).map(Ssrc)
    }
}
