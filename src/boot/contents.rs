//! Whether the kernel unpacked what the initrd holds: the digests that a guest computed against those computed here.

use std::collections::BTreeMap;
use std::io::BufRead;

use anyhow::{Context, Result, ensure};

use ocinitrd_format::digest::Digest;
use ocinitrd_format::text::Escaped;

/// How many paths a comparison names.
const NAMED_PATHS: usize = 3;

/// Parses what `sha256sum -z` printed onto an empty disk: `HEX  PATH` and a NUL, again and again, then NULs to the end.
///
/// # Errors
/// Fails on anything else, and when reading fails.
pub fn parse_listing(listing: impl BufRead) -> Result<BTreeMap<Vec<u8>, Digest>> {
    let mut files = BTreeMap::new();
    for line in listing.split(0) {
        let line = line.context("reading the list of files")?;
        if line.is_empty() {
            break;
        }
        let (path, digest) = parse_line(&line)?;
        files.insert(path, digest);
    }
    Ok(files)
}

fn parse_line(line: &[u8]) -> Result<(Vec<u8>, Digest)> {
    let unreadable = || format!("the guest printed \"{}\" in place of a digest and a path", Escaped(line));
    let (digest, path) = line.split_at_checked(64).with_context(unreadable)?;
    let digest = std::str::from_utf8(digest).ok().and_then(Digest::from_hex).with_context(unreadable)?;
    // The second is a star where a file was read as binary, which means nothing here.
    ensure!(path.len() > 2 && (path.starts_with(b"  ") || path.starts_with(b" *")), unreadable());
    Ok((path[2..].to_vec(), digest))
}

/// What differs between the files in the initrd and the files in the guest, in words; nothing if nothing does.
pub fn difference(expected: &BTreeMap<Vec<u8>, Digest>, unpacked: &BTreeMap<Vec<u8>, Digest>) -> Option<String> {
    let lost = expected.keys().filter(|path| !unpacked.contains_key(*path)).map(|path| (path, "missing"));
    let added = unpacked.keys().filter(|path| !expected.contains_key(*path)).map(|path| (path, "not in the initrd"));
    let changed = expected
        .iter()
        .filter(|(path, digest)| unpacked.get(*path).is_some_and(|other| other != *digest))
        .map(|(path, _)| (path, "changed"));
    let differences: Vec<_> = changed.chain(lost).chain(added).collect();
    if differences.is_empty() {
        return None;
    }
    let named: Vec<String> =
        differences.iter().take(NAMED_PATHS).map(|(path, how)| format!("\"{}\" is {how}", Escaped(path))).collect();
    let more = if differences.len() > NAMED_PATHS { ", ..." } else { "" };
    Some(format!(
        "{} of {} files differ from the initrd's after unpacking: {}{more}",
        differences.len(),
        expected.len(),
        named.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[(&str, &str)]) -> BTreeMap<Vec<u8>, Digest> {
        names.iter().map(|(name, text)| (name.as_bytes().to_vec(), Digest::of(text.as_bytes()))).collect()
    }

    #[test]
    fn listing_of_sha256sum_is_read_to_the_first_empty_line() {
        let mut listing = Vec::new();
        for (path, digest) in files(&[("usr/a b\n", "1"), ("init", "2")]) {
            listing.extend(format!("{}  ", digest.hex()).into_bytes());
            listing.extend(path);
            listing.push(0);
        }
        listing.extend([0; 1000]);
        assert_eq!(parse_listing(&listing[..]).unwrap(), files(&[("usr/a b\n", "1"), ("init", "2")]));
        assert!(parse_listing(&[0; 512][..]).unwrap().is_empty());
    }

    #[test]
    fn anything_else_is_refused() {
        for listing in ["short", &format!("{}  ", Digest::of(b"").hex()), &format!("{}xxpath", Digest::of(b"").hex())] {
            let message = parse_listing(listing.as_bytes()).unwrap_err().to_string();
            assert!(message.contains("in place of a digest and a path"), "{message}");
        }
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let expected = files(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(difference(&expected, &expected), None);
        let unpacked = files(&[("a", "x"), ("c", "3"), ("d", "4")]);
        assert_eq!(
            difference(&expected, &unpacked).unwrap(),
            "3 of 3 files differ from the initrd's after unpacking: \
             \"a\" is changed, \"b\" is missing, \"d\" is not in the initrd"
        );
        let nothing = difference(&files(&[("a", ""), ("b", ""), ("c", ""), ("d", "")]), &BTreeMap::new()).unwrap();
        assert!(nothing.starts_with("4 of 4 files") && nothing.ends_with("\"c\" is missing, ..."), "{nothing}");
    }
}
