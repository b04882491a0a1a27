//! The plaintext packets of one encoding, kept for a while: forwarding and retransmissions to every
//! subscriber read from the same place.
//!
//! In: packets in any order, by extended sequence number. Out: the packet of a sequence number, as
//! long as it is neither too old nor pushed out. Buffers are reused, so a warm history does not
//! allocate.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::media::{Codec, Kind};
use crate::rtp::codec::PictureInfo;
use crate::rtp::extension::HeaderExtensions;
use crate::rtp::sequence::SequenceNumber;
use crate::types::EncodingIndex;

/// Packets kept for an audio encoding: over a second at the shortest usual frame (10 ms), which is
/// beyond what any receiver's jitter buffer waits for.
const AUDIO_PACKETS: usize = 128;

/// Packets kept for a video encoding: one second at 10 Mbit/s in 1200-byte packets.
const VIDEO_PACKETS: usize = 1024;

/// Packets older than this are of no use to any receiver: libwebrtc's asks for a key frame when it
/// could show nothing for three seconds (`kMaxWaitForFrame`), and asks for packets until then.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(3);

/// Largest packet kept, in bytes: what fits the Ethernet paths that datagrams cross unfragmented.
pub(crate) const MAX_PACKET: usize = 1500;

/// What is known of a packet beside its bytes.
#[derive(Clone, Debug)]
pub struct PacketMeta {
    /// Which encoding of the track it belongs to.
    pub encoding: EncodingIndex,
    /// Counts up whenever the publisher's numbering starts anew: numbers of two epochs have
    /// nothing to do with each other.
    pub epoch: u32,
    /// As the publisher counts.
    pub sequence: SequenceNumber,
    /// Extended RTP timestamp as the publisher counts.
    pub timestamp: u64,
    pub marker: bool,
    /// How the payload is coded.
    pub codec: Codec,
    /// When its datagram arrived, or would have if it had not been lost at first.
    pub arrival: Instant,
    /// What the payload's first bytes say of its picture; none for audio.
    pub picture: Option<PictureInfo>,
    /// The header extensions it came with.
    pub extensions: HeaderExtensions,
    /// Where in the packet its payload is.
    pub payload: Range<usize>,
    /// The number was spent on repair (ULPFEC), or on what nothing can be made of, and there is no media
    /// under it: subscribers, who get repair of their own, see the stream without it.
    pub is_void: bool,
}

impl PacketMeta {
    /// The same number without media.
    #[must_use]
    pub fn emptied(&self) -> PacketMeta {
        PacketMeta {
            marker: false,
            picture: None,
            extensions: HeaderExtensions::default(),
            payload: 0..0,
            is_void: true,
            ..self.clone()
        }
    }

    /// Whether a decoder that knows nothing of the stream can start with this packet.
    #[must_use]
    pub fn starts_decoding(&self) -> bool {
        match self.codec.kind() {
            Kind::Audio => self.codec.stands_alone() && !self.is_void,
            Kind::Video => self
                .picture
                .as_ref()
                .is_some_and(|p| p.key_frame && p.starts_frame),
        }
    }
}

/// A packet as it is kept: what is known of it, and its bytes, header and all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept<'a> {
    /// What is known of it.
    pub meta: &'a PacketMeta,
    /// The plaintext packet.
    pub packet: &'a [u8],
}

impl<'a> Kept<'a> {
    #[must_use]
    pub(crate) fn payload(&self) -> &'a [u8] {
        self.packet
            .get(self.meta.payload.clone())
            .unwrap_or_default()
    }
}

#[derive(Debug)]
struct Entry {
    meta: PacketMeta,
    packet: Vec<u8>,
}

/// A ring of the latest packets, indexed by sequence number.
#[derive(Debug)]
pub(crate) struct History {
    ring: Vec<Option<Entry>>,
    epoch: u32,
    highest: Option<SequenceNumber>,
}

impl History {
    /// Room for an encoding of a kind.
    #[must_use]
    pub(crate) fn new(kind: Kind) -> Self {
        let packets = match kind {
            Kind::Audio => AUDIO_PACKETS,
            Kind::Video => VIDEO_PACKETS,
        };
        let mut ring = Vec::new();
        ring.resize_with(packets, || None);
        History {
            ring,
            epoch: 0,
            highest: None,
        }
    }

    /// The highest number that was kept.
    #[must_use]
    pub(crate) fn highest(&self) -> Option<SequenceNumber> {
        self.highest
    }

    fn index(&self, sequence: SequenceNumber) -> usize {
        (sequence.0 % self.ring.len() as u64) as usize
    }

    /// Keeps a packet. Says no to a duplicate, to one older than the ring reaches or of an epoch
    /// that is over, and to one over [`MAX_PACKET`].
    pub(crate) fn insert(&mut self, meta: PacketMeta, packet: &[u8]) -> bool {
        if packet.len() > MAX_PACKET || meta.epoch < self.epoch {
            return false;
        }
        if meta.epoch > self.epoch {
            self.epoch = meta.epoch;
            self.highest = None;
        }
        let reach = self.ring.len() as u64;
        if self
            .highest
            .is_some_and(|highest| meta.sequence.0.saturating_add(reach) <= highest.0)
        {
            return false;
        }
        self.highest = self.highest.max(Some(meta.sequence));
        let index = self.index(meta.sequence);
        match &mut self.ring[index] {
            Some(entry)
                if entry.meta.sequence == meta.sequence && entry.meta.epoch == meta.epoch =>
            {
                false
            }
            Some(entry) => {
                entry.meta = meta;
                entry.packet.clear();
                entry.packet.extend_from_slice(packet);
                true
            }
            empty => {
                *empty = Some(Entry {
                    meta,
                    packet: packet.to_vec(),
                });
                true
            }
        }
    }

    /// The packet with this sequence number, if it is still there.
    #[must_use]
    pub(crate) fn get(&self, sequence: SequenceNumber) -> Option<Kept<'_>> {
        let entry = self.ring[self.index(sequence)].as_ref()?;
        (entry.meta.sequence == sequence && entry.meta.epoch == self.epoch).then_some(Kept {
            meta: &entry.meta,
            packet: &entry.packet,
        })
    }

    /// As [`History::get`], for a retransmission: also refuses what is older than [`MAX_AGE`].
    #[must_use]
    pub(crate) fn get_fresh(&self, now: Instant, sequence: SequenceNumber) -> Option<Kept<'_>> {
        self.get(sequence)
            .filter(|kept| now.saturating_duration_since(kept.meta.arrival) <= MAX_AGE)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A VP8 packet that is a whole frame.
    pub(crate) fn video(
        encoding: EncodingIndex,
        epoch: u32,
        sequence: u64,
        key_frame: bool,
    ) -> PacketMeta {
        PacketMeta {
            encoding,
            epoch,
            codec: Codec::Vp8,
            picture: Some(PictureInfo {
                starts_frame: true,
                key_frame,
                ..PictureInfo::default()
            }),
            ..meta(sequence, 0, Instant::now())
        }
    }

    fn meta(sequence: u64, epoch: u32, arrival: Instant) -> PacketMeta {
        PacketMeta {
            encoding: EncodingIndex(0),
            epoch,
            sequence: SequenceNumber(sequence),
            timestamp: 0,
            marker: false,
            codec: Codec::Opus,
            arrival,
            picture: None,
            extensions: HeaderExtensions::default(),
            payload: 0..0,
            is_void: false,
        }
    }

    fn bytes(history: &History, sequence: u64) -> Option<&[u8]> {
        history.get(SequenceNumber(sequence)).map(|k| k.packet)
    }

    #[test]
    fn keeps_the_latest_and_forgets_the_rest() {
        let now = Instant::now();
        let mut history = History::new(Kind::Audio);
        let total = AUDIO_PACKETS as u64 + 10;
        for sequence in 0..total {
            assert!(history.insert(meta(sequence, 0, now), &sequence.to_be_bytes()));
        }
        assert_eq!(bytes(&history, 9), None);
        for sequence in 10..total {
            assert_eq!(bytes(&history, sequence), Some(&sequence.to_be_bytes()[..]));
        }
        assert!(!history.insert(meta(9, 0, now), b"late"), "out of reach");
        assert!(
            !history.insert(meta(total - 1, 0, now), b"again"),
            "a duplicate"
        );
        assert!(!history.insert(meta(total, 0, now), &[0; MAX_PACKET + 1]));
    }

    #[test]
    fn a_gap_is_not_answered_with_an_older_lap_nor_an_older_epoch() {
        let now = Instant::now();
        let lap = AUDIO_PACKETS as u64;
        let mut history = History::new(Kind::Audio);
        history.insert(meta(5, 0, now), b"old lap");
        history.insert(meta(5 + 2 * lap - 1, 0, now), b"x");
        assert_eq!(bytes(&history, 5 + lap), None);

        assert!(history.insert(meta(1, 1, now), b"numbering starts anew"));
        assert_eq!(bytes(&history, 5), None);
        assert!(history.insert(meta(5, 1, now), b"new epoch"));
        assert!(!history.insert(meta(6, 0, now), b"late from the old epoch"));
    }

    #[test]
    fn retransmissions_are_bounded_in_age() {
        let now = Instant::now();
        let mut history = History::new(Kind::Video);
        history.insert(meta(1, 0, now), b"x");
        let fresh = |later| history.get_fresh(now + later, SequenceNumber(1)).is_some();
        assert!(fresh(MAX_AGE));
        assert!(!fresh(MAX_AGE + Duration::from_millis(1)));
    }
}
