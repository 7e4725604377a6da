//! Which OpenPGP key signed what: identified, not verified. Bytes in, fingerprints out.
//!
//! Enter: armored public keys, detached signatures. Leave: [`PublicKey`], [`Issuer`]. An issuer is what a signature says
//! of itself; whether it is true is for rpm's verifier, in the container. See RFC 9580 (versions 4 and 6; of RFC 4880 also
//! signatures of version 3). Written here because the `pgp` crate would bring about a hundred crates to name a signer.

mod armor;
mod packet;

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use self::packet::{Packet, Packets};

const PUBLIC_KEY_BLOCK: &str = "PUBLIC KEY BLOCK";
const SIGNATURE: &str = "SIGNATURE";

/// Packet types, RFC 9580 section 5.
mod kind {
    pub const SIGNATURE: u8 = 2;
    pub const PUBLIC_KEY: u8 = 6;
    pub const USER_ID: u8 = 13;
    pub const PUBLIC_SUBKEY: u8 = 14;
}

/// Types of signature subpackets, RFC 9580 section 5.2.3.7.
mod subpacket {
    pub const ISSUER_KEY_ID: u8 = 16;
    pub const ISSUER_FINGERPRINT: u8 = 33;
}

/// Length of a fingerprint of version 4 and of version 6, in bytes.
const V4_BYTES: usize = 20;
const V6_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 8;

/// The fingerprint of a key, written as 40 (version 4) or 64 (version 6) lower-case hexadecimal digits.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(Vec<u8>);

impl Fingerprint {
    /// Of the body of a public key packet.
    fn of(body: &[u8]) -> Result<Self> {
        match body.first() {
            Some(4) => {
                let length = u16::try_from(body.len()).context("it is longer than a key of version 4 may be")?;
                Ok(Fingerprint(
                    Sha1::new()
                        .chain_update([0x99])
                        .chain_update(length.to_be_bytes())
                        .chain_update(body)
                        .finalize()
                        .to_vec(),
                ))
            }
            Some(6) => {
                let length = u32::try_from(body.len())?;
                Ok(Fingerprint(
                    Sha256::new()
                        .chain_update([0x9b])
                        .chain_update(length.to_be_bytes())
                        .chain_update(body)
                        .finalize()
                        .to_vec(),
                ))
            }
            Some(version) => bail!("it has version {version}, which is not supported, only 4 and 6"),
            None => bail!("it is empty"),
        }
    }

    /// The eight bytes of it that are the key id: the last ones, of version 6 the first.
    pub fn key_id(&self) -> [u8; KEY_ID_BYTES] {
        let part = match self.0.len() {
            V6_BYTES => self.0.first_chunk(),
            _ => self.0.last_chunk(),
        };
        *part.expect("a fingerprint is longer than a key id")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(formatter, &self.0)
    }
}

fn write_hex(formatter: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
}

/// Text that is no fingerprint.
#[derive(Debug)]
pub struct InvalidFingerprint(String);

impl fmt::Display for InvalidFingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} is not a fingerprint of 40 or 64 hexadecimal digits", self.0)
    }
}

impl std::error::Error for InvalidFingerprint {}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    /// Digits of either case are taken.
    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let invalid = || InvalidFingerprint(text.to_owned());
        let is_hex = text.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_hex || ![2 * V4_BYTES, 2 * V6_BYTES].contains(&text.len()) {
            return Err(invalid());
        }
        let pairs = (0..text.len()).step_by(2).map(|start| u8::from_str_radix(&text[start..start + 2], 16));
        pairs.collect::<Result<_, _>>().map(Fingerprint).map_err(|_| invalid())
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = InvalidFingerprint;

    fn try_from(text: String) -> Result<Self, InvalidFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> String {
        fingerprint.to_string()
    }
}

/// The key that a signature says it was made by: a primary key or a subkey.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Issuer {
    /// By its fingerprint.
    Fingerprint(Fingerprint),
    /// By its key id, where the signature tells no more.
    KeyId([u8; KEY_ID_BYTES]),
}

/// The hexadecimal digits, lower-case.
impl fmt::Display for Issuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Issuer::Fingerprint(fingerprint) => write!(formatter, "{fingerprint}"),
            Issuer::KeyId(id) => write_hex(formatter, id),
        }
    }
}

impl Issuer {
    /// The issuer of a detached signature, binary or armored; of several signatures, that of the first.
    ///
    /// # Errors
    /// Fails on what is no signature, is malformed, or does not name its issuer.
    pub fn of_signature(bytes: &[u8]) -> Result<Self> {
        if bytes.first().is_some_and(|first| packet::is_binary(*first)) {
            return Issuer::of_packets(bytes);
        }
        let blocks = armor::decode_all(bytes)?;
        let block = blocks.first().context("it is no OpenPGP signature, neither binary nor armored")?;
        ensure!(block.kind == SIGNATURE, "it is an armored {} instead of a signature", block.kind);
        Issuer::of_packets(&block.bytes)
    }

    fn of_packets(bytes: &[u8]) -> Result<Self> {
        for packet in Packets::of(bytes) {
            let packet = packet?;
            if packet.kind == kind::SIGNATURE {
                return issuer(packet.body).context("reading the signature");
            }
            ensure!(packet.is_ignorable(), "there is a packet of type {} instead of a signature", packet.kind);
        }
        bail!("it holds no OpenPGP signature")
    }
}

/// Of the body of a signature packet.
fn issuer(body: &[u8]) -> Result<Issuer> {
    let cut_off = || anyhow!("it is cut off");
    let (version, rest) = body.split_first().ok_or_else(cut_off)?;
    // Of version 3: length, type and time come before the key id; of the others, the type and two algorithms.
    if matches!(version, 2 | 3) {
        let id = rest.get(6..).and_then(<[u8]>::first_chunk).ok_or_else(cut_off)?;
        return Ok(Issuer::KeyId(*id));
    }
    let width = match version {
        4 => 2,
        6 => 4,
        other => bail!("it has version {other}, which is not supported, only 3, 4 and 6"),
    };
    let rest = rest.get(3..).ok_or_else(cut_off)?;
    let (hashed, rest) = packet::split_counted(rest, width).ok_or_else(cut_off)?;
    let (unhashed, _) = packet::split_counted(rest, width).ok_or_else(cut_off)?;
    let mut key_id = None;
    for subpacket in packet::subpackets(hashed)?.into_iter().chain(packet::subpackets(unhashed)?) {
        match subpacket.kind {
            subpacket::ISSUER_FINGERPRINT => return issuer_fingerprint(subpacket.body).map(Issuer::Fingerprint),
            subpacket::ISSUER_KEY_ID if key_id.is_none() => {
                let id = subpacket.body.try_into().context("its issuer's key id does not have 8 bytes")?;
                key_id = Some(Issuer::KeyId(id));
            }
            _ => {}
        }
    }
    key_id.context("it does not name its issuer")
}

/// The version of the key stands before its fingerprint.
fn issuer_fingerprint(body: &[u8]) -> Result<Fingerprint> {
    match body.split_first() {
        Some((4, fingerprint)) if fingerprint.len() == V4_BYTES => Ok(Fingerprint(fingerprint.to_vec())),
        Some((6, fingerprint)) if fingerprint.len() == V6_BYTES => Ok(Fingerprint(fingerprint.to_vec())),
        Some((4 | 6, fingerprint)) => bail!("its issuer's fingerprint has {} bytes", fingerprint.len()),
        Some((version, _)) => bail!("its issuer is a key of version {version}, which is not supported, only 4 and 6"),
        None => bail!("its issuer's fingerprint is empty"),
    }
}

/// A public key as somebody hands it out: a primary key with its subkeys and names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicKey {
    /// Of the primary key.
    pub fingerprint: Fingerprint,
    /// Of the subkeys, in the order of the key. Signatures are often made by one of them.
    pub subkeys: Vec<Fingerprint>,
    /// Whose key it says it is, in the order of the key; invalid UTF-8 is replaced.
    pub user_ids: Vec<String>,
    /// This key alone as armored text: its packets as they were.
    pub armored: String,
}

impl PublicKey {
    /// All keys of an armored text: several blocks, and several keys in each, in their order.
    ///
    /// # Errors
    /// Fails when there is none, when a block holds anything else, and on what is malformed or of another version.
    pub fn parse_all(text: &[u8]) -> Result<Vec<Self>> {
        let (keys, unreadable) = PublicKey::parse_readable(text)?;
        unreadable.into_iter().next().map_or(Ok(keys), Err)
    }

    /// As [`PublicKey::parse_all`], but skips keys of other versions and returns the reason for each.
    ///
    /// # Errors
    /// Fails when there is no key, when a block holds anything else, and on what is malformed.
    pub fn parse_readable(text: &[u8]) -> Result<(Vec<Self>, Vec<Error>)> {
        let (mut keys, mut unreadable) = (Vec::new(), Vec::new());
        for block in armor::decode_all(text)? {
            ensure!(block.kind == PUBLIC_KEY_BLOCK, "there is a {} instead of a public key", block.kind);
            for packets in split_keys(&block.bytes)? {
                match PublicKey::of(&packets) {
                    Ok(key) => keys.push(key),
                    Err(error) => unreadable.push(error),
                }
            }
        }
        ensure!(
            !keys.is_empty() || !unreadable.is_empty(),
            "there is no armored public key (-----BEGIN PGP {PUBLIC_KEY_BLOCK}-----)"
        );
        Ok((keys, unreadable))
    }

    fn of(packets: &[Packet<'_>]) -> Result<Self> {
        let mut fingerprint = None;
        let (mut subkeys, mut user_ids, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for packet in packets {
            match packet.kind {
                kind::PUBLIC_KEY => fingerprint = Some(Fingerprint::of(packet.body).context("reading a public key")?),
                kind::PUBLIC_SUBKEY => subkeys.push(Fingerprint::of(packet.body).context("reading a subkey")?),
                kind::USER_ID => user_ids.push(String::from_utf8_lossy(packet.body).into_owned()),
                _ => {}
            }
            bytes.extend_from_slice(packet.whole);
        }
        let fingerprint = fingerprint.context("there is no primary key")?;
        Ok(PublicKey { fingerprint, subkeys, user_ids, armored: armor::encode(PUBLIC_KEY_BLOCK, &bytes) })
    }

    /// Those of the primary key and of the subkeys.
    pub fn fingerprints(&self) -> impl Iterator<Item = &Fingerprint> {
        std::iter::once(&self.fingerprint).chain(&self.subkeys)
    }

    /// Whether the primary key or a subkey is `issuer`.
    pub fn made(&self, issuer: &Issuer) -> bool {
        let mut all = self.fingerprints();
        match issuer {
            Issuer::Fingerprint(fingerprint) => all.any(|own| own == fingerprint),
            Issuer::KeyId(id) => all.any(|own| own.key_id() == *id),
        }
    }
}

/// The packets of each key: every primary key begins one.
fn split_keys(bytes: &[u8]) -> Result<Vec<Vec<Packet<'_>>>> {
    let mut keys: Vec<Vec<Packet<'_>>> = Vec::new();
    for packet in Packets::of(bytes) {
        let packet = packet?;
        match keys.last_mut() {
            _ if packet.kind == kind::PUBLIC_KEY => keys.push(vec![packet]),
            Some(key) => key.push(packet),
            None if packet.is_ignorable() => {}
            None => bail!("there is a packet of type {} instead of a public key", packet.kind),
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: &[u8] = include_bytes!("../../../../tests/fixtures/openpgp/keys.asc");
    const COLONS: &str = include_str!("../../../../tests/fixtures/openpgp/keys.colons");
    const FIRST_SIGNATURE: &[u8] = include_bytes!("../../../../tests/fixtures/openpgp/first.sig.asc");
    const SECOND_SIGNATURE: &[u8] = include_bytes!("../../../../tests/fixtures/openpgp/second.sig");
    const V6: &[u8] = include_bytes!("../../../../tests/fixtures/openpgp/v6.asc");

    /// Fingerprints of the primary key and subkeys, and user ids, as gpg lists them.
    fn of_gpg() -> Vec<(Vec<String>, Vec<String>)> {
        let mut keys: Vec<(Vec<String>, Vec<String>)> = Vec::new();
        for line in COLONS.lines() {
            let field = line.split(':').nth(9).unwrap_or_default().to_owned();
            match line.split(':').next() {
                Some("pub") => keys.push(Default::default()),
                Some("fpr") => keys.last_mut().unwrap().0.push(field.to_lowercase()),
                Some("uid") => keys.last_mut().unwrap().1.push(field),
                _ => {}
            }
        }
        keys
    }

    fn described(key: &PublicKey) -> (Vec<String>, Vec<String>) {
        let fingerprints = std::iter::once(&key.fingerprint).chain(&key.subkeys).map(ToString::to_string).collect();
        (fingerprints, key.user_ids.clone())
    }

    #[test]
    fn keys_of_several_blocks_are_what_gpg_says() {
        let keys = PublicKey::parse_all(KEYS).unwrap();
        assert_eq!(keys.iter().map(described).collect::<Vec<_>>(), of_gpg());
        let counts: Vec<_> = keys.iter().map(|key| (key.subkeys.len(), key.user_ids.len())).collect();
        assert_eq!(counts, [(1, 2), (0, 1), (0, 1)]);
    }

    #[test]
    fn armored_text_of_a_key_is_that_key_alone() {
        let keys = PublicKey::parse_all(KEYS).unwrap();
        for key in &keys {
            assert_eq!(PublicKey::parse_all(key.armored.as_bytes()).unwrap(), std::slice::from_ref(key));
        }
        // The first key was exported alone: gpg writes the same text, its checksum included.
        assert!(KEYS.starts_with(keys[0].armored.as_bytes()));
    }

    #[test]
    fn signatures_of_subkeys_and_primary_keys_find_their_key() {
        let keys = PublicKey::parse_all(KEYS).unwrap();
        let first = Issuer::of_signature(FIRST_SIGNATURE).unwrap();
        assert_eq!(first, Issuer::Fingerprint(keys[0].subkeys[0].clone()));
        let second = Issuer::of_signature(SECOND_SIGNATURE).unwrap();
        assert_eq!(second, Issuer::Fingerprint(keys[1].fingerprint.clone()));
        assert_eq!(keys.iter().map(|key| key.made(&first)).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(keys.iter().map(|key| key.made(&second)).collect::<Vec<_>>(), [false, true, false]);
        let by_id = Issuer::KeyId(keys[0].subkeys[0].key_id());
        assert_eq!(by_id.to_string(), keys[0].subkeys[0].to_string()[24..]);
        assert_eq!(keys.iter().map(|key| key.made(&by_id)).collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn sample_key_of_rfc_9580_has_the_fingerprints_that_are_printed_there() {
        let keys = PublicKey::parse_all(V6).unwrap();
        let fingerprint = "cb186c4f0609a697e4d52dfa6c722b0c1f1e27c18a56708f6525ec27bad9acc9";
        let subkey = "12c83f1e706f6308fe151a417743a1f033790e93e9978488d1db378da9930885";
        assert_eq!(described(&keys[0]), (vec![fingerprint.to_owned(), subkey.to_owned()], Vec::new()));
        assert!(keys[0].made(&Issuer::KeyId([0xcb, 0x18, 0x6c, 0x4f, 0x06, 0x09, 0xa6, 0x97])));
        // The key's own signature names it as its issuer.
        let armored = armor::decode_all(V6).unwrap();
        let signature = Packets::of(&armored[0].bytes).map(Result::unwrap).find(|one| one.kind == kind::SIGNATURE);
        assert!(keys[0].made(&Issuer::of_signature(signature.unwrap().whole).unwrap()));
    }

    #[test]
    fn key_id_is_taken_where_there_is_no_fingerprint() {
        let v3 = [&[0x88, 19, 3, 5, 0, 1, 2, 3, 4][..], b"\x01\x02\x03\x04\x05\x06\x07\x08", &[1, 8, 0, 0]].concat();
        let v4 = [&[0xc2, 20, 4, 0, 1, 8, 0, 0, 0, 10, 9, 0x80 | 16][..], b"\x01\x02\x03\x04\x05\x06\x07\x08", &[0, 0]];
        for signature in [v3, v4.concat()] {
            assert_eq!(Issuer::of_signature(&signature).unwrap().to_string(), "0102030405060708");
        }
    }

    #[test]
    fn fingerprint_is_preferred_to_a_key_id_that_stands_before_it() {
        let mut unhashed = vec![9, 16, 1, 2, 3, 4, 5, 6, 7, 8, 22, 33, 4];
        unhashed.extend([0xab; V4_BYTES]);
        let mut body = vec![4, 0, 1, 8, 0, 0, 0, u8::try_from(unhashed.len()).unwrap()];
        body.extend(unhashed);
        let signature = [vec![0xc2, u8::try_from(body.len()).unwrap()], body].concat();
        assert_eq!(Issuer::of_signature(&signature).unwrap().to_string(), "ab".repeat(V4_BYTES));
    }

    #[test]
    fn fingerprints_are_read_in_either_case_and_written_in_lower_case() {
        let digits = "0123456789ABCDEF0123456789abcdef01234567";
        let fingerprint: Fingerprint = serde_json::from_str(&format!("{digits:?}")).unwrap();
        assert_eq!(serde_json::to_string(&fingerprint).unwrap(), format!("{:?}", digits.to_lowercase()));
        for text in ["", "01", &digits[1..], &"x".repeat(40), &"é".repeat(20)] {
            let message = text.parse::<Fingerprint>().unwrap_err().to_string();
            assert_eq!(message, format!("{text:?} is not a fingerprint of 40 or 64 hexadecimal digits"));
        }
    }

    #[test]
    fn a_key_of_another_version_is_told_beside_the_others() {
        let keys = PublicKey::parse_all(KEYS).unwrap();
        let other = armor::encode(PUBLIC_KEY_BLOCK, &[0xc6, 2, 5, 0]);
        let (found, unreadable) = PublicKey::parse_readable(&[other.as_bytes(), KEYS].concat()).unwrap();
        assert_eq!((found, unreadable.len()), (keys, 1));
        let expected = "reading a public key: it has version 5, which is not supported, only 4 and 6";
        assert_eq!(format!("{:#}", unreadable[0]), expected);
        let (found, unreadable) = PublicKey::parse_readable(other.as_bytes()).unwrap();
        assert_eq!((found.len(), unreadable.len()), (0, 1));
    }

    #[test]
    fn what_is_no_public_key_is_called_what_it_is() {
        let message = |text: &[u8]| format!("{:#}", PublicKey::parse_all(text).unwrap_err());
        assert_eq!(message(b"text"), "there is no armored public key (-----BEGIN PGP PUBLIC KEY BLOCK-----)");
        assert_eq!(message(FIRST_SIGNATURE), "there is a SIGNATURE instead of a public key");
        let cut = &KEYS[..KEYS.len() / 2];
        assert_eq!(message(cut), "the armored PUBLIC KEY BLOCK is cut off");
        let armored = |bytes: &[u8]| message(armor::encode(PUBLIC_KEY_BLOCK, bytes).as_bytes());
        assert_eq!(
            armored(&[0xc6, 2, 3, 0]),
            "reading a public key: it has version 3, which is not supported, only 4 and 6"
        );
        assert_eq!(armored(&[0xc6, 200, 3, 4]), "the packet of type 6 is cut off");
        assert_eq!(
            armored(&[0xc6, 0xe1, 4, 0]),
            "the packet of type 6 has a partial length, which no key or signature has"
        );
        assert_eq!(armored(SECOND_SIGNATURE), "there is a packet of type 2 instead of a public key");
        assert_eq!(armored(&[]), "there is no armored public key (-----BEGIN PGP PUBLIC KEY BLOCK-----)");
    }

    #[test]
    fn what_is_no_signature_is_called_what_it_is() {
        let message = |bytes: &[u8]| format!("{:#}", Issuer::of_signature(bytes).unwrap_err());
        assert_eq!(message(b""), "it is no OpenPGP signature, neither binary nor armored");
        assert_eq!(message(KEYS), "it is an armored PUBLIC KEY BLOCK instead of a signature");
        assert_eq!(message(&[0xc2, 3, 4, 0, 1]), "reading the signature: it is cut off");
        assert_eq!(message(&[0xc2, 8, 4, 0, 1, 8, 0, 0, 0, 0]), "reading the signature: it does not name its issuer");
        assert_eq!(
            message(&[0xc2, 1, 5]),
            "reading the signature: it has version 5, which is not supported, only 3, 4 and 6"
        );
        assert_eq!(message(&[0xcb, 0]), "there is a packet of type 11 instead of a signature");
        for length in 1..SECOND_SIGNATURE.len() {
            assert!(Issuer::of_signature(&SECOND_SIGNATURE[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = PublicKey::parse_all(&bytes);
            let _ = Issuer::of_signature(&bytes);
            let _ = issuer(&bytes);
            for kind in [PUBLIC_KEY_BLOCK, SIGNATURE] {
                let text = armor::encode(kind, &bytes);
                prop_assert_eq!(&armor::decode_all(text.as_bytes()).unwrap()[0].bytes, &bytes);
                let _ = PublicKey::parse_all(text.as_bytes());
                let _ = Issuer::of_signature(text.as_bytes());
            }
        }

        #[test]
        fn damaged_keys_and_signatures_do_not_panic(position in 0..KEYS.len(), byte: u8) {
            let mut keys = KEYS.to_vec();
            keys[position] = byte;
            let _ = PublicKey::parse_all(&keys);
            let mut block = armor::decode_all(KEYS).unwrap().remove(0).bytes;
            let length = block.len();
            block[position % length] = byte;
            let _ = PublicKey::parse_all(armor::encode(PUBLIC_KEY_BLOCK, &block).as_bytes());
            let mut signature = SECOND_SIGNATURE.to_vec();
            signature[position % SECOND_SIGNATURE.len()] = byte;
            let _ = Issuer::of_signature(&signature);
        }
    }
}
