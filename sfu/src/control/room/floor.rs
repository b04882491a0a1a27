//! Who has the floor in a room, and who was heard of late.
//!
//! In: how loud each packet of somebody's voice was, and time. Out: the dominant speaker, and
//! everybody in the order in which they were last heard.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::control::speaker::Speakers;
use crate::types::PeerId;

/// It is decided who speaks as of this long ago: workers tell levels every 100 ms, and what they
/// have not told yet is not to be taken for silence.
pub(super) const DELAY: Duration = Duration::from_millis(150);

/// Most people who are looked at as being loud at the same time: as many as a client has slots.
const MAX_AUDIBLE: usize = 64;

/// The floor of one room.
#[derive(Debug, Default)]
pub(super) struct Floor {
    speakers: Speakers<PeerId>,
    told: Option<PeerId>,
    /// Everybody who was heard, the latest first; of those heard at once the loudest.
    heard: Vec<PeerId>,
    /// How many of these are heard now.
    audible: usize,
}

impl Floor {
    /// Notes the level of a packet of somebody's voice (RFC 6464: 0 is the loudest, 127 silence).
    pub(super) fn handle_level(&mut self, at: Instant, who: PeerId, level: u8) {
        self.speakers.handle_level(at, who, level);
    }

    /// Somebody has left, or has no voice any more.
    pub(super) fn remove(&mut self, who: PeerId) {
        self.speakers.remove(who);
        if let Some(rank) = self.rank(who) {
            self.heard.remove(rank);
            self.audible -= usize::from(rank < self.audible);
        }
    }

    /// When to decide next.
    #[must_use]
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        Some(self.speakers.next_deadline()? + DELAY)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let then = now.checked_sub(DELAY).unwrap_or(now);
        self.speakers.poll(then);
        let mut heard = self.speakers.loudest(then, MAX_AUDIBLE);
        self.audible = heard.len();
        self.heard.retain(|who| !heard.contains(who));
        heard.append(&mut self.heard);
        self.heard = heard;
    }

    /// Who has the floor, also in silence.
    #[must_use]
    pub(super) fn dominant(&self) -> Option<PeerId> {
        self.speakers.dominant()
    }

    /// Who has the floor now, if that has not been told.
    pub(super) fn poll_dominant(&mut self) -> Option<Option<PeerId>> {
        let dominant = self.dominant();
        (std::mem::replace(&mut self.told, dominant) != dominant).then_some(dominant)
    }

    /// Who is heard at the moment, the loudest first.
    #[must_use]
    pub(super) fn audible(&self) -> &[PeerId] {
        &self.heard[..self.audible]
    }

    /// Orders people: who has the floor, the latest heard, the others.
    #[must_use]
    pub(super) fn importance(&self, who: PeerId) -> (Reverse<bool>, usize) {
        let rank = self.rank(who).unwrap_or(usize::MAX);
        (Reverse(self.dominant() == Some(who)), rank)
    }

    /// How many were heard later, or louder at the same time; none if never heard.
    fn rank(&self, who: PeerId) -> Option<usize> {
        self.heard.iter().position(|heard| *heard == who)
    }

    /// Puts who has the floor into one of these places, as [`Speakers::follow`] does.
    pub(super) fn follow(&self, places: &mut [Option<PeerId>]) -> Option<usize> {
        self.speakers.follow(places)
    }
}
