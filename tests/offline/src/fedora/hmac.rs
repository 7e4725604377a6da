//! `.vmlinuz.hmac`, which FIPS mode checks the kernel with: a kernel's bytes in, the line of sha512hmac(1) out.

use sha2::{Digest, Sha512};

/// The key of hmaccalc's programs, which is no secret.
const KEY: &[u8] = b"FIPS-FTW-RHT2009";
const BLOCK_BYTES: usize = 128;

/// The line for the kernel in `bytes` under the name `vmlinuz-VERSION`.
pub fn of_kernel(version: &str, bytes: &[u8]) -> String {
    format!("{}  vmlinuz-{version}\n", hexadecimal(&sha512(KEY, bytes)))
}

/// RFC 2104, with a key that is not longer than a block.
fn sha512(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let pad = |with: u8| -> Vec<u8> {
        (0..BLOCK_BYTES).map(|index| key.get(index).copied().unwrap_or_default() ^ with).collect()
    };
    let inner = Sha512::new().chain_update(pad(0x36)).chain_update(bytes).finalize();
    Sha512::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_case_of_rfc_4231_comes_out() {
        let digest = hexadecimal(&sha512(b"Jefe", b"what do ya want for nothing?"));
        assert!(digest.starts_with("164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"), "{digest}");
    }
}
