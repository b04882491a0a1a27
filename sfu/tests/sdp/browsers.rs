//! The offers that real clients make.

use confab_sfu::inside::negotiated::match_payload;
use confab_sfu::media::{Codec, Extension, Kind, RepairFormats};

use super::support::{
    BOTH, Line, Media, Offer, PUBLISH_ONLY, SUBSCRIBE_ONLY, Sdp, Server, has, values,
};

macro_rules! recorded {
    ($($name:literal),* $(,)?) => {
        /// Offers of Chromium 156 and Firefox ESR 153: sendrecv audio and video, or sendrecv audio
        /// and sendonly simulcast video; the name says which codec was preferred.
        pub(crate) const RECORDED: &[(&str, &str)] = &[$(($name, include_str!(concat!($name, ".sdp")))),*];
    };
}
recorded!(
    "chromium-AV1",
    "chromium-AV1-simulcast",
    "chromium-H264",
    "chromium-H264-simulcast",
    "chromium-VP8",
    "chromium-VP8-simulcast",
    "chromium-VP9",
    "chromium-VP9-simulcast",
    "chromium-default",
    "chromium-default-simulcast",
    "firefox-AV1",
    "firefox-AV1-simulcast",
    "firefox-VP8",
    "firefox-VP8-simulcast",
    "firefox-VP9",
    "firefox-VP9-simulcast",
    "firefox-default",
    "firefox-default-simulcast",
);

fn recorded(name: &str) -> &'static str {
    RECORDED
        .iter()
        .find(|(other, _)| *other == name)
        .expect(name)
        .1
}

#[test]
fn every_recorded_offer_is_served_whole() {
    for (name, offer) in RECORDED {
        let mut server = Server::new(BOTH);
        let answer = server.offer(offer).expect(name);
        assert!(answer.negotiated.ice_restart);
        assert_eq!(answer.negotiated.fingerprints.len(), 1, "{name}");
        assert_eq!(answer.direction("0"), "sendrecv", "{name}");

        let audio = server.section("0");
        assert_eq!(audio.kind, Kind::Audio);
        // Their own order: what comes first is what they send.
        let codecs = audio.payloads.iter().map(|p| p.codec.to_string());
        let codecs: Vec<_> = codecs.collect();
        match name.starts_with("chromium") {
            true => assert_eq!(
                codecs.join(" "),
                "opus G722 PCMU PCMA CN telephone-event telephone-event"
            ),
            false => assert_eq!(codecs.join(" "), "opus G722 PCMU PCMA telephone-event"),
        }
        assert!(audio.payloads[0].transport_cc);
        let receive = audio.receive.as_ref().unwrap();
        assert_eq!(receive.ssrcs.len(), 1);
        assert!(receive.cname.is_some());
        for extension in [
            Extension::Mid,
            Extension::AudioLevel,
            Extension::TransportSequence,
        ] {
            assert!(
                receive.extensions.id(extension).is_some(),
                "{name}: {extension:?}"
            );
        }

        let video = server.section("1");
        let preferred = match name.split('-').nth(1) {
            Some("AV1") => "AV1",
            Some("H264") => "H264",
            Some("VP9") => "VP9",
            _ => "VP8",
        };
        assert_eq!(video.payloads[0].codec.to_string(), preferred, "{name}");
        for payload in &video.payloads {
            assert!(payload.rtx_payload_type.is_some() && payload.nack && payload.transport_cc);
        }
        assert!(video.rtcp_rsize && video.extmap_allow_mixed);
        let receive = video.receive.as_ref().unwrap();
        if name.ends_with("simulcast") {
            assert_eq!(answer.direction("1"), "recvonly", "{name}");
            let rids: Vec<_> = receive.rids.iter().map(|rid| rid.as_str()).collect();
            assert_eq!(rids, ["q", "h", "f"]);
            // Firefox announces them all the same.
            let announced = if name.starts_with("firefox") { 3 } else { 0 };
            assert!(receive.ssrcs.len() == announced && video.send.is_none());
            for extension in [Extension::Rid, Extension::RepairedRid] {
                assert!(
                    receive.extensions.id(extension).is_some(),
                    "{name}: {extension:?}"
                );
            }
        } else {
            assert_eq!(answer.direction("1"), "sendrecv", "{name}");
            assert!(receive.rids.is_empty());
            assert!(matches!(receive.ssrcs[..], [(_, Some(_))]), "{name}");
            let send = video.send.as_ref().unwrap();
            assert_eq!(send.extensions.id(Extension::Rid), None);
        }
    }
}

#[test]
fn chromium_and_firefox_number_differently_and_still_match() {
    let [mut chromium, mut firefox] = [Server::new(BOTH), Server::new(BOTH)];
    chromium.offer(recorded("chromium-default")).unwrap();
    firefox.offer(recorded("firefox-default")).unwrap();
    let (from, to) = (chromium.section("1"), firefox.section("1"));
    assert_eq!(
        from.receive.as_ref().unwrap().extensions.id(Extension::Mid),
        Some(4)
    );
    assert_eq!(
        to.send.as_ref().unwrap().extensions.id(Extension::Mid),
        Some(3)
    );
    let payload_types = |codec| {
        let payload_type = |section: &confab_sfu::inside::negotiated::Section| {
            match_payload(codec, &section.payloads).map(|p| (p.payload_type, p.rtx_payload_type))
        };
        (payload_type(from), payload_type(to))
    };
    assert_eq!(
        payload_types(Codec::Vp8),
        (Some((96, Some(97))), Some((120, Some(124))))
    );
    let av1 = Codec::Av1 { profile: 0 };
    assert_eq!(
        payload_types(av1),
        (Some((45, Some(46))), Some((99, Some(100))))
    );
    // This Firefox came without H.264: a slot of its cannot show such a track.
    let h264 = Codec::H264 {
        profile_idc: 0x42,
        profile_iop: 0x40,
        packetization_mode: 1,
    };
    assert_eq!(payload_types(h264), (Some((108, Some(109))), None));
}

#[test]
fn firefox_says_which_extensions_go_which_way() {
    let mut server = Server::new(BOTH);
    let answer = server.offer(recorded("firefox-default-simulcast")).unwrap();
    let extmaps = answer.attribute("1", "extmap").join("\n");
    // Offered recvonly on an m-line that only sends: of no use.
    assert!(!extmaps.contains("playout-delay"));
    assert!(extmaps.contains("9/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"));

    let mut server = Server::new(BOTH);
    server.offer(recorded("firefox-default")).unwrap();
    let video = server.section("1");
    let receive = video.receive.as_ref().unwrap().extensions;
    let send = video.send.as_ref().unwrap().extensions;
    assert_eq!(receive.id(Extension::PlayoutDelay), None);
    assert_eq!(send.id(Extension::PlayoutDelay), Some(6));
}

#[test]
fn every_extension_a_browser_offers_stays_in_the_answer() {
    // With publishing, with watching, with neither.
    let directions = ["sendrecv", "sendonly", "recvonly", "inactive"];
    for (name, offer) in RECORDED
        .iter()
        .filter(|(name, _)| name.starts_with("chromium"))
    {
        for (direction, policy) in
            directions
                .into_iter()
                .zip([BOTH, PUBLISH_ONLY, SUBSCRIBE_ONLY, BOTH])
        {
            let mut offer = (*offer).to_owned();
            for other in directions {
                offer = offer.replace(&format!("a={other}\r\n"), &format!("a={direction}\r\n"));
            }
            let mut server = Server::new(policy);
            let answer = server.offer(&offer).expect(name);
            for (asked, got) in Sdp::read(&offer).media.iter().zip(&answer.sdp.media) {
                let extmaps = |line: &Media| {
                    let extmaps = values(&line.attributes, "extmap");
                    extmaps.into_iter().map(str::to_owned).collect::<Vec<_>>()
                };
                assert_eq!(extmaps(asked), extmaps(got), "{name} {direction}");
            }
            for section in server.negotiation.sections() {
                let sent = section.send.as_ref().map(|send| send.extensions);
                let sent = sent.unwrap_or_default();
                assert_eq!(sent.id(Extension::Rid), None, "{name} {direction}");
                assert_eq!(sent.id(Extension::RepairedRid), None, "{name} {direction}");
            }
        }
    }
}

#[test]
fn browsers_get_the_repair_they_offer() {
    let none = RepairFormats::default();
    let video = |red, red_rtx, ulpfec| RepairFormats {
        red: Some(red),
        red_rtx: Some(red_rtx),
        ulpfec: Some(ulpfec),
        flexfec: None,
    };
    let red = RepairFormats {
        red: Some(63),
        ..none
    };
    for (name, audio, video) in [
        ("chromium-default", red, video(118, 119, 120)),
        ("firefox-default", none, video(122, 119, 123)),
    ] {
        let mut server = Server::new(BOTH);
        let answer = server.offer(recorded(name)).unwrap();
        assert_eq!(server.section("0").repair, audio, "{name}");
        assert_eq!(server.section("1").repair, video, "{name}");
        // Chromium sends what comes first.
        let first = &answer.line("0").formats[0];
        assert_eq!(first == "63", audio.red.is_some(), "{name}");
    }
}

#[test]
fn slots_are_described_as_a_browser_expects() {
    let mut server = Server::new(BOTH);
    let answer = server
        .offer(&Offer::new([Line::video("v", "recvonly")]).text())
        .unwrap();
    assert_eq!(answer.direction("v"), "sendonly");
    let send = server.section("v").send.clone().unwrap();
    let (ssrc, rtx) = (send.ssrc.0, send.rtx_ssrc.unwrap().0);
    assert_ne!(ssrc, rtx);
    assert_eq!(
        answer.attribute("v", "ssrc-group"),
        [format!("FID {ssrc} {rtx}")]
    );
    assert_eq!(answer.attribute("v", "msid"), ["slot-0 video-v"]);
    let ssrcs = answer.attribute("v", "ssrc");
    for ssrc in [ssrc, rtx] {
        assert!(ssrcs.contains(&format!("{ssrc} cname:server").as_str()));
        assert!(ssrcs.contains(&format!("{ssrc} msid:slot-0 video-v").as_str()));
    }
    // RFC 8829 section 5.2.1: the session id fits 63 bits.
    let origin = format!("o=- {} 1 IN IP4 0.0.0.0\r\n", u64::MAX >> 1);
    assert!(answer.negotiated.answer.contains(&origin));
}

#[test]
fn a_whip_encoder_publishes_with_the_least_it_can_say() {
    // As OBS does: no header extension, no feedback but what it needs, SSRCs announced.
    let offer = "v=0\no=rtc 3767197920 0 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE 0 1\n\
        a=group:LS 0 1\na=msid-semantic:WMS *\na=setup:actpass\na=ice-ufrag:4w8i\n\
        a=ice-pwd:4WMKNdXqO7PRtqPFVWMzPp\na=ice-options:ice2,trickle\n\
        a=fingerprint:sha-256 D5:B2:1B:8B:35:C9:F6:08:5F:84:2A:E5:3A:2D:74:D1:\
        36:D4:10:7D:1C:C5:4F:E2:57:AB:B6:B4:40:DE:56:B3\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\nc=IN IP4 0.0.0.0\na=mid:0\na=sendonly\n\
        a=ssrc:1388013601 cname:obs\na=msid:m a\na=rtcp-mux\na=rtpmap:111 opus/48000/2\n\
        a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\nc=IN IP4 0.0.0.0\na=mid:1\na=sendonly\n\
        a=ssrc:1388013602 cname:obs\na=ssrc:1388013603 cname:obs\n\
        a=ssrc-group:FID 1388013602 1388013603\na=rtcp-mux\na=rtpmap:96 H264/90000\n\
        a=rtcp-fb:96 nack\na=rtcp-fb:96 nack pli\na=rtcp-fb:96 goog-remb\n\
        a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1\n\
        a=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n";
    let mut server = Server::new(PUBLISH_ONLY);
    let answer = server.offer(offer).unwrap();
    assert_eq!(answer.direction("0"), "recvonly");
    assert_eq!(answer.direction("1"), "recvonly");
    let fmtp = answer.attribute("0", "fmtp");
    assert_eq!(fmtp, ["111 minptime=10;useinbandfec=1;stereo=1"]);
    assert_eq!(
        answer.attribute("1", "fmtp")[0],
        "96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
    );
    let receive = server.section("1").receive.clone().unwrap();
    assert_eq!(receive.ssrcs.len(), 1);
    assert_eq!(receive.ssrcs[0].1.map(|ssrc| ssrc.0), Some(1_388_013_603));
    assert_eq!(receive.cname.as_deref(), Some("obs"));
    assert_eq!(receive.extensions.iter().count(), 0);
}

#[test]
fn a_whep_player_gets_slots_and_cannot_publish() {
    let mut server = Server::new(SUBSCRIBE_ONLY);
    let lines = [Line::audio("a", "recvonly"), Line::video("v", "recvonly")];
    let answer = server.offer(&Offer::new(lines).text()).unwrap();
    assert_eq!(
        (answer.direction("a"), answer.direction("v")),
        ("sendonly", "sendonly")
    );
    assert!(
        server
            .section("a")
            .send
            .as_ref()
            .unwrap()
            .rtx_ssrc
            .is_none()
    );

    let mut server = Server::new(SUBSCRIBE_ONLY);
    let lines = [Line::audio("a", "sendrecv"), Line::video("v", "sendonly")];
    let answer = server.offer(&Offer::new(lines).text()).unwrap();
    assert_eq!(
        (answer.direction("a"), answer.direction("v")),
        ("sendonly", "inactive")
    );
}

#[test]
fn each_m_line_keeps_its_own_numbers() {
    let mut second = Line::video("b", "recvonly")
        .without("rtpmap")
        .without("fmtp");
    second.formats = "100 101";
    let second = second.without("extmap").with(&[
        "rtpmap:100 VP9/90000",
        "rtpmap:101 rtx/90000",
        "fmtp:101 apt=100",
        "extmap:7 urn:ietf:params:rtp-hdrext:sdes:mid",
    ]);
    let mut server = Server::new(BOTH);
    server
        .offer(&Offer::new([Line::video("a", "recvonly"), second]).text())
        .unwrap();
    let [a, b] = ["a", "b"].map(|mid| server.section(mid).clone());
    assert_eq!(
        (a.payloads[0].payload_type, a.payloads[0].codec),
        (96, Codec::Vp8)
    );
    assert_eq!(b.payloads[0].payload_type, 100);
    assert_eq!(b.payloads[0].codec, Codec::Vp9 { profile: 0 });
    assert_eq!(a.send.unwrap().extensions.id(Extension::Mid), Some(4));
    assert_eq!(b.send.unwrap().extensions.id(Extension::Mid), Some(7));
}

#[test]
fn simulcast_needs_its_header_extension() {
    let rids = [
        "rid:a send",
        "rid:b send",
        "simulcast:send a;b",
        "ssrc:7 cname:x",
    ];
    let line = Line::video("v", "sendonly").with(&rids);
    let mut server = Server::new(BOTH);
    server.offer(&Offer::new([line.clone()]).text()).unwrap();
    assert_eq!(server.section("v").receive.as_ref().unwrap().rids.len(), 2);

    let mut server = Server::new(BOTH);
    let bare = line.without("extmap:10");
    let answer = server.offer(&Offer::new([bare]).text()).unwrap();
    assert!(!has(&answer.line("v").attributes, "simulcast"));
    let receive = server.section("v").receive.clone().unwrap();
    assert!(receive.rids.is_empty());
    assert_eq!(receive.ssrcs.len(), 1);
}

/// What the offers of cameras, phones and encoders have that browsers' have not.
#[test]
fn cameras_phones_and_hevc_encoders_get_what_they_have() {
    let event = |clock_rate| Codec::TelephoneEvent { clock_rate };
    let h265 = |profile| Codec::H265 {
        profile,
        is_high_tier: false,
    };
    let audio = |formats, rtpmaps: &[&str]| {
        let line = Line::audio("a", "sendonly").without("rtpmap");
        Line {
            formats,
            ..line.without("fmtp").with(rtpmaps)
        }
    };
    let video = |formats, rtpmaps: &[&str]| {
        let line = Line::video("a", "sendonly").without("rtpmap");
        Line {
            formats,
            ..line.without("fmtp").without("rtcp-fb").with(rtpmaps)
        }
    };
    let cases = [
        (
            audio("8", &["rtpmap:8 PCMA/8000/1"]),
            vec![(8, Codec::Pcma)],
        ),
        (
            audio(
                "0 101",
                &["rtpmap:0 PCMU/8000", "rtpmap:101 telephone-event/8000"],
            ),
            vec![(0, Codec::Pcmu), (101, event(8000))],
        ),
        (
            audio("97", &["rtpmap:97 opus/48000"]),
            vec![(97, Codec::Opus)],
        ),
        (
            video(
                "96 97",
                &[
                    "rtpmap:96 H265/90000",
                    "fmtp:96 level-id=180;profile-id=2;tier-flag=0;tx-mode=SRST",
                    "rtpmap:97 rtx/90000",
                    "fmtp:97 apt=96",
                    "rid:h send",
                    "rid:l send",
                    "simulcast:send h;l",
                ],
            ),
            vec![(96, h265(2))],
        ),
    ];
    for (line, expected) in cases {
        let mut server = Server::new(BOTH);
        server.offer(&Offer::new([line.clone()]).text()).unwrap();
        let section = server.section("a");
        let payloads = section.payloads.iter();
        let payloads: Vec<_> = payloads.map(|p| (p.payload_type, p.codec)).collect();
        assert_eq!(payloads, expected);
        if section.kind == Kind::Video {
            assert_eq!(section.payloads[0].rtx_payload_type, Some(97));
            assert_eq!(section.receive.as_ref().unwrap().rids.len(), 2);
        }
    }
}
