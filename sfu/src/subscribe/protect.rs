//! FEC for one subscriber's video: parity over the packets that it was really sent.
//!
//! In: each packet as the subscriber sees it, and how much protection the policy wants. Out: blocks
//! of parity to be sent as repair packets, always between two frames: ULPFEC shares the numbers of
//! the media, and one that is lost within a frame would leave a hole that holds the frame up.

use std::time::{Duration, Instant};

use super::policy::Protection;
use crate::rtp::fec::{Mask, Parity, ulpfec};
use crate::rtp::sequence::SequenceNumber;

/// Most packets of media in a block. A receiver keeps 48 of media and 48 of repair (libwebrtc's
/// `kUlpfecMaxMediaPackets`); half of it leaves room for what is late.
const MAX_BLOCK: usize = 24;

/// Most rows that wait for the end of their frame: key frames of 128 packets are protected whole.
const MAX_ROWS: usize = 128;

/// Most numbers from the first packet of a block to its last: what both schemes can say.
const MAX_SPAN: usize = ulpfec::MAX_SPAN;

/// Longest that a block stays open at the end of a frame: a packet that is recovered later than
/// this could as well have been asked for again.
const MAX_OPEN: Duration = Duration::from_millis(120);

/// How far the rows are from each other that protect one packet, so that no two packets share more
/// than one row (a difference set).
const ROW_OFFSETS: [usize; 3] = [0, 1, 3];

/// The least rows, and the least share of rows to packets, from which on three rows for each packet
/// give back more than two: simulated at 10 and 30 % random loss.
const THREE_ROWS_FROM: (usize, f64) = (5, 0.9);

/// A packet as the subscriber's repair sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'a> {
    pub sequence: SequenceNumber,
    /// The header as it is protected: plain payload type, and zero what is filled in last.
    pub header: &'a [u8],
    pub payload: &'a [u8],
    /// It starts a key frame.
    pub starts_key_frame: bool,
    /// It is the last of its frame.
    pub ends_picture: bool,
    /// Nothing with a higher number has been sent.
    pub is_newest: bool,
    /// Other frames depend on it.
    pub is_base: bool,
    /// A repair packet for it, which is longer, fits the path.
    pub fits: bool,
}

#[derive(Debug, Default)]
struct Row {
    /// The number that the mask counts from.
    base: SequenceNumber,
    mask: Mask,
    parity: Parity,
}

/// A packet of the open block. Its buffer outlives it.
#[derive(Debug, Default)]
struct Member {
    distance: usize,
    header: Vec<u8>,
    payload: Vec<u8>,
}

/// The protection of one slot.
#[derive(Debug, Default)]
pub(crate) struct Protector {
    /// The open block's packets. Made when first needed, and reused.
    block: Vec<Member>,
    /// How many of them are in use.
    packets: usize,
    /// The number of the open block's first packet.
    base: SequenceNumber,
    opened: Option<Instant>,
    in_key_frame: bool,
    /// What protects blocks that are full. Reused.
    rows: Vec<Row>,
    /// How many of them wait for their frame's end.
    full: usize,
    /// How many are still to be taken by [`Protector::poll_repair`].
    ready: usize,
}

impl Protector {
    /// Whether a packet that comes next would be protected.
    #[must_use]
    pub(crate) fn wants(&self, protection: &Protection, is_key_frame: bool, is_base: bool) -> bool {
        let ratio = ratio(protection, is_key_frame || self.in_key_frame);
        ratio > 0.0 && (is_base || protection.protects_all)
    }

    /// Takes a packet that has been sent. [`Protector::poll_repair`] may have something then.
    pub(crate) fn handle_packet(&mut self, now: Instant, protection: &Protection, sent: &Sent<'_>) {
        if sent.starts_key_frame {
            // What is open protects frames that no longer matter.
            (self.full, self.packets) = (0, 0);
            self.in_key_frame = true;
        }
        if sent.fits && self.wants(protection, self.in_key_frame, sent.is_base) {
            self.add(now, sent);
        }
        // The end of an earlier frame that comes late may be in the middle of this one.
        let ends_picture = sent.ends_picture && sent.is_newest;
        let rows = ratio(protection, self.in_key_frame) * self.packets as f64;
        let is_old = || {
            let open_for = self.opened.map(|at| now.saturating_duration_since(at));
            open_for.is_some_and(|open_for| open_for >= MAX_OPEN)
        };
        let is_over = ends_picture
            && (rows.round() as usize >= protection.interleaving.max(1)
                || self.in_key_frame
                || self.full > 0
                || is_old());
        let span = sent.sequence - self.base + 1;
        if is_over || self.packets >= MAX_BLOCK || span >= MAX_SPAN as i64 {
            self.close(rows.round() as usize, protection.interleaving);
        }
        if ends_picture {
            self.in_key_frame = false;
            if self.packets == 0 {
                self.ready = std::mem::take(&mut self.full);
            }
        }
    }

    fn add(&mut self, now: Instant, sent: &Sent<'_>) {
        if self.packets == 0 {
            self.base = sent.sequence;
            self.opened = Some(now);
        }
        let Ok(distance) = usize::try_from(sent.sequence - self.base) else {
            return;
        };
        if distance >= MAX_SPAN {
            return;
        }
        if self.block.len() == self.packets {
            self.block.push(Member::default());
        }
        let member = &mut self.block[self.packets];
        member.distance = distance;
        member.header.clear();
        member.header.extend_from_slice(sent.header);
        member.payload.clear();
        member.payload.extend_from_slice(sent.payload);
        self.packets += 1;
    }

    /// Makes the rows of the open block.
    fn close(&mut self, rows: usize, interleaving: usize) {
        let packets = std::mem::take(&mut self.packets);
        let rows = rows.clamp(1, packets.max(1)).min(MAX_ROWS - self.full);
        if packets == 0 || rows == 0 {
            return;
        }
        let all = self.full + rows;
        if self.rows.len() < all {
            self.rows.resize_with(all, Row::default);
        }
        let open = &mut self.rows[self.full..all];
        for row in &mut *open {
            row.base = self.base;
            row.mask = Mask::default();
            row.parity.clear();
        }
        let offsets = rows_of_a_packet(packets, rows, interleaving);
        for (at, member) in self.block[..packets].iter().enumerate() {
            for (n, offset) in offsets.iter().enumerate() {
                // Each round over the rows pairs them differently.
                let row = &mut open[(at + offset + n * (at / rows)) % rows];
                if !row.mask.contains(member.distance)
                    && row.parity.add_parts(&member.header, &member.payload)
                {
                    row.mask.insert(member.distance);
                }
            }
        }
        self.full = all;
    }

    /// Whether packets of frames have been taken that have not been protected yet.
    #[must_use]
    pub(crate) fn is_open(&self) -> bool {
        self.packets > 0 || self.full > 0 || self.in_key_frame
    }

    /// What to send as a repair packet now: the number that the mask counts from, the mask, and the
    /// parity. To be called until there is none.
    pub(crate) fn poll_repair(&mut self) -> Option<(SequenceNumber, Mask, &Parity)> {
        loop {
            self.ready = self.ready.checked_sub(1)?;
            let at = self.ready;
            if self.rows.get(at)?.mask.count() > 0 {
                let row = &self.rows[at];
                return Some((row.base, row.mask, &row.parity));
            }
        }
    }
}

fn ratio(protection: &Protection, is_key_frame: bool) -> f64 {
    match is_key_frame {
        true => protection.key_frame_fec_ratio,
        false => protection.fec_ratio,
    }
}

/// In how many rows, and how far from each other, a packet is. Against single losses each is in
/// several: what one row cannot give back another may, and what it gives back helps the first. A
/// burst takes neighbours together, and rows that share packets would then be useless together.
fn rows_of_a_packet(packets: usize, rows: usize, interleaving: usize) -> &'static [usize] {
    let share = rows as f64 / packets as f64;
    let (least_rows, least_share) = THREE_ROWS_FROM;
    let count = match rows {
        1 => 1,
        _ if interleaving > 1 => 1,
        rows if rows >= least_rows && share >= least_share => 3,
        _ => 2,
    };
    &ROW_OFFSETS[..count]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of so many packets are of packets too long to be protected.
    const LONG: usize = 30;

    const HEADER: [u8; 12] = [0x80; 12];

    fn protection(ratio: f64, interleaving: usize) -> Protection {
        Protection {
            fec_ratio: ratio,
            key_frame_fec_ratio: (2.0 * ratio).min(1.0),
            interleaving,
            ..Protection::default()
        }
    }

    /// Sends frames of `size` packets at 30 a second, and gives back the masks of what protects
    /// them, by the number of their first packet.
    fn run(protection: &Protection, pictures: &[(usize, bool)]) -> Vec<(u64, Vec<usize>)> {
        let start = Instant::now();
        let mut protector = Protector::default();
        let mut sequence = 100;
        let mut repair = Vec::new();
        for (n, &(size, is_key)) in pictures.iter().enumerate() {
            let now = start + Duration::from_millis(33) * n as u32;
            for packet in 0..size {
                protector.handle_packet(
                    now,
                    protection,
                    &Sent {
                        sequence: SequenceNumber(sequence),
                        header: &HEADER,
                        payload: &[packet as u8; 10],
                        starts_key_frame: is_key && packet == 0,
                        ends_picture: packet + 1 == size,
                        is_newest: true,
                        is_base: true,
                        fits: size != LONG,
                    },
                );
                sequence += 1;
                while let Some((base, mask, parity)) = protector.poll_repair() {
                    assert_eq!(parity.body().len(), 10);
                    repair.push((base.0, mask.iter().collect()));
                }
            }
        }
        repair
    }

    #[test]
    fn no_loss_costs_nothing() {
        assert_eq!(
            run(&protection(0.0, 1), &[(20, true), (3, false), (3, false)]),
            []
        );
    }

    #[test]
    fn a_block_ends_with_the_picture_that_fills_it() {
        let repair = run(&protection(0.1, 1), &[(3, false), (3, false), (3, false)]);
        assert_eq!(repair, [(100, (0..6).collect())]);
    }

    #[test]
    fn against_bursts_neighbours_are_in_different_rows() {
        let repair = run(&protection(0.5, 2), &[(4, false)]);
        assert_eq!(repair, [(100, vec![1, 3]), (100, vec![0, 2])]);
    }

    #[test]
    fn against_single_losses_a_packet_is_in_several_rows() {
        let rows_of = |ratio| {
            let repair = run(&protection(ratio, 1), &[(8, false)]);
            let rows = |at| repair.iter().filter(|(_, mask)| mask.contains(&at)).count();
            (repair.len(), (0..8).map(rows).min().unwrap_or(0))
        };
        assert_eq!(
            [rows_of(0.1), rows_of(0.5), rows_of(1.0)],
            [(1, 1), (4, 2), (8, 3)]
        );
    }

    /// What the number of rows is good for: of any block with as many rows as packets, any two
    /// packets that are lost come back.
    #[test]
    fn two_losses_in_a_well_protected_picture_come_back() {
        for packets in 3..=MAX_BLOCK {
            let repair = run(&protection(1.0, 1), &[(packets, false)]);
            for one in 0..packets {
                for other in 0..one {
                    let alone = |lost: usize, too: usize| {
                        repair
                            .iter()
                            .any(|(_, mask)| mask.contains(&lost) && !mask.contains(&too))
                    };
                    assert!(
                        alone(one, other) || alone(other, one),
                        "{packets}: {one}, {other}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_key_frame_has_its_own_and_more() {
        // A frame before it stays open and is given up.
        let repair = run(&protection(0.2, 1), &[(1, false), (8, true), (1, false)]);
        // 0.4 of 8 packets.
        assert_eq!(repair.len(), 3);
        assert!(repair.iter().all(|(base, _)| *base == 101));
        for at in 0..8 {
            assert!(repair.iter().any(|(_, mask)| mask.contains(&at)), "{at}");
        }
    }

    #[test]
    fn what_is_too_long_goes_unprotected_and_the_rest_does_not() {
        let repair = run(
            &protection(0.3, 1),
            &[(1, false), (LONG, false), (4, false)],
        );
        let protected = |at| repair.iter().any(|(_, mask)| mask.contains(&at));
        assert_eq!(
            (0..MAX_SPAN)
                .filter(|at| protected(*at))
                .collect::<Vec<_>>(),
            [0, 31, 32, 33, 34]
        );
        assert_eq!(run(&protection(0.5, 1), &[(LONG, true), (LONG, false)]), []);
    }

    #[test]
    fn a_slow_stream_is_not_waited_for() {
        // One packet a frame and a ratio of a tenth: five frames are over 120 ms.
        let repair = run(&protection(0.1, 1), &[(1, false); 10]);
        assert_eq!(repair, [(100, (0..5).collect()), (105, (0..5).collect())]);
    }

    #[test]
    fn a_long_picture_is_protected_in_parts() {
        let repair = run(&protection(0.5, 1), &[(100, true)]);
        let mut bases: Vec<_> = repair.iter().map(|(base, _)| *base).collect();
        bases.dedup();
        assert_eq!(bases, [196, 172, 148, 124, 100]);
        // All of it, for twice a half.
        assert_eq!(repair.len(), 100);
    }

    #[test]
    fn a_picture_without_end_is_bounded() {
        let repair = run(&protection(0.5, 1), &[(10_000, true)]);
        assert_eq!(repair.len(), MAX_ROWS);
    }

    #[test]
    fn upper_layers_wait_for_heavy_loss() {
        let protector = Protector::default();
        let mut protection = protection(0.1, 1);
        assert!(protector.wants(&protection, false, true));
        assert!(!protector.wants(&protection, false, false));
        protection.protects_all = true;
        assert!(protector.wants(&protection, false, false));
    }
}
