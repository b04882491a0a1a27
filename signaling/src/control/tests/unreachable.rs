//! What the others are told of somebody of whom nothing is heard.

use super::*;

/// Alice and Bob in the kitchen; Bob's id, session and peer.
fn house() -> (House, Value, String, PeerId) {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[], &[]));
    let secret = house.hello(2);
    let join = json!({"room": "kitchen", "name": "Bob", "offer": "offer"});
    house.ask(2, "join", join);
    let (id, peer) = house.offered_peer();
    house.outcome(id, media::Reply::Answered(answer(&[("0", 7)], &[])));
    let bob = house.only(2)["participant"].clone();
    house.heard(1);
    (house, bob, secret, peer)
}

impl House {
    /// What somebody is told of who is unreachable, and nothing else.
    fn unreachable(&mut self, socket: u64) -> Vec<(Value, bool)> {
        let heard = self.heard(socket).into_iter().map(|frame| {
            assert_eq!(frame["type"], "unreachable", "{frame}");
            let is_so = frame["unreachable"].as_bool().unwrap();
            (frame["participant"].clone(), is_so)
        });
        heard.collect()
    }
}

#[test]
fn the_others_hear_of_a_lost_socket_and_of_its_return() {
    let (mut house, bob, secret, _) = house();
    house.close(2, false);
    house.pass(MISSED_AFTER - Duration::from_millis(1));
    assert_eq!(house.unreachable(1), [], "it may be back in a moment");
    house.pass(Duration::from_millis(1));
    assert_eq!(house.unreachable(1), [(bob.clone(), true)]);
    house.hello(3);
    house.ask(3, "join", json!({"room": "kitchen", "name": "Carol"}));
    let joined = house.only(3);
    let others = joined["participants"].as_array().unwrap();
    let marks: Vec<_> = others.iter().map(|p| p["unreachable"] == true).collect();
    assert_eq!(marks, [false, true], "{joined}");
    house.heard(1);
    let resume = json!({"version": 1, "resume": {"session": secret, "seq": 0}});
    house.ask(4, "hello", resume.clone());
    assert_eq!(house.unreachable(1), [(bob.clone(), false)]);
    // Who takes a session over from a socket that still is there was never away.
    house.ask(5, "hello", resume.clone());
    house.pass(MISSED_AFTER);
    assert_eq!(house.unreachable(1), []);
    house.close(5, false);
    house.pass(MISSED_AFTER / 2);
    house.ask(6, "hello", resume);
    house.pass(MISSED_AFTER);
    assert_eq!(house.unreachable(1), [], "a change of networks");
}

#[test]
fn the_others_hear_of_silent_media_and_of_its_end() {
    let (mut house, bob, secret, peer) = house();
    house.report(MediaEvent::PeerSilent { peer });
    assert_eq!(house.unreachable(1), [(bob.clone(), true)]);
    house.report(MediaEvent::PeerSilent { peer });
    house.close(2, false);
    house.pass(MISSED_AFTER);
    assert_eq!(house.unreachable(1), [], "it is so already");
    house.report(MediaEvent::PeerHeard { peer });
    assert_eq!(house.unreachable(1), [], "its socket is lost still");
    let resume = json!({"version": 1, "resume": {"session": secret, "seq": 0}});
    house.ask(4, "hello", resume);
    assert_eq!(house.unreachable(1), [(bob, false)]);
}

#[test]
fn who_leaves_is_gone_and_not_unreachable() {
    let (mut house, _, _, _) = house();
    house.close(2, true);
    assert_eq!(house.types(1), ["participant_left"]);
    let (mut house, bob, _, _) = self::house();
    house.close(2, false);
    house.pass(MISSED_AFTER);
    assert_eq!(house.unreachable(1), [(bob, true)]);
    house.pass(DEFAULT_GRACE);
    assert_eq!(house.types(1), ["participant_left"]);
}

#[test]
fn a_publisher_without_a_socket_is_unreachable_while_its_media_is() {
    let mut house = House::new();
    house.join(1, "Alice", answer(&[], &[]));
    house.publish_over_http(answer(&[("0", 7)], &[]));
    let encoder = house.heard(1).pop().unwrap()["participant"]["id"].clone();
    let peer = *house.control.peers.keys().max().unwrap();
    house.report(MediaEvent::PeerConnected { peer });
    assert_eq!(house.unreachable(1), []);
    house.report(MediaEvent::PeerSilent { peer });
    house.report(MediaEvent::PeerHeard { peer });
    let expected = [(encoder.clone(), true), (encoder, false)];
    assert_eq!(house.unreachable(1), expected);
}

#[test]
fn numbers_of_one_run_are_not_those_of_another() {
    let ids = |first| {
        let mut house = House::new();
        house.control = Control::new(Config::default()).with_first_number(first);
        house.join(1, "Alice", answer(&[], &[]));
        house.only(1)["participant"].clone()
    };
    assert_eq!(ids(0xab_0000), "p_ab0002");
    assert_ne!(ids(1), ids(2));
}
