//! The WebSocket protocol, version 1: every message in both directions.
//!
//! In come the text frames of a client ([`ClientMessage::parse`]); out go replies and events
//! ([`Reply`], [`Event`]) as text frames. `docs/protocol.md` is made from these types, so their
//! comments are the reference that users read.

mod amount;
mod codes;
mod quality;
mod requests;
mod responses;
mod text;

pub use amount::Amount;
pub use codes::{ErrorCode, TokenFault};
pub(crate) use quality::pause;
pub use quality::{Decision, Layer, Limit, Priority, Quality, Reason, SlotQuality};
pub use requests::{
    AskIceServers, AskQuality, Hello, Join, Leave, Mute, Offer, Ping, Publish, PublishedLine,
    Renew, Request, Resume, SlotView, Source, Subscribe, Unpublish, View,
};
pub use responses::{
    Answer, Closing, Event, Failure, IceServer, IceServers, Joined, Layers, Left, Media, MediaKind,
    MediaState, Muted, OwnTrack, Participant, ParticipantJoined, ParticipantLeft, Permissions,
    Pong, Published, Reconnect, RefusedLine, Renewed, Reply, Slot, SlotPaused, SlotShows, Speakers,
    Subscribed, TokenExpires, Track, TrackMuted, TrackPublished, TrackUnpublished, Unpublished,
    Unreachable, Viewed, Viewers, Welcome,
};
pub use text::Text;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// The number that ties a reply to its request. Chosen by the client, each higher than the last.
pub type RequestId = u64;

/// What a client may say.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientMessage {
    /// It wants something, and gets exactly one reply.
    Request(RequestId, Request),
    /// It has handled every event up to this sequence number. No reply.
    Ack(u64),
}

/// A frame that is not a message of this protocol.
#[derive(Clone, PartialEq, Debug)]
pub struct Malformed {
    /// The request's id, if it could be read.
    pub re: Option<RequestId>,
    /// What is wrong.
    pub failure: Failure,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ack {
    seq: u64,
}

impl ClientMessage {
    /// Reads one text frame.
    ///
    /// # Errors
    /// When the frame is not JSON, not an object, of no known type, or has wrong fields; the
    /// failure says which.
    pub fn parse(text: &str) -> Result<ClientMessage, Malformed> {
        let malformed = |re, code, message: String| Malformed {
            re,
            failure: Failure::new(code, message),
        };
        let mut fields: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            malformed(
                None,
                ErrorCode::BadMessage,
                format!("The frame is not a JSON object: {error}."),
            )
        })?;
        let id = match fields.remove("id") {
            None => None,
            Some(id) => Some(id.as_u64().ok_or_else(|| {
                malformed(
                    None,
                    ErrorCode::BadMessage,
                    "The request's `id` is not a whole number of at least 0.".into(),
                )
            })?),
        };
        let kind = match fields.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            _ => {
                return Err(malformed(
                    id,
                    ErrorCode::BadMessage,
                    "The message has no `type`.".into(),
                ));
            }
        };
        if kind == "ack" {
            fields.remove("type");
            return serde_json::from_value::<Ack>(Value::Object(fields))
                .map(|ack| ClientMessage::Ack(ack.seq))
                .map_err(|error| {
                    malformed(
                        id,
                        ErrorCode::BadRequest,
                        format!("The `ack` is not valid: {error}."),
                    )
                });
        }
        if !Request::TYPES.contains(&kind.as_str()) {
            return Err(malformed(
                id,
                ErrorCode::UnknownType,
                format!(
                    "There is no request of type {:?}; there are {}.",
                    shortened(&kind),
                    Request::TYPES.join(", ")
                ),
            ));
        }
        let Some(id) = id else {
            return Err(malformed(
                None,
                ErrorCode::BadMessage,
                format!("The `{kind}` request has no `id`, so it cannot be answered."),
            ));
        };
        serde_json::from_value(Value::Object(fields))
            .map(|request| ClientMessage::Request(id, request))
            .map_err(|error| {
                malformed(
                    Some(id),
                    ErrorCode::BadRequest,
                    format!("The `{kind}` request is not valid: {error}."),
                )
            })
    }
}

/// A client's text as it may be repeated to it: long enough to be recognised, no longer.
pub(crate) fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 40;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[derive(Serialize)]
struct ReplyFrame<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    re: Option<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(flatten)]
    reply: &'a Reply,
}

#[derive(Serialize)]
struct EventFrame<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(flatten)]
    event: &'a Event,
}

impl Reply {
    /// The frame that answers request `re`, or, without one, a frame that could not be read. `seq` is
    /// the number of the last event before it; what belongs to the socket and not to the session has
    /// none, and what is as of now and not of the room goes without.
    #[must_use]
    pub fn frame(&self, re: Option<RequestId>, seq: Option<u64>) -> String {
        let reply = self;
        let is_of_room = !matches!(
            reply,
            Reply::Pong(_) | Reply::Quality(_) | Reply::IceServers(_)
        );
        let seq = seq.filter(|_| is_of_room);
        to_text(&ReplyFrame { re, seq, reply })
    }
}

impl Event {
    /// The frame of this event. Only `closing` goes without a sequence number.
    #[must_use]
    pub fn frame(&self, seq: Option<u64>) -> String {
        to_text(&EventFrame { seq, event: self })
    }
}

fn to_text(frame: &impl Serialize) -> String {
    // These types hold strings, numbers and lists: nothing that JSON cannot say.
    serde_json::to_string(frame).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_a_message_is_answered_with_a_code_and_the_id_if_it_had_one() {
        let deep = "[".repeat(100_000);
        let table: &[(&str, Option<u64>, ErrorCode, &str)] = &[
            ("", None, ErrorCode::BadMessage, "not a JSON object"),
            ("{", None, ErrorCode::BadMessage, "not a JSON object"),
            ("[]", None, ErrorCode::BadMessage, "not a JSON object"),
            ("null", None, ErrorCode::BadMessage, "not a JSON object"),
            (&deep, None, ErrorCode::BadMessage, "not a JSON object"),
            ("{}", None, ErrorCode::BadMessage, "no `type`"),
            (r#"{"id":1}"#, Some(1), ErrorCode::BadMessage, "no `type`"),
            (
                r#"{"id":1,"type":7}"#,
                Some(1),
                ErrorCode::BadMessage,
                "no `type`",
            ),
            (r#"{"type":"ping"}"#, None, ErrorCode::BadMessage, "no `id`"),
            (
                r#"{"id":-1,"type":"ping"}"#,
                None,
                ErrorCode::BadMessage,
                "whole number",
            ),
            (
                r#"{"id":"1","type":"ping"}"#,
                None,
                ErrorCode::BadMessage,
                "whole number",
            ),
            (
                r#"{"id":1.5,"type":"ping"}"#,
                None,
                ErrorCode::BadMessage,
                "whole number",
            ),
            (
                r#"{"id":1,"type":"dance"}"#,
                Some(1),
                ErrorCode::UnknownType,
                "\"dance\"",
            ),
            (
                r#"{"type":"dance"}"#,
                None,
                ErrorCode::UnknownType,
                "\"dance\"",
            ),
            (
                r#"{"id":1,"type":"joined"}"#,
                Some(1),
                ErrorCode::UnknownType,
                "\"joined\"",
            ),
            (
                r#"{"id":1,"type":"ping","x":2}"#,
                Some(1),
                ErrorCode::BadRequest,
                "`x`",
            ),
            (
                r#"{"id":1,"type":"join","name":"b"}"#,
                Some(1),
                ErrorCode::BadRequest,
                "`room`",
            ),
            (
                r#"{"id":1,"type":"join","room":"a","name":"b","ofer":""}"#,
                Some(1),
                ErrorCode::BadRequest,
                "`ofer`",
            ),
            (
                r#"{"id":1,"type":"mute","track":"seven","muted":true}"#,
                Some(1),
                ErrorCode::BadRequest,
                "seven",
            ),
            (
                r#"{"id":1,"type":"publish","mid":"0","source":"camra"}"#,
                Some(1),
                ErrorCode::BadRequest,
                "camra",
            ),
            (
                r#"{"id":1,"type":"publish","mid":"a mid of many words","source":"camera"}"#,
                Some(1),
                ErrorCode::BadRequest,
                "a mid of many words",
            ),
            (r#"{"type":"ack"}"#, None, ErrorCode::BadRequest, "`seq`"),
            (
                r#"{"type":"ack","seq":-1}"#,
                None,
                ErrorCode::BadRequest,
                "ack",
            ),
        ];
        for (text, re, code, says) in table {
            let malformed = ClientMessage::parse(text).expect_err(text);
            assert_eq!(
                (malformed.re, malformed.failure.code),
                (*re, *code),
                "{text:.60}"
            );
            let message = &malformed.failure.message;
            assert!(message.contains(says), "{text:.60}: {message}");
            assert!(message.len() < 400, "{message}");
        }
    }

    #[test]
    fn a_type_without_end_is_not_repeated_in_full() {
        let text = json!({"id": 1, "type": "é".repeat(100_000)}).to_string();
        let malformed = ClientMessage::parse(&text).expect_err("an unknown type");
        assert!(malformed.failure.message.len() < 400);
    }

    #[test]
    fn subscribe_tells_an_empty_slot_from_a_missing_choice() {
        let parse = |body: &str| {
            let text = format!(r#"{{"id":1,"type":"subscribe","mid":"3"{body}}}"#);
            match ClientMessage::parse(&text) {
                Ok(ClientMessage::Request(1, Request::Subscribe(subscribe))) => subscribe.choice(),
                other => panic!("{other:?}"),
            }
        };
        use confab_sfu::api::SlotChoice;
        use confab_sfu::types::TrackId;
        assert_eq!(
            parse(r#","track":"t_7""#),
            Some(SlotChoice::Pin(TrackId(7)))
        );
        assert_eq!(parse(r#","track":null"#), Some(SlotChoice::Off));
        assert_eq!(parse(r#","auto":true"#), Some(SlotChoice::Auto));
        assert_eq!(parse(""), None);
        assert_eq!(parse(r#","auto":false"#), None);
        assert_eq!(parse(r#","auto":true,"track":"t_7""#), None);
    }

    #[test]
    fn replies_and_events_carry_their_number_beside_their_type() {
        let left = Reply::Left(Left {});
        assert_eq!(
            left.frame(Some(7), Some(9)),
            r#"{"re":7,"seq":9,"type":"left"}"#
        );
        let slot = Event::Slot(SlotShows {
            mid: Text("3".parse().expect("a mid")),
            track: None,
        });
        assert_eq!(
            slot.frame(Some(2)),
            r#"{"seq":2,"type":"slot","mid":"3","track":null}"#
        );
    }
}
