//! The offers of clients that are no browsers of today, and what of each is served. They follow offers
//! in public reports; every name, key and address is made up.

use confab_sfu::types::{Mid, Ssrc};

use super::support::{BOTH, Server, WHIP};

macro_rules! client {
    ($name:literal) => {
        include_str!(concat!("clients/", $name, ".sdp"))
    };
}

#[test]
fn each_is_served_as_far_as_it_can_be() {
    // its m-lines with their direction in the answer, `-` where it is rejected
    let cases = [
        // No mid, no BUNDLE group, old profile, empty lines: the first m-line is served.
        ("bowser-2015", client!("bowser-2015"), "sendrecv -"),
        (
            "nextcloud-sim",
            client!("nextcloud-sim"),
            "recvonly recvonly -",
        ),
        (
            "webrtc-rs-whip",
            client!("webrtc-rs-whip"),
            "recvonly recvonly",
        ),
        ("uuid-mids", client!("uuid-mids"), "recvonly recvonly"),
        ("gateway-savp", client!("gateway-savp"), "sendrecv"),
    ];
    for (name, offer, expected) in cases {
        let mut server = Server::new(BOTH);
        let answer = server
            .offer(offer)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let lines = answer.sdp.media.iter().map(|line| match line.is_port_zero {
            true => "-",
            false => line.direction().unwrap_or("none"),
        });
        assert_eq!(lines.collect::<Vec<_>>().join(" "), expected, "{name}");
        // All of them publish over WHIP too.
        let error = Server::new(WHIP).offer(offer).err();
        assert_eq!(error, None, "{name}");
        // And say the same again.
        let again = server.offer(offer).unwrap();
        assert!(!again.negotiated.ice_restart, "{name}");
    }
}

#[test]
fn a_legacy_simulcast_group_is_read() {
    let mut server = Server::new(BOTH);
    server.offer(client!("nextcloud-sim")).unwrap();
    let receive = server.section("1").receive.clone().unwrap();
    let pairs = [(1000, 2000), (1001, 2001), (1002, 2002)];
    let pairs = pairs.map(|(media, rtx)| (Ssrc(media), Some(Ssrc(rtx))));
    assert!(receive.is_sim_group && receive.rids.is_empty());
    assert_eq!(receive.ssrcs, pairs);
}

#[test]
fn an_m_line_without_a_name_gets_none_in_the_answer() {
    let mut server = Server::new(BOTH);
    let answer = server.offer(client!("bowser-2015")).unwrap();
    let text = &answer.negotiated.answer;
    assert!(
        !text.contains("a=mid") && !text.contains("a=group"),
        "{text}"
    );
    // We know it by its place.
    let mids: Vec<Mid> = server
        .negotiation
        .sections()
        .iter()
        .map(|s| s.mid)
        .collect();
    assert_eq!(mids, [Mid::new("0").unwrap()]);
    let refused = &answer.negotiated.refused[..];
    let [(mid, reason)] = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(mid.as_str(), "1");
    assert!(reason.to_string().contains("BUNDLE"), "{reason}");
}

#[test]
fn keys_in_the_offer_are_not_enough() {
    let error = Server::new(BOTH).offer(client!("chrome-22-sdes")).err();
    let error = error.unwrap();
    assert_eq!(error.code(), "unsupported_sdp");
    assert!(error.to_string().contains("a=fingerprint"), "{error}");
}
