//! What a publisher's repair packets give back: the receiving side of ULPFEC and FlexFEC for one
//! encoding.
//!
//! In: media packets as they were protected (out of their RED, with the header extensions that are
//! written last set to zero), and repair packets. Out: packets that were lost, byte for byte, each
//! of which may make another repair packet of use. Until the first repair packet it keeps nothing.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::collections::VecDeque;

use crate::rtp::fec::{MAX_PACKET, Mask, Parity, ParityHeader, Repair};
use crate::rtp::packet::RtpHeader;
use crate::rtp::sequence::SequenceNumber;
use crate::types::Ssrc;

/// Media packets kept. A repair packet follows the frame that it protects, of which the longest it
/// can has 109 packets.
const WINDOW: usize = 128;

/// Repair packets that wait for more media at most; libwebrtc keeps 48. Each new packet is compared
/// with each of them.
const MAX_WAITING: usize = 32;

/// A repair packet that lacks more than one of the packets it protects.
#[derive(Debug, Default)]
struct Waiting {
    base: SequenceNumber,
    mask: Mask,
    /// Those of the mask that have not come.
    missing: Mask,
    header: ParityHeader,
    body: Vec<u8>,
}

/// A media packet in the window. Its buffer outlives it.
#[derive(Debug, Default)]
struct Kept {
    sequence: Option<SequenceNumber>,
    packet: Vec<u8>,
}

/// The repair of one encoding.
#[derive(Debug, Default)]
pub struct Repairer {
    /// By sequence number. Empty until there is anything to repair with.
    window: Vec<Kept>,
    newest: SequenceNumber,
    waiting: VecDeque<Waiting>,
    /// Emptied ones, for their buffers.
    spare: Vec<Waiting>,
    parity: Parity,
    recovered: Vec<u8>,
}

impl Repairer {
    /// Whether media packets are worth handing over.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.window.is_empty()
    }

    /// Keeps a media packet, in the form in which it was protected. The caller can change what was
    /// kept through what is returned; none when it is too old or too long.
    pub fn handle_media(&mut self, sequence: SequenceNumber, packet: &[u8]) -> Option<&mut [u8]> {
        let is_late = sequence.0 + WINDOW as u64 <= self.newest.0;
        if !self.is_active() || is_late || packet.len() > MAX_PACKET {
            return None;
        }
        self.newest = self.newest.max(sequence);
        for waiting in &mut self.waiting {
            if let Ok(distance) = usize::try_from(sequence - waiting.base) {
                waiting.missing.remove(distance);
            }
        }
        let kept = self.window.get_mut(place(sequence))?;
        kept.sequence = Some(sequence);
        kept.packet.clear();
        kept.packet.extend_from_slice(packet);
        Some(&mut kept.packet)
    }

    /// Takes a repair packet; `newest` is the highest sequence number of the protected stream.
    pub fn handle_repair(&mut self, newest: SequenceNumber, repair: &Repair<'_>) {
        if !self.is_active() {
            self.window.resize_with(WINDOW, Kept::default);
            self.newest = newest;
        }
        let base = newest.nearest(repair.base);
        if (base - newest).unsigned_abs() >= WINDOW as u64 || repair.body.len() > MAX_PACKET {
            return;
        }
        let mut missing = repair.mask;
        for distance in repair.mask.iter() {
            if self.get(base + distance as u64).is_some() {
                missing.remove(distance);
            }
        }
        if missing.count() == 0 {
            return;
        }
        if self.waiting.len() == MAX_WAITING {
            self.spare.extend(self.waiting.pop_front());
        }
        let mut body = self.spare.pop().unwrap_or_default().body;
        body.clear();
        body.extend_from_slice(repair.body);
        self.waiting.push_back(Waiting {
            base,
            mask: repair.mask,
            missing,
            header: repair.header,
            body,
        });
    }

    /// A packet that can be recovered now, of the stream with this SSRC. To be called until there is
    /// none: each may complete what protects another.
    pub fn poll_recovered(&mut self, ssrc: Ssrc) -> Option<(SequenceNumber, &[u8])> {
        while let Some(at) = self.waiting.iter().position(|w| w.missing.count() <= 1) {
            let waiting = self.waiting.remove(at)?;
            let sequence = self.recover(&waiting, ssrc);
            self.spare.push(waiting);
            if let Some(sequence) = sequence {
                let packet = std::mem::take(&mut self.recovered);
                self.handle_media(sequence, &packet);
                self.recovered = packet;
                return Some((sequence, &self.recovered));
            }
        }
        None
    }

    /// Puts the one packet that is missing into `recovered`.
    fn recover(&mut self, waiting: &Waiting, ssrc: Ssrc) -> Option<SequenceNumber> {
        let missing = waiting.missing.iter().next()?;
        self.parity.start(waiting.header, &waiting.body);
        for distance in waiting.mask.iter().filter(|&d| d != missing) {
            let at = place(waiting.base + distance as u64);
            let kept = self.window.get(at)?;
            // It was there, but may have been pushed out since.
            if kept.sequence != Some(waiting.base + distance as u64) {
                return None;
            }
            self.parity.add(&kept.packet);
        }
        let sequence = waiting.base + missing as u64;
        let is_whole = self
            .parity
            .recover(sequence.wire(), ssrc, &mut self.recovered)
            && RtpHeader::parse(&self.recovered).is_ok();
        is_whole.then_some(sequence)
    }

    fn get(&self, sequence: SequenceNumber) -> Option<&Kept> {
        let kept = self.window.get(place(sequence))?;
        (kept.sequence == Some(sequence)).then_some(kept)
    }
}

fn place(sequence: SequenceNumber) -> usize {
    (sequence.0 % WINDOW as u64) as usize
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;
    use crate::rtp::fec::{flexfec, tests::packet, ulpfec};
    use proptest::prelude::*;

    const SSRC: Ssrc = Ssrc(0x1234_5678);
    const FIRST: u64 = (1 << 16) + 65_530;

    fn media(sequence: SequenceNumber, fill: u8) -> Vec<u8> {
        let len = 10 + usize::from(fill);
        packet(sequence.wire(), &vec![fill; len], 3000, 96, 0)
    }

    /// A repair packet over those of `packets` at these distances from the first.
    fn repair(packets: &[Vec<u8>], distances: &[usize]) -> Vec<u8> {
        let (mut mask, mut parity) = (Mask::default(), Parity::default());
        for &distance in distances {
            mask.insert(distance);
            parity.add(&packets[distance]);
        }
        let mut buffer = [0; 2000];
        let base = SequenceNumber(FIRST).wire();
        let len = ulpfec::write(&mut buffer, base, mask, &parity).unwrap();
        buffer[..len].to_vec()
    }

    fn stream(count: u8) -> Vec<Vec<u8>> {
        (0..count)
            .map(|n| media(SequenceNumber(FIRST + u64::from(n)), n))
            .collect()
    }

    fn recovered(repairer: &mut Repairer) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some((sequence, packet)) = repairer.poll_recovered(SSRC) {
            assert_eq!(sequence.wire().to_be_bytes(), packet[2..4]);
            all.push(packet.to_vec());
        }
        all
    }

    fn warm(newest: u64) -> Repairer {
        let mut repairer = Repairer::default();
        let parity = repair(&stream(1), &[0]);
        let nothing = Repair {
            base: 0,
            ..ulpfec::parse(&parity).unwrap()
        };
        repairer.handle_repair(SequenceNumber(newest), &nothing);
        assert!(repairer.is_active());
        repairer.waiting.clear();
        repairer
    }

    #[test]
    fn one_recovered_packet_helps_to_the_next() {
        let packets = stream(8);
        let mut repairer = warm(FIRST);
        // 2 and 5 are lost; the first repair packet lacks both, the second only 5.
        for at in [0, 1, 3, 4, 6, 7] {
            repairer.handle_media(SequenceNumber(FIRST + at), &packets[at as usize]);
        }
        let newest = SequenceNumber(FIRST + 7);
        let parity = repair(&packets, &[0, 2, 5, 7]);
        repairer.handle_repair(newest, &ulpfec::parse(&parity).unwrap());
        assert_eq!(recovered(&mut repairer), Vec::<Vec<u8>>::new());
        let parity = repair(&packets, &[1, 5]);
        repairer.handle_repair(newest, &ulpfec::parse(&parity).unwrap());
        assert_eq!(
            recovered(&mut repairer),
            [packets[5].clone(), packets[2].clone()]
        );
        assert!(repairer.waiting.is_empty());
    }

    #[test]
    fn media_that_comes_after_its_repair_packet_counts_too() {
        let packets = stream(3);
        let mut repairer = warm(FIRST);
        let parity = repair(&packets, &[0, 1, 2]);
        repairer.handle_repair(SequenceNumber(FIRST), &ulpfec::parse(&parity).unwrap());
        repairer.handle_media(SequenceNumber(FIRST + 2), &packets[2]);
        assert_eq!(recovered(&mut repairer).len(), 0);
        repairer.handle_media(SequenceNumber(FIRST), &packets[0]);
        assert_eq!(recovered(&mut repairer), [packets[1].clone()]);
    }

    #[test]
    fn nothing_is_kept_for_a_publisher_without_repair() {
        let mut repairer = Repairer::default();
        assert_eq!(
            repairer.handle_media(SequenceNumber(FIRST), &media(SequenceNumber(FIRST), 1)),
            None
        );
        assert!(repairer.window.is_empty());
    }

    #[test]
    fn repair_from_far_away_is_refused_and_a_flood_is_bounded() {
        let packets = stream(4);
        let parity = repair(&packets, &[0, 1]);
        let parsed = ulpfec::parse(&parity).unwrap();
        let mut repairer = warm(FIRST);
        repairer.handle_repair(SequenceNumber(FIRST + WINDOW as u64), &parsed);
        assert!(repairer.waiting.is_empty());
        for _ in 0..10 * MAX_WAITING {
            repairer.handle_repair(SequenceNumber(FIRST), &parsed);
        }
        assert_eq!(repairer.waiting.len(), MAX_WAITING);
        assert!(repairer.spare.len() <= MAX_WAITING);
    }

    proptest! {
        /// With a repair packet over every row and column of a block, any single loss in a row or
        /// column comes back, and what comes back is what was sent.
        #[test]
        fn what_comes_back_is_what_was_sent(lost in prop::collection::btree_set(0usize..16, 0..6)) {
            let packets = stream(16);
            let mut repairer = warm(FIRST);
            for at in (0..16).filter(|at| !lost.contains(at)) {
                repairer.handle_media(SequenceNumber(FIRST + at as u64), &packets[at]);
            }
            let mut all = Vec::new();
            for line in 0..4 {
                let row: Vec<_> = (0..4).map(|n| 4 * line + n).collect();
                let column: Vec<_> = (0..4).map(|n| line + 4 * n).collect();
                for distances in [row, column] {
                    let parity = repair(&packets, &distances);
                    repairer.handle_repair(SequenceNumber(FIRST + 15), &ulpfec::parse(&parity).unwrap());
                    all.extend(recovered(&mut repairer));
                }
            }
            all.sort();
            let mut expected: Vec<_> = lost.iter().map(|&at| packets[at].clone()).collect();
            expected.sort();
            prop_assert!(all.iter().all(|packet| expected.contains(packet)));
            if lost.len() <= 3 {
                prop_assert_eq!(all, expected);
            }
        }

        #[test]
        fn no_bytes_do_harm(
            input in prop::collection::vec((any::<bool>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..60)), 0..60),
        ) {
            let mut repairer = warm(FIRST);
            let mut newest = SequenceNumber(FIRST);
            for (is_media, wire, mut bytes) in input {
                newest = newest.max(newest.nearest(wire));
                if is_media {
                    repairer.handle_media(newest.nearest(wire), &bytes);
                } else if let Ok(repair) = ulpfec::parse(&bytes) {
                    repairer.handle_repair(newest, &repair);
                } else if bytes.len() > 8 {
                    bytes[0] &= 0x3f;
                    bytes[8] = 1;
                    if let Ok(repair) = flexfec::parse(&bytes) {
                        repairer.handle_repair(newest, &repair);
                    }
                }
                let mut count = 0;
                while repairer.poll_recovered(SSRC).is_some() {
                    count += 1;
                    prop_assert!(count <= MAX_WAITING);
                }
            }
        }
    }
}
