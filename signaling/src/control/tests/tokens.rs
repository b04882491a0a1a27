//! That a session lasts no longer than its token.

use super::*;
use crate::protocol::TokenFault;

const HOUR: Duration = Duration::from_secs(3600);

fn good_for(expires_in: Duration) -> Access {
    Access {
        expires_in: Some(expires_in),
        ..token("ada", true, true)
    }
}

fn expired() -> Failure {
    Failure::of_token(
        TokenFault::Expired,
        "The access token expired 5 seconds ago.",
    )
}

/// Alice, whose token has no end, and Ada, who has joined with one that is good for an hour.
fn house() -> (House, String) {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[], &[]));
    house.access = Ok(good_for(HOUR));
    let secret = house.hello(2);
    house.ask(2, "join", json!({"room": "kitchen", "name": "Ada"}));
    house.heard(1);
    house.heard(2);
    (house, secret)
}

#[test]
fn a_token_that_ends_takes_its_session_along_after_a_warning() {
    let (mut house, _) = house();
    house.pass(HOUR - WARNING - Duration::from_millis(1));
    assert_eq!(house.types(2), Vec::<String>::new());
    assert_eq!(
        house.control.next_deadline(),
        Some(house.now + Duration::from_millis(1))
    );
    house.pass(Duration::from_millis(1));
    let warning = house.only(2);
    assert_eq!(
        (&warning["type"], &warning["in_ms"]),
        (&json!("token_expires"), &json!(60_000))
    );
    house.pass(WARNING);
    assert_eq!(house.types(2), ["closing token_expired"]);
    assert_eq!(house.closed, [SocketId(2)]);
    let left = house.only(1);
    assert_eq!(left["reason"], "token_expired");
    assert_eq!(house.control.counters().sessions, 1);
}

#[test]
fn a_request_that_comes_after_the_end_and_before_the_clock_is_not_carried_out() {
    for (request, fields) in [
        ("ice_servers", json!({})),
        ("leave", json!({})),
        ("join", json!({"room": "kitchen"})),
        ("ping", json!({})),
    ] {
        let (mut house, _) = house();
        house.pass(HOUR - WARNING);
        house.heard(2);
        house.now += WARNING;
        house.ask(2, request, fields);
        // The socket is known to nobody any more.
        assert_eq!(
            house.types(2),
            ["closing token_expired", "error hello_first"],
            "{request}"
        );
    }
}

#[test]
fn a_renewed_token_lets_the_session_go_on() {
    let (mut house, _) = house();
    house.pass(HOUR - WARNING);
    assert_eq!(house.types(2), ["token_expires"]);
    house.access = Err(expired());
    house.ask(2, "renew", json!({"token": "old"}));
    assert_eq!(
        house.types(2),
        ["error unauthorized"],
        "that changes nothing"
    );
    house.access = Ok(Access {
        identity: Some("eve".into()),
        ..good_for(HOUR)
    });
    house.ask(2, "renew", json!({"token": "eve's"}));
    assert_eq!(house.types(2), ["error not_allowed"]);
    house.access = Ok(Access {
        grants: Grants::default(),
        ..good_for(2 * HOUR)
    });
    house.ask(2, "renew", json!({"token": "new"}));
    let renewed = house.only(2);
    assert_eq!(
        (&renewed["type"], &renewed["expires_in"]),
        (&json!("renewed"), &json!(7200))
    );
    house.pass(2 * HOUR - WARNING - Duration::from_millis(1));
    assert_eq!(house.types(2), Vec::<String>::new());
    house.ask(2, "publish", json!({"mid": "0", "source": "camera"}));
    assert_eq!(
        house.types(2),
        ["error not_allowed"],
        "it allows less than the one before"
    );
    house.pass(WARNING);
    assert_eq!(house.types(2), ["token_expires"]);
    house.pass(WARNING);
    assert_eq!(house.types(2), ["closing token_expired"]);
}

#[test]
fn however_often_a_token_is_renewed_nothing_piles_up() {
    let (mut house, _) = house();
    for _ in 0..100 {
        house.now += Duration::from_millis(20);
        house.ask(2, "renew", json!({"token": "new"}));
    }
    assert_eq!(house.control.terms.len(), 1);
    house.close(2, true);
    assert_eq!(house.control.terms.len(), 0);
}

#[test]
fn a_short_token_is_warned_of_halfway() {
    let mut house = House::new();
    house.access = Ok(good_for(Duration::from_secs(30)));
    house.hello(1);
    house.pass(Duration::from_millis(14_999));
    assert_eq!(house.types(1), Vec::<String>::new());
    house.pass(Duration::from_millis(1));
    assert_eq!(house.only(1)["in_ms"], 15_000);
}

#[test]
fn a_session_is_resumed_with_a_good_token_of_its_own_alone() {
    let (mut house, secret) = house();
    house.close(2, false);
    let resume = json!({"version": 1, "resume": {"session": secret, "seq": 0}});
    house.access = Err(expired());
    house.ask(3, "hello", resume.clone());
    assert_eq!(house.types(3), ["error unauthorized"]);
    house.access = Ok(token("eve", true, true));
    house.ask(4, "hello", resume.clone());
    assert_eq!(house.types(4), ["error not_allowed"]);
    assert_eq!(house.closed, [SocketId(3), SocketId(4)]);
    house.access = Ok(good_for(3 * HOUR));
    house.ask(5, "hello", resume);
    assert_eq!(house.heard(5)[0]["resumed"], true, "it has waited");
    house.pass(2 * HOUR);
    house.ask(5, "ping", json!({}));
    assert_eq!(house.types(5), ["pong"], "the new token counts");
}

#[test]
fn a_session_without_a_socket_waits_for_another_token_for_its_grace() {
    for comes_back in [true, false] {
        let (mut house, secret) = house();
        // Also of whom the warning is due meanwhile.
        house.pass(HOUR - WARNING - Duration::from_secs(1));
        house.close(2, false);
        house.pass(Duration::from_secs(1));
        let again = |socket: u64, house: &mut House| {
            let resume = json!({"version": 1, "resume": {"session": secret, "seq": 0}});
            house.ask(socket, "hello", resume);
        };
        house.access = Ok(good_for(WARNING));
        again(3, &mut house);
        assert_eq!(house.types(3), ["welcome"]);
        house.pass(WARNING / 2);
        assert_eq!(house.types(3), ["token_expires"]);
        house.pass(WARNING / 2 - Duration::from_secs(1));
        house.close(3, false);
        house.heard(1);
        house.pass(Duration::from_secs(1));
        house.access = Err(expired());
        again(4, &mut house);
        assert_eq!(house.types(4), ["error unauthorized"]);
        assert_eq!(house.types(1), Vec::<String>::new(), "it is still there");
        if comes_back {
            house.access = Ok(good_for(HOUR));
            again(5, &mut house);
            let welcome = house.heard(5).remove(0);
            assert_eq!(welcome["resumed"], true);
            house.pass(DEFAULT_GRACE);
            house.ask(5, "ping", json!({}));
            assert_eq!(house.types(5), ["pong"]);
        } else {
            house.pass(DEFAULT_GRACE);
            let told = house.heard(1);
            assert_eq!(told.last().unwrap()["reason"], "connection_lost");
        }
    }
}

#[test]
fn where_no_token_is_needed_none_ends() {
    let mut house = House::new();
    house.hello(1);
    house.ask(1, "renew", json!({"token": "any"}));
    let renewed = house.only(1);
    assert_eq!(
        (&renewed["type"], &renewed["expires_in"]),
        (&json!("renewed"), &Value::Null)
    );
    house.pass(100 * HOUR);
    house.ask(1, "ping", json!({}));
    assert_eq!(house.types(1), ["pong"]);
}
