//! The last step before the wire: header, extensions, the pacer, encryption, into the outbox.
//!
//! In: what a packet is to say. Out: an SRTP or SRTCP datagram for the peer's address, at once if
//! the pacer has nothing against it, or else when [`Egress::depart`] is called for it.

use std::net::SocketAddr;
use std::time::Instant;

use super::fit::{Receiver, fit};
use super::pacing::Pacing;
use super::path_size::PathSize;
use super::sealed::SealedRing;
use crate::api::{DropReason, WorkerStats};
use crate::bandwidth::sent::{ClusterId, MediaPacket, PacketKind, SentPacket};
use crate::clock::Clock;
use crate::media::{Extension, ExtensionMap};
use crate::path::{Path, Protocol};
use crate::rtp::extension::{self, HeaderExtensions, Lengths};
use crate::rtp::packet::{FIXED_HEADER_LEN, HeaderFields, RtpHeader, write_header};
use crate::rtp::sequence::SequenceNumber;
use crate::send::outbox::{Outbox, Tracked};
use crate::srtp::{MAX_SRTP_TRAILER, SrtpSender};
use crate::types::{Mid, PeerId, Ssrc};
use crate::units::DataSize;

/// Room for a header with all its extensions: 12 bytes and the largest block that our bounded
/// values and a dependency descriptor of 255 bytes can make.
pub(crate) const MAX_HEADER: usize = 512;

/// The header of a packet with the usual extensions, and the tag, bytes: near enough for the pacer.
const TYPICAL_HEADER: usize = 12 + 4 + 16 + SRTP_TAG;

/// More than the extensions of nearly every packet take, bytes, the values of [`Lengths`] aside: what has
/// room for so many need not be looked at closer.
const USUAL_EXTENSIONS: usize = 64;

/// P of the first byte (RFC 3550 section 5.1).
const PADDING_BIT: u8 = 0x20;

/// The tag of AES-GCM (RFC 7714 section 12.1).
const SRTP_TAG: usize = 16;

/// Bytes of an IP header (RFC 791, RFC 8200).
const IPV4: usize = 20;
const IPV6: usize = 40;

/// Bytes of a UDP header (RFC 768); and of a TCP header with timestamps (RFC 9293, RFC 7323) and a
/// frame's (RFC 4571).
const UDP: usize = 8;
const TCP: usize = 20 + 12 + 2;

/// What a packet to a subscriber is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    /// Marker, payload type, timestamp and SSRC; the sequence number is taken from `sequence`.
    pub fields: HeaderFields,
    /// Extended, since SRTP needs the rollover count.
    pub sequence: SequenceNumber,
    /// Which extensions go out under which id.
    pub map: &'a ExtensionMap,
    /// The values of the extensions; those of the transport are filled in here.
    pub extensions: HeaderExtensions,
    /// The m-line it goes out on.
    pub mid: &'a Mid,
    /// The dependency descriptor, patched.
    pub descriptor: &'a [u8],
    /// What stands before the payload and is not patched: the original sequence number of a
    /// retransmission (RFC 4588 section 4), or RED with what it repeats (RFC 2198).
    pub prefix: &'a [u8],
    /// The payload before patching.
    pub payload: &'a [u8],
    /// The payload is padding (RFC 3550 section 5.1).
    pub is_padding: bool,
    /// The receiver knows the stream, also without the name of its m-line.
    pub is_known: bool,
    /// The receiver may ask for the very same packet again.
    pub is_kept: bool,
    /// What is sent again if it is lost.
    pub media: Option<MediaPacket>,
}

impl Outgoing<'_> {
    fn lengths(&self) -> Lengths {
        Lengths {
            mid: self.mid.as_bytes().len(),
            descriptor: self.descriptor.len(),
        }
    }

    /// Writes the header, with these values for what is filled in last. Returns its length.
    pub(crate) fn write_header(
        &self,
        buffer: &mut [u8],
        payload_type: u8,
        transport_sequence: u16,
        abs_send_time: u32,
    ) -> Option<usize> {
        let extensions = HeaderExtensions {
            transport_sequence: Some(transport_sequence),
            abs_send_time: Some(abs_send_time),
            mid: None,
            dependency_descriptor: None,
            ..self.extensions
        };
        let fields = HeaderFields {
            sequence: self.sequence.wire(),
            payload_type,
            ..self.fields
        };
        let len = write_header(buffer, fields, |writer| {
            extensions.write(writer, self.map, &[]);
            if let Some(id) = self.map.id(Extension::Mid) {
                writer.put(id, self.mid.as_bytes());
            }
            if let Some(id) = self.map.id(Extension::DependencyDescriptor)
                && !self.descriptor.is_empty()
            {
                writer.put(id, self.descriptor);
            }
        })
        .ok()?;
        if self.is_padding {
            buffer[0] |= PADDING_BIT;
        }
        Some(len)
    }
}

/// A probe that is being filled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filling {
    pub cluster: ClusterId,
    /// What has been sent for it.
    pub sent: DataSize,
}

/// The path out to one peer.
pub(crate) struct Egress<'a> {
    /// When it is sent.
    pub now: Instant,
    /// Whose path it is.
    pub peer: PeerId,
    /// For absolute send time and sender reports.
    pub clock: &'a Clock,
    /// The path to the peer that is selected.
    pub destination: Path,
    /// How large its datagrams may be.
    pub path_size: &'a mut PathSize,
    pub srtp: &'a mut SrtpSender,
    /// What it may ask for again as it was.
    pub sealed: &'a mut SealedRing,
    pub pacing: &'a mut Pacing,
    /// Set while what is sent fills this probe, for which it leaves at once.
    pub filling: Option<Filling>,
    pub outbox: &'a mut Outbox,
    pub stats: &'a mut WorkerStats,
}

impl Egress<'_> {
    /// Sends an RTP packet whose payload `patch` may change in place, now or when the pacer lets it.
    /// Returns its size as a datagram.
    pub(crate) fn send_rtp(
        &mut self,
        packet: &Outgoing<'_>,
        kind: PacketKind,
        patch: impl FnOnce(&mut [u8]),
    ) -> Option<usize> {
        let payload_len = packet.prefix.len() + packet.payload.len();
        let (map, shorter);
        let packet = match self.fit(packet, payload_len) {
            None => packet,
            Some(fitted) => {
                map = fitted;
                shorter = Outgoing {
                    map: &map,
                    ..*packet
                };
                &shorter
            }
        };
        let size = self.wire_size(TYPICAL_HEADER + payload_len);
        let leaves = self.filling.is_some() || self.pacing.admit(self.now, size, kind);
        if !leaves {
            return self.queue(packet, size, kind, patch);
        }
        let sequence = self.pacing.sequence();
        let send_time = extension::abs_send_time(self.clock.since_unix_epoch(self.now));
        let srtp = &mut *self.srtp;
        let room = MAX_HEADER + payload_len + MAX_SRTP_TRAILER;
        let sent = self
            .outbox
            .push(self.destination, Some(kind), room, |buffer| {
                let len = compose(packet, sequence.wire(), send_time, buffer, patch)?;
                srtp.seal_rtp(buffer, len, packet.sequence.rollover()).ok()
            })?;
        let is_tracked = packet.map.id(Extension::TransportSequence).is_some();
        if packet.is_kept {
            self.keep(packet.fields.ssrc, packet.sequence, is_tracked, sent);
        }
        let size = self.wire_size(sent);
        let cluster = self.filling.as_mut().map(|filling| {
            filling.sent += size;
            filling.cluster
        });
        self.track(sent, kind, cluster, packet.media, is_tracked);
        Some(sent)
    }

    fn queue(
        &mut self,
        packet: &Outgoing<'_>,
        size: DataSize,
        kind: PacketKind,
        patch: impl FnOnce(&mut [u8]),
    ) -> Option<usize> {
        let room = MAX_HEADER + packet.prefix.len() + packet.payload.len();
        let mut len = 0;
        self.pacing.queue(self.now, size, kind, |waiting| {
            waiting.bytes.resize(room, 0);
            len = compose(packet, 0, 0, &mut waiting.bytes, patch)?;
            waiting.bytes.truncate(len);
            waiting.map = *packet.map;
            waiting.ssrc = packet.fields.ssrc;
            waiting.sequence = packet.sequence;
            waiting.is_kept = packet.is_kept;
            waiting.media = packet.media;
            Some(())
        })?;
        Some(len + SRTP_TAG)
    }

    /// Sends a packet that has waited long enough.
    pub(crate) fn depart(&mut self, place: usize, cluster: Option<ClusterId>) {
        let sequence = self.pacing.sequence();
        let send_time = extension::abs_send_time(self.clock.since_unix_epoch(self.now));
        let waiting = self.pacing.waiting(place);
        let (kind, len) = (waiting.kind, waiting.bytes.len());
        let (ssrc, number, is_kept) = (waiting.ssrc, waiting.sequence, waiting.is_kept);
        let media = waiting.media;
        let is_tracked = waiting.map.id(Extension::TransportSequence).is_some();
        let srtp = &mut *self.srtp;
        let room = len + MAX_SRTP_TRAILER;
        let sent = self
            .outbox
            .push(self.destination, Some(kind), room, |buffer| {
                let packet = buffer.get_mut(..len)?;
                packet.copy_from_slice(&waiting.bytes);
                let header = RtpHeader::parse(packet).ok()?;
                let map = &waiting.map;
                extension::set_mutable(packet, &header, map, sequence.wire(), send_time);
                srtp.seal_rtp(buffer, len, waiting.sequence.rollover()).ok()
            });
        self.pacing.release(place);
        match sent {
            Some(sent) => {
                if is_kept {
                    self.keep(ssrc, number, is_tracked, sent);
                }
                self.track(sent, kind, cluster, media, is_tracked);
            }
            None => self.stats.drop(DropReason::SendUnsealed),
        }
    }

    /// The extensions that a packet with so many bytes behind its header keeps, if some may have to be
    /// left out.
    pub(crate) fn fit(&self, packet: &Outgoing<'_>, payload_len: usize) -> Option<ExtensionMap> {
        let room = self.room(payload_len);
        let lengths = packet.lengths();
        let is_short = room >= USUAL_EXTENSIONS + lengths.mid + lengths.descriptor;
        (!is_short).then(|| {
            let receiver = self.receiver(packet.is_known);
            fit(packet.map, &packet.extensions, lengths, receiver, room)
        })
    }

    /// Whether a packet with so many bytes behind its header arrives whole.
    #[must_use]
    pub(crate) fn fits(&self, packet: &Outgoing<'_>, payload_len: usize) -> bool {
        let Some(map) = self.fit(packet, payload_len) else {
            return true;
        };
        let block = packet.extensions.block_len(&map, packet.lengths());
        block <= self.room(payload_len)
    }

    /// How many bytes the extensions may take.
    fn room(&self, payload_len: usize) -> usize {
        let rest = FIXED_HEADER_LEN + payload_len + self.srtp.rtp_overhead();
        self.path_size.limit().saturating_sub(rest)
    }

    fn receiver(&self, knows_stream: bool) -> Receiver {
        Receiver {
            knows_stream,
            gives_feedback: self.pacing.gives_feedback(),
        }
    }

    /// How many bytes a payload may have, so that its packet fits whatever extensions it has.
    #[must_use]
    pub(crate) fn largest_payload(&self) -> usize {
        let header = FIXED_HEADER_LEN + USUAL_EXTENSIONS + self.srtp.rtp_overhead();
        self.path_size.limit().saturating_sub(header)
    }

    /// Keeps the packet added last as it is.
    fn keep(&mut self, ssrc: Ssrc, number: SequenceNumber, is_tracked: bool, len: usize) {
        let transport = is_tracked.then(|| self.pacing.sequence());
        let datagram = self.outbox.last(len);
        self.sealed
            .keep(self.now, ssrc, number.wire(), transport, datagram);
    }

    /// Sends a packet once more, bit for bit as it was. Returns its size as a datagram; none when it is
    /// not kept any more.
    pub(crate) fn send_same(&mut self, ssrc: Ssrc, number: u16) -> Option<usize> {
        let sealed = self.sealed.get(self.now, ssrc, number)?;
        let len = sealed.bytes.len();
        let kind = Some(PacketKind::Retransmission);
        self.outbox.push(self.destination, kind, len, |buffer| {
            buffer.copy_from_slice(&sealed.bytes);
            Some(len)
        })?;
        if let Some(transport) = sealed.transport {
            self.pacing.handle_repeated(transport);
        }
        self.check_size(len);
        self.pacing.handle_unqueued(self.now, self.wire_size(len));
        Some(len)
    }

    /// Sees to the packet added last if it is too long for its path.
    fn check_size(&mut self, len: usize) {
        if len <= self.path_size.limit() {
            return;
        }
        self.outbox.isolate(len);
        if self.path_size.is_first_long() {
            tracing::info!(
                peer = self.peer.0,
                path = %self.destination,
                bytes = len,
                limit = self.path_size.limit(),
                "packets are longer than the path to this client takes whole, also without the header \
                 extensions that they can do without, and are sent in IP fragments: have their \
                 publisher make smaller ones"
            );
        }
    }

    /// Notes the packet added last, if it is one that its receiver gives feedback on.
    fn track(
        &mut self,
        len: usize,
        kind: PacketKind,
        cluster: Option<ClusterId>,
        media: Option<MediaPacket>,
        is_tracked: bool,
    ) {
        self.check_size(len);
        if !is_tracked {
            return;
        }
        let sequence = self.pacing.sequence();
        self.pacing.advance();
        self.outbox.track(Tracked {
            peer: self.peer,
            sequence,
            packet: SentPacket {
                at: self.now,
                size: self.wire_size(len),
                kind,
                cluster,
                media,
            },
        });
    }

    /// What a packet takes of a link, each in a packet of its own.
    fn wire_size(&self, len: usize) -> DataSize {
        let ip = match self.destination.address() {
            SocketAddr::V4(_) => IPV4,
            SocketAddr::V6(_) => IPV6,
        };
        let transport = match self.destination.protocol() {
            Protocol::Udp => UDP,
            Protocol::Tcp => TCP,
        };
        DataSize::bytes((ip + transport + len) as u64)
    }

    /// Sends an RTCP packet.
    pub(crate) fn send_rtcp(&mut self, plain: &[u8]) -> Option<usize> {
        let srtp = &mut *self.srtp;
        let room = plain.len() + MAX_SRTP_TRAILER;
        let sent = self.outbox.push(self.destination, None, room, |buffer| {
            buffer.get_mut(..plain.len())?.copy_from_slice(plain);
            srtp.seal_rtcp(buffer, plain.len()).ok()
        })?;
        self.pacing.handle_unqueued(self.now, self.wire_size(sent));
        Some(sent)
    }
}

/// Puts a packet together in the clear, and returns its length.
fn compose(
    packet: &Outgoing<'_>,
    transport_sequence: u16,
    send_time: u32,
    buffer: &mut [u8],
    patch: impl FnOnce(&mut [u8]),
) -> Option<usize> {
    let payload_type = packet.fields.payload_type;
    let header = packet.write_header(buffer, payload_type, transport_sequence, send_time)?;
    let len = header + packet.prefix.len() + packet.payload.len();
    let (head, body) = buffer
        .get_mut(header..len)?
        .split_at_mut(packet.prefix.len());
    head.copy_from_slice(packet.prefix);
    body.copy_from_slice(packet.payload);
    patch(body);
    Some(len)
}
