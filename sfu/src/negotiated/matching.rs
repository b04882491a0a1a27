//! Which payload of a slot can carry a track: same codec, and a profile that its decoder takes.

use crate::media::{Codec, PayloadMap};

/// The payload of a slot that can carry a track of this codec: the one negotiated exactly so,
/// else the first whose decoder takes it.
#[must_use]
pub fn match_payload(track: Codec, payloads: &[PayloadMap]) -> Option<&PayloadMap> {
    let exact = payloads.iter().find(|payload| payload.codec == track);
    exact.or_else(|| {
        payloads
            .iter()
            .find(|payload| decodes(payload.codec, track))
    })
}

/// Whether a decoder negotiated for one codec takes a stream of the other. Levels are not
/// compared: every browser decodes above the level it writes.
fn decodes(decoder: Codec, stream: Codec) -> bool {
    match (decoder, stream) {
        (
            Codec::H264 {
                profile_idc: decoder_idc,
                profile_iop: decoder_iop,
                packetization_mode: decoder_mode,
            },
            Codec::H264 {
                profile_idc,
                profile_iop,
                packetization_mode,
            },
        ) => {
            let decoder = H264Profile::new(decoder_idc, decoder_iop);
            let stream = H264Profile::new(profile_idc, profile_iop);
            // Mode 1 has everything that mode 0 has (RFC 6184 section 6.3).
            packetization_mode <= decoder_mode
                && decoder
                    .zip(stream)
                    .is_some_and(|(decoder, stream)| decoder.decodes(stream))
        }
        (
            Codec::H265 {
                profile: decoder,
                is_high_tier: takes_high_tier,
            },
            Codec::H265 {
                profile,
                is_high_tier,
            },
        ) => h265_decodes(decoder, profile) && (takes_high_tier || !is_high_tier),
        _ => decoder == stream,
    }
}

/// The profiles of H.265 whose decoders take streams of others (ITU-T H.265 sections A.3.2 to A.3.4).
const H265_MAIN: u8 = 1;
const H265_MAIN_10: u8 = 2;
const H265_MAIN_STILL: u8 = 3;

fn h265_decodes(decoder: u8, stream: u8) -> bool {
    match decoder {
        H265_MAIN => matches!(stream, H265_MAIN | H265_MAIN_STILL),
        H265_MAIN_10 => matches!(stream, H265_MAIN | H265_MAIN_10 | H265_MAIN_STILL),
        other => other == stream,
    }
}

/// The H.264 profiles that are negotiated over WebRTC (RFC 6184 section 8.1, table 5; constrained
/// high is of the 2012 edition of H.264).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
}

impl H264Profile {
    pub(crate) fn new(profile_idc: u8, profile_iop: u8) -> Option<Self> {
        let has = |mask, bits| profile_iop & mask == bits;
        match profile_idc {
            0x42 if has(0b0100_1111, 0b0100_0000) => Some(H264Profile::ConstrainedBaseline),
            0x4d if has(0b1000_1111, 0b1000_0000) => Some(H264Profile::ConstrainedBaseline),
            0x58 if has(0b1100_1111, 0b1100_0000) => Some(H264Profile::ConstrainedBaseline),
            0x42 if has(0b0100_1111, 0) => Some(H264Profile::Baseline),
            0x58 if has(0b1100_1111, 0b1000_0000) => Some(H264Profile::Baseline),
            0x4d if has(0b1010_1111, 0) => Some(H264Profile::Main),
            0x64 if profile_iop == 0b0000_1100 => Some(H264Profile::ConstrainedHigh),
            0x64 if profile_iop == 0 => Some(H264Profile::High),
            _ => None,
        }
    }

    /// The one `profile_idc` and `profile_iop` by which [`Codec`] knows the profile, however the
    /// client spells it.
    pub(crate) fn canonical(self) -> (u8, u8) {
        match self {
            H264Profile::ConstrainedBaseline => (0x42, 0x40),
            H264Profile::Baseline => (0x42, 0x00),
            H264Profile::Main => (0x4d, 0x00),
            H264Profile::ConstrainedHigh => (0x64, 0x0c),
            H264Profile::High => (0x64, 0x00),
        }
    }

    /// Whether a decoder of this profile takes a stream of the other.
    fn decodes(self, stream: H264Profile) -> bool {
        use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        match stream {
            // What baseline has beyond constrained baseline (FMO, ASO, redundant slices) no
            // WebRTC encoder makes and hardly a decoder reads: both mean the same in practice.
            ConstrainedBaseline | Baseline => true,
            Main => matches!(self, Main | High),
            ConstrainedHigh => matches!(self, ConstrainedHigh | High),
            High => self == High,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h264(profile: H264Profile, packetization_mode: u8) -> Codec {
        let (profile_idc, profile_iop) = profile.canonical();
        Codec::H264 {
            profile_idc,
            profile_iop,
            packetization_mode,
        }
    }

    #[test]
    fn tracks_find_the_payload_that_decodes_them() {
        // track, what the slot has, the index of the one it gets
        let cb = |mode| h264(H264Profile::ConstrainedBaseline, mode);
        let baseline = |mode| h264(H264Profile::Baseline, mode);
        let main = |mode| h264(H264Profile::Main, mode);
        let high = |mode| h264(H264Profile::High, mode);
        let h265 = |profile, is_high_tier| Codec::H265 {
            profile,
            is_high_tier,
        };
        let event = |clock_rate| Codec::TelephoneEvent { clock_rate };
        let cases = [
            (Codec::Vp8, vec![Codec::Opus, Codec::Vp8], Some(1)),
            (
                Codec::Vp9 { profile: 0 },
                vec![Codec::Vp9 { profile: 2 }],
                None,
            ),
            (
                Codec::Av1 { profile: 0 },
                vec![Codec::Av1 { profile: 1 }, Codec::Av1 { profile: 0 }],
                Some(1),
            ),
            (cb(1), vec![high(1), cb(1)], Some(1)),
            (cb(1), vec![cb(0), high(1)], Some(1)),
            (cb(0), vec![Codec::Vp8, main(1)], Some(1)),
            (cb(1), vec![cb(0)], None),
            (baseline(1), vec![cb(1)], Some(0)),
            (main(1), vec![cb(1), baseline(1)], None),
            (main(1), vec![cb(1), high(1)], Some(1)),
            (high(1), vec![main(1), cb(1)], None),
            (h265(1, false), vec![h265(2, false)], Some(0)),
            (
                h265(1, false),
                vec![h265(2, false), h265(1, false)],
                Some(1),
            ),
            (h265(2, false), vec![h265(1, false)], None),
            (h265(1, false), vec![h265(1, true)], Some(0)),
            (h265(1, true), vec![h265(1, false)], None),
            (h265(1, false), vec![h265(4, false)], None),
            (Codec::Pcma, vec![Codec::Opus, Codec::Pcmu], None),
            (
                event(8000),
                vec![Codec::Pcmu, event(48_000), event(8000)],
                Some(2),
            ),
        ];
        for (track, slot, expected) in cases {
            let payloads: Vec<_> = slot
                .iter()
                .zip(96..)
                .map(|(&codec, payload_type)| PayloadMap {
                    codec,
                    payload_type,
                    rtx_payload_type: None,
                    nack: true,
                    transport_cc: true,
                    remb: true,
                    key_frames: None,
                })
                .collect();
            let found = match_payload(track, &payloads).map(|p| usize::from(p.payload_type) - 96);
            assert_eq!(found, expected, "{track:?} in {slot:?}");
        }
    }
}
