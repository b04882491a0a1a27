//! The vectors of RFC 5769 and of RFC 8489 appendix B, and what the adapter makes of messages.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use stun_types::attribute::Software;
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, MessageIntegrityCredentials, ShortTermCredentials,
};

use super::*;
use crate::message::Key;

/// RFC 8489 appendix B.1 as its verified erratum has it, with PASSWORD-ALGORITHM.
const LONG_TERM_SHA256: &str = "
    00010090 2112a442 78ad3433 c6ad72c0 29da412e
    001e0020 4a3cf38f ef6992bd a952c678 0417da0f 24819415 569e60b2 05c46e41 407f1704
    00150029 6f624d61 744a6f73 32414141 43662f2f 3439396b 39353464 364f4c33 346f4c39
             46535476 79363473 41000000
    0014000b 6578616d 706c652e 6f726700
    001d0004 00020000
    001c0020 b5c7bf00 5b6c52a2 1c51c5e8 92f81924 136296cb 927c4314 9309278c c6518e65";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// RFC 5769 section 2.1.
const REQUEST: &str = "
    00010058 2112a442 b7e7a701 bc34d686 fa87dfae
    80220010 5354554e 20746573 7420636c 69656e74
    00240004 6e0001ff
    80290008 932ff9b1 51263b36
    00060009 6576746a 3a683676 59202020
    00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
    80280004 e57a3bcf";

/// RFC 5769 section 2.2.
const RESPONSE_V4: &str = "
    0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200008 0001a147 e112a643
    00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
    80280004 c07d4c96";

/// RFC 5769 section 2.3.
const RESPONSE_V6: &str = "
    01010048 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
    80280004 c8fb0b4c";

/// RFC 5769 section 2.4.
const LONG_TERM: &str = "
    00010060 2112a442 78ad3433 c6ad72c0 29da412e
    00060012 e3839ee3 8388e383 aae38383 e382af e382b9 0000
    0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 3634734 1
    0014000b 6578616d 706c652e 6f726700
    00080014 f67024656dd64a3e02b8e0712e85c9a28ca89666";

#[test]
fn rfc_5769_short_term_vectors() {
    let password = ShortTermCredentials::new("VOkJxbRl1RmTxUk/WvJxBt".into());
    for vector in [REQUEST, RESPONSE_V4, RESPONSE_V6] {
        let packet = bytes(vector);
        // The RFC pads with spaces and stun-types has to take that; FINGERPRINT is verified here.
        let message = Incoming::parse(&packet).unwrap();
        assert!(message.fields.has_fingerprint && message.fields.has_integrity);
        assert!(message.is_signed_with(&password.make_key()));
        let wrong = ShortTermCredentials::new("wrong".into());
        assert!(!message.is_signed_with(&wrong.make_key()));
    }
    let packet = bytes(REQUEST);
    let request = Incoming::parse(&packet).unwrap();
    assert_eq!(request.fields.username, Some("evtj:h6vY"));
    assert_eq!(
        request.unknown(),
        [AttributeType::new(0x24)],
        "PRIORITY is ICE's"
    );
    for (vector, mapped) in [
        (RESPONSE_V4, "192.0.2.1:32853"),
        (RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ] {
        let packet = bytes(vector);
        let response = Incoming::parse(&packet).unwrap();
        let raw = response.message().raw_attribute(XorMappedAddress::TYPE);
        let transaction = response.message().transaction_id();
        assert_eq!(address(&raw.unwrap(), transaction), mapped.parse().ok());
    }
}

#[test]
fn rfc_5769_long_term_vector() {
    let packet = bytes(LONG_TERM);
    let request = Incoming::parse(&packet).unwrap();
    assert_eq!(request.fields.username, Some("マトリックス"));
    assert_eq!(request.fields.realm, Some("example.org"));
    assert_eq!(request.fields.nonce, Some("f//499k954d6OL34oL9FSTvy64sA"));
    // The password after SASLprep, which is what a server is to be set up with.
    let credentials = LongTermKeyCredentials::new(
        "マトリックス".into(),
        "TheMatrIX".into(),
        "example.org".into(),
    );
    assert!(request.is_signed_with(&credentials.make_key(IntegrityAlgorithm::Sha1)));
    assert!(!request.is_signed_with(&credentials.make_key(IntegrityAlgorithm::Sha256)));
}

#[test]
fn rfc_8489_sha_256_vector() {
    let packet = bytes(LONG_TERM_SHA256);
    let request = Incoming::parse(&packet).unwrap();
    let hash = Userhash::compute("マトリックス", "example.org");
    assert_eq!(request.fields.userhash, Some(&hash));
    assert_eq!(request.fields.password_algorithm, Some(&[0, 2, 0, 0][..]));
    let credentials = LongTermKeyCredentials::new(
        "マトリックス".into(),
        "TheMatrIX".into(),
        "example.org".into(),
    );
    assert!(request.is_signed_with(&credentials.make_key(IntegrityAlgorithm::Sha256)));
    assert!(!request.is_signed_with(&credentials.make_key(IntegrityAlgorithm::Sha1)));
}

#[test]
fn an_answer_has_what_its_request_and_its_client_need() {
    let packet = bytes(REQUEST);
    let to = Incoming::parse(&packet).unwrap().reply_to();
    let credentials: MessageIntegrityCredentials =
        ShortTermCredentials::new("secret".into()).into();
    let unsigned = Reply::error(to, Code::AllocationMismatch)
        .finish(None)
        .unwrap();
    assert_eq!(unsigned.len(), 20 + 8 + 8, "code and fingerprint");
    for algorithm in [IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256] {
        let key = ShortTermCredentials::new("secret".into()).make_key();
        let signed = Reply::success(to)
            .address(XOR_RELAYED_ADDRESS, "192.0.2.1:5".parse().unwrap())
            .finish(Some(&Key { key, algorithm }))
            .unwrap();
        let message = Message::from_bytes(&signed).unwrap();
        assert_eq!(message.validate_integrity(&credentials).unwrap(), algorithm);
        assert_eq!(
            message.attribute::<Software>().unwrap().software(),
            "Confab"
        );
    }
}

#[test]
fn data_indications_fit_or_are_not_written() {
    let peer: SocketAddr = "[2001:db8::1]:9".parse().unwrap();
    for (len, written) in [(0, true), (1, true), (65_504, true), (65_505, false)] {
        let mut out = vec![9];
        let done = write_data_indication(5_u128.into(), peer, DATA, &vec![7; len], &mut out);
        assert_eq!(done, written, "{len}");
        let padded = 1 + 20 + 24 + 4 + len.next_multiple_of(4);
        assert_eq!(out.len(), if written { padded } else { 1 });
        if written {
            let message = Incoming::parse(&out[1..]).unwrap();
            assert_eq!(message.fields.peer, Some(peer));
            assert_eq!(message.fields.data, Some(&vec![7; len][..]));
        }
    }
}
