//! DTLS records (RFC 6347 section 4.1): the envelope of everything, in the clear in epoch 0 and
//! sealed in epoch 1.
//!
//! In: datagrams, or what is to go into one. Out: records, or a datagram. There are two epochs:
//! nothing is renegotiated.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};

use super::error::DtlsError;
use super::suite::Suite;

/// Bytes of a record header.
pub(super) const RECORD_HEADER_LEN: usize = 13;

/// Bytes of our largest datagram: what any path carries, with room for IPv6, UDP and TURN.
pub(super) const MTU: usize = 1150;

/// What sealing adds at most: the explicit part of a nonce (RFC 5288 section 3) and a tag.
const MAX_SEALING_OVERHEAD: usize = EXPLICIT_NONCE_LEN + TAG_LEN;

const EXPLICIT_NONCE_LEN: usize = 8;
const TAG_LEN: usize = 16;
const NONCE_LEN: usize = 12;

/// Records of an epoch: their numbers have 48 bits, and none may come twice under a key (RFC 6347
/// section 4.1).
const MAX_RECORDS: u64 = 1 << 48;

/// DTLS 1.2 on the wire.
pub(super) const VERSION: [u8; 2] = [0xfe, 0xfd];

/// Content types (RFC 5246 section 6.2.1).
pub(super) mod content {
    pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
    pub(crate) const ALERT: u8 = 21;
    pub(crate) const HANDSHAKE: u8 = 22;
    pub(crate) const APPLICATION_DATA: u8 = 23;
}

/// One record of a datagram, as it came.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) content_type: u8,
    pub(super) epoch: u16,
    /// 48 bits, of which an epoch has its own.
    sequence: u64,
    pub(super) body: &'a [u8],
    /// With its header.
    pub(super) raw: &'a [u8],
}

/// The records of a datagram. What is not DTLS ends it: nothing after it can be found.
pub(super) fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<RECORD_HEADER_LEN>()?;
        let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let (raw, after) = rest.split_at_checked(RECORD_HEADER_LEN + len)?;
        let body = raw.get(RECORD_HEADER_LEN..)?;
        rest = after;
        // A ClientHello comes as DTLS 1.0 or 1.2 (RFC 6347 section 4.2.1).
        (header[1] == VERSION[0]).then_some(())?;
        let sequence = header[5..11]
            .iter()
            .fold(0, |number, &byte| number << 8 | u64::from(byte));
        Some(Record {
            content_type: header[0],
            epoch: u16::from_be_bytes([header[3], header[4]]),
            sequence,
            body,
            raw,
        })
    })
}

/// The key of one direction, with the implicit part of its nonces.
pub(super) struct RecordKey {
    key: LessSafeKey,
    iv: Vec<u8>,
}

impl RecordKey {
    pub(super) fn new(suite: Suite, key: &[u8], iv: &[u8]) -> Result<Self, DtlsError> {
        let key = UnboundKey::new(suite.aead(), key).map_err(|_| DtlsError::Crypto)?;
        Ok(RecordKey {
            key: LessSafeKey::new(key),
            iv: iv.to_vec(),
        })
    }

    /// Whether records carry a part of their nonce: those of AES-GCM do (RFC 5288 section 3), those
    /// of ChaCha20-Poly1305 do not (RFC 7905 section 2).
    fn has_explicit_nonce(&self) -> bool {
        self.iv.len() < NONCE_LEN
    }

    fn nonce(&self, explicit: [u8; EXPLICIT_NONCE_LEN]) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce.iter_mut().zip(&self.iv).for_each(|(n, i)| *n = *i);
        let tail = &mut nonce[NONCE_LEN - EXPLICIT_NONCE_LEN..];
        tail.iter_mut().zip(explicit).for_each(|(n, e)| *n ^= e);
        Nonce::assume_unique_for_key(nonce)
    }

    /// What is authenticated beside the body (RFC 5246 section 6.2.3.3).
    fn associated(numbers: [u8; 8], content_type: u8, len: usize) -> Aad<[u8; 13]> {
        let mut aad = [0; 13];
        aad[..8].copy_from_slice(&numbers);
        aad[8] = content_type;
        aad[9..11].copy_from_slice(&VERSION);
        aad[11..].copy_from_slice(&(len as u16).to_be_bytes());
        Aad::from(aad)
    }

    fn seal(&self, numbers: [u8; 8], content_type: u8, body: &[u8]) -> Result<Vec<u8>, DtlsError> {
        let mut sealed = body.to_vec();
        let aad = Self::associated(numbers, content_type, body.len());
        self.key
            .seal_in_place_append_tag(self.nonce(numbers), aad, &mut sealed)
            .map_err(|_| DtlsError::Crypto)?;
        if self.has_explicit_nonce() {
            sealed.splice(..0, numbers);
        }
        Ok(sealed)
    }

    fn open(&self, record: &Record<'_>) -> Option<Vec<u8>> {
        let numbers = numbers(record.epoch, record.sequence);
        let (explicit, sealed) = if self.has_explicit_nonce() {
            let (explicit, sealed) = record.body.split_first_chunk()?;
            (*explicit, sealed)
        } else {
            (numbers, record.body)
        };
        let len = sealed.len().checked_sub(TAG_LEN)?;
        let mut body = sealed.to_vec();
        let aad = Self::associated(numbers, record.content_type, len);
        self.key
            .open_in_place(self.nonce(explicit), aad, &mut body)
            .ok()?;
        body.truncate(len);
        Some(body)
    }
}

/// Epoch and sequence number, as a record header has them.
fn numbers(epoch: u16, sequence: u64) -> [u8; 8] {
    (u64::from(epoch) << 48 | sequence).to_be_bytes()
}

/// Opens records of epoch 1, each once.
pub(super) struct Receiver {
    key: RecordKey,
    replay: Replay,
}

impl Receiver {
    pub(super) fn new(key: RecordKey) -> Self {
        Receiver {
            key,
            replay: Replay::default(),
        }
    }

    /// What is in a record; `None` when it is altered, old or of another epoch.
    pub(super) fn open(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        if record.epoch != 1 || !self.replay.is_new(record.sequence) {
            return None;
        }
        let body = self.key.open(record)?;
        self.replay.note(record.sequence);
        Some(body)
    }
}

/// The records seen, as far back as RFC 6347 section 4.1.2.6 asks for.
#[derive(Default)]
struct Replay {
    /// One more than the highest number.
    next: u64,
    /// Bit `n` is for the number `next - 1 - n`.
    seen: u64,
}

impl Replay {
    fn is_new(&self, number: u64) -> bool {
        match self.next.checked_sub(number + 1) {
            None => true,
            Some(age) => age < 64 && self.seen >> age & 1 == 0,
        }
    }

    fn note(&mut self, number: u64) {
        if let Some(age) = self.next.checked_sub(number + 1) {
            self.seen |= 1 << age;
        } else {
            let ahead = number + 1 - self.next;
            self.seen = if ahead < 64 { self.seen << ahead } else { 0 } | 1;
            self.next = number + 1;
        }
    }
}

/// Numbers and seals what we send.
#[derive(Default)]
pub(super) struct Sender {
    /// The next number of each epoch.
    next: [u64; 2],
    /// That of epoch 1, once it is known.
    key: Option<RecordKey>,
}

impl Sender {
    pub(super) fn set_key(&mut self, key: RecordKey) {
        self.key = Some(key);
    }

    /// Appends a record to a datagram. Epoch 1 needs a key.
    pub(super) fn append(
        &mut self,
        epoch: u16,
        content_type: u8,
        body: &[u8],
        datagram: &mut Vec<u8>,
    ) -> Result<(), DtlsError> {
        let next = self
            .next
            .get_mut(usize::from(epoch))
            .ok_or(DtlsError::Crypto)?;
        if *next >= MAX_RECORDS {
            return Err(DtlsError::Crypto);
        }
        let numbers = numbers(epoch, *next);
        *next += 1;
        let sealed = match (epoch, &self.key) {
            (0, _) => None,
            (_, Some(key)) => Some(key.seal(numbers, content_type, body)?),
            (_, None) => return Err(DtlsError::Crypto),
        };
        let body = sealed.as_deref().unwrap_or(body);
        datagram.push(content_type);
        datagram.extend(VERSION);
        datagram.extend(numbers);
        datagram.extend((body.len() as u16).to_be_bytes());
        datagram.extend_from_slice(body);
        Ok(())
    }

    /// A datagram with one alert.
    pub(super) fn alert(
        &mut self,
        epoch: u16,
        level: u8,
        description: u8,
    ) -> Result<Vec<u8>, DtlsError> {
        let mut datagram = Vec::new();
        self.append(epoch, content::ALERT, &[level, description], &mut datagram)?;
        Ok(datagram)
    }
}

/// How many bytes of a body still fit a datagram.
pub(super) fn room(datagram: &[u8]) -> usize {
    MTU.saturating_sub(datagram.len() + RECORD_HEADER_LEN + MAX_SEALING_OVERHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_an_epoch_come_to_an_end() {
        let mut sender = Sender {
            next: [MAX_RECORDS - 1, 0],
            key: None,
        };
        let mut datagram = Vec::new();
        assert!(sender.append(0, content::ALERT, &[], &mut datagram).is_ok());
        assert_eq!(datagram[3..11], [0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert!(
            sender
                .append(0, content::ALERT, &[], &mut datagram)
                .is_err()
        );
    }

    #[test]
    fn each_number_is_taken_once_and_none_that_is_too_old() {
        let mut replay = Replay::default();
        for (number, is_new) in [
            (0, true),
            (0, false),
            (5, true),
            (3, true),
            (3, false),
            (5, false),
            (80, true),
            (16, false), // 64 behind
            (17, true),
            (17, false),
            ((1 << 48) - 1, true),
            (80, false),
        ] {
            assert_eq!(replay.is_new(number), is_new, "{number}");
            if is_new {
                replay.note(number);
            }
        }
    }
}
