//! Which SSRC is which encoding of a published m-line.
//!
//! In: SSRCs as they first appear on authenticated packets of the m-line, with the `rid` of the packet
//! if it has one. Out: the encoding each belongs to, or that it is to be ignored. An SSRC may change at
//! any time (RFC 3550 section 8.2), and a client may send several streams on one m-line without
//! saying what they are: a new SSRC takes the place of the one before it, and that does not come back
//! while it sends. So an encoding is never a mixture of streams.

use std::time::{Duration, Instant};

use super::publication::Publication;
use crate::types::{Rid, Ssrc};

/// An encoding that sends nothing for so long has room for an SSRC that it took the place of: longer
/// than the second between two pictures of a screen on which nothing moves.
const SILENCE: Duration = Duration::from_secs(2);

/// Most SSRCs of one m-line that are remembered as displaced. Several times what simulcast without
/// names has, and few enough to be looked through for each of their packets.
const MAX_DISPLACED: usize = 16;

/// A displaced SSRC that has not been heard for so long makes room for another.
const DISPLACED_MEMORY: Duration = Duration::from_secs(10);

/// What a stream is for its encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The pictures or the sound.
    Media,
    /// RTX.
    Retransmission,
    /// FlexFEC.
    Repair,
}

/// An SSRC has become an encoding's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claimed {
    /// The encoding.
    pub encoding: u8,
    /// The SSRCs that no longer are.
    pub former: [Option<Ssrc>; 3],
}

/// What is known of the SSRCs of one m-line beside those that its encodings have.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// As the last offer has them, each with that of its retransmissions.
    announced: Vec<(Ssrc, Option<Ssrc>)>,
    /// Those that another has taken the place of, and when each was last heard.
    displaced: Vec<(Ssrc, Instant)>,
    /// Packets have said which encoding they are of.
    are_named: bool,
}

impl Sources {
    /// With the SSRCs that the first offer announces.
    pub(super) fn new(announced: &[(Ssrc, Option<Ssrc>)]) -> Self {
        Sources {
            announced: announced.to_vec(),
            ..Sources::default()
        }
    }

    /// Takes over the SSRCs of a later offer. One that it newly announces is to be heard, whatever it
    /// was before.
    pub(super) fn announce(&mut self, announced: &[(Ssrc, Option<Ssrc>)]) {
        let before = std::mem::replace(&mut self.announced, announced.to_vec());
        let is_in = |list: &[(Ssrc, Option<Ssrc>)], ssrc| {
            list.iter()
                .any(|(media, rtx)| *media == ssrc || *rtx == Some(ssrc))
        };
        self.displaced
            .retain(|(ssrc, _)| is_in(&before, *ssrc) || !is_in(announced, *ssrc));
    }

    /// The place of an announced media SSRC.
    fn place(&self, ssrc: Ssrc) -> Option<usize> {
        self.announced.iter().position(|(media, _)| *media == ssrc)
    }

    /// The media that an SSRC was announced to retransmit.
    fn repaired(&self, rtx: Ssrc) -> Option<Ssrc> {
        let mut pairs = self.announced.iter();
        pairs.find(|pair| pair.1 == Some(rtx)).map(|pair| pair.0)
    }

    fn has_rtx(&self, media: Ssrc) -> bool {
        let mut pairs = self.announced.iter();
        pairs.any(|(ssrc, rtx)| *ssrc == media && rtx.is_some())
    }

    /// Notes that a displaced SSRC was heard; false when it is none.
    fn hear(&mut self, now: Instant, ssrc: Ssrc) -> bool {
        let found = self.displaced.iter_mut().find(|(other, _)| *other == ssrc);
        found.map(|(_, heard)| *heard = now).is_some()
    }

    /// Whether an encoding's SSRCs can be displaced. The last may be a few more than the limit.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.displaced.len() >= MAX_DISPLACED {
            self.displaced
                .retain(|(_, heard)| now.saturating_duration_since(*heard) < DISPLACED_MEMORY);
        }
        self.displaced.len() < MAX_DISPLACED
    }
}

impl Publication {
    /// Whether the client has said that an SSRC is of this m-line.
    #[must_use]
    pub fn announces(&self, ssrc: Ssrc) -> bool {
        self.sources.place(ssrc).is_some() || self.sources.repaired(ssrc).is_some()
    }

    /// Whether a stream is still what it was taken for, going by the `rid` of a packet.
    #[must_use]
    pub fn is_still(&self, encoding: u8, role: Role, rid: Option<Rid>) -> bool {
        let own = self.encodings.get(usize::from(encoding));
        let own = own.and_then(|e| e.rid).filter(|_| role == Role::Media);
        own.zip(rid).is_none_or(|(own, rid)| own == rid)
    }

    /// Finds the encoding that an authenticated packet is of, whose SSRC is none's yet, and gives it
    /// to that. `None` when the packet is to be ignored.
    pub fn claim(
        &mut self,
        now: Instant,
        role: Role,
        ssrc: Ssrc,
        rid: Option<Rid>,
    ) -> Option<Claimed> {
        let place = match role {
            Role::Media => self.place_of_media(now, ssrc, rid)?,
            Role::Retransmission | Role::Repair => self.place_of_repair(ssrc, rid)?,
        };
        let encoding = u8::try_from(place).ok()?;
        if self.sources.hear(now, ssrc) && !self.may_return(now, place, role, ssrc) {
            return None;
        }
        let stream = self.encodings.get_mut(place)?;
        let (holder, is_heard) = match role {
            // What was announced and never came is not displaced.
            Role::Media => (stream.ssrc, stream.heard().is_some()),
            Role::Retransmission => (stream.rtx_ssrc, true),
            Role::Repair => (stream.flexfec_ssrc, true),
        };
        let displaces = is_heard && holder.is_some_and(|holder| holder != ssrc);
        if displaces && !self.sources.has_room(now) {
            return None;
        }
        let mut former = [holder.filter(|&holder| holder != ssrc), None, None];
        match role {
            Role::Media => {
                if displaces {
                    former[1] = stream.rtx_ssrc.take();
                    former[2] = stream.flexfec_ssrc.take();
                }
                stream.set_ssrc(ssrc);
                let others = self.encodings.iter_mut().enumerate();
                let others = others.filter(|(index, e)| *index != place && e.ssrc == Some(ssrc));
                others.for_each(|(_, other)| other.ssrc = None);
            }
            Role::Retransmission => stream.rtx_ssrc = Some(ssrc),
            Role::Repair => stream.flexfec_ssrc = Some(ssrc),
        }
        let displaced = &mut self.sources.displaced;
        displaced.retain(|(other, _)| *other != ssrc);
        let gone = former.into_iter().flatten().filter(|_| displaces);
        displaced.extend(gone.map(|gone| (gone, now)));
        Some(Claimed { encoding, former })
    }

    fn place_of_media(&mut self, now: Instant, ssrc: Ssrc, rid: Option<Rid>) -> Option<usize> {
        if let Some(rid) = rid
            && self.has_rids()
        {
            self.sources.are_named = true;
            return self.encodings.iter().position(|e| e.rid == Some(rid));
        }
        let count = self.encodings.len();
        if count == 1 {
            return Some(0);
        }
        if let Some(place) = self.sources.place(ssrc).filter(|&place| place < count) {
            return Some(place);
        }
        // Negotiated as several, sent without a word on which is which: one of them is shown.
        let mut others = self.encodings.iter().skip(1);
        let is_only = !self.sources.are_named && others.all(|other| other.is_silent(now, SILENCE));
        is_only.then_some(0)
    }

    fn place_of_repair(&self, ssrc: Ssrc, rid: Option<Rid>) -> Option<usize> {
        if let Some(rid) = rid
            && self.has_rids()
        {
            return self.encodings.iter().position(|e| e.rid == Some(rid));
        }
        if let Some(media) = self.sources.repaired(ssrc) {
            return self.encodings.iter().position(|e| e.ssrc == Some(media));
        }
        let [only] = &self.encodings[..] else {
            return None;
        };
        let is_paired = only.ssrc.is_some_and(|media| self.sources.has_rtx(media));
        (!is_paired).then_some(0)
    }

    /// Whether an SSRC that another has taken the place of may have it again.
    fn may_return(&self, now: Instant, place: usize, role: Role, ssrc: Ssrc) -> bool {
        match role {
            Role::Media => {
                let holder = self.encodings.get(place);
                holder.is_none_or(|holder| holder.is_silent(now, SILENCE))
            }
            // Those of the stream before would be taken for this one's.
            Role::Retransmission | Role::Repair => self.sources.repaired(ssrc).is_some(),
        }
    }

    fn has_rids(&self) -> bool {
        self.encodings.iter().any(|e| e.rid.is_some())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::encoding::Encoding;
    use super::*;
    use crate::media::{ExtensionMap, Kind, RepairFormats};
    use crate::peer::sdp::{ReceiveSection, Section};
    use crate::types::Mid;

    const FRAME: Duration = Duration::from_millis(33);

    /// A video m-line with these rids, and SSRCs announced with that of their RTX, 0 for none.
    fn publication(rids: &[&str], ssrcs: &[(u32, u32)], is_sim_group: bool) -> Publication {
        let receive = receive(rids, ssrcs, is_sim_group);
        Publication::new(&section(), &receive)
    }

    fn receive(rids: &[&str], ssrcs: &[(u32, u32)], is_sim_group: bool) -> ReceiveSection {
        ReceiveSection {
            rids: rids.iter().map(|rid| Rid::new(rid).unwrap()).collect(),
            ssrcs: ssrcs
                .iter()
                .map(|&(ssrc, rtx)| (Ssrc(ssrc), Some(Ssrc(rtx)).filter(|rtx| rtx.0 != 0)))
                .collect(),
            is_sim_group,
            cname: None,
            extensions: ExtensionMap::default(),
        }
    }

    fn section() -> Section {
        Section {
            index: 0,
            mid: Mid::new("0").unwrap(),
            kind: Kind::Video,
            receive: None,
            send: None,
            payloads: Vec::new(),
            repair: RepairFormats::default(),
            extmap_allow_mixed: false,
            rtcp_rsize: false,
        }
    }

    fn owner(publication: &Publication, ssrc: u32) -> Option<u8> {
        let is_own = |e: &Encoding| e.ssrc == Some(Ssrc(ssrc));
        let index = publication.encodings.iter().position(is_own)?;
        u8::try_from(index).ok()
    }

    /// A packet as the connection takes it: an SSRC that is bound goes straight on. Says which encoding
    /// it reached.
    fn send(publication: &mut Publication, now: Instant, ssrc: u32, rid: &str) -> Option<u8> {
        let rid = Rid::new(rid).ok();
        let bound = owner(publication, ssrc);
        let bound = bound.filter(|&encoding| publication.is_still(encoding, Role::Media, rid));
        let encoding = bound.or_else(|| {
            let claimed = publication.claim(now, Role::Media, Ssrc(ssrc), rid);
            claimed.map(|claimed| claimed.encoding)
        })?;
        let stream = &mut publication.encodings[usize::from(encoding)];
        stream.handle_packet(now, 1, 1, 90_000, 100);
        Some(encoding)
    }

    /// Many rounds of one packet of each SSRC; which of them reach an encoding in the end.
    fn rounds(publication: &mut Publication, ssrcs: &[u32]) -> Vec<(u32, u8)> {
        let start = Instant::now();
        let mut reached = Vec::new();
        for round in 0..300 {
            let now = start + round * FRAME;
            let round = ssrcs.iter();
            reached = round
                .filter_map(|&ssrc| Some((ssrc, send(publication, now, ssrc, "")?)))
                .collect();
        }
        reached
    }

    #[test]
    fn several_streams_are_encodings_or_ignored() {
        // rids, announced, a SIM group, sent without rids, what goes on
        type Case = (
            &'static [&'static str],
            &'static [(u32, u32)],
            bool,
            &'static [u32],
            &'static [(u32, u8)],
        );
        let cases: [Case; 9] = [
            (
                &[],
                &[(1, 0), (2, 0), (3, 0)],
                true,
                &[1, 2, 3],
                &[(1, 0), (2, 1), (3, 2)],
            ),
            (&[], &[(1, 0), (2, 0), (3, 0)], false, &[1, 2, 3], &[(3, 0)]),
            (&[], &[(1, 0)], false, &[1, 2, 3], &[(3, 0)]),
            (&[], &[], false, &[1, 2, 3], &[(3, 0)]),
            // One that was announced is not displaced before it comes.
            (&[], &[(3, 0)], false, &[1, 2, 3], &[(3, 0)]),
            (
                &["q", "h"],
                &[(1, 0), (2, 0)],
                false,
                &[1, 2],
                &[(1, 0), (2, 1)],
            ),
            (
                &["q", "h"],
                &[(1, 0), (2, 0)],
                false,
                &[1, 2, 3],
                &[(1, 0), (2, 1)],
            ),
            (&["q", "h", "f"], &[(1, 0)], false, &[1, 2, 3], &[(3, 0)]),
            (&["q", "h", "f"], &[], false, &[1, 2, 3], &[(3, 0)]),
        ];
        for (rids, announced, is_sim_group, sent, expected) in cases {
            let mut publication = publication(rids, announced, is_sim_group);
            let reached = rounds(&mut publication, sent);
            assert_eq!(reached, expected, "{rids:?} {announced:?} sent {sent:?}");
        }
    }

    #[test]
    fn packets_that_name_their_encoding_are_believed() {
        let now = Instant::now();
        let mut publication = publication(&["q", "h"], &[(1, 0), (2, 0)], false);
        // The other way round than announced.
        assert_eq!(send(&mut publication, now, 1, "h"), Some(1));
        assert_eq!(send(&mut publication, now, 2, "q"), Some(0));
        assert_eq!(send(&mut publication, now, 1, ""), Some(1));
        assert_eq!(
            send(&mut publication, now, 3, ""),
            None,
            "the others have names"
        );
        assert_eq!(send(&mut publication, now, 3, "x"), None);
        // A stream that is another one from now on leaves its place.
        assert_eq!(send(&mut publication, now, 1, "q"), Some(0));
        assert_eq!(owner(&publication, 1), Some(0));
        assert_eq!(publication.encodings[1].ssrc, None);
        // Where no names were agreed on, none is heeded.
        let mut publication = self::publication(&[], &[], false);
        assert_eq!(send(&mut publication, now, 1, "q"), Some(0));
    }

    #[test]
    fn a_new_ssrc_needs_a_key_frame_and_the_old_one_comes_back_when_it_is_quiet() {
        let start = Instant::now();
        let mut publication = publication(&[], &[(1, 11)], false);
        assert_eq!(send(&mut publication, start, 1, ""), Some(0));
        let claimed = publication
            .claim(start, Role::Media, Ssrc(2), None)
            .unwrap();
        assert_eq!(claimed.former.iter().flatten().count(), 2);
        let stream = &mut publication.encodings[0];
        assert!(
            stream
                .handle_packet(start, 7, 7, 90_000, 100)
                .needs_key_frame
        );
        assert!(
            !stream
                .handle_packet(start, 8, 8, 90_000, 100)
                .needs_key_frame
        );
        assert_eq!(send(&mut publication, start + SILENCE - FRAME, 1, ""), None);
        assert_eq!(send(&mut publication, start + SILENCE, 1, ""), Some(0));
        assert_eq!(send(&mut publication, start + SILENCE, 2, ""), None);
    }

    #[test]
    fn a_later_offer_s_ssrc_is_taken_also_when_it_was_displaced() {
        let now = Instant::now();
        let mut publication = publication(&[], &[(1, 0)], false);
        assert_eq!(send(&mut publication, now, 1, ""), Some(0));
        publication.renegotiate(&section(), &receive(&[], &[(2, 0)], false));
        assert!(publication.announces(Ssrc(2)) && !publication.announces(Ssrc(1)));
        // Until its packets come the old one goes on.
        assert_eq!(send(&mut publication, now, 1, ""), Some(0));
        assert_eq!(send(&mut publication, now, 2, ""), Some(0));
        assert_eq!(send(&mut publication, now, 1, ""), None);
        publication.renegotiate(&section(), &receive(&[], &[(1, 0)], false));
        assert_eq!(send(&mut publication, now, 1, ""), Some(0));
    }

    #[test]
    fn retransmissions_go_to_the_stream_they_repair() {
        let now = Instant::now();
        let repair = |publication: &mut Publication, ssrc, rid: &str| {
            let rid = Rid::new(rid).ok();
            let claimed = publication.claim(now, Role::Retransmission, Ssrc(ssrc), rid);
            claimed.map(|claimed| claimed.encoding)
        };
        let mut sim = publication(&[], &[(1, 11), (2, 12)], true);
        sim.encodings[1].rtx_ssrc = None;
        assert_eq!(repair(&mut sim, 12, ""), Some(1));
        assert_eq!(repair(&mut sim, 13, ""), None);

        // Of what is ignored nothing is repaired.
        let mut alone = publication(&[], &[(1, 11), (2, 12)], false);
        send(&mut alone, now, 1, "");
        assert_eq!(repair(&mut alone, 12, ""), None);
        assert_eq!(repair(&mut alone, 13, ""), None, "11 is the one");
        send(&mut alone, now, 2, "");
        assert_eq!(repair(&mut alone, 12, ""), Some(0));
        assert_eq!(repair(&mut alone, 11, ""), None);

        let mut unannounced = publication(&[], &[], false);
        send(&mut unannounced, now, 1, "");
        assert_eq!(repair(&mut unannounced, 11, ""), Some(0));
        send(&mut unannounced, now, 2, "");
        assert_eq!(
            repair(&mut unannounced, 11, ""),
            None,
            "a late one of the other"
        );
        assert_eq!(repair(&mut unannounced, 12, ""), Some(0));

        let mut named = publication(&["q", "h"], &[], false);
        assert_eq!(repair(&mut named, 12, "h"), Some(1));
        assert_eq!(repair(&mut named, 13, ""), None);
    }

    #[test]
    fn a_flood_of_ssrcs_takes_nothing_over_for_long() {
        let start = Instant::now();
        let mut publication = publication(&[], &[], false);
        let taken = (0..10_000).filter(|&ssrc| send(&mut publication, start, ssrc, "").is_some());
        assert_eq!(taken.count(), MAX_DISPLACED + 1);
        assert_eq!(publication.sources.displaced.len(), MAX_DISPLACED);
        // Whoever stops flooding is served again.
        let later = start + DISPLACED_MEMORY;
        assert_eq!(send(&mut publication, later, 20_000, ""), Some(0));
    }
}
