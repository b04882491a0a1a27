//! WebSockets over real sockets: what each mistake gets, and that nothing is lost.

#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

mod common;

use std::io::Read;
use std::time::{Duration, SystemTime};

use common::{Client, House, raise_descriptors, settings};
use confab_sfu::api::{Event, GoneReason};
use confab_signaling::Settings;
use confab_signaling::auth::{ApiKey, Auth, Grants, TokenRequest};
use confab_signaling::connection::MAX_MESSAGE_BYTES;
use flate2::Compression;
use flate2::read::DeflateEncoder;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_whole_call() {
    let house = House::new().await;
    let mut alice = house.guest("Alice", "send 0, receive 1").await;
    let mut bob = house.guest("Bob", "receive 0").await;
    let event = alice.event().await;
    assert_eq!(event["participant"]["name"], "Bob");
    let bob_id = event["participant"]["id"].clone();
    let published = bob
        .ask("publish", json!({"mid": "5", "source": "microphone"}))
        .await;
    assert_eq!(published["kind"], "audio");
    let event = alice.event().await;
    assert_eq!(
        (&event["type"], &event["participant"]),
        (&json!("track_published"), &bob_id)
    );
    assert_eq!(event["track"]["source"], "microphone");
    let track = published["track"].clone();
    bob.ask("mute", json!({"track": track, "muted": true}))
        .await;
    assert_eq!(alice.event().await["muted"], true);
    let pinned = alice
        .ask("subscribe", json!({"mid": "1", "track": track}))
        .await;
    assert_eq!(pinned["track"], track);
    let refused = alice
        .ask("subscribe", json!({"mid": "nowhere", "auto": true}))
        .await;
    assert_eq!(refused["code"], "unknown_mid");
    bob.ask("unpublish", json!({"track": track})).await;
    assert_eq!(alice.event().await["type"], "track_unpublished");
    assert_eq!(bob.ask("leave", json!({})).await["type"], "left");
    assert_eq!(alice.event().await["type"], "participant_left");
    assert_eq!(alice.ask("ping", json!({})).await["type"], "pong");
}

#[tokio::test]
async fn what_is_shown_is_said_and_what_is_got_is_asked() {
    let house = House::new().await;
    let mut alice = house.guest("Alice", "receive 1").await;
    let slot = json!({"mid": "1", "visible": true, "width": 1_u64 << 60, "height": 360});
    let viewed = alice.ask("view", json!({"slots": [slot]})).await;
    assert_eq!(viewed["type"], "viewed");
    let [(mid, view)] = house.sfu.views(house.sfu.peers()[0])[..] else {
        panic!("one view");
    };
    assert_eq!(
        (mid.as_str(), view.width, view.height),
        ("1", Some(65_535), Some(360))
    );
    let quality = alice.ask("quality", json!({})).await;
    assert_eq!(quality["type"], "quality");
    assert_eq!(quality["estimate"], 910_000);
    assert_eq!(quality["limit"], "delay");
    assert_eq!(quality["round_trip"], serde_json::Value::Null);
    let slot = &quality["slots"][0];
    assert_eq!((&slot["mid"], &slot["track"]), (&json!("1"), &json!("t_7")));
    assert_eq!(
        (&slot["width"], &slot["height"]),
        (&json!(65_535), &json!(360))
    );
    assert_eq!(
        (&slot["layer"], &slot["reason"]),
        (&json!(null), &json!("no_bandwidth"))
    );
    let explanation = slot["explanation"].as_str().unwrap();
    assert!(explanation.contains("0.9 Mbit/s"), "{explanation}");

    let many: Vec<_> = (0..65)
        .map(|n| json!({"mid": n.to_string(), "visible": true}))
        .collect();
    for (slots, code) in [
        (json!(many), "bad_request"),
        (json!([{"mid": "nowhere", "visible": true}]), "unknown_mid"),
        (
            json!([{"mid": "1", "visible": true, "width": -1}]),
            "bad_request",
        ),
        (
            json!([{"mid": "1", "visible": true, "height": 1.5}]),
            "bad_request",
        ),
    ] {
        let refused = alice.ask("view", json!({"slots": slots})).await;
        assert_eq!(refused["code"], code, "{slots}");
        assert!(refused["message"].as_str().unwrap().ends_with('.'));
    }
    let mut bob = house.client().await;
    bob.ask("join", json!({"room": "kitchen", "name": "Bob"}))
        .await;
    for (kind, body) in [("view", json!({"slots": []})), ("quality", json!({}))] {
        assert_eq!(bob.ask(kind, body).await["code"], "unknown_peer", "{kind}");
    }
}

#[tokio::test]
async fn every_mistake_gets_its_code_and_the_socket_lives_on() {
    let house = House::new().await;
    let mut client = house.socket().await;
    assert_eq!(client.ask("ping", json!({})).await["code"], "hello_first");
    assert_eq!(
        client.ask("hello", json!({"version": 1})).await["type"],
        "welcome"
    );
    assert_eq!(
        client.ask("hello", json!({"version": 1})).await["code"],
        "already_greeted"
    );
    for (text, code) in [
        ("{", "bad_message"),
        ("[1]", "bad_message"),
        ("{\"type\":\"ping\"}", "bad_message"),
        ("{\"type\":\"dance\"}", "unknown_type"),
    ] {
        client.send_text(text).await;
        let error = client.frame().await.unwrap();
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("error"), &json!(code)),
            "{text}"
        );
        assert_eq!(error.get("re"), None);
    }
    client.send_text("{\"type\":\"ack\"}").await;
    assert_eq!(client.frame().await.unwrap()["code"], "bad_request");
    client.send_binary(vec![1, 2, 3]).await;
    assert_eq!(client.frame().await.unwrap()["code"], "bad_message");
    assert_eq!(client.ask("dance", json!({})).await["code"], "unknown_type");
    assert_eq!(
        client.ask("join", json!({"rom": "x"})).await["code"],
        "bad_request"
    );
    let refused = client
        .ask("join", json!({"room": "r", "name": "A", "offer": "bad"}))
        .await;
    assert_eq!(refused["code"], "overloaded");
    let refused = client
        .ask("join", json!({"room": "r", "name": "A", "offer": "panic"}))
        .await;
    assert_eq!(refused["code"], "internal");
    let joined = client.ask("join", json!({"room": "r", "name": "A"})).await;
    assert_eq!(joined["type"], "joined");
    let twice = client.ask("join", json!({"room": "r", "name": "A"})).await;
    assert_eq!(twice["code"], "already_joined");
}

#[tokio::test]
async fn a_refused_hello_ends_the_socket() {
    let house = House::new().await;
    let mut client = house.socket().await;
    let refused = client.ask("hello", json!({"version": 7})).await;
    assert_eq!(refused["code"], "unsupported_version");
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn what_is_too_large_or_too_much_ends_the_socket_and_not_the_session() {
    let house = House::new().await;
    let mut client = house.client().await;
    client.send_text(" ".repeat(MAX_MESSAGE_BYTES + 1)).await;
    assert_eq!(client.closing().await, "too_large");

    let mut flooder = house.client().await;
    flooder.ask("join", json!({"room": "kitchen"})).await;
    for id in 10..100 {
        flooder.send(id, "ping", json!({})).await;
    }
    assert_eq!(flooder.closing().await, "too_many_requests");
    let mut back = house.socket().await;
    let resume = json!({"session": flooder.session, "seq": 0});
    let welcome = back
        .ask("hello", json!({"version": 1, "resume": resume}))
        .await;
    assert_eq!(welcome["resumed"], true);
}

#[tokio::test]
async fn long_messages_may_be_compressed_both_ways() {
    let house = House::new().await;
    let offer: Vec<_> = (0..50).map(|mid| format!("receive {mid}")).collect();
    let join = json!({"id": 2, "type": "join", "room": "kitchen", "name": "Ada", "offer": offer.join(", ")});
    for (deflate, expected) in [(true, 1), (false, 0)] {
        let mut client = house.socket().await;
        let hello = json!({"version": 1, "deflate": deflate});
        client.ask("hello", hello).await;
        client.send_binary(deflated(&join.to_string())).await;
        let joined = client.reply(2).await;
        assert_eq!(joined["slots"].as_array().unwrap().len(), 50);
        assert_eq!(client.deflated, expected, "the short ones are not");
    }
}

#[tokio::test]
async fn a_compressed_message_is_bounded_by_what_it_grows_to() {
    let house = House::new().await;
    let mut client = house.client().await;
    client
        .send_binary(deflated(&" ".repeat(100 * MAX_MESSAGE_BYTES)))
        .await;
    assert_eq!(client.closing().await, "too_large");
}

fn deflated(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    DeflateEncoder::new(text.as_bytes(), Compression::default())
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

#[tokio::test]
async fn many_acknowledgements_are_no_flood() {
    let house = House::new().await;
    let mut client = house.client().await;
    for seq in 0..200 {
        client
            .send_text(format!("{{\"type\":\"ack\",\"seq\":{seq}}}"))
            .await;
    }
    assert_eq!(client.ask("ping", json!({})).await["type"], "pong");
}

#[tokio::test]
async fn a_frame_beyond_all_bounds_is_not_even_read_and_its_client_is_told() {
    let house = House::new().await;
    let mut client = house.client().await;
    client.send_text(" ".repeat(5 * MAX_MESSAGE_BYTES)).await;
    assert_eq!(client.closing().await, "too_large");
    let mut other = house.client().await;
    assert_eq!(other.ask("ping", json!({})).await["type"], "pong");
}

#[tokio::test]
async fn a_repeated_request_is_answered_with_the_first_answer() {
    let house = House::new().await;
    let mut client = house.client().await;
    let join = json!({"room": "kitchen", "name": "Alice"});
    client.send(100, "join", join.clone()).await;
    let first = client.reply(100).await;
    client.send(100, "join", join).await;
    assert_eq!(client.reply(100).await, first);
}

#[tokio::test]
async fn a_phone_that_changes_networks_loses_nothing() {
    let house = House::new().await;
    let mut alice = house.guest("Alice", "receive 0").await;
    let bob = house.guest("Bob", "receive 0").await;
    assert_eq!(alice.event().await["type"], "participant_joined");
    // Bob's offer is being answered when his socket dies, and Alice publishes meanwhile.
    let mut bob = bob;
    bob.send(50, "offer", json!({"sdp": "slow, receive 0"}))
        .await;
    let session = bob.session.clone();
    bob.vanish().await;
    let published = alice
        .ask("publish", json!({"mid": "5", "source": "screen"}))
        .await;
    house.sfu.release();
    let mut bob = house.socket().await;
    let resume = json!({"session": session, "seq": 0});
    bob.send(60, "hello", json!({"version": 1, "resume": resume}))
        .await;
    let welcome = bob.reply(60).await;
    assert_eq!(welcome["resumed"], true);
    let event = bob.event().await;
    assert_eq!(
        (&event["seq"], &event["track"]["id"]),
        (&json!(1), &published["track"])
    );
    // The request that had no answer is sent again under its old id.
    bob.send(50, "offer", json!({"sdp": "slow, receive 0"}))
        .await;
    assert_eq!(bob.reply(50).await["type"], "answer");
    assert_eq!(house.sfu.peers().len(), 2, "carried out once");
    alice.ask("ping", json!({})).await;
    let left = tokio::time::timeout(Duration::from_millis(100), alice.event()).await;
    assert!(left.is_err(), "Alice noticed nothing");
}

#[tokio::test]
async fn the_old_socket_of_a_resumed_session_is_closed() {
    let house = House::new().await;
    let mut old = house.client().await;
    let mut new = house.socket().await;
    let resume = json!({"session": old.session, "seq": 0});
    new.ask("hello", json!({"version": 1, "resume": resume}))
        .await;
    assert_eq!(old.closing().await, "replaced");
    assert_eq!(new.ask("ping", json!({})).await["type"], "pong");
}

#[tokio::test]
async fn who_says_goodbye_leaves_at_once_and_who_vanishes_after_the_grace() {
    let mut settings = settings();
    settings.control.grace = Duration::from_millis(200);
    let house = House::with(settings).await;
    let mut alice = house.guest("Alice", "receive 0").await;
    let bob = house.guest("Bob", "receive 0").await;
    let carol = house.guest("Carol", "receive 0").await;
    alice.event().await;
    alice.event().await;
    bob.goodbye().await;
    assert_eq!(alice.event().await["reason"], "left");
    carol.vanish().await;
    assert_eq!(alice.event().await["reason"], "connection_lost");
    alice.ask("ping", json!({})).await;
    assert_eq!(house.sfu.peers().len(), 1);
}

#[tokio::test]
async fn a_lost_media_connection_is_told() {
    let house = House::new().await;
    let mut alice = house.guest("Alice", "send 0").await;
    let peer = house.sfu.peers()[0];
    house.sfu.report(Event::PeerConnected { peer }).await;
    let media = alice.event().await;
    assert_eq!(
        (&media["type"], &media["state"]),
        (&json!("media"), &json!("connected"))
    );
    let reason = GoneReason::ConsentLost;
    house.sfu.report(Event::PeerGone { peer, reason }).await;
    let reconnect = alice.event().await;
    assert_eq!(reconnect["reason"], "consent_lost");
    let offer = json!({"sdp": "send 0", "new_connection": true});
    assert_eq!(alice.ask("offer", offer).await["type"], "answer");
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_nobody_down() {
    let house = House::new().await;
    let mut alice = house.guest("Alice", "send 0").await;
    let deaf = house.guest("Deaf", "receive 0").await;
    alice.event().await;
    let name = "é".repeat(64);
    let mut slowest = Duration::ZERO;
    for _ in 0..60 {
        let start = std::time::Instant::now();
        let body = json!({"mid": "9", "source": "other", "name": name});
        let published = alice.ask("publish", body).await;
        alice
            .ask("unpublish", json!({"track": published["track"]}))
            .await;
        slowest = slowest.max(start.elapsed());
        // Within the rate of messages.
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
    deaf.vanish().await;
}

#[tokio::test]
async fn only_known_origins_may_connect() {
    let house = House::new().await;
    let own = format!("http://{}", house.address);
    for origin in [None, Some(own.as_str()), Some("https://app.example.org")] {
        assert!(
            Client::connect(house.address, origin).await.is_ok(),
            "{origin:?}"
        );
    }
    for origin in ["https://evil.example.org", "null"] {
        assert_eq!(
            Client::connect(house.address, Some(origin)).await.err(),
            Some(403)
        );
    }
}

#[tokio::test]
async fn sockets_are_bounded() {
    let mut settings = settings();
    settings.control.max_sessions = 1;
    let house = House::with(settings).await;
    let first = house.client().await;
    let mut second = house.socket().await;
    let refused = second.ask("hello", json!({"version": 1})).await;
    assert_eq!(refused["code"], "server_full");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("1 sessions"), "{message}");
    first.goodbye().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    house.client().await;
}

fn key() -> ApiKey {
    ApiKey::new("main".into(), "0123456789abcdef0123456789abcdef".into()).unwrap()
}

fn token(room: &str, publish: bool) -> String {
    let request = TokenRequest {
        room: room.parse().unwrap(),
        identity: "alice".into(),
        name: Some("Alice of the token".into()),
        metadata: Some("{\"seat\": 7}".into()),
        grants: Grants {
            publish,
            subscribe: true,
            invite: false,
        },
        lifetime: Duration::from_secs(60),
    };
    key().mint(&request, SystemTime::now()).unwrap()
}

#[tokio::test]
async fn a_token_opens_its_room_and_no_other() {
    let auth = Auth::with_key(key());
    let house = House::with(Settings { auth, ..settings() }).await;
    for hello in [
        json!({"version": 1}),
        json!({"version": 1, "token": "nonsense"}),
    ] {
        let mut client = house.socket().await;
        assert_eq!(client.ask("hello", hello).await["code"], "unauthorized");
        assert_eq!(client.frame().await, None);
    }
    let mut alice = house.socket().await;
    let hello = json!({"version": 1, "token": token("kitchen", false)});
    assert_eq!(alice.ask("hello", hello).await["type"], "welcome");
    let join = |room: &str| json!({"room": room, "name": "Mallory", "offer": "send 0"});
    let refused = alice.ask("join", join("cellar")).await;
    assert_eq!(
        (&refused["code"], &refused["reason"]),
        (&json!("wrong_room"), &json!("other_room"))
    );
    let text = "The access token is for the room \"kitchen\", not for the room \"cellar\".";
    assert_eq!(refused["message"], text);
    let mut bob = house.socket().await;
    let hello = json!({"version": 1, "token": token("kitchen", true)});
    bob.ask("hello", hello).await;
    bob.ask("join", json!({"room": "kitchen", "name": "Bob"}))
        .await;
    let joined = alice.ask("join", join("kitchen")).await;
    assert_eq!(joined["tracks"], json!([]), "it may not publish");
    let permissions = json!({"publish": false, "subscribe": true});
    assert_eq!(joined["permissions"], permissions, "and is told so");
    assert_eq!(joined["name"], "Alice of the token");
    let event = bob.event().await;
    assert_eq!(event["participant"]["name"], "Alice of the token");
    assert_eq!(event["participant"]["identity"], "alice");
    assert_eq!(event["participant"]["metadata"], "{\"seat\": 7}");
    let publish = json!({"mid": "0", "source": "camera"});
    assert_eq!(alice.ask("publish", publish).await["code"], "not_allowed");
}

#[tokio::test]
async fn a_stopping_server_says_so_and_ends_when_everybody_has_left() {
    let mut house = House::with(Settings {
        drain: Duration::from_secs(60),
        ..settings()
    })
    .await;
    let mut alice = house.guest("Alice", "send 0").await;
    assert_eq!(house.http("GET", "/health/ready", "", "").await.status, 200);
    house.stop();
    let closing = alice.event().await;
    assert_eq!(
        (&closing["type"], &closing["code"]),
        (&json!("closing"), &json!("shutting_down"))
    );
    assert_eq!(closing["in_ms"], 60_000);
    assert_eq!(house.http("GET", "/health/ready", "", "").await.status, 503);
    assert_eq!(house.http("GET", "/health/live", "", "").await.status, 200);
    let mut late = house.client().await;
    let join = json!({"room": "kitchen", "name": "Late"});
    assert_eq!(late.ask("join", join).await["code"], "shutting_down");
    assert_eq!(alice.ask("ping", json!({})).await["type"], "pong");
    alice.ask("leave", json!({})).await;
    house.ended().await;
    assert_eq!(alice.frame().await, None);
}

#[tokio::test]
async fn calls_that_outlive_the_drain_deadline_are_ended() {
    let mut house = House::new().await;
    let mut alice = house.guest("Alice", "send 0").await;
    house.stop();
    house.ended().await;
    alice.event().await;
    assert_eq!(alice.frame().await, None);
}

#[tokio::test]
async fn pings_count_as_messages_do() {
    let house = House::new().await;
    let mut client = house.client().await;
    for _ in 0..20 {
        assert!(client.ping().await);
    }
    assert_eq!(client.ask("ping", json!({})).await["type"], "pong");
    for _ in 0..200 {
        client.ping().await;
    }
    assert_eq!(client.closing().await, "too_many_requests");
}

#[tokio::test]
async fn why_a_socket_is_closed_is_read_whatever_the_client_goes_on_sending() {
    let house = House::new().await;
    for round in 0..20 {
        let mut client = house.client().await;
        // More than is read before the server has had enough, so that some is left when it closes.
        for id in 10..400 {
            let ping = json!({"id": id, "type": "ping"}).to_string();
            if !client.try_send(ping).await {
                break;
            }
        }
        assert_eq!(client.closing().await, "too_many_requests", "{round}");
    }
}

#[tokio::test]
async fn a_crowd_of_silent_sockets_keeps_nobody_out() {
    raise_descriptors();
    let house = House::new().await;
    let mut first = house.bare_socket().await;
    let mut crowd = Vec::new();
    for _ in 0..2_000 {
        crowd.push(house.bare_socket().await);
    }
    // Whoever has been silent for longest goes, and is told why.
    let mut told = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), first.read_to_end(&mut told));
    ended.await.expect("it is closed").unwrap();
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("server_full"), "{told}");
    house.client().await;
}

#[tokio::test]
async fn an_unfinished_frame_before_hello_holds_little() {
    let house = House::new().await;
    let mut socket = house.bare_socket().await;
    // A text frame of 200 kB, masked with zeros, most of which never comes.
    let mut frame = vec![0x81, 0xff];
    frame.extend(200_000_u64.to_be_bytes());
    frame.extend([0; 4]);
    frame.resize(100_000, b' ');
    let sent = socket.write_all(&frame).await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest));
    assert!(ended.await.is_ok(), "it is closed: {sent:?}");
    let said = String::from_utf8_lossy(&rest);
    assert!(said.contains(r#""code":"too_large""#), "{said}");
    assert!(said.contains("before `hello`"), "{said}");
    // After hello a message of that length is fine.
    let mut client = house.client().await;
    let text = format!(
        "{}{}",
        " ".repeat(200_000),
        json!({"id": 50, "type": "ping"})
    );
    client.send_text(text).await;
    assert_eq!(client.reply(50).await["type"], "pong");
}

#[tokio::test]
async fn a_server_that_is_started_anew_calls_nobody_what_somebody_was_called_before() {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let house = House::new().await;
        let mut client = house.client().await;
        let join = json!({"room": "kitchen", "name": "Ada"});
        let joined = client.ask("join", join).await;
        ids.push(joined["participant"].as_str().unwrap().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
}

#[tokio::test]
async fn a_token_is_looked_at_again_until_the_session_ends() {
    let auth = Auth::with_key(key());
    let house = House::with(Settings { auth, ..settings() }).await;
    let short = |seconds: u64| {
        let request = TokenRequest {
            room: "kitchen".parse().unwrap(),
            identity: "alice".into(),
            name: None,
            metadata: None,
            grants: Grants::all(),
            lifetime: Duration::from_secs(seconds),
        };
        // Good for ten seconds longer than it says.
        let made = SystemTime::now() - Duration::from_secs(10);
        key().mint(&request, made).unwrap()
    };
    let mut client = house.socket().await;
    let hello = json!({"version": 1, "token": short(2)});
    assert_eq!(client.ask("hello", hello).await["type"], "welcome");
    assert_eq!(client.event().await["type"], "token_expires");
    let renewed = client.ask("renew", json!({"token": short(3)})).await;
    assert_eq!(renewed["type"], "renewed");
    let refused = client.ask("renew", json!({"token": "no token"})).await;
    assert_eq!(refused["code"], "unauthorized");
    assert_eq!(client.event().await["type"], "token_expires");
    assert_eq!(client.closing().await, "token_expired");
}
