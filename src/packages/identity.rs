//! Rpms in the store to the certainty what they are: their signed headers decide, not what lists them.
//!
//! Metadata and locks claim a name, a version and an origin for a digest. A genuine rpm with another name or an older version
//! has a signature that verifies too, so that alone does not distinguish it from what was meant. Signatures are verified first;
//! nothing is installed before its header was compared here, and what was read of it until then is not used.

use anyhow::{Context, Result, bail, ensure};

use crate::packages::repository::Package;
use crate::packages::rpm_file::{self, Identity};
use crate::packages::store::Store;
use ocinitrd_format::text::Escaped;
use ocinitrd_support::parallel;

/// `packages` with what their headers say of their origin in place of what their repositories claim: build time, source rpm,
/// licence and installed size. The rpms are in the store.
///
/// # Errors
/// Fails on an rpm that is another package's, naming both; when one cannot be read, or its header says what no package can have.
pub fn described_by_headers(packages: &[&Package], store: &Store) -> Result<Vec<Package>> {
    let described = |(package, identity): (&&Package, Identity)| {
        let package = Package {
            build_time: identity.build_time,
            source_rpm: identity.source_rpm,
            license: identity.license,
            installed_size_bytes: identity.installed_size_bytes,
            ..(*package).clone()
        };
        package.check().with_context(|| format!("reading the header of {}", package.nevra()))?;
        Ok(package)
    };
    packages.iter().zip(identities(packages, store)?).map(described).collect()
}

/// Makes sure that `packages`, which a lock describes, are what their headers say. The rpms are in the store.
///
/// # Errors
/// As [`described_by_headers`]; and when the header says anything else than the lock, naming it.
pub fn check_locked(packages: &[&Package], store: &Store) -> Result<()> {
    for (package, described) in packages.iter().zip(described_by_headers(packages, store)?) {
        let facts = [
            ("build time", package.build_time.to_string(), described.build_time.to_string()),
            ("source rpm", package.source_rpm.clone(), described.source_rpm),
            ("licence", package.license.clone(), described.license),
            ("installed size", package.installed_size_bytes.to_string(), described.installed_size_bytes.to_string()),
        ];
        for (fact, locked, stated) in facts {
            ensure!(
                locked.trim() == stated.trim(),
                "the lock says of {} that its {fact} is {}, its rpm file says {}: the lock was changed by hand, or made by an \
                 earlier version of ocinitrd from metadata that was wrong; remove it, and run ocinitrd lock again",
                package.nevra(),
                Escaped::text(&locked),
                Escaped::text(&stated)
            );
        }
    }
    Ok(())
}

/// What the headers say, in the order of `packages`.
fn identities(packages: &[&Package], store: &Store) -> Result<Vec<Identity>> {
    parallel::map(packages, |package| {
        let nevra = package.nevra();
        let identity =
            rpm_file::identity(&store.path(&package.checksum)).with_context(|| format!("reading {nevra}"))?;
        if package.identity() != identity.identity() {
            bail!(
                "not using the package {nevra} of the repository {}: the rpm file that is listed under this name is that of {}; \
                 the metadata of the repository, or the lock, are wrong or were forged: choose another mirror or repository, and \
                 make the lock anew",
                package.repository,
                Escaped::text(&identity.nevra())
            );
        }
        Ok(identity)
    })
}

#[cfg(test)]
mod tests {
    use rpm::{BuildConfig, PackageBuilder};

    use super::*;
    use ocinitrd_format::digest::Digest;
    use ocinitrd_format::time::Timestamp;

    /// A store with the rpm `alpha-2:1.2-3.noarch`, and the package as honest metadata describe it.
    fn stored() -> (tempfile::TempDir, Store, Package) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut builder = PackageBuilder::new("alpha", "1.2", "MIT", "noarch", "for the tests");
        builder.release("3").epoch(2).using_config(BuildConfig::v4().source_date(1_780_000_000u32));
        let mut bytes = Vec::new();
        builder.build().unwrap().write(&mut bytes).unwrap();
        store.insert(&bytes).unwrap();
        let header = rpm_file::identity(&store.path(&Digest::of(&bytes))).unwrap();
        let package = Package {
            name: "alpha".into(),
            epoch: 2,
            version: "1.2".into(),
            release: "3".into(),
            arch: "noarch".into(),
            repository: "r".into(),
            location: "alpha.rpm".into(),
            checksum: Digest::of(&bytes),
            size_bytes: bytes.len() as u64,
            installed_size_bytes: header.installed_size_bytes,
            build_time: Timestamp::from_seconds(1_780_000_000),
            source_rpm: header.source_rpm,
            license: "MIT".into(),
        };
        (directory, store, package)
    }

    #[test]
    fn a_genuine_rpm_under_another_name_or_version_is_refused_by_each_part() {
        let (_directory, store, package) = stored();
        assert_eq!(described_by_headers(&[&package], &store).unwrap(), std::slice::from_ref(&package));
        check_locked(&[&package], &store).unwrap();
        let text = |text: &str| text.to_owned();
        for other in [
            Package { name: text("alphb"), ..package.clone() },
            Package { epoch: 3, ..package.clone() },
            Package { version: text("1.3"), ..package.clone() },
            Package { release: text("4"), ..package.clone() },
            Package { arch: text("x86_64"), ..package.clone() },
        ] {
            for result in [described_by_headers(&[&package, &other], &store).map(drop), check_locked(&[&other], &store)]
            {
                let message = format!("{:#}", result.unwrap_err());
                let named = format!("not using the package {} of the repository r: ", other.nevra());
                assert!(message.starts_with(&named) && message.contains("that of alpha-2:1.2-3.noarch;"), "{message}");
            }
        }
    }

    #[test]
    fn the_header_decides_what_metadata_only_claim_and_a_lock_must_say_the_same() {
        let (_directory, store, package) = stored();
        for (claimed, fact) in [
            (Package { build_time: Timestamp::from_seconds(1), ..package.clone() }, "build time is 1,"),
            (Package { source_rpm: "x.src.rpm".to_owned(), ..package.clone() }, "source rpm is x.src.rpm,"),
            (Package { license: "GPL\n".to_owned(), ..package.clone() }, "licence is GPL\\x0a,"),
            (Package { installed_size_bytes: 1 << 40, ..package.clone() }, "installed size is 1099511627776,"),
        ] {
            assert_eq!(described_by_headers(&[&claimed], &store).unwrap(), std::slice::from_ref(&package));
            let message = check_locked(&[&claimed], &store).unwrap_err().to_string();
            assert!(message.contains(fact) && message.contains("remove it, and run ocinitrd lock"), "{message}");
        }
    }
}
