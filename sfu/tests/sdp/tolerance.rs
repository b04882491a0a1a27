//! What an offer may say otherwise than browsers do, and is served all the same.

use confab_sfu::media::Extension;
use confab_sfu::types::Mid;

use super::support::{BOTH, Line, Offer, Server, WHEP, WHIP};

/// As 36 characters are, which UUIDs have.
const LONG: &str = "6f1c2a7e-5e0b-4c1d-9b7a-0a1b2c3d4e5f";
const LONGEST: &str = "0123456789-123456789-123456789-123456789-123456789-123456789-123";

fn publishing() -> Offer {
    Offer::new([
        Line::audio("mic", "sendonly"),
        Line::video("cam", "sendonly"),
    ])
}

#[test]
fn every_profile_token_is_taken_and_repeated() {
    for proto in [
        "UDP/TLS/RTP/SAVPF",
        "UDP/TLS/RTP/SAVP",
        "TCP/DTLS/RTP/SAVPF",
        "TCP/DTLS/RTP/SAVP",
        "RTP/SAVPF",
        "RTP/SAVP",
        "RTP/AVPF",
        "RTP/AVP",
        "TCP/TLS/RTP/SAVPF",
        "udp/tls/rtp/savpf",
    ] {
        let mut offer = publishing();
        offer.lines.iter_mut().for_each(|line| line.proto = proto);
        let answer = Server::new(WHIP).offer(&offer.text()).expect(proto);
        assert_eq!(answer.line("mic").proto, proto);
        assert_eq!(answer.direction("cam"), "recvonly", "{proto}");
    }
    for proto in ["UDP/DTLS/SCTP", "RTP", "UDP/TLS/RTP/SAVPFX", "DTLS/SCTP"] {
        let mut offer = publishing();
        offer.lines.iter_mut().for_each(|line| line.proto = proto);
        let error = Server::new(WHIP).offer(&offer.text()).err().expect(proto);
        assert_eq!(error.code(), "unsupported_sdp");
        assert!(error.to_string().contains(proto), "{error}");
    }
}

#[test]
fn lines_that_do_not_matter_say_what_they_like() {
    let good = publishing().text();
    let fingerprint = publishing().fingerprint;
    let changes: &[(&str, &str)] = &[
        ("o=- 1 1", "o=- 99999999999999999999999999999999 -5"),
        ("o=- 1 1 IN IP4 127.0.0.1", "o=jdoe x y IN IP6 ::1"),
        ("o=- 1 1 IN IP4 127.0.0.1", "o="),
        ("s=-", "s="),
        (
            "s=-",
            "s=Ünïcode session\r\ni=info\r\nu=no url\r\ne=x\r\np=+1",
        ),
        ("t=0 0", "t=18446744073709551616 -1"),
        (
            "t=0 0",
            "t=0 0\r\nr=604800 3600 0 90000000000000000000\r\nz=1 -1h x",
        ),
        ("t=0 0\r\n", ""),
        ("t=0 0", "b=AS:-1\r\nt=0 0"),
        ("t=0 0", "b=CT:99999999999999999999\r\nt=0 0\r\nk=base64:x"),
        (
            "c=IN IP4 0.0.0.0",
            "c=IN IP4 0.0.0.0\r\nb=AS:-1\r\nb=TIAS:0\r\nb=X-YZ:1.5",
        ),
        ("c=IN IP4 0.0.0.0", "c=IN IP6 ::\r\nb=RS\r\nb=RR:x:y\r\nb="),
        ("c=IN IP4 0.0.0.0\r\n", ""),
        (
            "c=IN IP4 0.0.0.0",
            "i=title\r\nc=\r\nk=prompt\r\ny=0100008888\r\nf=",
        ),
        ("m=audio 9 ", "m=audio 54321/2 "),
        ("m=audio 9 ", "m=audio 123456789 "),
        ("m=audio", "m=AUDIO"),
        (
            "a=sendonly\r\n",
            "a=sendonly\r\na=unknown:\u{1f600}\r\na=\r\na=:\r\n",
        ),
        ("\r\n", "\n"),
        ("\r\n", "\r"),
        ("\r\n", "\r\n\r\n"),
        ("\r\n", "  \r\n"),
        ("a=fingerprint:sha-256 AA", "a=fingerprint:SHA-256 aa"),
        (
            "a=fingerprint:",
            "a=fingerprint:sha-1 AA:AA\r\na=fingerprint:sha-9 x\r\na=fingerprint:",
        ),
    ];
    for (from, to) in changes {
        let offer = good.replace(from, to);
        assert_ne!(offer, good, "{from}");
        let mut server = Server::new(WHIP);
        let answer = server.offer(&offer);
        let answer = answer.unwrap_or_else(|error| panic!("{to:?}: {error}"));
        assert_eq!(answer.direction("mic"), "recvonly", "{to:?}");
        assert_eq!(answer.direction("cam"), "recvonly", "{to:?}");
    }
    let around = format!("\u{feff}\r\n{good}\r\n\r\n \r\n");
    assert!(Server::new(WHIP).offer(&around).is_ok());

    // Once for all, or with each m-line.
    let shared = ["ice-ufrag:", "ice-pwd:", "setup:", "fingerprint:"];
    let (mut session, mut lines) = (String::new(), String::new());
    for line in good.split_inclusive("\r\n") {
        match shared
            .iter()
            .any(|key| line.starts_with(&format!("a={key}")))
        {
            true if session.contains(line) => {}
            true => session += line,
            false => lines += line,
        }
    }
    let moved = lines.replace("t=0 0\r\n", &format!("t=0 0\r\n{session}"));
    assert_eq!(moved.matches(fingerprint).count(), 1);
    assert!(Server::new(WHIP).offer(&moved).is_ok(), "{moved}");
}

#[test]
fn header_extensions_of_the_session_are_those_of_every_m_line() {
    let mut offer = Offer::new([Line::video("v", "sendrecv").without("extmap")]);
    offer.session = vec!["extmap:7 urn:ietf:params:rtp-hdrext:sdes:mid".into()];
    let mut server = Server::new(BOTH);
    let answer = server.offer(&offer.text()).unwrap();
    let send = server.section("v").send.clone().unwrap();
    assert_eq!(send.extensions.id(Extension::Mid), Some(7));
    assert_eq!(
        answer.attribute("v", "extmap"),
        ["7 urn:ietf:params:rtp-hdrext:sdes:mid"]
    );
}

#[test]
fn without_a_bundle_group_the_first_m_line_is_served() {
    let unbundled = |lines: &[Line]| {
        let mut offer = Offer::new(lines);
        offer.lines.iter_mut().for_each(|line| line.bundled = false);
        offer
    };
    let (mic, cam) = (
        Line::audio("mic", "sendonly"),
        Line::video("cam", "sendonly"),
    );
    let mut server = Server::new(WHIP);
    let mut offer = unbundled(&[mic.clone(), cam.clone()]);
    let answer = server.offer(&offer.text()).unwrap();
    assert_eq!(answer.direction("mic"), "recvonly");
    assert!(answer.is_rejected("cam"));
    assert!(!answer.negotiated.answer.contains("a=group"));
    assert_eq!(answer.attribute("mic", "candidate").len(), 2);

    // It stays the one, whatever is added before or behind it.
    offer.lines[1] = offer.lines[1].clone().stopped();
    offer.lines.push(Line::video("more", "sendonly"));
    offer.lines[2].bundled = false;
    let again = server.offer(&offer.text()).unwrap();
    assert_eq!(again.direction("mic"), "recvonly");
    assert!(again.is_rejected("more") && !again.negotiated.ice_restart);

    // One alone needs no group, a group of others leaves it out, and an empty one is none.
    for (session, served) in [
        (vec![], true),
        (vec!["group:BUNDLE".to_owned()], true),
        (vec!["group:BUNDLE other".to_owned()], true),
        (vec!["group:LS mic cam".to_owned()], true),
        (vec!["group:BUNDLE cam".to_owned()], false),
    ] {
        let mut offer = unbundled(&[mic.clone(), cam.clone()]);
        offer.session.clone_from(&session);
        let answer = Server::new(BOTH).offer(&offer.text()).unwrap();
        assert_eq!(answer.is_rejected("mic"), !served, "{session:?}");
        assert_eq!(answer.is_rejected("cam"), served, "{session:?}");
    }

    // The first that can be.
    let strange = mic.clone().without("rtpmap");
    let offer = unbundled(&[strange, cam]);
    let answer = Server::new(BOTH).offer(&offer.text()).unwrap();
    assert!(answer.is_rejected("mic"));
    assert_eq!(answer.direction("cam"), "recvonly");
}

#[test]
fn m_lines_without_a_name_keep_the_one_we_give_them() {
    let nameless = |media: fn(&'static str, &'static str) -> Line, direction| {
        let mut line = media("", direction);
        line.bundled = false;
        line
    };
    let mut server = Server::new(BOTH);
    let mut offer = Offer::new([nameless(Line::video, "sendrecv")]);
    let answer = server.offer(&offer.text()).unwrap();
    assert!(!answer.negotiated.answer.contains("a=mid"));
    let slot = server.section("0").send.clone();
    assert!(slot.is_some());
    server.offer(&offer.text()).unwrap();
    assert_eq!(server.section("0").send, slot);

    let fragment = "a=ice-ufrag:wxyz\r\na=ice-pwd:ABCDEFGHIJKLMNOPQRSTUV\r\n";
    let fragment = server.restart(fragment).unwrap().fragment;
    assert!(!fragment.contains("a=mid") && !fragment.contains("a=group"));

    // A name that is in use is not given again, nor taken away.
    offer.lines = vec![
        nameless(Line::audio, "sendonly"),
        Line::video("0", "sendonly"),
    ];
    let mut server = Server::new(BOTH);
    server.offer(&offer.text()).unwrap();
    let mids = server.negotiation.sections().iter().map(|s| s.mid);
    assert_eq!(mids.collect::<Vec<_>>(), [Mid::new("0").unwrap()]);
    let mut server = Server::new(BOTH);
    let both = offer.lines.clone();
    offer.lines.truncate(1);
    server.offer(&offer.text()).unwrap();
    offer.lines = both;
    let error = server.offer(&offer.text()).err().unwrap();
    assert!(error.to_string().contains("m-line 1"), "{error}");
}

#[test]
fn long_names_are_kept_and_said_where_they_fit() {
    for (mid, mixed, said) in [
        ("sixteen-letters!", false, true),
        (LONG, false, false),
        (LONG, true, true),
        (LONGEST, true, true),
    ] {
        let mut offer = Offer::new([Line::video(mid, "sendrecv")]);
        if mixed {
            offer.session.push("extmap-allow-mixed".into());
        }
        let mut server = Server::new(BOTH);
        let answer = server.offer(&offer.text()).expect(mid);
        assert_eq!(answer.direction(mid), "sendrecv");
        let section = server.section(mid);
        let receive = section.receive.as_ref().unwrap().extensions;
        assert_eq!(receive.id(Extension::Mid), Some(4));
        let send = section.send.as_ref().unwrap().extensions;
        assert_eq!(send.id(Extension::Mid).is_some(), said, "{mid}");
    }
}

#[test]
fn over_whip_all_that_is_published_is_served_or_nothing() {
    let no_codec = |line: Line| line.without("rtpmap").with(&["rtpmap:96 theora/90000"]);
    let offer = Offer::new([
        Line::audio("mic", "sendonly"),
        no_codec(Line::video("cam", "sendonly")),
    ]);
    let error = Server::new(WHIP).offer(&offer.text()).err().unwrap();
    assert_eq!(error.code(), "unsupported_sdp");
    for word in ["m-line 1", "cam", "theora", "VP8", "H264"] {
        assert!(error.to_string().contains(word), "«{error}» lacks {word}");
    }
    // Who can be told of it gets the rest.
    let answer = Server::new(BOTH).offer(&offer.text()).unwrap();
    assert_eq!(answer.direction("mic"), "recvonly");
    assert!(answer.is_rejected("cam"));
    let refused = &answer.negotiated.refused[..];
    assert_eq!(refused, [(Mid::new("cam").unwrap(), error)]);
    // Nothing is published on these.
    for direction in ["recvonly", "inactive"] {
        let mut offer = offer.clone();
        offer.lines[1].direction = direction;
        assert!(Server::new(WHIP).offer(&offer.text()).is_ok());
    }
}

#[test]
fn an_offer_the_wrong_way_round_is_refused_with_a_sentence() {
    let offer = |direction: &'static str| {
        let lines = [Line::audio("a", direction), Line::video("v", direction)];
        Offer::new(lines).text()
    };
    let cases = [
        (WHIP, "recvonly", Some("publish")),
        (WHIP, "inactive", Some("publish")),
        (WHIP, "sendonly", None),
        (WHIP, "sendrecv", None),
        (WHEP, "sendonly", Some("receives")),
        (WHEP, "inactive", Some("receives")),
        (WHEP, "recvonly", None),
        (WHEP, "sendrecv", None),
        // A person in a call may do either later.
        (BOTH, "inactive", None),
    ];
    for (policy, direction, words) in cases {
        let error = Server::new(policy).offer(&offer(direction)).err();
        let text = error.as_ref().map(ToString::to_string);
        assert_eq!(text.is_some(), words.is_some(), "{direction}: {text:?}");
        if let (Some(error), Some(words)) = (error, words) {
            assert_eq!(error.code(), "unsupported_sdp");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
