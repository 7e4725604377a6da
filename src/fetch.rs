//! Packages, verified, into the content store: the step after dnf has chosen and before anything is installed.
//!
//! Enters: packages with checksum, size and location, and the base URLs of their repositories. Leaves: their rpm files
//! in the store, each under its SHA-256. Signatures are verified where rpm runs, not here.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::download::{Downloader, Meter};
use crate::format::checksum::Checksum;
use crate::format::digest::Digest;
use crate::progress::Progress;
use crate::repository::{Package, join};
use crate::store::{Expected, Store};

/// Downloads at a time: enough to hide latency, few enough for a mirror not to mind.
const PARALLEL: usize = 4;

/// The base URLs of repositories by their id, the preferred first.
pub type BaseUrls = BTreeMap<String, Vec<String>>;

/// Fetches the packages that the store does not have yet.
///
/// # Errors
/// Fails at the first package that no location has rightly, naming it and each location with its cause; what was
/// fetched until then stays, also of packages under way.
pub async fn fetch(
    packages: &[Package],
    base_urls: &BaseUrls,
    store: &Store,
    downloader: &Downloader,
    progress: &Progress,
) -> Result<()> {
    let missing = missing(packages, store);
    if missing.is_empty() {
        return Ok(());
    }
    let total_bytes = missing.iter().map(|package| package.size_bytes).sum();
    let meter = Meter::new(progress.stage("fetching packages", Some(total_bytes)));
    stream::iter(missing.iter().map(|package| fetch_one(package, base_urls, store, downloader, &meter)))
        .buffer_unordered(PARALLEL)
        .try_collect::<Vec<Digest>>()
        .await?;
    meter.into_stage().finish(&format!("{} of {} packages", missing.len(), packages.len()));
    Ok(())
}

/// Those that the store does not have, each content once.
fn missing<'p>(packages: &'p [Package], store: &Store) -> Vec<&'p Package> {
    let mut seen = BTreeSet::new();
    packages.iter().filter(|package| !store.contains(&package.checksum) && seen.insert(package.checksum)).collect()
}

async fn fetch_one(
    package: &Package,
    base_urls: &BaseUrls,
    store: &Store,
    downloader: &Downloader,
    meter: &Meter,
) -> Result<Digest> {
    let what = format!("package {} of repository {}", package.nevra(), package.repository);
    let expected = Expected { checksum: Checksum::Sha256(package.checksum), size_bytes: Some(package.size_bytes) };
    let locations = locations(package, base_urls)?;
    downloader.store(&what, &locations, &expected, store, meter).await
}

fn locations(package: &Package, base_urls: &BaseUrls) -> Result<Vec<String>> {
    if package.location.contains("://") {
        return Ok(vec![package.location.clone()]);
    }
    match base_urls.get(&package.repository) {
        Some(base_urls) => Ok(base_urls.iter().map(|base_url| join(base_url, &package.location)).collect()),
        None => bail!("package {} is of repository {}, which is not known", package.nevra(), package.repository),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Verbosity;

    fn package(content: &[u8], location: &str) -> Package {
        Package {
            name: "alpha".into(),
            epoch: 0,
            version: "1".into(),
            release: "1".into(),
            arch: "noarch".into(),
            repository: "r".into(),
            location: location.into(),
            checksum: Digest::of(content),
            size_bytes: content.len() as u64,
            installed_size_bytes: 0,
            build_time: 0,
            source_rpm: String::new(),
            license: String::new(),
        }
    }

    async fn run(packages: &[Package], directories: &[&std::path::Path], store: &Store) -> Result<()> {
        let urls = directories.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
        let base_urls = BaseUrls::from([("r".to_owned(), urls)]);
        fetch(packages, &base_urls, store, &Downloader::default(), &Progress::new(Verbosity::Quiet)).await
    }

    #[tokio::test]
    async fn packages_are_copied_from_the_first_directory_that_has_them_rightly() {
        let root = tempfile::tempdir().unwrap();
        let [wrong, right] = ["wrong", "right"].map(|name| root.path().join(name));
        for (directory, content) in [(&wrong, "other bytes"), (&right, "an rpm file")] {
            std::fs::create_dir(directory).unwrap();
            std::fs::write(directory.join("alpha.rpm"), content).unwrap();
        }
        let store = Store::open(&root.path().join("store")).unwrap();
        let packages = [package(b"an rpm file", "alpha.rpm"), package(b"an rpm file", "copy.rpm")];
        run(&packages, &[&wrong, &right], &store).await.unwrap();
        assert!(store.contains(&packages[0].checksum));
        // Nothing is fetched twice: the originals may be gone.
        std::fs::remove_dir_all(&right).unwrap();
        run(&packages, &[&wrong], &store).await.unwrap();
    }

    #[tokio::test]
    async fn a_package_that_is_nowhere_is_named_with_each_location() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("alpha.rpm"), "short").unwrap();
        let store = Store::open(&root.path().join("store")).unwrap();
        let packages = [package(b"an rpm file", "alpha.rpm")];
        let absent = root.path().join("absent");
        let message = format!("{:#}", run(&packages, &[root.path(), &absent], &store).await.unwrap_err());
        let here = root.path().display();
        assert_eq!(
            message,
            format!(
                "fetching package alpha-1-1.noarch of repository r failed:\n  \
                 {here}/alpha.rpm: the file there has 5 bytes instead of 11\n  \
                 {here}/absent/alpha.rpm: No such file or directory (os error 2)\n\
                 check the repository's URL in the definition; if its packages were replaced meanwhile, run this again"
            )
        );
        assert!(!store.contains(&packages[0].checksum));
        assert_eq!(std::fs::read_dir(store.root().join("partial")).unwrap().count(), 0);
    }

    #[test]
    fn packages_of_an_unknown_repository_are_refused_and_whole_urls_are_kept() {
        assert!(locations(&package(b"", "a.rpm"), &BaseUrls::new()).is_err());
        assert_eq!(locations(&package(b"", "https://a/b.rpm"), &BaseUrls::new()).unwrap(), ["https://a/b.rpm"]);
    }
}
