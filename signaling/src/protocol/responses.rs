//! What the server says: replies to requests, and events.

use confab_sfu::media::Kind;
use confab_sfu::types::{Mid, TrackId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ErrorCode, Quality, Reason, Source, Text, TokenFault};
use crate::names::ParticipantId;

/// The one reply to a request: its `type` beside its fields.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is described at its fields")]
pub enum Reply {
    Welcome(Welcome),
    Joined(Joined),
    Answer(Answer),
    Published(Published),
    Unpublished(Unpublished),
    Subscribed(Subscribed),
    Viewed(Viewed),
    Quality(Quality),
    IceServers(IceServers),
    Muted(Muted),
    Left(Left),
    Pong(Pong),
    Renewed(Renewed),
    Error(Failure),
}

/// To `hello`: the session is open.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Welcome {
    /// The session's secret name, for `resume`. Whoever knows it can take the session over.
    pub session: String,
    /// Whether the session named in `resume` goes on. Its missed events follow, and requests
    /// without a reply may be sent again under their old ids. If false, the server knows nothing
    /// of any earlier session.
    pub resumed: bool,
    /// How long the session outlives its socket, in milliseconds.
    pub grace_ms: u64,
    /// How often the client should send `ping`, in milliseconds. The server pings as often.
    pub ping_interval_ms: u64,
    /// The longest message the server takes, in bytes.
    pub max_message_bytes: usize,
    /// What takes media past firewalls, if this server has it: for the RTCPeerConnection that is made
    /// next. Not told of a session that goes on, whose credentials do too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<IceServers>,
}

/// To `join`: what the room holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Joined {
    /// The own id.
    pub participant: Text<ParticipantId>,
    /// The room.
    pub room: String,
    /// The own name as the others see it; null for a viewer.
    pub name: Option<String>,
    /// The own identity: the `sub` of the access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The own `metadata` of the access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// What the access token allows. M-lines for what it does not are answered as inactive.
    pub permissions: Permissions,
    /// The others.
    pub participants: Vec<Participant>,
    /// How many viewers the room has, oneself included if one is.
    pub viewers: usize,
    /// The SDP answer, if there was an offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The own published tracks.
    pub tracks: Vec<OwnTrack>,
    /// The receiving m-lines and what they show.
    pub slots: Vec<Slot>,
    /// The m-lines of the offer that are not served; the answer rejects them (port 0). The others are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedLine>,
}

/// What a client may do in its room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Permissions {
    /// Send media. Who may not only watches.
    pub publish: bool,
    /// Receive media.
    pub subscribe: bool,
}

/// To `offer`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The SDP answer.
    pub sdp: String,
    /// The own published tracks.
    pub tracks: Vec<OwnTrack>,
    /// The receiving m-lines and what they show.
    pub slots: Vec<Slot>,
    /// The m-lines of the offer that are not served; the answer rejects them (port 0). The others are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedLine>,
}

/// To `publish`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Published {
    /// The track's id.
    pub track: Text<TrackId>,
    /// Its m-line.
    pub mid: Text<Mid>,
    /// Audio or video.
    pub kind: MediaKind,
}

/// To `unpublish`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Unpublished {
    /// The track that is no more.
    pub track: Text<TrackId>,
}

/// To `subscribe`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Subscribed {
    /// The slot.
    pub mid: Text<Mid>,
    /// What it shows now.
    pub track: Option<Text<TrackId>>,
}

/// To `view`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Viewed {}

/// To `ice_servers`, and in `welcome`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct IceServers {
    /// What `RTCConfiguration.iceServers` takes; empty if this server has no relay.
    pub ice_servers: Vec<IceServer>,
    /// How long the credentials are good, in seconds. They end earlier when the participant leaves
    /// or is removed, and with the session. A relay drops who does not come with others in time.
    pub expires_in: u64,
}

/// A server as WebRTC's RTCIceServer has it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct IceServer {
    /// Where it is, in every way that it can be reached: `turn:…?transport=udp`,
    /// `turn:…?transport=tcp`, `turns:…?transport=tcp`.
    pub urls: Vec<String>,
    /// The name to sign in with.
    pub username: String,
    /// The password to it.
    pub credential: String,
    /// Whether it is at the UDP port that media comes to directly, so that only who wants to be relayed
    /// has a use for it. Chromium takes everything from the address of a TURN server for TURN, and
    /// relays what could go directly.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_media_port: bool,
}

/// To `mute`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Muted {
    /// The track.
    pub track: Text<TrackId>,
    /// Whether it is muted.
    pub muted: bool,
}

/// To `leave`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Left {}

/// To `ping`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Pong {}

/// To `renew`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Renewed {
    /// How long the session may go on with this token, in seconds; left out where none is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

/// To any request that was refused; it has changed nothing. Without `re` it speaks of a
/// frame whose `id` could not be read.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// What is wrong, for programs.
    pub code: ErrorCode,
    /// What is wrong, for people: a sentence.
    pub message: String,
    /// What is wrong with the access token, if that is what it was refused for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<TokenFault>,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
            reason: None,
        }
    }

    /// A refusal of an access token.
    pub(crate) fn of_token(fault: TokenFault, message: impl Into<String>) -> Failure {
        Failure {
            reason: Some(fault),
            ..Failure::new(fault.code(), message)
        }
    }
}

/// A published m-line of the client's own.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OwnTrack {
    /// The track's id.
    pub id: Text<TrackId>,
    /// Its m-line.
    pub mid: Text<Mid>,
    /// Audio or video.
    pub kind: MediaKind,
}

/// An m-line that is not served.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RefusedLine {
    /// The m-line. One without `a=mid` goes by its place, from 0.
    pub mid: Text<Mid>,
    /// Why it is not served, for programs.
    pub code: ErrorCode,
    /// Why it is not served, for people: a sentence.
    pub message: String,
}

/// A receiving m-line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Slot {
    /// The m-line.
    pub mid: Text<Mid>,
    /// Audio or video.
    pub kind: MediaKind,
    /// The track it shows, null for none.
    pub track: Option<Text<TrackId>>,
}

/// Someone in the room who has a name, or publishes. Who neither has a name nor publishes is a viewer,
/// and only counted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Participant {
    /// Its id. It is never another's, not even once the server has been started anew.
    pub id: Text<ParticipantId>,
    /// Its name, as it or its token said.
    pub name: String,
    /// Who it is: the `sub` of its access token. It may be there more than once, as with two devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// What the application has put into its access token as `metadata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// Whether nothing is heard of it now, as `unreachable` tells.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreachable: bool,
    /// Its tracks, in the order in which they were published.
    pub tracks: Vec<Track>,
}

/// A track as the others see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Track {
    /// Its id. It is never another's, not even once the server has been started anew.
    pub id: Text<TrackId>,
    /// Audio or video.
    pub kind: MediaKind,
    /// What is captured.
    pub source: Source,
    /// Its name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether its publisher has muted it.
    pub muted: bool,
}

/// Audio or video.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// Audio.
    Audio,
    /// Pictures.
    Video,
}

impl From<Kind> for MediaKind {
    fn from(kind: Kind) -> MediaKind {
        match kind {
            Kind::Audio => MediaKind::Audio,
            Kind::Video => MediaKind::Video,
        }
    }
}

/// What the server says unasked: its `type` beside its fields.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is described at its fields")]
pub enum Event {
    ParticipantJoined(ParticipantJoined),
    ParticipantLeft(ParticipantLeft),
    TrackPublished(TrackPublished),
    TrackUnpublished(TrackUnpublished),
    TrackMuted(TrackMuted),
    Unreachable(Unreachable),
    Slot(SlotShows),
    SlotPaused(SlotPaused),
    Layers(Layers),
    Speakers(Speakers),
    Viewers(Viewers),
    Media(Media),
    Reconnect(Reconnect),
    TokenExpires(TokenExpires),
    Closing(Closing),
}

/// Someone has come into the room, or was a viewer and has begun to publish.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantJoined {
    /// Who, with the tracks it came with.
    pub participant: Participant,
}

/// Someone has gone; all its tracks are gone too.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantLeft {
    /// Who.
    pub participant: Text<ParticipantId>,
    /// Why: `left`, `connection_lost` when it did not come back in time, `token_expired` when its access
    /// token has ended, `room_full` when others took its place before its media came, `watching` when it is a viewer
    /// from now on, or `merged` when it belongs to another participant of its identity from now on.
    pub reason: String,
}

/// Someone in the room has published a track.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TrackPublished {
    /// Who.
    pub participant: Text<ParticipantId>,
    /// What.
    pub track: Track,
}

/// A track is gone.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TrackUnpublished {
    /// Whose it was.
    pub participant: Text<ParticipantId>,
    /// The track.
    pub track: Text<TrackId>,
}

/// A track was muted or unmuted by its publisher.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TrackMuted {
    /// Whose it is.
    pub participant: Text<ParticipantId>,
    /// The track.
    pub track: Text<TrackId>,
    /// Whether it is muted now.
    pub muted: bool,
}

/// Nothing is heard of somebody in the room any more, who may yet come back: the WebSocket has been lost for
/// two seconds, or the media connection has fallen silent. Or it is heard of again. Who leaves meanwhile is not said to be.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Unreachable {
    /// Who.
    pub participant: Text<ParticipantId>,
    /// Whether it is so now.
    pub unreachable: bool,
}

/// A slot of the client's own shows something else now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SlotShows {
    /// The slot's `mid`.
    pub mid: Text<Mid>,
    /// The track it shows, null for none. It has been announced before.
    pub track: Option<Text<TrackId>>,
}

/// The picture in a slot of the client's own is paused, or its audio, or it goes on. Not told of slots
/// that the client itself has hidden. With reason `codec` nothing comes until the slot shows another
/// track, or its publisher sends something else.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SlotPaused {
    /// The slot's `mid`.
    pub mid: Text<Mid>,
    /// Why it is paused, for programs; null when it goes on.
    pub reason: Option<Reason>,
    /// Why, for people: a sentence.
    pub message: String,
}

/// Which encodings of an own track anybody receives, or could. The others need not be sent until
/// the next event of this kind; who sends them anyway loses nothing but the bandwidth.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Layers {
    /// The track.
    pub track: Text<TrackId>,
    /// For each encoding, in the order of the offer, whether it is wanted; a single one without
    /// simulcast.
    pub encodings: Vec<bool>,
    /// The most bits per second to send of a track of one encoding: what everyone who receives it can be
    /// sent. Without it there is no limit. Browsers are told the same by REMB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<u64>,
}

/// Somebody else in the room has the floor. Told to everybody, also to who has it, and to those who
/// join while somebody has it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Speakers {
    /// Who speaks, or was the last to; null if that one has left.
    pub dominant: Option<Text<ParticipantId>>,
}

/// The room has more viewers now, or fewer. Told once a second at most.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Viewers {
    /// How many connections only watch and have no name.
    pub viewers: usize,
}

/// The client's own media connection has changed its state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Media {
    /// The state it has now.
    pub state: MediaState,
}

/// The state of a media connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MediaState {
    /// ICE and DTLS are up: media can flow.
    Connected,
    /// Nothing is heard of it any more, though something was all the time: its way may be cut. Send an
    /// `offer` that restarts ICE, which tries every way anew and lets the old one be until another
    /// carries media.
    Silent,
    /// For most of half a minute UDP has lost a quarter of all packets or more, in one direction at
    /// least; said again while it does. If the WebSocket does not lose as much (`ping` is answered in the
    /// usual time, a dozen times in a row), TCP may be better: send an `offer` with `avoid_udp` that
    /// restarts ICE, with the relay's addresses over TCP and TLS alone.
    Lossy,
}

/// The client's own media connection is gone on the server, and its tracks with it: make a new
/// PeerConnection and send `offer` with `new_connection`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Reconnect {
    /// Why, for programs: `consent_lost`, `never_connected`, `dtls_failed`, `closed` or
    /// `worker_failed`.
    pub reason: String,
    /// Why, for people: a sentence. With `dtls_failed` it says what was wrong: the client's
    /// certificate, its cipher suites, its SRTP profiles, or that it was too slow.
    pub message: String,
}

/// The session's access token ends soon, and with it the session: give another one with `renew`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TokenExpires {
    /// How long until then, in milliseconds: a minute, or half of what there was if that is less.
    pub in_ms: u64,
}

/// The server is about to close this socket. The only event without `seq`: it speaks of the
/// socket, not of the session.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Closing {
    /// Why, for programs.
    pub code: ErrorCode,
    /// Why, for people: a sentence.
    pub message: String,
    /// How long until then at most, in milliseconds; 0 is at once. A server that stops waits until
    /// everybody has left, and no longer than this.
    pub in_ms: u64,
}
