//! Which SSRC is which encoding of a published m-line.
//!
//! In: SSRCs as they first appear on authenticated packets of the m-line, with the `rid` of the packet
//! if it has one. Out: the encoding each belongs to, or that it is to be ignored. An SSRC may change at
//! any time (RFC 3550 section 8.2), and a client may send several streams on one m-line without
//! saying what they are: a new SSRC takes the place of the one before it, for good. So an encoding is
//! never a mixture of streams, and what somebody has held back of a former one takes no place from the
//! present one. Only a later offer that announces an SSRC anew has it heard again.

use std::time::{Duration, Instant};

use super::encoding::Encoding;
use super::publication::Publication;
use crate::types::{EncodingIndex, Rid, Ssrc};

/// Silence of the other encodings after which what was negotiated as several counts as one: longer than
/// the second between two frames of a screen on which nothing moves.
const SILENCE: Duration = Duration::from_secs(2);

/// Most changes of SSRC on one m-line within [`CHANGES_PERIOD`], each of which makes viewers wait for a
/// key frame. Several times what simulcast without names has at its beginning.
const MAX_CHANGES: usize = 16;
const CHANGES_PERIOD: Duration = Duration::from_secs(10);

/// What a stream is for its encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The video or the audio.
    Media,
    Retransmission,
    Repair,
}

/// An SSRC has become an encoding's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claimed {
    pub encoding: EncodingIndex,
    /// The SSRCs that no longer are.
    pub former: [Option<Ssrc>; 3],
    /// They were sent, and are not to be listened to again.
    pub displaces: bool,
}

/// What is known of the SSRCs of one m-line beside those that its encodings have.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// As the last offer has them, each with that of its retransmissions.
    announced: Vec<(Ssrc, Option<Ssrc>)>,
    /// When SSRCs have taken the place of others of late, at most [`MAX_CHANGES`].
    changes: Vec<Instant>,
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

    /// Takes over the SSRCs of a later offer, and returns those that it newly announces: they are to be
    /// heard, whatever they were before.
    pub(super) fn announce(&mut self, announced: &[(Ssrc, Option<Ssrc>)]) -> Vec<Ssrc> {
        let mut before = all_of(&std::mem::replace(&mut self.announced, announced.to_vec()));
        before.sort_unstable();
        let mut all = all_of(announced);
        all.retain(|ssrc| before.binary_search(ssrc).is_err());
        all
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

    /// Whether one more SSRC may take the place of another now.
    fn may_change(&mut self, now: Instant) -> bool {
        self.changes
            .retain(|at| now.saturating_duration_since(*at) < CHANGES_PERIOD);
        self.changes.len() < MAX_CHANGES
    }
}

/// The SSRCs of media and of retransmissions.
fn all_of(announced: &[(Ssrc, Option<Ssrc>)]) -> Vec<Ssrc> {
    let pairs = announced.iter();
    pairs
        .flat_map(|&(media, rtx)| [Some(media), rtx])
        .flatten()
        .collect()
}

impl Publication {
    /// Whether the client has said that an SSRC is of this m-line.
    #[must_use]
    pub(crate) fn announces(&self, ssrc: Ssrc) -> bool {
        self.sources.place(ssrc).is_some() || self.sources.repaired(ssrc).is_some()
    }

    /// Whether a stream is still what it was taken for, going by the `rid` of a packet.
    #[must_use]
    pub(crate) fn is_still(&self, encoding: EncodingIndex, role: Role, rid: Option<Rid>) -> bool {
        let own = self.encodings.get(usize::from(encoding));
        let own = own.and_then(|e| e.rid).filter(|_| role == Role::Media);
        own.zip(rid).is_none_or(|(own, rid)| own == rid)
    }

    /// The SSRCs that the client has said to be of this m-line.
    #[must_use]
    pub(crate) fn announced(&self) -> Vec<Ssrc> {
        all_of(&self.sources.announced)
    }

    /// Finds the encoding that an authenticated packet is of, whose SSRC is none's yet and was not
    /// displaced, and gives it to that. `None` when the packet is to be ignored.
    pub(crate) fn claim(
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
        let encoding = EncodingIndex(u8::try_from(place).ok()?);
        let is_own = |e: &Encoding| [e.ssrc, e.rtx_ssrc, e.flexfec_ssrc].contains(&Some(ssrc));
        let moves = self.encodings.iter().any(is_own);
        let stream = self.encodings.get_mut(place)?;
        let (holder, is_heard) = match role {
            // What was announced and never came is not displaced.
            Role::Media => (stream.ssrc, stream.heard().is_some()),
            Role::Retransmission => (stream.rtx_ssrc, true),
            Role::Repair => (stream.flexfec_ssrc, true),
        };
        let is_change = is_heard && holder.is_some_and(|holder| holder != ssrc);
        if is_change && !self.sources.may_change(now) {
            return None;
        }
        let mut former = [holder.filter(|&holder| holder != ssrc), None, None];
        match role {
            Role::Media => {
                if is_change {
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
        self.sources.changes.extend(is_change.then_some(now));
        Some(Claimed {
            encoding,
            former,
            // Two that change places have names, by which both are heard again.
            displaces: is_change && !moves,
        })
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

    fn has_rids(&self) -> bool {
        self.encodings.iter().any(|e| e.rid.is_some())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;
    use crate::media::{ExtensionMap, Kind, RepairFormats};
    use crate::negotiated::{ReceiveSection, Section};
    use crate::types::Mid;

    /// An m-line, and which SSRCs are not listened to any more.
    struct Line {
        publication: Publication,
        displaced: Vec<Ssrc>,
    }

    impl std::ops::Deref for Line {
        type Target = Publication;

        fn deref(&self) -> &Publication {
            &self.publication
        }
    }

    impl std::ops::DerefMut for Line {
        fn deref_mut(&mut self) -> &mut Publication {
            &mut self.publication
        }
    }

    const FRAME: Duration = Duration::from_millis(33);

    /// A video m-line with these rids, and SSRCs announced with that of their RTX, 0 for none.
    fn publication(rids: &[&str], ssrcs: &[(u32, u32)], is_sim_group: bool) -> Line {
        let receive = receive(rids, ssrcs, is_sim_group);
        Line {
            publication: Publication::new(&section(), &receive),
            displaced: Vec::new(),
        }
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
    fn send(publication: &mut Line, now: Instant, ssrc: u32, rid: &str) -> Option<u8> {
        let rid = Rid::new(rid).ok();
        let bound = owner(publication, ssrc);
        let bound = bound
            .filter(|&encoding| publication.is_still(EncodingIndex(encoding), Role::Media, rid));
        let encoding = match bound {
            Some(bound) => bound,
            None => claim(publication, now, Role::Media, ssrc, rid)?.encoding.0,
        };
        let stream = &mut publication.encodings[usize::from(encoding)];
        stream.handle_packet(now, 1, 1, 90_000, 100);
        Some(encoding)
    }

    fn claim(
        line: &mut Line,
        now: Instant,
        role: Role,
        ssrc: u32,
        rid: Option<Rid>,
    ) -> Option<Claimed> {
        if line.displaced.contains(&Ssrc(ssrc)) {
            return None;
        }
        let claimed = line.publication.claim(now, role, Ssrc(ssrc), rid)?;
        let former = claimed.former.iter().flatten();
        line.displaced.extend(former.filter(|_| claimed.displaces));
        Some(claimed)
    }

    fn renegotiate(line: &mut Line, receive: &ReceiveSection) {
        let announced = line.publication.renegotiate(&section(), receive);
        line.displaced.retain(|ssrc| !announced.contains(ssrc));
    }

    /// Many rounds of one packet of each SSRC; which of them reach an encoding in the end.
    fn rounds(publication: &mut Line, ssrcs: &[u32]) -> Vec<(u32, u8)> {
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
        // A stream that is another one from now on leaves its place, and so may two of them.
        assert_eq!(send(&mut publication, now, 1, "q"), Some(0));
        assert_eq!(owner(&publication, 1), Some(0));
        assert_eq!(publication.encodings[1].ssrc, None);
        assert_eq!(send(&mut publication, now, 2, "h"), Some(1));
        assert_eq!(send(&mut publication, now, 1, "q"), Some(0));
        // Where no names were agreed on, none is heeded.
        let mut publication = self::publication(&[], &[], false);
        assert_eq!(send(&mut publication, now, 1, "q"), Some(0));
    }

    #[test]
    fn a_new_ssrc_needs_a_key_frame_and_the_old_one_never_comes_back() {
        let start = Instant::now();
        let mut publication = publication(&[], &[(1, 11)], false);
        assert_eq!(send(&mut publication, start, 1, ""), Some(0));
        let claimed = claim(&mut publication, start, Role::Media, 2, None).unwrap();
        assert_eq!(claimed.former, [Some(Ssrc(1)), Some(Ssrc(11)), None]);
        assert!(claimed.displaces);
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
        for later in [FRAME, SILENCE, 100 * CHANGES_PERIOD] {
            assert_eq!(send(&mut publication, start + later, 1, ""), None);
        }
        let later = start + 100 * CHANGES_PERIOD;
        assert_eq!(send(&mut publication, later, 2, ""), Some(0));
    }

    #[test]
    fn a_later_offer_s_ssrc_is_taken_also_when_it_was_displaced() {
        let now = Instant::now();
        let mut publication = publication(&[], &[(1, 0)], false);
        assert_eq!(send(&mut publication, now, 1, ""), Some(0));
        renegotiate(&mut publication, &receive(&[], &[(2, 0)], false));
        assert!(publication.announces(Ssrc(2)) && !publication.announces(Ssrc(1)));
        // Until its packets come the old one goes on.
        assert_eq!(send(&mut publication, now, 1, ""), Some(0));
        assert_eq!(send(&mut publication, now, 2, ""), Some(0));
        assert_eq!(send(&mut publication, now, 1, ""), None);
        renegotiate(&mut publication, &receive(&[], &[(1, 0)], false));
        assert_eq!(send(&mut publication, now, 1, ""), Some(0));
    }

    #[test]
    fn retransmissions_go_to_the_stream_they_repair() {
        let now = Instant::now();
        let repair = |line: &mut Line, ssrc, rid: &str| {
            let rid = Rid::new(rid).ok();
            let claimed = claim(line, now, Role::Retransmission, ssrc, rid);
            claimed.map(|claimed| claimed.encoding)
        };
        let mut sim = publication(&[], &[(1, 11), (2, 12)], true);
        sim.encodings[1].rtx_ssrc = None;
        assert_eq!(repair(&mut sim, 12, ""), Some(EncodingIndex(1)));
        assert_eq!(repair(&mut sim, 13, ""), None);

        // Of what is ignored nothing is repaired.
        let mut alone = publication(&[], &[(1, 11), (2, 12)], false);
        send(&mut alone, now, 1, "");
        assert_eq!(repair(&mut alone, 12, ""), None);
        assert_eq!(repair(&mut alone, 13, ""), None, "11 is the one");
        send(&mut alone, now, 2, "");
        assert_eq!(repair(&mut alone, 12, ""), Some(EncodingIndex(0)));
        assert_eq!(repair(&mut alone, 11, ""), None);

        let mut unannounced = publication(&[], &[], false);
        send(&mut unannounced, now, 1, "");
        assert_eq!(repair(&mut unannounced, 11, ""), Some(EncodingIndex(0)));
        send(&mut unannounced, now, 2, "");
        assert_eq!(
            repair(&mut unannounced, 11, ""),
            None,
            "a late one of the other"
        );
        assert_eq!(repair(&mut unannounced, 12, ""), Some(EncodingIndex(0)));

        let mut named = publication(&["q", "h"], &[], false);
        assert_eq!(repair(&mut named, 12, "h"), Some(EncodingIndex(1)));
        assert_eq!(repair(&mut named, 13, ""), None);
    }

    #[test]
    fn a_flood_of_ssrcs_takes_nothing_over_for_long() {
        let start = Instant::now();
        let mut publication = publication(&[], &[], false);
        let taken = (0..10_000).filter(|&ssrc| send(&mut publication, start, ssrc, "").is_some());
        assert_eq!(taken.count(), MAX_CHANGES + 1);
        // Whoever stops flooding is served again.
        let later = start + CHANGES_PERIOD;
        assert_eq!(send(&mut publication, later, 20_000, ""), Some(0));
    }
}
