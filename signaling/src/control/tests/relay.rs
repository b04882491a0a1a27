//! Who gets credentials for the relay, and when they lose them.

use std::sync::Mutex;

use super::*;
use crate::protocol::IceServer;
use crate::relay::LIFETIME;

/// Notes what was asked of it.
#[derive(Debug, Default)]
struct Ledger(Mutex<Vec<String>>);

impl Ledger {
    fn note(&self, what: &str, user: &str, lifetime: Duration) {
        assert_eq!(lifetime, LIFETIME);
        self.0.lock().unwrap().push(format!("{what} {user}"));
    }

    /// What was asked of it since the last look.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Relay for Ledger {
    fn mint(&self, user: &str, lifetime: Duration) -> Vec<IceServer> {
        self.note("mint", user, lifetime);
        vec![IceServer {
            urls: vec!["turn:192.0.2.1:3478?transport=udp".into()],
            username: user.into(),
            credential: "secret".into(),
            at_media_port: false,
        }]
    }

    fn revoke(&self, user: &str, lifetime: Duration) {
        self.note("revoke", user, lifetime);
    }
}

fn house() -> (House, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::default());
    let mut house = House::new();
    house.control = Control::new(Config::default()).with_relay(ledger.clone());
    (house, ledger)
}

/// Whom a message has credentials for.
fn user(message: &Value) -> String {
    assert_eq!(message["expires_in"], LIFETIME.as_secs());
    let server = &message["ice_servers"][0];
    assert_eq!(server["urls"], json!(["turn:192.0.2.1:3478?transport=udp"]));
    assert_eq!(server["credential"], "secret");
    server["username"].as_str().unwrap().to_owned()
}

#[test]
fn a_session_has_credentials_of_its_own_from_the_first_word_to_the_last() {
    let (mut house, ledger) = house();
    house.ask(1, "hello", json!({"version": 1}));
    house.ask(2, "hello", json!({"version": 1}));
    let (alice, bob) = (user(&house.only(1)["relay"]), user(&house.only(2)["relay"]));
    assert_ne!(alice, bob);
    ledger.take();

    house.ask(1, "ice_servers", json!({}));
    assert_eq!(user(&house.only(1)), alice, "renewed, not replaced");
    assert_eq!(ledger.take(), [format!("mint {alice}")]);

    house.close(1, true);
    assert_eq!(ledger.take(), [format!("revoke {alice}")]);
}

#[test]
fn who_leaves_loses_them_and_gets_others() {
    let (mut house, ledger) = house();
    let peer = house.join(1, "Alice", answer(&[], &[]));
    house.heard(1);
    let first = ledger.take()[0].replace("mint ", "");
    house.ask(1, "leave", json!({}));
    assert!(matches!(house.command(), (_, media::Request::Close { peer: p }) if p == peer));
    assert_eq!(house.types(1), ["left"]);
    assert_eq!(ledger.take(), [format!("revoke {first}")]);
    house.ask(1, "ice_servers", json!({}));
    assert_ne!(user(&house.only(1)), first);
}

#[test]
fn whose_join_is_refused_keeps_them_for_the_next_attempt() {
    let (mut house, ledger) = house();
    house.hello(1);
    ledger.take();
    let join = json!({"room": "kitchen", "name": "Alice", "offer": "offer"});
    house.ask(1, "join", join);
    let (id, _) = house.offered_peer();
    let refused = api::OfferError::Overloaded;
    house.outcome(id, media::Reply::Refused(refused.into()));
    assert_eq!(house.types(1), ["error overloaded"]);
    assert_eq!(ledger.take(), Vec::<String>::new());
}

#[test]
fn a_lost_socket_takes_them_away_only_when_nobody_comes_back() {
    let (mut house, ledger) = house();
    house.ask(1, "hello", json!({"version": 1}));
    let welcome = house.only(1);
    let user = user(&welcome["relay"]);
    house.ask(1, "join", json!({"room": "kitchen", "name": "Alice"}));
    house.heard(1);
    ledger.take();
    house.close(1, false);
    house.pass(Duration::from_secs(10));
    let resume = json!({"session": welcome["session"], "seq": 0});
    house.ask(2, "hello", json!({"version": 1, "resume": resume}));
    let again = house.only(2);
    assert_eq!(
        (&again["resumed"], &again["relay"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(ledger.take(), Vec::<String>::new());
    house.close(2, false);
    house.pass(DEFAULT_GRACE);
    assert_eq!(ledger.take(), [format!("revoke {user}")]);
}

#[test]
fn a_whip_client_has_them_for_as_long_as_its_session() {
    let (mut house, ledger) = house();
    let created = house.publish_over_http(answer(&[("0", 7)], &[]));
    let HttpAnswer::Created {
        secret,
        ice_servers,
        ..
    } = created
    else {
        panic!("{created:?}");
    };
    let user = &ice_servers[0].username;
    assert_eq!(ledger.take(), [format!("mint {user}")]);
    house.http(HttpRequest::Delete(address(&secret)));
    assert_eq!(ledger.take(), [format!("revoke {user}")]);
}

#[test]
fn without_a_relay_nothing_is_told() {
    let mut house = House::new();
    house.ask(1, "hello", json!({"version": 1}));
    assert_eq!(house.only(1)["relay"], Value::Null);
    house.ask(1, "ice_servers", json!({}));
    assert_eq!(house.only(1)["ice_servers"], json!([]));
    let created = house.publish_over_http(answer(&[], &[]));
    assert!(matches!(created, HttpAnswer::Created { ice_servers, .. } if ice_servers.is_empty()));
}
