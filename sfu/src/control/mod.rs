//! The controller of the media plane: which worker a peer lives on, and which slots show which tracks.
//!
//! Sans-I/O. In: requests of the control plane, reports of workers, and time. Out: commands to
//! workers, replies to requests, and events. It sees no packet; everything here happens when people
//! join, publish, choose, speak, and leave.

use std::collections::{BTreeMap, HashMap, VecDeque};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::api::{
    Answer, CommandError, Content, Event, GoneReason, Offer, OfferError, PeerStats, Publish, Reply,
    Request, SdpError, SlotInfo, Stats, TrackInfo,
};
use crate::bandwidth::carried::Carried;
use crate::config::Config;
use crate::media::Kind;
use crate::negotiated::SectionInfo;
use crate::types::{Mid, PeerId, PersonId, RoomId, TrackId, WorkerIndex};

pub mod messages;
mod room;
mod slots;
mod speaker;

use messages::{Answered, Command, Output, Report, RequestId};
use room::Rooms;

/// Most peers that have ended of whose paths is known what they carried: a client makes its new connection
/// at once.
const MAX_CARRIED: usize = 256;

#[derive(Debug)]
struct Peer {
    worker: WorkerIndex,
    room: RoomId,
    sections: Vec<SectionInfo>,
    /// Published tracks by m-line.
    tracks: BTreeMap<Mid, TrackId>,
    /// Of its tracks the one that it speaks on.
    voice: Option<TrackId>,
    /// In whose place it comes.
    former: Option<PeerId>,
}

impl Peer {
    fn owns(&self, track: TrackId) -> bool {
        self.tracks.values().any(|&own| own == track)
    }
}

#[derive(Debug)]
enum Pending {
    Offer {
        room: RoomId,
        peer: PeerId,
        worker: WorkerIndex,
        publish: Publish,
        person: Option<PersonId>,
        former: Option<PeerId>,
        create: bool,
    },
    RestartIce {
        worker: WorkerIndex,
    },
    Stats {
        waiting: Vec<WorkerIndex>,
        stats: Stats,
    },
    PeerStats {
        worker: WorkerIndex,
    },
}

impl Pending {
    fn waits_for(&self, worker: WorkerIndex) -> bool {
        match self {
            Pending::Offer { worker: w, .. }
            | Pending::RestartIce { worker: w }
            | Pending::PeerStats { worker: w } => *w == worker,
            Pending::Stats { waiting, .. } => waiting.contains(&worker),
        }
    }
}

/// Where a track comes from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    peer: PeerId,
    worker: WorkerIndex,
    content: Content,
}

/// The controller's state.
#[derive(Debug)]
pub struct Controller {
    max_peers: usize,
    /// Peers on each worker, those whose first offer is pending included.
    load: Vec<usize>,
    rooms: Rooms,
    peers: HashMap<PeerId, Peer>,
    tracks: HashMap<TrackId, Origin>,
    /// What the paths to peers carried that have ended, the latest last.
    carried: VecDeque<(PeerId, Carried)>,
    /// Ordered, so that two runs with the same input fail the same requests in the same order.
    pending: BTreeMap<RequestId, Pending>,
    output: VecDeque<Output>,
    rng: StdRng,
}

impl Controller {
    /// For the workers of a configuration. The seed decides the names of tracks.
    #[must_use]
    pub fn new(config: &Config, seed: u64) -> Self {
        Controller {
            max_peers: config.max_peers,
            load: vec![0; config.workers.max(1)],
            rooms: Rooms::default(),
            peers: HashMap::new(),
            tracks: HashMap::new(),
            carried: VecDeque::new(),
            pending: BTreeMap::new(),
            output: VecDeque::new(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// Takes a request; its reply comes out of [`Controller::poll_output`], perhaps later.
    pub fn handle_request(&mut self, id: RequestId, request: Request) {
        // None for what a worker is to be asked first.
        let reply = match request {
            Request::Offer { room, peer, offer } => self.offer(id, room, peer, offer),
            Request::Publish { peer, mid, content } => {
                let published = self.publish_section(peer, mid, content);
                Some(Reply::of(published, Reply::Published))
            }
            Request::Unpublish { peer, track } => Some(self.unpublish_track(peer, track).into()),
            Request::Mute { peer, track, muted } => Some(self.mute(peer, track, muted).into()),
            Request::Subscribe { peer, mid, to } => {
                Some(Reply::of(self.subscribe(peer, mid, to), Reply::Shows))
            }
            Request::SetView { peer, views } => Some(self.set_views(peer, &views).into()),
            Request::RestartIce { peer, fragment } => self.restart_ice(id, peer, fragment),
            Request::Close { peer } => {
                if let Some(worker) = self.worker_of(peer) {
                    self.command(worker, Command::Close { peer });
                    self.forget(peer);
                }
                Some(Reply::Done)
            }
            Request::Stats => self.stats(id),
            Request::PeerStats { peer } => self.peer_stats(id, peer),
        };
        if let Some(reply) = reply {
            self.reply(id, reply);
        }
    }

    /// Takes what a worker reports.
    pub fn handle_report(&mut self, worker: WorkerIndex, report: Report) {
        match report {
            Report::Answered { request, result } => self.answered(request, result),
            Report::IceRestarted { request, result } => {
                if self.pending.remove(&request).is_some() {
                    self.reply(request, Reply::of(result, Reply::IceRestarted));
                }
            }
            Report::Stats {
                request,
                stats,
                peer,
            } => self.worker_stats(worker, request, stats, peer),
            Report::Connected { peer } => {
                if self.peers.contains_key(&peer) {
                    self.event(Event::PeerConnected { peer });
                }
            }
            Report::Silent { peer } => {
                if self.peers.contains_key(&peer) {
                    self.event(Event::PeerSilent { peer });
                }
            }
            Report::Heard { peer } => {
                if self.peers.contains_key(&peer) {
                    self.event(Event::PeerHeard { peer });
                }
            }
            Report::Hopeless { peer } => {
                if self.peers.contains_key(&peer) {
                    self.event(Event::PeerHopeless { peer });
                }
            }
            Report::Carried { peer, carried } => self.handle_carried(peer, carried),
            Report::Gone { peer, reason } => {
                if self.peers.contains_key(&peer) {
                    self.forget(peer);
                    self.event(Event::PeerGone { peer, reason });
                }
            }
            Report::LayersWanted {
                peer,
                track,
                encodings,
                bitrate,
            } => {
                if self.peers.get(&peer).is_some_and(|p| p.owns(track)) {
                    self.event(Event::LayersWanted {
                        peer,
                        track,
                        encodings,
                        bitrate,
                    });
                }
            }
            Report::SlotPaused { peer, mid, reason } => {
                if self.peers.contains_key(&peer) {
                    self.event(Event::SlotPaused { peer, mid, reason });
                }
            }
            Report::Levels(levels) => {
                for level in levels {
                    self.handle_level(level);
                }
            }
            Report::Failed => self.worker_failed(worker),
        }
    }

    fn offer(
        &mut self,
        request: RequestId,
        room: RoomId,
        peer: PeerId,
        offer: Offer,
    ) -> Option<Reply> {
        let is_pending = |p: &Pending| matches!(p, Pending::Offer { peer: p, .. } if *p == peer);
        if self.pending.values().any(is_pending) {
            return Some(Reply::Refused(OfferError::OfferPending.into()));
        }
        let create = !self.peers.contains_key(&peer);
        let worker = match self.peers.get(&peer) {
            Some(peer) => peer.worker,
            None => match self.least_loaded() {
                Some(worker) => worker,
                None => return Some(Reply::Refused(OfferError::Overloaded.into())),
            },
        };
        if create {
            self.load[worker.0] += 1;
        }
        self.pending.insert(
            request,
            Pending::Offer {
                room,
                peer,
                worker,
                publish: offer.publish,
                person: offer.person,
                former: offer.former,
                create,
            },
        );
        self.command(
            worker,
            Command::Offer {
                request,
                peer,
                create,
                sdp: offer.sdp,
                may_publish: offer.may_publish,
                may_subscribe: offer.may_subscribe,
                is_whole: offer.is_whole,
                avoid_udp: offer.avoid_udp,
            },
        );
        None
    }

    fn restart_ice(&mut self, request: RequestId, peer: PeerId, fragment: String) -> Option<Reply> {
        let Some(worker) = self.worker_of(peer) else {
            return Some(Reply::Refused(OfferError::UnknownPeer.into()));
        };
        self.pending.insert(request, Pending::RestartIce { worker });
        let command = Command::RestartIce {
            request,
            peer,
            fragment,
        };
        self.command(worker, command);
        None
    }

    fn stats(&mut self, request: RequestId) -> Option<Reply> {
        let waiting: Vec<WorkerIndex> = (0..self.load.len()).map(WorkerIndex).collect();
        for &worker in &waiting {
            let peer = None;
            self.command(worker, Command::Stats { request, peer });
        }
        let stats = Stats {
            rooms: self.rooms.len(),
            peers: self.peers.len(),
            tracks: self.tracks.len(),
            workers: Vec::new(),
        };
        self.pending
            .insert(request, Pending::Stats { waiting, stats });
        None
    }

    fn peer_stats(&mut self, request: RequestId, peer: PeerId) -> Option<Reply> {
        let Some(worker) = self.worker_of(peer) else {
            return Some(peer_stats(None));
        };
        self.pending.insert(request, Pending::PeerStats { worker });
        let peer = Some(peer);
        self.command(worker, Command::Stats { request, peer });
        None
    }

    fn least_loaded(&self) -> Option<WorkerIndex> {
        self.load
            .iter()
            .enumerate()
            .min_by_key(|&(_, load)| load)
            .filter(|&(_, &load)| load < self.max_peers)
            .map(|(worker, _)| WorkerIndex(worker))
    }

    fn answered(&mut self, request: RequestId, result: Result<Answered, OfferError>) {
        let Some(Pending::Offer {
            room,
            peer,
            worker,
            publish,
            person,
            former,
            create,
        }) = self.pending.remove(&request)
        else {
            return;
        };
        let Answered {
            sdp,
            sections,
            refused,
        } = match result {
            Ok(answered) => answered,
            Err(error) => {
                if create {
                    self.load[worker.0] -= 1;
                }
                return self.reply(request, Reply::Refused(error.into()));
            }
        };
        let is_former = |of: &&(PeerId, Carried)| create && Some(of.0) == former;
        let carried = self.carried.iter().find(is_former).copied();
        if let Some((_, carried)) = carried {
            self.command(worker, Command::Begin { peer, carried });
        }
        let state = self.peers.entry(peer).or_insert(Peer {
            worker,
            room,
            sections: Vec::new(),
            tracks: BTreeMap::new(),
            voice: None,
            former,
        });
        state.sections.clone_from(&sections);
        self.rooms.set_person(room, peer, person);
        let stopped: Vec<(Mid, TrackId)> = state
            .tracks
            .iter()
            .filter(|(mid, _)| !sections.iter().any(|s| s.publishes && s.mid == **mid))
            .map(|(&mid, &track)| (mid, track))
            .collect();
        for (_, track) in stopped {
            if self.unpublish_track(peer, track).is_ok() {
                self.event(Event::TrackUnpublished { peer, track });
            }
        }
        for section in sections.iter().filter(|s| s.publishes) {
            if let Some(content) = publish.content(section.mid) {
                // It cannot fail: the section is there and sends.
                let _ = self.publish_section(peer, section.mid, content);
            }
        }
        let slots: Vec<(Mid, Kind)> = sections
            .iter()
            .filter(|s| s.is_slot)
            .map(|s| (s.mid, s.kind))
            .collect();
        let changes = self.rooms.set_slots(room, peer, &slots);
        self.apply(room, changes);
        let answer = self.answer(room, peer, sdp, &sections, refused);
        self.reply(request, Reply::Answered(answer));
    }

    fn answer(
        &self,
        room: RoomId,
        peer: PeerId,
        sdp: String,
        sections: &[SectionInfo],
        refused: Vec<(Mid, SdpError)>,
    ) -> Answer {
        let tracks = self.peers.get(&peer).map(|p| &p.tracks);
        Answer {
            sdp,
            refused,
            tracks: sections
                .iter()
                .filter_map(|s| {
                    Some(TrackInfo {
                        track: *tracks?.get(&s.mid)?,
                        mid: s.mid,
                        kind: s.kind,
                    })
                })
                .collect(),
            slots: sections
                .iter()
                .filter(|s| s.is_slot)
                .map(|s| SlotInfo {
                    mid: s.mid,
                    kind: s.kind,
                    track: self.rooms.shows(room, peer, s.mid),
                })
                .collect(),
        }
    }

    fn publish_section(
        &mut self,
        peer: PeerId,
        mid: Mid,
        content: Content,
    ) -> Result<TrackInfo, CommandError> {
        let state = self.peers.get_mut(&peer).ok_or(CommandError::UnknownPeer)?;
        let section = *state
            .sections
            .iter()
            .find(|s| s.mid == mid && s.publishes)
            .ok_or(CommandError::UnknownMid(mid))?;
        let (room, worker) = (state.room, state.worker);
        let info = |track| TrackInfo {
            track,
            mid,
            kind: section.kind,
        };
        if let Some(&track) = state.tracks.get(&mid) {
            return Ok(info(track));
        }
        let track = TrackId(self.rng.random());
        state.tracks.insert(mid, track);
        let origin = Origin {
            peer,
            worker,
            content,
        };
        self.tracks.insert(track, origin);
        self.command(worker, Command::Publish { peer, mid, track });
        let kind = section.kind;
        let changes = self.rooms.publish(room, peer, track, kind, content);
        self.apply(room, changes);
        Ok(info(track))
    }

    fn unpublish_track(&mut self, peer: PeerId, track: TrackId) -> Result<(), CommandError> {
        let state = self.own_track(peer, track)?;
        state.tracks.retain(|_, own| *own != track);
        let (room, worker) = (state.room, state.worker);
        let was_voice = state.voice.take_if(|voice| *voice == track).is_some();
        let changes = self.rooms.unpublish(room, track);
        self.apply(room, changes);
        if was_voice {
            let changes = self.rooms.handle_silenced(room, peer);
            self.apply(room, changes);
        }
        self.tracks.remove(&track);
        self.command(worker, Command::Unpublish { peer, track });
        Ok(())
    }

    fn mute(&mut self, peer: PeerId, track: TrackId, muted: bool) -> Result<(), CommandError> {
        let worker = self.own_track(peer, track)?.worker;
        self.command(worker, Command::Mute { peer, track, muted });
        Ok(())
    }

    fn own_track(&mut self, peer: PeerId, track: TrackId) -> Result<&mut Peer, CommandError> {
        let state = self.peers.get_mut(&peer).ok_or(CommandError::UnknownPeer)?;
        if state.owns(track) {
            Ok(state)
        } else {
            Err(CommandError::UnknownTrack(track))
        }
    }

    /// Remembers what the path to a peer carried that has ended, and tells whoever is in its place already.
    fn handle_carried(&mut self, former: PeerId, carried: Carried) {
        if self.carried.len() == MAX_CARRIED {
            self.carried.pop_front();
        }
        self.carried.push_back((former, carried));
        let heir = self.peers.iter().find(|(_, p)| p.former == Some(former));
        if let Some((&peer, state)) = heir {
            self.command(state.worker, Command::Begin { peer, carried });
        }
    }

    /// Drops what is known of a peer that its worker no longer has.
    fn forget(&mut self, peer: PeerId) {
        let Some(state) = self.peers.remove(&peer) else {
            return;
        };
        self.load[state.worker.0] -= 1;
        let changes = self.rooms.leave(state.room, peer);
        self.apply(state.room, changes);
        for track in state.tracks.values() {
            self.tracks.remove(track);
        }
    }

    fn worker_failed(&mut self, worker: WorkerIndex) {
        let failed: Vec<RequestId> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.waits_for(worker))
            .map(|(&id, _)| id)
            .collect();
        for id in failed {
            match self.pending.remove(&id) {
                Some(Pending::Offer { create, .. }) => {
                    if create {
                        self.load[worker.0] -= 1;
                    }
                    self.reply(id, Reply::Refused(OfferError::WorkerFailed.into()));
                }
                Some(Pending::RestartIce { .. }) => {
                    self.reply(id, Reply::Refused(OfferError::WorkerFailed.into()));
                }
                Some(Pending::PeerStats { .. }) => self.reply(id, peer_stats(None)),
                Some(Pending::Stats { waiting, stats }) => {
                    self.stats_without(id, waiting, stats, worker);
                }
                None => {}
            }
        }
        let mut gone: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.worker == worker)
            .map(|(&id, _)| id)
            .collect();
        gone.sort_unstable();
        for peer in gone {
            self.forget(peer);
            self.event(Event::PeerGone {
                peer,
                reason: GoneReason::WorkerFailed,
            });
        }
    }

    fn worker_stats(
        &mut self,
        worker: WorkerIndex,
        request: RequestId,
        worker_stats: crate::api::WorkerStats,
        peer: Option<Box<PeerStats>>,
    ) {
        match self.pending.remove(&request) {
            Some(Pending::Stats { waiting, mut stats }) => {
                stats.workers.push((worker.0, worker_stats));
                self.stats_without(request, waiting, stats, worker);
            }
            Some(Pending::PeerStats { .. }) => self.reply(request, peer_stats(peer)),
            other => {
                if let Some(other) = other {
                    self.pending.insert(request, other);
                }
            }
        }
    }

    fn stats_without(
        &mut self,
        id: RequestId,
        mut waiting: Vec<WorkerIndex>,
        mut stats: Stats,
        worker: WorkerIndex,
    ) {
        waiting.retain(|&w| w != worker);
        if waiting.is_empty() {
            stats.workers.sort_by_key(|&(worker, _)| worker);
            self.reply(id, Reply::Stats(stats));
        } else {
            self.pending.insert(id, Pending::Stats { waiting, stats });
        }
    }

    fn worker_of(&self, peer: PeerId) -> Option<WorkerIndex> {
        self.peers.get(&peer).map(|p| p.worker)
    }

    fn command(&mut self, worker: WorkerIndex, command: Command) {
        self.output.push_back(Output::Command(worker, command));
    }

    fn reply(&mut self, id: RequestId, reply: Reply) {
        self.output.push_back(Output::Reply(id, reply));
    }

    fn event(&mut self, event: Event) {
        self.output.push_back(Output::Event(event));
    }
}

/// The reply with a peer's counters; none of one that is not there.
fn peer_stats(stats: Option<Box<PeerStats>>) -> Reply {
    Reply::of(stats.ok_or(CommandError::UnknownPeer), Reply::PeerStats)
}

#[cfg(test)]
mod tests;
