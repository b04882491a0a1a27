//! That one client does not use up what is for all.

use super::*;

fn small(max_sessions: usize, participants: usize) -> House {
    House::with(Config {
        max_sessions,
        max_address_sessions: 3,
        max_identity_sessions: 2,
        limits: Limits {
            participants,
            identity_participants: 2,
            ..Limits::default()
        },
        ..Config::default()
    })
}

impl House {
    /// A WHIP client whose media never comes, and its peer.
    fn post(&mut self, access: Access) -> (TicketId, Option<PeerId>) {
        let ticket = self.http(HttpRequest::Create {
            endpoint: Endpoint::Whip,
            room: "kitchen".parse().unwrap(),
            name: None,
            identity: None,
            access,
            from: self.from,
            sdp: "v=0\r\n".into(),
        });
        while let Some((id, command)) = self.commands.pop_front() {
            match command {
                Command::Offer { peer, .. } => {
                    self.outcome(id, Outcome::Answered(answer(&[], &[])));
                    return (ticket, Some(peer));
                }
                _ => self.outcome(id, Outcome::Done),
            }
        }
        (ticket, None)
    }

    fn refusal(&mut self, ticket: TicketId) -> Option<Failure> {
        match self.http.remove(&ticket) {
            Some(HttpAnswer::Refused(failure)) => Some(failure),
            _ => None,
        }
    }
}

#[test]
fn a_flood_of_hellos_from_one_address_leaves_room_for_others() {
    let mut house = small(100, 100);
    for socket in 0..100 {
        house.ask(socket, "hello", json!({"version": 1}));
    }
    assert_eq!(house.control.counters().sessions, 3);
    let refusal = house.only(99);
    assert_eq!(refusal["code"], "server_full");
    let message = refusal["message"].as_str().unwrap();
    assert!(message.contains("has 3 sessions"), "{message}");
    house.from = [192, 0, 2, 2].into();
    house.hello(100);
    house.close(0, true);
    house.from = [192, 0, 2, 1].into();
    house.hello(101);
}

#[test]
fn a_session_that_has_joined_nothing_ends_with_its_socket() {
    let mut house = small(100, 100);
    for socket in 0..100 {
        let secret = house.hello(socket);
        house.close(socket, false);
        assert_eq!(house.control.counters().sessions, 0);
        let resume = json!({"version": 1, "resume": {"session": secret, "seq": 0}});
        house.ask(1_000 + socket, "hello", resume);
        assert_eq!(house.only(1_000 + socket)["resumed"], false);
        house.close(1_000 + socket, true);
    }
    house.join(1, "Alice", answer(&[], &[]));
    house.ask(1, "leave", json!({}));
    house.close(1, false);
    assert_eq!(house.control.counters().sessions, 0, "it has left before");
}

#[test]
fn one_identity_has_so_many_sessions_wherever_it_comes_from() {
    let mut house = small(100, 100);
    house.access = Ok(token("ada", true, true));
    for socket in 0..5_u8 {
        house.from = [192, 0, 2, socket].into();
        house.ask(socket.into(), "hello", json!({"version": 1}));
    }
    assert_eq!(house.control.counters().sessions, 2);
    let message = house.only(4)["message"].as_str().unwrap().to_owned();
    assert!(message.contains("identity has 2 sessions"), "{message}");
    house.access = Ok(token("bob", true, true));
    house.hello(5);
}

#[test]
fn sessions_over_http_count_as_others_do() {
    let mut house = small(100, 100);
    for _ in 0..3 {
        let (ticket, _) = house.post(open_access());
        assert_eq!(house.refusal(ticket), None);
    }
    let (ticket, _) = house.post(open_access());
    assert_eq!(house.refusal(ticket).unwrap().code, ErrorCode::ServerFull);
    house.ask(1, "hello", json!({"version": 1}));
    assert_eq!(house.types(1), ["error server_full"]);
    // A refused one is given back.
    house.from = [192, 0, 2, 9].into();
    for _ in 0..10 {
        let other = Access {
            room: Some("cellar".parse().unwrap()),
            ..open_access()
        };
        let (ticket, _) = house.post(other);
        assert_eq!(house.refusal(ticket).unwrap().code, ErrorCode::WrongRoom);
    }
    house.hello(2);
}

#[test]
fn one_identity_has_so_many_participants_in_a_room() {
    let mut house = small(100, 100);
    house.access = Ok(token("ada", true, true));
    for socket in 1..=2 {
        house.hello(socket);
        house.ask(socket, "join", json!({"room": "kitchen"}));
        house.heard(socket);
    }
    let (ticket, _) = house.post(token("ada", true, true));
    let refusal = house.refusal(ticket).unwrap();
    // It has as many sessions as it may, too.
    assert_eq!(refusal.code, ErrorCode::ServerFull);
    let limits = Limits {
        identity_participants: 2,
        ..Limits::default()
    };
    let mut rooms = Rooms::new(limits);
    let room: RoomName = "kitchen".parse().unwrap();
    let ada = || crate::room::Entrant {
        via: crate::room::Via::Socket,
        name: None,
        identity: Some("ada".into()),
        metadata: None,
    };
    assert!(rooms.admit(&room, ada()).is_ok() && rooms.admit(&room, ada()).is_ok());
    let refusal = rooms.admit(&room, ada()).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::RoomFull);
    assert!(
        refusal.message.contains("2 participants"),
        "{}",
        refusal.message
    );
    let other: RoomName = "cellar".parse().unwrap();
    assert!(rooms.admit(&other, ada()).is_ok());
}

#[test]
fn who_posts_offers_without_media_takes_nobodys_place() {
    let mut house = House::with(Config {
        limits: Limits {
            participants: 2,
            ..Limits::default()
        },
        ..Config::default()
    });
    house.join(1, "Alice", answer(&[], &[]));
    house.heard(1);
    for _ in 0..20 {
        let (ticket, _) = house.post(open_access());
        assert_eq!(house.refusal(ticket), None);
    }
    house.pass(Duration::from_secs(2));
    assert_eq!(house.types(1), Vec::<String>::new(), "of any of them");
    // Alice, and as many that may yet come as a room may have.
    assert_eq!(house.control.members.len(), 3);
    // Who floods the room drives out itself alone.
    house.from = [192, 0, 2, 2].into();
    let (_, slow) = house.post(open_access());
    house.from = [192, 0, 2, 1].into();
    for _ in 0..20 {
        house.post(open_access());
    }
    assert!(house.control.peers.contains_key(&slow.unwrap()));
    let (_, peer) = house.post(open_access());
    let peer = peer.unwrap();
    house.join(2, "Bob", answer(&[], &[]));
    assert_eq!(house.types(2), ["joined"]);
    // The room has become full, so that whose media comes now is too late.
    house.report(MediaEvent::PeerConnected { peer });
    assert!(!house.control.peers.contains_key(&peer));
    assert_eq!(house.types(1), ["participant_joined"], "Bob alone");
    house.close(2, true);
    house.heard(1);
    let (_, peer) = house.post(open_access());
    let peer = peer.unwrap();
    for _ in 0..2 {
        house.report(MediaEvent::PeerConnected { peer });
    }
    assert_eq!(house.types(1), ["participant_joined"], "once");
    house.hello(3);
    house.ask(3, "join", json!({"room": "kitchen", "name": "Carol"}));
    assert_eq!(house.types(3), ["error room_full"], "it counts now");
}
