//! Packages, verified, into the content store: the step after dnf has chosen and before anything is installed.
//!
//! Enters: packages with checksum, size and location, and the base URLs of their repositories. Leaves: their rpm files
//! in the store, each under its SHA-256. Signatures are verified where rpm runs, not here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Error, Result, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::names::Place;
use crate::packages::download::{Downloader, Meter, Unobtainable};
use crate::packages::repository::{Package, Variables, join, substitute};
use crate::packages::store::{Expected, Size, Store};
use ocinitrd_format::checksum::Checksum;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::openpgp::{Fingerprint, PublicKey};
use ocinitrd_format::text::Escaped;
use ocinitrd_support::parallel;
use ocinitrd_support::progress::Progress;

/// Downloads at a time: enough to hide latency, few enough for a mirror not to mind.
const PARALLEL: usize = 4;

/// A package, and where its rpm file may be, the preferred place first.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The package.
    pub package: Package,
    /// URLs and paths of the same file.
    pub locations: Vec<String>,
}

/// Where the rpm files of a repository may be.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Directories of this host with rpm files.
    pub directories: Vec<PathBuf>,
    /// The base URLs of repositories by id, the preferred first.
    pub base_urls: BTreeMap<String, Vec<String>>,
    /// The archives of repositories by id.
    pub archives: BTreeMap<String, Archives>,
    /// What the variables of archives that no package decides on stand for: `releasever` and `basearch`.
    pub variables: Variables,
}

/// Where the packages stay that a repository has replaced.
#[derive(Clone, Debug, Default)]
pub struct Archives {
    /// Addresses with variables, the preferred first: see [`Places::of`].
    pub addresses: Vec<String>,
    /// The keys that may have signed a package.
    pub keys: Vec<Fingerprint>,
}

impl Places {
    /// Where `package` may be. An archive has the package under `$name`, `$version`, `$release`, `$arch`, `$source_name`,
    /// `$source_version`, `$source_release` (of the source rpm), `$file` (the rpm file's name), `$location` (where it is in the
    /// repository), `$releasever`, `$basearch` and `$keyid` (the last eight hex digits of the id of the key that signed it, or of
    /// a subkey, as koji keeps signed packages). Where it is not known yet which `key` did, it may be any of the repository's.
    ///
    /// # Errors
    /// Fails when the package's repository is not known, or is a server's and names a file of this machine; and on an unknown variable.
    pub fn of(&self, package: &Package, key: Option<&PublicKey>) -> Result<Vec<String>> {
        let mut locations = self.files(package);
        let base_urls = self.base_urls.get(&package.repository);
        let place = Place::of(&package.location);
        match base_urls {
            _ if place == Place::Remote => locations.push(package.location.clone()),
            None => bail!("package {} is of repository {}, which is not known", package.nevra(), package.repository),
            Some(base_urls) if place == Place::FileUrl => {
                let is_local = base_urls.iter().all(|base_url| Place::of(base_url) != Place::Remote);
                ensure!(
                    is_local,
                    "the repository {} on a server says that package {} is a file of this machine, {}: it is not opened",
                    package.repository,
                    package.nevra(),
                    Escaped::text(&package.location)
                );
                locations.push(package.location.clone());
            }
            Some(base_urls) => locations.extend(base_urls.iter().map(|base_url| join(base_url, &package.location))),
        }
        if let Some(archives) = self.archives.get(&package.repository) {
            // Which of a key's subkeys made the signature is not in the lock.
            let keys: Vec<&Fingerprint> = match key {
                Some(key) => key.fingerprints().collect(),
                None => archives.keys.iter().collect(),
            };
            let archived = self.archived(package, &archives.addresses, &keys);
            locations.extend(archived.with_context(|| format!("in archive of [repos.{}]", package.repository))?);
        }
        Ok(locations)
    }

    fn archived(&self, package: &Package, addresses: &[String], keys: &[&Fingerprint]) -> Result<Vec<String>> {
        let mut locations = Vec::new();
        for address in addresses {
            for key in keys {
                let variables = archive_variables(package, key).into_iter().chain(self.variables.clone()).collect();
                let location = substitute(address, &variables)?;
                // Few archives have a place for each key.
                if !locations.contains(&location) {
                    locations.push(location);
                }
            }
        }
        Ok(locations)
    }

    /// In the directories that have a file of its name.
    fn files(&self, package: &Package) -> Vec<String> {
        let names = BTreeSet::from([file_name(package), proper_file_name(package)]);
        let paths = self.directories.iter().flat_map(|directory| names.iter().map(move |name| directory.join(name)));
        paths.filter(|path| path.is_file()).map(|path| path.to_string_lossy().into_owned()).collect()
    }
}

/// The name of the rpm file in its repository.
fn file_name(package: &Package) -> String {
    package.location.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The name that rpm itself gives to a package's file: without an epoch.
pub fn proper_file_name(package: &Package) -> String {
    format!("{}-{}-{}.{}.rpm", package.name, package.version, package.release, package.arch)
}

fn archive_variables(package: &Package, key: &Fingerprint) -> Variables {
    let source = package.source_rpm.strip_suffix(".src.rpm").unwrap_or(&package.source_rpm);
    let mut source = source.rsplitn(3, '-');
    let mut part = || source.next().unwrap_or_default().to_owned();
    let (source_release, source_version, source_name) = (part(), part(), part());
    let [.., third, second, last, end] = key.key_id();
    let keyid = format!("{third:02x}{second:02x}{last:02x}{end:02x}");
    let values = [
        ("name", package.name.clone()),
        ("version", package.version.clone()),
        ("release", package.release.clone()),
        ("arch", package.arch.clone()),
        ("file", proper_file_name(package)),
        ("location", package.location.clone()),
        ("source_name", source_name),
        ("source_version", source_version),
        ("source_release", source_release),
        ("keyid", keyid),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Fetches the packages that the store does not have yet, for the image `image`.
///
/// # Errors
/// Fails at the first package that no location has rightly, naming it and each location with its cause; what was
/// fetched until then stays, also of packages under way.
pub async fn fetch(
    wanted: &[Wanted],
    image: &str,
    store: &Store,
    downloader: &Downloader,
    progress: &Progress,
) -> Result<()> {
    discard_damaged(wanted, store, progress)?;
    check_sizes(wanted, store)?;
    let missing = missing(wanted, store);
    if missing.is_empty() {
        return Ok(());
    }
    let total_bytes = missing.iter().map(|wanted| wanted.package.size_bytes).fold(0, u64::saturating_add);
    let meter = Meter::new(progress.stage("fetching packages", Some(total_bytes)));
    let fetching = missing.iter().map(|wanted| fetch_one(wanted, image, store, downloader, &meter));
    let fetched = stream::iter(fetching).buffer_unordered(PARALLEL).try_collect::<Vec<Digest>>().await;
    fetched.map_err(|error| match error.downcast::<Unobtainable>() {
        Ok(error) if downloader.is_offline() => Error::from(error.advise(&format!(
            "the store lacks {} of {} packages: where there is a network, ocinitrd fetch {image} brings them; from another \
             machine, ocinitrd store import DIR",
            missing.len(),
            wanted.len()
        ))),
        Ok(error) => error.into(),
        Err(error) => error,
    })?;
    meter.into_stage().finish(&format!("{} of {} packages", missing.len(), wanted.len()));
    Ok(())
}

/// What is there already is trusted no more than what is fetched.
fn discard_damaged(wanted: &[Wanted], store: &Store, progress: &Progress) -> Result<()> {
    let damaged = parallel::map(wanted, |wanted| store.discard_if_damaged(&wanted.package.checksum))?;
    for (Wanted { package, .. }, _) in wanted.iter().zip(damaged).filter(|(_, is_damaged)| *is_damaged) {
        progress.warn(&format!("the store's copy of {} was damaged, so it has to be fetched again", package.nevra()));
    }
    Ok(())
}

/// A size that is not that of the bytes with the digest was made up.
fn check_sizes(wanted: &[Wanted], store: &Store) -> Result<()> {
    for package in wanted.iter().map(|wanted| &wanted.package).filter(|package| store.contains(&package.checksum)) {
        let found = store.size_bytes(&package.checksum)?;
        ensure!(
            found == package.size_bytes,
            "{} has {} bytes by what describes it, but {} has {found}: the lock or the metadata was changed by hand",
            package.nevra(),
            package.size_bytes,
            package.checksum
        );
    }
    Ok(())
}

/// Those that the store does not have, each content once.
fn missing<'w>(wanted: &'w [Wanted], store: &Store) -> Vec<&'w Wanted> {
    let mut seen = BTreeSet::new();
    let is_missing = |wanted: &&Wanted| {
        let checksum = wanted.package.checksum;
        !store.contains(&checksum) && seen.insert(checksum)
    };
    wanted.iter().filter(is_missing).collect()
}

async fn fetch_one(
    wanted: &Wanted,
    image: &str,
    store: &Store,
    downloader: &Downloader,
    meter: &Meter,
) -> Result<Digest> {
    let package = &wanted.package;
    let what = format!("package {} of repository {}", package.nevra(), package.repository);
    let expected = Expected { checksum: Checksum::Sha256(package.checksum), size: Size::Exactly(package.size_bytes) };
    let fetched = downloader.store(&what, &wanted.locations, &expected, store, meter).await;
    fetched.map_err(|error| match error.downcast::<Unobtainable>() {
        Ok(error) => Error::from(error.advise(&format!(
            "if the repository has replaced the package meanwhile, renew it with: ocinitrd update {image} {}; or give a \
             directory that has its rpm file with --rpm-dir",
            package.name
        ))),
        // The cause is on this side, and any other package would meet it too.
        Err(error) => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocinitrd_format::time::Timestamp;
    use ocinitrd_support::progress::Verbosity;

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
            build_time: Timestamp::default(),
            source_rpm: String::new(),
            license: String::new(),
        }
    }

    fn places(directories: &[&std::path::Path]) -> Places {
        let urls = directories.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
        Places { base_urls: BTreeMap::from([("r".to_owned(), urls)]), ..Places::default() }
    }

    async fn run(packages: &[Package], directories: &[&std::path::Path], store: &Store) -> Result<()> {
        run_with(&Downloader::default(), packages, directories, store).await
    }

    async fn run_with(
        downloader: &Downloader,
        packages: &[Package],
        directories: &[&std::path::Path],
        store: &Store,
    ) -> Result<()> {
        let places = places(directories);
        let wanted: Vec<Wanted> = packages
            .iter()
            .map(|package| Wanted { package: package.clone(), locations: places.of(package, None).unwrap() })
            .collect();
        fetch(&wanted, "test", store, downloader, &Progress::new(Verbosity::Quiet)).await
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
                 check the repository's URL in the definition\n\
                 if the repository has replaced the package meanwhile, renew it with: ocinitrd update test alpha; \
                 or give a directory that has its rpm file with --rpm-dir"
            )
        );
        assert!(!store.contains(&packages[0].checksum));
        assert_eq!(std::fs::read_dir(store.root().join("partial")).unwrap().count(), 0);
        let offline = run_with(&Downloader::default().offline(), &packages, &[&absent], &store).await;
        let message = offline.unwrap_err().to_string();
        assert!(
            message.contains("\nthe store lacks 1 of 1 packages: where there is a network, ocinitrd fetch test"),
            "{message}"
        );
    }

    #[test]
    fn packages_of_an_unknown_repository_are_refused_and_whole_urls_are_kept() {
        assert!(Places::default().of(&package(b"", "a.rpm"), None).is_err());
        assert_eq!(Places::default().of(&package(b"", "https://a/b.rpm"), None).unwrap(), ["https://a/b.rpm"]);
    }

    #[test]
    fn a_repository_on_a_server_never_leads_to_files_of_this_machine() {
        for location in ["file:///dev/zero", "FILE:/etc/passwd", "file:/etc/passwd?://"] {
            let package = package(b"", location);
            for remote in ["https://a.example/os", "HTTP://a.example/os"] {
                let places = places(&[std::path::Path::new("/srv/repo"), std::path::Path::new(remote)]);
                let message = places.of(&package, None).unwrap_err().to_string();
                assert!(message.contains("is a file of this machine") && message.contains(location), "{message}");
            }
            assert_eq!(places(&[std::path::Path::new("/srv/repo")]).of(&package, None).unwrap(), [location]);
            assert!(Places::default().of(&package, None).is_err());
        }
    }

    #[test]
    fn archive_comes_last_and_directories_first() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("alpha-1-1.noarch.rpm"), "").unwrap();
        let keys = ["36f612dcf27f7d1a48a835e4dbfcf71c6d9f90a6", "0000000000000000000000000000000000000001"]
            .map(|key| key.parse::<Fingerprint>().unwrap());
        let archive =
            "https://koji.example/$source_name/$source_version/$source_release/data/signed/$keyid/$arch/$file";
        let places = Places {
            directories: vec![directory.path().to_owned()],
            archives: BTreeMap::from([(
                "r".to_owned(),
                Archives {
                    addresses: [
                        "https://updates.example/$releasever/$basearch/$file",
                        archive,
                        "https://copy.example/${location}",
                    ]
                    .map(str::to_owned)
                    .into(),
                    keys: keys.to_vec(),
                },
            )]),
            variables: [("releasever", "44"), ("basearch", "x86_64")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..places(&[std::path::Path::new("/srv/repo")])
        };
        let package = Package { source_rpm: "al-pha-1.0-2.fc44.src.rpm".into(), ..package(b"", "a/alpha.rpm") };
        let file = directory.path().join("alpha-1-1.noarch.rpm");
        let archived = |directories: &[&str]| -> Vec<String> {
            let of_key = |directory: &&str| {
                format!("https://koji.example/al-pha/1.0/2.fc44/data/signed/{directory}/noarch/alpha-1-1.noarch.rpm")
            };
            let before = [
                file.to_str().unwrap(),
                "/srv/repo/a/alpha.rpm",
                "https://updates.example/44/x86_64/alpha-1-1.noarch.rpm",
            ];
            let locations = before.into_iter().map(str::to_owned).chain(directories.iter().map(of_key));
            locations.chain(["https://copy.example/a/alpha.rpm".to_owned()]).collect()
        };
        // The id of a key of version 6 is the beginning of its fingerprint, and each key may sign.
        let key = |fingerprint: &str, subkeys: &[&str]| PublicKey {
            fingerprint: fingerprint.parse().unwrap(),
            subkeys: subkeys.iter().map(|subkey| subkey.parse().unwrap()).collect(),
            user_ids: Vec::new(),
            armored: String::new(),
        };
        let six = "cb186c4f0609a697e4d52dfa6c722b0c1f1e27c18a56708f6525ec27bad9acc9";
        let subkey = "12c83f1e706f6308fe151a417743a1f033790e93e9978488d1db378da9930885";
        for (key, directories) in [
            (key("36f612dcf27f7d1a48a835e4dbfcf71c6d9f90a6", &[]), &["6d9f90a6"][..]),
            (key(six, &[subkey]), &["0609a697", "706f6308"]),
        ] {
            assert_eq!(places.of(&package, Some(&key)).unwrap(), archived(directories));
        }
        // Before its signature was looked at.
        assert_eq!(places.of(&package, None).unwrap(), archived(&["6d9f90a6", "00000001"]));
    }
}
