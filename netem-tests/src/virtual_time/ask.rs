//! What people ask of the server, and what it answers.

use confab_sfu::api::{
    Content, Offer, PeerStats, Publish, Refusal, Reply, Request, SlotChoice, SlotView, Stats,
};
use confab_sfu::types::{Mid, TrackId};

use super::call::{Call, Person};

impl Call {
    /// Somebody offers what they want now.
    ///
    /// # Errors
    /// When the server refuses.
    ///
    /// # Panics
    /// When the answer does not fit the offer.
    pub fn offer(&mut self, person: Person, publish: Publish) -> Result<(), Refusal> {
        let participant = &mut self.people[person.0];
        let offer = Offer {
            sdp: participant.client.offer(),
            publish,
            may_publish: true,
            may_subscribe: true,
            is_whole: false,
            avoid_udp: false,
            person: None,
            former: participant.former,
        };
        let (room, peer) = (participant.room, participant.client.peer);
        let answer = match self.request(Request::Offer { room, peer, offer }) {
            Reply::Answered(answer) => answer,
            Reply::Refused(refusal) => return Err(refusal),
            other => panic!("{other:?} to an offer"),
        };
        let participant = &mut self.people[person.0];
        participant.tracks = answer.tracks;
        participant.slots = answer.slots;
        let taken = participant.client.handle_answer(self.now, &answer.sdp);
        let name = &participant.client.name;
        assert!(taken.is_ok(), "{name}: {taken:?}\n{}", answer.sdp);
        Ok(())
    }

    /// Somebody publishes an m-line that is negotiated.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn publish(&mut self, person: Person, mid: Mid) -> Result<TrackId, Refusal> {
        let publish = Request::Publish {
            peer: self.peer(person),
            mid,
            content: Content::default(),
        };
        match self.request(publish) {
            Reply::Published(info) => {
                let participant = &mut self.people[person.0];
                participant.tracks.push(info);
                // Nothing has been said of this track yet.
                participant.send_wanted(info.track, &[true; 3]);
                Ok(info.track)
            }
            Reply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?} to publish"),
        }
    }

    /// Somebody takes a track back.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn unpublish(&mut self, person: Person, track: TrackId) -> Result<(), Refusal> {
        self.people[person.0].tracks.retain(|t| t.track != track);
        let peer = self.peer(person);
        self.done(Request::Unpublish { peer, track })
    }

    /// Somebody mutes a track or unmutes it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn mute(&mut self, person: Person, track: TrackId, muted: bool) -> Result<(), Refusal> {
        let peer = self.peer(person);
        self.done(Request::Mute { peer, track, muted })
    }

    /// Somebody chooses what a slot shows.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn subscribe(
        &mut self,
        person: Person,
        mid: Mid,
        choice: SlotChoice,
    ) -> Result<Option<TrackId>, Refusal> {
        let subscribe = Request::Subscribe {
            peer: self.peer(person),
            mid,
            to: choice,
        };
        match self.request(subscribe) {
            Reply::Shows(shows) => {
                let slots = &mut self.people[person.0].slots;
                for slot in slots.iter_mut().filter(|slot| slot.mid == mid) {
                    slot.track = shows;
                }
                Ok(shows)
            }
            Reply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?} to subscribe"),
        }
    }

    /// Somebody shows a slot in a place of this size, or not.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn view(&mut self, person: Person, mid: Mid, view: SlotView) -> Result<(), Refusal> {
        let peer = self.peer(person);
        let views = vec![(mid, view)];
        self.done(Request::SetView { peer, views })
    }

    /// Somebody leaves and says so.
    pub fn leave(&mut self, person: Person) {
        let done = self.done(Request::Close {
            peer: self.peer(person),
        });
        assert_eq!(done, Ok(()));
        self.people[person.0].is_there = false;
    }

    /// The server's counters.
    pub fn stats(&mut self) -> Stats {
        match self.request(Request::Stats) {
            Reply::Stats(stats) => stats,
            other => panic!("{other:?} to stats"),
        }
    }

    /// How often the server dropped something for a reason.
    pub fn dropped(&mut self, reason: &str) -> u64 {
        let total = self.stats().total();
        total.dropped.get(reason).copied().unwrap_or_default()
    }

    /// The server's counters of one person's connection.
    pub fn peer_stats(&mut self, person: Person) -> Option<PeerStats> {
        let peer = self.peer(person);
        match self.request(Request::PeerStats { peer }) {
            Reply::PeerStats(stats) => Some(*stats),
            Reply::Refused(_) => None,
            other => panic!("{other:?} to stats of a peer"),
        }
    }

    fn done(&mut self, request: Request) -> Result<(), Refusal> {
        match self.request(request) {
            Reply::Done => Ok(()),
            Reply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?} to a command"),
        }
    }

    /// Asks the server for something that the verbs above do not have.
    pub fn request(&mut self, request: Request) -> Reply {
        let reply = self.plane.request(self.now, request);
        self.settle();
        reply
    }
}
