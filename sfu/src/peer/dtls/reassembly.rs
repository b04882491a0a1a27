//! Handshake messages out of fragments that come in any order, more than once, or from an attacker
//! (RFC 6347 section 4.2.3).
//!
//! In: the bodies of handshake records. Out: whole messages, in turn. What is held is bounded by
//! [`MAX_FRAGMENTS`] and [`MAX_HANDSHAKE_BYTES`]; going over them is the end.

use super::error::DtlsError;

/// Most different handshake fragments of one handshake. Retransmissions do not count. A browser
/// sends seven.
pub const MAX_FRAGMENTS: usize = 64;

/// Most bytes in those fragments. A browser sends about 3 kB.
pub const MAX_HANDSHAKE_BYTES: usize = 64 * 1024;

/// Bytes of a handshake header.
pub(super) const HANDSHAKE_HEADER_LEN: usize = 12;

/// A whole message.
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

struct Fragment {
    kind: u8,
    sequence: u16,
    /// Of the whole message.
    total: usize,
    offset: usize,
    body: Vec<u8>,
}

/// What has come of messages that are not whole, or not in turn.
#[derive(Default)]
pub(super) struct Reassembly {
    /// Message number and offset of each fragment seen, at most [`MAX_FRAGMENTS`].
    seen: Vec<(u16, usize)>,
    /// What those fragments say they have.
    bytes: usize,
    fragments: Vec<Fragment>,
    /// The message whose turn it is.
    next: u16,
}

impl Reassembly {
    /// Takes the fragments of a record. Says whether one is of a message that was given out before:
    /// the peer repeats itself, so our last flight is lost. What is malformed is left.
    pub(super) fn insert(&mut self, mut record: &[u8]) -> Result<bool, DtlsError> {
        let mut repeats = false;
        while let Some((header, rest)) = record.split_at_checked(HANDSHAKE_HEADER_LEN) {
            let number = |at: usize| {
                u32::from_be_bytes([0, header[at], header[at + 1], header[at + 2]]) as usize
            };
            let sequence = u16::from_be_bytes([header[4], header[5]]);
            let (total, offset, len) = (number(1), number(6), number(9));
            self.count(sequence, offset, len)?;
            let Some((body, rest)) = rest.split_at_checked(len) else {
                break;
            };
            record = rest;
            if sequence < self.next {
                repeats = true;
            } else if offset + len <= total && (len > 0 || total == 0) {
                self.keep(Fragment {
                    kind: header[0],
                    sequence,
                    total,
                    offset,
                    body: body.to_vec(),
                });
            }
        }
        Ok(repeats)
    }

    fn count(&mut self, sequence: u16, offset: usize, len: usize) -> Result<(), DtlsError> {
        if !self.seen.contains(&(sequence, offset)) {
            self.seen.push((sequence, offset));
            self.bytes += len;
            if self.seen.len() > MAX_FRAGMENTS || self.bytes > MAX_HANDSHAKE_BYTES {
                return Err(DtlsError::HandshakeTooLarge);
            }
        }
        Ok(())
    }

    /// Keeps one fragment for each place, the longest: a peer may repeat itself in other pieces.
    fn keep(&mut self, new: Fragment) {
        let place = |f: &Fragment| (f.sequence, f.offset);
        match self.fragments.iter_mut().find(|f| place(f) == place(&new)) {
            Some(old) if old.body.len() < new.body.len() => *old = new,
            Some(_) => {}
            None => self.fragments.push(new),
        }
    }

    /// The message whose turn it is, once it is whole.
    pub(super) fn next(&mut self) -> Option<Message> {
        let sequence = self.next;
        let mut parts: Vec<&Fragment> = self
            .fragments
            .iter()
            .filter(|f| f.sequence == sequence)
            .collect();
        parts.sort_by_key(|f| f.offset);
        let (kind, total) = parts.first().map(|f| (f.kind, f.total))?;
        let mut body = Vec::new();
        for part in parts {
            if part.kind != kind || part.total != total || part.offset > body.len() {
                return None;
            }
            let known = body.len() - part.offset;
            body.extend_from_slice(part.body.get(known..).unwrap_or_default());
        }
        if body.len() != total {
            return None;
        }
        self.skip();
        Some(Message {
            kind,
            sequence,
            body,
        })
    }

    /// The number of the message whose turn it is.
    pub(super) fn turn(&self) -> u16 {
        self.next
    }

    /// Counts a message that came by another way: in a sealed record.
    pub(super) fn skip(&mut self) {
        self.next = self.next.saturating_add(1);
        self.fragments.retain(|f| f.sequence >= self.next);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn fragment(sequence: u16, body: &[u8], offset: usize, len: usize) -> Vec<u8> {
        let mut record = Vec::new();
        append_fragment(&mut record, 11, sequence, body, offset, len);
        record
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
            let record = fragment(sequence, body, offset, len);
            assert!(!reassembly.insert(&record).unwrap());
            assert!(reassembly.next().is_none());
        }
        reassembly.insert(&fragment(0, first, 0, 4)).unwrap();
        assert_eq!(reassembly.next().unwrap().body, first);
        assert_eq!(reassembly.next().unwrap().body, second);
        assert!(reassembly.next().is_none() && reassembly.fragments.is_empty());
        assert!(reassembly.insert(&fragment(0, first, 0, 4)).unwrap());
    }

    #[test]
    fn fragments_that_contradict_each_other_make_no_message() {
        let mut reassembly = Reassembly::default();
        reassembly.insert(&fragment(0, b"abcd", 0, 2)).unwrap();
        reassembly.insert(&fragment(0, b"abcdef", 2, 4)).unwrap();
        assert!(reassembly.next().is_none());
    }

    #[test]
    fn a_message_without_a_body_is_whole_at_once() {
        let mut reassembly = Reassembly::default();
        reassembly.insert(&fragment(0, b"", 0, 0)).unwrap();
        assert!(reassembly.next().unwrap().body.is_empty());
    }
}
