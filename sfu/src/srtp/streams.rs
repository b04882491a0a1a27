//! What is remembered of the SSRCs that have sent, for as long as the keys live.
//!
//! In: SSRCs and indices of packets that were authentic. Out: the window of each, by which a replay is
//! told. With keys as old as the connection, an SSRC that is forgotten begins anew, and whoever has
//! listened can play it all again; so what has to make room is remembered by name, and refused from
//! then on.
//!
//! Places go round without harm to a client that changes its SSRCs: what is made use of is kept,
//! streams that others have taken over from go first, and of the rest those that were silent for
//! longest. A client that has used up [`MAX_RETIRED`] is heard on the streams that it has and on no new
//! one until it connects anew.

use std::collections::HashSet;

use super::SrtpError;
use super::replay::ReplayWindow;
use crate::types::Ssrc;

/// Most streams that have given up their place in the life of a connection: more than somebody needs
/// who turns a camera in three sizes, with retransmissions, off and on every minute for a day (8,640).
/// They take 80 kB.
pub(super) const MAX_RETIRED: usize = 10_000;

/// At most `MAX` streams at a time, each with a window of `WORDS` words.
pub(super) struct Streams<const WORDS: usize, const MAX: usize> {
    known: Vec<Stream<WORDS>>,
    retired: HashSet<Ssrc>,
    /// Packets of all streams.
    accepted: u64,
}

struct Stream<const WORDS: usize> {
    ssrc: Ssrc,
    window: ReplayWindow<WORDS>,
    /// What [`Streams::accepted`] was at its last packet.
    heard: u64,
    /// It does not make room.
    is_kept: bool,
    is_displaced: bool,
}

/// Where a stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place(Option<usize>);

impl<const WORDS: usize, const MAX: usize> Default for Streams<WORDS, MAX> {
    fn default() -> Self {
        Streams {
            known: Vec::new(),
            retired: HashSet::new(),
            accepted: 0,
        }
    }
}

impl<const WORDS: usize, const MAX: usize> Streams<WORDS, MAX> {
    /// Where a stream is, or is to be. Refuses one that there is no place for, before any cryptography
    /// is spent on it.
    pub(super) fn find(&self, ssrc: Ssrc) -> Result<Place, SrtpError> {
        let at = self.known.iter().position(|stream| stream.ssrc == ssrc);
        if at.is_some() {
            return Ok(Place(at));
        }
        if self.retired.contains(&ssrc) {
            return Err(SrtpError::Retired);
        }
        let can_retire =
            || self.retired.len() < MAX_RETIRED && self.known.iter().any(|s| !s.is_kept);
        match self.known.len() < MAX || can_retire() {
            true => Ok(Place(None)),
            false => Err(SrtpError::TooManySsrcs),
        }
    }

    /// The window of a stream, if any of it has come.
    pub(super) fn window(&self, Place(at): Place) -> Option<&ReplayWindow<WORDS>> {
        Some(&self.known.get(at?)?.window)
    }

    /// Notes an authentic packet of the stream that was found at this place.
    pub(super) fn accept(&mut self, Place(at): Place, ssrc: Ssrc, index: u64) {
        self.accepted += 1;
        let at = at.unwrap_or_else(|| {
            self.make_room();
            self.known.push(Stream {
                ssrc,
                window: ReplayWindow::default(),
                heard: 0,
                is_kept: false,
                is_displaced: false,
            });
            self.known.len() - 1
        });
        if let Some(stream) = self.known.get_mut(at) {
            stream.heard = self.accepted;
            stream.window.accept(index);
        }
    }

    fn make_room(&mut self) {
        if self.known.len() < MAX {
            return;
        }
        let all = self.known.iter().enumerate();
        let dispensable = all.filter(|(_, stream)| !stream.is_kept);
        let oldest = dispensable.min_by_key(|(_, stream)| (!stream.is_displaced, stream.heard));
        if let Some((oldest, _)) = oldest {
            self.retired.insert(self.known.swap_remove(oldest).ssrc);
        }
    }

    /// Has a stream stay.
    pub(super) fn keep(&mut self, ssrc: Ssrc) {
        self.change(ssrc, |stream| stream.is_kept = true);
    }

    /// Takes back a [`Streams::keep`].
    pub(super) fn release(&mut self, ssrc: Ssrc) {
        self.change(ssrc, |stream| stream.is_kept = false);
    }

    /// Sets whether another has taken over from a stream.
    pub(super) fn set_displaced(&mut self, ssrc: Ssrc, is_displaced: bool) {
        self.change(ssrc, |stream| {
            stream.is_displaced = is_displaced;
            stream.is_kept = false;
        });
    }

    /// Whether another has taken over from a stream.
    pub(super) fn is_displaced(&self, ssrc: Ssrc) -> bool {
        let mut known = self.known.iter();
        known.any(|stream| stream.ssrc == ssrc && stream.is_displaced)
    }

    /// How many have given up their place.
    #[cfg(test)]
    pub(super) fn retired(&self) -> usize {
        self.retired.len()
    }

    fn change(&mut self, ssrc: Ssrc, change: impl FnOnce(&mut Stream<WORDS>)) {
        let stream = self.known.iter_mut().find(|stream| stream.ssrc == ssrc);
        if let Some(stream) = stream {
            change(stream);
        }
    }
}
