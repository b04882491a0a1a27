//! What a client asks for.

use confab_sfu::api::{self, Content, SlotChoice};
use confab_sfu::types::{Mid, TrackId};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Amount, RequestId, Text};

/// A request: its `type` beside its fields.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is described at its fields")]
pub enum Request {
    Hello(Hello),
    Join(Join),
    Offer(Offer),
    Publish(Publish),
    Unpublish(Unpublish),
    Subscribe(Subscribe),
    View(View),
    Quality(AskQuality),
    IceServers(AskIceServers),
    Mute(Mute),
    Leave(Leave),
    Ping(Ping),
    Renew(Renew),
}

impl Request {
    /// The `type` of every request.
    pub const TYPES: [&str; 13] = [
        "hello",
        "join",
        "offer",
        "publish",
        "unpublish",
        "subscribe",
        "view",
        "quality",
        "ice_servers",
        "mute",
        "leave",
        "ping",
        "renew",
    ];
}

/// Opens or resumes a session. It must be the first message on a socket, within 10 seconds. The
/// reply is `welcome`; a refused `hello` is followed by the end of the socket.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The protocol's version: 1.
    pub version: u32,
    /// The access token; needed once the server has an API key. Sent again with every `hello`, and
    /// looked at again: a session is resumed with a token for the same identity and room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The session to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
    /// With `resume`, the ids of the requests that have no reply. Those that were answered meanwhile are
    /// answered once more, in their place among the events. The first 96 are looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<RequestId>,
    /// Whether the client reads compressed messages. The server then sends those of 1024 bytes and
    /// more so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deflate: bool,
}

/// Where a session left off.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The session, as its `welcome` named it.
    pub session: String,
    /// The last event the client has handled, 0 for none.
    pub seq: u64,
}

/// Enters a room, which is made if it does not exist. With an `offer`, media starts in the same
/// round trip. The reply is `joined`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The room: 1 to 64 of `A`-`Z`, `a`-`z`, `0`-`9`, `_` and `-`.
    pub room: String,
    /// How the others see the participant: 1 to 64 visible characters. A name in the access token
    /// takes its place. Who has neither is a viewer, whom the others only count, and a `Guest` while
    /// publishing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// An SDP offer, the first of the media connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<String>,
    /// Which sending m-lines of the offer are published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracks: Vec<PublishedLine>,
}

/// Offers: the first offer of a media connection, or a later one with more m-lines or new ICE
/// credentials. Sending m-lines named in `tracks` are published, those published before stay so,
/// others are negotiated only. The reply is `answer`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The SDP offer.
    pub sdp: String,
    /// Which sending m-lines are published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracks: Vec<PublishedLine>,
    /// The offer is that of a new media connection. The old one ends before, and its tracks with
    /// it, even if the offer is then refused.
    #[serde(default)]
    pub new_connection: bool,
    /// Media is to leave UDP, which loses too much, for TCP to the server or to its relay: connectivity
    /// checks straight over UDP get no answer, until an offer without this. With an ICE restart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub avoid_udp: bool,
}

/// A sending m-line and what it carries.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishedLine {
    /// The m-line's `mid`.
    pub mid: Text<Mid>,
    /// What is captured.
    pub source: Source,
    /// A name for the others to see: 1 to 64 visible characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a track shows or lets hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A camera.
    Camera,
    /// A microphone.
    Microphone,
    /// A screen or a window.
    Screen,
    /// The audio that belongs to a shared screen.
    ScreenAudio,
    /// Anything else.
    Other,
}

impl Source {
    /// What the media plane is to take it for.
    #[must_use]
    pub fn content(self) -> Content {
        match self {
            Source::Screen | Source::ScreenAudio => Content::Screen,
            Source::Camera | Source::Microphone | Source::Other => Content::Person,
        }
    }
}

/// Publishes a sending m-line that was negotiated and is not published. The reply is `published`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The m-line's `mid`.
    pub mid: Text<Mid>,
    /// What is captured.
    pub source: Source,
    /// A name for the others to see: 1 to 64 visible characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Takes a track back; its m-line stays negotiated. The reply is `unpublished`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unpublish {
    /// One of the participant's own tracks.
    pub track: Text<TrackId>,
}

/// Decides what a slot (a receiving m-line) shows: `track` pins a track to it, `track: null`
/// empties it, `auto: true` hands it back to the server. Slots start as `auto`: they show the
/// room's tracks of their kind in the order in which they were published, and later ones as they
/// come. If there are more tracks than such slots, screens come first, and the others follow those
/// who speak: a new speaker takes the place of whoever has been silent for longest, everyone else
/// stays. The reply is `subscribed`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// The slot's `mid`.
    pub mid: Text<Mid>,
    /// The track to show, or null for none.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub track: Option<Option<Text<TrackId>>>,
    /// Let the server choose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto: bool,
}

/// Tells `null`, which is `Some(None)`, from an absent field.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Subscribe {
    /// What is asked for, unless it is nothing or two things at once.
    #[must_use]
    pub fn choice(&self) -> Option<SlotChoice> {
        match (self.track, self.auto) {
            (None, true) => Some(SlotChoice::Auto),
            (Some(None), false) => Some(SlotChoice::Off),
            (Some(Some(Text(track))), false) => Some(SlotChoice::Pin(track)),
            _ => None,
        }
    }
}

/// Says what is shown of slots, so that no more is sent than is seen. Of a slot that has not been
/// named yet everything is sent; what was said holds until it is said anew, whatever the slot
/// shows. If one of the slots does not exist, nothing is noted. The reply is `viewed`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// What is shown, at most 64 slots.
    pub slots: Vec<SlotView>,
}

/// What is shown of a slot.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotView {
    /// The slot's `mid`.
    pub mid: Text<Mid>,
    /// Whether it is on the screen. One that is not is paused.
    pub visible: bool,
    /// The width of its place in pixels of the screen; without it, any. 0 is as good as hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<Amount>,
    /// The height of its place in pixels of the screen; without it, any. 0 is as good as hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<Amount>,
    /// Frames a second that are enough; without it, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_rate: Option<Amount>,
}

impl SlotView {
    /// The same for the media plane.
    #[must_use]
    pub fn view(&self) -> api::SlotView {
        api::SlotView {
            visible: self.visible,
            width: self.width.map(|pixels| pixels.0),
            height: self.height.map(|pixels| pixels.0),
            frame_rate: self.frame_rate.map(|rate| rate.0),
        }
    }
}

/// Asks what the way to the client carries, what its slots get of it, and why not more. The reply
/// is `quality`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskQuality {}

/// Asks for servers that take media past firewalls, with credentials that are good from now: before
/// those of `welcome` expire, and before joining again after `leave`. The reply is `ice_servers`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskIceServers {}

/// Stops or resumes the forwarding of an own track. The reply is `muted`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mute {
    /// One of the participant's own tracks.
    pub track: Text<TrackId>,
    /// Whether it is to be muted.
    pub muted: bool,
}

/// Leaves the room; the media connection ends, and with it what was told of relays. The session
/// stays, and may join again. The reply is `left`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Leave {}

/// Asks whether the server is there. The reply is `pong`, at once, whatever else is being done.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ping {}

/// Gives the session another access token, for the same identity and room: before the present one ends,
/// of which `token_expires` warns. What it allows holds for what is asked for from then on; tracks that
/// are published go on. The reply is `renewed`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// The access token.
    pub token: String,
}
