//! The signatures of an rpm file, and copies of the file with only one of them. Nothing is verified here.
//!
//! Enters: the path of a file. Leaves: its [`Signature`]s, and [`Excerpt`]s. rpm passes a file only if it can verify every
//! signature that it finds. A package may be signed by several keys, not all of them at hand, or in a way that this rpm does not
//! know: so it is shown to rpm with one signature at a time.

use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::header::{self, Entry, Header};
use super::{LEAD_BYTES, lead_and_signatures, signature_tag};
use ocinitrd_format::openpgp::Issuer;
use ocinitrd_support::regular_file;

/// A signature of a package's header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signature {
    /// Its author, by its own words.
    pub author: Author,
    /// The signature packet.
    bytes: Vec<u8>,
}

/// The author of a signature, by its own words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Author {
    /// A key.
    Key(Issuer),
    /// The signature is malformed or of an unknown kind: why it cannot be read.
    Unknown(String),
}

#[cfg(test)]
impl Signature {
    /// A signature that no file has.
    pub(crate) fn made_up(author: Author, bytes: &[u8]) -> Self {
        Signature { author, bytes: bytes.to_vec() }
    }
}

/// The beginning of a copy of a file with fewer signatures, and where in the file the rest begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Excerpt {
    /// The lead and the header of signatures.
    pub head: Vec<u8>,
    /// The offset of the package's header in the file.
    pub rest_offset: u64,
}

/// Returns the signatures of the package's header, each once. Reads no further than the header of signatures.
///
/// # Errors
/// Fails when the file cannot be read or is no rpm file.
pub fn signatures(path: &Path) -> Result<Vec<Signature>> {
    let read = |path| signatures_of(&signature_header(path)?.1);
    read(path).with_context(|| format!("reading who signed {}", path.display()))
}

/// Returns the file at `path` with only `signature`, or `None` if it has no other.
///
/// # Errors
/// As [`signatures`].
pub fn with_one_signature(path: &Path, signature: &Signature) -> Result<Option<Excerpt>> {
    let read = |path| excerpt(signature_header(path)?, Some(signature));
    read(path).with_context(|| format!("reading the signatures of {}", path.display()))
}

/// Returns the file at `path` without signatures if it has several, else `None`: rpm does not install a file with a signature that
/// it cannot read, even if it is told to verify none.
///
/// # Errors
/// As [`signatures`].
pub fn without_several_signatures(path: &Path) -> Result<Option<Excerpt>> {
    let read = |path| excerpt(signature_header(path)?, None);
    read(path).with_context(|| format!("reading the signatures of {}", path.display()))
}

type SignatureHeader = ([u8; LEAD_BYTES as usize], Header);

fn signature_header(path: &Path) -> Result<SignatureHeader> {
    lead_and_signatures(&mut BufReader::new(regular_file::open(path)?)).and_then(checked)
}

/// Refuses a tag that occurs twice: rpm might use the other one.
fn checked((lead, header): SignatureHeader) -> Result<SignatureHeader> {
    ensure!(!header.repeats_a_tag, "a tag is in its header of signatures twice");
    Ok((lead, header))
}

fn signatures_of(header: &Header) -> Result<Vec<Signature>> {
    let mut signatures: Vec<Signature> = Vec::new();
    let mut add = |signature: Signature| {
        // rpm 6 stores a signature that rpm 4 understands under the tags of both.
        if !signatures.iter().any(|known| known.bytes == signature.bytes) {
            signatures.push(signature);
        }
    };
    for tag in [signature_tag::RSA, signature_tag::DSA] {
        if let Some(bytes) = header.bytes(tag)? {
            add(Signature { author: author(bytes), bytes: bytes.to_vec() });
        }
    }
    for text in header.strings(signature_tag::OPENPGP)? {
        add(match decode(text) {
            Some(bytes) => Signature { author: author(&bytes), bytes },
            None => Signature { author: Author::Unknown("it is no base64".to_owned()), bytes: text.to_vec() },
        });
    }
    Ok(signatures)
}

fn author(bytes: &[u8]) -> Author {
    Issuer::of_signature(bytes).map_or_else(|error| Author::Unknown(format!("{error:#}")), Author::Key)
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(digits).ok()
}

fn excerpt((lead, header): SignatureHeader, signature: Option<&Signature>) -> Result<Option<Excerpt>> {
    if signatures_of(&header)?.len() <= 1 {
        return Ok(None);
    }
    let entries: Vec<Entry<'_>> = header.entries().filter_map(|entry| only(entry, signature)).collect();
    let mut head = lead.to_vec();
    head.extend(header::write(signature_tag::REGION, &entries));
    head.resize(head.len().next_multiple_of(8), 0);
    Ok(Some(Excerpt { head, rest_offset: LEAD_BYTES + header.length_bytes.next_multiple_of(8) }))
}

/// The entry with no other signature than `signature`.
fn only<'h>(entry: Entry<'h>, signature: Option<&Signature>) -> Option<Entry<'h>> {
    let wanted = signature.map(|signature| signature.bytes.as_slice());
    match entry.tag {
        signature_tag::REGION | signature_tag::LEGACY_RSA | signature_tag::LEGACY_DSA => None,
        signature_tag::RSA | signature_tag::DSA => (Some(entry.data) == wanted).then_some(entry),
        signature_tag::OPENPGP => {
            let mut texts = entry.data.split_inclusive(|byte| *byte == 0);
            let is_it = |text: &&[u8]| {
                decode(text.strip_suffix(&[0]).unwrap_or(text)).is_some_and(|bytes| Some(&bytes[..]) == wanted)
            };
            texts.find(is_it).map(|data| Entry { count: 1, data, ..entry })
        }
        _ => Some(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::rpm_file::fixture;

    const SIGNATURE: &[u8] = include_bytes!("../../../tests/fixtures/openpgp/second.sig");
    /// Of version 3, with nothing but the key id 0102030405060708.
    const V3: &[u8] = &[0x88, 19, 3, 5, 0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 1, 8, 0, 0];
    /// Of a version that there is not.
    const V9: &[u8] = &[0x88, 19, 9, 5, 0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 1, 8, 0, 0];
    const INT32: u32 = 4;
    const BINARY: u32 = 7;
    const STRING_ARRAY: u32 = 8;
    const SIZE: u32 = 1000;

    type Tag = (u32, u32, usize, Vec<u8>);

    /// A lead and a header of signatures with these tags: number, type, count, data.
    fn rpm(tags: &[Tag]) -> Vec<u8> {
        let (mut entries, mut data) = (Vec::new(), Vec::new());
        for (tag, kind, count, bytes) in tags {
            data.resize(data.len().next_multiple_of(4), 0);
            entries.push((*tag, *kind, data.len(), *count));
            data.extend(bytes);
        }
        let mut lead = vec![0xed, 0xab, 0xee, 0xdb];
        lead.resize(96, 0);
        [lead, fixture::header(&entries, &data)].concat()
    }

    fn binary(tag: u32, signature: &[u8]) -> Tag {
        (tag, BINARY, signature.len(), signature.to_vec())
    }

    fn strings(texts: &[String]) -> Tag {
        let data = texts.iter().flat_map(|text| format!("{text}\0").into_bytes()).collect();
        (signature_tag::OPENPGP, STRING_ARRAY, texts.len(), data)
    }

    fn read(rpm: &[u8]) -> Result<SignatureHeader> {
        lead_and_signatures(&mut &rpm[..]).and_then(checked)
    }

    fn authors(rpm: &[u8]) -> Result<Vec<String>> {
        let name = |signature: Signature| match signature.author {
            Author::Key(issuer) => issuer.to_string(),
            Author::Unknown(reason) => reason,
        };
        Ok(signatures_of(&read(rpm)?.1)?.into_iter().map(name).collect())
    }

    #[test]
    fn every_tag_of_header_signatures_is_read_and_each_signature_counts_once() {
        let expected = Issuer::of_signature(SIGNATURE).unwrap().to_string();
        let mut base64 = STANDARD.encode(SIGNATURE);
        base64.insert(64, '\n');
        let tags =
            [binary(signature_tag::RSA, SIGNATURE), binary(signature_tag::DSA, SIGNATURE), strings(&[base64.clone()])];
        for tag in &tags {
            assert_eq!(authors(&rpm(std::slice::from_ref(tag))).unwrap(), [&*expected]);
        }
        assert_eq!(authors(&rpm(&tags)).unwrap(), [&*expected]);
        assert!(authors(&rpm(&[])).unwrap().is_empty());
        let both = rpm(&[binary(signature_tag::RSA, V3), strings(&[STANDARD.encode(V3), base64])]);
        assert_eq!(authors(&both).unwrap(), ["0102030405060708", &*expected]);
    }

    #[test]
    fn what_is_not_known_or_malformed_is_told_beside_the_others() {
        let texts = ["?".to_owned(), STANDARD.encode(V9), STANDARD.encode(V3)];
        let found = authors(&rpm(&[binary(signature_tag::RSA, &V3[..9]), strings(&texts)])).unwrap();
        let unknown = "reading the signature: it has version 9, which is not supported, only 3, 4 and 6";
        assert_eq!(found, ["the packet of type 2 is cut off", "it is no base64", unknown, "0102030405060708"]);
    }

    #[test]
    fn a_header_that_is_none_is_refused() {
        let message = |tags: &[Tag]| format!("{:#}", authors(&rpm(tags)).unwrap_err());
        let cut = [(1, BINARY, 1, vec![0]), (268, BINARY, 90, vec![0; 86])];
        assert_eq!(message(&cut), "the header's tag 268 is cut off");
        assert_eq!(message(&[(268, STRING_ARRAY, 1, vec![0])]), "the header's tag 268 has the type 8 instead of bytes");
        let twice = [binary(signature_tag::RSA, V3), binary(signature_tag::RSA, SIGNATURE)];
        assert_eq!(message(&twice), "a tag is in its header of signatures twice");
        assert_eq!(authors(b"text").unwrap_err().to_string(), "it is no rpm file: it is too short");
    }

    #[test]
    fn a_file_with_one_signature_stays_and_another_is_rid_of_the_others() {
        let alone =
            [(SIZE, INT32, 1, vec![0, 0, 1, 0]), binary(signature_tag::RSA, V3), strings(&[STANDARD.encode(V3)])];
        let (v3, second) = (Author::Key(Issuer::KeyId([1, 2, 3, 4, 5, 6, 7, 8])), author(SIGNATURE));
        let v3 = Signature { author: v3, bytes: V3.to_vec() };
        let second = Signature { author: second, bytes: SIGNATURE.to_vec() };
        let without = |tags: &[Tag], one: Option<&Signature>| excerpt(read(&rpm(tags)).unwrap(), one).unwrap();
        assert_eq!((without(&alone, Some(&v3)), without(&alone, None)), (None, None));

        let mut tags = alone.to_vec();
        tags[2] = strings(&[STANDARD.encode(V9), STANDARD.encode(SIGNATURE), STANDARD.encode(V3)]);
        tags.push(binary(signature_tag::LEGACY_RSA, b"of header and payload"));
        let whole = rpm(&tags);
        let (_, header) = read(&without(&tags, None).unwrap().head).unwrap();
        assert_eq!(header.entries().map(|entry| entry.tag).collect::<Vec<_>>(), [signature_tag::REGION, SIZE]);
        for (signature, by_rpm_4) in [(&v3, Some(V3)), (&second, None)] {
            let excerpt = without(&tags, Some(signature)).unwrap();
            assert_eq!((excerpt.rest_offset, excerpt.head.len() % 8), (whole.len().next_multiple_of(8) as u64, 0));
            let (_, header) = read(&excerpt.head).unwrap();
            assert_eq!(signatures_of(&header).unwrap(), std::slice::from_ref(signature));
            assert_eq!(header.bytes(signature_tag::RSA).unwrap(), by_rpm_4);
            assert_eq!(header.bytes(signature_tag::LEGACY_RSA).unwrap(), None);
            assert_eq!(header.numbers(SIZE).unwrap().collect::<Vec<_>>(), [256]);
            // The region: its tag comes first, and its end says how long the index is.
            let region = header.bytes(signature_tag::REGION).unwrap().unwrap();
            let entries = u32::try_from(header.entries().count()).unwrap();
            assert_eq!(region[..8], [0, 0, 0, 62, 0, 0, 0, 7]);
            assert_eq!(region[8..12], (entries * 16).wrapping_neg().to_be_bytes());
            assert_eq!(excerpt.head[96 + 16..][..4], [0, 0, 0, 62]);
        }
    }
}
