//! Numbers in the headers of tar archives: octal digits, or base 256 where these do not reach. Specification: pax(1p) and
//! the GNU tar manual's "Basic Tar Format".

use std::fmt;

/// A number as it is written; only a whole one that fits stands for itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Number {
    /// A number of 64 bits.
    Whole(u64),
    /// Below zero.
    Negative,
    /// Above 64 bits.
    TooBig,
    /// No number.
    Malformed,
}

/// Why a number is refused; completes "it has an owner that ...".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Reason(&'static str);

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl Number {
    pub(super) fn whole(self) -> Result<u64, Reason> {
        match self {
            Number::Whole(number) => Ok(number),
            Number::Negative => Err(Reason("is negative")),
            Number::TooBig => Err(Reason("is beyond 64 bits")),
            Number::Malformed => Err(Reason("is not a number")),
        }
    }
}

/// Reads a field of a header: octal with blanks around, base 256 if its first bit is set. One of zero bytes is 0, as the
/// oldest archives have it; one of blanks is none.
pub(super) fn field(field: &[u8]) -> Number {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base_256(field),
        _ => octal(field),
    }
}

/// The second bit is the sign.
fn base_256(field: &[u8]) -> Number {
    if field[0] & 0x40 != 0 {
        return Number::Negative;
    }
    digits(field.iter().enumerate().map(|(place, byte)| Some(if place == 0 { byte & 0x3f } else { *byte })), 256)
}

fn octal(field: &[u8]) -> Number {
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    let digits_only = text.trim_ascii();
    if digits_only.is_empty() && !text.is_empty() {
        return Number::Malformed;
    }
    if digits_only.starts_with(b"-") {
        return Number::Negative;
    }
    digits(digits_only.iter().map(|digit| digit.checked_sub(b'0').filter(|digit| *digit < 8)), 8)
}

/// Puts digits together, the highest first.
pub(super) fn digits(digits: impl Iterator<Item = Option<u8>>, base: u64) -> Number {
    let mut sum = Some(0_u64);
    for digit in digits {
        let Some(digit) = digit else { return Number::Malformed };
        sum = sum.and_then(|sum| sum.checked_mul(base)?.checked_add(digit.into()));
    }
    sum.map_or(Number::TooBig, Number::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_and_may_be_zero_bytes() {
        for (text, expected) in [
            (&b"0000755\0"[..], Number::Whole(0o755)),
            (b"   755 \0", Number::Whole(0o755)),
            (b"755\0 rest", Number::Whole(0o755)),
            (b"\0\0\0\0\0\0\0\0", Number::Whole(0)),
            (b"\x80\0\0\0\0\0\0\x01\0\0\0\0", Number::Whole(1 << 32)),
            (b"        ", Number::Malformed),
            (b"000089\0\0", Number::Malformed),
            (b"12 34\0", Number::Malformed),
            (b"+755\0", Number::Malformed),
            (b"-755\0", Number::Negative),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Number::Negative),
            (b"\xc0\0\0\0\0\0\0\x01", Number::Negative),
            (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", Number::TooBig),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Number::TooBig),
            (b"7777777777777777777777777", Number::TooBig),
        ] {
            assert_eq!(field(text), expected, "{text:?}");
        }
    }
}
