//! Handshake messages out of fragments that come in any order, more than once, or from an attacker
//! (RFC 6347 section 4.2.3).
//!
//! In: the bodies of handshake records. Out: whole messages, in turn. Nothing here is authenticated:
//! fragments that contradict each other are kept apart, so that a forged one costs the true one
//! nothing. What is held is bounded by [`MAX_FRAGMENTS`] and [`MAX_HANDSHAKE_BYTES`], the latest.

use std::collections::VecDeque;

/// Most fragments held. A browser sends seven.
pub const MAX_FRAGMENTS: usize = 64;

/// Most bytes held in them. A browser sends about 3 kB.
pub const MAX_HANDSHAKE_BYTES: usize = 64 * 1024;

/// How far ahead of the message whose turn it is others are kept: no flight has more messages
/// (RFC 5246 section 7.3).
const MAX_AHEAD: u16 = 8;

/// Bytes of a handshake header.
pub(super) const HANDSHAKE_HEADER_LEN: usize = 12;

pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) sequence: u16,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// As it counts for Finished and CertificateVerify: as if it had come in one fragment.
    pub(super) fn append_to(&self, transcript: &mut Vec<u8>) {
        append(transcript, self.kind, self.sequence, &self.body);
    }
}

/// Appends a message in one fragment.
pub(super) fn append(out: &mut Vec<u8>, kind: u8, sequence: u16, body: &[u8]) {
    append_fragment(out, kind, sequence, body, 0, body.len());
}

/// Appends `len` bytes of a message from `offset`, with their header.
#[allow(
    clippy::indexing_slicing,
    reason = "it cuts up our own messages, and asks for no more than there is"
)]
pub(super) fn append_fragment(
    out: &mut Vec<u8>,
    kind: u8,
    sequence: u16,
    body: &[u8],
    offset: usize,
    len: usize,
) {
    out.push(kind);
    out.extend(&(body.len() as u32).to_be_bytes()[1..]);
    out.extend(sequence.to_be_bytes());
    out.extend(&(offset as u32).to_be_bytes()[1..]);
    out.extend(&(len as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&body[offset..offset + len]);
}

/// A piece of a message, as it came.
#[derive(Clone, Copy)]
pub(super) struct Fragment<'a> {
    pub(super) kind: u8,
    pub(super) sequence: u16,
    /// Of the whole message.
    total: usize,
    offset: usize,
    body: &'a [u8],
}

/// The fragments of a record. What is malformed ends it.
pub(super) fn fragments(record: &[u8]) -> impl Iterator<Item = Fragment<'_>> {
    let mut rest = record;
    std::iter::from_fn(move || {
        let (header, behind) = rest.split_first_chunk::<HANDSHAKE_HEADER_LEN>()?;
        let &[kind, t0, t1, t2, s0, s1, o0, o1, o2, l0, l1, l2] = header;
        let number = |bytes: [u8; 3]| {
            let [a, b, c] = bytes;
            u32::from_be_bytes([0, a, b, c]) as usize
        };
        let (total, offset) = (number([t0, t1, t2]), number([o0, o1, o2]));
        let len = number([l0, l1, l2]);
        let (body, after) = behind.split_at_checked(len)?;
        rest = after;
        let fits = offset + len <= total && (len > 0 || total == 0);
        fits.then_some(Fragment {
            kind,
            sequence: u16::from_be_bytes([s0, s1]),
            total,
            offset,
            body,
        })
    })
}

impl Fragment<'_> {
    /// Whether it is a piece of a message of which these are header and body, in one fragment.
    pub(super) fn is_of(&self, message: &[u8]) -> bool {
        fragments(message).next().is_some_and(|whole| {
            (self.kind, self.sequence, self.total) == (whole.kind, whole.sequence, whole.total)
                && whole.body.get(self.offset..self.offset + self.body.len()) == Some(self.body)
        })
    }
}

/// A piece of a message that is not whole, or not in turn.
struct Held {
    kind: u8,
    sequence: u16,
    total: usize,
    offset: usize,
    body: Vec<u8>,
}

impl Held {
    /// What pieces of one message have in common.
    fn message(&self) -> (u16, u8, usize) {
        (self.sequence, self.kind, self.total)
    }
}

/// What has come of messages that are not whole, or not in turn.
#[derive(Default)]
pub(super) struct Reassembly {
    /// In the order in which they came.
    held: VecDeque<Held>,
    /// The message whose turn it is.
    turn: u16,
}

impl Reassembly {
    /// Takes a fragment of a message that was not given out yet. For each place the longest is kept:
    /// a peer may repeat itself in other pieces.
    pub(super) fn insert(&mut self, fragment: Fragment<'_>) {
        let ahead = fragment.sequence.checked_sub(self.turn);
        if ahead.is_none_or(|ahead| ahead >= MAX_AHEAD) {
            return;
        }
        let new = Held {
            kind: fragment.kind,
            sequence: fragment.sequence,
            total: fragment.total,
            offset: fragment.offset,
            body: fragment.body.to_vec(),
        };
        let place = |held: &Held| (held.message(), held.offset);
        match self.held.iter_mut().find(|old| place(old) == place(&new)) {
            Some(old) if old.body.len() < new.body.len() => *old = new,
            Some(_) => {}
            None => self.held.push_back(new),
        }
        while self.held.len() > MAX_FRAGMENTS || self.bytes() > MAX_HANDSHAKE_BYTES {
            self.held.pop_front();
        }
    }

    /// What is held, at most [`MAX_HANDSHAKE_BYTES`].
    pub(super) fn bytes(&self) -> usize {
        self.held.iter().map(|held| held.body.len()).sum()
    }

    /// Gives out a message whose turn it is and which is whole. It stays its turn, and another may
    /// claim it, until [`Reassembly::advance`].
    pub(super) fn next(&mut self) -> Option<Message> {
        let mut candidates = self.held.iter().filter(|held| held.sequence == self.turn);
        let message = candidates
            .find(|held| self.is_whole(held.message()))
            .map(Held::message)?;
        let (sequence, kind, total) = message;
        let mut body = Vec::with_capacity(total);
        for part in self.parts(message) {
            let known = body.len() - part.offset;
            body.extend_from_slice(part.body.get(known..).unwrap_or_default());
        }
        self.held.retain(|held| held.message() != message);
        Some(Message {
            kind,
            sequence,
            body,
        })
    }

    /// The pieces of a message, first ones first.
    fn parts(&self, message: (u16, u8, usize)) -> Vec<&Held> {
        let parts = self.held.iter().filter(|held| held.message() == message);
        let mut parts: Vec<_> = parts.collect();
        parts.sort_by_key(|part| part.offset);
        parts
    }

    fn is_whole(&self, message: (u16, u8, usize)) -> bool {
        let (_, _, total) = message;
        let mut known = 0;
        for part in self.parts(message) {
            if part.offset > known {
                return false;
            }
            known = known.max(part.offset + part.body.len());
        }
        known == total
    }

    /// The number of the message whose turn it is.
    pub(super) fn turn(&self) -> u16 {
        self.turn
    }

    /// The message whose turn it was is the right one.
    pub(super) fn advance(&mut self) {
        self.turn = self.turn.saturating_add(1);
        self.held.retain(|held| held.sequence >= self.turn);
    }

    /// Takes messages once more that were given out before, and forgets what has come since.
    pub(super) fn rewind(&mut self, turn: u16) {
        self.turn = turn;
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;

    fn insert(reassembly: &mut Reassembly, sequence: u16, body: &[u8], offset: usize, len: usize) {
        let mut record = Vec::new();
        append_fragment(&mut record, 11, sequence, body, offset, len);
        fragments(&record).for_each(|fragment| reassembly.insert(fragment));
    }

    #[test]
    fn messages_come_out_in_turn_however_their_pieces_came() {
        let (first, second) = (b"the first message", b"and one more");
        let mut reassembly = Reassembly::default();
        for (sequence, body, offset, len) in [
            (1, &second[..], 4, 8),
            (0, first, 10, 7),
            (0, first, 4, 8), // overlaps
            (0, first, 10, 2),
            (1, second, 0, 4),
        ] {
            insert(&mut reassembly, sequence, body, offset, len);
            assert!(reassembly.next().is_none());
        }
        insert(&mut reassembly, 0, first, 0, 4);
        assert_eq!(reassembly.next().unwrap().body, first);
        reassembly.advance();
        assert_eq!(reassembly.next().unwrap().body, second);
        reassembly.advance();
        assert!(reassembly.next().is_none() && reassembly.held.is_empty());
        insert(&mut reassembly, 0, first, 0, 4);
        assert!(reassembly.held.is_empty());
    }

    #[test]
    fn what_contradicts_a_message_does_not_keep_it_from_being_whole() {
        let mut reassembly = Reassembly::default();
        insert(&mut reassembly, 0, b"abcd", 0, 2);
        insert(&mut reassembly, 0, b"another", 2, 4);
        insert(&mut reassembly, 0, b"another", 6, 1);
        assert!(reassembly.next().is_none());
        insert(&mut reassembly, 0, b"abcd", 2, 2);
        assert_eq!(reassembly.next().unwrap().body, b"abcd");
        // It was no good: the other may still be.
        insert(&mut reassembly, 0, b"another", 0, 2);
        assert_eq!(reassembly.next().unwrap().body, b"another");
    }

    #[test]
    fn a_message_without_a_body_is_whole_at_once() {
        let mut reassembly = Reassembly::default();
        insert(&mut reassembly, 0, b"", 0, 0);
        assert!(reassembly.next().unwrap().body.is_empty());
    }

    #[test]
    fn the_latest_fragments_are_held_and_no_more_than_that() {
        let mut reassembly = Reassembly::default();
        let forged = vec![0; 1 << 20];
        for i in 0..1000 {
            insert(&mut reassembly, 0, &forged, 2000 * i % (1 << 19), 2000);
            insert(&mut reassembly, 1, &forged, i, 1);
            insert(&mut reassembly, 8 + i as u16, &forged, 0, 2000);
            assert!(reassembly.held.len() <= MAX_FRAGMENTS);
            assert!(reassembly.bytes() <= MAX_HANDSHAKE_BYTES);
        }
        insert(&mut reassembly, 0, b"the true one", 4, 8);
        insert(&mut reassembly, 0, b"the true one", 0, 4);
        assert_eq!(reassembly.next().unwrap().body, b"the true one");
    }
}
