//! Debian's archive through apt: names of suites in, verified indexes and packages out.
//!
//! apt keeps its lists and packages below the cache directory, away from the machine's own, and verifies everything
//! with the archive's keys. Where the archive is comes from `DEBIAN_MIRROR` or from the machine's own sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use crate::control::{Paragraph, paragraphs};
use crate::deb;
use crate::digest::sha256_hex;
use crate::package::Content;
use crate::programs::run;
use crate::version::compare_debian;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The name of the one that replaces it where it is too old.
const NEWER_KEYRING: &str = "archive-keyring.gpg";
/// Test data need not be of today: younger lists are used as they are.
const LISTS_LAST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The archive as this machine reaches it.
#[derive(Debug)]
pub struct Archive {
    directory: PathBuf,
    mirror: Mirror,
    keyring: PathBuf,
}

#[derive(Debug)]
struct Mirror {
    main: String,
    security: String,
}

/// A version of a package that a suite holds.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The suite that has it.
    pub suite: String,
    /// Its version.
    pub version: String,
    /// Its entry in the index.
    pub fields: Paragraph,
}

/// The entries of all packages in the suites that were read: by package name, suite and text.
#[derive(Debug, Default)]
pub struct Index(BTreeMap<String, Vec<(String, String)>>);

impl Index {
    /// Every version of a package in `suites`, oldest first; of equal ones that of the suite named first.
    ///
    /// # Errors
    /// Fails when an entry cannot be read.
    pub fn versions(&self, package: &str, suites: &[String]) -> Result<Vec<Candidate>> {
        let mut versions = Vec::new();
        for (suite, entry) in self.0.get(package).into_iter().flatten().filter(|(suite, _)| suites.contains(suite)) {
            let fields =
                Paragraph::parse(entry).with_context(|| format!("reading the entry of {package} in {suite}"))?;
            let version =
                fields.get("Version").with_context(|| format!("finding the version of {package}"))?.to_owned();
            versions.push(Candidate { suite: suite.clone(), version, fields });
        }
        let place = |candidate: &Candidate| suites.iter().position(|suite| *suite == candidate.suite);
        versions.sort_by(|left, right| {
            compare_debian(&left.version, &right.version).then_with(|| place(left).cmp(&place(right)))
        });
        versions.dedup_by(|left, right| left.version == right.version);
        Ok(versions)
    }

    /// The newest version of a package in `suites`, if they have it.
    ///
    /// # Errors
    /// Fails when an entry cannot be read.
    pub fn newest(&self, package: &str, suites: &[String]) -> Result<Option<Candidate>> {
        Ok(self.versions(package, suites)?.pop())
    }

    /// Whether `suites` have a package.
    pub fn contains(&self, package: &str, suites: &[String]) -> bool {
        self.0.get(package).is_some_and(|entries| entries.iter().any(|(suite, _)| suites.contains(suite)))
    }

    /// Adds the text of an index.
    ///
    /// # Errors
    /// Fails when an entry does not begin with its package's name.
    pub fn add(&mut self, suite: &str, packages: &str) -> Result<()> {
        // Of the hundred thousand entries a few hundred are ever asked for: only their names are read here.
        for entry in paragraphs(packages) {
            let Some(name) = entry.strip_prefix("Package: ").and_then(|rest| rest.lines().next()) else {
                bail!("reading the index of {suite}: an entry does not begin with the package's name");
            };
            self.0.entry(name.to_owned()).or_default().push((suite.to_owned(), entry.to_owned()));
        }
        Ok(())
    }
}

impl Archive {
    /// The archive, with its copies below `cache`.
    ///
    /// # Errors
    /// Fails when no mirror is known or a directory cannot be made.
    pub fn open(cache: &Path) -> Result<Archive> {
        let directory = cache.join("apt");
        for part in ["lists/partial", "debs", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part))
                .with_context(|| format!("creating {part} in {}", cache.display()))?;
        }
        let newer = directory.join(NEWER_KEYRING);
        let keyring = if newer.is_file() { newer } else { PathBuf::from(KEYRING) };
        Ok(Archive { mirror: Mirror::find()?, keyring, directory })
    }

    /// The keys that the archive is verified with.
    pub fn keyring(&self) -> &Path {
        &self.keyring
    }

    /// The line of apt's sources for a suite.
    pub fn source(&self, suite: &str) -> String {
        let site = if suite.ends_with("-security") { &self.mirror.security } else { &self.mirror.main };
        format!("deb [signed-by={}] {site} {suite} main", self.keyring.display())
    }

    /// The index of `suites`; reads the archive when the lists are old or `fresh` ones are asked for.
    ///
    /// # Errors
    /// Fails when the archive cannot be reached or verified, and when an index cannot be read.
    pub fn index(&mut self, suites: &[&str], fresh: bool) -> Result<Index> {
        self.write_sources(suites)?;
        if fresh || !self.lists_are_young() {
            self.update(suites)?;
        }
        let format = "$(CODENAME) $(SUITE) $(RELEASE) $(FILENAME)";
        let targets = run(self.apt("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
        let mut index = Index::default();
        for target in targets.lines() {
            let words: Vec<&str> = target.split(' ').collect();
            let (Some(suite), Some(file)) = (suites.iter().find(|suite| words.contains(suite)), words.last()) else {
                bail!("reading apt's index targets: {target:?} is of none of the suites {suites:?}");
            };
            let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
            index.add(suite, &text).with_context(|| format!("reading {file}"))?;
        }
        Ok(index)
    }

    /// Downloads the packages that the cache does not have.
    ///
    /// # Errors
    /// Fails when the archive does not hold one of them any more, or not with the bytes that the index names.
    pub fn fetch(&self, candidates: &[&Candidate]) -> Result<()> {
        let is_absent = |candidate: &&&Candidate| !self.path(candidate).is_file();
        let wanted: Vec<String> = candidates
            .iter()
            .filter(is_absent)
            .map(|candidate| format!("{}={}", candidate.fields.get("Package").unwrap_or_default(), candidate.version))
            .collect();
        if !wanted.is_empty() {
            run(self.apt("apt-get").arg("download").args(wanted).current_dir(self.directory.join("debs")))
                .context("downloading Debian packages")?;
        }
        Ok(())
    }

    /// Downloads `packages`, and what they depend on, for a system that has installed what `status` says; returns the
    /// directory in which they are.
    ///
    /// # Errors
    /// Fails when apt does, or a file cannot be written.
    pub fn fetch_beside(&self, status: &str, packages: &[&str]) -> Result<PathBuf> {
        let cache = self.directory.join("beside");
        let archives = cache.join("archives");
        // What an earlier system lacked is not what this one lacks.
        let _ = fs::remove_dir_all(&cache);
        fs::create_dir_all(archives.join("partial")).with_context(|| format!("creating {}", archives.display()))?;
        let installed = cache.join("status");
        fs::write(&installed, status).with_context(|| format!("writing {}", installed.display()))?;
        let mut command = self.apt("apt-get");
        command.arg("-o").arg(format!("Dir::State::Status={}", installed.display()));
        command.arg("-o").arg(format!("Dir::Cache={}", cache.display()));
        command.args(["-o", "APT::Install-Recommends=false", "install", "--download-only", "--assume-yes"]);
        run(command.args(packages)).with_context(|| format!("downloading {}", packages.join(", ")))?;
        Ok(archives)
    }

    /// The bytes of a fetched package.
    ///
    /// # Errors
    /// Fails when the file is absent or is not what the index names.
    pub fn read(&self, candidate: &Candidate) -> Result<Vec<u8>> {
        let path = self.path(candidate);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        if candidate.fields.get("SHA256") != Some(sha256_hex(&bytes).as_str()) {
            bail!("reading {}: it is not what the index names; remove it and try again", path.display());
        }
        Ok(bytes)
    }

    /// Where apt puts the file of a candidate.
    fn path(&self, candidate: &Candidate) -> PathBuf {
        let field = |name| candidate.fields.get(name).unwrap_or_default();
        let version = candidate.version.replace(':', "%3a");
        self.directory.join("debs").join(format!("{}_{version}_{}.deb", field("Package"), field("Architecture")))
    }

    fn write_sources(&self, suites: &[&str]) -> Result<()> {
        let lines: Vec<String> = suites.iter().map(|suite| self.source(suite) + "\n").collect();
        let path = self.directory.join("sources.list");
        let text = lines.concat();
        if fs::read_to_string(&path).is_ok_and(|current| current == text) {
            return Ok(());
        }
        // Other sources, other lists.
        let _ = fs::remove_file(self.stamp());
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    fn stamp(&self) -> PathBuf {
        self.directory.join("lists.stamp")
    }

    fn lists_are_young(&self) -> bool {
        let read = fs::metadata(self.stamp()).and_then(|metadata| metadata.modified());
        read.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age < LISTS_LAST))
    }

    fn update(&mut self, suites: &[&str]) -> Result<()> {
        if let Err(error) = run(self.apt("apt-get").arg("update")) {
            if !format!("{error:#}").contains("NO_PUBKEY") {
                return Err(error.context("reading the lists of Debian's archive"));
            }
            self.keyring = self.newer_keyring().context("getting the newer keys of Debian's archive")?;
            self.write_sources(suites)?;
            run(self.apt("apt-get").arg("update"))
                .context("reading the lists of Debian's archive with its newer keys")?;
        }
        fs::write(self.stamp(), "").context("noting when the lists were read")
    }

    /// The keys in the newest keyring package that the machine's own, verified sources have.
    fn newer_keyring(&self) -> Result<PathBuf> {
        let scratch = tempfile::tempdir()?;
        run(Command::new("apt-get").args(["download", "debian-archive-keyring"]).current_dir(&scratch))?;
        let package = fs::read_dir(&scratch)?.next().context("finding the downloaded keyring package")??.path();
        let deb = deb::read(&fs::read(&package)?)?;
        let keyring = deb.files.get(KEYRING).with_context(|| format!("finding {KEYRING} in {}", package.display()))?;
        // From Debian 13 on the name is a link to the one with the other ending.
        let target = match &keyring.content {
            Content::Symlink(target) => {
                deb.files.get(&format!("/usr/share/keyrings/{target}")).map(|file| &file.content)
            }
            content => Some(content),
        };
        let Some(Content::Regular(bytes)) = target else { bail!("reading {KEYRING}: it is no file") };
        let path = self.directory.join(NEWER_KEYRING);
        fs::write(&path, bytes.as_slice()).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// An apt program with everything that it keeps below the cache directory.
    fn apt(&self, program: &str) -> Command {
        let directory = self.directory.display();
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").arg("-qq");
        for option in [
            format!("Dir::Etc::SourceList={directory}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::Etc::Preferences=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={directory}/lists"),
            "Dir::State::Status=/dev/null".to_owned(),
            format!("Dir::Cache={directory}/cache"),
            "APT::Architecture=amd64".to_owned(),
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::GzipIndexes=false".to_owned(),
            "Acquire::Check-Valid-Until=false".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "Debug::NoLocking=true".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

impl Mirror {
    fn find() -> Result<Mirror> {
        if let Ok(main) = std::env::var("DEBIAN_MIRROR") {
            let main = main.trim_end_matches('/').to_owned();
            let security = std::env::var("DEBIAN_SECURITY_MIRROR").unwrap_or_else(|_| format!("{main}-security"));
            return Ok(Mirror { main, security });
        }
        let sites = run(Command::new("apt-get").args(["indextargets", "--format", "$(SITE)"])).unwrap_or_default();
        let ending = |end: &str| sites.lines().map(|site| site.trim_end_matches('/')).find(|site| site.ends_with(end));
        let Some(main) = ending("/debian") else {
            bail!(
                "finding Debian's archive: the sources of this machine's apt name none; set DEBIAN_MIRROR to the address \
                 of a mirror, as sources.list(5) has it"
            );
        };
        let security = ending("/debian-security").map_or_else(|| format!("{main}-security"), str::to_owned);
        Ok(Mirror { main: main.to_owned(), security })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_the_asked_suites_is_found() {
        let mut index = Index::default();
        index.add("stable", "Package: a\nVersion: 1.9-1\n\nPackage: b\nVersion: 1\n").unwrap();
        index.add("updates", "Package: a\nVersion: 1.10-1\n").unwrap();
        index.add("sid", "Package: a\nVersion: 2-1\n").unwrap();
        let suites = ["stable".to_owned(), "updates".to_owned()];
        assert_eq!(index.newest("a", &suites).unwrap().unwrap().version, "1.10-1");
        let versions = index.versions("a", &suites).unwrap();
        assert_eq!(versions.iter().map(|found| found.version.as_str()).collect::<Vec<_>>(), ["1.9-1", "1.10-1"]);
        assert!(index.newest("c", &suites).unwrap().is_none());
        assert!(index.contains("b", &suites) && !index.contains("b", &["sid".to_owned()]));
    }
}
