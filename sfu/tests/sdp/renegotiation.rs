//! The life of a connection after its first offer.

use confab_sfu::inside::peer::dtls::Role;
use confab_sfu::types::Mid;

use super::browsers::RECORDED;
use super::support::{BOTH, Line, Offer, Server};

fn mids(mids: &[&str]) -> Vec<Mid> {
    mids.iter().map(|mid| Mid::new(mid).unwrap()).collect()
}

#[test]
fn slots_are_added_and_keep_their_ssrcs() {
    let mut server = Server::new(BOTH);
    let mut offer = Offer::new([Line::audio("0", "sendonly"), Line::video("1", "recvonly")]);
    let first = server.offer(&offer.text()).unwrap();
    let slot = server.section("1").send.clone();

    offer.lines.push(Line::video("2", "recvonly"));
    offer.lines.push(Line::audio("3", "recvonly"));
    let second = server.offer(&offer.text()).unwrap();
    assert!(first.negotiated.ice_restart && !second.negotiated.ice_restart);
    assert_eq!(first.negotiated.local_ice, second.negotiated.local_ice);
    assert_eq!(server.section("1").send, slot);
    assert_ne!(
        server.section("2").send.as_ref().map(|s| s.ssrc),
        slot.as_ref().map(|s| s.ssrc)
    );
    assert_eq!(server.negotiation.sections().len(), 4);

    let origin = |version| format!("o=- {} {version} IN IP4 0.0.0.0\r\n", u64::MAX >> 1);
    assert!(first.negotiated.answer.contains(&origin(1)));
    assert!(second.negotiated.answer.contains(&origin(2)));
}

#[test]
fn a_passive_client_is_answered_active_for_good() {
    let mut server = Server::new(BOTH);
    let mut offer = Offer::new([Line::audio("0", "sendonly"), Line::video("1", "recvonly")]);
    offer.setup = "passive";
    for _ in 0..2 {
        let answer = server.offer(&offer.text()).unwrap();
        assert_eq!(answer.negotiated.role, Role::Client);
        assert_eq!(answer.attribute("0", "setup"), ["active"]);
    }
    offer.setup = "active";
    let refused = server.offer(&offer.text()).err().unwrap();
    assert!(refused.to_string().contains("active"), "{refused}");
}

#[test]
fn a_paused_slot_comes_back_as_it_was() {
    let mut server = Server::new(BOTH);
    let mut offer = Offer::new([Line::audio("0", "sendonly"), Line::video("1", "recvonly")]);
    server.offer(&offer.text()).unwrap();
    let slot = server.section("1").send.clone();

    offer.lines[1].direction = "inactive";
    let answer = server.offer(&offer.text()).unwrap();
    assert_eq!(answer.negotiated.stopped_sending, mids(&["1"]));
    assert_eq!(answer.negotiated.stopped_receiving, mids(&[]));
    assert_eq!(answer.direction("1"), "inactive");
    assert_eq!(server.section("1").send, None);

    offer.lines[1].direction = "recvonly";
    server.offer(&offer.text()).unwrap();
    assert_eq!(server.section("1").send, slot);
}

#[test]
fn a_stopped_m_line_is_used_again_for_something_else() {
    let mut server = Server::new(BOTH);
    let mut offer = Offer::new([Line::audio("0", "sendonly"), Line::video("1", "sendrecv")]);
    server.offer(&offer.text()).unwrap();
    let old = server.section("1").send.clone().unwrap();

    offer.lines[1] = Line::video("1", "sendrecv").stopped();
    let answer = server.offer(&offer.text()).unwrap();
    assert!(answer.is_rejected("1"));
    assert_eq!(answer.negotiated.stopped_receiving, mids(&["1"]));
    assert_eq!(answer.negotiated.stopped_sending, mids(&["1"]));
    assert_eq!(server.negotiation.sections().len(), 1);

    offer.lines[1] = Line::audio("2", "recvonly");
    let answer = server.offer(&offer.text()).unwrap();
    assert_eq!(answer.direction("2"), "sendonly");
    assert_eq!(server.section("2").index, 1);
    assert_ne!(
        server.section("2").send.as_ref().map(|s| s.ssrc),
        Some(old.ssrc)
    );
}

#[test]
fn everything_may_be_stopped_and_started_again() {
    let mut server = Server::new(BOTH);
    let mut offer = Offer::new([Line::audio("0", "sendonly")]);
    server.offer(&offer.text()).unwrap();
    offer.lines[0] = Line::audio("0", "sendonly").stopped();
    let answer = server.offer(&offer.text()).unwrap();
    assert!(answer.is_rejected("0") && !answer.negotiated.ice_restart);
    offer.lines[0] = Line::video("1", "sendonly");
    let answer = server.offer(&offer.text()).unwrap();
    assert_eq!(answer.direction("1"), "recvonly");
    assert!(!answer.negotiated.ice_restart);
}

#[test]
fn new_credentials_restart_ice() {
    let mut server = Server::new(BOTH);
    let mut offer = Offer::new([Line::audio("0", "sendonly")]);
    let before = server.offer(&offer.text()).unwrap().negotiated;
    offer.ufrag = "wxyz";
    offer.pwd = "ABCDEFGHIJKLMNOPQRSTUV";
    let after = server.offer(&offer.text()).unwrap();
    assert!(after.negotiated.ice_restart);
    assert_ne!(before.local_ice, after.negotiated.local_ice);
    assert_eq!(after.negotiated.remote_ice.ufrag, "wxyz");
    assert_eq!(
        after.attribute("0", "ice-ufrag"),
        [&after.negotiated.local_ice.ufrag]
    );
    assert_eq!(before.fingerprints, after.negotiated.fingerprints);
}

#[test]
fn a_fragment_restarts_ice_without_an_offer() {
    let mut server = Server::new(BOTH);
    let fragment = "a=ice-options:trickle ice2\r\na=group:BUNDLE 0\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:wxyz\r\n\
        a=ice-pwd:ABCDEFGHIJKLMNOPQRSTUV\r\n";
    assert_eq!(
        server.restart(fragment).unwrap_err().code(),
        "unsupported_sdp"
    );

    let mut offer = Offer::new([Line::audio("0", "sendonly")]);
    let before = server.offer(&offer.text()).unwrap().negotiated;
    let restarted = server.restart(fragment).unwrap();
    assert!(restarted.ice_restart);
    assert_ne!(restarted.local_ice, before.local_ice);
    assert_eq!(restarted.remote_ice.ufrag, "wxyz");
    for line in [
        "a=ice-lite",
        "a=group:BUNDLE 0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=mid:0",
        &format!("a=ice-ufrag:{}", restarted.local_ice.ufrag),
        &format!("a=ice-pwd:{}", restarted.local_ice.pwd),
        "a=candidate:1 1 udp 201326591 192.0.2.1 7000 typ host",
        "a=end-of-candidates",
    ] {
        assert!(
            restarted.fragment.split("\r\n").any(|other| other == line),
            "{line}"
        );
    }

    // The same again only trickles, and the next offer knows of the restart.
    let trickle = server.restart(fragment).unwrap();
    assert!(!trickle.ice_restart && trickle.fragment.is_empty());
    assert_eq!(trickle.local_ice, restarted.local_ice);
    offer.ufrag = "wxyz";
    offer.pwd = "ABCDEFGHIJKLMNOPQRSTUV";
    let after = server.offer(&offer.text()).unwrap().negotiated;
    assert!(!after.ice_restart);
    assert_eq!(after.local_ice, restarted.local_ice);

    for bad in [
        "",
        "a=ice-ufrag:wxyz",
        "a=ice-ufrag:wxyz\r\na=ice-pwd:short",
    ] {
        assert_eq!(server.restart(bad).unwrap_err().code(), "bad_sdp", "{bad}");
    }
    let huge = format!("{fragment}{}", "a=x\r\n".repeat(10_000));
    assert_eq!(server.restart(&huge).unwrap_err().code(), "bad_sdp");
}

#[test]
fn offering_the_same_again_changes_nothing() {
    for (name, offer) in RECORDED {
        let mut server = Server::new(BOTH);
        let first = server.offer(offer).expect(name).negotiated;
        let sections = server.negotiation.sections().to_vec();
        let second = server.offer(offer).expect(name).negotiated;
        assert_eq!(server.negotiation.sections(), sections, "{name}");
        assert!(!second.ice_restart);
        assert_eq!(first.local_ice, second.local_ice);
        assert!(second.stopped_receiving.is_empty() && second.stopped_sending.is_empty());
        let body = |answer: &str| answer.split_once("\r\ns=").unwrap().1.to_owned();
        assert_eq!(body(&first.answer), body(&second.answer), "{name}");
    }
}
