//! Which key an rpm file says it was signed with. The path of a file in, an [`Issuer`] out; nothing is verified.

use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{signature_header, signature_tag};
use crate::format::openpgp::Issuer;
use crate::regular_file;

/// The issuer of the signature of the package's header; none for a package without one. Of several signatures, the
/// first that names its issuer by a fingerprint. Reads no further than the header of signatures.
///
/// # Errors
/// Fails when the file cannot be read, is no rpm file, or a signature is malformed.
pub fn signer(path: &Path) -> Result<Option<Issuer>> {
    let file = regular_file::open(path).with_context(|| format!("opening {}", path.display()))?;
    read(BufReader::new(file)).with_context(|| format!("reading who signed {}", path.display()))
}

fn read(mut reader: impl Read) -> Result<Option<Issuer>> {
    let header = signature_header(&mut reader)?;
    let mut signatures = Vec::new();
    for tag in [signature_tag::RSA, signature_tag::DSA] {
        signatures.extend(header.bytes(tag)?.map(<[u8]>::to_vec));
    }
    for text in header.strings(signature_tag::OPENPGP)? {
        let digits: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        signatures.push(STANDARD.decode(digits).context("its signature is no base64")?);
    }
    let issuers: Result<Vec<Issuer>> = signatures.iter().map(|bytes| Issuer::of_signature(bytes)).collect();
    let mut issuers = issuers?;
    let preferred = issuers.iter().position(|issuer| matches!(issuer, Issuer::Fingerprint(_))).unwrap_or(0);
    Ok((!issuers.is_empty()).then(|| issuers.swap_remove(preferred)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = include_bytes!("../../tests/fixtures/openpgp/second.sig");
    /// Of version 3, with nothing but the key id 0102030405060708.
    const V3: &[u8] = &[0x88, 19, 3, 5, 0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 1, 8, 0, 0];
    const BINARY: u32 = 7;
    const STRING_ARRAY: u32 = 8;

    /// A lead and a header of signatures with these tags: number, type, count, data.
    fn rpm(tags: &[(u32, u32, usize, Vec<u8>)]) -> Vec<u8> {
        let data: Vec<u8> = tags.iter().flat_map(|(.., data)| data.clone()).collect();
        let mut bytes = vec![0xed, 0xab, 0xee, 0xdb];
        bytes.resize(96, 0);
        bytes.extend([0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0]);
        let mut number = |number: usize| bytes.extend(u32::try_from(number).unwrap().to_be_bytes());
        number(tags.len());
        number(data.len());
        let mut offset = 0;
        for (tag, kind, count, data) in tags {
            [*tag as usize, *kind as usize, offset, *count].into_iter().for_each(&mut number);
            offset += data.len();
        }
        bytes.extend(data);
        bytes
    }

    fn binary(tag: u32, signature: &[u8]) -> (u32, u32, usize, Vec<u8>) {
        (tag, BINARY, signature.len(), signature.to_vec())
    }

    fn strings(texts: &[String]) -> (u32, u32, usize, Vec<u8>) {
        let data = texts.iter().flat_map(|text| format!("{text}\0").into_bytes()).collect();
        (signature_tag::OPENPGP, STRING_ARRAY, texts.len(), data)
    }

    #[test]
    fn every_tag_of_header_signatures_is_read() {
        let expected = Some(Issuer::of_signature(SIGNATURE).unwrap());
        let mut base64 = STANDARD.encode(SIGNATURE);
        base64.insert(64, '\n');
        for tag in [binary(signature_tag::RSA, SIGNATURE), binary(signature_tag::DSA, SIGNATURE), strings(&[base64])] {
            assert_eq!(read(rpm(&[tag]).as_slice()).unwrap(), expected);
        }
        assert_eq!(read(rpm(&[]).as_slice()).unwrap(), None);
    }

    #[test]
    fn fingerprint_of_a_later_signature_is_preferred_to_a_key_id() {
        let both = rpm(&[binary(signature_tag::RSA, V3), strings(&[STANDARD.encode(V3), STANDARD.encode(SIGNATURE)])]);
        assert_eq!(read(both.as_slice()).unwrap(), Some(Issuer::of_signature(SIGNATURE).unwrap()));
        let only = rpm(&[binary(signature_tag::DSA, V3)]);
        assert_eq!(read(only.as_slice()).unwrap().unwrap().to_string(), "0102030405060708");
    }

    #[test]
    fn malformed_signatures_are_told() {
        let message = |tags: &[(u32, u32, usize, Vec<u8>)]| format!("{:#}", read(rpm(tags).as_slice()).unwrap_err());
        assert!(message(&[strings(&["?".to_owned()])]).starts_with("its signature is no base64: "));
        assert_eq!(message(&[binary(signature_tag::RSA, &V3[..9])]), "the packet of type 2 is cut off");
        let cut = [(1, BINARY, 1, vec![0]), (268, BINARY, 90, vec![0; 89])];
        assert_eq!(message(&cut), "the header's tag 268 is cut off");
        assert_eq!(message(&[(268, STRING_ARRAY, 1, vec![0])]), "the header's tag 268 has the type 8 instead of bytes");
        assert_eq!(read(&b"text"[..]).unwrap_err().to_string(), "it is no rpm file: it is too short");
    }
}
