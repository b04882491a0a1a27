//! Headers that are written bit by bit, most significant first.

/// Longest run of zeros before an Exp-Golomb code of 32 bits (ITU-T H.264 section 9.1).
const MAX_LEADING_ZEROS: u32 = 31;

/// Reads from the front. Everything is `None` once the bytes are used up.
#[derive(Clone, Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits read so far.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, at: 0 }
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let flag = byte >> (7 - self.at % 8) & 1 != 0;
        self.at += 1;
        Some(flag)
    }

    /// A number of up to 32 bits.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut number = 0;
        for _ in 0..count {
            number = number << 1 | u32::from(self.flag()?);
        }
        Some(number)
    }

    /// `ue(v)` of H.264 section 9.1, which AV1 calls `uvlc()`.
    pub(super) fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > MAX_LEADING_ZEROS {
                return None;
            }
        }
        Some((1 << zeros | self.bits(zeros)?) - 1)
    }

    /// `se(v)` of H.264 section 9.1.1.
    pub(super) fn signed_exp_golomb(&mut self) -> Option<i64> {
        let code = i64::from(self.exp_golomb()?);
        Some(if code % 2 == 0 {
            -(code / 2)
        } else {
            code / 2 + 1
        })
    }

    /// `ns(n)`, a number below `n` (AV1 RTP specification, section A.8.2).
    pub(super) fn below(&mut self, n: u32) -> Option<u32> {
        let width = u32::BITS - n.leading_zeros();
        let short = (1 << width) - n;
        let value = self.bits(width.checked_sub(1)?)?;
        if value < short {
            return Some(value);
        }
        Some((value << 1) - short + self.bits(1)?)
    }
}

/// Takes out the bytes that keep start codes from appearing in a NAL unit (ITU-T H.264 section
/// 7.4.1, H.265 section 7.4.2). Returns the length.
pub(super) fn unescape(bytes: &[u8], plain: &mut [u8]) -> usize {
    let (mut len, mut zeros) = (0, 0);
    for &byte in bytes {
        let is_escape = zeros >= 2 && byte == 3;
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        if is_escape {
            continue;
        }
        let Some(place) = plain.get_mut(len) else {
            break;
        };
        *place = byte;
        len += 1;
    }
    len
}

/// The other way, so that tests can say what is in a header.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(super) struct BitWriter(Vec<bool>);

#[cfg(test)]
impl BitWriter {
    pub(super) fn put(mut self, value: u32, count: u32) -> Self {
        let bits = (0..count).rev().map(|at| value >> at & 1 != 0);
        self.0.extend(bits);
        self
    }

    pub(super) fn exp_golomb(self, value: u32) -> Self {
        let width = u32::BITS - (value + 1).leading_zeros();
        self.put(0, width - 1).put(value + 1, width)
    }

    pub(super) fn below(self, value: u32, n: u32) -> Self {
        let width = u32::BITS - n.leading_zeros();
        let short = (1 << width) - n;
        if value < short {
            return self.put(value, width - 1);
        }
        self.put(value + short, width)
    }

    /// Zeros fill up the last byte.
    pub(super) fn bytes(self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            let padded = bits.iter().copied().chain([false; 8]).take(8);
            padded.fold(0, |byte, bit| byte << 1 | u8::from(bit))
        };
        self.0.chunks(8).map(byte).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes() {
        // 1, 010, 011, 00100, 00101, and the padding is no code.
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let written = (0..5).fold(BitWriter::default(), BitWriter::exp_golomb);
        assert_eq!(written.bytes(), bytes);
        let mut reader = BitReader::new(&bytes);
        for code in 0..5 {
            assert_eq!(reader.exp_golomb(), Some(code));
        }
        assert_eq!(reader.exp_golomb(), None);
        assert_eq!(BitReader::new(&[0; 9]).exp_golomb(), None, "too long");
        let mut reader = BitReader::new(&bytes);
        for code in [0, 1, -1, 2, -2] {
            assert_eq!(reader.signed_exp_golomb(), Some(code));
        }
    }

    #[test]
    fn numbers_below_five_take_two_bits_or_three() {
        let bytes = [0b0001_1011, 0b0111_0000];
        let written = (0..5).fold(BitWriter::default(), |bits, number| bits.below(number, 5));
        assert_eq!(written.bytes(), bytes);
        let mut reader = BitReader::new(&bytes);
        for number in 0..5 {
            assert_eq!(reader.below(5), Some(number));
        }
        assert_eq!(BitReader::new(&[]).below(1), Some(0), "nothing to tell");
    }

    #[test]
    fn escapes_are_taken_out() {
        let mut plain = [0; 8];
        let len = unescape(&[1, 0, 0, 3, 1, 0, 0, 3, 0, 3], &mut plain);
        assert_eq!(plain[..len], [1, 0, 0, 1, 0, 0, 0, 3]);
    }
}
