//! Any bytes as OpenPGP keys, armored or not, and as a signature.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd_format::openpgp::{Issuer, PublicKey};
use ocinitrd_fuzz as _;

fuzz_target!(|bytes: &[u8]| {
    let keys = PublicKey::parse_all(bytes);
    if let (Ok(keys), Ok(issuer)) = (keys, Issuer::of_signature(bytes)) {
        keys.iter().for_each(|key| _ = key.made(&issuer));
    }
});
