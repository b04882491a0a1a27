//! RTP in: whose packet it is, and what it becomes.
//!
//! In: SRTP datagrams from a validated address. Out: the plaintext packet with what the track's
//! feed needs to know of it. An SSRC is bound to a stream only by a packet that has authenticated.

use std::time::Instant;

use super::{Context, Peer, Route};
use crate::api::{DropReason, WorkerStats};
use crate::path::Path;
use crate::publish::history::PacketMeta;
use crate::publish::publication::Format;
use crate::publish::receive::Unusable;
use crate::publish::sources::{Claimed, Role};
use crate::rtp::extension::HeaderExtensions;
use crate::rtp::packet::RtpHeader;
use crate::types::{EncodingIndex, Ssrc, TrackId};

/// A packet for a feed.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub track: TrackId,
    /// What is known of it.
    pub meta: PacketMeta,
    /// The plaintext packet.
    pub packet: &'a [u8],
}

impl Peer {
    /// Takes an RTP datagram, and gives `take` the packets that come of it, in their order: what it has shown
    /// of packets that did not come, then its own.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(crate) fn handle_rtp(
        &mut self,
        from: Path,
        datagram: &mut [u8],
        cx: &mut Context<'_>,
        mut take: impl FnMut(Received<'_>, &mut WorkerStats),
    ) -> Result<(), DropReason> {
        if !self.flood.admit(cx.now) {
            return Err(DropReason::RtpFlood);
        }
        let secured = self.secured.as_mut().ok_or(DropReason::RtpBeforeDtls)?;
        let opened = secured
            .receiver
            .open_rtp(datagram)
            .map_err(crate::srtp::SrtpError::reason)?;
        cx.stats.rtp_received += 1;
        self.silence.handle_packet(cx.now);
        self.handle_authenticated(cx.now, from);
        let packet = datagram
            .get_mut(..opened.plain_len)
            .ok_or(DropReason::RtpMalformed)?;
        let header = RtpHeader::parse(packet).map_err(|_| DropReason::RtpMalformed)?;
        let extensions = HeaderExtensions::parse(packet, &header, &self.extensions);
        if let Some(sequence) = extensions.transport_sequence {
            self.feedback
                .handle_packet(cx.now, sequence, extensions.abs_send_time);
        }
        let known = self.routes.get(&header.ssrc).copied();
        let known = known.filter(|route| {
            let publication = self.publications.get(route.publication);
            publication.is_some_and(|p| p.is_still(route.encoding, route.role, extensions.rid))
        });
        let route = match known {
            Some(known) => known,
            None if self.is_displaced(header.ssrc) => return Err(DropReason::RtpDisplacedSsrc),
            None => self
                .bind(cx.now, &header, &extensions, packet)
                .ok_or(DropReason::RtpUnknownSsrc)?,
        };
        let publication = self.publications.get_mut(route.publication);
        let publication = publication.ok_or(DropReason::RtpUnknownSsrc)?;
        let track = publication.track.filter(|_| !publication.muted);
        let (now, encoding) = (cx.now, route.encoding);
        let taken =
            publication.handle_rtp(now, encoding, header, extensions, packet, |meta, packet| {
                if let Some(track) = track {
                    let received = Received {
                        track,
                        meta,
                        packet,
                    };
                    take(received, cx.stats);
                }
            });
        cx.stats.packets_repaired += std::mem::take(&mut publication.repaired_by);
        taken.map_err(Unusable::reason)
    }

    /// Finds out what an authenticated packet with a new SSRC belongs to (RFC 9143 section 9.2), and
    /// remembers it.
    fn bind(
        &mut self,
        now: Instant,
        header: &RtpHeader,
        extensions: &HeaderExtensions,
        packet: &[u8],
    ) -> Option<Route> {
        let RtpHeader {
            ssrc, payload_type, ..
        } = *header;
        let mut all = self.publications.iter();
        let publication = match extensions.mid {
            Some(mid) => all.position(|p| p.mid.as_bytes() == mid.of(packet))?,
            None => {
                let announced = all.position(|p| p.announces(ssrc));
                announced.or_else(|| self.only_one_with(payload_type))?
            }
        };
        let state = self.publications.get_mut(publication)?;
        let role = match state.format(payload_type)? {
            Format::Retransmission(_) => Role::Retransmission,
            Format::Flexfec => Role::Repair,
            Format::Media(_) | Format::Red | Format::Ulpfec => Role::Media,
        };
        let rid = match role {
            Role::Media => extensions.rid,
            Role::Retransmission | Role::Repair => extensions.repaired_rid,
        };
        let Claimed {
            encoding,
            former,
            displaces,
        } = state.claim(now, role, ssrc, rid)?;
        for former in former.into_iter().flatten() {
            // Another m-line may have it by now.
            let is_own = |route: &Route| route.publication == publication;
            if self.routes.get(&former).is_some_and(is_own) {
                self.routes.remove(&former);
                match &mut self.secured {
                    Some(secured) if displaces => secured.receiver.displace(former),
                    Some(secured) => secured.receiver.release(former),
                    None => {}
                }
            }
        }
        let route = Route {
            publication,
            encoding,
            role,
        };
        self.routes.insert(ssrc, route);
        if let Some(secured) = &mut self.secured {
            secured.receiver.keep(ssrc);
        }
        Some(route)
    }

    fn is_displaced(&self, ssrc: Ssrc) -> bool {
        let secured = self.secured.as_ref();
        secured.is_some_and(|secured| secured.receiver.is_displaced(ssrc))
    }

    /// The publication that a payload type names, where it names one alone.
    fn only_one_with(&self, payload_type: u8) -> Option<usize> {
        let mut candidates = self.publications.iter().enumerate();
        let mut next = || candidates.find(|(_, p)| p.format(payload_type).is_some());
        let (index, _) = next()?;
        next().is_none().then_some(index)
    }

    /// Makes the table of SSRCs anew, after a negotiation.
    pub(super) fn rebuild_routes(&mut self) {
        let former = std::mem::take(&mut self.routes);
        for (publication, state) in self.publications.iter().enumerate() {
            // What an offer has announced for another m-line is bound to that by its next packet.
            let is_elsewhere = |ssrc| {
                let mut others = self.publications.iter().enumerate();
                !state.announces(ssrc) && others.any(|(n, p)| n != publication && p.announces(ssrc))
            };
            for (index, encoding) in state.encodings.iter().enumerate() {
                for (ssrc, role) in [
                    (encoding.ssrc, Role::Media),
                    (encoding.rtx_ssrc, Role::Retransmission),
                    (encoding.flexfec_ssrc, Role::Repair),
                ] {
                    let route = Route {
                        publication,
                        encoding: EncodingIndex(index as u8),
                        role,
                    };
                    if let Some(ssrc) = ssrc.filter(|&ssrc| !is_elsewhere(ssrc)) {
                        self.routes.insert(ssrc, route);
                    }
                }
            }
        }
        if let Some(secured) = &mut self.secured {
            let gone = |ssrc: &&Ssrc| !self.routes.contains_key(ssrc);
            for &ssrc in former.keys().filter(gone) {
                secured.receiver.release(ssrc);
            }
        }
    }

    /// The publication and encoding that an SSRC is the media of.
    pub(super) fn media_route(&self, ssrc: Ssrc) -> Option<(usize, EncodingIndex)> {
        let route = self.routes.get(&ssrc).filter(|r| r.role == Role::Media)?;
        Some((route.publication, route.encoding))
    }
}
