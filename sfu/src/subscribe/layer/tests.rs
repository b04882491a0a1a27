//! Streams as encoders lay them out, and what a subscriber gets of them.

use super::Verdict::{Drop, Forward, Omit, Start};
use super::*;
use crate::publish::history::tests::video;
use crate::types::EncodingIndex;
use proptest::prelude::*;

#[test]
fn an_encoding_is_entered_at_a_key_frame_only() {
    let mut layer = LayerSelector::default();
    layer.set_target(Some(Target::whole(EncodingIndex(0))));
    assert!(layer.needs_key_frame());
    let story = [
        // (encoding, epoch, key frame, target, verdict)
        (0, 0, false, 0, Drop),
        (0, 0, true, 0, Start),
        (0, 0, false, 0, Forward),
        (1, 0, true, 0, Drop),
        (0, 0, false, 1, Forward),
        (1, 0, false, 1, Drop),
        (1, 0, true, 1, Start),
        (0, 0, true, 1, Drop),
        (1, 0, true, 1, Forward),
        (1, 1, false, 1, Drop),
        (1, 1, true, 1, Start),
        (1, 0, true, 1, Drop),
    ];
    for (step, (encoding, epoch, key, target, verdict)) in story.into_iter().enumerate() {
        layer.set_target(Some(Target::whole(EncodingIndex(target))));
        let meta = video(EncodingIndex(encoding), epoch, step as u64, key);
        assert_eq!(layer.judge(&meta), verdict, "step {step}");
    }
    assert!(!layer.needs_key_frame());
    layer.interrupt();
    assert!(layer.needs_key_frame());
    layer.set_target(None);
    assert_eq!(layer.judge(&video(EncodingIndex(0), 0, 99, true)), Drop);
}

/// A whole frame of one layer in the picture with this number.
fn frame(picture: u64, spatial: u8, temporal: u8) -> PacketMeta {
    let mut meta = video(EncodingIndex(0), 0, picture * 4 + u64::from(spatial), false);
    meta.timestamp = picture;
    let info = meta.picture.get_or_insert_default();
    info.spatial_id = Some(spatial);
    info.temporal_id = Some(temporal);
    info.ends_frame = true;
    meta
}

fn opening(mut meta: PacketMeta, opens_temporal: u8) -> PacketMeta {
    meta.picture.get_or_insert_default().opens_temporal = opens_temporal;
    meta
}

/// Refers to no earlier picture.
fn independent(mut meta: PacketMeta) -> PacketMeta {
    let info = meta.picture.get_or_insert_default();
    info.is_independent = true;
    info.key_frame = info.spatial_id == Some(0);
    meta
}

fn target(spatial: u8, temporal: u8) -> Target {
    Target {
        encoding: EncodingIndex(0),
        spatial,
        temporal,
    }
}

fn started(target: Target) -> LayerSelector {
    let mut layer = LayerSelector::default();
    layer.set_target(Some(target));
    assert_eq!(layer.judge(&independent(frame(1, 0, 0))), Start);
    layer
}

#[test]
fn a_temporal_layer_is_joined_where_nothing_left_out_is_referred_to() {
    // As libwebrtc's encoder lays out three temporal layers of VP8, with the layers whose Y bit says
    // that they refer to layer 0 only.
    let story = [
        // (picture, temporal layer, Y, wanted temporal layer, verdict)
        (2, 2, true, 2, Forward),
        (3, 1, true, 2, Forward),
        (4, 2, false, 0, Omit),
        (5, 0, false, 0, Forward),
        (6, 2, true, 2, Omit),
        (7, 1, false, 2, Omit),
        (8, 2, true, 2, Omit),
        (9, 0, false, 2, Forward),
        (10, 2, true, 2, Omit),
        (11, 1, true, 2, Forward),
        (12, 2, false, 2, Omit),
        (13, 0, false, 2, Forward),
        (14, 2, true, 2, Forward),
        (15, 1, false, 1, Forward),
        (16, 2, false, 1, Omit),
    ];
    let mut layer = started(target(0, 2));
    for (picture, temporal, is_sync, wanted, verdict) in story {
        layer.set_target(Some(target(0, wanted)));
        let opens = if is_sync { 1 << temporal } else { 0 };
        let meta = opening(frame(picture, 0, temporal), opens);
        assert_eq!(layer.judge(&meta), verdict, "picture {picture}");
        assert!(!layer.needs_key_frame());
    }
    assert_eq!(layer.current(), Some(target(0, 1)));
}

#[test]
fn a_temporal_layer_that_nothing_opens_takes_a_key_frame() {
    let mut layer = started(target(0, 1));
    let mut pictures = 2..;
    let mut play = |layer: &mut LayerSelector, wanted, pairs| {
        layer.set_target(Some(target(0, wanted)));
        for picture in pictures.by_ref().take(2 * pairs) {
            layer.judge(&frame(picture, 0, (picture % 2) as u8));
        }
        layer.needs_key_frame()
    };
    let left_out = usize::from(MAX_LEFT_OUT);
    assert!(!play(&mut layer, 0, 2 * left_out), "nothing more is wanted");
    assert!(!play(&mut layer, 1, left_out - 1), "one may still come");
    assert!(play(&mut layer, 1, 1));
    assert!(!play(&mut layer, 0, 1));
    layer.set_target(Some(target(0, 1)));
    assert!(layer.needs_key_frame());
    layer.judge(&independent(frame(1000, 0, 0)));
    assert!(!layer.needs_key_frame());
    assert_eq!(layer.judge(&frame(1001, 0, 1)), Forward);
}

#[test]
fn a_base_layer_picture_may_open_all_layers_after_it() {
    // The dependency descriptor's S on layer 0, and VP9's U as RFC 9628 has it.
    let mut layer = started(target(0, 0));
    layer.set_target(Some(target(0, u8::MAX)));
    assert_eq!(layer.judge(&frame(2, 0, 2)), Omit);
    assert_eq!(layer.judge(&opening(frame(3, 0, 0), 0b111)), Forward);
    assert_eq!(layer.judge(&frame(4, 0, 2)), Forward);
    assert_eq!(layer.current(), Some(target(0, 2)));
    // What was open is not any more once a picture of it has been left out.
    layer.set_target(Some(target(0, 0)));
    assert_eq!(layer.judge(&opening(frame(5, 0, 0), 0b111)), Forward);
    assert_eq!(layer.judge(&frame(6, 0, 1)), Omit);
    layer.set_target(Some(target(0, 2)));
    assert_eq!(layer.judge(&frame(7, 0, 2)), Omit);
    assert_eq!(layer.judge(&opening(frame(8, 0, 0), 0xff)), Forward);
    layer.set_target(Some(target(0, u8::MAX)));
    assert_eq!(layer.judge(&frame(9, 0, 1)), Forward);
    assert_eq!(layer.current(), Some(target(0, u8::MAX)));
}

#[test]
fn a_spatial_layer_is_joined_at_a_key_picture() {
    let mut layer = started(target(u8::MAX, u8::MAX));
    let mut judge = |wanted: u8, meta: &PacketMeta| {
        layer.set_target(Some(target(wanted, u8::MAX)));
        let verdict = layer.judge(meta);
        let ends_picture = verdict == Forward && layer.ends_picture(meta);
        (verdict, ends_picture, layer.needs_key_frame())
    };
    let forward = (Forward, false, false);
    for spatial in 1..3 {
        assert_eq!(judge(u8::MAX, &independent(frame(1, spatial, 0))), forward);
    }
    // Down in the middle of a picture: from the next one on.
    assert_eq!(judge(2, &frame(2, 0, 0)), forward);
    assert_eq!(judge(1, &frame(2, 1, 0)), forward);
    assert_eq!(judge(1, &frame(2, 2, 0)), (Forward, true, false));
    assert_eq!(judge(1, &frame(3, 0, 0)), forward);
    assert_eq!(judge(1, &frame(3, 1, 0)), (Forward, true, false));
    assert_eq!(judge(1, &frame(3, 2, 0)), (Omit, false, false));
    // Up: not before a key picture, which has to be asked for.
    assert_eq!(judge(0, &frame(4, 0, 0)), (Forward, true, false));
    assert_eq!(judge(2, &frame(4, 1, 0)), (Omit, false, true));
    assert_eq!(judge(2, &frame(5, 0, 0)), (Forward, true, true));
    assert_eq!(judge(2, &frame(5, 1, 0)), (Omit, false, true));
    assert_eq!(judge(2, &independent(frame(6, 0, 0))), forward);
    assert_eq!(judge(2, &independent(frame(6, 1, 0))), forward);
    assert_eq!(
        judge(2, &independent(frame(6, 2, 0))),
        (Forward, true, false)
    );
    assert_eq!(judge(2, &frame(7, 2, 0)), (Forward, true, false));
}

#[test]
fn a_spatial_layer_is_joined_where_it_depends_on_its_own_picture_only() {
    let mut layer = started(target(0, 0));
    layer.judge(&frame(2, 2, 0));
    layer.set_target(Some(target(2, 0)));
    assert!(layer.needs_key_frame());
    let story = [
        // The base layer is predicted as ever.
        (frame(3, 0, 0), Forward),
        (independent(frame(3, 1, 0)), Forward),
        // Layer 2 was left out before layer 1 came: all of it has to be.
        (frame(4, 0, 0), Forward),
        (independent(frame(4, 2, 0)), Forward),
    ];
    for (meta, verdict) in story {
        assert_eq!(layer.judge(&meta), verdict);
    }
    assert!(!layer.needs_key_frame());
}

#[test]
fn a_layer_of_which_packets_were_left_out_is_not_joined_in_that_picture() {
    let mut layer = started(target(0, 0));
    layer.set_target(Some(target(2, 0)));
    let story = [
        (independent(frame(2, 2, 0)), Omit),
        (independent(frame(2, 0, 0)), Forward),
        (independent(frame(2, 1, 0)), Forward),
        (independent(frame(2, 2, 0)), Omit),
        (independent(frame(3, 2, 0)), Forward),
    ];
    for (step, (meta, verdict)) in story.into_iter().enumerate() {
        assert_eq!(layer.judge(&meta), verdict, "step {step}");
    }
}

#[test]
fn less_is_sent_while_a_lower_encoding_is_waited_for() {
    let of = |encoding, mut meta: PacketMeta| {
        meta.encoding = encoding;
        meta
    };
    let mut layer = LayerSelector::default();
    layer.set_target(Some(Target::whole(EncodingIndex(2))));
    assert_eq!(
        layer.judge(&of(EncodingIndex(2), independent(frame(1, 0, 0)))),
        Start
    );
    assert_eq!(layer.judge(&of(EncodingIndex(2), frame(2, 0, 1))), Forward);
    layer.set_target(Some(Target::whole(EncodingIndex(0))));
    assert!(layer.needs_key_frame());
    assert_eq!(layer.judge(&of(EncodingIndex(2), frame(3, 0, 1))), Omit);
    assert_eq!(
        layer.judge(&of(EncodingIndex(2), opening(frame(4, 0, 0), 0xff))),
        Forward
    );
    assert_eq!(layer.judge(&of(EncodingIndex(2), frame(5, 0, 1))), Omit);
    // Nor is it asked for more when all changes again.
    layer.set_target(Some(Target::whole(EncodingIndex(2))));
    assert!(!layer.needs_key_frame());
    assert_eq!(
        layer.judge(&of(EncodingIndex(2), opening(frame(6, 0, 0), 0b10))),
        Forward
    );
    assert_eq!(layer.judge(&of(EncodingIndex(2), frame(7, 0, 1))), Forward);
    layer.set_target(Some(target(0, 0)));
    assert_eq!(
        layer.judge(&of(EncodingIndex(0), independent(frame(8, 0, 0)))),
        Start
    );
    // On the way up what there is is sent whole.
    layer.set_target(Some(Target::whole(EncodingIndex(1))));
    assert_eq!(layer.judge(&opening(frame(9, 0, 0), 0xff)), Forward);
    assert_eq!(layer.judge(&frame(10, 0, 1)), Forward);
    assert_eq!(
        layer.current(),
        Some(Target {
            temporal: u8::MAX,
            ..target(0, 0)
        })
    );
}

#[test]
fn what_says_no_layer_is_forwarded_whole() {
    let mut layer = LayerSelector::default();
    layer.set_target(Some(target(0, 0)));
    assert_eq!(layer.judge(&video(EncodingIndex(0), 0, 1, true)), Start);
    let mut padding = video(EncodingIndex(0), 0, 2, false);
    padding.picture = None;
    for meta in [&padding, &video(EncodingIndex(0), 0, 3, false)] {
        assert_eq!(layer.judge(meta), Forward);
        assert!(!layer.ends_picture(meta));
    }
}

proptest! {
    /// Whatever is wanted and in whatever order packets come, a layer's packets of a picture all get
    /// the same verdict, which is also remembered, and no layer is sent without those below.
    #[test]
    fn a_picture_is_sent_whole_or_not(
        steps in proptest::collection::vec(
            // Picture, relative to the newest; layers; flags; what is wanted.
            (0u64..6, 0u8..3, any::<u8>(), any::<bool>(), (0u8..4, 0u8..4)),
            1..200,
        ),
    ) {
        let mut layer = started(Target::whole(EncodingIndex(0)));
        let mut verdicts = std::collections::BTreeMap::new();
        let mut newest = 10;
        for (back, spatial, opens, is_independent, wanted) in steps {
            layer.set_target(Some(target(wanted.0, wanted.1)));
            newest += u64::from(back == 0);
            let picture = newest - back;
            // All of a picture is of one temporal layer, and one layer's packets say the same.
            let temporal = (picture % 4) as u8;
            let mut meta = opening(frame(picture, spatial, temporal), opens);
            if is_independent && picture % 3 == 0 {
                meta = independent(meta);
            }
            let verdict = layer.judge(&meta);
            prop_assert!(matches!(verdict, Forward | Omit));
            let first = *verdicts.entry((picture, spatial)).or_insert(verdict);
            prop_assert_eq!(verdict, first, "picture {} layer {}", picture, spatial);
            prop_assert_eq!(layer.omits(&meta), verdict == Omit);
            for below in 0..spatial {
                let other = verdicts.get(&(picture, below));
                prop_assert!(verdict == Omit || other != Some(&Omit));
            }
        }
    }
}
