//! pax extended header records: `LENGTH KEYWORD=VALUE\n`, where the length counts the whole record and the value may
//! hold any bytes. Specification: pax(1p), "pax Header Block".

use anyhow::{Context, Result, ensure};

/// Keyword and value.
pub(super) type Record = (Vec<u8>, Vec<u8>);

/// What stands before the name of an extended attribute in its keyword, as star began and all took over.
pub(super) const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// Reads all records.
pub(super) fn parse(mut data: &[u8]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    while !data.is_empty() {
        let blank = data.iter().position(|byte| *byte == b' ').context("a pax record has no length")?;
        let length = usize::try_from(decimal(&data[..blank])?).context("a pax record is too long")?;
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

/// A whole number.
pub(super) fn decimal(value: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.parse().with_context(|| format!("{:?} is no number", String::from_utf8_lossy(value)))
}

/// A time in seconds, with or without a fraction (cut off); before 1970 it is 0.
pub(super) fn seconds(value: &[u8]) -> Result<u64> {
    let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
    match whole.strip_prefix(b"-") {
        Some(digits) => decimal(digits).map(|_| 0),
        None => decimal(whole),
    }
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
        for data in
            [&b"9 k=v\n"[..], b"x k=v\n", b"6 k=vv", b"5 kv\n", b"1 k=v\n", b"6", b"999999999999999999999 k=v\n"]
        {
            assert!(parse(data).is_err(), "{data:?}");
        }
    }

    #[test]
    fn fractions_are_cut_off_and_times_before_1970_are_0() {
        let times = [&b"12.999"[..], b"12", b"-1.5", b"0"].map(|value| seconds(value).unwrap());
        assert_eq!(times, [12, 12, 0, 0]);
        assert!(seconds(b"soon").is_err());
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
