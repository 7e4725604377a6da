//! ASCII armor, RFC 9580 section 6: text to the bytes of its blocks, and bytes to a block.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Columns of base64 that others write, too.
const LINE_DIGITS: usize = 64;

/// What stood between a BEGIN and an END line.
#[derive(Debug)]
pub(super) struct Block {
    /// What the BEGIN line calls it, such as `SIGNATURE`.
    pub kind: String,
    /// The decoded bytes.
    pub bytes: Vec<u8>,
}

/// All blocks of a text; what stands outside of them is not looked at.
///
/// # Errors
/// Fails when a block has no end or is no base64.
pub(super) fn decode_all(text: &[u8]) -> Result<Vec<Block>> {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix(b"-----BEGIN PGP ").and_then(|rest| rest.strip_suffix(b"-----")) else {
            continue;
        };
        let kind = String::from_utf8_lossy(kind).into_owned();
        let bytes = decode(&kind, &mut lines)?;
        blocks.push(Block { kind, bytes });
    }
    Ok(blocks)
}

fn decode<'t>(kind: &str, lines: &mut impl Iterator<Item = &'t [u8]>) -> Result<Vec<u8>> {
    let end = format!("-----END PGP {kind}-----");
    let mut digits = Vec::new();
    loop {
        let line = lines.next().with_context(|| format!("the armored {kind} is cut off"))?;
        // A header such as `Comment: text` is none of base64's characters; `=` begins the checksum, which RFC 9580 has ignored.
        match line {
            _ if line == end.as_bytes() => break,
            [b'=', _, _, _, _] => {}
            _ if digits.is_empty() && line.contains(&b':') => {}
            _ => digits.extend_from_slice(line),
        }
    }
    STANDARD.decode(&digits).with_context(|| format!("the armored {kind} is no base64"))
}

/// `bytes` as a block; with the checksum, since rpm before its version 4.19 wants one.
pub(super) fn encode(kind: &str, bytes: &[u8]) -> String {
    let digits = STANDARD.encode(bytes);
    let mut text = format!("-----BEGIN PGP {kind}-----\n\n");
    let mut rest = digits.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE_DIGITS));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    let checksum = STANDARD.encode(&crc24(bytes).to_be_bytes()[1..]);
    text.push_str(&format!("={checksum}\n-----END PGP {kind}-----\n"));
    text
}

/// RFC 9580 section 6.1.1.
fn crc24(bytes: &[u8]) -> u32 {
    let mut checksum = 0x00b7_04ce;
    for byte in bytes {
        checksum ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            checksum <<= 1;
            if checksum & 0x0100_0000 != 0 {
                checksum ^= 0x0186_4cfb;
            }
        }
    }
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Vec<(String, Vec<u8>)> {
        decode_all(text.as_bytes()).unwrap().into_iter().map(|block| (block.kind, block.bytes)).collect()
    }

    #[test]
    fn headers_checksums_line_ends_and_text_around_are_skipped() {
        let text = "before\r\n-----BEGIN PGP MESSAGE-----\r\nComment: a: b\r\n\r\naW5p\r\ndHI=\r\n=AAAA\r\n-----END PGP MESSAGE-----\r\nafter";
        let bare = "-----BEGIN PGP MESSAGE-----\n\naW5pdHI=\n-----END PGP MESSAGE-----";
        let expected = [("MESSAGE".to_owned(), b"initr".to_vec())];
        assert_eq!((decoded(text), decoded(bare)), (expected.to_vec(), expected.to_vec()));
    }

    #[test]
    fn what_is_no_base64_or_has_no_end_is_refused() {
        let message = |text: &str| decode_all(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(message("-----BEGIN PGP X-----\n\naW5p\n-----END PGP Y-----\n"), "the armored X is cut off");
        assert_eq!(message("-----BEGIN PGP X-----\n\na!5p\n-----END PGP X-----\n"), "the armored X is no base64");
    }
}
