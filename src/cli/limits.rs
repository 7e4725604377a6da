//! The options of commands that read anyone's initrd: how much of it they read.

use anyhow::Error;

use crate::analysis::inspect::{LimitReached, Limits};
use crate::image::layer::TooLong;

/// How much of an initrd is read.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// Give up an initrd that unpacks to more bytes; may end in K, M, G or T
    #[arg(long, value_name = "SIZE", default_value = "8G", value_parser = size)]
    max_unpacked_size: u64,
    /// Give up an initrd that has more entries, or names and link targets of more than 128 bytes each on average
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::DEFAULT_ENTRIES)]
    max_entries: u64,
}

impl LimitOptions {
    /// The limits that were given.
    pub fn limits(&self) -> Limits {
        Limits { unpacked_bytes: self.max_unpacked_size, entries: self.max_entries }
    }
}

/// Names the option that raises the limit, if it is one that an initrd or an archive goes beyond.
pub fn with_hint(error: Error) -> Error {
    let option = match error.downcast_ref::<LimitReached>() {
        Some(LimitReached::UnpackedBytes(_)) => "--max-unpacked-size",
        None if TooLong::is_cause_of(&error) => "--max-unpacked-size",
        Some(LimitReached::Entries(_) | LimitReached::Texts(_) | LimitReached::Paths(_)) => "--max-entries",
        _ => return error,
    };
    anyhow::anyhow!("{error:#}; {option} raises this limit")
}

/// A number of bytes, as a person writes it.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((end, 'K')) => (&text[..end], 10),
        Some((end, 'M')) => (&text[..end], 20),
        Some((end, 'G')) => (&text[..end], 30),
        Some((end, 'T')) => (&text[..end], 40),
        _ => (text, 0),
    };
    let number: Option<u64> = digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "write a number of bytes, such as 500M or 8G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("1500"), Ok(1500));
        assert_eq!((size("2K"), size("3M"), size("8G"), size("1T")), (Ok(2048), Ok(3 << 20), Ok(8 << 30), Ok(1 << 40)));
        for text in ["", "G", "+1", "-1", "1.5G", "8GB", "8g", "99999999999T", "\u{663}"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
