//! What a bot knows of its call: what the server told, what is sent, what the slots show.
//!
//! In: replies and events, in the order the server said them. Out: reports and samples.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::protocol::{Event, Kind, OwnTrack, Participant, Reply, SlotState};
use crate::receive::SlotReceiver;
use crate::receive::tally::merge;
use crate::report::Report;
use crate::sample::{Line, Sample};
use crate::send::stream::Sender;
use crate::signaling::Said;
use crate::sync::lock;

/// Events kept for the report; later ones are handled but not listed.
const MAX_EVENTS: usize = 10_000;

/// What the signaling task may touch.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    pub(crate) reconnect: Notify,
}

pub(crate) struct State {
    started: Instant,
    participant: String,
    joined: Option<Duration>,
    connected: Option<Duration>,
    connected_now: bool,
    participants: Vec<Participant>,
    tracks: Vec<OwnTrack>,
    pub(crate) sent: Vec<Arc<Sender>>,
    pub(crate) slots: Vec<Slot>,
    events: Vec<Event>,
    errors: Vec<String>,
    /// What was sent and received on connections that are gone.
    past: Sample,
    /// The connection's count of retransmitted bytes when it was last asked.
    retransmitted: u64,
    /// Why the server has ended the call.
    closing: Option<String>,
    /// What has happened and was not told yet.
    lines: VecDeque<Line>,
    /// Those of whom a frame was shown.
    seen: BTreeSet<String>,
}

#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) mid: String,
    pub(crate) receiver: Arc<Mutex<SlotReceiver>>,
}

/// Payload bytes of retransmissions, as the connection counts them.
#[derive(Default)]
pub(crate) struct Retransmitted {
    pub(crate) sent: u64,
    pub(crate) received: BTreeMap<String, u64>,
}

/// Milliseconds of the machine's clock since 1970.
pub(crate) fn clock() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64() * 1e3)
}

impl Shared {
    pub(crate) fn new(started: Instant) -> Shared {
        Shared {
            state: Mutex::new(State::new(started)),
            reconnect: Notify::new(),
        }
    }

    /// The next thing that has happened.
    pub(crate) fn poll_line(&self) -> Option<Line> {
        lock(&self.state).lines.pop_front()
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        for sender in &lock(&self.state).sent {
            sender.set_paused(paused);
        }
    }

    /// Takes note of what the server says, in the order it says it.
    pub(crate) fn handle(&self, said: &Said) {
        let mut state = lock(&self.state);
        match said {
            Said::Reply(reply) => state.handle_reply(reply),
            Said::Event(event) => {
                state.handle_event(event);
                if matches!(event, Event::Reconnect { .. }) {
                    self.reconnect.notify_one();
                }
            }
        }
    }

    pub(crate) fn forget_media(&self) {
        let mut state = lock(&self.state);
        state.past = state.sample(Instant::now(), None, None);
        state.retransmitted = 0;
        state.connected_now = false;
        state.tracks.clear();
        state.sent.clear();
        state.slots.clear();
    }

    pub(crate) fn set_muted(&self, mid: &str, muted: bool) {
        for sender in &lock(&self.state).sent {
            if sender.mid() == mid {
                sender.set_muted(muted);
            }
        }
    }

    pub(crate) fn note_error(&self, error: String) {
        tracing::warn!(%error);
        lock(&self.state).errors.push(error);
    }
}

impl State {
    fn new(started: Instant) -> State {
        State {
            started,
            participant: String::new(),
            joined: None,
            connected: None,
            connected_now: false,
            participants: Vec::new(),
            tracks: Vec::new(),
            sent: Vec::new(),
            slots: Vec::new(),
            events: Vec::new(),
            errors: Vec::new(),
            past: Sample::default(),
            retransmitted: 0,
            closing: None,
            lines: VecDeque::new(),
            seen: BTreeSet::new(),
        }
    }

    fn handle_reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Joined {
                participant,
                participants,
                tracks,
                slots,
                ..
            } => {
                self.joined = Some(self.started.elapsed());
                self.lines.push_back(Line::Joined { at: clock() });
                self.participant.clone_from(participant);
                self.participants.clone_from(participants);
                self.handle_negotiated(tracks, slots);
            }
            Reply::Answer { tracks, slots, .. } => self.handle_negotiated(tracks, slots),
            Reply::Published { track, mid, kind } => self.handle_negotiated(
                &[OwnTrack {
                    id: track.clone(),
                    mid: mid.clone(),
                    kind: *kind,
                }],
                &[],
            ),
            Reply::Unpublished { track } => self.tracks.retain(|own| own.id != *track),
            Reply::Subscribed { mid, track } => self.handle_slot(mid, track),
            Reply::Welcome { .. }
            | Reply::Muted {}
            | Reply::Left {}
            | Reply::Pong {}
            | Reply::Error { .. } => {}
        }
    }

    fn handle_negotiated(&mut self, tracks: &[OwnTrack], slots: &[SlotState]) {
        for track in tracks {
            self.tracks.retain(|own| own.mid != track.mid);
            self.tracks.push(track.clone());
        }
        for slot in slots {
            self.handle_slot(&slot.mid, &slot.track);
        }
    }

    fn handle_event(&mut self, event: &Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event.clone());
        }
        let publisher = |participants: &mut Vec<Participant>, id: &str| {
            participants.iter().position(|other| other.id == id)
        };
        match event {
            Event::ParticipantJoined { participant } => {
                self.participants.retain(|other| other.id != participant.id);
                self.participants.push(participant.clone());
            }
            Event::ParticipantLeft { participant, .. } => {
                self.participants.retain(|other| other.id != *participant);
            }
            Event::TrackPublished { participant, track } => {
                if let Some(index) = publisher(&mut self.participants, participant) {
                    let tracks = &mut self.participants[index].tracks;
                    tracks.retain(|other| other.id != track.id);
                    tracks.push(track.clone());
                }
            }
            Event::TrackUnpublished { participant, track } => {
                if let Some(index) = publisher(&mut self.participants, participant) {
                    let tracks = &mut self.participants[index].tracks;
                    tracks.retain(|other| other.id != *track);
                }
            }
            Event::TrackMuted { track, muted, .. } => {
                let tracks = self
                    .participants
                    .iter_mut()
                    .flat_map(|other| &mut other.tracks);
                for other in tracks.filter(|other| other.id == *track) {
                    other.muted = *muted;
                }
                for slot in &self.slots {
                    let mut receiver = lock(&slot.receiver);
                    if receiver.track() == Some(track) {
                        receiver.handle_discontinuity();
                    }
                }
            }
            Event::Slot { mid, track } => self.handle_slot(mid, track),
            Event::Closing { message, .. } => self.closing = Some(message.clone()),
            Event::Media { .. } | Event::Reconnect { .. } => {}
        }
    }

    fn handle_slot(&mut self, mid: &str, track: &Option<String>) {
        let shows = |other: &&Participant| {
            let mut tracks = other.tracks.iter();
            tracks.any(|other| Some(&other.id) == track.as_ref())
        };
        let from = self.participants.iter().find(shows);
        let from = from.map(|participant| participant.name.clone());
        if let Some(slot) = self.slots.iter().find(|slot| slot.mid == mid) {
            lock(&slot.receiver).handle_track(Instant::now(), track.clone(), from);
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected_now
    }

    /// Why the server has ended the call.
    pub(crate) fn closing(&self) -> Option<&str> {
        self.closing.as_deref()
    }

    /// ICE and DTLS have succeeded, or the connection is gone.
    pub(crate) fn handle_connected(&mut self, connected: bool) {
        if connected && !self.connected_now {
            self.connected.get_or_insert(self.started.elapsed());
            self.lines.push_back(Line::Connected { at: clock() });
        }
        self.connected_now = connected;
    }

    /// A picture of a participant was shown.
    pub(crate) fn handle_picture(&mut self, from: String) {
        if self.seen.insert(from.clone()) {
            self.lines.push_back(Line::FirstFrame { at: clock(), from });
        }
    }

    /// What was sent and received, on this connection and those before. `connection` is what only
    /// the connection knows, if it is there to be asked.
    pub(crate) fn sample(
        &mut self,
        now: Instant,
        rtt: Option<Duration>,
        connection: Option<&Retransmitted>,
    ) -> Sample {
        let mut sample = Sample {
            at: clock(),
            rtt_ms: rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            path: self.connected_now.then(|| "udp".to_owned()),
            ..self.past.clone()
        };
        self.retransmitted = connection.map_or(self.retransmitted, |counted| counted.sent);
        sample.sent.video_bytes += self.retransmitted;
        sample.sent.video_retransmitted_bytes += self.retransmitted;
        for sender in &self.sent {
            let stats = sender.stats();
            match sender.kind() {
                Kind::Audio => sample.sent.audio_bytes += stats.bytes,
                Kind::Video => {
                    sample.sent.video_bytes += stats.bytes;
                    sample.sent.frames_encoded += stats.frames;
                }
            }
        }
        for slot in &self.slots {
            let mut receiver = lock(&slot.receiver);
            let counted = connection.and_then(|counted| counted.received.get(&slot.mid));
            if let Some(bytes) = counted {
                receiver.handle_retransmitted_bytes(*bytes);
            }
            if let Some(rtt) = rtt {
                receiver.handle_rtt(rtt);
            }
            for one in receiver.received(now) {
                merge(&mut sample.received, one);
            }
        }
        sample
    }

    pub(crate) fn report(&self, name: &str) -> Report {
        let now = Instant::now();
        let ms = |time: Duration| time.as_millis() as u64;
        Report {
            name: name.to_owned(),
            participant: self.participant.clone(),
            joined_ms: self.joined.map(ms),
            connected_ms: self.connected.map(ms),
            connected: self.connected_now,
            participants: self.participants.clone(),
            tracks: self.tracks.clone(),
            sent: self.sent.iter().map(|sender| sender.stats()).collect(),
            slots: self
                .slots
                .iter()
                .map(|slot| lock(&slot.receiver).stats(now))
                .collect(),
            events: self.events.clone(),
            errors: self.errors.clone(),
        }
    }
}
