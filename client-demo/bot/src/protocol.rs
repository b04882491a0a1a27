//! The WebSocket protocol as this client speaks it: its own types, not the server's, so that a
//! change on one side alone shows in the tests.

use serde::{Deserialize, Serialize};

/// The protocol version of `hello`.
pub(crate) const VERSION: u32 = 1;

/// What a track or slot carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Opus.
    Audio,
    /// Any of the video codecs.
    Video,
}

/// A request with the id its reply will carry.
#[derive(Debug, Serialize)]
pub(crate) struct Envelope<'a> {
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) request: &'a Request,
}

/// What a client asks.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Request {
    Hello {
        version: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<String>,
    },
    Join {
        room: String,
        name: String,
        offer: String,
        tracks: Vec<PublishedTrack>,
    },
    Offer {
        sdp: String,
        tracks: Vec<PublishedTrack>,
        new_connection: bool,
    },
    Publish {
        mid: String,
        source: String,
    },
    Unpublish {
        track: String,
    },
    Subscribe {
        mid: String,
        /// `auto` without a track hands the slot back to the server; a null track empties it.
        #[serde(flatten)]
        choice: SlotChoice,
    },
    Mute {
        track: String,
        muted: bool,
    },
    Leave {},
    Ping {},
}

/// What a slot shall show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SlotChoice {
    /// This track and no other.
    Pin {
        /// Its id.
        track: String,
    },
    /// Nothing.
    Off {
        /// Always none.
        track: Option<()>,
    },
    /// What the server chooses.
    Auto {
        /// Always true.
        auto: bool,
    },
}

impl SlotChoice {
    /// Show this track and no other.
    pub fn pin(track: &str) -> SlotChoice {
        SlotChoice::Pin {
            track: track.to_owned(),
        }
    }

    /// Show nothing.
    pub fn off() -> SlotChoice {
        SlotChoice::Off { track: None }
    }

    /// Show what the server chooses.
    pub fn auto() -> SlotChoice {
        SlotChoice::Auto { auto: true }
    }
}

/// A sending m-line to publish.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PublishedTrack {
    pub(crate) mid: String,
    pub(crate) source: String,
}

/// What a client tells the server without an answer: events up to `seq` are handled.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Notice {
    Ack { seq: u64 },
}

/// What the server answers.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Reply {
    Welcome {
        session: String,
    },
    Joined {
        participant: String,
        participants: Vec<Participant>,
        answer: Option<String>,
        tracks: Vec<OwnTrack>,
        slots: Vec<SlotState>,
    },
    Answer {
        sdp: String,
        tracks: Vec<OwnTrack>,
        slots: Vec<SlotState>,
    },
    Published {
        track: String,
        mid: String,
        kind: Kind,
    },
    Unpublished {
        track: String,
    },
    Subscribed {
        mid: String,
        track: Option<String>,
    },
    Muted {},
    Left {},
    Pong {},
    Error {
        code: String,
        message: String,
    },
}

/// A track of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnTrack {
    /// Its id.
    pub id: String,
    /// The m-line that sends it.
    pub mid: String,
    /// What it carries.
    pub kind: Kind,
}

/// What a slot shows.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SlotState {
    pub(crate) mid: String,
    pub(crate) track: Option<String>,
}

/// Another participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// Its id, `p_…`.
    pub id: String,
    /// What it calls itself.
    pub name: String,
    /// What it publishes.
    pub tracks: Vec<RemoteTrack>,
}

/// A track of another participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteTrack {
    /// Its id.
    pub id: String,
    /// What it carries.
    pub kind: Kind,
    /// `camera`, `microphone`, `screen`, `screen_audio` or `other`.
    pub source: String,
    /// Whether its publisher has muted it.
    pub muted: bool,
}

/// What the server tells of its own accord.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the protocol reference describes each")]
pub enum Event {
    ParticipantJoined {
        participant: Participant,
    },
    ParticipantLeft {
        participant: String,
        reason: String,
    },
    TrackPublished {
        participant: String,
        track: RemoteTrack,
    },
    TrackUnpublished {
        participant: String,
        track: String,
    },
    TrackMuted {
        participant: String,
        track: String,
        muted: bool,
    },
    Slot {
        mid: String,
        track: Option<String>,
    },
    Media {
        state: String,
    },
    Reconnect {
        reason: String,
        message: String,
    },
    Closing {
        code: String,
        message: String,
    },
}

/// A frame from the server.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// The reply to the request of this id.
    Reply(u64, Reply),
    /// An event and its sequence number.
    Event(u64, Event),
    /// An error that answers no request, or a frame this client does not know.
    Stray(String),
}

impl Incoming {
    /// Reads a text frame.
    pub(crate) fn parse(text: &str) -> Incoming {
        let stray = || Incoming::Stray(text.to_owned());
        let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else {
            return stray();
        };
        if let Some(re) = value.get("re").and_then(serde_json::Value::as_u64) {
            serde_json::from_value(value)
                .map_or_else(|_| stray(), |reply| Incoming::Reply(re, reply))
        } else if let Some(seq) = value.get("seq").and_then(serde_json::Value::as_u64) {
            serde_json::from_value(value)
                .map_or_else(|_| stray(), |event| Incoming::Event(seq, event))
        } else {
            stray()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_read_as_the_protocol_has_them() {
        let subscribe = |choice| Request::Subscribe {
            mid: "3".into(),
            choice,
        };
        for (request, expected) in [
            (
                Request::Hello {
                    version: VERSION,
                    token: None,
                },
                json!({"id": 7, "type": "hello", "version": 1}),
            ),
            (
                subscribe(SlotChoice::pin("t_1")),
                json!({"id": 7, "type": "subscribe", "mid": "3", "track": "t_1"}),
            ),
            (
                subscribe(SlotChoice::off()),
                json!({"id": 7, "type": "subscribe", "mid": "3", "track": null}),
            ),
            (
                subscribe(SlotChoice::auto()),
                json!({"id": 7, "type": "subscribe", "mid": "3", "auto": true}),
            ),
            (Request::Leave {}, json!({"id": 7, "type": "leave"})),
        ] {
            let envelope = Envelope {
                id: 7,
                request: &request,
            };
            assert_eq!(serde_json::to_value(envelope).unwrap(), expected);
        }
        let ack = serde_json::to_value(Notice::Ack { seq: 3 }).unwrap();
        assert_eq!(ack, json!({"type": "ack", "seq": 3}));
    }

    #[test]
    fn frames_are_replies_events_or_strays() {
        let parse = |value: serde_json::Value| Incoming::parse(&value.to_string());
        assert!(matches!(
            parse(json!({"re": 1, "type": "error", "code": "room_full", "message": "Full."})),
            Incoming::Reply(1, Reply::Error { code, .. }) if code == "room_full"
        ));
        assert!(matches!(
            parse(json!({"seq": 4, "type": "slot", "mid": "2", "track": null})),
            Incoming::Event(4, Event::Slot { track: None, .. })
        ));
        for stray in [
            json!({"type": "error", "code": "bad_message", "message": "No id."}),
            json!({"seq": 4, "type": "of the future"}),
            json!([1]),
        ] {
            assert!(matches!(parse(stray), Incoming::Stray(_)));
        }
    }
}
