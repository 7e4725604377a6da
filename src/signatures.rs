//! Rpms in the store to the certainty who signed them.
//!
//! Which key signed an rpm is read from it here; that the signature is right is verified by rpm's own verifier in the
//! builder image, against the locked keys and no other. It is verified once: the cache remembers rpm and keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::cache::{self, Cache, Kind};
use crate::engine::Builder;
use crate::format::digest::Digest;
use crate::format::openpgp::{Fingerprint, PublicKey};
use crate::lock::Key;
use crate::progress::Progress;
use crate::repository::Package;
use crate::rpm_package;
use crate::steps::verify;
use crate::store::Store;

/// The keys that signed `packages`, by `NAME-[EPOCH:]VERSION-RELEASE.ARCH`; `keys` has those of each repository, by its id.
///
/// # Errors
/// Fails on an rpm that is not signed, or not by a key of its repository.
pub fn signers<'p>(
    packages: impl Iterator<Item = &'p Package>,
    keys: &BTreeMap<String, Vec<PublicKey>>,
    store: &Store,
) -> Result<BTreeMap<String, Fingerprint>> {
    packages.map(|package| Ok((package.nevra(), signer(package, &keys[&package.repository], store)?))).collect()
}

fn signer(package: &Package, keys: &[PublicKey], store: &Store) -> Result<Fingerprint> {
    let nevra = package.nevra();
    let issuer = rpm_package::signer(&store.path(&package.checksum)).with_context(|| format!("reading {nevra}"))?;
    let refused = || format!("not using the package {nevra} of the repository {}", package.repository);
    let Some(issuer) = issuer else {
        bail!("{}: it is not signed; only packages that a key of gpg_keys signed are installed", refused());
    };
    let key = keys.iter().find(|key| key.made(&issuer)).with_context(|| {
        format!("{}: it is signed by the key {issuer}, which is none of gpg_keys of that repository", refused())
    })?;
    Ok(key.fingerprint.clone())
}

/// The packages whose signature was not verified yet with these keys.
pub fn unverified<'p>(
    keys: &BTreeMap<Fingerprint, Key>,
    packages: &[(&'p Package, &'p Fingerprint)],
    store: &Store,
) -> Vec<(&'p Package, &'p Fingerprint)> {
    let cache = Cache::of(store);
    let is_known = |package: &Package, key: &Fingerprint| {
        cache.record::<bool>(Kind::Signature, &record_key(keys, package.checksum, key)) == Some(true)
    };
    packages.iter().copied().filter(|(package, key)| !is_known(package, key)).collect()
}

/// Verifies the signatures of `packages` (with the key that is to have made each), as far as that was not done before.
///
/// # Errors
/// Fails when an rpm is unsigned, signed by another key or damaged, naming each such rpm.
pub async fn verify(
    builder: &Builder,
    keys: &BTreeMap<Fingerprint, Key>,
    packages: &[(&Package, &Fingerprint)],
    store: &Store,
    progress: &Progress,
) -> Result<()> {
    let unverified = unverified(keys, packages, store);
    if unverified.is_empty() {
        return Ok(());
    }
    let stage = progress.stage("verifying signatures", None);
    for (package, key) in &unverified {
        check_signer(keys, package, key, store)?;
    }
    let armored = keys.iter().map(|(fingerprint, key)| (fingerprint.to_string(), key.armored.clone())).collect();
    let rpms: Vec<(String, PathBuf)> = unverified.iter().map(|(package, _)| rpm_file(package, store)).collect();
    verify::verify(builder, &armored, &rpms, progress).await?;
    let cache = Cache::of(store);
    for (package, key) in &unverified {
        cache.keep(Kind::Signature, &record_key(keys, package.checksum, key), &true)?;
    }
    stage.finish(&format!("{} packages", unverified.len()));
    Ok(())
}

/// The name of a package's rpm in a container, and where it lies on this host.
pub fn rpm_file(package: &Package, store: &Store) -> (String, PathBuf) {
    (format!("{}.rpm", package.nevra()), store.path(&package.checksum))
}

/// That one key vouches for it does not make up for another having signed it.
fn check_signer(keys: &BTreeMap<Fingerprint, Key>, package: &Package, key: &Fingerprint, store: &Store) -> Result<()> {
    let nevra = package.nevra();
    let armored = &keys.get(key).with_context(|| format!("the key {key} of {nevra} is not in the lock"))?.armored;
    let found =
        PublicKey::parse_all(armored.as_bytes()).with_context(|| format!("reading the key {key} of the lock"))?;
    let signer = signer(package, &found, store)?;
    ensure!(signer == *key, "{nevra} is signed by {signer}, the lock says by {key}");
    Ok(())
}

fn record_key(keys: &BTreeMap<Fingerprint, Key>, rpm: Digest, key: &Fingerprint) -> Digest {
    let armored: Vec<&String> = keys.values().map(|key| &key.armored).collect();
    cache::key(Kind::Signature, &json!({ "rpm": rpm, "key": key, "keys": armored }))
}
