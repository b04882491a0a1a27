//! H.264 sequence parameter sets: the size of the picture (ITU-T H.264 section 7.3.2.1.1).
//!
//! In: the bytes of the NAL unit after its header. Out: width and height as they are shown.

use super::bits::{BitReader, unescape};

/// Bytes looked at: what precedes the size takes some twenty, and with scaling lists, which nobody
/// sends in calls, a few hundred.
const MAX_LEN: usize = 256;

/// Profiles that say how colours are coded (section 7.3.2.1.1).
const WITH_CHROMA_FORMAT: [u32; 13] =
    [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// Most offsets of `pic_order_cnt_type` 1 (section 7.4.2.1.1).
const MAX_ORDER_CYCLE: u32 = 255;

/// Pixels along a side of a macroblock.
const MACROBLOCK: u32 = 16;

/// Width and height in pixels; `None` when it is cut short or contradicts itself.
pub(super) fn size(sps: &[u8]) -> Option<(u16, u16)> {
    let mut plain = [0; MAX_LEN];
    let len = unescape(sps, &mut plain);
    parse(&mut BitReader::new(plain.get(..len)?))
}

fn parse(reader: &mut BitReader<'_>) -> Option<(u16, u16)> {
    let profile = reader.bits(8)?;
    // Constraints and level.
    reader.bits(16)?;
    let _id = reader.exp_golomb()?;
    let mut chroma_format = 1;
    if WITH_CHROMA_FORMAT.contains(&profile) {
        chroma_format = reader.exp_golomb()?;
        if chroma_format == 3 {
            let _has_separate_planes = reader.flag()?;
        }
        let _luma_depth = reader.exp_golomb()?;
        let _chroma_depth = reader.exp_golomb()?;
        let _bypasses_transform = reader.flag()?;
        if reader.flag()? {
            skip_scaling_lists(reader, if chroma_format == 3 { 12 } else { 8 })?;
        }
    }
    let _frame_num_bits = reader.exp_golomb()?;
    skip_picture_order(reader)?;
    let _reference_frames = reader.exp_golomb()?;
    let _allows_gaps = reader.flag()?;
    let width = reader.exp_golomb()?.checked_add(1)?;
    let height = reader.exp_golomb()?.checked_add(1)?;
    let is_progressive = reader.flag()?;
    if !is_progressive {
        let _adapts_to_fields = reader.flag()?;
    }
    let _infers_direct_8x8 = reader.flag()?;
    let fields = if is_progressive { 1 } else { 2 };
    let whole = (
        width.checked_mul(MACROBLOCK)?,
        height.checked_mul(MACROBLOCK * fields)?,
    );
    cropped(reader, whole, chroma_format, fields)
}

/// Reads how much of a picture is cut away, in H.264 and H.265 alike, and gives what is shown. A step
/// is as many pixels as one of colour has (ITU-T H.264 table 6-1, equations 7-19 to 7-22; H.265
/// equations 7-29 and 7-30), down the side as often as there are fields.
pub(super) fn cropped(
    reader: &mut BitReader<'_>,
    (width, height): (u32, u32),
    chroma_format: u32,
    fields: u32,
) -> Option<(u16, u16)> {
    let (mut across, mut down) = (0, 0);
    if reader.flag()? {
        across = reader.exp_golomb()?.checked_add(reader.exp_golomb()?)?;
        down = reader.exp_golomb()?.checked_add(reader.exp_golomb()?)?;
    }
    let (step_x, step_y) = match chroma_format {
        1 => (2, 2),
        2 => (2, 1),
        0 | 3 => (1, 1),
        _ => return None,
    };
    let side = |whole: u32, cropped: u32, step: u32| {
        let shown = whole.checked_sub(cropped.checked_mul(step)?)?;
        u16::try_from(shown).ok().filter(|&side| side > 0)
    };
    Some((
        side(width, across, step_x)?,
        side(height, down, step_y * fields)?,
    ))
}

/// Section 7.3.2.1.1.1.
fn skip_scaling_lists(reader: &mut BitReader<'_>, lists: usize) -> Option<()> {
    for list in 0..lists {
        if !reader.flag()? {
            continue;
        }
        let (mut last, mut next) = (8, 8);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + reader.signed_exp_golomb()?).rem_euclid(256);
            }
            if next != 0 {
                last = next;
            }
        }
    }
    Some(())
}

fn skip_picture_order(reader: &mut BitReader<'_>) -> Option<()> {
    match reader.exp_golomb()? {
        0 => {
            let _lsb_bits = reader.exp_golomb()?;
        }
        1 => {
            let _is_always_zero = reader.flag()?;
            let _offset = reader.exp_golomb()?;
            let _offset_of_bottom = reader.exp_golomb()?;
            let cycle = reader.exp_golomb()?;
            if cycle > MAX_ORDER_CYCLE {
                return None;
            }
            for _ in 0..cycle {
                reader.exp_golomb()?;
            }
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::bits::BitWriter;
    use super::*;
    use proptest::prelude::*;

    fn start(profile: u32) -> BitWriter {
        BitWriter::default()
            .put(profile, 8)
            .put(0xc01f, 16)
            .exp_golomb(0)
    }

    /// Frame number bits and picture order, then the size, then cropping.
    fn rest(bits: BitWriter, blocks: (u32, u32), crop: Option<[u32; 4]>) -> Vec<u8> {
        let bits = bits.exp_golomb(0).exp_golomb(2).exp_golomb(1).put(0, 1);
        let mut bits = bits
            .exp_golomb(blocks.0 - 1)
            .exp_golomb(blocks.1 - 1)
            .put(0b11, 2);
        bits = bits.put(u32::from(crop.is_some()), 1);
        for side in crop.into_iter().flatten() {
            bits = bits.exp_golomb(side);
        }
        bits.put(0b01, 2).bytes()
    }

    #[test]
    fn known_sizes() {
        let baseline = rest(start(66), (40, 30), None);
        assert_eq!(size(&baseline), Some((640, 480)));
        let cropped = rest(start(66), (120, 68), Some([0, 0, 0, 4]));
        assert_eq!(size(&cropped), Some((1920, 1080)));
        // 4:2:0, 8 bits; one scaling list of zeros at its second entry.
        let high = start(100)
            .exp_golomb(1)
            .exp_golomb(0)
            .exp_golomb(0)
            .put(0, 1)
            .put(1, 1);
        let high = high.put(1, 1).exp_golomb(0).exp_golomb(16).put(0, 7);
        assert_eq!(size(&rest(high, (80, 45), None)), Some((1280, 720)));
        assert_eq!(size(&rest(start(66), (1, 1), Some([8, 0, 0, 0]))), None);
        assert_eq!(size(&rest(start(66), (4097, 1), None)), None, "too wide");
    }

    #[test]
    fn a_real_one_from_openh264() {
        // 1280x720, constrained baseline, level 3.1.
        let sps = [0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x28, 0x02, 0xdd, 0x80];
        assert_eq!(size(&sps), Some((1280, 720)));
        for len in 0..8 {
            assert_eq!(size(&sps[..len]), None, "{len}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(sps in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Some((width, height)) = size(&sps) {
                prop_assert!(width > 0 && height > 0);
            }
        }
    }
}
