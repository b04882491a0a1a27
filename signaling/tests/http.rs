//! WHIP, WHEP, health, metrics and the page over real sockets.

#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::{House, Response, settings};
use confab_signaling::Settings;
use confab_signaling::auth::{ApiKey, Auth, Grants, TokenRequest};
use confab_signaling::connection::MAX_MESSAGE_BYTES;
use confab_signaling::protocol::IceServer;
use confab_signaling::relay::Relay;
use serde_json::json;

const SDP: &str = "Content-Type: application/sdp\r\n";
const FRAGMENT: &str = "Content-Type: application/trickle-ice-sdpfrag\r\n";

async fn publish(house: &House) -> Response {
    let offer = "send 0\r\na=ice-ufrag:old\r\n";
    let created = house
        .http("POST", "/whip/kitchen?name=Stage%20left", SDP, offer)
        .await;
    assert_eq!(created.status, 201, "{created:?}");
    created
}

#[tokio::test]
async fn a_stream_published_over_whip_is_seen_in_the_room_until_it_is_deleted() {
    let house = House::new().await;
    let mut alice = house.guest("Alice", "receive 0").await;
    let created = publish(&house).await;
    assert_eq!(created.header("content-type"), "application/sdp");
    assert!(created.body.starts_with("answer to send 0"));
    assert_eq!(created.header("etag"), "\"1\"");
    let joined = alice.event().await;
    assert_eq!(joined["participant"]["name"], "Stage left");
    let session = created.header("location").to_owned();
    assert!(
        session.starts_with("/whip/kitchen/") && session.len() > 40,
        "{session}"
    );
    assert_eq!(house.http("DELETE", &session, "", "").await.status, 200);
    assert_eq!(alice.event().await["type"], "participant_left");
    assert_eq!(house.http("DELETE", &session, "", "").await.status, 404);
    assert_eq!(house.sfu.closed(), 1);
}

#[tokio::test]
async fn a_whep_client_receives_and_publishes_nothing() {
    let house = House::new().await;
    let mut alice = house.guest("Alice", "send 0").await;
    let created = house
        .http("POST", "/whep/kitchen", SDP, "receive 0, send 1")
        .await;
    assert_eq!(created.status, 201);
    let session = created.header("location");
    assert!(session.starts_with("/whep/kitchen/"));
    let told = alice.event().await;
    assert_eq!(
        (&told["type"], &told["viewers"]),
        (&json!("viewers"), &json!(1))
    );
    assert_eq!(house.http("DELETE", session, "", "").await.status, 200);
    let told = alice.event().await;
    assert_eq!(
        (&told["type"], &told["viewers"]),
        (&json!("viewers"), &json!(0))
    );
    house
        .http("POST", "/whep/kitchen?name=Bob", SDP, "receive 0")
        .await;
    let joined = alice.event().await;
    assert_eq!(joined["participant"]["name"], "Bob");
    assert_eq!(joined["participant"]["tracks"], json!([]));
}

#[tokio::test]
async fn without_tokens_one_may_say_who_one_is() {
    let house = House::new().await;
    let mut alice = house.guest("Alice", "receive 0").await;
    let by = |way: &str| format!("/{way}/kitchen?identity=ada");
    house.http("POST", &by("whep"), SDP, "receive 0").await;
    assert_eq!(alice.event().await["viewers"], 1);
    house.http("POST", &by("whip"), SDP, "send 0").await;
    let joined = alice.event().await;
    assert_eq!(joined["participant"]["identity"], "ada");
    assert_eq!(alice.event().await["viewers"], 0);
    let long = format!("/whip/kitchen?identity={}", "x".repeat(257));
    for path in [
        long.as_str(),
        "/whip/kitchen?identity=",
        "/whip/kitchen?identity=%07",
    ] {
        let refused = house.http("POST", path, SDP, "send 0").await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (400, "bad_request")
        );
    }
}

#[derive(Debug)]
struct TwoWays;

impl Relay for TwoWays {
    fn mint(&self, user: &str, _: Duration) -> Vec<IceServer> {
        let ways = ["turn:192.0.2.1:3478?transport=udp", "turns:r.example.org"];
        vec![IceServer {
            urls: ways.map(str::to_owned).into(),
            username: format!("1700000000:{user}"),
            credential: "a+b/c=".into(),
            at_media_port: false,
        }]
    }

    fn revoke(&self, _: &str, _: Duration) {}
}

#[tokio::test]
async fn a_client_without_a_socket_is_told_of_the_relay_in_links() {
    let house = House::start(settings(), Some(Arc::new(TwoWays))).await;
    let origin = format!("{SDP}Origin: https://app.example.org\r\n");
    let created = house.http("POST", "/whep/kitchen", &origin, "receive 0");
    let created = created.await;
    assert_eq!(created.status, 201);
    let links: Vec<&str> = created.header("link").split(", ").collect();
    let [first, second] = links[..] else {
        panic!("{links:?}");
    };
    let start = "<turn:192.0.2.1:3478?transport=udp>; rel=\"ice-server\"; username=\"1700000000:u_";
    assert!(first.starts_with(start), "{first}");
    let end = "\"; credential=\"a+b/c=\"; credential-type=\"password\"";
    assert!(first.ends_with(end), "{first}");
    assert!(second.starts_with("<turns:r.example.org>; rel"), "{second}");
    let exposed = created.header("access-control-expose-headers");
    assert!(exposed.contains("Link"), "{exposed}");
    let created = House::new().await;
    let created = created
        .http("POST", "/whep/kitchen", SDP, "receive 0")
        .await;
    assert_eq!(created.header("link"), "", "there is no relay");
}

#[tokio::test]
async fn ice_is_restarted_with_the_right_precondition_only() {
    let house = House::new().await;
    let created = publish(&house).await;
    let session = created.header("location");
    let fragment = |ufrag: &str| format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:x\r\n");
    let new = fragment("new");
    for (headers, body, status) in [
        (FRAGMENT.to_owned(), &new, 428),
        (format!("{FRAGMENT}If-Match: \"7\"\r\n"), &new, 412),
        (
            format!("{FRAGMENT}If-Match: \"1\"\r\n"),
            &fragment("old"),
            204,
        ),
        (
            format!("{FRAGMENT}If-Match: *\r\n"),
            &"nonsense".to_owned(),
            422,
        ),
        (format!("{SDP}If-Match: *\r\n"), &new, 415),
    ] {
        let answer = house.http("PATCH", session, &headers, body).await;
        assert_eq!(answer.status, status, "{headers}");
        if status >= 400 {
            answer.code();
        }
    }
    let headers = format!("{FRAGMENT}If-Match: *\r\n");
    let restarted = house.http("PATCH", session, &headers, &new).await;
    assert_eq!(restarted.status, 200);
    assert_eq!(
        restarted.header("content-type"),
        "application/trickle-ice-sdpfrag"
    );
    assert_eq!(restarted.header("etag"), "\"2\"");
    assert!(restarted.body.starts_with("answer to a=ice-ufrag:new"));
}

#[tokio::test]
async fn every_mistake_is_a_problem_with_a_code() {
    let house = House::new().await;
    let large = "x".repeat(MAX_MESSAGE_BYTES + 1);
    let foreign = format!("{SDP}Origin: https://evil.example.org\r\n");
    let table: &[(&str, &str, &str, &str, u16, &str)] = &[
        ("POST", "/whip/a%20b", SDP, "send 0", 400, "bad_room"),
        (
            "POST",
            "/whip/kitchen?name=%0A",
            SDP,
            "send 0",
            400,
            "bad_name",
        ),
        ("POST", "/whip/kitchen", "", "send 0", 415, "bad_request"),
        (
            "POST",
            "/whip/kitchen",
            "Content-Type: text/plain\r\n",
            "send 0",
            415,
            "bad_request",
        ),
        ("POST", "/whip/kitchen", SDP, "bad", 503, "overloaded"),
        ("POST", "/whip/kitchen", SDP, "panic", 500, "internal"),
        ("POST", "/whip/kitchen", SDP, &large, 413, "too_large"),
        (
            "POST",
            "/whip/kitchen",
            &foreign,
            "send 0",
            403,
            "not_allowed",
        ),
        ("GET", "/whip/kitchen", "", "", 405, "not_allowed"),
        ("PUT", "/whip/kitchen/x", "", "", 405, "not_allowed"),
        ("DELETE", "/whip/kitchen/guess", "", "", 404, "unknown_peer"),
        (
            "PATCH",
            "/whip/kitchen/guess",
            FRAGMENT,
            "x",
            404,
            "unknown_peer",
        ),
        (
            "PATCH",
            "/whip/kitchen/guess",
            FRAGMENT,
            &large[..17_000],
            413,
            "too_large",
        ),
        ("POST", "/", "", "", 405, "not_allowed"),
        ("GET", "/nothing.html", "", "", 404, "bad_request"),
        ("GET", "/../Cargo.toml", "", "", 404, "bad_request"),
        ("GET", "/sdk/../../Cargo.toml", "", "", 404, "bad_request"),
    ];
    for (method, path, headers, body, status, code) in table {
        let answer = house.http(method, path, headers, body).await;
        assert_eq!(
            answer.status, *status,
            "{method} {path} {headers}: {answer:?}"
        );
        assert_eq!(answer.code(), *code, "{method} {path} {headers}");
    }
    assert!(house.sfu.peers().is_empty());
}

#[tokio::test]
async fn the_quality_of_a_connection_is_there_for_who_may_enter_the_room() {
    let key = ApiKey::new("main".into(), "0123456789abcdef0123456789abcdef".into()).unwrap();
    let auth = Auth::with_key(key.clone());
    let house = House::with(Settings { auth, ..settings() }).await;
    let token = |room: &str| {
        let request = TokenRequest {
            room: room.parse().unwrap(),
            identity: "support".into(),
            name: None,
            metadata: None,
            grants: Grants {
                publish: true,
                subscribe: true,
                invite: false,
            },
            lifetime: Duration::from_secs(60),
        };
        key.mint(&request, SystemTime::now()).unwrap()
    };
    let mut alice = house.socket().await;
    let hello = json!({"version": 1, "token": token("kitchen")});
    alice.ask("hello", hello).await;
    let join = json!({"room": "kitchen", "name": "Alice", "offer": "receive 1"});
    let id = alice.ask("join", join).await["participant"].clone();
    let slots = json!([{"mid": "1", "visible": true}]);
    alice.ask("view", json!({"slots": slots})).await;
    let path = |room: &str, participant: &str| {
        format!("/v1/rooms/{room}/participants/{participant}/quality")
    };
    let id = id.as_str().unwrap();
    let bearer = |room: &str| format!("Authorization: Bearer {}\r\n", token(room));
    for (path, headers, status, code) in [
        (path("kitchen", id), String::new(), 401, "unauthorized"),
        (path("kitchen", id), bearer("cellar"), 403, "wrong_room"),
        (path("cellar", id), bearer("cellar"), 404, "unknown_peer"),
        (
            path("kitchen", "p_fff"),
            bearer("kitchen"),
            404,
            "unknown_peer",
        ),
        (
            path("kitchen", "ada"),
            bearer("kitchen"),
            400,
            "bad_request",
        ),
        (path("a%20b", id), bearer("kitchen"), 400, "bad_room"),
    ] {
        let refused = house.http("GET", &path, &headers, "").await;
        let got = (refused.status, refused.code());
        assert_eq!(got, (status, code.to_owned()), "{path}");
    }
    let path = path("kitchen", id);
    let answer = house.http("GET", &path, &bearer("kitchen"), "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    let quality: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let mut reply = alice.ask("quality", json!({})).await;
    for name in ["re", "type"] {
        reply.as_object_mut().unwrap().remove(name);
    }
    assert_eq!(quality, reply);
    let answer = house.http("POST", &path, &bearer("kitchen"), "").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (405, "not_allowed")
    );
}

#[tokio::test]
async fn who_may_invite_makes_links_that_let_guests_into_the_room_and_no_further() {
    let house = House::with(Settings {
        auth: Auth::with_key(key()),
        public_url: Some("https://call.example.org".into()),
        ..settings()
    })
    .await;
    let bearer = |invite: bool| {
        let token = mint(&key(), invite, SystemTime::now() + Duration::from_secs(60));
        format!("Authorization: Bearer {token}\r\n")
    };
    let path = "/v1/rooms/kitchen/invites";
    for (path, headers, body, status, code) in [
        (path, String::new(), "", 401, "unauthorized"),
        (path, bearer(false), "", 403, "not_allowed"),
        (
            "/v1/rooms/cellar/invites",
            bearer(true),
            "",
            403,
            "wrong_room",
        ),
        (
            path,
            bearer(true),
            r#"{"minutes": 9999}"#,
            400,
            "bad_request",
        ),
    ] {
        let refused = house.http("POST", path, &headers, body).await;
        assert_eq!((refused.status, refused.code()), (status, code.into()));
    }
    let body = r#"{"name": "Bob", "minutes": 5, "subscribe": false}"#;
    let invited = house.http("POST", path, &bearer(true), body).await;
    assert_eq!(invited.status, 201, "{invited:?}");
    assert_eq!(invited.header("cache-control"), "no-store");
    let invited: serde_json::Value = serde_json::from_str(&invited.body).unwrap();
    let token = invited["token"].as_str().unwrap();
    let link = format!("https://call.example.org/kitchen#token={token}");
    assert_eq!(invited["link"], link);
    assert_eq!(invited["expires_in"], 300);

    let mut bob = house.socket().await;
    bob.ask("hello", json!({"version": 1, "token": token}))
        .await;
    let elsewhere = bob
        .ask("join", json!({"room": "cellar", "name": "x"}))
        .await;
    assert_eq!(elsewhere["code"], "wrong_room");
    let joined = bob
        .ask("join", json!({"room": "kitchen", "name": "x"}))
        .await;
    assert_eq!(joined["type"], "joined", "{joined}");
    let guest = format!("Authorization: Bearer {token}\r\n");
    let refused = house.http("POST", path, &guest, "").await;
    assert_eq!(refused.status, 403, "a guest invites nobody");
}

#[tokio::test]
async fn where_rooms_are_open_a_link_needs_no_token() {
    let house = House::new().await;
    let invited = house
        .http("POST", "/v1/rooms/kitchen/invites", "", "")
        .await;
    assert_eq!(
        (invited.status, &invited.body[..]),
        (201, r#"{"link":"kitchen"}"#)
    );
}

#[tokio::test]
async fn a_rooms_page_is_at_its_name_unless_something_else_is_there() {
    let house = House::new().await;
    let page = house.http("GET", "/", "", "").await;
    for path in ["/kitchen", "/K-1_2", "/kitchen?name=Ada", "/check"] {
        let at_room = house.http("GET", path, "", "").await;
        assert_eq!((at_room.status, &at_room.body), (200, &page.body), "{path}");
        assert_eq!(at_room.header("cache-control"), "no-cache");
    }
    let moved = house.http("GET", "/kitchen/?name=Ada", "", "").await;
    assert_eq!(moved.status, 308);
    assert_eq!(moved.header("location"), "../kitchen?name=Ada");
    assert_ne!(
        house.http("GET", "/check.html", "", "").await.body,
        page.body
    );
    assert_eq!(
        house.http("GET", "/sdk/confab.js", "", "").await.status,
        200
    );
    for path in [
        "/v1", "/sdk", "/whip", "/whep/", "/health", "/a.b", "/a%20b",
    ] {
        assert_eq!(house.http("GET", path, "", "").await.status, 404, "{path}");
    }
    assert!(
        house
            .http("GET", "/metrics", "", "")
            .await
            .body
            .contains("confab_")
    );
    assert_eq!(house.http("POST", "/kitchen", "", "").await.status, 405);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_use_whip() {
    let house = House::new().await;
    let origin = "Origin: https://app.example.org\r\n";
    let preflight = house.http("OPTIONS", "/whip/kitchen", origin, "").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        "https://app.example.org"
    );
    assert!(
        preflight
            .header("access-control-allow-methods")
            .contains("PATCH")
    );
    assert!(
        preflight
            .header("access-control-allow-headers")
            .contains("Authorization")
    );
    let headers = format!("{SDP}{origin}");
    let created = house
        .http("POST", "/whip/kitchen", &headers, "send 0")
        .await;
    assert!(
        created
            .header("access-control-expose-headers")
            .contains("Location")
    );
}

#[tokio::test]
async fn with_a_key_a_bearer_token_is_needed() {
    let key = ApiKey::new("main".into(), "0123456789abcdef0123456789abcdef".into()).unwrap();
    let auth = Auth::with_key(key.clone());
    let house = House::with(Settings { auth, ..settings() }).await;
    let bearer = |room: &str, publish: bool| {
        let request = TokenRequest {
            room: room.parse().unwrap(),
            identity: "encoder".into(),
            name: None,
            metadata: None,
            grants: Grants {
                publish,
                subscribe: true,
                invite: false,
            },
            lifetime: Duration::from_secs(60),
        };
        let token = key.mint(&request, SystemTime::now()).unwrap();
        format!("{SDP}Authorization: Bearer {token}\r\n")
    };
    for (headers, status, code) in [
        (SDP.to_owned(), 401, "unauthorized"),
        (
            format!("{SDP}Authorization: Bearer x\r\n"),
            401,
            "unauthorized",
        ),
        (bearer("cellar", true), 403, "wrong_room"),
        (bearer("kitchen", false), 403, "not_allowed"),
    ] {
        let refused = house
            .http("POST", "/whip/kitchen", &headers, "send 0")
            .await;
        assert_eq!((refused.status, refused.code().as_str()), (status, code));
    }
    let created = house
        .http("POST", "/whip/kitchen", &bearer("kitchen", true), "send 0")
        .await;
    assert_eq!(created.status, 201);
}

/// A token for the kitchen that ends then, or ended.
fn token(at: SystemTime) -> String {
    mint(&key(), false, at)
}

fn mint(key: &ApiKey, invite: bool, at: SystemTime) -> String {
    let request = TokenRequest {
        room: "kitchen".parse().unwrap(),
        identity: "ada".into(),
        name: None,
        metadata: None,
        grants: Grants {
            publish: true,
            subscribe: true,
            invite,
        },
        lifetime: Duration::from_secs(60),
    };
    key.mint(&request, at - request.lifetime).unwrap()
}

fn key() -> ApiKey {
    ApiKey::new("main".into(), "0123456789abcdef0123456789abcdef".into()).unwrap()
}

#[tokio::test]
async fn who_knows_the_address_of_a_session_may_move_and_end_it_when_the_token_has_ended() {
    let auth = Auth::with_key(key());
    let house = House::with(Settings { auth, ..settings() }).await;
    let bearer = |at| format!("Authorization: Bearer {}\r\n", token(at));
    let now = SystemTime::now();
    let valid = format!("{SDP}{}", bearer(now + Duration::from_secs(60)));
    let expired = bearer(now - Duration::from_secs(60));
    for headers in ["", expired.as_str(), "Authorization: Basic x\r\n"] {
        let created = house.http("POST", "/whip/kitchen", &valid, "send 0").await;
        let session = created.header("location");
        let secret = session.strip_prefix("/whip/kitchen/").unwrap();
        assert_eq!(secret.len(), 32, "192 bits: nobody guesses it");
        let restart = format!("{FRAGMENT}If-Match: *\r\n{headers}");
        let fragment = "a=ice-ufrag:new\r\na=ice-pwd:x\r\n";
        let restarted = house.http("PATCH", session, &restart, fragment).await;
        assert_eq!(restarted.status, 200);
        for other in [
            format!("/whep/kitchen/{secret}"),
            format!("/whip/cellar/{secret}"),
            format!("/whip/kitchen/{}", &secret[1..]),
        ] {
            assert_eq!(house.http("DELETE", &other, headers, "").await.status, 404);
        }
        assert_eq!(house.http("DELETE", session, headers, "").await.status, 200);
        assert_eq!(house.http("DELETE", session, headers, "").await.status, 404);
    }
    let headers = format!("{SDP}{expired}");
    let refused = house.http("POST", "/whip/kitchen", &headers, "send 0");
    assert_eq!(refused.await.status, 401);
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said_alike_at_every_door() {
    let auth = Auth::with_key(key());
    let house = House::with(Settings { auth, ..settings() }).await;
    let other = ApiKey::new("main".into(), "another secret of enough length!".into()).unwrap();
    let now = SystemTime::now();
    let unsigned = "eyJhbGciOiJub25lIn0.e30.";
    let table = [
        (None, "missing", "An access token is needed"),
        (Some("x".to_owned()), "malformed", "not a JWT"),
        (Some(unsigned.to_owned()), "algorithm", "not signed"),
        (
            Some(mint(&other, false, now + Duration::from_secs(60))),
            "bad_signature",
            "another secret",
        ),
        (
            Some(token(now - Duration::from_secs(90))),
            "expired",
            "seconds ago",
        ),
        (
            Some(token(now + Duration::from_secs(90_000))),
            "exp_too_far",
            "hours ahead",
        ),
    ];
    let quality = "/v1/rooms/kitchen/participants/p_1/quality";
    for (token, reason, words) in table {
        let mut client = house.socket().await;
        let heard = client
            .ask("hello", json!({"version": 1, "token": token}))
            .await;
        assert_eq!(
            (&heard["code"], &heard["reason"]),
            (&json!("unauthorized"), &json!(reason))
        );
        let message = heard["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
        let header = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let headers = format!("{SDP}{}", header.as_deref().unwrap_or(""));
        for (method, path) in [
            ("POST", "/whip/kitchen"),
            ("POST", "/whep/kitchen"),
            ("GET", quality),
        ] {
            let refused = house.http(method, path, &headers, "send 0").await;
            assert_eq!(
                (refused.status, refused.code().as_str()),
                (401, "unauthorized")
            );
            let problem: serde_json::Value = serde_json::from_str(&refused.body).unwrap();
            let told = (&problem["title"], &problem["reason"]);
            assert_eq!(told, (&json!(message), &json!(reason)), "{path}");
            let challenge = match reason {
                "missing" => "Bearer".to_owned(),
                _ => format!(
                    "Bearer error=\"invalid_token\", error_description=\"{}\"",
                    message.replace('"', "'")
                ),
            };
            assert_eq!(refused.header("www-authenticate"), challenge);
        }
    }
    let headers = format!("{SDP}Authorization: Basic YTpi\r\n");
    let refused = house
        .http("POST", "/whip/kitchen", &headers, "send 0")
        .await;
    assert!(
        refused.body.contains("has to be `Bearer`"),
        "{}",
        refused.body
    );
    let valid = token(now + Duration::from_secs(60));
    let headers = format!("{SDP}Authorization: bearer  {valid}\r\n");
    let refused = house.http("POST", "/whip/cellar", &headers, "send 0").await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "wrong_room")
    );
    assert!(refused.body.contains("\"other_room\""), "{}", refused.body);
    assert!(refused.body.contains("is for the room"), "{}", refused.body);
}

/// What is written to the log.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_says_what_was_wrong_with_a_token_once_and_never_the_token() {
    let written = Written::default();
    let writer = written.clone();
    let log = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(log);
    let auth = Auth::with_key(key());
    let house = House::with(Settings { auth, ..settings() }).await;
    let now = SystemTime::now();
    let expired = token(now - Duration::from_secs(90));
    let valid = token(now + Duration::from_secs(60));
    for _ in 0..20 {
        for (token, path) in [(&expired, "/whip/kitchen"), (&valid, "/whip/cellar")] {
            let headers = format!("{SDP}Authorization: Bearer {token}\r\n");
            house.http("POST", path, &headers, "send 0").await;
        }
        let mut client = house.socket().await;
        client
            .ask("hello", json!({"version": 1, "token": expired}))
            .await;
    }
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let refused = text
        .lines()
        .filter(|line| line.contains("an access token was refused"));
    let refused: Vec<&str> = refused.collect();
    assert_eq!(refused.len(), 2, "{text}");
    for (line, reason) in refused.iter().zip(["expired", "other_room"]) {
        assert!(
            line.contains(" INFO ") && line.contains(&format!("reason={reason}")),
            "{line}"
        );
        assert!(line.contains("identity=\"ada\" room=\"kitchen\""), "{line}");
    }
    for token in [&expired, &valid] {
        for part in token.split('.') {
            assert!(!text.contains(part), "{text}");
        }
    }
}

#[tokio::test]
async fn pages_of_every_origin_may_load_the_sdk_and_nothing_else() {
    let house = House::new().await;
    let origin = "Origin: https://elsewhere.example.org\r\n";
    for (path, kind) in [
        ("/sdk/confab.js", "text/javascript; charset=utf-8"),
        ("/sdk/signal.js", "text/javascript; charset=utf-8"),
    ] {
        let file = house.http("GET", path, origin, "").await;
        assert_eq!(file.status, 200);
        assert_eq!(file.header("content-type"), kind);
        assert_eq!(file.header("access-control-allow-origin"), "*");
        assert_eq!(file.header("cross-origin-resource-policy"), "cross-origin");
        let known = format!("{origin}If-None-Match: {}\r\n", file.header("etag"));
        let again = house.http("GET", path, &known, "").await;
        assert_eq!(again.status, 304);
        assert_eq!(again.header("access-control-allow-origin"), "*");
        let preflight = house.http("OPTIONS", path, origin, "").await;
        assert_eq!(preflight.status, 204);
        assert_eq!(preflight.header("access-control-allow-origin"), "*");
    }
    for path in ["/", "/app.js", "/health/ready", "/sdk/nothing.js"] {
        let file = house.http("GET", path, origin, "").await;
        assert_eq!(file.header("access-control-allow-origin"), "", "{path}");
    }
}

#[tokio::test]
async fn every_address_of_whip_and_whep_answers_a_preflight() {
    let auth = Auth::with_key(key());
    let house = House::with(Settings { auth, ..settings() }).await;
    let asks = "Origin: https://elsewhere.example.org\r\n\
                Access-Control-Request-Method: POST\r\n\
                Access-Control-Request-Headers: authorization, content-type\r\n";
    for path in [
        "/whip/kitchen",
        "/whep/kitchen",
        "/whip/kitchen/x",
        "/whep/kitchen/x",
        "/v1/rooms/kitchen/participants/p_1/quality",
    ] {
        let preflight = house.http("OPTIONS", path, asks, "").await;
        assert_eq!(preflight.status, 204, "{path}");
        let origin = preflight.header("access-control-allow-origin");
        assert_eq!(origin, "https://elsewhere.example.org");
        let methods = preflight.header("access-control-allow-methods");
        assert!(
            ["POST", "PATCH", "DELETE"]
                .iter()
                .all(|m| methods.contains(m))
        );
        let headers = preflight.header("access-control-allow-headers");
        assert!(
            ["Authorization", "Content-Type", "If-Match"]
                .iter()
                .all(|h| headers.contains(h))
        );
    }
    let headers = format!("{SDP}Origin: https://elsewhere.example.org\r\n");
    let refused = house
        .http("POST", "/whip/kitchen", &headers, "send 0")
        .await;
    assert_eq!(refused.status, 401);
    let origin = refused.header("access-control-allow-origin");
    assert_eq!(
        origin, "https://elsewhere.example.org",
        "so that the page can say why"
    );
    let exposed = refused.header("access-control-expose-headers");
    assert!(
        ["Location", "ETag", "Link"]
            .iter()
            .all(|h| exposed.contains(h))
    );
}

#[tokio::test]
async fn the_page_is_served_with_its_policy_and_only_once() {
    let house = House::new().await;
    let page = house.http("GET", "/?room=kitchen", "", "").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(
        page.header("content-security-policy")
            .contains("frame-ancestors 'none'")
    );
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let known = format!("If-None-Match: {}\r\n", page.header("etag"));
    let again = house.http("GET", "/", &known, "").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let sdk = house.http("GET", "/sdk/confab.js", "", "").await;
    assert_eq!(sdk.header("content-type"), "text/javascript; charset=utf-8");
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let house = House::new().await;
    let mut alice = house.guest("Alice", "send 0").await;
    alice.ask("subscribe", json!({"mid": "0"})).await;
    publish(&house).await;
    let metrics = house.http("GET", "/metrics", "", "").await;
    assert!(
        metrics
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    for line in [
        "confab_sessions 1",
        "confab_rooms 1",
        "confab_participants 2",
        "confab_viewers 0",
        "confab_tracks 42",
        "confab_requests_total{type=\"join\"} 1",
        "confab_refusals_total{code=\"bad_request\"} 1",
        "confab_events_total 1",
    ] {
        assert!(
            metrics.body.lines().any(|l| l == line),
            "{line}\n{}",
            metrics.body
        );
    }
}

#[tokio::test]
async fn a_server_whose_rooms_are_open_answers_to_its_own_names_alone() {
    let open = House::with(Settings {
        public_url: Some("https://call.example.org/calls".into()),
        ..settings()
    })
    .await;
    let key = ApiKey::new("main".into(), "0123456789abcdef0123456789abcdef".into()).unwrap();
    let keyed = House::with(Settings {
        auth: Auth::with_key(key),
        ..settings()
    })
    .await;
    for (house, host, status) in [
        (&open, "127.0.0.1:8080", 200),
        (&open, "[::1]:8080", 200),
        (&open, "localhost", 200),
        (&open, "call.example.org", 200),
        (&open, "app.example.org", 200),
        (&open, "named.example.org", 200),
        (&open, "evil.example.org", 421),
        (&open, "evil.example.org:8080", 421),
        (&keyed, "evil.example.org", 200),
    ] {
        for path in ["/health/ready", "/", "/metrics"] {
            let answer = house.ask_as(host, path).await;
            assert_eq!(answer.status, status, "{path} of {host}");
        }
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let origin = format!("http://{host}");
        let headers = format!("{upgrade}Origin: {origin}\r\n");
        let answer = house.head_as(host, "/v1/ws", &headers).await;
        let expected = if status == 200 { 101 } else { 421 };
        assert_eq!(answer.status, expected, "a WebSocket of {host}");
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_limits_count_people() {
    let mut settings = settings();
    settings.control.max_address_sessions = 1;
    let house = House::with(settings).await;
    for (forwarded, status) in [
        ("203.0.113.1", 201),
        ("203.0.113.1", 503),
        // What it has written itself makes it nobody else.
        ("203.0.113.9, 203.0.113.1", 503),
        ("203.0.113.2", 201),
    ] {
        let headers = format!("{SDP}X-Forwarded-For: {forwarded}\r\n");
        let answer = house.http("POST", "/whep/kitchen", &headers, "receive 0");
        assert_eq!(answer.await.status, status, "{forwarded}");
    }
}

#[derive(Debug)]
struct Dead;

impl Relay for Dead {
    fn mint(&self, _: &str, _: Duration) -> Vec<IceServer> {
        panic!("nobody is to be told of it")
    }

    fn revoke(&self, _: &str, _: Duration) {}

    fn is_alive(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_dead_relay_is_told_by_health_and_to_no_newcomer() {
    let house = House::start(settings(), Some(Arc::new(Dead))).await;
    for path in ["/health/live", "/health/ready"] {
        let answer = house.http("GET", path, "", "").await;
        assert_eq!(
            (answer.status, &*answer.body),
            (503, "the relay has failed\n")
        );
    }
    let mut client = house.socket().await;
    let welcome = client.ask("hello", json!({"version": 1})).await;
    assert_eq!(welcome.get("relay"), None);
    let servers = client.ask("ice_servers", json!({})).await;
    assert_eq!(servers["ice_servers"], json!([]));
    let created = house.http("POST", "/whep/kitchen", SDP, "receive 0").await;
    assert_eq!((created.status, created.header("link")), (201, ""));
}
