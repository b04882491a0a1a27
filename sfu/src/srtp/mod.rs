//! SRTP and SRTCP: opening what a peer sent, sealing what we send (RFC 3711, RFC 7714).
//!
//! In: a datagram in a mutable buffer. Out: its length after opening or sealing it in place, and for
//! RTP the 48-bit packet index. Nothing allocates per packet. State of a stream is made only after
//! one of its packets was authentic (`streams.rs`), for at most [`MAX_SSRCS`] streams of RTP and
//! [`MAX_REPORTERS`] of RTCP, and lives as long as the keys, or a replay would look like a beginning.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod cipher;
mod replay;
mod streams;

use crate::api::DropReason;
use crate::rtp::packet::{MalformedRtp, RtpHeader};
use crate::rtp::sequence::SequenceNumber;
use crate::types::Ssrc;
use cipher::{Cipher, Framing, SessionKeys};
use replay::ReplayWindow;
use streams::Streams;

/// Most streams that one peer may send at a time. A bound on memory and on the linear search for a
/// stream.
pub(crate) const MAX_SSRCS: usize = 50;

/// Most SSRCs that one peer may send RTCP from at a time: those of its streams, and one of its own for
/// each of the 64 m-lines of an offer, as Firefox has for what it only receives.
pub(crate) const MAX_REPORTERS: usize = MAX_SSRCS + 64;

/// Most bytes that sealing adds: a GCM tag and the SRTCP index (RFC 7714 section 9.2).
pub const MAX_SRTP_TRAILER: usize = GCM_TAG_LEN + SRTCP_INDEX_LEN;

/// Tag of AES-GCM, bytes (RFC 7714 section 13).
const GCM_TAG_LEN: usize = 16;

/// Salt of AES-GCM and its nonce, bytes (RFC 7714 section 12.1).
const GCM_SALT_LEN: usize = 12;

/// Tag of HMAC-SHA1-80, bytes (RFC 3711 section 4.2.1).
const HMAC_TAG_LEN: usize = 10;

/// Salt of AES counter mode, bytes (RFC 3711 section 4.1.1).
const CM_SALT_LEN: usize = 14;

/// The E bit and the index that follow an SRTCP packet, bytes (RFC 3711 section 3.4).
const SRTCP_INDEX_LEN: usize = 4;

/// What of an SRTCP packet is not encrypted, bytes: the first header and SSRC.
const RTCP_PREFIX_LEN: usize = 8;

/// The E bit: the packet is encrypted (RFC 3711 section 3.4).
const ENCRYPTED: u32 = 1 << 31;

/// Replay window of SRTP in 64-packet words. RFC 3711 section 3.3.2 asks for 64 packets; 1024 is
/// half a second of reordering on a 20 Mbit/s stream.
const RTP_WINDOW_WORDS: usize = 16;

/// Replay window of SRTCP in 64-packet words.
const RTCP_WINDOW_WORDS: usize = 2;

/// How the packets of a connection are protected, as DTLS negotiates it (RFC 5764, RFC 7714).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SrtpProfile {
    /// `SRTP_AES128_CM_HMAC_SHA1_80`.
    Aes128CmSha1_80,
    /// `SRTP_AEAD_AES_128_GCM`.
    Aes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM`.
    Aes256Gcm,
}

impl SrtpProfile {
    /// Its name in the registry of DTLS-SRTP protection profiles.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SrtpProfile::Aes128CmSha1_80 => "SRTP_AES128_CM_HMAC_SHA1_80",
            SrtpProfile::Aes128Gcm => "SRTP_AEAD_AES_128_GCM",
            SrtpProfile::Aes256Gcm => "SRTP_AEAD_AES_256_GCM",
        }
    }

    /// Length of a master key, bytes.
    #[must_use]
    pub fn key_len(self) -> usize {
        match self {
            SrtpProfile::Aes128CmSha1_80 | SrtpProfile::Aes128Gcm => 16,
            SrtpProfile::Aes256Gcm => 32,
        }
    }

    /// Length of a master salt, bytes.
    #[must_use]
    pub fn salt_len(self) -> usize {
        match self {
            SrtpProfile::Aes128CmSha1_80 => CM_SALT_LEN,
            SrtpProfile::Aes128Gcm | SrtpProfile::Aes256Gcm => GCM_SALT_LEN,
        }
    }

    /// How many bytes to export from DTLS (RFC 5764 section 4.2).
    #[must_use]
    pub fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }

    /// What sealing adds to an RTP packet, bytes.
    #[must_use]
    pub fn rtp_overhead(self) -> usize {
        match self {
            SrtpProfile::Aes128CmSha1_80 => HMAC_TAG_LEN,
            SrtpProfile::Aes128Gcm | SrtpProfile::Aes256Gcm => GCM_TAG_LEN,
        }
    }

    /// Splits what DTLS exported into the keys of each side (RFC 5764 section 4.2).
    ///
    /// # Errors
    /// When `material` is shorter than [`SrtpProfile::keying_material_len`].
    pub fn split(self, material: &[u8]) -> Result<WriteKeys<'_>, SrtpError> {
        let (key, salt) = (self.key_len(), self.salt_len());
        let piece = |from, len| material.get(from..from + len).ok_or(SrtpError::BadKey);
        Ok(WriteKeys {
            client: MasterKey {
                key: piece(0, key)?,
                salt: piece(2 * key, salt)?,
            },
            server: MasterKey {
                key: piece(key, key)?,
                salt: piece(2 * key + salt, salt)?,
            },
        })
    }
}

/// What the DTLS client and the DTLS server each seal with.
#[derive(Clone, Copy)]
pub struct WriteKeys<'a> {
    pub client: MasterKey<'a>,
    pub server: MasterKey<'a>,
}

/// A master key and its salt, borrowed from the keying material.
#[derive(Clone, Copy)]
pub struct MasterKey<'a> {
    pub key: &'a [u8],
    pub salt: &'a [u8],
}

/// Why a packet was neither opened nor sealed, or keys were refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum SrtpError {
    /// Too short or not RTP or RTCP.
    #[error("the packet is too short or its header is malformed")]
    Malformed,
    /// The tag is wrong.
    #[error("the packet is not authentic")]
    NotAuthentic,
    /// The packet was opened before, or is too old to know.
    #[error("the packet is a replay or older than the replay window")]
    Replayed,
    /// An SRTCP packet without the E bit, which no WebRTC client sends.
    #[error("the SRTCP packet is not encrypted")]
    NotEncrypted,
    /// The packet would start one stream too many.
    #[error("the peer sends more streams than one connection may")]
    TooManySsrcs,
    /// The packet is of a stream that had to make room: nobody knows any more whether it is a replay.
    #[error("the stream has ended")]
    Retired,
    /// The buffer does not hold what sealing adds.
    #[error("the buffer does not hold the packet and its trailer")]
    NoRoom,
    /// 2^31 SRTCP packets were sealed with one key (RFC 3711 section 9.2).
    #[error("the SRTCP index is used up; the connection must be made anew")]
    IndexExhausted,
    /// A key or salt does not have the profile's length.
    #[error("the SRTP key or salt has the wrong length for its profile")]
    BadKey,
}

impl SrtpError {
    /// As what it is counted.
    #[must_use]
    pub fn reason(self) -> DropReason {
        match self {
            SrtpError::Malformed => DropReason::Malformed,
            SrtpError::NotAuthentic => DropReason::NotAuthentic,
            SrtpError::Replayed => DropReason::Replayed,
            SrtpError::NotEncrypted => DropReason::NotEncrypted,
            SrtpError::TooManySsrcs => DropReason::TooManySsrcs,
            SrtpError::Retired => DropReason::SsrcRetired,
            SrtpError::NoRoom => DropReason::NoRoom,
            SrtpError::IndexExhausted => DropReason::IndexExhausted,
            SrtpError::BadKey => DropReason::BadKey,
        }
    }
}

impl From<MalformedRtp> for SrtpError {
    fn from(_: MalformedRtp) -> Self {
        SrtpError::Malformed
    }
}

/// An opened RTP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Bytes of the packet without its tag.
    pub plain_len: usize,
    /// The rollover counter above, the sequence number below: 48 bits.
    pub index: u64,
}

/// Opens what one peer sends.
pub struct SrtpReceiver {
    keys: SessionKeys,
    media: Streams<RTP_WINDOW_WORDS, MAX_SSRCS>,
    control: Streams<RTCP_WINDOW_WORDS, MAX_REPORTERS>,
}

impl SrtpReceiver {
    /// With the master key of the other side.
    ///
    /// # Errors
    /// [`SrtpError::BadKey`] when a length is not the profile's.
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        Ok(SrtpReceiver {
            keys: SessionKeys::derive(profile, MasterKey { key, salt })?,
            media: Streams::default(),
            control: Streams::default(),
        })
    }

    /// Opens an SRTP packet in place.
    ///
    /// # Errors
    /// When it is malformed, replayed, not authentic, or of one stream too many. The contents of
    /// `packet` are then unspecified.
    pub fn open_rtp(&mut self, packet: &mut [u8]) -> Result<Opened, SrtpError> {
        let header = RtpHeader::parse_encrypted(packet)?;
        let place = self.media.find(header.ssrc)?;
        let window = self.media.window(place);
        let index = match window.and_then(ReplayWindow::highest) {
            Some(highest) => SequenceNumber(highest).nearest(header.sequence).0,
            None => u64::from(header.sequence),
        };
        if window.is_some_and(|window| !window.is_fresh(index)) {
            return Err(SrtpError::Replayed);
        }

        let (head, rest) = packet.split_at_mut(header.header_len);
        let body_len = rest.len().checked_sub(self.keys.rtp.tag_len());
        let (body, tag) = rest.split_at_mut(body_len.ok_or(SrtpError::Malformed)?);
        let framing = Framing::Rtp {
            header: head,
            index,
        };
        self.keys.rtp.open(header.ssrc, framing, body, tag)?;

        let plain_len = header.header_len + body.len();
        self.media.accept(place, header.ssrc, index);
        Ok(Opened { plain_len, index })
    }

    /// Opens an SRTCP packet in place and returns its length in the clear.
    ///
    /// # Errors
    /// When it is malformed, not encrypted, replayed, not authentic, or of one stream too many. The
    /// contents of `packet` are then unspecified.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let (prefix, ssrc, rest) = split_rtcp(packet)?;
        let trailer_len = self.keys.rtcp.tag_len() + SRTCP_INDEX_LEN;
        let body_len = rest.len().checked_sub(trailer_len);
        let (body, trailer) = rest.split_at_mut(body_len.ok_or(SrtpError::Malformed)?);
        let (tag, word) = split_trailer(&self.keys.rtcp, trailer)?;
        let index_word = u32::from_be_bytes(*word);
        if index_word & ENCRYPTED == 0 {
            return Err(SrtpError::NotEncrypted);
        }
        let index = u64::from(index_word & !ENCRYPTED);
        let place = self.control.find(ssrc)?;
        let window = self.control.window(place);
        if window.is_some_and(|window| !window.is_fresh(index)) {
            return Err(SrtpError::Replayed);
        }

        let framing = Framing::Rtcp { prefix, index_word };
        self.keys.rtcp.open(ssrc, framing, body, tag)?;

        let plain_len = RTCP_PREFIX_LEN + body.len();
        self.control.accept(place, ssrc, index);
        Ok(plain_len)
    }

    /// Something is made of a stream: it keeps its place, whatever else is sent.
    pub fn keep(&mut self, ssrc: Ssrc) {
        self.media.keep(ssrc);
    }

    /// Nothing is made of a stream any more: its place goes to another when there is none left.
    pub fn release(&mut self, ssrc: Ssrc) {
        self.media.release(ssrc);
    }

    /// Another stream has taken over from this one, which is not to be listened to again.
    pub fn displace(&mut self, ssrc: Ssrc) {
        self.media.set_displaced(ssrc, true);
    }

    /// Takes back a [`SrtpReceiver::displace`]: the client has said anew that it sends this.
    pub fn readmit(&mut self, ssrc: Ssrc) {
        self.media.set_displaced(ssrc, false);
    }

    /// Whether another stream has taken over from this one.
    #[must_use]
    pub fn is_displaced(&self, ssrc: Ssrc) -> bool {
        self.media.is_displaced(ssrc)
    }
}

/// Seals what we send to one peer.
pub struct SrtpSender {
    keys: SessionKeys,
    /// One count for all streams: the index must be unique per SSRC and may have gaps, so sharing
    /// it saves a table.
    next_rtcp_index: u32,
}

impl SrtpSender {
    /// With our own master key.
    ///
    /// # Errors
    /// [`SrtpError::BadKey`] when a length is not the profile's.
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        Ok(SrtpSender {
            keys: SessionKeys::derive(profile, MasterKey { key, salt })?,
            next_rtcp_index: 0,
        })
    }

    /// What sealing adds to an RTP packet, bytes.
    #[must_use]
    pub fn rtp_overhead(&self) -> usize {
        self.keys.rtp.tag_len()
    }

    /// Seals the RTP packet in `buffer[..plain_len]` in place and returns its new length.
    ///
    /// `roc` is how often the stream's sequence number has wrapped: 0 for the first 65,536 numbers
    /// of an SSRC, since that is what the receiver assumes (RFC 3711 section 3.3.1). Never seal two
    /// different packets with the same SSRC, `roc` and sequence number: that gives the key away.
    ///
    /// # Errors
    /// When the packet is malformed or the buffer has no room for the tag.
    pub fn seal_rtp(
        &mut self,
        buffer: &mut [u8],
        plain_len: usize,
        roc: u32,
    ) -> Result<usize, SrtpError> {
        let tag_len = self.keys.rtp.tag_len();
        let (plain, tag) = split_room(buffer, plain_len, tag_len)?;
        let header = RtpHeader::parse_encrypted(plain)?;
        let (head, body) = plain.split_at_mut(header.header_len);
        let framing = Framing::Rtp {
            header: head,
            index: u64::from(roc) << 16 | u64::from(header.sequence),
        };
        self.keys.rtp.seal(header.ssrc, framing, body, tag)?;
        Ok(plain_len + tag_len)
    }

    /// Seals the compound RTCP packet in `buffer[..plain_len]` in place and returns its new length.
    ///
    /// # Errors
    /// When the packet is malformed, the buffer has no room for the trailer, or 2^31 packets were
    /// sealed already.
    pub fn seal_rtcp(&mut self, buffer: &mut [u8], plain_len: usize) -> Result<usize, SrtpError> {
        if self.next_rtcp_index & ENCRYPTED != 0 {
            return Err(SrtpError::IndexExhausted);
        }
        let index_word = self.next_rtcp_index | ENCRYPTED;
        let trailer_len = self.keys.rtcp.tag_len() + SRTCP_INDEX_LEN;
        let (plain, trailer) = split_room(buffer, plain_len, trailer_len)?;
        let (prefix, ssrc, body) = split_rtcp(plain)?;
        let (tag, word) = split_trailer(&self.keys.rtcp, trailer)?;
        *word = index_word.to_be_bytes();
        let framing = Framing::Rtcp { prefix, index_word };
        self.keys.rtcp.seal(ssrc, framing, body, tag)?;
        self.next_rtcp_index += 1;
        Ok(plain_len + trailer_len)
    }
}

fn split_room(
    buffer: &mut [u8],
    plain_len: usize,
    trailer_len: usize,
) -> Result<(&mut [u8], &mut [u8]), SrtpError> {
    let (plain, room) = buffer
        .split_at_mut_checked(plain_len)
        .ok_or(SrtpError::NoRoom)?;
    let trailer = room.get_mut(..trailer_len).ok_or(SrtpError::NoRoom)?;
    Ok((plain, trailer))
}

type RtcpPrefix = [u8; RTCP_PREFIX_LEN];

/// The part in the clear, the sender's SSRC, and the rest.
fn split_rtcp(packet: &mut [u8]) -> Result<(&RtcpPrefix, Ssrc, &mut [u8]), SrtpError> {
    let (prefix, rest) = packet
        .split_first_chunk_mut::<RTCP_PREFIX_LEN>()
        .ok_or(SrtpError::Malformed)?;
    let [first, _, _, _, ssrc @ ..] = *prefix;
    if first >> 6 != 2 {
        return Err(SrtpError::Malformed);
    }
    Ok((prefix, Ssrc(u32::from_be_bytes(ssrc)), rest))
}

/// The tag and the index word of an SRTCP trailer. GCM puts the tag first (RFC 7714 section 9.2),
/// HMAC-SHA1 the word (RFC 3711 section 3.4). `trailer` must be as long as both.
fn split_trailer<'a>(
    cipher: &Cipher,
    trailer: &'a mut [u8],
) -> Result<(&'a mut [u8], &'a mut [u8; SRTCP_INDEX_LEN]), SrtpError> {
    match cipher {
        Cipher::Gcm { .. } => trailer.split_last_chunk_mut(),
        Cipher::CounterMode { .. } => trailer
            .split_first_chunk_mut()
            .map(|(word, tag)| (tag, word)),
    }
    .ok_or(SrtpError::Malformed)
}

#[cfg(test)]
mod tests;
