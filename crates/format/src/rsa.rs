//! RSA keys in PEM, and signatures of SHA-256 with PKCS #1 v1.5.
//!
//! A public key is a `PUBLIC KEY` of RFC 5280, a private one a `PRIVATE KEY` of RFC 5208 or an `RSA PRIVATE KEY` of RFC 8017,
//! not encrypted. At least 2048 bits.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};

use super::digest::Digest;

/// The tags of DER that a key is made of.
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
/// `rsaEncryption`, 1.2.840.113549.1.1.1, with no parameters.
const RSA_ENCRYPTION: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// A key that signatures are checked with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicKey {
    /// `RSAPublicKey` of RFC 8017, in DER.
    der: Vec<u8>,
}

impl PublicKey {
    /// Reads a key in PEM.
    ///
    /// # Errors
    /// Fails on what is no public RSA key in PEM.
    pub fn from_pem(text: &str) -> Result<Self> {
        let der = pem(text, "PUBLIC KEY")?.context("it is no public key in PEM: it has no BEGIN PUBLIC KEY")?;
        let (outer, _) = element(&der, SEQUENCE)?;
        let Some(rest) = outer.strip_prefix(&RSA_ENCRYPTION) else {
            bail!("it is no RSA key, and a TPM checks no other")
        };
        // The first byte says that no bits are left over.
        let (bits, _) = element(rest, BIT_STRING)?;
        let key = bits.strip_prefix(&[0]).context("the key is damaged")?;
        Ok(PublicKey { der: key.to_vec() })
    }

    /// In PEM.
    pub fn to_pem(&self) -> String {
        let bits = [&[0], self.der.as_slice()].concat();
        let body = [&RSA_ENCRYPTION[..], &encoded(BIT_STRING, &bits)].concat();
        let text = STANDARD.encode(encoded(SEQUENCE, &body));
        let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// The SHA-256 of the key itself, as systemd names it in `pkfp`.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// Whether `signature` is one of `message` by this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.der).verify(message, signature).is_ok()
    }
}

/// A key that signs.
pub struct PrivateKey(RsaKeyPair);

impl PrivateKey {
    /// Reads a key in PEM.
    ///
    /// # Errors
    /// Fails on what is no private RSA key in PEM, on one that is encrypted, and on one of less than 2048 bits.
    pub fn from_pem(text: &str) -> Result<Self> {
        if text.contains("ENCRYPTED") {
            bail!(
                "the key is encrypted: decrypt it for this, or sign the digests with what holds it and attach the signatures"
            );
        }
        let refused = |error: ring::error::KeyRejected| anyhow::anyhow!("it is no RSA key that can sign: {error}");
        if let Some(der) = pem(text, "PRIVATE KEY")? {
            return RsaKeyPair::from_pkcs8(&der).map(PrivateKey).map_err(refused);
        }
        let der = pem(text, "RSA PRIVATE KEY")?.context("it is no private key in PEM: it has no BEGIN PRIVATE KEY")?;
        RsaKeyPair::from_der(&der).map(PrivateKey).map_err(refused)
    }

    /// The key that checks what this one signs.
    pub fn public_key(&self) -> PublicKey {
        PublicKey { der: self.0.public_key().as_ref().to_vec() }
    }

    /// Signs `message`. The same message gets the same signature.
    ///
    /// # Errors
    /// Fails when the system has no random numbers, which hide the key from those who measure time.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        let signed = self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature);
        signed.map_err(|_| anyhow::anyhow!("signing failed"))?;
        Ok(signature)
    }
}

/// What stands between the lines of that label, if there are such.
fn pem(text: &str, label: &str) -> Result<Option<Vec<u8>>> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let Some((_, rest)) = text.split_once(&begin) else { return Ok(None) };
    let (body, _) = rest.split_once(&end).with_context(|| format!("the key has no line {end}"))?;
    let digits: String = body.split_whitespace().collect();
    STANDARD.decode(digits).map(Some).context("the key is no base64")
}

/// The contents of an element of DER with that tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Result<(&[u8], &[u8])> {
    let damaged = "the key is damaged";
    let (first, rest) = bytes.split_first().context(damaged)?;
    ensure!(*first == tag, damaged);
    let (length, rest) = rest.split_first().context(damaged)?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        // In so many bytes, the greatest first.
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f)).context(damaged)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => bail!(damaged),
    };
    rest.split_at_checked(length).context(damaged)
}

fn encoded(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let digits: Vec<u8> = length.into_iter().skip_while(|digit| *digit == 0).collect();
    let mut bytes = vec![tag];
    match contents.len() {
        0..=0x7f => bytes.extend(digits),
        _ => {
            bytes.push(0x80 | u8::try_from(digits.len()).unwrap_or(0));
            bytes.extend(digits);
        }
    }
    bytes.extend_from_slice(contents);
    bytes
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests spawn programs as they like")]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// What openssl prints.
    fn openssl(arguments: &[&str], input: &str) -> Vec<u8> {
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed: make check-programs");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}");
        output.stdout
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn keys_and_signatures_are_those_of_openssl() {
        let pem = text(openssl(&["genrsa", "2048"], ""));
        let public_pem = text(openssl(&["rsa", "-pubout"], &pem));
        let traditional = text(openssl(&["rsa", "-traditional"], &pem));
        let fingerprint = Digest::of(&openssl(&["rsa", "-RSAPublicKey_out", "-outform", "DER"], &pem));
        let (key, public) = (PrivateKey::from_pem(&pem).unwrap(), PublicKey::from_pem(&public_pem).unwrap());
        assert_eq!((key.public_key(), public.to_pem()), (public.clone(), public_pem.clone()));
        assert_eq!(PrivateKey::from_pem(&traditional).unwrap().public_key(), public);
        assert_eq!(public.fingerprint(), fingerprint);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, &pem).unwrap();
        let signature = key.sign(b"message").unwrap();
        assert_eq!(signature, openssl(&["dgst", "-sha256", "-sign", path.to_str().unwrap()], "message"));
        assert!(public.verifies(b"message", &signature) && !public.verifies(b"another", &signature));
        let refused = |text: &str| format!("{:#}", PublicKey::from_pem(text).unwrap_err());
        assert!(refused(&pem).contains("no BEGIN PUBLIC KEY") && refused(&public_pem[..200]).contains("has no line"));
        let error = PrivateKey::from_pem(&public_pem).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("no BEGIN PRIVATE KEY"), "{error}");
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        let elliptic = text(openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], ""));
        let public = text(openssl(&["ec", "-pubout"], &elliptic));
        let error = PublicKey::from_pem(&public).unwrap_err().to_string();
        assert_eq!(error, "it is no RSA key, and a TPM checks no other");
        let encrypted = PrivateKey::from_pem("-----BEGIN ENCRYPTED PRIVATE KEY-----").map(|_| ()).unwrap_err();
        assert!(encrypted.to_string().starts_with("the key is encrypted: "), "{encrypted}");
        let short = text(openssl(&["genrsa", "1024"], ""));
        let error = PrivateKey::from_pem(&short).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("it is no RSA key that can sign: "), "{error}");
    }
}
