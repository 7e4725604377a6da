//! The table of certificates of an image: whether there is a signature in it. By whom it is, and of what, is not looked at.
//!
//! The table is a sequence of `WIN_CERTIFICATE`, each at a multiple of 8 bytes; signatures for Secure Boot are in PKCS #7:
//! <https://learn.microsoft.com/windows/win32/debug/pe-format#the-attribute-certificate-table-image-only>, RFC 2315.

use anyhow::{Context, Result, bail, ensure};

/// The table and each entry begin at a multiple of it.
const ALIGNMENT_BYTES: usize = 8;
/// Length, revision, type.
const HEADER_BYTES: usize = 8;
const REVISION_2: u16 = 0x0200;
const TYPE_PKCS_SIGNED_DATA: u16 = 0x0002;
/// An image has a handful of signatures of a few kilobytes each.
pub(super) const MOST_BYTES: u32 = 1 << 20;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const INTEGER: u8 = 0x02;
/// `[0] EXPLICIT`.
const CONTENT: u8 = 0xa0;
/// `signedData`, 1.2.840.113549.1.7.2.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// `SPC_INDIRECT_DATA`, 1.3.6.1.4.1.311.2.1.4: the digest of an image.
const INDIRECT_DATA: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x04];

/// Checks a whole table: every entry must be a signature.
///
/// # Errors
/// Fails with what is wrong.
pub(super) fn check(table: &[u8]) -> Result<()> {
    let mut rest = table;
    for number in 1.. {
        let of_entry = || format!("signature {number} in its table of certificates");
        let length = check_entry(rest).with_context(of_entry)?;
        // The last one may lack what fills it up.
        rest = rest.get(length.next_multiple_of(ALIGNMENT_BYTES)..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Returns the length of the entry at the start.
fn check_entry(table: &[u8]) -> Result<usize> {
    let header = table.get(..HEADER_BYTES).context("its header is cut off")?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let (revision, kind) = (u16::from_le_bytes([header[4], header[5]]), u16::from_le_bytes([header[6], header[7]]));
    ensure!(length > HEADER_BYTES, "its length of {length} bytes leaves nothing");
    let signature = table.get(HEADER_BYTES..length).context("it ends beyond the table")?;
    ensure!(revision == REVISION_2, "its revision is {revision:#06x}, and firmware takes {REVISION_2:#06x}");
    ensure!(
        kind == TYPE_PKCS_SIGNED_DATA,
        "its type is {kind:#06x}, and firmware takes {TYPE_PKCS_SIGNED_DATA:#06x}, PKCS #7"
    );
    check_signed_data(signature).context("it is not signed data in PKCS #7")?;
    Ok(length)
}

/// Goes through the outer values of a `ContentInfo` with `SignedData` of an image's digest.
fn check_signed_data(mut bytes: &[u8]) -> Result<()> {
    // What fills the entry up may be counted in its length.
    let mut content_info = value(&mut bytes, SEQUENCE)?;
    ensure!(value(&mut content_info, OBJECT_IDENTIFIER)? == SIGNED_DATA, "it has content of another kind");
    let mut content = value(&mut content_info, CONTENT)?;
    let mut signed_data = value(&mut content, SEQUENCE)?;
    value(&mut signed_data, INTEGER)?;
    value(&mut signed_data, SET)?;
    let mut signed = value(&mut signed_data, SEQUENCE)?;
    ensure!(value(&mut signed, OBJECT_IDENTIFIER)? == INDIRECT_DATA, "what is signed is not the digest of an image");
    let mut signers = None;
    while !signed_data.is_empty() {
        let (tag, content) = any(&mut signed_data)?;
        signers = (tag == SET).then_some(content);
    }
    match signers {
        Some([_, ..]) => Ok(()),
        _ => bail!("nobody has signed it"),
    }
}

/// The content of the next value, which must have that tag.
fn value<'a>(bytes: &mut &'a [u8], tag: u8) -> Result<&'a [u8]> {
    let (found, content) = any(bytes)?;
    ensure!(found == tag, "it has a value with the tag {found:#04x} in place of {tag:#04x}");
    Ok(content)
}

/// Tag and content of the next value in DER.
fn any<'a>(bytes: &mut &'a [u8]) -> Result<(u8, &'a [u8])> {
    let cut_off = "it is cut off";
    let [tag, first, rest @ ..] = *bytes else { bail!(cut_off) };
    let (length, rest) = match *first {
        length @ 0..=0x7f => (usize::from(length), rest),
        count @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(count - 0x80)).context(cut_off)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => bail!("it has a value without a length"),
    };
    let (content, rest) = rest.split_at_checked(length).context(cut_off)?;
    *bytes = rest;
    Ok((*tag, content))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{certificate, der, signature};
    use super::*;

    fn told(table: &[u8]) -> String {
        check(table).map_or_else(|error| format!("{error:#}"), |()| "sound".to_owned())
    }

    #[test]
    fn tables_of_signatures_are_sound() {
        let one = certificate(REVISION_2, TYPE_PKCS_SIGNED_DATA, &signature());
        assert_eq!(told(&one), "sound");
        assert_eq!(told(&[&one[..], &one].concat()), "sound");
        let mut filled = signature();
        filled.extend([0; 5]);
        assert_eq!(told(&certificate(REVISION_2, TYPE_PKCS_SIGNED_DATA, &filled)), "sound");
    }

    #[test]
    fn what_is_no_signature_is_told() {
        let entry = |bytes: &[u8]| certificate(REVISION_2, TYPE_PKCS_SIGNED_DATA, bytes);
        let signature = signature();
        let mut beyond = entry(&signature);
        beyond[1] = 0x7f;
        let mut other = signature.clone();
        let at = other.windows(2).position(|pair| *pair == INDIRECT_DATA[..2]).unwrap();
        other[at] ^= 1;
        let nobody = der(
            SEQUENCE,
            &[
                &der(OBJECT_IDENTIFIER, SIGNED_DATA)[..],
                &der(
                    CONTENT,
                    &der(
                        SEQUENCE,
                        &[
                            &der(INTEGER, &[1])[..],
                            &der(SET, &[]),
                            &der(SEQUENCE, &der(OBJECT_IDENTIFIER, INDIRECT_DATA)),
                            &der(SET, &[]),
                        ]
                        .concat(),
                    ),
                ),
            ]
            .concat(),
        );
        for (table, expected) in [
            (Vec::new(), "its header is cut off"),
            (vec![0; 8], "its length of 0 bytes leaves nothing"),
            (beyond, "it ends beyond the table"),
            (certificate(0x0100, TYPE_PKCS_SIGNED_DATA, &signature), "its revision is 0x0100"),
            (certificate(REVISION_2, 1, &signature), "its type is 0x0001"),
            (entry(&[7; 100]), "it has a value with the tag 0x07"),
            (entry(&signature[..signature.len() - 9]), "it is cut off"),
            (entry(&other), "what is signed is not the digest of an image"),
            (entry(&nobody), "nobody has signed it"),
            ([entry(&signature), vec![0; 16]].concat(), "signature 2 in its table of certificates: its length of 0"),
        ] {
            let told = told(&table);
            assert!(told.contains(expected), "{told}");
        }
    }
}
