//! Any bytes as an rpm's header and payload, behind a header of signatures whose digest is right: what the digest protects is
//! read too. Without it, the bytes are a whole file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd_format::digest::Digest;
use ocinitrd::packages::rpm_file::{RpmPackage, signatures, with_one_signature};
use ocinitrd_fuzz::with_file;

const LEAD_BYTES: usize = 96;
const MAGIC: [u8; 8] = [0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
const TAG_SHA256: u32 = 273;
const TYPE_STRING: u32 = 6;

/// The length of the header at the start of the bytes, if they have one.
fn header_length(bytes: &[u8]) -> Option<usize> {
    let number = |offset: usize| Some(u32::from_be_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?) as usize);
    let length = 16_usize.checked_add(number(8)?.checked_mul(16)?)?.checked_add(number(12)?)?;
    (bytes.starts_with(&MAGIC) && length <= bytes.len()).then_some(length)
}

fn with_signatures(bytes: &[u8]) -> Option<Vec<u8>> {
    let digits = Digest::of(&bytes[..header_length(bytes)?]).hex();
    let mut rpm = vec![0xed, 0xab, 0xee, 0xdb];
    rpm.resize(LEAD_BYTES, 0);
    rpm.extend(MAGIC);
    for number in [1, digits.len() as u32 + 1, TAG_SHA256, TYPE_STRING, 0, 1] {
        rpm.extend(number.to_be_bytes());
    }
    rpm.extend(digits.as_bytes());
    rpm.push(0);
    rpm.resize(rpm.len().next_multiple_of(8), 0);
    rpm.extend(bytes);
    Some(rpm)
}

fn read(bytes: &[u8]) {
    with_file(bytes, |path| {
        for signature in signatures(path).unwrap_or_default() {
            let _ = with_one_signature(path, &signature);
        }
        let Ok(package) = RpmPackage::open(path) else { return };
        let Ok(mut payload) = package.payload() else { return };
        while let Ok(Some(_)) = payload.next_file() {
            if std::io::copy(&mut payload, &mut std::io::sink()).is_err() {
                return;
            }
        }
    });
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    if let Some(rpm) = with_signatures(bytes) {
        read(&rpm);
    }
});
