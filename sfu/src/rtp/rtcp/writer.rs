//! Writing RTCP packets one after the other into a buffer.

use super::feedback::{REMB_MANTISSA_BITS, REMB_NAME};
use super::{DlrrReport, ReportBlock, SenderInfo, format, packet_type};
use crate::types::Ssrc;

/// Most report blocks or sources of one packet (RFC 3550 section 6.4.1).
const MAX_COUNT: usize = 31;

/// The canonical name's item type (RFC 3550 section 6.5.1).
const CNAME_ITEM: u8 = 1;

/// The buffer has no room for the packet, or a list is longer than the format can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the RTCP packet does not fit its buffer")]
pub struct NoRoom;

/// Puts packets into a buffer. One that does not fit leaves what was there before.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Into an empty buffer.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Writer { buffer, len: 0 }
    }

    /// Bytes written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A sender report, and receiver reports for the blocks beyond 31.
    ///
    /// # Errors
    /// When there is no room for all of it.
    pub fn sender_report(
        &mut self,
        report: SenderInfo,
        blocks: &[ReportBlock],
    ) -> Result<(), NoRoom> {
        let before = self.len;
        let (first, more) = blocks.split_at(blocks.len().min(MAX_COUNT));
        let info = [
            report.ssrc.0,
            (report.ntp >> 32) as u32,
            report.ntp as u32,
            report.rtp_timestamp,
            report.packet_count,
            report.octet_count,
        ];
        let body = info.into_iter().chain(block_words(first));
        self.packet(packet_type::SENDER_REPORT, first.len() as u8, body)?;
        if more.is_empty() {
            return Ok(());
        }
        self.receiver_report(report.ssrc, more)
            .inspect_err(|_| self.len = before)
    }

    /// A receiver report, and more of them for the blocks beyond 31.
    ///
    /// # Errors
    /// When there is no room for all of it.
    pub fn receiver_report(&mut self, ssrc: Ssrc, blocks: &[ReportBlock]) -> Result<(), NoRoom> {
        let before = self.len;
        let (mut now, mut more) = blocks.split_at(blocks.len().min(MAX_COUNT));
        loop {
            let body = [ssrc.0].into_iter().chain(block_words(now));
            self.packet(packet_type::RECEIVER_REPORT, now.len() as u8, body)
                .inspect_err(|_| self.len = before)?;
            if more.is_empty() {
                return Ok(());
            }
            (now, more) = more.split_at(more.len().min(MAX_COUNT));
        }
    }

    /// The canonical name of a source (RFC 3550 section 6.5.1).
    ///
    /// # Errors
    /// When there is no room or the name is longer than 255 bytes.
    pub fn cname(&mut self, ssrc: Ssrc, name: &str) -> Result<(), NoRoom> {
        let len = u8::try_from(name.len()).map_err(|_| NoRoom)?;
        let byte = |at: usize| match at {
            0 => CNAME_ITEM,
            1 => len,
            _ => name.as_bytes().get(at - 2).copied().unwrap_or(0),
        };
        // The item and at least one zero byte, which ends the list of items.
        let words = (2 + name.len() + 1).div_ceil(4);
        let item = (0..words)
            .map(|w| w * 4)
            .map(|at| u32::from_be_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]));
        let body = [ssrc.0].into_iter().chain(item);
        self.packet(packet_type::SOURCE_DESCRIPTION, 1, body)
    }

    /// A goodbye for at most 31 streams.
    ///
    /// # Errors
    /// When there is no room or there are more streams.
    pub fn goodbye(&mut self, ssrcs: &[Ssrc]) -> Result<(), NoRoom> {
        if ssrcs.len() > MAX_COUNT {
            return Err(NoRoom);
        }
        let body = ssrcs.iter().map(|ssrc| ssrc.0);
        self.packet(packet_type::GOODBYE, ssrcs.len() as u8, body)
    }

    /// Asks for packets again. `lost` is in the order of sequence numbers, across the wrap too.
    ///
    /// # Errors
    /// When there is no room.
    pub fn nack(&mut self, sender: Ssrc, media: Ssrc, lost: &[u16]) -> Result<(), NoRoom> {
        let mut rest = lost;
        let pairs = std::iter::from_fn(|| {
            let (&first, after) = rest.split_first()?;
            let mut pair = u32::from(first) << 16;
            rest = after;
            while let Some((&next, after)) = rest.split_first() {
                let ahead = next.wrapping_sub(first);
                match ahead {
                    0 => {}
                    1..=16 => pair |= 1 << (ahead - 1),
                    _ => break,
                }
                rest = after;
            }
            Some(pair)
        });
        let body = [sender.0, media.0].into_iter().chain(pairs);
        self.packet(packet_type::TRANSPORT_FEEDBACK, format::NACK, body)
    }

    /// Asks for a key frame because pictures were lost.
    ///
    /// # Errors
    /// When there is no room.
    pub fn picture_loss(&mut self, sender: Ssrc, media: Ssrc) -> Result<(), NoRoom> {
        let body = [sender.0, media.0];
        self.packet(packet_type::PAYLOAD_FEEDBACK, format::PICTURE_LOSS, body)
    }

    /// Asks for key frames of streams, each with the number of the request.
    ///
    /// # Errors
    /// When there is no room.
    pub fn full_intra_request(
        &mut self,
        sender: Ssrc,
        entries: &[(Ssrc, u8)],
    ) -> Result<(), NoRoom> {
        let entries = entries
            .iter()
            .flat_map(|&(ssrc, number)| [ssrc.0, u32::from(number) << 24]);
        let body = [sender.0, 0].into_iter().chain(entries);
        self.packet(packet_type::PAYLOAD_FEEDBACK, format::FULL_INTRA, body)
    }

    /// An estimate of our bandwidth for streams, bits per second, rounded down to 18 significant
    /// bits.
    ///
    /// # Errors
    /// When there is no room or there are more than 255 streams.
    pub fn remb(&mut self, sender: Ssrc, bitrate: u64, ssrcs: &[Ssrc]) -> Result<(), NoRoom> {
        let count = u32::from(u8::try_from(ssrcs.len()).map_err(|_| NoRoom)?);
        let bits = u64::BITS - bitrate.leading_zeros();
        let exponent = bits.saturating_sub(REMB_MANTISSA_BITS);
        let rate = count << 24 | exponent << REMB_MANTISSA_BITS | (bitrate >> exponent) as u32;
        let body = [sender.0, 0, REMB_NAME, rate]
            .into_iter()
            .chain(ssrcs.iter().map(|ssrc| ssrc.0));
        self.packet(packet_type::PAYLOAD_FEEDBACK, format::APPLICATION, body)
    }

    /// Answers receivers' reference times (RFC 3611 section 4.5).
    ///
    /// # Errors
    /// When there is no room.
    pub fn dlrr(&mut self, sender: Ssrc, reports: &[DlrrReport]) -> Result<(), NoRoom> {
        let words = u16::try_from(reports.len() * 3).map_err(|_| NoRoom)?;
        let block = u32::from(DlrrReport::BLOCK_TYPE) << 24 | u32::from(words);
        let body = [sender.0, block]
            .into_iter()
            .chain(reports.iter().flat_map(|report| report.to_words()));
        self.packet(packet_type::EXTENDED_REPORT, 0, body)
    }

    /// The room that is left.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.len..).unwrap_or_default()
    }

    /// Takes `len` bytes of the room as written.
    pub(super) fn advance(&mut self, len: usize) {
        self.len += len;
    }

    fn packet(
        &mut self,
        packet_type: u8,
        count: u8,
        body: impl IntoIterator<Item = u32>,
    ) -> Result<(), NoRoom> {
        let room = self.room();
        let mut end = 4;
        for word in body {
            let place = room.get_mut(end..end + 4).ok_or(NoRoom)?;
            place.copy_from_slice(&word.to_be_bytes());
            end += 4;
        }
        let header = header(packet_type, count, end).ok_or(NoRoom)?;
        *room.first_chunk_mut().ok_or(NoRoom)? = header;
        self.advance(end);
        Ok(())
    }
}

/// The header of a packet of `len` bytes, a multiple of 4.
pub(super) fn header(packet_type: u8, count: u8, len: usize) -> Option<[u8; 4]> {
    let [l0, l1] = u16::try_from(len / 4 - 1).ok()?.to_be_bytes();
    Some([2 << 6 | count, packet_type, l0, l1])
}

fn block_words(blocks: &[ReportBlock]) -> impl Iterator<Item = u32> + '_ {
    blocks.iter().flat_map(|block| block.to_words())
}
