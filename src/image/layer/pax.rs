//! pax extended header records: `LENGTH KEYWORD=VALUE\n`, where the length counts the whole record and the value may
//! hold any bytes. Specification: pax(1p), "pax Header Block".

use anyhow::{Context, Result, ensure};

use super::number::{Number, digits};

/// Keyword and value.
pub(super) type Record = (Vec<u8>, Vec<u8>);

/// What stands before the name of an extended attribute in its keyword, as star began and all took over.
pub(super) const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
/// What the keywords of GNU tar for files with holes begin with.
pub(super) const SPARSE_PREFIX: &[u8] = b"GNU.sparse.";
/// What star's keywords for the numbers of a device begin with.
pub(super) const DEVICE_PREFIX: &[u8] = b"SCHILY.dev";

/// Reads all records.
pub(super) fn parse(mut data: &[u8]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    while !data.is_empty() {
        let blank = data.iter().position(|byte| *byte == b' ').context("a pax record has no length")?;
        let length = number(&data[..blank]).whole().ok().and_then(|length| usize::try_from(length).ok());
        let length = length.context("a pax record's length is not a number that fits")?;
        ensure!(length > blank + 1 && length <= data.len(), "a pax record's length of {length} bytes is wrong");
        let (record, rest) = data.split_at(length);
        let body = record[blank + 1..].strip_suffix(b"\n").context("a pax record does not end with a newline")?;
        let equals = body.iter().position(|byte| *byte == b'=').context("a pax record has no \"=\"")?;
        records.push((body[..equals].to_vec(), body[equals + 1..].to_vec()));
        data = rest;
    }
    Ok(records)
}

/// Appends one record.
pub(super) fn write(data: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest_bytes = key.len() + value.len() + b" =\n".len();
    let mut length = rest_bytes + 1;
    while rest_bytes + length.to_string().len() != length {
        length = rest_bytes + length.to_string().len();
    }
    data.extend_from_slice(format!("{length} ").as_bytes());
    data.extend_from_slice(key);
    data.push(b'=');
    data.extend_from_slice(value);
    data.push(b'\n');
}

/// A decimal number.
pub(super) fn number(value: &[u8]) -> Number {
    let (is_negative, text) = value.strip_prefix(b"-").map_or((false, value), |text| (true, text));
    if text.is_empty() {
        return Number::Malformed;
    }
    match digits(text.iter().map(|byte| byte.checked_sub(b'0').filter(|digit| *digit < 10)), 10) {
        Number::Whole(_) | Number::TooBig if is_negative => Number::Negative,
        number => number,
    }
}

/// A time in seconds, with or without a fraction, which is cut off.
pub(super) fn seconds(value: &[u8]) -> Number {
    let Some(point) = value.iter().position(|byte| *byte == b'.') else { return number(value) };
    if value[point + 1..].iter().all(u8::is_ascii_digit) { number(&value[..point]) } else { Number::Malformed }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_length_counts_its_own_digits() {
        for (value_bytes, length) in [(0, 5), (4, 9), (5, 11), (93, 99), (94, 101)] {
            let mut data = Vec::new();
            write(&mut data, b"k", &vec![b'v'; value_bytes]);
            assert_eq!(data.len(), length);
            assert!(data.starts_with(format!("{length} k=").as_bytes()), "{data:?}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for data in [
            &b"9 k=v\n"[..],
            b"x k=v\n",
            b"+6 k=v\n",
            b"-6 k=v\n",
            b"6.0 k=v\n",
            b"6 k=vv",
            b"5 kv\n",
            b"1 k=v\n",
            b"6",
            b"999999999999999999999 k=v\n",
        ] {
            assert!(parse(data).is_err(), "{data:?}");
        }
    }

    #[test]
    fn numbers_are_decimal_and_fractions_of_times_are_cut_off() {
        for (text, expected) in [
            (&b"12"[..], Number::Whole(12)),
            (b"18446744073709551615", Number::Whole(u64::MAX)),
            (b"18446744073709551616", Number::TooBig),
            (b"-1", Number::Negative),
            (b"", Number::Malformed),
            (b"+1", Number::Malformed),
            (b"-", Number::Malformed),
            (b"soon", Number::Malformed),
            (b"1 ", Number::Malformed),
        ] {
            assert_eq!((number(text), seconds(text)), (expected, expected), "{text:?}");
        }
        for (text, expected) in [
            (&b"12.999"[..], Number::Whole(12)),
            (b"12.", Number::Whole(12)),
            (b"-1.5", Number::Negative),
            (b".5", Number::Malformed),
            (b"1.2.3", Number::Malformed),
            (b"1.x", Number::Malformed),
        ] {
            assert_eq!((number(text), seconds(text)), (Number::Malformed, expected), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn records_hold_any_bytes(values in proptest::collection::vec(any::<Vec<u8>>(), 0..5)) {
            let records: Vec<Record> = values.into_iter().map(|value| (b"SCHILY.xattr.user.x".to_vec(), value)).collect();
            let mut data = Vec::new();
            for (key, value) in &records { write(&mut data, key, value); }
            prop_assert_eq!(parse(&data).unwrap(), records);
        }
    }
}
