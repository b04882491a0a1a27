//! `docs/protocol.md` is made from the types of the protocol, with an example of each message that
//! is read and written here. `UPDATE_DOCS=1 cargo test -p confab-signaling` writes it anew.

#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::fmt::Write;
use std::path::Path;

use confab_signaling::protocol::{
    Answer, AskIceServers, AskQuality, ClientMessage, Closing, Decision, ErrorCode, Event, Failure,
    Hello, IceServer, IceServers, Join, Joined, Layer, Layers, Leave, Left, Limit, Media, Mute,
    Muted, Offer, OwnTrack, Participant, ParticipantJoined, ParticipantLeft, Permissions, Ping,
    Pong, Priority, Publish, Published, PublishedLine, Quality, Reason, Reconnect, RefusedLine,
    Renew, Renewed, Reply, Request, Resume, Slot, SlotPaused, SlotQuality, SlotShows, SlotView,
    Source, Speakers, Subscribe, Subscribed, TokenExpires, TokenFault, Track, TrackMuted,
    TrackPublished, TrackUnpublished, Unpublish, Unpublished, Unreachable, View, Viewed, Viewers,
    Welcome,
};
use schemars::{JsonSchema, schema_for};
use serde_json::Value;

const INTRODUCTION: &str = r#"# The signaling protocol, version 1

<!-- Made from the types in signaling/src/protocol by `UPDATE_DOCS=1 cargo test -p confab-signaling`; do not edit. -->

A client opens a WebSocket at `/v1/ws` and sends and receives JSON objects, one in each text frame. A long one may be compressed: a binary frame holds a message's text, compressed with DEFLATE (RFC 1951, without a header). The server takes both at any time, and sends compressed messages to a client whose `hello` asks for them.

- **Requests** carry an `id`, chosen by the client, each higher than the last. Each gets exactly one reply, which carries the id back as `re`. A reply that speaks of the room carries as `seq` the number of the last event before it: what it says is as of then. A session's requests are carried out one after another, in the order in which they come; only `ping` and `renew` are answered at once.
- **Events** are what the server says unasked. Each carries a sequence number `seq`, counted from 1. The client acknowledges what it has handled: `{"type": "ack", "seq": 3}` covers everything up to 3 and gets no reply. Only `closing` has no `seq`.
- **When the socket is lost**, the client opens another one and sends `hello` with `resume`, the session's name and the `seq` of the last event it has handled, and `unanswered`, the ids of its requests that have no reply. What the client missed follows the `welcome` in the order in which it was said: the events after `seq`, and between them the replies to those requests, as far as there are any. Who applies events and replies in the order in which they come knows what the server knows. Requests without a reply are sent again under their old ids; the server answers a repeated id with the first answer, whenever it is asked, and does nothing twice. A session that is in a room outlives its socket for `grace_ms`; the participant stays in the room, and media runs on. One that is in no room ends with its socket. A socket closed by the client with code 1000 or 1001 ends the session at once.
- **Media**: a client has one PeerConnection. Its `sendonly` m-lines publish, its `recvonly` m-lines are slots, each of which shows one remote track at a time. The client makes every offer and the server answers. The answer holds all of the server's candidates; the client sends none, and need not wait for them: the server learns them from its checks. A PeerConnection that is to get through firewalls has the `ice_servers` of `welcome`. An m-line that cannot be served is rejected alone (port 0) and named in `refused`, with the reason; the others are. Where it is the first of the BUNDLE group, it is answered `inactive` instead, and lends the others its transport: browsers fail on an answer that rejects it. An m-line without `a=mid` goes by its place, from 0.
- **Participants and viewers**: who has a name or publishes is a participant, and everybody in the room is told of it. Of WHIP and WHEP clients whose media connection is not up yet the others hear of four within 30 s, and of the rest once it is. Who does neither, as a WHEP player without `?name=` or a client that joins without a `name`, is a viewer, and only counted (`viewers`). A viewer who publishes is a participant from then on (`participant_joined`). Who publishes by WHIP and watches by WHEP with one identity is one participant, and gets nothing of itself; two WebSockets of one identity are two participants.
- **Access tokens** hold for the session, not for its beginning alone. A session ends with its token (`closing` with `token_expired`); a minute before, `token_expires` warns of it, and `renew` gives it another one. A `hello` that resumes is refused once its token has ended, and the session waits for one with a token that is good, for the rest of its grace.
- **Limits**: a message has at most 262144 bytes, compressed or not; a client sends at most 50 messages a second (an `ack` counts a tenth, a WebSocket ping as a message) and leaves at most 32 requests without a reply. Before its `hello` a socket may send 32768 bytes. The server sends WebSocket pings, and closes a socket of which nothing is heard for 60 seconds. Fields that a request does not have are refused, so that a typing error is told.
- **Growth**: replies and events may get more fields, and events more types, within a version: ignore those you do not know.

"#;

/// A message's section: its name, its description and fields from its type, and an example.
struct Section {
    name: &'static str,
    schema: Value,
    example: &'static str,
}

fn section<T: JsonSchema>(name: &'static str, example: &'static str) -> Section {
    Section {
        name,
        schema: schema_for!(T).to_value(),
        example,
    }
}

fn requests() -> Vec<Section> {
    vec![
        section::<Hello>(
            "hello",
            r#"{"id": 1, "type": "hello", "version": 1, "token": "eyJ…", "resume": {"session": "3Bq…", "seq": 17}, "unanswered": [11, 12], "deflate": true}"#,
        ),
        section::<Join>(
            "join",
            r#"{"id": 2, "type": "join", "room": "kitchen", "name": "Ada", "offer": "v=0…", "tracks": [{"mid": "0", "source": "microphone"}, {"mid": "1", "source": "camera"}]}"#,
        ),
        section::<Offer>(
            "offer",
            r#"{"id": 3, "type": "offer", "sdp": "v=0…", "tracks": [{"mid": "9", "source": "screen", "name": "Slides"}], "new_connection": false}"#,
        ),
        section::<Publish>(
            "publish",
            r#"{"id": 4, "type": "publish", "mid": "9", "source": "screen"}"#,
        ),
        section::<Unpublish>(
            "unpublish",
            r#"{"id": 5, "type": "unpublish", "track": "t_2a"}"#,
        ),
        section::<Subscribe>(
            "subscribe",
            r#"{"id": 6, "type": "subscribe", "mid": "4", "track": "t_2a"}"#,
        ),
        section::<View>(
            "view",
            r#"{"id": 7, "type": "view", "slots": [{"mid": "3", "visible": true, "width": 640, "height": 360, "frame_rate": 30}, {"mid": "4", "visible": false}]}"#,
        ),
        section::<AskQuality>("quality", r#"{"id": 8, "type": "quality"}"#),
        section::<AskIceServers>("ice_servers", r#"{"id": 9, "type": "ice_servers"}"#),
        section::<Mute>(
            "mute",
            r#"{"id": 10, "type": "mute", "track": "t_2a", "muted": true}"#,
        ),
        section::<Leave>("leave", r#"{"id": 11, "type": "leave"}"#),
        section::<Ping>("ping", r#"{"id": 12, "type": "ping"}"#),
        section::<Renew>("renew", r#"{"id": 13, "type": "renew", "token": "eyJ…"}"#),
    ]
}

fn replies() -> Vec<Section> {
    vec![
        section::<Welcome>(
            "welcome",
            r#"{"re": 1, "type": "welcome", "session": "3Bq…", "resumed": false, "grace_ms": 30000, "ping_interval_ms": 15000, "max_message_bytes": 262144, "relay": {"ice_servers": [{"urls": ["turn:203.0.113.7:3478?transport=udp", "turn:203.0.113.7:3478?transport=tcp"], "username": "1800000000:u_2", "credential": "kZ0x…"}], "expires_in": 14400}}"#,
        ),
        section::<Joined>(
            "joined",
            r#"{"re": 2, "seq": 0, "type": "joined", "participant": "p_3", "room": "kitchen", "name": "Ada", "identity": "ada@example.org", "metadata": "{\"seat\": 7}", "permissions": {"publish": true, "subscribe": true}, "participants": [{"id": "p_2", "name": "Grace", "identity": "grace@example.org", "tracks": [{"id": "t_1f", "kind": "audio", "source": "microphone", "muted": false}]}], "answer": "v=0…", "tracks": [{"id": "t_2a", "mid": "0", "kind": "audio"}], "slots": [{"mid": "2", "kind": "audio", "track": "t_1f"}, {"mid": "3", "kind": "video", "track": null}], "viewers": 3}"#,
        ),
        section::<Answer>(
            "answer",
            r#"{"re": 3, "seq": 1, "type": "answer", "sdp": "v=0…", "tracks": [{"id": "t_2a", "mid": "0", "kind": "audio"}], "slots": [{"mid": "2", "kind": "audio", "track": "t_1f"}], "refused": [{"mid": "9", "code": "unsupported_sdp", "message": "M-line 9 (video, mid \"9\") offers theora, none of which the server handles; it handles VP8."}]}"#,
        ),
        section::<Published>(
            "published",
            r#"{"re": 4, "seq": 2, "type": "published", "track": "t_2b", "mid": "9", "kind": "video"}"#,
        ),
        section::<Unpublished>(
            "unpublished",
            r#"{"re": 5, "seq": 4, "type": "unpublished", "track": "t_2b"}"#,
        ),
        section::<Subscribed>(
            "subscribed",
            r#"{"re": 6, "seq": 4, "type": "subscribed", "mid": "4", "track": "t_1f"}"#,
        ),
        section::<Viewed>("viewed", r#"{"re": 7, "seq": 4, "type": "viewed"}"#),
        section::<Quality>(
            "quality",
            r#"{"re": 8, "type": "quality", "estimate": 910000, "limit": "delay", "round_trip": 48, "link_loss": 0.01, "audio": 40000, "wanted": 1740000, "slots": [{"mid": "3", "track": "t_3c", "priority": "speaker", "visible": true, "width": 640, "height": 360, "layer": {"encoding": 1, "spatial": 0, "temporal": 2, "width": 640, "height": 360, "frame_rate": 30, "bitrate": 620000}, "reason": "wanted", "explanation": "It is shown 640 pixels wide; a larger picture would not be seen.", "switches": 4}], "decisions": [{"ago": 5200, "mid": "3", "from": null, "to": {"encoding": 1, "spatial": 0, "temporal": 2, "width": 640, "height": 360, "frame_rate": 30, "bitrate": 620000}, "reason": "wanted", "estimate": 870000}]}"#,
        ),
        section::<IceServers>(
            "ice_servers",
            r#"{"re": 9, "type": "ice_servers", "ice_servers": [{"urls": ["turn:203.0.113.7:3478?transport=udp", "turn:203.0.113.7:3478?transport=tcp"], "username": "1800007200:u_2", "credential": "gthU…"}], "expires_in": 14400}"#,
        ),
        section::<Muted>(
            "muted",
            r#"{"re": 10, "seq": 9, "type": "muted", "track": "t_2a", "muted": true}"#,
        ),
        section::<Left>("left", r#"{"re": 11, "seq": 12, "type": "left"}"#),
        section::<Pong>("pong", r#"{"re": 12, "type": "pong"}"#),
        section::<Renewed>(
            "renewed",
            r#"{"re": 13, "type": "renewed", "expires_in": 3610}"#,
        ),
        section::<Failure>(
            "error",
            r#"{"re": 2, "seq": 0, "type": "error", "code": "room_full", "message": "The room has 100 participants and viewers, as many as it may."}"#,
        ),
    ]
}

fn events() -> Vec<Section> {
    vec![
        section::<ParticipantJoined>(
            "participant_joined",
            r#"{"seq": 1, "type": "participant_joined", "participant": {"id": "p_4", "name": "Alan", "tracks": [{"id": "t_3c", "kind": "video", "source": "camera", "muted": false}]}}"#,
        ),
        section::<ParticipantLeft>(
            "participant_left",
            r#"{"seq": 2, "type": "participant_left", "participant": "p_4", "reason": "left"}"#,
        ),
        section::<TrackPublished>(
            "track_published",
            r#"{"seq": 3, "type": "track_published", "participant": "p_2", "track": {"id": "t_3d", "kind": "video", "source": "screen", "name": "Slides", "muted": false}}"#,
        ),
        section::<TrackUnpublished>(
            "track_unpublished",
            r#"{"seq": 4, "type": "track_unpublished", "participant": "p_2", "track": "t_3d"}"#,
        ),
        section::<TrackMuted>(
            "track_muted",
            r#"{"seq": 5, "type": "track_muted", "participant": "p_2", "track": "t_1f", "muted": true}"#,
        ),
        section::<Unreachable>(
            "unreachable",
            r#"{"seq": 14, "type": "unreachable", "participant": "p_2", "unreachable": true}"#,
        ),
        section::<SlotShows>(
            "slot",
            r#"{"seq": 6, "type": "slot", "mid": "3", "track": "t_3c"}"#,
        ),
        section::<SlotPaused>(
            "slot_paused",
            r#"{"seq": 7, "type": "slot_paused", "mid": "3", "reason": "no_bandwidth", "message": "It is paused: the connection does not carry it beside the other pictures."}"#,
        ),
        section::<Layers>(
            "layers",
            r#"{"seq": 8, "type": "layers", "track": "t_2a", "encodings": [true, true, false]}"#,
        ),
        section::<Speakers>(
            "speakers",
            r#"{"seq": 9, "type": "speakers", "dominant": "p_4"}"#,
        ),
        section::<Viewers>("viewers", r#"{"seq": 10, "type": "viewers", "viewers": 4}"#),
        section::<Media>(
            "media",
            r#"{"seq": 11, "type": "media", "state": "connected"}"#,
        ),
        section::<Reconnect>(
            "reconnect",
            r#"{"seq": 12, "type": "reconnect", "reason": "consent_lost", "message": "Nothing was heard of the media connection for 30 seconds."}"#,
        ),
        section::<TokenExpires>(
            "token_expires",
            r#"{"seq": 13, "type": "token_expires", "in_ms": 60000}"#,
        ),
        section::<Closing>(
            "closing",
            r#"{"type": "closing", "code": "shutting_down", "message": "The server is stopping.", "in_ms": 10000}"#,
        ),
    ]
}

fn objects() -> Vec<(&'static str, Value)> {
    vec![
        ("Resume", schema_for!(Resume).to_value()),
        ("IceServers", schema_for!(IceServers).to_value()),
        ("IceServer", schema_for!(IceServer).to_value()),
        ("PublishedLine", schema_for!(PublishedLine).to_value()),
        ("SlotView", schema_for!(SlotView).to_value()),
        ("Participant", schema_for!(Participant).to_value()),
        ("Permissions", schema_for!(Permissions).to_value()),
        ("Track", schema_for!(Track).to_value()),
        ("OwnTrack", schema_for!(OwnTrack).to_value()),
        ("RefusedLine", schema_for!(RefusedLine).to_value()),
        ("Slot", schema_for!(Slot).to_value()),
        ("SlotQuality", schema_for!(SlotQuality).to_value()),
        ("Layer", schema_for!(Layer).to_value()),
        ("Decision", schema_for!(Decision).to_value()),
    ]
}

/// A description as one line.
fn prose(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A field's type, as a reader of JSON thinks of it.
fn type_name(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return format!("`{}`", reference.rsplit('/').next().unwrap());
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let names: Vec<_> = choices.iter().map(type_name).collect();
        return names.join(" or ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => {
            format!("list of {}", type_name(&schema["items"]))
        }
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
            names.join(" or ")
        }
        _ => "any".into(),
    }
}

fn fields(text: &mut String, schema: &Value) {
    let Some(properties) = schema["properties"].as_object().filter(|p| !p.is_empty()) else {
        return;
    };
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    writeln!(text, "\n| field | type | meaning |\n| --- | --- | --- |").unwrap();
    for (name, field) in properties {
        let optional = match required.contains(&Value::from(name.as_str())) {
            true => "",
            false => ", optional",
        };
        let (kind, prose) = (type_name(field), prose(field));
        writeln!(text, "| `{name}` | {kind}{optional} | {prose} |").unwrap();
    }
}

fn sections(text: &mut String, title: &str, sections: &[Section]) {
    writeln!(text, "## {title}").unwrap();
    for Section {
        name,
        schema,
        example,
    } in sections
    {
        writeln!(text, "\n### `{name}`\n\n{}", prose(schema)).unwrap();
        fields(text, schema);
        writeln!(text, "\n```json\n{example}\n```").unwrap();
    }
    text.push('\n');
}

/// The table of an enumeration's values.
fn values<T: JsonSchema>(text: &mut String, title: &str, heading: &str) {
    let schema = schema_for!(T).to_value();
    let introduction = prose(&schema);
    writeln!(
        text,
        "{title}\n\n{introduction}\n\n| {heading} | meaning |\n| --- | --- |"
    )
    .unwrap();
    for value in schema["oneOf"].as_array().unwrap() {
        let name = value["const"].as_str().unwrap();
        writeln!(text, "| `{name}` | {} |", prose(value)).unwrap();
    }
    text.push('\n');
}

fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    sections(&mut text, "Requests", &requests());
    sections(&mut text, "Replies", &replies());
    sections(&mut text, "Events", &events());
    writeln!(text, "## Objects").unwrap();
    for (name, schema) in objects() {
        writeln!(text, "\n### `{name}`\n\n{}", prose(&schema)).unwrap();
        fields(&mut text, &schema);
    }
    text.push('\n');
    values::<Source>(&mut text, "### `Source`", "value");
    values::<Priority>(&mut text, "### `Priority`", "value");
    values::<Reason>(&mut text, "### `Reason`", "value");
    values::<Limit>(&mut text, "### `Limit`", "value");
    values::<ErrorCode>(&mut text, "## Codes", "code");
    values::<TokenFault>(&mut text, "### `TokenFault`", "reason");
    format!("{}\n", text.trim_end())
}

#[test]
fn the_protocol_reference_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let document = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == document,
        "docs/protocol.md is not what the code says; run\n    UPDATE_DOCS=1 cargo test -p confab-signaling"
    );
}

#[test]
fn the_examples_are_messages_and_there_is_one_of_each() {
    let names: Vec<_> = requests().iter().map(|s| s.name).collect();
    assert_eq!(names, Request::TYPES);
    for Section { name, example, .. } in requests() {
        let Ok(ClientMessage::Request(id, request)) = ClientMessage::parse(example) else {
            panic!("{example}");
        };
        let mut written = serde_json::to_value(&request).unwrap();
        written["id"] = id.into();
        assert_eq!(written, serde_json::from_str::<Value>(example).unwrap());
        assert_eq!(written["type"], name);
    }
    for Section { name, example, .. } in replies() {
        let value: Value = serde_json::from_str(example).unwrap();
        let reply: Reply = serde_json::from_value(value.clone()).unwrap();
        let written: Value =
            serde_json::from_str(&reply.frame(value["re"].as_u64(), value["seq"].as_u64()))
                .unwrap();
        assert_eq!(written, value);
        assert_eq!(written["type"], name);
    }
    for Section { name, example, .. } in events() {
        let value: Value = serde_json::from_str(example).unwrap();
        let event: Event = serde_json::from_value(value.clone()).unwrap();
        let written: Value = serde_json::from_str(&event.frame(value["seq"].as_u64())).unwrap();
        assert_eq!(written, value);
        assert_eq!(written["type"], name);
    }
}
