//! What is refused, in what words, and that a refusal changes nothing.

use confab_sfu::MAX_LINES;
use confab_sfu::inside::peer::sdp::{MAX_SDP_BYTES, Policy};

use super::support::{BOTH, Line, Offer, PUBLISH_ONLY, SUBSCRIBE_ONLY, Server};

fn publishing() -> Offer {
    Offer::new([
        Line::audio("mic", "sendonly"),
        Line::video("cam", "sendonly"),
    ])
}

/// Changes a good offer to a bad one.
type Spoil = fn(&mut Offer);

#[test]
fn first_offers_are_refused_with_a_sentence() {
    // how, code, what the sentence must name
    let cases: &[(Spoil, &str, &[&str])] = &[
        (|o| o.lines.clear(), "bad_sdp", &["no active"]),
        (
            |o| o.setup = "holdconn",
            "unsupported_sdp",
            &["mic", "holdconn"],
        ),
        (
            |o| o.fingerprint = "",
            "unsupported_sdp",
            &["mic", "fingerprint"],
        ),
        (
            |o| o.fingerprint = "sha-1 AA:AA",
            "unsupported_sdp",
            &["mic", "sha-256"],
        ),
        (|o| o.ufrag = "", "bad_sdp", &["ice-ufrag"]),
        (|o| o.pwd = "short", "bad_sdp", &["ice-pwd", "22"]),
        (
            |o| o.session.push("ice-lite".into()),
            "unsupported_sdp",
            &["ICE-lite"],
        ),
        (
            |o| o.lines[0] = Line::audio("mic", "sendonly").without("rtcp-mux"),
            "unsupported_sdp",
            &["m-line 0", "mic", "rtcp-mux"],
        ),
        (|o| o.lines[1].mid = "mic", "bad_sdp", &["m-line 1", "mic"]),
        (
            |o| o.lines[1].mid = "a/b",
            "bad_sdp",
            &["m-line 1", "a=mid"],
        ),
        (
            |o| {
                o.lines[1].mid =
                    "longer-than-sixty-four-characters-which-no-client-would-make-its-mid"
            },
            "bad_sdp",
            &["m-line 1", "64"],
        ),
        (
            |o| {
                for line in &mut o.lines {
                    line.attributes.push("ssrc:77 cname:x".into());
                }
            },
            "bad_sdp",
            &["cam", "77"],
        ),
        (
            |o| {
                let line = Line::video("cam", "sendonly").without("extmap");
                let rid = "extmap:4 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
                o.lines[1] = line.with(&[rid]);
            },
            "bad_sdp",
            &["cam", "id 4"],
        ),
        (
            |o| {
                o.lines[1]
                    .attributes
                    .extend((0..17).map(|n| format!("rid:{n} send")))
            },
            "bad_sdp",
            &["m-line 1", "17 rids", "16"],
        ),
        (
            |o| {
                o.lines[1]
                    .attributes
                    .extend((0..10_000).map(|n| format!("ssrc:{n} cname:x")))
            },
            "bad_sdp",
            &["m-line 1", "SSRCs"],
        ),
        (
            |o| o.lines.resize(MAX_LINES + 1, Line::audio("x", "sendonly")),
            "bad_sdp",
            &["65", "64"],
        ),
        (
            |o| o.session.push("x".repeat(MAX_SDP_BYTES)),
            "bad_sdp",
            &["bytes", "262144"],
        ),
    ];
    for (number, (spoil, code, words)) in cases.iter().enumerate() {
        let mut offer = publishing();
        spoil(&mut offer);
        let mut server = Server::new(BOTH);
        let error = server
            .offer(&offer.text())
            .err()
            .unwrap_or_else(|| panic!("case {number}"));
        assert_eq!(error.code(), *code, "{error}");
        for word in *words {
            assert!(
                error.to_string().contains(word),
                "«{error}» should name {word}"
            );
        }
        // Nothing of it stuck: a good offer is the first.
        assert!(server.negotiation.sections().is_empty());
        assert!(
            server
                .offer(&publishing().text())
                .unwrap()
                .negotiated
                .ice_restart
        );
    }
}

#[test]
fn text_that_is_no_sdp_is_refused() {
    for text in [
        "",
        "hello",
        "v=0",
        "{\"sdp\": 1}",
        "v=0\r\no=-\r\n",
        "\0\0\0",
    ] {
        let error = Server::new(BOTH).offer(text).err().unwrap();
        assert_eq!(error.code(), "bad_sdp", "{text}: {error}");
    }
}

#[test]
fn who_may_do_nothing_is_told_so() {
    let nothing = Policy {
        may_publish: false,
        may_subscribe: false,
        is_whole: false,
    };
    let error = Server::new(nothing)
        .offer(&publishing().text())
        .err()
        .unwrap();
    assert_eq!(error.code(), "not_allowed");
}

#[test]
fn later_offers_may_not_change_what_is_live() {
    let cases: &[(Spoil, &str, &[&str])] = &[
        (|o| o.lines.truncate(1), "bad_sdp", &["1 m-lines", "had 2"]),
        (
            |o| o.lines.swap(0, 1),
            "bad_sdp",
            &["m-line 0", "cam", "mic"],
        ),
        (
            |o| o.lines[1].mid = "screen",
            "bad_sdp",
            &["m-line 1", "screen", "cam"],
        ),
        (
            |o| o.lines[1] = Line::audio("cam", "sendonly"),
            "bad_sdp",
            &["audio", "video"],
        ),
        (
            |o| {
                o.fingerprint = "sha-256 \
                    BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:\
                    BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB";
            },
            "unsupported_sdp",
            &["fingerprint", "new connection"],
        ),
    ];
    for (spoil, code, words) in cases {
        let mut server = Server::new(BOTH);
        server.offer(&publishing().text()).unwrap();
        let sections = server.negotiation.sections().to_vec();
        let mut offer = publishing();
        spoil(&mut offer);
        let error = server.offer(&offer.text()).err().unwrap();
        assert_eq!(error.code(), *code, "{error}");
        for word in *words {
            assert!(
                error.to_string().contains(word),
                "«{error}» should name {word}"
            );
        }
        assert_eq!(server.negotiation.sections(), sections);
        assert!(
            !server
                .offer(&publishing().text())
                .unwrap()
                .negotiated
                .ice_restart
        );
    }
}

#[test]
fn what_can_be_rejected_alone_is() {
    let data = Line {
        media: "application",
        formats: "webrtc-datachannel",
        ..Line::audio("data", "sendrecv")
    };
    let mut unbundled = Line::audio("apart", "sendonly");
    unbundled.bundled = false;
    let strange = Line::video("strange", "recvonly").without("rtpmap");
    let lines = [data, unbundled, strange, Line::audio("mic", "sendonly")];
    let mut server = Server::new(BOTH);
    let answer = server.offer(&Offer::new(lines.clone()).text()).unwrap();
    for mid in ["apart", "strange"] {
        assert!(answer.is_rejected(mid), "{mid}");
    }
    assert_eq!(answer.direction("mic"), "recvonly");
    assert_eq!(answer.line("data").formats, ["webrtc-datachannel"]);
    let refused = answer.negotiated.refused.iter();
    let refused: Vec<_> = refused.map(|(mid, _)| mid.as_str()).collect();
    assert_eq!(refused, ["data", "apart", "strange"]);
    // The first m-line of the group keeps it together, though nothing is sent there.
    assert!(!answer.is_rejected("data"));
    assert_eq!(answer.direction("data"), "inactive");
    assert_eq!(answer.attribute("data", "candidate").len(), 2);
    assert!(
        answer
            .negotiated
            .answer
            .contains("a=group:BUNDLE data mic\r\n")
    );

    // Alone, each is a reason to refuse, but for the one that then has the transport to itself.
    for line in [&lines[0], &lines[2]] {
        let error = Server::new(BOTH)
            .offer(&Offer::new([line.clone()]).text())
            .err()
            .unwrap();
        assert_eq!(error.code(), "unsupported_sdp");
        assert!(error.to_string().contains(line.mid), "{error}");
    }
}

#[test]
fn a_client_without_a_right_gets_an_inactive_m_line() {
    let lines = [Line::audio("a", "sendrecv"), Line::video("v", "recvonly")];
    let offer = Offer::new(lines).text();
    let answer = Server::new(PUBLISH_ONLY).offer(&offer).unwrap();
    assert_eq!(
        (answer.direction("a"), answer.direction("v")),
        ("recvonly", "inactive")
    );
    let answer = Server::new(SUBSCRIBE_ONLY).offer(&offer).unwrap();
    assert_eq!(
        (answer.direction("a"), answer.direction("v")),
        ("sendonly", "sendonly")
    );
}

#[test]
fn bundle_only_m_lines_lean_on_the_transport_of_the_first() {
    let offer = Offer::new([Line::audio("a", "sendonly")]).text()
        + "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=bundle-only\r\na=mid:v\r\na=recvonly\r\n\
           a=rtpmap:96 VP8/90000\r\n";
    let offer = offer.replace("BUNDLE a", "BUNDLE a v");
    let answer = Server::new(BOTH).offer(&offer).unwrap();
    assert_eq!(answer.direction("v"), "sendonly");
    // Even when that first one is rejected.
    let offer = offer.replace("m=audio 9", "m=application 9");
    let answer = Server::new(BOTH).offer(&offer).unwrap();
    assert_eq!(answer.direction("a"), "inactive");
    assert_eq!(answer.attribute("a", "candidate").len(), 2);
}

#[test]
fn the_first_of_a_group_that_is_not_served_lends_its_transport() {
    let strange = Line::audio("mic", "sendonly").without("rtpmap");
    let lines = [strange, Line::video("cam", "sendonly")];
    let mut server = Server::new(BOTH);
    let mut offer = Offer::new(lines);
    offer.lines[0]
        .attributes
        .push("rtpmap:111 strange/48000/2".to_owned());
    for _ in 0..2 {
        let answer = server.offer(&offer.text()).unwrap();
        let refused = answer.negotiated.refused.iter();
        assert!(refused.map(|(mid, _)| mid.as_str()).eq(["mic"]));
        assert_eq!(answer.direction("mic"), "inactive");
        assert_eq!(answer.attribute("mic", "rtpmap"), ["111 strange/48000/2"]);
        assert_eq!(answer.attribute("mic", "ice-ufrag").len(), 1);
        assert_eq!(answer.direction("cam"), "recvonly");
        assert!(
            answer
                .negotiated
                .answer
                .contains("a=group:BUNDLE mic cam\r\n")
        );
    }
    // Stopped by the client, it is out.
    offer.lines[0] = offer.lines[0].clone().stopped();
    let answer = server.offer(&offer.text()).unwrap();
    assert!(answer.is_rejected("mic"));
    assert_eq!(answer.attribute("cam", "candidate").len(), 2);
}
