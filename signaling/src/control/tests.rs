//! Stories of several clients, without sockets and without media: the test plays the media plane.

#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

mod relay;
mod shares;
mod tokens;
mod unreachable;

use std::time::{Duration, Instant};

use confab_sfu::api::{
    Answer, Content, DtlsFailure, Event as MediaEvent, GoneReason, Publish, SdpError, SlotInfo,
    TrackInfo,
};
use confab_sfu::media::{Codec, Kind};
use confab_sfu::types::{Mid, PeerId, TrackId};
use serde_json::{Value, json};

use super::*;
use crate::auth::Auth;
use crate::protocol::ClientMessage;

struct House {
    control: Control,
    now: Instant,
    /// Frames that sockets got and no test has looked at yet.
    frames: HashMap<SocketId, Vec<Value>>,
    closed: Vec<SocketId>,
    commands: VecDeque<(AskId, media::Request)>,
    http: HashMap<TicketId, HttpAnswer>,
    next_id: u64,
    /// What the next one's token allows.
    access: Result<Access, Failure>,
    /// Where the next one comes from.
    from: IpAddr,
}

fn mid(text: &str) -> Mid {
    Mid::new(text).unwrap()
}

fn answer(tracks: &[(&str, u64)], slots: &[(&str, Option<u64>)]) -> Answer {
    Answer {
        sdp: "answer".into(),
        tracks: tracks
            .iter()
            .map(|&(name, track)| TrackInfo {
                track: TrackId(track),
                mid: mid(name),
                kind: Kind::Video,
            })
            .collect(),
        slots: slots
            .iter()
            .map(|&(name, track)| SlotInfo {
                mid: mid(name),
                kind: Kind::Video,
                track: track.map(TrackId),
            })
            .collect(),
        refused: Vec::new(),
    }
}

fn camera(name: &str) -> Value {
    json!([{"mid": name, "source": "camera"}])
}

impl House {
    fn new() -> House {
        House::with(Config::default())
    }

    fn with(config: Config) -> House {
        House {
            control: Control::new(config),
            now: Instant::now(),
            frames: HashMap::new(),
            closed: Vec::new(),
            commands: VecDeque::new(),
            http: HashMap::new(),
            next_id: 0,
            access: Ok(open_access()),
            from: [192, 0, 2, 1].into(),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::Frame(socket, text) => {
                    let frame = serde_json::from_str(&text).unwrap();
                    self.frames.entry(socket).or_default().push(frame);
                }
                Output::Close(socket) => self.closed.push(socket),
                Output::Ask(id, command) => self.commands.push_back((id, command)),
                Output::Http(ticket, answer) => {
                    self.http.insert(ticket, answer);
                }
            }
        }
    }

    fn say(&mut self, socket: u64, message: Value) {
        let input = match ClientMessage::parse(&message.to_string()).unwrap() {
            ClientMessage::Request(id, Request::Hello(hello)) => {
                SocketInput::Hello(id, hello, self.access.clone(), self.from)
            }
            ClientMessage::Request(id, Request::Renew(_)) => {
                SocketInput::Renew(id, self.access.clone())
            }
            ClientMessage::Request(id, request) => SocketInput::Request(id, request),
            ClientMessage::Ack(seq) => SocketInput::Ack(seq),
        };
        self.control
            .handle_socket(self.now, SocketId(socket), input);
        self.drain();
    }

    fn ask(&mut self, socket: u64, kind: &str, mut body: Value) -> u64 {
        self.next_id += 1;
        body["id"] = self.next_id.into();
        body["type"] = kind.into();
        self.say(socket, body);
        self.next_id
    }

    fn heard(&mut self, socket: u64) -> Vec<Value> {
        self.frames.remove(&SocketId(socket)).unwrap_or_default()
    }

    /// The types of what a socket heard, with the code of errors.
    fn types(&mut self, socket: u64) -> Vec<String> {
        self.heard(socket)
            .iter()
            .map(|frame| match frame["code"].as_str() {
                Some(code) => format!("{} {code}", frame["type"].as_str().unwrap()),
                None => frame["type"].as_str().unwrap().to_owned(),
            })
            .collect()
    }

    fn only(&mut self, socket: u64) -> Value {
        let mut heard = self.heard(socket);
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }

    fn hello(&mut self, socket: u64) -> String {
        self.ask(socket, "hello", json!({"version": 1}));
        self.only(socket)["session"].as_str().unwrap().to_owned()
    }

    fn command(&mut self) -> (AskId, media::Request) {
        self.commands.pop_front().expect("a media command")
    }

    fn offered_peer(&mut self) -> (AskId, PeerId) {
        match self.command() {
            (id, media::Request::Offer { peer, .. }) => (id, peer),
            other => panic!("{other:?}"),
        }
    }

    fn outcome(&mut self, id: AskId, reply: media::Reply) {
        self.control.handle_reply(self.now, id, reply);
        self.drain();
    }

    fn report(&mut self, event: MediaEvent) {
        self.control.handle_media_event(self.now, event);
        self.drain();
    }

    fn close(&mut self, socket: u64, goodbye: bool) {
        let input = SocketInput::Closed { goodbye };
        self.control
            .handle_socket(self.now, SocketId(socket), input);
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.control.handle_timeout(self.now);
        self.drain();
    }

    /// Says hello and joins the kitchen with an offer that the media plane answers.
    fn join(&mut self, socket: u64, name: &str, answer: Answer) -> PeerId {
        self.hello(socket);
        let tracks: Vec<Value> = answer
            .tracks
            .iter()
            .map(|t| json!({"mid": t.mid.as_str(), "source": "camera"}))
            .collect();
        self.ask(
            socket,
            "join",
            json!({"room": "kitchen", "name": name, "offer": "offer", "tracks": tracks}),
        );
        let (id, peer) = self.offered_peer();
        self.outcome(id, media::Reply::Answered(answer));
        peer
    }
}

#[test]
fn two_people_meet() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[("0", 7)], &[("1", None)]));
    let joined = house.only(1);
    assert_eq!(joined["participants"], json!([]));
    assert_eq!(
        joined["tracks"],
        json!([{"id": "t_7", "mid": "0", "kind": "video"}])
    );
    house.join(2, "Bob", answer(&[("0", 8)], &[("1", Some(7))]));
    let joined = house.only(2);
    assert_eq!(joined["answer"], "answer");
    assert_eq!(
        joined["slots"],
        json!([{"mid": "1", "kind": "video", "track": "t_7"}])
    );
    assert_eq!(joined["participants"][0]["name"], "Alice");
    assert_eq!(joined["participants"][0]["tracks"][0]["source"], "camera");
    let event = house.only(1);
    assert_eq!(event["type"], "participant_joined");
    assert_eq!(event["seq"], 1);
    assert_eq!(event["participant"]["tracks"][0]["id"], "t_8");
    house.ask(2, "leave", json!({}));
    assert_eq!(house.types(2), ["left"]);
    let left = house.only(1);
    assert_eq!(
        (&left["type"], &left["reason"]),
        (&json!("participant_left"), &json!("left"))
    );
    assert!(matches!(house.command(), (_, media::Request::Close { .. })));
}

#[test]
fn what_happens_on_the_wrong_occasion_is_refused() {
    let mut house = House::new();
    house.ask(1, "join", json!({"room": "kitchen", "name": "Alice"}));
    assert_eq!(house.types(1), ["error hello_first"]);
    house.hello(1);
    house.ask(1, "hello", json!({"version": 1}));
    for (kind, body) in [
        ("offer", json!({"sdp": "x"})),
        ("publish", json!({"mid": "0", "source": "camera"})),
        ("unpublish", json!({"track": "t_1"})),
        ("subscribe", json!({"mid": "0", "auto": true})),
        ("mute", json!({"track": "t_1", "muted": true})),
        ("view", json!({"slots": []})),
        ("quality", json!({})),
        ("leave", json!({})),
    ] {
        house.ask(1, kind, body);
        assert!(
            house.types(1).ends_with(&["error not_joined".into()]),
            "{kind}"
        );
    }
    house.ask(1, "join", json!({"room": "a b", "name": "Alice"}));
    house.ask(1, "join", json!({"room": "kitchen", "name": ""}));
    let line = |n: u32| json!({"mid": n.to_string(), "source": "camera"});
    let nine: Vec<Value> = (0..9).map(line).collect();
    house.ask(
        1,
        "join",
        json!({"room": "r", "name": "A", "offer": "x", "tracks": nine}),
    );
    house.ask(1, "join", json!({"room": "kitchen", "name": "Alice"}));
    house.ask(1, "join", json!({"room": "kitchen", "name": "Alice"}));
    assert_eq!(
        house.types(1),
        [
            "error bad_room",
            "error bad_name",
            "error too_many_tracks",
            "joined",
            "error already_joined"
        ]
    );
    for (kind, body) in [
        ("publish", json!({"mid": "0", "source": "camera"})),
        ("subscribe", json!({"mid": "0", "auto": true})),
        ("view", json!({"slots": [{"mid": "0", "visible": true}]})),
        ("quality", json!({})),
    ] {
        house.ask(1, kind, body);
        assert_eq!(house.types(1), ["error unknown_peer"], "{kind}");
    }
    house.ask(1, "subscribe", json!({"mid": "0"}));
    house.ask(1, "mute", json!({"track": "t_1", "muted": true}));
    assert_eq!(house.types(1), ["error bad_request", "error unknown_track"]);
    assert!(house.commands.is_empty());
}

#[test]
fn a_refused_offer_leaves_no_trace_of_the_join() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[], &[]));
    house.hello(2);
    house.heard(1);
    let join = json!({"room": "kitchen", "name": "Bob", "offer": "nonsense"});
    house.ask(2, "join", join.clone());
    let (id, _) = house.offered_peer();
    let refusal = api::OfferError::Sdp(api::SdpError::TooLarge { bytes: 2, limit: 1 });
    house.outcome(id, media::Reply::Refused(refusal.into()));
    assert_eq!(house.types(2), ["error bad_sdp"]);
    assert_eq!(house.types(1), Vec::<String>::new());
    house.ask(2, "join", join);
    assert!(
        matches!(house.command(), (_, media::Request::Offer { .. })),
        "it may try again"
    );
}

#[test]
fn requests_are_carried_out_in_order_and_ping_at_once() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[("0", 7)], &[]));
    house.heard(1);
    house.ask(1, "mute", json!({"track": "t_7", "muted": true}));
    house.ask(1, "unpublish", json!({"track": "t_7"}));
    house.ask(1, "leave", json!({}));
    house.ask(1, "ping", json!({}));
    assert_eq!(house.types(1), ["pong"]);
    let (id, command) = house.command();
    assert!(matches!(command, media::Request::Mute { muted: true, .. }));
    assert!(house.commands.is_empty(), "one at a time");
    house.outcome(id, media::Reply::Done);
    let (id, command) = house.command();
    assert!(matches!(command, media::Request::Unpublish { .. }));
    house.outcome(id, media::Reply::Done);
    assert_eq!(house.types(1), ["muted", "unpublished", "left"]);
    assert!(matches!(house.command(), (_, media::Request::Close { .. })));
}

#[test]
fn nobody_acts_on_what_is_another_rooms_or_anothers() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[("0", 7)], &[]));
    house.join(2, "Bob", answer(&[], &[("0", None)]));
    house.hello(3);
    house.ask(
        3,
        "join",
        json!({"room": "cellar", "name": "Eve", "offer": "x"}),
    );
    let (id, _) = house.offered_peer();
    house.outcome(id, media::Reply::Answered(answer(&[], &[("0", None)])));
    for socket in [1, 2, 3] {
        house.heard(socket);
    }
    house.ask(3, "subscribe", json!({"mid": "0", "track": "t_7"}));
    house.ask(3, "mute", json!({"track": "t_7", "muted": true}));
    house.ask(2, "mute", json!({"track": "t_7", "muted": true}));
    house.ask(2, "unpublish", json!({"track": "t_7"}));
    assert_eq!(house.types(3), ["error unknown_track"; 2]);
    assert_eq!(house.types(2), ["error unknown_track"; 2]);
    assert!(house.commands.is_empty());
    house.ask(2, "subscribe", json!({"mid": "0", "track": "t_7"}));
    let (id, _) = house.command();
    house.outcome(id, media::Reply::Shows(Some(TrackId(7))));
    assert_eq!(house.only(2)["track"], "t_7");
}

#[test]
fn a_slot_never_names_a_track_before_it_was_announced() {
    let mut house = House::new();
    let alice = house.join(1, "Alice", answer(&[], &[("0", None)]));
    house.hello(2);
    house.ask(
        2,
        "join",
        json!({"room": "kitchen", "name": "Bob", "offer": "x", "tracks": camera("0")}),
    );
    house.heard(1);
    let (id, _) = house.offered_peer();
    // The media plane reports what Alice sees before Bob's answer has come.
    house.report(MediaEvent::SlotChanged {
        peer: alice,
        mid: mid("0"),
        track: Some(TrackId(8)),
    });
    assert_eq!(house.types(1), Vec::<String>::new());
    house.outcome(id, media::Reply::Answered(answer(&[("0", 8)], &[])));
    assert_eq!(house.types(1), ["participant_joined", "slot"]);
    // What is not kept back any more is not told twice.
    house.ask(1, "ping", json!({}));
    assert_eq!(house.types(1), ["pong"]);
}

#[test]
fn a_change_is_told_after_the_reply_it_came_after() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[("0", 7)], &[]));
    let bob = house.join(2, "Bob", answer(&[], &[("0", Some(7))]));
    house.heard(2);
    house.ask(2, "subscribe", json!({"mid": "0", "track": "t_7"}));
    let (id, _) = house.command();
    house.report(MediaEvent::SlotChanged {
        peer: bob,
        mid: mid("0"),
        track: None,
    });
    assert_eq!(house.types(2), Vec::<String>::new());
    house.outcome(id, media::Reply::Shows(Some(TrackId(7))));
    assert_eq!(house.types(2), ["subscribed", "slot"]);
}

#[test]
fn a_reply_that_overtakes_a_change_is_not_the_last_word() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[("0", 7)], &[]));
    house.join(2, "Bob", answer(&[("0", 8)], &[]));
    let carol = house.join(3, "Carol", answer(&[], &[("0", None)]));
    house.heard(3);
    let shows = |track: u64| MediaEvent::SlotChanged {
        peer: carol,
        mid: mid("0"),
        track: Some(TrackId(track)),
    };
    house.ask(3, "subscribe", json!({"mid": "0", "track": "t_8"}));
    let (id, _) = house.command();
    house.outcome(id, media::Reply::Shows(Some(TrackId(8))));
    assert_eq!(house.only(3)["track"], "t_8");
    // What the media plane had said before.
    for track in [7, 8] {
        house.report(shows(track));
        assert_eq!(house.only(3)["track"], format!("t_{track}"));
    }
    house.report(shows(8));
    assert_eq!(house.types(3), Vec::<String>::new(), "it is known");
}

#[test]
fn a_lost_socket_is_resumed_and_media_runs_on() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[], &[]));
    let secret = house.hello(2);
    house.ask(2, "join", json!({"room": "kitchen", "name": "Bob"}));
    house.heard(1);
    house.heard(2);
    house.close(2, false);
    house.ask(1, "offer", json!({"sdp": "x", "tracks": camera("0")}));
    let (id, _) = house.offered_peer();
    house.outcome(id, media::Reply::Answered(answer(&[("0", 7)], &[])));
    assert_eq!(house.types(1), ["answer"], "Bob is still there");
    house.pass(DEFAULT_GRACE / 2);
    house.ask(
        3,
        "hello",
        json!({"version": 1, "resume": {"session": secret, "seq": 0}}),
    );
    let heard = house.heard(3);
    assert_eq!(heard[0]["resumed"], true);
    assert_eq!(heard[0]["session"], secret);
    assert_eq!(heard[1]["type"], "track_published");
    assert_eq!(heard.len(), 2);
    house.pass(2 * DEFAULT_GRACE);
    house.ask(3, "ping", json!({}));
    assert_eq!(house.types(3), ["pong"]);
    assert_eq!(house.control.counters().resumed, 1);
}

#[test]
fn a_lost_answer_comes_before_what_happened_after_it() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[("0", 7)], &[]));
    let secret = house.hello(2);
    let join = json!({"room": "kitchen", "name": "Bob", "offer": "offer"});
    let joining = house.ask(2, "join", join.clone());
    house.close(2, false);
    let (id, _) = house.offered_peer();
    house.outcome(id, media::Reply::Answered(answer(&[], &[("0", Some(7))])));
    house.ask(1, "leave", json!({}));
    let resume = json!({"session": secret, "seq": 0});
    let hello = json!({"version": 1, "resume": resume, "unanswered": [joining, 999]});
    house.ask(3, "hello", hello);
    let heard = house.heard(3);
    assert_eq!(heard[0]["resumed"], true);
    assert_eq!(
        (&heard[1]["type"], &heard[1]["re"], &heard[1]["seq"]),
        (&json!("joined"), &json!(joining), &json!(0))
    );
    assert_eq!(heard[1]["participants"][0]["name"], "Alice");
    assert_eq!(
        (&heard[2]["type"], &heard[2]["seq"]),
        (&json!("participant_left"), &json!(1)),
        "who applies them in this order sees nobody"
    );
    assert_eq!(heard.len(), 3);
    // As before, it may ask for it once more.
    let mut again = join;
    again["id"] = joining.into();
    again["type"] = "join".into();
    house.say(3, again);
    assert_eq!(house.types(3), ["joined"]);
}

#[test]
fn a_session_resumed_twice_belongs_to_the_last_socket() {
    let mut house = House::new();
    let secret = house.hello(1);
    let resume = json!({"version": 1, "resume": {"session": secret, "seq": 0}});
    house.ask(2, "hello", resume);
    assert_eq!(house.only(2)["resumed"], true);
    assert_eq!(house.types(1), ["closing replaced"]);
    assert_eq!(house.closed, [SocketId(1)]);
    house.close(1, true);
    house.ask(2, "ping", json!({}));
    assert_eq!(
        house.types(2),
        ["pong"],
        "the old socket's end changes nothing"
    );
}

#[test]
fn a_session_that_is_not_resumed_in_time_leaves_the_room() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[], &[]));
    let bob = house.join(2, "Bob", answer(&[("0", 7)], &[]));
    house.heard(1);
    house.close(2, false);
    assert_eq!(house.types(1), Vec::<String>::new());
    house.pass(DEFAULT_GRACE);
    let left = house.only(1);
    assert_eq!(left["reason"], "connection_lost");
    assert_eq!(house.command().1, media::Request::Close { peer: bob });
    assert_eq!(house.control.counters().sessions, 1);
}

#[test]
fn a_goodbye_needs_no_grace() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[], &[]));
    house.join(2, "Bob", answer(&[], &[]));
    house.heard(1);
    house.close(2, true);
    assert_eq!(house.types(1), ["participant_left"]);
}

#[test]
fn an_unknown_session_begins_anew() {
    let mut house = House::new();
    let resume = json!({"version": 1, "resume": {"session": "guess", "seq": 3}});
    house.ask(1, "hello", resume);
    let welcome = house.only(1);
    assert_eq!(welcome["resumed"], false);
    assert_ne!(welcome["session"], "guess");
    house.ask(2, "hello", json!({"version": 2}));
    assert_eq!(house.types(2), ["error unsupported_version"]);
    assert_eq!(house.closed, [SocketId(2)]);
}

#[test]
fn a_client_that_never_acknowledges_is_let_go() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[("0", 7)], &[]));
    house.join(2, "Bob", answer(&[], &[]));
    house.heard(2);
    for round in 0..10_000 {
        house.ask(1, "mute", json!({"track": "t_7", "muted": round % 2 == 0}));
        let (id, _) = house.command();
        house.outcome(id, media::Reply::Done);
        if !house.closed.is_empty() {
            break;
        }
    }
    assert_eq!(house.closed, [SocketId(2)]);
    assert_eq!(house.types(2).last().unwrap(), "closing slow_client");
    assert_eq!(house.types(1).last().unwrap(), "participant_left");
}

#[test]
fn a_lost_media_connection_is_told_and_replaced() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[("0", 7)], &[]));
    house.join(2, "Bob", answer(&[], &[]));
    house.heard(1);
    house.heard(2);
    let peer = *house
        .control
        .peers
        .iter()
        .min_by_key(|(peer, _)| **peer)
        .unwrap()
        .0;
    house.report(MediaEvent::PeerGone {
        peer,
        reason: GoneReason::WorkerFailed,
    });
    let reconnect = house.only(1);
    assert_eq!(reconnect["type"], "reconnect");
    assert_eq!(reconnect["reason"], "worker_failed");
    assert_eq!(
        house.types(2),
        ["track_unpublished"],
        "but Alice is still there"
    );
    house.ask(1, "offer", json!({"sdp": "x"}));
    assert_eq!(house.types(1), ["error unknown_peer"]);
    house.ask(
        1,
        "offer",
        json!({"sdp": "x", "tracks": camera("0"), "new_connection": true}),
    );
    let (id, fresh) = house.offered_peer();
    assert_ne!(fresh, peer);
    house.outcome(id, media::Reply::Answered(answer(&[("0", 9)], &[])));
    assert_eq!(house.types(1), ["answer"]);
    assert_eq!(house.types(2), ["track_published"]);
    house.report(MediaEvent::PeerConnected { peer: fresh });
    assert_eq!(house.only(1)["state"], "connected");
}

#[test]
fn a_connection_that_could_not_be_encrypted_is_said_to_be_so_with_the_cause() {
    let mut house = House::new();
    let alice = house.join(1, "Alice", answer(&[], &[]));
    house.heard(1);
    house.report(MediaEvent::PeerGone {
        peer: alice,
        reason: GoneReason::DtlsFailed(DtlsFailure::WrongCertificate),
    });
    let event = house.only(1);
    assert_eq!(
        (&event["type"], &event["reason"]),
        (&json!("reconnect"), &json!("dtls_failed"))
    );
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("a=fingerprint"), "{message}");
}

#[test]
fn a_new_connection_ends_the_old_one_first() {
    let mut house = House::new();
    let old = house.join(1, "Alice", answer(&[("0", 7)], &[]));
    house.ask(1, "offer", json!({"sdp": "x", "new_connection": true}));
    let (id, command) = house.command();
    assert_eq!(command, media::Request::Close { peer: old });
    assert!(house.commands.is_empty(), "the offer waits");
    house.outcome(id, media::Reply::Done);
    let (_, media::Request::Offer { peer, offer, .. }) = house.command() else {
        panic!("an offer");
    };
    assert_ne!(peer, old);
    assert_eq!(offer.former, Some(old));
    house.heard(1);
    house.report(MediaEvent::PeerGone {
        peer: old,
        reason: GoneReason::Closed,
    });
    assert_eq!(
        house.types(1),
        Vec::<String>::new(),
        "the old one is nobody's"
    );
}

#[test]
fn a_later_offer_keeps_what_is_published() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[("0", 7)], &[]));
    house.ask(1, "offer", json!({"sdp": "x", "tracks": camera("1")}));
    let (_, media::Request::Offer { offer, .. }) = house.command() else {
        panic!("an offer");
    };
    let lines = ["1", "0"].map(|name| (mid(name), Content::Person));
    assert_eq!(offer.publish, Publish::Mids(lines.to_vec()));
}

#[test]
fn m_lines_that_are_refused_are_named_in_the_reply() {
    let refused = |name: &str| {
        let line = confab_sfu::api::LineName {
            index: 1,
            media: "audio".into(),
            mid: Mid::new(name).ok().map(Box::new),
        };
        let mut answer = answer(&[("0", 7)], &[]);
        answer.refused = vec![(mid(name), SdpError::NotBundled(line))];
        answer
    };
    let mut house = House::new();
    house.join(1, "Alice", refused("mic"));
    let joined = house.only(1);
    assert_eq!(joined["type"], "joined");
    assert_eq!(joined["tracks"].as_array().map(Vec::len), Some(1));
    let line = &joined["refused"][0];
    assert_eq!(
        (&line["mid"], &line["code"]),
        (&json!("mic"), &json!("unsupported_sdp"))
    );
    let message = line["message"].as_str().unwrap();
    assert!(
        message.starts_with("M-line 1 (audio, mid \"mic\")"),
        "{message}"
    );
    house.ask(1, "offer", json!({"sdp": "x", "tracks": []}));
    let (id, _) = house.offered_peer();
    house.outcome(id, media::Reply::Answered(refused("more")));
    assert_eq!(house.only(1)["refused"][0]["mid"], "more");

    // Who has no words but a status to hear of it has the whole offer refused.
    let is_whole = |house: &mut House| match house.command() {
        (_, media::Request::Offer { offer, .. }) => offer.is_whole,
        other => panic!("{other:?}"),
    };
    house.ask(1, "offer", json!({"sdp": "x", "tracks": []}));
    assert!(!is_whole(&mut house));
    for endpoint in [Endpoint::Whip, Endpoint::Whep] {
        house.offer_over_http(endpoint, open_access());
        assert!(is_whole(&mut house), "{endpoint:?}");
    }
}

#[test]
fn a_stopped_m_line_takes_its_track_along() {
    let mut house = House::new();
    let alice = house.join(1, "Alice", answer(&[("0", 7)], &[]));
    house.join(2, "Bob", answer(&[], &[]));
    house.heard(2);
    house.report(MediaEvent::TrackUnpublished {
        peer: alice,
        track: TrackId(7),
    });
    let event = house.only(2);
    assert_eq!(
        (&event["type"], &event["track"]),
        (&json!("track_unpublished"), &json!("t_7"))
    );
}

#[test]
fn a_session_that_ends_while_its_offer_is_answered_leaves_no_peer() {
    let mut house = House::new();
    house.hello(1);
    house.ask(
        1,
        "join",
        json!({"room": "kitchen", "name": "Alice", "offer": "x"}),
    );
    let (id, peer) = house.offered_peer();
    house.close(1, true);
    assert!(house.commands.is_empty(), "the close waits for the offer");
    house.outcome(id, media::Reply::Answered(answer(&[("0", 7)], &[])));
    assert_eq!(house.command().1, media::Request::Close { peer });
    assert_eq!(house.control.counters().rooms, 0);
}

#[test]
fn a_stopping_server_lets_calls_live_and_nobody_in() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[], &[]));
    let session = house.hello(2);
    house.heard(1);
    house
        .control
        .handle_shutdown(house.now, Duration::from_secs(5));
    house.drain();
    let closing = house.only(1);
    assert_eq!(
        (&closing["code"], &closing["in_ms"]),
        (&json!("shutting_down"), &json!(5_000))
    );
    assert_eq!(closing.get("seq"), None);
    house.heard(2);
    house.ask(2, "join", json!({"room": "kitchen", "name": "Bob"}));
    assert_eq!(house.types(2), ["error shutting_down"]);
    house.pass(Duration::from_secs(2));
    let resume = json!({"session": session, "seq": 0});
    house.ask(3, "hello", json!({"version": 1, "resume": resume}));
    let heard = house.heard(3);
    assert_eq!(heard[0]["type"], "welcome");
    assert_eq!(heard[1]["in_ms"], 3_000, "who comes back hears it too");
    house.ask(1, "ping", json!({}));
    assert_eq!(house.types(1), ["pong"]);
    assert!(!house.control.is_empty());
    house.ask(1, "leave", json!({}));
    assert!(house.control.is_empty());
}

#[test]
fn sessions_are_bounded() {
    let mut house = House::with(Config {
        max_sessions: 1,
        ..Config::default()
    });
    house.hello(1);
    house.ask(2, "hello", json!({"version": 1}));
    assert_eq!(house.types(2), ["error server_full"]);
}

#[test]
fn a_view_reaches_the_media_plane_and_is_refused_with_a_reason() {
    let mut house = House::new();
    let peer = house.join(1, "Alice", answer(&[], &[("0", None), ("1", None)]));
    house.heard(1);
    let slots = json!([
        {"mid": "0", "visible": true, "width": 1_u64 << 60, "height": 360, "frame_rate": 30},
        {"mid": "1", "visible": false},
    ]);
    house.ask(1, "view", json!({"slots": slots}));
    let (id, command) = house.command();
    let media::Request::SetView { peer: whose, views } = command else {
        panic!("{command:?}");
    };
    let wide = api::SlotView {
        visible: true,
        width: Some(65_535),
        height: Some(360),
        frame_rate: Some(30),
    };
    let hidden = api::SlotView {
        visible: false,
        ..api::SlotView::default()
    };
    assert_eq!(
        (whose, views),
        (peer, vec![(mid("0"), wide), (mid("1"), hidden)])
    );
    house.outcome(id, media::Reply::Done);
    assert_eq!(house.types(1), ["viewed"]);

    let slot = json!({"mid": "0", "visible": true});
    house.ask(1, "view", json!({"slots": vec![slot.clone(); 65]}));
    let refused = house.only(1);
    assert_eq!(refused["code"], "bad_request");
    assert_eq!(
        refused["message"],
        "A `view` request has 64 slots at most, not 65."
    );
    house.ask(1, "view", json!({"slots": vec![slot; 64]}));
    let (id, _) = house.command();
    house.outcome(
        id,
        media::Reply::Refused(api::CommandError::UnknownMid(mid("0")).into()),
    );
    assert_eq!(house.types(1), ["error unknown_mid"]);
    for wrong in [
        json!({"mid": "0", "visible": true, "width": -1}),
        json!({"mid": "0", "visible": true, "height": 0.5}),
        json!({"mid": "0", "visible": true, "frame_rate": "30"}),
        json!({"mid": "0"}),
        json!({"mid": "0", "visible": true, "depth": 3}),
    ] {
        let request = json!({"id": 999, "type": "view", "slots": [wrong]});
        let malformed = ClientMessage::parse(&request.to_string()).unwrap_err();
        let failure = malformed.failure;
        assert_eq!(failure.code, ErrorCode::BadRequest, "{wrong}");
        let start = "The `view` request is not valid: ";
        assert!(failure.message.starts_with(start), "{}", failure.message);
    }
    assert!(house.commands.is_empty());
}

#[test]
fn a_pause_is_told_unless_the_client_asked_for_it() {
    let mut house = House::new();
    let peer = house.join(1, "Alice", answer(&[], &[("0", None)]));
    house.heard(1);
    let paused = |reason| MediaEvent::SlotPaused {
        peer,
        mid: mid("0"),
        reason,
    };
    for (reason, told) in [
        (Some(api::Reason::Hidden), None),
        (None, None),
        (Some(api::Reason::NoBandwidth), Some(json!("no_bandwidth"))),
        (Some(api::Reason::NotOffered), Some(json!("not_offered"))),
        (Some(api::Reason::Codec(Codec::Vp8)), Some(json!("codec"))),
        (Some(api::Reason::Hidden), None),
        (None, Some(Value::Null)),
        (None, None),
    ] {
        house.report(paused(reason));
        let heard = house.heard(1);
        assert_eq!(
            heard.first().map(|event| event["reason"].clone()),
            told,
            "{reason:?}"
        );
        assert!(heard.iter().all(|event| event["type"] == "slot_paused"));
    }
    // While a command is on its way only the last state is kept.
    house.ask(1, "quality", json!({}));
    let (id, _) = house.command();
    for _ in 0..1000 {
        house.report(paused(Some(api::Reason::NoBandwidth)));
        house.report(paused(None));
    }
    house.outcome(id, media::Reply::PeerStats(Box::default()));
    assert_eq!(house.types(1), ["quality"]);
}

#[test]
fn a_publisher_hears_which_of_its_layers_are_wanted() {
    let mut house = House::new();
    let alice = house.join(1, "Alice", answer(&[("0", 7)], &[]));
    house.join(2, "Bob", answer(&[], &[("0", Some(7))]));
    house.heard(1);
    house.heard(2);
    let wanted = |track, bitrate| MediaEvent::LayersWanted {
        peer: alice,
        track: TrackId(track),
        encodings: vec![true, true, false],
        bitrate,
    };
    house.report(wanted(7, None));
    house.report(wanted(8, None));
    let event = house.only(1);
    assert_eq!(event["type"], "layers");
    assert_eq!(event["track"], "t_7");
    assert_eq!(event["encodings"], json!([true, true, false]));
    assert_eq!(event.get("bitrate"), None);
    house.report(wanted(7, Some(confab_sfu::units::Bitrate::kbps(300))));
    assert_eq!(house.only(1)["bitrate"], 300_000);
    assert_eq!(house.types(2), Vec::<String>::new());
}

#[test]
fn everybody_in_the_room_hears_who_has_the_floor_and_newcomers_too() {
    let mut house = House::new();
    let alice = house.join(1, "Alice", answer(&[("0", 7)], &[]));
    let id = house.only(1)["participant"].clone();
    house.join(2, "Bob", answer(&[], &[]));
    house.hello(4);
    house.ask(4, "join", json!({"room": "cellar", "name": "Eve"}));
    for socket in [1, 2, 4] {
        house.heard(socket);
    }
    let room = house
        .control
        .members
        .values()
        .find(|m| m.peer == Some(alice));
    let room = room.unwrap().room;
    let dominant = Some(alice);
    house.report(MediaEvent::Speakers { room, dominant });
    for socket in [1, 2] {
        let event = house.only(socket);
        assert_eq!(
            (&event["type"], &event["dominant"]),
            (&json!("speakers"), &id)
        );
    }
    assert_eq!(house.types(4), Vec::<String>::new());
    house.join(3, "Carol", answer(&[], &[]));
    let heard = house.heard(3);
    assert_eq!(heard[0]["type"], "joined");
    assert_eq!(
        (&heard[1]["type"], &heard[1]["dominant"]),
        (&json!("speakers"), &id)
    );
    house.close(1, true);
    assert!(matches!(house.command(), (_, media::Request::Close { .. })));
    house.heard(2);
    let dominant = None;
    house.report(MediaEvent::Speakers { room, dominant });
    assert_eq!(house.only(2)["dominant"], Value::Null);
    house.join(5, "Dave", answer(&[], &[]));
    assert_eq!(house.types(5), ["joined"]);
}

fn open_access() -> Access {
    Auth::open()
        .check(None, std::time::SystemTime::now())
        .unwrap()
}

impl House {
    fn http(&mut self, request: HttpRequest) -> TicketId {
        self.next_id += 1;
        let ticket = TicketId(self.next_id);
        self.control.handle_http(self.now, ticket, request);
        self.drain();
        ticket
    }

    /// A client over HTTP offers something, of whom nothing is known but its token.
    fn offer_over_http(&mut self, endpoint: Endpoint, access: Access) -> TicketId {
        self.http(HttpRequest::Create {
            endpoint,
            room: "kitchen".parse().unwrap(),
            name: None,
            identity: None,
            access,
            from: self.from,
            sdp: "v=0\r\n".into(),
        })
    }

    fn with_limits(limits: Limits) -> House {
        House::with(Config {
            limits,
            ..Config::default()
        })
    }

    fn publish_over_http(&mut self, answer: Answer) -> HttpAnswer {
        let ticket = self.http(HttpRequest::Create {
            endpoint: Endpoint::Whip,
            room: "kitchen".parse().unwrap(),
            name: Some("Encoder".into()),
            identity: None,
            access: open_access(),
            from: self.from,
            sdp: "v=0\r\na=ice-ufrag:old\r\n".into(),
        });
        let (id, peer) = self.offered_peer();
        self.outcome(id, media::Reply::Answered(answer));
        self.report(MediaEvent::PeerConnected { peer });
        self.http.remove(&ticket).unwrap()
    }
}

fn address(secret: &str) -> Address {
    Address {
        endpoint: Endpoint::Whip,
        room: "kitchen".parse().unwrap(),
        secret: secret.to_owned(),
    }
}

#[test]
fn a_whip_client_is_a_participant_like_any_other() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[], &[]));
    house.heard(1);
    let created = house.publish_over_http(answer(&[("0", 7)], &[]));
    let HttpAnswer::Created { secret, etag, .. } = created else {
        panic!("{created:?}");
    };
    assert_eq!(etag, "\"1\"");
    let joined = house.only(1);
    assert_eq!(joined["participant"]["name"], "Encoder");
    assert_eq!(joined["participant"]["tracks"][0]["source"], "camera");

    let patch = |if_match: Option<&str>, ufrag: &str| HttpRequest::Patch {
        address: address(&secret),
        if_match: if_match.map(str::to_owned),
        fragment: format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:x\r\n"),
    };
    for (request, expected) in [
        (patch(None, "new"), HttpAnswer::PreconditionRequired),
        (patch(Some("\"0\""), "new"), HttpAnswer::PreconditionFailed),
        (patch(Some("\"1\""), "old"), HttpAnswer::Unchanged),
    ] {
        let ticket = house.http(request);
        assert_eq!(house.http.remove(&ticket), Some(expected));
    }
    let ticket = house.http(patch(Some("*"), "new"));
    let (id, command) = house.command();
    assert!(matches!(command, media::Request::RestartIce { .. }));
    house.outcome(id, media::Reply::IceRestarted("fragment".into()));
    let etag = "\"2\"".to_owned();
    let fragment = "fragment".to_owned();
    let restarted = HttpAnswer::Restarted { fragment, etag };
    assert_eq!(house.http.remove(&ticket), Some(restarted));

    let wrong = house.http(HttpRequest::Delete(Address {
        endpoint: Endpoint::Whep,
        ..address(&secret)
    }));
    let guessed = house.http(HttpRequest::Delete(address("guess")));
    let right = house.http(HttpRequest::Delete(address(&secret)));
    let again = house.http(HttpRequest::Delete(address(&secret)));
    for (ticket, expected) in [
        (wrong, HttpAnswer::NotFound),
        (guessed, HttpAnswer::NotFound),
        (right, HttpAnswer::Deleted),
        (again, HttpAnswer::NotFound),
    ] {
        assert_eq!(house.http.remove(&ticket), Some(expected));
    }
    assert_eq!(house.types(1), ["participant_left"]);
}

#[test]
fn a_whip_client_with_too_many_tracks_or_a_lost_connection_is_gone() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[], &[]));
    house.heard(1);
    let names: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    let nine: Vec<_> = names
        .iter()
        .zip(1..)
        .map(|(n, t)| (n.as_str(), t))
        .collect();
    let refused = house.publish_over_http(answer(&nine, &[]));
    assert!(matches!(refused, HttpAnswer::Refused(f) if f.code == ErrorCode::TooManyTracks));
    assert!(matches!(house.command(), (_, media::Request::Close { .. })));
    assert_eq!(house.types(1), Vec::<String>::new());

    house.publish_over_http(answer(&[("0", 7)], &[]));
    let peer = *house.control.peers.keys().max().unwrap();
    let reason = GoneReason::ConsentLost;
    house.report(MediaEvent::PeerGone { peer, reason });
    assert_eq!(
        house.types(1),
        [
            "participant_joined",
            "track_unpublished",
            "participant_left"
        ]
    );
}

/// What a token says of somebody.
fn token(identity: &str, publish: bool, subscribe: bool) -> Access {
    Access {
        identity: Some(identity.to_owned()),
        room: Some("kitchen".parse().unwrap()),
        name: None,
        metadata: Some(format!("{{\"who\":\"{identity}\"}}")),
        grants: Grants {
            publish,
            subscribe,
            invite: false,
        },
        expires_in: None,
    }
}

impl House {
    /// A session over HTTP, whose media connection is up, and whose tracks it is not shown.
    fn create(
        &mut self,
        endpoint: Endpoint,
        access: Access,
        tracks: &[(&str, u64)],
    ) -> (String, api::Offer) {
        let ticket = self.offer_over_http(endpoint, access);
        let (id, media::Request::Offer { offer, peer, .. }) = self.command() else {
            panic!("an offer");
        };
        self.outcome(id, media::Reply::Answered(answer(tracks, &[])));
        self.report(MediaEvent::PeerConnected { peer });
        match self.http.remove(&ticket).unwrap() {
            HttpAnswer::Created { secret, .. } => (secret, offer),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_viewer_is_counted_until_it_publishes_and_after_a_resume_too() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[], &[]));
    assert_eq!(house.only(1)["viewers"], 0);
    let session = house.hello(2);
    house.ask(2, "join", json!({"room": "kitchen", "offer": "x"}));
    let (id, _) = house.offered_peer();
    house.outcome(id, media::Reply::Answered(answer(&[], &[("0", None)])));
    let joined = house.heard(2).remove(0);
    assert_eq!(
        (&joined["name"], &joined["viewers"]),
        (&Value::Null, &json!(1))
    );
    assert_eq!(joined["participants"][0]["name"], "Alice");
    let told = house.only(1);
    assert_eq!(
        (&told["type"], &told["viewers"]),
        (&json!("viewers"), &json!(1))
    );
    // Its network changes: nobody notices.
    house.close(2, false);
    let resume = json!({"session": session, "seq": 0});
    house.ask(3, "hello", json!({"version": 1, "resume": resume}));
    house.heard(3);
    house.pass(Duration::from_secs(2));
    assert_eq!(house.types(1), Vec::<String>::new());
    house.ask(3, "publish", json!({"mid": "1", "source": "camera"}));
    let (id, _) = house.command();
    let info = TrackInfo {
        track: TrackId(7),
        mid: mid("1"),
        kind: Kind::Video,
    };
    house.outcome(id, media::Reply::Published(info));
    let told = house.heard(1);
    assert_eq!(told[0]["type"], "participant_joined");
    assert_eq!(told[0]["participant"]["tracks"][0]["id"], "t_7");
    assert_eq!(told[1]["viewers"], 0);
    assert_eq!(house.control.counters().participants, 2);
    house.close(3, true);
    assert_eq!(house.types(1), ["participant_left"]);
}

#[test]
fn a_room_is_full_of_viewers_too() {
    let mut house = House::with_limits(Limits {
        participants: 1,
        ..Limits::default()
    });
    house.hello(1);
    house.ask(1, "join", json!({"room": "kitchen"}));
    house.heard(1);
    house.hello(2);
    house.ask(2, "join", json!({"room": "kitchen", "name": "Bob"}));
    assert_eq!(house.types(2), ["error room_full"]);
    assert_eq!(house.control.counters().viewers, 1);
    assert!(
        !house.control.is_empty(),
        "a stopping server waits for viewers"
    );
}

#[test]
fn one_who_publishes_and_watches_over_http_is_one_person_who_does_not_see_himself() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[], &[]));
    house.heard(1);
    let ada = token("ada", true, true);
    let (_, sends) = house.create(Endpoint::Whip, ada.clone(), &[("0", 7)]);
    let (watching, receives) = house.create(Endpoint::Whep, ada, &[]);
    let (_, other) = house.create(Endpoint::Whep, token("bob", true, true), &[]);
    assert!(sends.person.is_some());
    assert_eq!(receives.person, sends.person);
    assert_ne!(other.person, sends.person);
    let told = house.heard(1);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0]["participant"]["identity"], "ada");
    assert_eq!(told[0]["participant"]["metadata"], "{\"who\":\"ada\"}");
    assert_eq!(told[1]["viewers"], 1, "Bob");
    // Its quality is that of what it receives.
    let id = told[0]["participant"]["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let ticket = house.http(HttpRequest::Quality {
        room: "kitchen".parse().unwrap(),
        participant: id,
        access: open_access(),
    });
    let (command, media::Request::PeerStats { peer }) = house.command() else {
        panic!("a question");
    };
    let receiving = house.control.by_resource[&watching];
    assert_eq!(house.control.members[&receiving].peer, Some(peer));
    house.outcome(command, media::Reply::PeerStats(Box::default()));
    assert!(matches!(house.http[&ticket], HttpAnswer::Quality(_)));
    let delete = HttpRequest::Delete(Address {
        endpoint: Endpoint::Whep,
        ..address(&watching)
    });
    house.http(delete);
    house.pass(Duration::from_secs(2));
    assert_eq!(
        house.types(1),
        Vec::<String>::new(),
        "it is there as before"
    );
}

#[test]
fn two_devices_of_one_identity_are_two_participants() {
    let mut house = House::new();
    house.access = Ok(token("ada", true, true));
    house.join(1, "Ada", answer(&[("0", 7)], &[]));
    house.join(2, "Ada", answer(&[("0", 8)], &[("1", Some(7))]));
    let joined = house.only(2);
    assert_eq!(joined["participants"][0]["identity"], "ada");
    assert_eq!(joined["slots"][0]["track"], "t_7", "each sees the other");
    assert_eq!(joined["identity"], "ada");
    assert_eq!(joined["metadata"], "{\"who\":\"ada\"}");
    assert_eq!(joined["name"], "Ada");
}

#[test]
fn who_joins_is_told_what_it_may_do() {
    for (publish, subscribe) in [(true, true), (false, true), (true, false)] {
        let mut house = House::new();
        house.access = Ok(token("ada", publish, subscribe));
        house.join(1, "Ada", answer(&[], &[("1", None)]));
        let permissions = house.only(1)["permissions"].clone();
        let expected = json!({"publish": publish, "subscribe": subscribe});
        assert_eq!(permissions, expected);
        house.ask(1, "publish", json!({"mid": "0", "source": "camera"}));
        let types = house.types(1);
        assert_eq!(types == ["error not_allowed"], !publish, "{types:?}");
        if publish {
            let (id, _) = house.command();
            house.outcome(
                id,
                media::Reply::Refused(api::CommandError::UnknownMid(mid("0")).into()),
            );
            house.heard(1);
        }
        house.ask(1, "subscribe", json!({"mid": "1", "auto": true}));
        let types = house.types(1);
        assert_eq!(types == ["error not_allowed"], !subscribe, "{types:?}");
    }
}
