//! A browser's offer with lines replaced, taken out, doubled and cut, and then another: an answer has
//! the m-lines of its offer and nothing that breaks its lines, and a refusal is short.
#![no_main]

use confab_sfu::inside::peer::ice::Credentials;
use confab_sfu::inside::peer::sdp::{Local, Negotiation, Policy};
use confab_sfu::types::Ssrc;
use libfuzzer_sys::fuzz_target;

const OFFERS: [&str; 4] = [
    include_str!("../../tests/sdp/chromium-default-simulcast.sdp"),
    include_str!("../../tests/sdp/chromium-H264.sdp"),
    include_str!("../../tests/sdp/firefox-default-simulcast.sdp"),
    "",
];

/// Longest refusal, in bytes: it goes into a message and a log.
const MAX_REFUSAL: usize = 1024;

type Edit<'a> = (u16, u8, &'a str);

fn edited(offer: &str, edits: &[Edit<'_>]) -> String {
    let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
    for (at, edit, text) in edits {
        let count = lines.len();
        let Some(line) = lines.get_mut(usize::from(*at) % count.max(1)) else {
            lines.push((*text).to_owned());
            continue;
        };
        // Behind what says what kind of line it is.
        let value = line.find([':', '=']).map_or(0, |colon| colon + 1);
        match edit % 6 {
            0 => *line = (*text).to_owned(),
            1 => line.replace_range(value.., text),
            2 => line.push_str(text),
            3 => line.insert_str(value, text),
            4 => {
                let copy = line.clone();
                lines.push(copy);
            }
            _ => drop(lines.remove(usize::from(*at) % count)),
        }
    }
    lines.join("\r\n")
}

fuzz_target!(|input: (u8, Vec<Edit<'_>>, Vec<Edit<'_>>)| {
    let (flags, first, second) = input;
    let policy = Policy {
        may_publish: flags & 1 == 0,
        may_subscribe: flags & 2 == 0,
        is_whole: flags & 4 != 0,
    };
    let mut ssrc = 0;
    let mut local = Local {
        fingerprint: "sha-256 00",
        candidates: &[],
        new_ssrc: &mut || {
            ssrc += 1;
            Ssrc(ssrc)
        },
        new_credentials: &mut || Credentials {
            ufrag: "ours".to_owned(),
            pwd: "0123456789abcdef012345".to_owned(),
        },
    };
    let mut negotiation = Negotiation::new(1, "name");
    let first = edited(OFFERS[usize::from(flags >> 6)], &first);
    let second = edited(&first, &second);
    for offer in [&first, &second] {
        match negotiation.answer(offer, policy, &mut local) {
            Ok(negotiated) => {
                let count = |sdp: &str| {
                    let lines = sdp.split(['\r', '\n']).map(str::trim);
                    lines.filter(|line| line.starts_with("m=")).count()
                };
                assert_eq!(count(&negotiated.answer), count(offer), "{offer}");
                assert!(negotiated.answer.split_terminator("\r\n").all(|line| {
                    line.as_bytes().get(1) == Some(&b'=') && !line.contains(['\r', '\n', '\0'])
                }));
                assert!(!negotiated.fingerprints.is_empty());
            }
            Err(error) => assert!(error.to_string().len() <= MAX_REFUSAL, "{error}"),
        }
    }
    let _ = negotiation.restart_ice(&second, &mut local);
});
