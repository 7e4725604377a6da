//! Rpms in the store to the certainty who signed them.
//!
//! The rpm itself says which keys signed it. Whether that is true is verified by rpm's own verifier in the builder image, one
//! signature at a time and with only the key that is supposed to have made it. A package counts if a key that may sign it did,
//! in a way that the builder's rpm can check. Signatures beside that one which could not be checked are named in a warning.
//! Each rpm and key is verified once: the cache remembers them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::container::engine::Builder;
use crate::container::steps::verify::{self, Check, Verdict};
use crate::lock::file::Key;
use crate::packages::cache::{self, Cache, Kind};
use crate::packages::repository::Package;
use crate::packages::rpm_file::{self, Author, Signature};
use crate::packages::store::Store;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::openpgp::{Fingerprint, PublicKey};
use ocinitrd_format::tally::Tally;
use ocinitrd_support::progress::Progress;

/// The keys that signed `packages`, by `NAME-[EPOCH:]VERSION-RELEASE.ARCH`; `keys` has those of each repository, by its id. Of
/// several keys that signed a package, it is the first of its repository's.
///
/// # Errors
/// Fails on rpms that are unsigned, signed only by other keys or in ways that the builder's rpm cannot check, or damaged, naming
/// each.
pub async fn signers<'p>(
    builder: &Builder,
    packages: impl Iterator<Item = &'p Package>,
    keys: &BTreeMap<String, Vec<PublicKey>>,
    store: &Store,
    progress: &Progress,
) -> Result<BTreeMap<String, Fingerprint>> {
    let cache = Cache::of(store);
    let (mut signers, mut unverified) = (BTreeMap::new(), Vec::new());
    for package in packages {
        let signed = Signed::read(package, &keys[&package.repository].iter().collect::<Vec<_>>(), store)?;
        let first = &signed.claims[0].key;
        if cache.record::<bool>(Kind::Signature, &record_key(package.checksum, first)) == Some(true) {
            signers.insert(package.nevra(), first.fingerprint.clone());
        } else {
            unverified.push(signed);
        }
    }
    signers.extend(check(builder, &unverified, &cache, progress).await?);
    Ok(signers)
}

/// The packages of which it was not verified yet that the key signed them.
pub fn unverified<'p>(
    keys: &BTreeMap<Fingerprint, Key>,
    packages: &[(&'p Package, &'p Fingerprint)],
    store: &Store,
) -> Result<Vec<(&'p Package, &'p Fingerprint)>> {
    let cache = Cache::of(store);
    let mut unverified = Vec::new();
    for (package, fingerprint) in packages {
        let key =
            locked_key(keys, fingerprint).with_context(|| format!("looking for the key of {}", package.nevra()))?;
        if cache.record::<bool>(Kind::Signature, &record_key(package.checksum, &key)) != Some(true) {
            unverified.push((*package, *fingerprint));
        }
    }
    Ok(unverified)
}

/// Verifies that each package is signed by the key that the lock names for it. Signatures by other locked keys are verified too: a
/// package with one that is wrong is refused.
///
/// # Errors
/// Fails if an rpm is not signed by that key, if the builder's rpm cannot check it, or if it is damaged, naming each.
pub async fn verify(
    builder: &Builder,
    keys: &BTreeMap<Fingerprint, Key>,
    packages: &[(&Package, &Fingerprint)],
    store: &Store,
    progress: &Progress,
) -> Result<()> {
    let locked = keys.keys().map(|fingerprint| locked_key(keys, fingerprint)).collect::<Result<Vec<_>>>()?;
    let mut signed = Vec::new();
    for (package, fingerprint) in packages {
        let is_signer = |key: &&PublicKey| key.fingerprint == **fingerprint;
        let others = locked.iter().filter(|key| !is_signer(key));
        let first: Vec<&PublicKey> = locked.iter().filter(is_signer).chain(others).collect();
        signed.push(Signed::read(package, &first, store)?.by(fingerprint)?);
    }
    check(builder, &signed, &Cache::of(store), progress).await?;
    Ok(())
}

/// The name of a package's rpm in a container, and where it lies on this host.
pub fn rpm_file(package: &Package, store: &Store) -> (String, PathBuf) {
    (format!("{}.rpm", package.nevra()), store.path(&package.checksum))
}

/// A package and its signatures.
struct Signed<'p> {
    package: &'p Package,
    rpm: PathBuf,
    /// Signatures by known keys, those of the preferred key first; at least one.
    claims: Vec<Claim>,
    /// The authors of all other signatures.
    others: Vec<Author>,
    /// How many of the claims, from the first, make the package count if they are right. The others are verified too.
    sufficient: usize,
}

/// A signature that names a key.
struct Claim {
    key: PublicKey,
    signature: Signature,
}

impl<'p> Signed<'p> {
    fn read(package: &'p Package, keys: &[&PublicKey], store: &Store) -> Result<Self> {
        let (nevra, rpm) = (package.nevra(), store.path(&package.checksum));
        let signatures = rpm_file::signatures(&rpm).with_context(|| format!("reading {nevra}"))?;
        let is_by = |key: &PublicKey, signature: &Signature| match &signature.author {
            Author::Key(issuer) => key.made(issuer),
            Author::Unknown(_) => false,
        };
        let mut claims = Vec::new();
        for key in keys {
            let own = signatures.iter().filter(|signature| is_by(key, signature));
            claims.extend(own.map(|signature| Claim { key: (*key).clone(), signature: signature.clone() }));
        }
        let is_claimed = |signature: &Signature| claims.iter().any(|claim| claim.signature == *signature);
        let others: Vec<Author> = signatures.into_iter().filter(|one| !is_claimed(one)).map(|one| one.author).collect();
        let Some(reason) = claims.is_empty().then(|| refusal(&others)) else {
            return Ok(Signed { package, rpm, sufficient: claims.len(), claims, others });
        };
        bail!("not using the package {nevra} of the repository {}: {reason}", package.repository)
    }

    /// Requires the package to be signed by this key.
    fn by(mut self, key: &Fingerprint) -> Result<Self> {
        self.sufficient = self.claims.iter().filter(|claim| claim.key.fingerprint == *key).count();
        let signer = &self.claims[0].key.fingerprint;
        ensure!(self.sufficient > 0, "{} is signed by {signer}, the lock says by {key}", self.package.nevra());
        Ok(self)
    }
}

/// Why a package whose signatures are all by these authors, none of them a known key, is not used.
fn refusal(authors: &[Author]) -> String {
    let of_keys = authors.iter().filter_map(|author| match author {
        Author::Key(issuer) => Some(issuer.to_string()),
        Author::Unknown(_) => None,
    });
    let issuers: BTreeSet<String> = of_keys.collect();
    let issuers: Vec<String> = issuers.into_iter().collect();
    match (issuers.as_slice(), authors.first()) {
        (_, None) => "it is not signed; only packages that a key of gpg_keys signed are installed".to_owned(),
        ([], Some(Author::Unknown(reason))) => format!(
            "it has only signatures of an unknown kind ({reason}); only packages that a key of gpg_keys signed are installed"
        ),
        ([one], _) => format!("it is signed by the key {one}, which is none of gpg_keys of that repository"),
        (several, _) => {
            format!(
                "it is signed by the keys {}, none of which is in gpg_keys of that repository",
                several.join(" and ")
            )
        }
    }
}

/// Lets rpm verify all claims; returns the key of each package's first claim that is right.
async fn check(
    builder: &Builder,
    signed: &[Signed<'_>],
    cache: &Cache,
    progress: &Progress,
) -> Result<BTreeMap<String, Fingerprint>> {
    if signed.is_empty() {
        return Ok(BTreeMap::new());
    }
    let stage = progress.stage("verifying signatures", None);
    let claims = signed.iter().flat_map(|one| one.claims.iter().map(|claim| (&one.rpm, claim)));
    let checks: Vec<Check<'_>> = claims
        .map(|(rpm, Claim { key, signature })| Check {
            key: &key.fingerprint,
            armored: &key.armored,
            rpm: rpm.as_path(),
            signature,
        })
        .collect();
    let verdicts = verify::verify(builder, &checks, progress).await?;
    let judgement = judge(signed, &verdicts)?;
    judgement.unchecked.lines().for_each(|line| progress.warn(&line));
    let mut signers = BTreeMap::new();
    for (signed, key) in signed.iter().zip(judgement.keys) {
        cache.keep(Kind::Signature, &record_key(signed.package.checksum, key), &true)?;
        signers.insert(signed.package.nevra(), key.fingerprint.clone());
    }
    stage.finish(&format!("{} packages", signed.len()));
    Ok(signers)
}

/// The result of all verdicts.
struct Judgement<'s> {
    /// The key that signed each package.
    keys: Vec<&'s PublicKey>,
    /// Further signatures, which could not be checked.
    unchecked: Tally,
}

fn judge<'s>(signed: &'s [Signed<'_>], verdicts: &[Verdict]) -> Result<Judgement<'s>> {
    let (mut keys, mut unchecked) = (Vec::new(), Tally::default());
    let (mut wrong, mut unknown) = (Vec::new(), Vec::new());
    let mut rest = verdicts;
    for one in signed {
        let (own, others) = rest.split_at(one.claims.len());
        rest = others;
        let nevra = one.package.nevra();
        let told = |verdict: &Verdict| match verdict {
            Verdict::Wrong(words) => Some(format!("{nevra}: {words}")),
            _ => None,
        };
        wrong.extend(own.iter().filter_map(told));
        match own[..one.sufficient].iter().position(|verdict| *verdict == Verdict::Right) {
            Some(position) => keys.push(&one.claims[position].key),
            None => unknown.extend(own[..one.sufficient].iter().zip(&one.claims).map(|(verdict, claim)| {
                format!("{nevra}: signed by the key {}: {}", claim.key.fingerprint, verdict.words())
            })),
        }
        one.tally(own, &mut unchecked);
    }
    ensure!(
        wrong.is_empty(),
        "not installing packages whose signature does not verify with the keys of the definition:\n{}\n\
         check gpg_keys of the repository they come from, or the repository itself",
        wrong.join("\n")
    );
    ensure!(
        unknown.is_empty(),
        "not installing packages whose signatures the builder image's rpm cannot check:\n{}\n\
         use a builder image with a newer rpm",
        unknown.join("\n")
    );
    Ok(Judgement { keys, unchecked })
}

impl Signed<'_> {
    /// Adds the signatures that were not checked.
    fn tally(&self, verdicts: &[Verdict], tally: &mut Tally) {
        let nevra = self.package.nevra();
        for (verdict, Claim { key, .. }) in verdicts.iter().zip(&self.claims) {
            if let Verdict::Unknown(words) = verdict {
                let key = &key.fingerprint;
                tally.add(
                    &format!("could not check a signature by the key {key} ({words}), but another one verifies"),
                    &nevra,
                );
            }
        }
        for author in &self.others {
            let unchecked = match author {
                Author::Key(issuer) => {
                    format!("a signature by the key {issuer}, which is not in the repository's gpg_keys")
                }
                Author::Unknown(reason) => format!("a signature of an unknown kind ({reason})"),
            };
            tally.add(&format!("could not check {unchecked}, but another one verifies"), &nevra);
        }
    }
}

/// The key of a lock by its fingerprint.
///
/// # Errors
/// Fails when the lock does not have it, or has another by its name.
pub fn locked_key(keys: &BTreeMap<Fingerprint, Key>, fingerprint: &Fingerprint) -> Result<PublicKey> {
    let key = keys.get(fingerprint).with_context(|| format!("the key {fingerprint} is not in the lock"))?;
    let mut found = PublicKey::parse_all(key.armored.as_bytes())
        .with_context(|| format!("reading the key {fingerprint} of the lock"))?;
    let position = found.iter().position(|key| key.fingerprint == *fingerprint);
    Ok(found.swap_remove(position.with_context(|| format!("what the lock calls the key {fingerprint} is another"))?))
}

fn record_key(rpm: Digest, key: &PublicKey) -> Digest {
    cache::key(Kind::Signature, &json!({ "rpm": rpm, "key": key.fingerprint, "armored": key.armored }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocinitrd_format::openpgp::Issuer;
    use ocinitrd_format::time::Timestamp;

    fn package() -> Package {
        Package {
            name: "alpha".into(),
            epoch: 0,
            version: "1".into(),
            release: "1".into(),
            arch: "noarch".into(),
            repository: "r".into(),
            location: "alpha.rpm".into(),
            checksum: Digest::of(b""),
            size_bytes: 0,
            installed_size_bytes: 0,
            build_time: Timestamp::default(),
            source_rpm: String::new(),
            license: String::new(),
        }
    }

    fn key(digits: &str) -> PublicKey {
        let fingerprint = digits.repeat(20).parse().unwrap();
        PublicKey { fingerprint, subkeys: Vec::new(), user_ids: Vec::new(), armored: String::new() }
    }

    /// What comes of these verdicts on a signature by each of the keys 01, 02, ..., of which the first `sufficient` are enough: the
    /// key and what was not checked.
    fn judged(verdicts: &[Verdict], sufficient: usize, others: &[Author]) -> Result<(String, Vec<String>)> {
        let package = package();
        let claim = |number: usize| {
            let key = key(&format!("{number:02}"));
            let author = Author::Key(Issuer::Fingerprint(key.fingerprint.clone()));
            Claim { key, signature: Signature::made_up(author, &[]) }
        };
        let claims = (1..=verdicts.len()).map(claim).collect();
        let signed = [Signed { package: &package, rpm: PathBuf::new(), claims, others: others.to_vec(), sufficient }];
        let judgement = judge(&signed, verdicts)?;
        let key = judgement.keys[0].fingerprint.to_string()[..2].to_owned();
        Ok((key, judgement.unchecked.lines().collect()))
    }

    fn unknown() -> Verdict {
        Verdict::Unknown("rpm says: NOKEY".to_owned())
    }

    fn wrong() -> Verdict {
        Verdict::Wrong("BAD".to_owned())
    }

    #[test]
    fn first_signature_that_is_right_counts_and_the_unchecked_are_told() {
        let right = || Verdict::Right;
        assert_eq!(judged(&[right(), right()], 2, &[]).unwrap(), ("01".to_owned(), vec![]));
        assert_eq!(judged(&[unknown(), right()], 2, &[]).unwrap().0, "02");
        let others = [Author::Key(Issuer::KeyId([9; 8])), Author::Unknown("it has version 9".to_owned())];
        let (key, told) = judged(&[right(), unknown()], 2, &others).unwrap();
        assert_eq!(key, "01");
        let end = "but another one verifies: alpha-1-1.noarch";
        let expected = [
            format!("could not check a signature by the key {} (rpm says: NOKEY), {end}", "02".repeat(20)),
            format!(
                "could not check a signature by the key 0909090909090909, which is not in the repository's gpg_keys, {end}"
            ),
            format!("could not check a signature of an unknown kind (it has version 9), {end}"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_signature_that_is_wrong_is_not_made_up_for_by_another_nor_one_that_the_lock_does_not_name() {
        let message = |verdicts: &[Verdict], sufficient| judged(verdicts, sufficient, &[]).unwrap_err().to_string();
        for verdicts in [[Verdict::Right, wrong()], [wrong(), Verdict::Right]] {
            for sufficient in [1, 2] {
                let error = message(&verdicts, sufficient);
                assert!(
                    error.contains("does not verify with the keys of the definition:\nalpha-1-1.noarch: BAD"),
                    "{error}"
                );
            }
        }
        let error = message(&[unknown(), Verdict::Right], 1);
        assert!(error.starts_with("not installing packages whose signatures the builder image's rpm cannot check"));
        assert!(error.contains(&format!("alpha-1-1.noarch: signed by the key {}: rpm says: NOKEY", "01".repeat(20))));
        assert!(!error.contains(&"02".repeat(20)), "{error}");
    }

    #[test]
    fn packages_that_nobody_at_hand_signed_are_refused_by_what_they_have() {
        let [one, two] = [[1; 8], [2; 8]].map(|id| Author::Key(Issuer::KeyId(id)));
        let unknown = Author::Unknown("it is no base64".to_owned());
        let none = "which is none of gpg_keys of that repository";
        let expected = [
            (vec![], "it is not signed; only packages that a key of gpg_keys signed are installed".to_owned()),
            (vec![one.clone(), unknown.clone()], format!("it is signed by the key 0101010101010101, {none}")),
            (
                vec![two, one],
                "it is signed by the keys 0101010101010101 and 0202020202020202, none of which is in gpg_keys of that \
                 repository"
                    .to_owned(),
            ),
            (
                vec![unknown],
                "it has only signatures of an unknown kind (it is no base64); only packages that a key of gpg_keys signed \
                 are installed"
                    .to_owned(),
            ),
        ];
        for (authors, message) in expected {
            assert_eq!(refusal(&authors), message);
        }
    }
}
