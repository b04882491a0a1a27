//! Offers that no browser would make: whatever they say, they are answered properly or refused.
//! [`Server::offer`] judges every answer.

use std::time::{Duration, Instant};

use confab_sfu::MAX_SDP_BYTES;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::browsers::RECORDED;
use super::support::{BOTH, Line, Offer, Server};

/// One thing done to an offer.
#[derive(Clone, Debug)]
enum Mutation {
    DropLine(Index),
    RepeatLine(Index, Index),
    SwapLines(Index, Index),
    Truncate(Index),
    ReplaceByte(Index, char),
    /// One word of the offer in the place of another: well-formed, but wrong.
    CopyWord(Index, Index),
    /// A line with something that only matters to those who parse it.
    Insert(Index, &'static str),
}

const ODDITIES: [&str; 24] = [
    "a=ssrc-group:FID 1 1",
    "a=ssrc-group:FID",
    "a=ssrc:",
    "a=ssrc:4294967296 cname:x",
    "a=rid:q send pt=",
    "a=rid:é send",
    "a=simulcast:send ;;;,,,~~",
    "a=simulcast:send q;h;f recv",
    "a=extmap:0 urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=extmap:255/sendonly urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=extmap:-1/ urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=fmtp:97 apt=97",
    "a=fmtp:96 profile-level-id=zzzzzz",
    "a=rtpmap:96 H264/90000",
    "a=rtpmap:96 VP8/99999999999",
    "a=rtcp-fb:* nack",
    "a=group:BUNDLE 1 1 0",
    "a=mid:1",
    "a=inactive",
    "a=bundle-only",
    "a=fingerprint:sha-256 ",
    "m=video 0 UDP/TLS/RTP/SAVPF 0",
    "m=audio 9/2 UDP/TLS/RTP/SAVPF 300",
    "b=AS:18446744073709551616",
];

impl Mutation {
    fn apply(&self, text: &mut String) {
        let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
        match self {
            Mutation::DropLine(at) => {
                lines.remove(at.index(lines.len()));
            }
            Mutation::RepeatLine(from, to) => {
                let line = lines[from.index(lines.len())].clone();
                lines.insert(to.index(lines.len()), line);
            }
            Mutation::SwapLines(a, b) => {
                let (a, b) = (a.index(lines.len()), b.index(lines.len()));
                lines.swap(a, b);
            }
            Mutation::Insert(at, line) => {
                lines.insert(at.index(lines.len()), (*line).to_owned());
            }
            Mutation::CopyWord(from, to) => {
                let mut words: Vec<&str> = text.split_inclusive([' ', '\n', ':', ';']).collect();
                let (from, to) = (from.index(words.len()), to.index(words.len()));
                words[to] = words[from];
                *text = words.concat();
                return;
            }
            Mutation::Truncate(at) => {
                let end = text.floor_char_boundary(at.index(text.len()));
                text.truncate(end);
                return;
            }
            Mutation::ReplaceByte(at, with) => {
                let mut chars: Vec<char> = text.chars().collect();
                chars[at.index(text.chars().count())] = *with;
                *text = chars.into_iter().collect();
                return;
            }
        }
        *text = lines.join("\r\n");
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    prop_oneof![
        6 => index().prop_map(Mutation::DropLine),
        4 => (index(), index()).prop_map(|(a, b)| Mutation::RepeatLine(a, b)),
        4 => (index(), index()).prop_map(|(a, b)| Mutation::SwapLines(a, b)),
        1 => index().prop_map(Mutation::Truncate),
        4 => (index(), any::<char>()).prop_map(|(a, c)| Mutation::ReplaceByte(a, c)),
        8 => (index(), index()).prop_map(|(a, b)| Mutation::CopyWord(a, b)),
        8 => (index(), select(&ODDITIES[..])).prop_map(|(a, line)| Mutation::Insert(a, line)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn mutated_offers_are_answered_properly_or_refused(
        (_, first) in select(RECORDED),
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        let mut mutated = first.to_owned();
        for mutation in &mutations {
            if mutated.is_empty() {
                break;
            }
            mutation.apply(&mut mutated);
        }
        // As the first offer, and as a later one of a connection that it may not spoil.
        let mut server = Server::new(BOTH);
        if let Err(error) = server.offer(&mutated) {
            prop_assert!(error.to_string().len() < 400, "{error}");
            prop_assert!(server.negotiation.sections().is_empty());
        }
        let mut server = Server::new(BOTH);
        server.offer(first).unwrap();
        let before = server.negotiation.sections().to_vec();
        if server.offer(&mutated).is_err() {
            prop_assert_eq!(server.negotiation.sections(), before);
            prop_assert!(!server.offer(first).unwrap().negotiated.ice_restart);
        }
    }

    #[test]
    fn any_text_is_refused(text in "\\PC{0,300}") {
        prop_assert!(Server::new(BOTH).offer(&text).is_err());
    }
}

#[test]
fn the_largest_offers_take_no_time_to_speak_of() {
    let fill = |line: &str| {
        let one = Offer::new([Line::video("v", "sendrecv")]).text();
        let times = (MAX_SDP_BYTES - one.len()) / (line.len() + 2);
        one + &format!("{line}\r\n").repeat(times)
    };
    let long_fmtp = format!("a=fmtp:96 {}", "x=1;".repeat(10_000));
    for line in [
        "a=rtcp-fb:* nack",
        "a=ssrc:1 cname:x",
        "a=ssrc-group:FID 1 2",
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=fingerprint:sha-256 AA",
        "a=rtpmap:96 VP8/90000",
        "a=x",
        &long_fmtp,
    ] {
        let offer = fill(line);
        let start = Instant::now();
        let _ = Server::new(BOTH).offer(&offer);
        // Unoptimised and on a busy machine; what is quadratic takes minutes.
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{line}: {:?}",
            start.elapsed()
        );
    }
}
