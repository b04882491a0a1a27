//! RTCP: what a compound packet says, and writing one.
//!
//! In: the bytes of an opened packet, compound (RFC 3550 section 6) or reduced-size (RFC 5506). Out:
//! [`Packets`], typed views that borrow from them. [`Writer`] goes the other way, into the caller's
//! buffer. Neither allocates, and reading costs no more than the bytes there are.

mod feedback;
mod report;
mod transport;
mod writer;

pub use feedback::{FullIntraRequest, Nack, PictureLoss, Remb};
pub use report::{
    DlrrReport, ExtendedBlock, ExtendedReport, Goodbye, ReceiverReport, ReportBlock, SenderInfo,
    SenderReport, compact_delay, compact_ntp, round_trip,
};
pub use transport::{
    ArrivalReport, DELTA_TICK, MAX_STATUS_COUNT, PacketStatus, REFERENCE_TICK, TransportFeedback,
};
pub use writer::{NoRoom, Writer};

/// Packet types (RFC 3550 section 12.1, RFC 4585 section 6.1, RFC 3611 section 2).
mod packet_type {
    pub(super) const SENDER_REPORT: u8 = 200;
    pub(super) const RECEIVER_REPORT: u8 = 201;
    pub(super) const SOURCE_DESCRIPTION: u8 = 202;
    pub(super) const GOODBYE: u8 = 203;
    pub(super) const TRANSPORT_FEEDBACK: u8 = 205;
    pub(super) const PAYLOAD_FEEDBACK: u8 = 206;
    pub(super) const EXTENDED_REPORT: u8 = 207;
}

/// Feedback message types, in the place of the count (RFC 4585 section 6.2 and 6.3, RFC 5104
/// section 4.3, draft-holmer-rmcat-transport-wide-cc-extensions-01, draft-alvestrand-rmcat-remb-03).
mod format {
    pub(super) const NACK: u8 = 1;
    pub(super) const TRANSPORT_WIDE: u8 = 15;
    pub(super) const PICTURE_LOSS: u8 = 1;
    pub(super) const FULL_INTRA: u8 = 4;
    pub(super) const APPLICATION: u8 = 15;
}

/// The packet is cut short or contradicts itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the RTCP packet is malformed")]
pub struct MalformedRtcp;

/// One packet of a compound.
#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    /// RFC 3550 section 6.4.1.
    SenderReport(SenderReport<'a>),
    /// RFC 3550 section 6.4.2.
    ReceiverReport(ReceiverReport<'a>),
    /// RFC 3550 section 6.5. We know who sends what from signaling.
    SourceDescription,
    /// RFC 3550 section 6.6.
    Goodbye(Goodbye<'a>),
    /// RFC 4585 section 6.2.1.
    Nack(Nack<'a>),
    /// RFC 4585 section 6.3.1.
    PictureLoss(PictureLoss),
    /// RFC 5104 section 4.3.1.
    FullIntraRequest(FullIntraRequest<'a>),
    /// draft-alvestrand-rmcat-remb-03.
    Remb(Remb<'a>),
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01.
    TransportFeedback(TransportFeedback<'a>),
    /// RFC 3611.
    ExtendedReport(ExtendedReport<'a>),
    /// A type we do not know, for the caller to count.
    Unknown {
        /// The packet type.
        packet_type: u8,
        /// The count, or for feedback the message type.
        format: u8,
    },
}

/// The packets of a compound in order.
///
/// One that is malformed inside gives an error and the next follows; one whose length is wrong is
/// the last. Each takes at least 4 bytes, so their number is bounded by the length.
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Packets<'a> {
    /// Of an opened RTCP packet.
    #[must_use]
    pub fn new(compound: &'a [u8]) -> Self {
        Packets { rest: compound }
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, MalformedRtcp>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let Some((header, body, rest)) = split_packet(rest) else {
            return Some(Err(MalformedRtcp));
        };
        self.rest = rest;
        Some(Packet::parse(header, body).ok_or(MalformedRtcp))
    }
}

/// The first packet's header, its body with the padding, and what follows it.
fn split_packet(bytes: &[u8]) -> Option<([u8; 2], &[u8], &[u8])> {
    let (&[first, packet_type, l0, l1], rest) = bytes.split_first_chunk()?;
    let len = usize::from(u16::from_be_bytes([l0, l1])) * 4;
    let (body, rest) = rest.split_at_checked(len)?;
    (first >> 6 == 2).then_some(([first, packet_type], body, rest))
}

impl<'a> Packet<'a> {
    fn parse([first, packet_type]: [u8; 2], body: &'a [u8]) -> Option<Self> {
        let body = if first & 0x20 == 0 {
            body
        } else {
            let padding = usize::from(*body.last()?);
            body.get(..body.len().checked_sub(padding).filter(|_| padding > 0)?)?
        };
        let format = first & 0x1f;
        Some(match (packet_type, format) {
            (packet_type::SENDER_REPORT, count) => {
                Packet::SenderReport(SenderReport::parse(count, body)?)
            }
            (packet_type::RECEIVER_REPORT, count) => {
                Packet::ReceiverReport(ReceiverReport::parse(count, body)?)
            }
            (packet_type::SOURCE_DESCRIPTION, _) => Packet::SourceDescription,
            (packet_type::GOODBYE, count) => Packet::Goodbye(Goodbye::parse(count, body)?),
            (packet_type::TRANSPORT_FEEDBACK, format::NACK) => Packet::Nack(Nack::parse(body)?),
            (packet_type::TRANSPORT_FEEDBACK, format::TRANSPORT_WIDE) => {
                Packet::TransportFeedback(TransportFeedback::parse(body)?)
            }
            (packet_type::PAYLOAD_FEEDBACK, format::PICTURE_LOSS) => {
                Packet::PictureLoss(PictureLoss::parse(body)?)
            }
            (packet_type::PAYLOAD_FEEDBACK, format::FULL_INTRA) => {
                Packet::FullIntraRequest(FullIntraRequest::parse(body)?)
            }
            (packet_type::PAYLOAD_FEEDBACK, format::APPLICATION) if Remb::is_named_in(body) => {
                Packet::Remb(Remb::parse(body)?)
            }
            (packet_type::EXTENDED_REPORT, _) => {
                Packet::ExtendedReport(ExtendedReport::parse(body)?)
            }
            _ => Packet::Unknown {
                packet_type,
                format,
            },
        })
    }
}

/// The first `N` 32-bit words and what follows them.
fn split_words<const N: usize>(bytes: &[u8]) -> Option<([u32; N], &[u8])> {
    let (words, _) = bytes.as_chunks::<4>();
    let words: &[[u8; 4]; N] = words.first_chunk()?;
    Some((words.map(u32::from_be_bytes), bytes.get(N * 4..)?))
}

/// All whole 32-bit words.
fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + Clone + '_ {
    bytes.as_chunks().0.iter().map(|w| u32::from_be_bytes(*w))
}

#[cfg(test)]
mod tests;
