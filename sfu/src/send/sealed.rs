//! Datagrams as they left, for a receiver that asks for the very same packet again.
//!
//! In: sealed packets of streams that are repaired without RTX. Out: the same bytes, by the packet's
//! number. A packet that is sent again under its own number may not be sealed anew: its header would say
//! other things of the sending, and two packets that differ under one nonce give the key away (RFC 3711
//! section 9.1, RFC 7714 section 8.4). One ring serves all streams of a peer.

use std::collections::HashMap;
use std::time::Instant;

use crate::publish::history::MAX_AGE;
use crate::rtp::sequence::SequenceNumber;
use crate::types::Ssrc;

/// Packets kept for a peer: a second at 5 Mbit/s, and 700 kB at most. Receivers without RTX are few.
pub(crate) const PACKETS: usize = 512;

#[derive(Debug)]
pub(crate) struct Sealed {
    /// Its stream and its number there, as on the wire.
    key: (Ssrc, u16),
    at: Instant,
    /// Its transport-wide number, if it has one.
    pub transport: Option<SequenceNumber>,
    pub bytes: Vec<u8>,
}

/// What one peer was sent of late.
#[derive(Debug, Default)]
pub(crate) struct SealedRing {
    /// Grows to [`PACKETS`] once; the buffers are reused.
    packets: Vec<Sealed>,
    /// Where the next one goes once it has grown.
    oldest: usize,
    places: HashMap<(Ssrc, u16), usize>,
}

impl SealedRing {
    /// Keeps a datagram that leaves now.
    pub(crate) fn keep(
        &mut self,
        at: Instant,
        ssrc: Ssrc,
        sequence: u16,
        transport: Option<SequenceNumber>,
        datagram: &[u8],
    ) {
        let key = (ssrc, sequence);
        let place = match self.packets.len() < PACKETS {
            true => {
                self.packets.push(Sealed {
                    key,
                    at,
                    transport,
                    bytes: Vec::new(),
                });
                self.packets.len() - 1
            }
            false => {
                let oldest = self.oldest;
                self.oldest = (oldest + 1) % PACKETS;
                oldest
            }
        };
        let packet = &mut self.packets[place];
        if self.places.get(&packet.key) == Some(&place) {
            self.places.remove(&packet.key);
        }
        (packet.key, packet.at, packet.transport) = (key, at, transport);
        packet.bytes.clear();
        packet.bytes.extend_from_slice(datagram);
        self.places.insert(key, place);
    }

    /// How long a packet is, while it is of use.
    #[must_use]
    pub(crate) fn size(&self, now: Instant, ssrc: Ssrc, sequence: u16) -> Option<usize> {
        Some(self.get(now, ssrc, sequence)?.bytes.len())
    }

    /// A packet as it left, while it is of use.
    #[must_use]
    pub(crate) fn get(&self, now: Instant, ssrc: Ssrc, sequence: u16) -> Option<&Sealed> {
        let packet = self.packets.get(*self.places.get(&(ssrc, sequence))?)?;
        let is_fresh = now.saturating_duration_since(packet.at) <= MAX_AGE;
        is_fresh.then_some(packet)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_latest_packets_of_all_streams_are_kept_for_a_while() {
        let start = Instant::now();
        let mut ring = SealedRing::default();
        assert!(ring.get(start, Ssrc(1), 0).is_none());
        let streams = [Ssrc(1), Ssrc(2)];
        // Longer than the numbers of a stream are.
        for n in 0..70_000_u32 {
            for ssrc in streams {
                ring.keep(start, ssrc, n as u16, None, &[ssrc.0 as u8, n as u8]);
            }
        }
        let newest = 69_999_u32 as u16;
        for ssrc in streams {
            let is_kept = |back: u16| {
                let n = newest.wrapping_sub(back);
                let sealed = ring.get(start, ssrc, n);
                sealed.is_some_and(|s| s.bytes == [ssrc.0 as u8, n as u8])
            };
            assert!((0..PACKETS as u16 / 2).all(is_kept));
            assert!((PACKETS as u16 / 2..60_000).all(|back| !is_kept(back)));
        }
        assert_eq!((ring.packets.len(), ring.places.len()), (PACKETS, PACKETS));
        let later = start + MAX_AGE + Duration::from_millis(1);
        assert!(ring.get(later, Ssrc(2), newest).is_none());
    }
}
