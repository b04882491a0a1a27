//! The last step before the wire: header, extensions, encryption, into the outbox.
//!
//! In: what a packet is to say. Out: an SRTP or SRTCP datagram for the peer's address.

use std::net::SocketAddr;
use std::time::Instant;

use crate::api::WorkerStats;
use crate::clock::Clock;
use crate::media::{Extension, ExtensionMap};
use crate::peer::srtp::{MAX_SRTP_TRAILER, SrtpSender};
use crate::rtp::extension::{self, HeaderExtensions};
use crate::rtp::packet::{HeaderFields, write_header};
use crate::rtp::sequence::SequenceNumber;
use crate::worker::outbox::Outbox;

/// Room for a header with all its extensions: 12 bytes and the largest block that our bounded
/// values and a dependency descriptor of 255 bytes can make.
pub const MAX_HEADER: usize = 512;

/// What a packet to a subscriber is made of.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Marker, payload type, timestamp and SSRC; the sequence number is taken from `sequence`.
    pub fields: HeaderFields,
    /// Extended, since SRTP needs the rollover count.
    pub sequence: SequenceNumber,
    /// Which extensions go out under which id.
    pub map: &'a ExtensionMap,
    /// The values of the extensions; those of the transport are filled in here.
    pub extensions: HeaderExtensions,
    /// The dependency descriptor, patched.
    pub descriptor: &'a [u8],
    /// What stands before the payload and is not patched: the original sequence number of a
    /// retransmission (RFC 4588 section 4), or RED with what it repeats (RFC 2198).
    pub prefix: &'a [u8],
    /// The payload before patching.
    pub payload: &'a [u8],
}

impl Outgoing<'_> {
    /// Writes the header, with these values for what is filled in last. Returns its length.
    pub fn write_header(
        &self,
        buffer: &mut [u8],
        payload_type: u8,
        transport_sequence: u16,
        abs_send_time: u32,
    ) -> Option<usize> {
        let extensions = HeaderExtensions {
            transport_sequence: Some(transport_sequence),
            abs_send_time: Some(abs_send_time),
            dependency_descriptor: None,
            ..self.extensions
        };
        let fields = HeaderFields {
            sequence: self.sequence.wire(),
            payload_type,
            ..self.fields
        };
        write_header(buffer, fields, |writer| {
            extensions.write(writer, self.map, &[]);
            if let Some(id) = self.map.id(Extension::DependencyDescriptor)
                && !self.descriptor.is_empty()
            {
                writer.put(id, self.descriptor);
            }
        })
        .ok()
    }
}

/// The way out to one peer.
pub struct Egress<'a> {
    /// When it is sent.
    pub now: Instant,
    /// For absolute send time and sender reports.
    pub clock: &'a Clock,
    /// The peer's selected address.
    pub destination: SocketAddr,
    /// Its keys.
    pub srtp: &'a mut SrtpSender,
    /// Its next transport-wide sequence number.
    pub transport_sequence: &'a mut u16,
    /// Where it goes.
    pub outbox: &'a mut Outbox,
    /// What is counted.
    pub stats: &'a mut WorkerStats,
}

impl Egress<'_> {
    /// Sends an RTP packet whose payload `patch` may change in place, and returns its size on the
    /// wire.
    pub fn send_rtp(
        &mut self,
        packet: &Outgoing<'_>,
        patch: impl FnOnce(&mut [u8]),
    ) -> Option<usize> {
        let transport_sequence = *self.transport_sequence;
        let send_time = extension::abs_send_time(self.clock.since_unix_epoch(self.now));
        let payload_len = packet.prefix.len() + packet.payload.len();
        let srtp = &mut *self.srtp;
        let room = MAX_HEADER + payload_len + MAX_SRTP_TRAILER;
        let sent = self.outbox.push(self.destination, room, |buffer| {
            let payload_type = packet.fields.payload_type;
            let header =
                packet.write_header(buffer, payload_type, transport_sequence, send_time)?;
            let len = header + payload_len;
            let (head, body) = buffer
                .get_mut(header..len)?
                .split_at_mut(packet.prefix.len());
            head.copy_from_slice(packet.prefix);
            body.copy_from_slice(packet.payload);
            patch(body);
            srtp.seal_rtp(buffer, len, packet.sequence.rollover()).ok()
        })?;
        if packet.map.id(Extension::TransportSequence).is_some() {
            *self.transport_sequence = self.transport_sequence.wrapping_add(1);
        }
        Some(sent)
    }

    /// Sends an RTCP packet.
    pub fn send_rtcp(&mut self, plain: &[u8]) -> Option<usize> {
        let srtp = &mut *self.srtp;
        self.outbox
            .push(self.destination, plain.len() + MAX_SRTP_TRAILER, |buffer| {
                buffer.get_mut(..plain.len())?.copy_from_slice(plain);
                srtp.seal_rtcp(buffer, plain.len()).ok()
            })
    }
}
