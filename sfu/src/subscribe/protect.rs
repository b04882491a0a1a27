//! FEC for one subscriber's video: parity over the packets that it was really sent.
//!
//! In: each packet as the subscriber sees it, and how much protection the policy wants. Out: blocks
//! of parity to be sent as repair packets, always between two pictures: ULPFEC shares the numbers of
//! the media, and one that is lost within a picture would leave a hole that holds the picture up.
//! Neighbouring packets go to different rows of a block, so that a burst of losses takes one packet
//! of each.

use std::time::{Duration, Instant};

use super::policy::Protection;
use crate::rtp::fec::{Mask, Parity, ulpfec};
use crate::rtp::sequence::SequenceNumber;

/// Most rows of a block.
const MAX_WIDTH: usize = 8;

/// Most rows that wait for the end of their picture: key frames of 128 packets are protected whole.
const MAX_ROWS: usize = 8 * MAX_WIDTH;

/// Most packets of a block, and most numbers from its first to its last: what both schemes can say.
const MAX_SPAN: usize = ulpfec::MAX_SPAN;

/// Packets of a key frame that share their repair packets.
const KEY_FRAME_BLOCK: f64 = 16.0;

/// Longest that a block stays open at the end of a picture: a packet that is recovered later than
/// this could as well have been asked for again.
const MAX_OPEN: Duration = Duration::from_millis(120);

/// A packet as the subscriber's repair sees it.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The subscriber's number.
    pub sequence: SequenceNumber,
    /// The header as it is protected: plain payload type, and zero what is filled in last.
    pub header: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// It starts a key frame.
    pub starts_key_frame: bool,
    /// It is the last of its picture.
    pub ends_picture: bool,
    /// Other pictures depend on it.
    pub is_base: bool,
}

#[derive(Debug, Default)]
struct Row {
    /// The number that the mask counts from.
    base: SequenceNumber,
    mask: Mask,
    parity: Parity,
}

/// The protection of one slot.
#[derive(Debug, Default)]
pub struct Protector {
    /// Made when first needed, and reused.
    rows: Vec<Row>,
    /// Rows of blocks that are full, at the front, until their picture ends.
    full: usize,
    /// How many rows the open block has, after the full ones; 0 when none is open.
    width: usize,
    base: SequenceNumber,
    opened: Option<Instant>,
    /// Packets in the open block.
    packets: usize,
    /// How many packets the open block is meant for.
    capacity: f64,
    in_key_frame: bool,
    /// Rows still to be taken by [`Protector::poll_repair`].
    ready: usize,
}

impl Protector {
    /// Whether a packet that comes next would be protected.
    #[must_use]
    pub fn wants(&self, protection: &Protection, is_key_frame: bool, is_base: bool) -> bool {
        let ratio = match is_key_frame || self.in_key_frame {
            true => protection.key_frame_fec_ratio,
            false => protection.fec_ratio,
        };
        ratio > 0.0 && (is_base || protection.protects_all)
    }

    /// Takes a packet that has been sent. [`Protector::poll_repair`] may have something then.
    pub fn handle_packet(&mut self, now: Instant, protection: &Protection, sent: &Sent<'_>) {
        if sent.starts_key_frame {
            // What is open protects pictures that no longer matter.
            (self.full, self.width) = (0, 0);
            self.in_key_frame = true;
        }
        if self.wants(protection, self.in_key_frame, sent.is_base) {
            if self.width == 0 {
                self.open(now, protection, sent.sequence);
            }
            self.add(sent);
        }
        let span = sent.sequence - self.base + 1;
        let is_full = self.packets as f64 >= self.capacity;
        let is_old = || {
            let open_for = self.opened.map(|at| now.saturating_duration_since(at));
            open_for.is_some_and(|open_for| open_for >= MAX_OPEN)
        };
        let is_over = match sent.ends_picture {
            true => is_full || self.in_key_frame || self.full > 0 || is_old(),
            false => is_full && self.in_key_frame,
        };
        if is_over || span >= MAX_SPAN as i64 {
            self.full += self.width;
            self.width = 0;
        }
        if sent.ends_picture {
            self.in_key_frame = false;
            if self.width == 0 {
                self.ready = std::mem::take(&mut self.full);
            }
        }
    }

    fn open(&mut self, now: Instant, protection: &Protection, base: SequenceNumber) {
        let interleaving = protection.interleaving.clamp(1, MAX_WIDTH);
        let (ratio, width) = match self.in_key_frame {
            true => {
                let ratio = protection.key_frame_fec_ratio;
                let rows = (ratio * KEY_FRAME_BLOCK).round() as usize;
                (ratio, rows.clamp(1, MAX_WIDTH))
            }
            false => (protection.fec_ratio, interleaving),
        };
        let rows = self.full + width;
        if rows > MAX_ROWS {
            return;
        }
        if self.rows.len() < rows {
            self.rows.resize_with(rows, Row::default);
        }
        for row in &mut self.rows[self.full..rows] {
            row.base = base;
            row.mask = Mask::default();
            row.parity.clear();
        }
        self.width = width;
        self.base = base;
        self.opened = Some(now);
        self.packets = 0;
        self.capacity = width as f64 / ratio;
    }

    fn add(&mut self, sent: &Sent<'_>) {
        let Ok(distance) = usize::try_from(sent.sequence - self.base) else {
            return;
        };
        let turn = self.packets.checked_rem(self.width);
        let row = turn.and_then(|turn| self.rows.get_mut(self.full + turn));
        let Some(row) = row else {
            return;
        };
        if distance < MAX_SPAN && row.parity.add_parts(sent.header, sent.payload) {
            row.mask.insert(distance);
            self.packets += 1;
        }
    }

    /// Whether packets of pictures have been taken that have not been protected yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.width > 0 || self.full > 0 || self.in_key_frame
    }

    /// What to send as a repair packet now: the number that the mask counts from, the mask, and the
    /// parity. To be called until there is none.
    pub fn poll_repair(&mut self) -> Option<(SequenceNumber, Mask, &Parity)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; 12] = [0x80; 12];

    fn protection(ratio: f64, interleaving: usize) -> Protection {
        Protection {
            fec_ratio: ratio,
            key_frame_fec_ratio: (2.0 * ratio).min(0.5),
            interleaving,
            ..Protection::default()
        }
    }

    /// Sends pictures of `size` packets at 30 a second, and gives back the masks of what protects
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
                        is_base: true,
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
        let repair = run(&protection(0.25, 1), &[(3, false), (3, false), (3, false)]);
        assert_eq!(repair, [(100, (0..6).collect())]);
    }

    #[test]
    fn rows_are_interleaved() {
        let repair = run(&protection(0.5, 2), &[(4, false)]);
        assert_eq!(repair, [(100, vec![1, 3]), (100, vec![0, 2])]);
    }

    #[test]
    fn a_key_frame_has_its_own_and_more() {
        // A picture before it stays open and is given up.
        let repair = run(&protection(0.2, 1), &[(1, false), (8, true), (1, false)]);
        // 0.4 of 16 packets.
        assert_eq!(repair.len(), 6);
        let protected: usize = repair.iter().map(|(_, mask)| mask.len()).sum();
        assert_eq!(protected, 8);
        assert!(repair.iter().all(|(base, _)| *base == 101));
    }

    #[test]
    fn a_slow_stream_is_not_waited_for() {
        // One packet a picture and a ratio of a tenth: five pictures are over 120 ms.
        let repair = run(&protection(0.1, 1), &[(1, false); 10]);
        assert_eq!(repair, [(100, (0..5).collect()), (105, (0..5).collect())]);
    }

    #[test]
    fn a_long_picture_is_protected_in_parts() {
        let repair = run(&protection(0.5, 1), &[(100, true)]);
        let protected: usize = repair.iter().map(|(_, mask)| mask.len()).sum();
        // Half of 16, six times, and what is left over: one of each row.
        assert_eq!((repair.len(), protected), (6 * 8 + 4, 100));
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
