//! What a slot sends beside the plain media, as the policy has decided: audio that is repeated in
//! RED, repair packets for video, and how long the receiver is asked to wait.
//!
//! In: the packets that the slot forwards. Out: RED headers with old frames to put before them, and
//! ULPFEC or FlexFEC packets in the subscriber's own numbering.

use std::time::Duration;

use super::protect::Sent;
use super::rewrite::Mapped;
use super::slot::{Slot, patch_payload, repeats};
use crate::bandwidth::sent::PacketKind;
use crate::media::{Codec, Kind};
use crate::publish::feed::Feed;
use crate::publish::history::{Kept, MAX_PACKET, PacketMeta};
use crate::rtp::extension::HeaderExtensions;
use crate::rtp::fec::{Mask, Parity, flexfec, ulpfec};
use crate::rtp::packet::{FIXED_HEADER_LEN, HeaderFields};
use crate::rtp::red;
use crate::rtp::sequence::SequenceNumber;
use crate::send::egress::{Egress, MAX_HEADER, Outgoing};

/// Largest frame of audio that is repeated, bytes: beyond any speech.
const MAX_REPEATED: usize = 320;

/// Room for three repeated frames with their RED headers.
pub(super) const MAX_REDUNDANCY: usize = 3 * (MAX_REPEATED + 4) + 1;

/// How far the receiver's delay moves with a frame: this at least, and on the way up an eighth of what
/// is missing, which is there in half a second. Frames come late meanwhile; without it they would
/// stand still.
const PLAYOUT_STEP: Duration = Duration::from_millis(10);
const PLAYOUT_RISE: u32 = 8;

/// How a slot's video is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scheme {
    /// In RED, on the media's SSRC.
    Ulpfec,
    /// On an SSRC of its own.
    Flexfec,
}

impl Slot {
    /// How a packet of video is to be protected, if it is.
    pub(super) fn scheme(&self, meta: &PacketMeta, starts_key_frame: bool) -> Option<Scheme> {
        let is_base = is_base(meta);
        let is_wanted = self.kind == Kind::Video
            && (self.protector.is_open()
                || self
                    .protector
                    .wants(&self.protection, starts_key_frame, is_base));
        self.scheme_for(meta.codec).filter(|_| is_wanted)
    }

    /// How packets of a codec can be protected, if they can.
    pub(super) fn scheme_for(&self, codec: Codec) -> Option<Scheme> {
        // ULPFEC takes numbers of the media. Only a decoder that counts frames, not packets, goes
        // on when one of those is missing (libwebrtc's `PayloadTypeSupportsSkippingFecPackets`).
        let counts_pictures = matches!(codec, Codec::Vp8 | Codec::Vp9 { .. });
        let ulpfec = self.repair.red.zip(self.repair.ulpfec);
        match (self.repair.flexfec.zip(self.flexfec_ssrc), ulpfec) {
            (Some(_), _) => Some(Scheme::Flexfec),
            (None, Some(_)) if counts_pictures => Some(Scheme::Ulpfec),
            _ => None,
        }
    }

    /// Puts the frames before a packet of audio, and the RED headers, into a buffer: as many of the
    /// latest as the whole payload has room for in `most` bytes. None when there is nothing to repeat.
    pub(super) fn repeat(
        &self,
        kept: Kept<'_>,
        feed: &Feed,
        payload_type: u8,
        most: usize,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let meta = kept.meta;
        let block = |distance: u64| {
            let sequence = SequenceNumber(meta.sequence.0.checked_sub(distance)?);
            let old = feed.get(meta.encoding, sequence)?;
            let offset = u16::try_from(meta.timestamp.checked_sub(old.meta.timestamp)?).ok()?;
            let fits = (1..=red::MAX_OFFSET).contains(&offset)
                && repeats(old.meta.codec)
                && old.meta.epoch == meta.epoch
                && (1..=MAX_REPEATED).contains(&old.payload().len());
            fits.then_some(red::Block {
                payload_type,
                offset,
                data: old.payload(),
            })
        };
        let mut room = most.saturating_sub(kept.payload().len() + 1);
        let wanted = 1..=u64::from(self.protection.red_distance);
        let fitting = wanted.take_while(|&distance| {
            let len = block(distance).map_or(0, |block| red::HEADER_LEN + block.data.len());
            let left = room.checked_sub(len);
            room = left.unwrap_or_default();
            left.is_some()
        });
        let blocks = (1..=fitting.count() as u64).rev().filter_map(block);
        blocks.clone().next()?;
        red::write(buffer, blocks, payload_type)
    }

    /// Takes a packet that was sent, with so many bytes before its payload, into the protection, and
    /// sends the repair packets that complete.
    pub(super) fn protect(
        &mut self,
        scheme: Scheme,
        kept: Kept<'_>,
        mapped: Mapped,
        fields: HeaderFields,
        prefix_len: usize,
        egress: &mut Egress<'_>,
    ) {
        let meta = kept.meta;
        let mut descriptor = [0; u8::MAX as usize];
        let descriptor = self.descriptor(kept, mapped, &mut descriptor);
        let mut header = [0; MAX_HEADER];
        let mut payload = [0; MAX_PACKET];
        let mut outgoing = self.outgoing(meta, fields, mapped.sequence, descriptor, &[], &[]);
        // What it was sent without the receiver will not count in either.
        let map = egress.fit(&outgoing, prefix_len + kept.payload().len());
        if let Some(map) = &map {
            outgoing.map = map;
        }
        let header_len = outgoing.write_header(&mut header, fields.payload_type, 0, 0);
        let (Some(header), Some(payload)) = (
            header_len.and_then(|len| header.get(..len)),
            payload.get_mut(..kept.payload().len()),
        ) else {
            return;
        };
        payload.copy_from_slice(kept.payload());
        patch_payload(meta, mapped, payload);
        let sent = Sent {
            sequence: mapped.sequence,
            header,
            payload,
            starts_key_frame: meta.starts_decoding(),
            ends_picture: fields.marker,
            is_newest: self.rewriter.last_sequence() == Some(mapped.sequence),
            is_base: is_base(meta),
            fits: self.fits_repair(scheme, header.len() + payload.len(), egress),
        };
        let mut protector = std::mem::take(&mut self.protector);
        protector.handle_packet(egress.now, &self.protection, &sent);
        while let Some((base, mask, parity)) = protector.poll_repair() {
            self.send_repair(scheme, base, mask, parity, egress);
        }
        self.protector = protector;
    }

    /// Whether what protects a packet of this length, which is longer, arrives whole. Otherwise it would
    /// be lost twice as often, and the packet is better sent again.
    fn fits_repair(&self, scheme: Scheme, packet_len: usize, egress: &Egress<'_>) -> bool {
        let repair_header = match scheme {
            // With the RED header.
            Scheme::Ulpfec => 1 + ulpfec::MAX_HEADER_LEN,
            Scheme::Flexfec => flexfec::MAX_HEADER_LEN,
        };
        let parity = packet_len.saturating_sub(FIXED_HEADER_LEN);
        let fields = HeaderFields {
            marker: false,
            payload_type: 0,
            sequence: 0,
            timestamp: 0,
            ssrc: self.ssrc,
        };
        let packet = self.bare(fields, SequenceNumber(0), &[], &[]);
        egress.fits(&packet, repair_header + parity)
    }

    /// A packet of our own making.
    pub(super) fn bare<'a>(
        &'a self,
        fields: HeaderFields,
        sequence: SequenceNumber,
        prefix: &'a [u8],
        payload: &'a [u8],
    ) -> Outgoing<'a> {
        Outgoing {
            fields,
            sequence,
            map: &self.extensions,
            extensions: HeaderExtensions::default(),
            mid: &self.mid,
            descriptor: &[],
            prefix,
            payload,
            is_padding: false,
            is_known: self.is_known(),
            is_kept: self.is_kept && fields.ssrc == self.ssrc,
            media: None,
        }
    }

    fn send_repair(
        &mut self,
        scheme: Scheme,
        base: SequenceNumber,
        mask: Mask,
        parity: &Parity,
        egress: &mut Egress<'_>,
    ) -> Option<()> {
        let mut payload = [0; MAX_PACKET];
        let written = match scheme {
            Scheme::Ulpfec => ulpfec::write(&mut payload, base.wire(), mask, parity),
            Scheme::Flexfec => flexfec::write(&mut payload, self.ssrc, base.wire(), mask, parity),
        };
        let payload = payload.get(..written?)?;
        let inner = [self.repair.ulpfec.unwrap_or_default()];
        let (ssrc, payload_type, sequence, timestamp, prefix) = match scheme {
            Scheme::Ulpfec => {
                let payload_type = self.repair.red?;
                let (sequence, timestamp) = self.rewriter.insert()?;
                (self.ssrc, payload_type, sequence, timestamp, &inner[..])
            }
            Scheme::Flexfec => {
                let (payload_type, ssrc) = self.repair.flexfec.zip(self.flexfec_ssrc)?;
                let timestamp = self.rewriter.last_timestamp()?;
                self.flexfec_sequence = self.flexfec_sequence.next();
                (
                    ssrc,
                    payload_type,
                    self.flexfec_sequence,
                    timestamp,
                    &[][..],
                )
            }
        };
        let fields = HeaderFields {
            marker: false,
            payload_type,
            sequence: 0,
            timestamp,
            ssrc,
        };
        let outgoing = self.bare(fields, sequence, prefix, payload);
        // What shares the numbers of the media must not be overtaken by it: the receiver would ask
        // for it again.
        let kind = match scheme {
            Scheme::Ulpfec => PacketKind::Video,
            Scheme::Flexfec => PacketKind::Fec,
        };
        egress.send_rtp(&outgoing, kind, |_| ())?;
        egress.stats.repair_sent.fec += 1;
        Some(())
    }

    /// Moves what the receiver is asked to wait a step towards what the policy wants: it plays a
    /// little slower or faster meanwhile.
    pub(super) fn move_playout_delay(&mut self) {
        let target = self.protection.playout_delay;
        let Some(current) = self
            .playout_delay
            .or((!target.is_zero()).then_some(Duration::ZERO))
        else {
            return;
        };
        self.playout_delay = Some(approach(current, target));
    }
}

/// The delay after the next frame.
fn approach(current: Duration, target: Duration) -> Duration {
    match target.checked_sub(current) {
        Some(missing) => target.min(current + (missing / PLAYOUT_RISE).max(PLAYOUT_STEP)),
        None => target.max(current.saturating_sub(PLAYOUT_STEP)),
    }
}

/// Whether frames of other layers depend on a packet's.
fn is_base(meta: &PacketMeta) -> bool {
    let temporal = meta.picture.as_ref().and_then(|p| p.temporal_id);
    temporal.is_none_or(|layer| layer == 0)
}

#[cfg(test)]
pub(super) mod tests;
