//! One client's connection: ICE, DTLS, SRTP, and the tracks and slots that its offers negotiated.
//!
//! Sans-I/O. In: datagrams that a worker has found to be this client's, offers, and time. Out:
//! datagrams into the worker's outbox, packets of publications for their feeds, and requests of its
//! slots. What is received is authenticated before anything is made of it.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rand::{Rng, RngCore, rngs::StdRng};

use crate::api::{
    DropReason, DtlsFailure, GoneReason, PeerStats, SdpError, StreamStats, WorkerStats,
};
use crate::bandwidth::carried::Carried;
use crate::bandwidth::feedback::FeedbackRecorder;
use crate::clock::Clock;
use crate::media::{ExtensionMap, Kind};
use crate::negotiated::SectionInfo;
use crate::path::{Candidate, Path};
use crate::publish::publication::Publication;
use crate::publish::sources::Role;
use crate::send::egress::Egress;
use crate::send::outbox::Outbox;
use crate::send::pacing::Pacing;
use crate::send::path_size::PathSize;
use crate::send::sealed::SealedRing;
use crate::srtp::{SrtpError, SrtpReceiver, SrtpSender};
use crate::subscribe::slot::Slot;
use crate::types::{EncodingIndex, Mid, PeerId, SlotIndex, Ssrc, TrackId, WorkerIndex};

pub(crate) mod allocate;
pub mod dtls;
pub(crate) mod flood;
mod hopeless;
pub mod ice;
pub(crate) mod receive;
pub(crate) mod report;
pub mod sdp;
mod silence;
pub mod stun;

use allocate::Allocator;
use dtls::{Certificate, DtlsEndpoint, DtlsError, DtlsOutput};
use flood::FloodGuard;
use hopeless::Hopeless;
use ice::{Checked, IceLite, StunDrop};
use sdp::{Local, Negotiated, Negotiation, Policy};
use silence::Silence;

/// To a client whose link loses this share of packets by itself, each check is answered so often: five
/// without an answer make libwebrtc leave the path for one over TCP
/// (`CONNECTION_WRITE_CONNECT_FAILURES`), as one of ten clients did within a minute of 30 % loss in both
/// directions.
const LOSSY: f64 = 0.1;
const LOSSY_ANSWERS: usize = 3;

/// What a peer borrows from its worker for the length of a call.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The time of the call.
    pub now: Instant,
    /// Wall-clock time.
    pub clock: &'a Clock,
    pub outbox: &'a mut Outbox,
    pub stats: &'a mut WorkerStats,
}

/// The keys, once DTLS is up.
struct Secured {
    receiver: SrtpReceiver,
    sender: SrtpSender,
    profile: &'static str,
}

/// Datagrams that a handshake which is begun by us may send beside three times what has come: a client that
/// waits for a ClientHello may say nothing but one check before that, and the first may be lost. With those
/// of a few hundred bytes that is little for a connection in all its life.
const MAX_UNEARNED: u8 = 6;

/// Which stream an SSRC is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Route {
    publication: usize,
    encoding: EncodingIndex,
    role: Role,
}

pub(crate) struct Peer {
    pub id: PeerId,
    worker: WorkerIndex,
    /// Its tracks, by m-line.
    pub publications: Vec<Publication>,
    /// Its slots. A place that is empty is that of an m-line that was stopped.
    pub slots: Vec<Option<Slot>>,
    ice: IceLite,
    dtls: DtlsEndpoint,
    /// Datagrams of the handshake that may yet leave beside what has come allows.
    unearned: u8,
    negotiation: Negotiation,
    secured: Option<Secured>,
    /// What each SSRC is; at most three for each encoding.
    routes: HashMap<Ssrc, Route>,
    /// The ids that the client's packets may carry. Within a BUNDLE group an id means the same on
    /// every m-line (RFC 8843 section 9.2), so one map serves all.
    extensions: ExtensionMap,
    feedback: FeedbackRecorder,
    flood: FloodGuard,
    silence: Silence,
    hopeless: Hopeless,
    moved: Option<Move>,
    /// Something would have been sent if the client had proved to be where it is.
    is_blocked: bool,
    pub(crate) pacing: Pacing,
    path_size: PathSize,
    sealed: SealedRing,
    allocator: Allocator,
    /// It has been told how much to send at most.
    is_limited: bool,
    /// The SSRC that our RTCP comes from.
    rtcp_ssrc: Ssrc,
    cname: String,
    next_report: Option<Instant>,
    round_trip: Option<Duration>,
    clock_offset: Option<u64>,
    rng: StdRng,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What a new connection is told of the server.
#[derive(Debug)]
pub(crate) struct LocalSide<'a> {
    pub certificate: &'a Certificate,
    pub candidates: &'a [Candidate],
    /// Which worker has the peer.
    pub worker: WorkerIndex,
    /// Who the peer is on its room's canonical name.
    pub rng: StdRng,
}

impl LocalSide<'_> {
    /// Lends a negotiation what an answer says of us, new names included.
    fn lend<T>(&mut self, negotiate: impl FnOnce(&mut Local<'_>) -> T) -> T {
        let fingerprint = self.certificate.fingerprint().to_string();
        let rng = std::cell::RefCell::new(&mut self.rng);
        negotiate(&mut Local {
            fingerprint: &fingerprint,
            candidates: self.candidates,
            new_ssrc: &mut || Ssrc(rng.borrow_mut().random()),
            new_credentials: &mut || {
                ice::Credentials::of_worker(self.worker, &mut **rng.borrow_mut())
            },
        })
    }
}

/// What has happened to a peer.
#[derive(Debug)]
pub(crate) enum Change {
    Connected,
    /// Nothing is heard of the client any more.
    Silent,
    /// It is heard again.
    Heard,
    /// The path to the client loses so much that another may be better.
    Hopeless,
    Gone(GoneReason),
}

/// Media takes another path, or goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Move {
    /// The path, if it is another.
    pub path: Option<Path>,
    /// Nothing has come to the client for a while.
    pub resumes: bool,
}

impl Peer {
    /// Makes a peer of its first offer, and answers that.
    ///
    /// # Errors
    /// When the offer cannot be served.
    pub(crate) fn new(
        now: Instant,
        id: PeerId,
        offer: &str,
        policy: Policy,
        mut local: LocalSide<'_>,
    ) -> Result<(Peer, Negotiated), SdpError> {
        let cname = format!("{:016x}", local.rng.next_u64());
        let mut negotiation = Negotiation::new(local.rng.next_u64(), cname.clone());
        let negotiated = local.lend(|local| negotiation.answer(offer, policy, local))?;
        let ice = IceLite::new(now, negotiated.local_ice.clone(), &negotiated.remote_ice);
        let dtls = DtlsEndpoint::new(
            now,
            negotiated.role,
            local.certificate,
            negotiated.fingerprints.clone(),
        );
        let mut peer = Peer {
            id,
            worker: local.worker,
            publications: Vec::new(),
            slots: Vec::new(),
            ice,
            dtls,
            unearned: match negotiated.role {
                dtls::Role::Client => MAX_UNEARNED,
                dtls::Role::Server => 0,
            },
            negotiation,
            secured: None,
            routes: HashMap::new(),
            extensions: ExtensionMap::default(),
            feedback: FeedbackRecorder::default(),
            flood: FloodGuard::default(),
            pacing: Pacing::default(),
            path_size: PathSize::default(),
            sealed: SealedRing::default(),
            silence: Silence::default(),
            hopeless: Hopeless::default(),
            moved: None,
            is_blocked: false,
            allocator: Allocator::default(),
            is_limited: false,
            rtcp_ssrc: Ssrc(local.rng.random()),
            cname,
            next_report: None,
            round_trip: None,
            clock_offset: None,
            rng: local.rng,
        };
        peer.apply_sections(now);
        Ok((peer, negotiated))
    }

    /// Answers a later offer.
    ///
    /// # Errors
    /// When the offer cannot be served; nothing has changed then.
    pub(crate) fn renegotiate(
        &mut self,
        now: Instant,
        offer: &str,
        policy: Policy,
        certificate: &Certificate,
        candidates: &[Candidate],
    ) -> Result<Negotiated, SdpError> {
        let mut local = LocalSide {
            certificate,
            candidates,
            worker: self.worker,
            rng: self.rng.clone(),
        };
        let negotiation = &mut self.negotiation;
        let negotiated = local.lend(|local| negotiation.answer(offer, policy, local))?;
        self.rng = local.rng;
        if negotiated.ice_restart {
            let local = negotiated.local_ice.clone();
            self.ice.restart(now, local, &negotiated.remote_ice);
        }
        self.apply_sections(now);
        Ok(negotiated)
    }

    /// Sets whether the client is to leave UDP.
    pub(crate) fn set_avoids_udp(&mut self, avoids_udp: bool) {
        self.ice.set_avoids_udp(avoids_udp);
    }

    /// Restarts ICE without an offer, and returns the fragment to answer with.
    ///
    /// # Errors
    /// When the fragment has no valid credentials.
    pub(crate) fn restart_ice(
        &mut self,
        now: Instant,
        fragment: &str,
        certificate: &Certificate,
        candidates: &[Candidate],
    ) -> Result<String, SdpError> {
        let mut side = LocalSide {
            certificate,
            candidates,
            worker: self.worker,
            rng: self.rng.clone(),
        };
        let negotiation = &mut self.negotiation;
        let restarted = side.lend(|local| negotiation.restart_ice(fragment, local))?;
        self.rng = side.rng;
        if restarted.ice_restart {
            self.ice
                .restart(now, restarted.local_ice, &restarted.remote_ice);
        }
        Ok(restarted.fragment)
    }

    pub(crate) fn sections(&self) -> impl Iterator<Item = SectionInfo> {
        self.negotiation.sections().iter().map(|s| SectionInfo {
            mid: s.mid,
            kind: s.kind,
            publishes: s.receive.is_some(),
            is_slot: s.send.is_some(),
        })
    }

    /// Whether media can flow.
    #[must_use]
    pub(crate) fn is_connected(&self) -> bool {
        self.secured.is_some()
    }

    /// The ufrags that packets for this peer may name.
    pub(crate) fn local_ufrags(&self) -> impl Iterator<Item = &str> {
        self.ice.local_ufrags()
    }

    /// Notes that a connection of the client's has closed.
    pub(crate) fn handle_closed(&mut self, path: Path) {
        self.ice.handle_closed(path);
    }

    /// Gives up the video that is on its way, and returns of which encodings key frames are needed.
    pub(crate) fn discard_pictures(&mut self) -> Vec<(TrackId, EncodingIndex)> {
        let slots = self.slots.iter_mut().flatten();
        let pictures = slots.filter(|slot| slot.kind == Kind::Video);
        let needed = pictures.filter_map(|slot| {
            slot.discard(&mut self.pacing);
            slot.track().zip(slot.needs_key_frame())
        });
        needed.collect()
    }

    /// The index of a slot.
    #[must_use]
    pub(crate) fn slot_named(&self, mid: Mid) -> Option<SlotIndex> {
        self.slots
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|s| s.mid == mid))
            .map(SlotIndex)
    }

    /// The publication of a track.
    pub(crate) fn publication_of(&mut self, track: TrackId) -> Option<&mut Publication> {
        self.publications
            .iter_mut()
            .find(|p| p.track == Some(track))
    }

    /// Brings publications and slots in line with what is negotiated.
    fn apply_sections(&mut self, now: Instant) {
        let sections = self.negotiation.sections();
        let find = |mid| sections.iter().find(|s| s.mid == mid);
        // An m-line that is inactive keeps its state: the same SSRCs go on when it is active again,
        // and their encryption depends on how often their numbers have wrapped.
        for place in &mut self.slots {
            let section = place.as_ref().map(|slot| find(slot.mid));
            match (place.as_mut(), section.flatten()) {
                (Some(slot), Some(section)) if section.send.is_none() => slot.clear(),
                (Some(_), Some(_)) => {}
                _ => *place = None,
            }
        }
        // Nothing of what an m-line was that is no more may be taken for what another is.
        if let Some(secured) = &mut self.secured {
            let gone = self.publications.iter().filter(|p| find(p.mid).is_none());
            let gone = gone.flat_map(Publication::ssrcs);
            gone.for_each(|ssrc| secured.receiver.displace(ssrc));
        }
        self.publications.retain(|p| find(p.mid).is_some());
        let mut announced = Vec::new();
        let mut extensions = ExtensionMap::default();
        for section in sections {
            if let Some(send) = &section.send {
                let known = self
                    .slots
                    .iter_mut()
                    .flatten()
                    .find(|s| s.mid == section.mid);
                match known {
                    Some(slot) => slot.renegotiate(section, send),
                    None => {
                        let slot = Slot::new(section, send, self.rng.random());
                        match self.slots.iter_mut().find(|s| s.is_none()) {
                            Some(place) => *place = Some(slot),
                            None => self.slots.push(Some(slot)),
                        }
                    }
                }
            }
            if let Some(receive) = &section.receive {
                for (extension, id) in receive.extensions.iter() {
                    extensions.set(extension, id);
                }
                match self.publications.iter_mut().find(|p| p.mid == section.mid) {
                    Some(known) => announced.extend(known.renegotiate(section, receive)),
                    None => {
                        let publication = Publication::new(section, receive);
                        announced.extend(publication.announced());
                        self.publications.push(publication);
                    }
                }
            }
        }
        self.extensions = extensions;
        if let Some(secured) = &mut self.secured {
            for ssrc in announced {
                secured.receiver.readmit(ssrc);
            }
        }
        let gives_feedback = self.slots.iter().flatten().any(Slot::gives_feedback);
        self.pacing.set_negotiated(now, gives_feedback);
        self.rebuild_routes();
    }

    /// Takes a connectivity check; the answer goes into the outbox.
    ///
    /// # Errors
    /// When it is not an authenticated check of this client.
    pub(crate) fn handle_stun(
        &mut self,
        from: Path,
        packet: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<Checked, StunDrop> {
        let mut reply = Vec::with_capacity(packet.len());
        let is_silent = self.silence.is_on(cx.now);
        let checked = self
            .ice
            .handle_stun(cx.now, from, packet, is_silent, &mut reply);
        if let Ok(checked) = &checked {
            if !checked.is_doubted && !checked.is_repeated {
                self.silence.handle_packet(cx.now);
            }
            self.note_selected(cx.now, checked.selected, checked.resumes);
            self.note_unblocked();
        }
        // Before the answer, upon which the client may nominate the path.
        self.send_checks(cx);
        let copies = match (reply.is_empty(), checked.is_ok() && self.is_lossy()) {
            (true, _) => 0,
            (false, true) => LOSSY_ANSWERS,
            (false, false) => 1,
        };
        for _ in 0..copies {
            self.send(from, &reply, cx);
        }
        checked
    }

    /// Takes the client's answer to a check of ours.
    ///
    /// # Errors
    /// When it is none, or not to what the client was asked by this path.
    pub(crate) fn handle_stun_answer(
        &mut self,
        from: Path,
        packet: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<(), StunDrop> {
        let selected = self.ice.handle_answer(cx.now, from, packet)?;
        self.silence.handle_packet(cx.now);
        self.note_selected(cx.now, selected, false);
        self.note_unblocked();
        Ok(())
    }

    /// Notes that SRTP has authenticated by this path.
    fn handle_authenticated(&mut self, now: Instant, from: Path) {
        let selected = self.ice.handle_media(now, from);
        self.note_selected(now, selected, false);
        self.note_unblocked();
    }

    /// Whether the client has proved a moment ago to be reached by this path.
    #[must_use]
    pub(crate) fn holds(&self, now: Instant, path: Path) -> bool {
        self.ice.holds(now, path)
    }

    /// Asks the client whether it is there, since others say to be, too.
    pub(crate) fn ask(&mut self, path: Path, cx: &mut Context<'_>) {
        self.ice.ask(cx.now, path);
        self.send_checks(cx);
    }

    /// Notes a datagram of so many bytes that has come by this path.
    pub(crate) fn handle_arrival(&mut self, from: Path, len: usize) {
        self.ice.earn(from, len);
    }

    /// Whether anything has changed of where media goes.
    #[must_use]
    pub(crate) fn has_moved(&self) -> bool {
        self.moved.is_some()
    }

    /// What has changed of where media goes.
    pub(crate) fn poll_move(&mut self) -> Option<Move> {
        self.moved.take()
    }

    fn send_checks(&mut self, cx: &mut Context<'_>) {
        while let Some((path, check)) = self.ice.poll_check(cx.now, &mut self.rng) {
            push(cx, path, &check);
        }
    }

    /// Sends a datagram of the handshake.
    fn send_flight(&mut self, path: Path, datagram: &[u8], cx: &mut Context<'_>) {
        if !self.ice.spend(path, datagram.len()) {
            let Some(left) = self.unearned.checked_sub(1) else {
                return cx.stats.drop(DropReason::SendUnprovedPath);
            };
            self.unearned = left;
        }
        push(cx, path, datagram);
    }

    /// Sends a datagram by a path if that may be sent so much.
    fn send(&mut self, path: Path, datagram: &[u8], cx: &mut Context<'_>) {
        match self.ice.spend(path, datagram.len()) {
            true => push(cx, path, datagram),
            false => cx.stats.drop(DropReason::SendUnprovedPath),
        }
    }

    fn note_selected(&mut self, now: Instant, selected: Option<Path>, resumes: bool) {
        let Some(path) = selected else {
            return;
        };
        self.handle_selected(now, path);
        let moved = self.moved.get_or_insert_default();
        moved.path = Some(path);
        moved.resumes |= resumes;
    }

    /// Has video go on that could not be sent while the client had not proved to be where it is.
    fn note_unblocked(&mut self) {
        if self.is_blocked && self.ice.is_selected_proved() {
            self.is_blocked = false;
            self.moved.get_or_insert_default().resumes = true;
        }
    }

    /// Whether the client asks for something after an outage that its feedback has not told of yet.
    #[must_use]
    pub(crate) fn is_back_from_outage(&self) -> bool {
        self.pacing.estimator().is_overdue()
    }

    /// What the path to the client carries, if that is known.
    #[must_use]
    pub(crate) fn carried(&self) -> Option<Carried> {
        self.pacing.carried()
    }

    /// Says what the path to the client's former connection carried.
    pub(crate) fn begin_with(&mut self, carried: Carried) {
        self.pacing.begin_with(carried);
    }

    fn handle_selected(&mut self, now: Instant, path: Path) {
        self.hopeless.reset();
        self.path_size.select(path);
        if self.pacing.set_way(now, path) {
            for slot in self.slots.iter_mut().flatten() {
                slot.starved = None;
                slot.begin_anew();
            }
            self.feedback.begin_anew();
            let encodings = self.publications.iter_mut().flat_map(|p| &mut p.encodings);
            encodings.for_each(|encoding| encoding.nack.forget_loss());
            self.allocator.hurry(now);
        }
    }

    /// The path whose size is to be measured, if one is due.
    pub(crate) fn poll_measure(&mut self, now: Instant) -> Option<Path> {
        self.path_size.poll_measure(now)
    }

    /// Takes what the kernel says of the MTU of a path, in bytes.
    pub(crate) fn set_mtu(&mut self, path: Path, mtu: usize) {
        self.path_size.set_mtu(path, mtu);
    }

    /// Whether the link to the client loses many packets by itself.
    fn is_lossy(&self) -> bool {
        self.link_loss() >= LOSSY
    }

    /// What the link loses whatever is sent, in the worse direction: 0 to 1.
    fn link_loss(&self) -> f64 {
        let loss = self.feedback.loss();
        loss.max(self.pacing.estimator().link_loss())
    }

    /// Takes a DTLS datagram from a validated address.
    pub(crate) fn handle_dtls(&mut self, packet: &[u8], cx: &mut Context<'_>) -> Option<Change> {
        let result = self.dtls.handle_packet(cx.now, packet);
        let change = self.drive_dtls(result, cx);
        if matches!(change, Some(Change::Connected)) {
            self.ice.handle_handshake(cx.now);
            self.note_unblocked();
            self.send_checks(cx);
        }
        change
    }

    /// Begins the handshake if that is on us, now that ICE has a path to the client.
    pub(crate) fn begin_dtls(&mut self, cx: &mut Context<'_>) -> Option<Change> {
        let result = self.dtls.begin(cx.now);
        self.drive_dtls(result, cx)
    }

    fn drive_dtls(
        &mut self,
        result: Result<(), DtlsError>,
        cx: &mut Context<'_>,
    ) -> Option<Change> {
        let mut change = None;
        while let Some(output) = self.dtls.poll() {
            match output {
                DtlsOutput::Packet(packet) => {
                    if let Some(to) = self.ice.selected() {
                        self.ice.handle_flight();
                        self.send_flight(to, &packet, cx);
                    }
                }
                DtlsOutput::Connected(keys) => {
                    change = Some(match secure(&keys) {
                        Ok(secured) => {
                            *cx.stats.srtp_profiles.entry(secured.profile).or_default() += 1;
                            self.secured = Some(secured);
                            self.next_report = Some(cx.now + report::FIRST_INTERVAL);
                            Change::Connected
                        }
                        Err(error) => {
                            tracing::warn!(peer = self.id.0, %error, "SRTP keys are unusable");
                            Change::Gone(GoneReason::DtlsFailed(DtlsFailure::Protocol))
                        }
                    });
                }
                DtlsOutput::ApplicationData(_) => cx.stats.drop(DropReason::DtlsApplicationData),
                DtlsOutput::Closed => change = Some(Change::Gone(GoneReason::Closed)),
            }
        }
        let Err(error) = result else {
            return change;
        };
        // Without a path the reason is not DTLS.
        let reason = match self.ice.selected() {
            None => GoneReason::NeverConnected,
            Some(path) => {
                tracing::info!(peer = self.id.0, %path, %error, "DTLS failed");
                GoneReason::DtlsFailed(error.failure())
            }
        };
        Some(Change::Gone(reason))
    }

    /// The path out to the client, once there is one and the client has proved to be there.
    pub(crate) fn egress<'a>(
        &'a mut self,
        cx: &'a mut Context<'_>,
    ) -> Option<(Egress<'a>, &'a mut Vec<Option<Slot>>)> {
        let destination = self.ice.selected()?;
        let secured = self.secured.as_mut()?;
        if !self.ice.is_selected_proved() {
            self.is_blocked = true;
            return None;
        }
        let egress = Egress {
            now: cx.now,
            peer: self.id,
            clock: cx.clock,
            destination,
            path_size: &mut self.path_size,
            sealed: &mut self.sealed,
            srtp: &mut secured.sender,
            pacing: &mut self.pacing,
            filling: None,
            outbox: cx.outbox,
            stats: cx.stats,
        };
        Some((egress, &mut self.slots))
    }

    /// When [`Peer::handle_timeout`] wants to be called.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        // Nothing can leave before, however long it has waited.
        let can_send = self.ice.is_selected_proved();
        let media = self.secured.as_ref().and_then(|_| {
            let leaving = [self.feedback.next_deadline(), self.pacing.next_deadline()];
            self.publications
                .iter()
                .filter_map(Publication::next_deadline)
                .chain(self.next_report)
                .chain(leaving.into_iter().flatten().filter(|_| can_send))
                .chain(self.allocator.next_deadline())
                .chain(self.silence.next_deadline())
                .chain(self.hopeless.next_deadline())
                .min()
        });
        [self.ice.next_deadline(), self.dtls.next_deadline(), media]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due, reports aside.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) -> Option<Change> {
        if self.ice.handle_timeout(cx.now).is_some() {
            let reason = if self.secured.is_some() {
                GoneReason::ConsentLost
            } else {
                GoneReason::NeverConnected
            };
            return Some(Change::Gone(reason));
        }
        self.send_checks(cx);
        if self.dtls.next_deadline().is_some_and(|due| cx.now >= due) {
            let result = self.dtls.handle_timeout(cx.now);
            if let Some(change) = self.drive_dtls(result, cx) {
                return Some(change);
            }
        }
        if self.secured.is_some() {
            let is_silent = self.silence.is_on(cx.now);
            self.pacing.handle_timeout(cx.now, is_silent);
            self.send_requests(cx);
            self.send_feedback(cx);
            if self.silence.poll_end(cx.now) {
                return Some(Change::Heard);
            }
            if self.silence.poll(cx.now) {
                return Some(Change::Silent);
            }
            let may_leave = self.ice.selected().is_some_and(|path| !path.is_of_stream());
            let loss = if may_leave { self.link_loss() } else { 0.0 };
            if self.hopeless.poll(cx.now, loss) {
                return Some(Change::Hopeless);
            }
        }
        None
    }

    /// Says goodbye on the wire.
    pub(crate) fn close(&mut self, cx: &mut Context<'_>) {
        let result = self.dtls.close();
        self.drive_dtls(result, cx);
    }

    /// What is known of the connection.
    #[must_use]
    pub(crate) fn stats(&self, now: Instant) -> PeerStats {
        let received = self.publications.iter().flat_map(|p| {
            p.encodings.iter().enumerate().map(|(index, e)| {
                let (packets, bytes, lost) = e.totals();
                StreamStats {
                    mid: p.mid,
                    track: p.track,
                    encoding: EncodingIndex(index as u8),
                    packets,
                    bytes,
                    lost,
                }
            })
        });
        let sent = self.slots.iter().flatten().map(|s| {
            let (packets, bytes) = s.totals();
            StreamStats {
                mid: s.mid,
                track: s.track(),
                encoding: s.wanted_encoding().unwrap_or_default(),
                packets,
                bytes,
                lost: s.lost,
            }
        });
        PeerStats {
            connected: self.secured.is_some(),
            remote_address: self.ice.selected().map(Path::address),
            protocol: self.ice.selected().map(Path::protocol),
            srtp_profile: self.secured.as_ref().map(|s| s.profile),
            received: received.collect(),
            sent: sent.collect(),
            quality: self.quality(now),
        }
    }
}

fn push(cx: &mut Context<'_>, path: Path, datagram: &[u8]) {
    cx.outbox.push(path, None, datagram.len(), |buffer| {
        buffer.copy_from_slice(datagram);
        Some(datagram.len())
    });
}

fn secure(keys: &dtls::SrtpKeys) -> Result<Secured, SrtpError> {
    let (remote, local) = (keys.remote(), keys.local());
    Ok(Secured {
        receiver: SrtpReceiver::new(keys.profile, remote.key, remote.salt)?,
        sender: SrtpSender::new(keys.profile, local.key, local.salt)?,
        profile: keys.profile.name(),
    })
}
