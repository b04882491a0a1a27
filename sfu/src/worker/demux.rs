//! What a datagram is (RFC 7983), and whose.
//!
//! A connectivity check is matched by the ufrag it names, and only its password proves it;
//! everything else by a path that has passed a check. What matches nobody costs a look at its first bytes
//! and at a table.
//!
//! A path stays with the peer who has proved a moment ago to be there, and otherwise changes hands by
//! proof alone (`claims.rs`): a source address that is forged takes nobody's packets.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::collections::HashMap;
use std::time::Instant;

use super::Worker;
use super::levels::Levels;
use super::mailbox::MediaBatch;
use crate::api::{DropReason, WorkerStats};
use crate::media::Kind;
use crate::path::Path;
use crate::peer::ice::{StunDrop, local_ufrag_of};
use crate::peer::receive::Received;
use crate::peer::stun::is_binding;
use crate::publish::feed::Feed;
use crate::rtp::packet::PacketClass;
use crate::types::{PeerId, TrackId, WorkerIndex};
use crate::worker::Discarded;

/// Where the packets of publications go: into their feeds, and to the workers that want them too.
struct Intake<'a> {
    index: WorkerIndex,
    feeds: &'a mut HashMap<TrackId, Feed>,
    dirty: &'a mut Vec<TrackId>,
    batches: &'a mut HashMap<WorkerIndex, MediaBatch>,
    spare_batches: &'a mut Vec<MediaBatch>,
    levels: &'a mut Levels,
}

impl Intake<'_> {
    fn take(&mut self, now: Instant, received: Received<'_>, stats: &mut WorkerStats) {
        let Received {
            track,
            meta,
            packet,
        } = received;
        let Some(feed) = self.feeds.get_mut(&track) else {
            return;
        };
        let first_pending = feed.is_idle();
        let is_wanted = !feed.workers.is_empty();
        let copy = is_wanted.then(|| meta.clone());
        let level = meta.extensions.audio_level;
        let level = level.filter(|_| meta.codec.kind() == Kind::Audio);
        if !feed.insert(now, meta, packet) {
            return stats.drop(DropReason::RtpDuplicate);
        }
        if first_pending {
            self.dirty.push(track);
        }
        if let Some(level) = level
            && !self.levels.push(now, track, level.level)
        {
            stats.drop(DropReason::AudioLevelsFull);
        }
        if let Some(meta) = copy {
            for &worker in feed.workers.keys() {
                let batch = self.batches.entry(worker).or_insert_with(|| {
                    let spare = self.spare_batches.pop();
                    spare.unwrap_or_else(|| MediaBatch::new(self.index))
                });
                batch.push(track, meta.clone(), packet);
            }
        }
    }
}

impl Worker {
    /// Takes a datagram, or a packet from a connection. It is decrypted in place.
    pub fn handle_datagram(&mut self, now: Instant, from: Path, datagram: &mut [u8]) {
        self.lent.stats.datagrams_received += 1;
        self.lent.stats.bytes_received += datagram.len() as u64;
        let class = PacketClass::of(datagram);
        if class == PacketClass::Stun {
            return self.handle_stun(now, from, datagram);
        }
        let Some(id) = self.claims.owner(from) else {
            return self.lent.stats.drop(DropReason::UnvalidatedAddress);
        };
        match class {
            PacketClass::Rtp => self.handle_rtp(now, id, from, datagram),
            PacketClass::Rtcp => self.handle_rtcp(now, id, from, datagram),
            PacketClass::Dtls => self.handle_dtls(now, id, from, datagram),
            PacketClass::Stun | PacketClass::Unknown => {
                self.lent.stats.drop(DropReason::UnknownProtocol)
            }
        }
    }

    fn handle_stun(&mut self, now: Instant, from: Path, packet: &[u8]) {
        if is_binding(packet) == Some(false) {
            return self.handle_stun_answer(now, from, packet);
        }
        let owner = local_ufrag_of(packet).and_then(|ufrag| self.ufrags.get(ufrag));
        let Some(&id) = owner else {
            // No answer: to a name we did not give out we are not here.
            return self.lent.stats.drop(DropReason::StunUnknownUfrag);
        };
        let other = self.claims.owner(from).filter(|other| *other != id);
        if other.is_some_and(|other| self.holds(now, other, from)) {
            return self.lent.stats.drop(DropReason::StunPathOfAnother);
        }
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let mut cx = self.lent.at(now);
        let checked = match peer.handle_stun(from, packet, &mut cx) {
            Ok(checked) => checked,
            Err(drop) => return self.lent.stats.drop(drop.reason()),
        };
        if checked.is_repeated {
            return;
        }
        if other.is_some() {
            peer.ask(from, &mut cx);
        }
        if checked.is_doubted {
            self.lent.stats.drop(StunDrop::Repeated.reason());
        }
        if checked.restarted {
            self.update_ufrags(id);
        }
        if let Some(forgotten) = checked.forgotten {
            self.claims.forget(forgotten, id);
        }
        if other.is_some() || checked.is_doubted {
            self.claims.contend(from, id);
        } else if self.claims.give(from, id) {
            tracing::debug!(peer = id.0, %from, "the path to the client is validated");
        }
        self.follow(now, id);
    }

    fn handle_stun_answer(&mut self, now: Instant, from: Path, packet: &[u8]) {
        let mut drop = StunDrop::UnexpectedAnswer;
        for id in self.claims.claimants(from) {
            let Some(peer) = self.peers.get_mut(id) else {
                continue;
            };
            if let Err(other) = peer.handle_stun_answer(from, packet, &mut self.lent.at(now)) {
                drop = other;
                continue;
            }
            let other = self.claims.owner(from).filter(|other| *other != id);
            if other.is_none_or(|other| !self.holds(now, other, from)) && self.claims.give(from, id)
            {
                tracing::debug!(peer = id.0, %from, "the client has proved to be there");
            }
            return self.follow(now, id);
        }
        self.lent.stats.drop(drop.reason());
    }

    /// Whether a peer's client has proved a moment ago to be reached by this path.
    fn holds(&self, now: Instant, id: PeerId, path: Path) -> bool {
        self.peers.get(id).is_some_and(|peer| peer.holds(now, path))
    }

    /// Does what is to be done when media takes another path, or goes on.
    pub(super) fn follow(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let Some(moved) = peer.poll_move() else {
            return;
        };
        if let Some(path) = moved.path {
            let measured = peer.poll_measure(now);
            measured.into_iter().for_each(|path| self.remeasure(path));
            tracing::info!(peer = id.0, %path, protocol = ?path.protocol(), "media takes this path");
            self.begin_dtls(now, id);
        }
        if moved.resumes {
            self.begin_anew(now, id);
        }
    }

    fn begin_dtls(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let change = peer.begin_dtls(&mut self.lent.at(now));
        self.apply(now, id, change);
    }

    /// Discards the video that is on its way to a peer, and has others begin with key frames.
    fn begin_anew(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        for (track, encoding) in peer.discard_pictures() {
            self.request_key_frame(now, track, encoding);
        }
    }

    /// Whether somebody has proved to come by this path.
    #[must_use]
    pub fn knows(&self, path: Path) -> bool {
        self.claims.owner(path).is_some()
    }

    /// Notes that a connection has closed. Its peer is told nothing: it makes another, or loses its
    /// consent.
    pub fn handle_closed(&mut self, path: Path) {
        for id in self.claims.close(path) {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.handle_closed(path);
            }
        }
    }

    /// Notes that a client is too slow for what it was sent: its video goes on from new key frames.
    /// That packets have not arrived it reports itself.
    pub fn handle_discarded(&mut self, now: Instant, path: Path, discarded: Discarded) {
        let stats = &mut self.lent.stats;
        stats.drop_many(DropReason::TcpSlowPicture, discarded.pictures);
        stats.drop_many(DropReason::TcpSlowOther, discarded.others);
        let owner = self.claims.owner(path);
        if let Some(id) = owner.filter(|_| discarded.pictures > 0) {
            self.begin_anew(now, id);
        }
    }

    fn handle_dtls(&mut self, now: Instant, id: PeerId, from: Path, packet: &[u8]) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        peer.handle_arrival(from, packet.len());
        let mut cx = self.lent.at(now);
        let change = peer.handle_dtls(packet, &mut cx);
        self.apply(now, id, change);
        self.follow(now, id);
    }

    fn handle_rtp(&mut self, now: Instant, id: PeerId, from: Path, datagram: &mut [u8]) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let mut cx = self.lent.at(now);
        let mut intake = Intake {
            index: self.index,
            feeds: &mut self.feeds,
            dirty: &mut self.dirty,
            batches: &mut self.batches,
            spare_batches: &mut self.spare_batches,
            levels: &mut self.levels,
        };
        let taken = peer.handle_rtp(from, datagram, &mut cx, |received, stats| {
            intake.take(now, received, stats);
        });
        if let Err(reason) = taken {
            self.lent.stats.drop(reason);
        }
        if peer.has_moved() {
            self.follow(now, id);
        }
    }

    fn handle_rtcp(&mut self, now: Instant, id: PeerId, from: Path, datagram: &mut [u8]) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let mut cx = self.lent.at(now);
        let mut actions = std::mem::take(&mut self.actions);
        if let Err(reason) = peer.handle_rtcp(from, datagram, &mut cx, &mut actions) {
            self.lent.stats.drop(reason);
        }
        for action in actions.drain(..) {
            self.act(now, id, action);
        }
        self.actions = actions;
        self.follow(now, id);
        self.depart(now, id);
    }
}
