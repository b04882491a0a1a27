#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use super::*;
use proptest::prelude::*;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

const PROFILES: [SrtpProfile; 3] = [
    SrtpProfile::Aes128CmSha1_80,
    SrtpProfile::Aes128Gcm,
    SrtpProfile::Aes256Gcm,
];

const KEY: [u8; 32] = *b"thirty-two bytes of a master key";
const SALT: [u8; 14] = *b"and of a salt.";

fn pair(profile: SrtpProfile) -> (SrtpSender, SrtpReceiver) {
    let (key, salt) = (&KEY[..profile.key_len()], &SALT[..profile.salt_len()]);
    (
        SrtpSender::new(profile, key, salt).unwrap(),
        SrtpReceiver::new(profile, key, salt).unwrap(),
    )
}

/// The same keys in an implementation that is not ours.
fn other(profile: SrtpProfile) -> Context {
    let theirs = match profile {
        SrtpProfile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        SrtpProfile::Aes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::Aes256Gcm => ProtectionProfile::AeadAes256Gcm,
    };
    let provider = rtc_srtp::crypto::default_provider().unwrap();
    let (key, salt) = (&KEY[..profile.key_len()], &SALT[..profile.salt_len()]);
    Context::new(key, salt, theirs, None, None, provider.crypto()).unwrap()
}

fn rtp(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x90, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend(7u32.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xbe, 0xde, 0, 1, 0x10, b'0', 0, 0]);
    packet.extend(payload);
    packet
}

fn receiver_report(ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, (payload.len() / 4 + 1) as u8];
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

impl SrtpSender {
    /// Seals a copy.
    fn sealed_rtp(&mut self, plain: &[u8], roc: u32) -> Vec<u8> {
        let mut buffer = plain.to_vec();
        buffer.resize(plain.len() + MAX_SRTP_TRAILER, 0xaa);
        let len = self.seal_rtp(&mut buffer, plain.len(), roc).unwrap();
        buffer.truncate(len);
        buffer
    }

    /// Seals a copy.
    fn sealed_rtcp(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut buffer = plain.to_vec();
        buffer.resize(plain.len() + MAX_SRTP_TRAILER, 0xaa);
        let len = self.seal_rtcp(&mut buffer, plain.len()).unwrap();
        buffer.truncate(len);
        buffer
    }
}

#[test]
fn keying_material_is_two_keys_then_two_salts() {
    let material: Vec<u8> = (0..60).collect();
    let keys = SrtpProfile::Aes128CmSha1_80.split(&material).unwrap();
    assert_eq!((keys.client.key[0], keys.client.key.len()), (0, 16));
    assert_eq!((keys.server.key[0], keys.server.key.len()), (16, 16));
    assert_eq!((keys.client.salt[0], keys.client.salt.len()), (32, 14));
    assert_eq!((keys.server.salt[0], keys.server.salt.len()), (46, 14));
    for profile in PROFILES {
        let len = profile.keying_material_len();
        assert!(profile.split(&[0; 88][..len]).is_ok());
        assert!(profile.split(&[0; 88][..len - 1]).is_err());
    }
}

#[test]
fn keys_of_the_wrong_length_are_refused() {
    let new = |key: &[u8], salt: &[u8]| SrtpReceiver::new(SrtpProfile::Aes128Gcm, key, salt);
    assert!(new(&KEY[..16], &SALT[..12]).is_ok());
    assert_eq!(new(&KEY[..32], &SALT[..12]).err(), Some(SrtpError::BadKey));
    assert_eq!(new(&KEY[..16], &SALT[..14]).err(), Some(SrtpError::BadKey));
}

#[test]
fn a_packet_is_opened_once() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let sealed = sender.sealed_rtp(&rtp(1, 5, b"media"), 0);
        let opened = receiver.open_rtp(&mut sealed.clone()).unwrap();
        assert_eq!((opened.plain_len, opened.index), (25, 5));
        assert_eq!(
            receiver.open_rtp(&mut sealed.clone()),
            Err(SrtpError::Replayed)
        );

        let sealed = sender.sealed_rtcp(&receiver_report(1, &[]));
        assert_eq!(receiver.open_rtcp(&mut sealed.clone()), Ok(8));
        assert_eq!(
            receiver.open_rtcp(&mut sealed.clone()),
            Err(SrtpError::Replayed)
        );
    }
}

#[test]
fn the_rollover_count_follows_a_stream_that_is_reordered_across_the_wrap() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let order = [65_000u64, 65_534, 65_537, 65_535, 65_536, 65_533, 65_540];
        for number in order {
            let number = SequenceNumber(number);
            let plain = rtp(1, number.wire(), b"media");
            let mut packet = sender.sealed_rtp(&plain, number.rollover());
            let opened = receiver.open_rtp(&mut packet).unwrap();
            assert_eq!(opened.index, number.0);
            assert_eq!(packet[..opened.plain_len], plain);
        }
    }
}

#[test]
fn a_packet_older_than_the_window_is_refused() {
    let (mut sender, mut receiver) = pair(SrtpProfile::Aes128Gcm);
    let mut open = |sequence| {
        let mut packet = sender.sealed_rtp(&rtp(1, sequence, b"media"), 0);
        receiver.open_rtp(&mut packet).map(|opened| opened.index)
    };
    assert_eq!(open(5000), Ok(5000));
    assert_eq!(open(5000 - 900), Ok(4100));
    assert_eq!(open(5000 - 1024), Err(SrtpError::Replayed));
}

#[test]
fn forged_packets_leave_nothing_behind_and_streams_are_bounded() {
    let (mut sender, mut receiver) = pair(SrtpProfile::Aes128Gcm);
    for ssrc in 0..1000 {
        let mut forged = rtp(ssrc, 1, &[0; 40]);
        assert_eq!(receiver.open_rtp(&mut forged), Err(SrtpError::NotAuthentic));
        let mut forged = receiver_report(ssrc, &[0xff; 40]);
        assert_eq!(
            receiver.open_rtcp(&mut forged),
            Err(SrtpError::NotAuthentic)
        );
    }
    for ssrc in 0..MAX_SSRCS as u32 {
        let mut packet = sender.sealed_rtp(&rtp(ssrc, 1, b"media"), 0);
        assert!(receiver.open_rtp(&mut packet).is_ok());
        receiver.keep(Ssrc(ssrc));
    }
    let mut packet = sender.sealed_rtp(&rtp(1000, 1, b"media"), 0);
    assert_eq!(
        receiver.open_rtp(&mut packet),
        Err(SrtpError::TooManySsrcs),
        "all are made use of"
    );
}

/// Seals a first packet of a stream, and opens it.
fn begin(pair: &mut (SrtpSender, SrtpReceiver), ssrc: u32) -> Result<Vec<u8>, SrtpError> {
    let sealed = pair.0.sealed_rtp(&rtp(ssrc, 1, b"media"), 0);
    pair.1.open_rtp(&mut sealed.clone())?;
    Ok(sealed)
}

#[test]
fn a_released_stream_keeps_its_window_and_never_comes_back_without_it() {
    let mut both = pair(SrtpProfile::Aes128Gcm);
    let recorded: Vec<_> = (0..MAX_SSRCS as u32)
        .map(|ssrc| {
            let sealed = begin(&mut both, ssrc).unwrap();
            both.1.keep(Ssrc(ssrc));
            sealed
        })
        .collect();
    let (mut sender, mut receiver) = both;
    let mut seal = |ssrc, sequence| sender.sealed_rtp(&rtp(ssrc, sequence, b"media"), 0);
    receiver.release(Ssrc(0));
    receiver.release(Ssrc(1));
    receiver.keep(Ssrc(0));
    let replayed = receiver.open_rtp(&mut recorded[1].clone());
    assert_eq!(replayed, Err(SrtpError::Replayed));
    assert!(receiver.open_rtp(&mut seal(1, 2)).is_ok());
    // Another takes the place of the one that is released.
    assert!(receiver.open_rtp(&mut seal(1000, 1)).is_ok());
    receiver.keep(Ssrc(1000));
    for mut packet in [recorded[1].clone(), seal(1, 3)] {
        assert_eq!(receiver.open_rtp(&mut packet), Err(SrtpError::Retired));
    }
    assert!(receiver.open_rtp(&mut seal(0, 2)).is_ok());
    let one_more = receiver.open_rtp(&mut seal(1001, 1));
    assert_eq!(one_more, Err(SrtpError::TooManySsrcs));
}

#[test]
fn streams_that_nothing_is_made_of_do_not_use_up_the_places() {
    let mut both = pair(SrtpProfile::Aes128Gcm);
    let mut recorded = vec![begin(&mut both, 0).unwrap()];
    both.1.keep(Ssrc(0));
    recorded.extend((1..1000).map(|ssrc| begin(&mut both, ssrc).unwrap()));
    assert_eq!(both.1.media.retired(), 1000 - MAX_SSRCS);
    let mut next = both.0.sealed_rtp(&rtp(0, 2, b"media"), 0);
    assert!(both.1.open_rtp(&mut next).is_ok());
    // Not one of them can be played again.
    for sealed in recorded {
        let replayed = both.1.open_rtp(&mut sealed.clone());
        let expected = [SrtpError::Replayed, SrtpError::Retired];
        assert!(replayed.is_err_and(|error| expected.contains(&error)));
    }
}

#[test]
fn whoever_has_changed_ssrcs_ten_thousand_times_goes_on_with_those_it_has() {
    let mut both = pair(SrtpProfile::Aes128Gcm);
    let first = begin(&mut both, 0).unwrap();
    both.1.keep(Ssrc(0));
    let most = (MAX_SSRCS + streams::MAX_RETIRED) as u32;
    let begun = (1..most + 100).filter(|&ssrc| begin(&mut both, ssrc).is_ok());
    assert_eq!(begun.count() as u32, most - 1);
    let refused = begin(&mut both, most + 100);
    assert_eq!(refused, Err(SrtpError::TooManySsrcs));
    let mut next = both.0.sealed_rtp(&rtp(0, 2, b"media"), 0);
    assert!(both.1.open_rtp(&mut next).is_ok());
    let replayed = both.1.open_rtp(&mut first.clone());
    assert_eq!(replayed, Err(SrtpError::Replayed));
}

#[test]
fn a_displaced_stream_is_known_as_such_and_makes_room_first() {
    let mut both = pair(SrtpProfile::Aes128Gcm);
    for ssrc in 0..MAX_SSRCS as u32 {
        begin(&mut both, ssrc).unwrap();
    }
    let newest = Ssrc(MAX_SSRCS as u32 - 1);
    both.1.displace(newest);
    assert!(both.1.is_displaced(newest) && !both.1.is_displaced(Ssrc(0)));
    both.1.readmit(newest);
    assert!(!both.1.is_displaced(newest));
    both.1.displace(newest);
    begin(&mut both, 1000).unwrap();
    assert_eq!(begin(&mut both, newest.0), Err(SrtpError::Retired));
    begin(&mut both, 1001).unwrap();
    assert_eq!(begin(&mut both, 0), Err(SrtpError::Retired), "the oldest");
}

#[test]
fn everything_that_an_offer_can_have_may_report_from_an_ssrc_of_its_own() {
    let (mut sender, mut receiver) = pair(SrtpProfile::Aes128Gcm);
    let mut report = |ssrc| sender.sealed_rtcp(&receiver_report(ssrc, &[]));
    let first = report(0);
    assert!(receiver.open_rtcp(&mut first.clone()).is_ok());
    for _ in 0..3 {
        for ssrc in 0..MAX_REPORTERS as u32 {
            assert!(receiver.open_rtcp(&mut report(ssrc)).is_ok());
        }
    }
    // One more has the one make room that was silent for longest; that is not replayed either.
    assert!(receiver.open_rtcp(&mut report(1000)).is_ok());
    let retired = receiver.open_rtcp(&mut first.clone());
    assert_eq!(retired, Err(SrtpError::Retired));
    for ssrc in 1..MAX_REPORTERS as u32 {
        assert!(receiver.open_rtcp(&mut report(ssrc)).is_ok());
    }
}

#[test]
fn no_room_is_an_error_and_so_is_the_end_of_the_index() {
    for profile in PROFILES {
        let (mut sender, _) = pair(profile);
        let mut buffer = rtp(1, 1, b"media");
        let plain_len = buffer.len();
        for len in [0, profile.rtp_overhead() - 1] {
            buffer.resize(plain_len + len, 0);
            let sealed = sender.seal_rtp(&mut buffer, plain_len, 0);
            assert_eq!(sealed, Err(SrtpError::NoRoom));
            let sealed = sender.seal_rtcp(&mut buffer, plain_len);
            assert_eq!(sealed, Err(SrtpError::NoRoom));
        }
        assert_eq!(
            sender.seal_rtp(&mut buffer, 1000, 0),
            Err(SrtpError::NoRoom)
        );
        sender.next_rtcp_index = (1 << 31) - 1;
        sender.sealed_rtcp(&receiver_report(1, &[]));
        assert_eq!(
            sender.seal_rtcp(&mut [0x80; 100], 8),
            Err(SrtpError::IndexExhausted)
        );
    }
}

#[test]
fn an_unencrypted_control_packet_is_refused() {
    for profile in PROFILES {
        let (_, mut receiver) = pair(profile);
        let mut packet = receiver_report(1, &[0; 40]);
        assert_eq!(
            receiver.open_rtcp(&mut packet),
            Err(SrtpError::NotEncrypted)
        );
    }
}

#[test]
fn no_bit_can_be_changed() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let sealed = sender.sealed_rtp(&rtp(1, 5, b"media"), 0);
        for bit in 0..sealed.len() * 8 {
            let mut packet = sealed.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(receiver.open_rtp(&mut packet).is_err(), "{profile:?} {bit}");
        }
        assert!(receiver.open_rtp(&mut sealed.clone()).is_ok());

        let sealed = sender.sealed_rtcp(&receiver_report(1, &[9; 24]));
        for bit in 0..sealed.len() * 8 {
            let mut packet = sealed.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(
                receiver.open_rtcp(&mut packet).is_err(),
                "{profile:?} {bit}"
            );
        }
        assert!(receiver.open_rtcp(&mut sealed.clone()).is_ok());
    }
}

fn any_profile() -> impl Strategy<Value = SrtpProfile> {
    prop::sample::select(&PROFILES[..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A stream with gaps, through two wraps: what we seal, the other implementation seals to the
    /// same bytes, and each opens the other's.
    #[test]
    fn rtp_agrees_with_another_implementation(
        profile in any_profile(),
        ssrc in any::<u32>(),
        first in 0u64..32_768,
        gaps in prop::collection::vec(1u64..8_000, 1..40),
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (mut ours, mut receiver) = pair(profile);
        let (mut sealing, mut opening) = (other(profile), other(profile));
        let mut number = SequenceNumber(first);
        for gap in gaps {
            let plain = rtp(ssrc, number.wire(), &payload);
            let sealed = ours.sealed_rtp(&plain, number.rollover());
            let mut theirs = sealing.encrypt_rtp(&plain).unwrap().to_vec();
            prop_assert_eq!(&sealed, &theirs);
            prop_assert_eq!(&opening.decrypt_rtp(&sealed).unwrap()[..], &plain[..]);
            let opened = receiver.open_rtp(&mut theirs).unwrap();
            prop_assert_eq!(opened, Opened { plain_len: plain.len(), index: number.0 });
            prop_assert_eq!(&theirs[..plain.len()], &plain[..]);
            number = number + gap;
        }
    }

    #[test]
    fn rtcp_agrees_with_another_implementation(
        profile in any_profile(),
        ssrc in any::<u32>(),
        words in 0usize..80,
        fill in any::<u8>(),
    ) {
        let (mut ours, mut receiver) = pair(profile);
        let (mut sealing, mut opening) = (other(profile), other(profile));
        let plain = receiver_report(ssrc, &vec![fill; words * 4]);
        for _ in 0..3 {
            let sealed = ours.sealed_rtcp(&plain);
            prop_assert_eq!(&opening.decrypt_rtcp(&sealed).unwrap()[..], &plain[..]);
            let mut theirs = sealing.encrypt_rtcp(&plain).unwrap().to_vec();
            prop_assert_eq!(receiver.open_rtcp(&mut theirs).unwrap(), plain.len());
            prop_assert_eq!(&theirs[..plain.len()], &plain[..]);
        }
    }

    #[test]
    fn no_bytes_panic(profile in any_profile(), mut packet in prop::collection::vec(any::<u8>(), 0..80)) {
        let (mut sender, mut receiver) = pair(profile);
        if let Some(first) = packet.first_mut() {
            *first = 0x80 | *first & 0x3f;
        }
        prop_assert!(receiver.open_rtp(&mut packet).is_err());
        prop_assert!(receiver.open_rtcp(&mut packet).is_err());
        let len = packet.len();
        packet.resize(len + MAX_SRTP_TRAILER, 0);
        let _ = sender.seal_rtp(&mut packet, len, 9);
        let _ = sender.seal_rtcp(&mut packet, len);
    }
}
