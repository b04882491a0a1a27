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
        let ticket = self.offer_over_http(Endpoint::Whip, access);
        while let Some((id, command)) = self.commands.pop_front() {
            match command {
                media::Request::Offer { peer, .. } => {
                    self.outcome(id, media::Reply::Answered(answer(&[], &[])));
                    return (ticket, Some(peer));
                }
                _ => self.outcome(id, media::Reply::Done),
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
fn where_all_sessions_are_given_those_in_no_room_give_way() {
    let mut house = House::with(Config {
        max_sessions: 10,
        ..Config::default()
    });
    let address = |line: u16| IpAddr::from([0x2001, 0xdb8, 0, line, 0, 0, 0, 1]);
    house.from = address(1);
    house.join(100, "Alice", answer(&[], &[]));
    house.from = address(2);
    house.hello(101);
    for socket in 0..8 {
        house.from = address(10 + u16::from(socket > 5));
        house.hello(socket);
    }
    house.from = address(3);
    // Whoever has just come may be about to join.
    house.ask(200, "hello", json!({"version": 1}));
    assert_eq!(house.types(200), ["error server_full"]);
    house.closed.clear();
    house.pass(IDLE_AFTER);
    house.hello(201);
    // The oldest of the line that has most of them.
    assert_eq!(house.types(0), ["closing server_full"]);
    assert_eq!(house.closed, [SocketId(0)]);
    assert_eq!(house.control.counters().sessions, 10);
    let (ticket, _) = house.post(open_access());
    assert_eq!(house.refusal(ticket), None);
    assert_eq!(house.types(1), ["closing server_full"]);
    // In rooms nobody gives way, and who has left one does.
    for socket in [101, 201, 2, 3, 4, 5, 6, 7] {
        house.ask(socket, "join", json!({"room": "kitchen"}));
    }
    house.ask(300, "hello", json!({"version": 1}));
    assert_eq!(house.types(300), ["error server_full"]);
    house.heard(3);
    house.ask(3, "leave", json!({}));
    house.hello(301);
    assert_eq!(house.types(3), ["left", "closing server_full"]);
    assert_eq!(house.control.counters().sessions, 9, "and one over HTTP");
    assert_eq!(house.control.idle.len(), 1);
}

#[test]
fn one_identity_has_so_many_sessions_on_each_line() {
    let mut house = small(100, 100);
    house.access = Ok(token("ada", true, true));
    for socket in 0..3 {
        house.ask(socket, "hello", json!({"version": 1}));
    }
    assert_eq!(house.control.counters().sessions, 2);
    let message = house.only(2)["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("This identity at this address has 2 sessions"),
        "{message}"
    );
    // Others who have come by the same link.
    for guest in 3..10_u8 {
        house.from = [192, 0, 2, guest].into();
        house.hello(guest.into());
    }
    house.from = [192, 0, 2, 1].into();
    house.access = Ok(token("bob", true, true));
    house.hello(20);
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
fn one_identity_has_so_many_participants_of_each_line_in_a_room() {
    let mut house = House::with_limits(Limits {
        identity_participants: 2,
        ..Limits::default()
    });
    let join = |house: &mut House, socket: u64| {
        house.hello(socket);
        house.ask(socket, "join", json!({"room": "kitchen"}));
        house.types(socket).remove(0)
    };
    house.access = Ok(token("ada", true, true));
    assert_eq!(join(&mut house, 1), "joined");
    let (ticket, _) = house.post(token("ada", true, true));
    assert_eq!(house.refusal(ticket), None);
    assert_eq!(join(&mut house, 2), "error room_full");
    let (ticket, _) = house.post(token("ada", true, true));
    let refusal = house.refusal(ticket).unwrap();
    assert_eq!(refusal.code, ErrorCode::RoomFull);
    assert!(
        refusal
            .message
            .contains("at this address has 2 participants"),
        "{}",
        refusal.message
    );
    // Others who have come by the same link.
    for guest in 10..20_u8 {
        house.from = [192, 0, 2, guest].into();
        assert_eq!(join(&mut house, guest.into()), "joined");
    }
}

#[test]
fn an_identity_that_nobody_vouches_for_counts_for_nothing() {
    let mut house = House::with(Config {
        max_identity_sessions: 1,
        limits: Limits {
            identity_participants: 1,
            ..Limits::default()
        },
        ..Config::default()
    });
    for _ in 0..3 {
        let ticket = house.http(HttpRequest::Create {
            endpoint: Endpoint::Whip,
            room: "kitchen".parse().unwrap(),
            name: None,
            identity: Some("ada".into()),
            access: open_access(),
            from: house.from,
            sdp: "v=0\r\n".into(),
        });
        assert_eq!(house.refusal(ticket), None);
        let (id, _) = house.offered_peer();
        house.outcome(id, media::Reply::Answered(answer(&[], &[])));
    }
    assert_eq!(house.control.members.len(), 3);
}

#[test]
fn who_posts_offers_without_media_takes_nobodys_place() {
    let mut house = House::with_limits(Limits {
        participants: 2,
        ..Limits::default()
    });
    house.join(1, "Alice", answer(&[], &[]));
    house.heard(1);
    for _ in 0..20 {
        let (ticket, _) = house.post(open_access());
        assert_eq!(house.refusal(ticket), None);
    }
    let told = house.types(1).len();
    assert!(
        told <= 4 * 2,
        "who came and went, of four at the most: {told}"
    );
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
    house.pass(Duration::from_secs(2));
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
