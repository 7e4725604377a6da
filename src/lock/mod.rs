//! `images/NAME.lock`: exactly which builder, repositories, keys and packages an image is made from.
//!
//! Enters: the text of a lock file, or what was solved. Leaves: a checked [`Lock`], or its text: TOML, sorted, made to be
//! read in a difference. One file an image, with a section for each architecture. A lock says the same wherever a
//! checkout lies: what is local is named relative to the definition's directory.

mod difference;
mod inputs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::dnf::Change;
use crate::format::digest::Digest;
use crate::format::openpgp::Fingerprint;
use crate::output::{MODE_PUBLIC, OutputFile, Outputs};
use crate::repository::Package;

pub use difference::Difference;
pub use inputs::{Changes, Inputs};

/// The version of the lock's form; raised when a reader of the old one would misread it.
pub const SCHEMA: u32 = 1;

const HEADER: &str = "# Made by ocinitrd from the definition beside it; not to be edited by hand.\n\
                      # To renew it: ocinitrd update IMAGE [PACKAGE...]\n";

/// A lock file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The image's name.
    pub image: String,
    /// What is locked, by architecture in rpm's spelling.
    #[serde(default)]
    pub arch: BTreeMap<String, Section>,
}

/// What is locked for one architecture.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// The container that solves and installs.
    pub builder: Builder,
    /// What it was made from.
    pub inputs: Inputs,
    /// The repositories by id.
    pub repos: BTreeMap<String, Repository>,
    /// The keys that sign packages and metadata.
    pub keys: BTreeMap<Fingerprint, Key>,
    /// The sets of packages, by profiles.
    #[serde(rename = "solution")]
    pub solutions: Vec<Solution>,
    /// The kernels, by version.
    #[serde(rename = "kernel", default)]
    pub kernels: Vec<Kernel>,
    /// Every package of every set and kernel, sorted by name and version.
    #[serde(rename = "package")]
    pub packages: Vec<LockedPackage>,
}

/// The builder image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Builder {
    /// As the definition pins it.
    pub image: String,
    /// The digest it is pinned by: of an index over platforms, or of one platform's manifest.
    pub digest: Digest,
    /// The digest of the manifest of this architecture.
    pub platform_digest: Digest,
    /// What its rpm and dnf say of their versions, a line each.
    pub tools: Vec<String>,
}

/// A repository as it was when it was locked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Where it was, the preferred first: an URL, or a directory relative to the definition's.
    pub base_urls: Vec<String>,
    /// Where packages stay that it has replaced since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// The digest of its `repomd.xml`, which vouches for its metadata.
    pub repomd: Digest,
    /// dnf's priority.
    pub priority: u32,
    /// Whether its metadata is signed.
    pub repo_gpgcheck: bool,
    /// The keys that may sign its packages.
    pub keys: BTreeSet<Fingerprint>,
}

/// A public key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Whose it is, as it says itself.
    pub user_ids: Vec<String>,
    /// The key.
    pub armored: String,
}

/// What dnf chose for one set of profiles.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Solution {
    /// The profiles, sorted; none for the image alone.
    pub profiles: BTreeSet<String>,
    /// When the newest package was built, in seconds since 1970-01-01 UTC: the time stamp of everything.
    pub epoch: u64,
    /// The packages as `NAME-[EPOCH:]VERSION-RELEASE.ARCH`.
    pub packages: BTreeSet<String>,
}

/// A kernel.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// What `uname -r` prints under it.
    pub version: String,
    /// Whether it was asked for by version; otherwise it is the newest of the repositories.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_version: bool,
    /// The packages as `NAME-[EPOCH:]VERSION-RELEASE.ARCH`.
    pub packages: BTreeSet<String>,
}

/// Why a package is in the lock.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The definition names it.
    User,
    /// It is part of a kernel.
    Kernel,
    /// Another package needs it.
    Dependency,
}

/// One rpm file, to the bit.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// The package's name.
    pub name: String,
    /// Its epoch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u32,
    /// Upstream's version.
    pub version: String,
    /// The distribution's release.
    pub release: String,
    /// `x86_64`, `noarch`, ...
    pub arch: String,
    /// The repository it comes from.
    pub repo: String,
    /// Where in the repository it is, or a whole URL.
    pub location: String,
    /// The digest of the rpm file.
    pub sha256: Digest,
    /// The size of the rpm file in bytes.
    pub size: u64,
    /// What it takes when installed, in bytes.
    pub installed_size: u64,
    /// When it was built, in seconds since 1970-01-01 UTC.
    pub build_time: u64,
    /// The file name of the source rpm.
    pub source_rpm: String,
    /// Its licence, as it states it.
    pub license: String,
    /// The key that signed it.
    pub key: Fingerprint,
    /// Why it is there.
    pub reason: Reason,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl LockedPackage {
    /// Locks `package`, signed by `key`.
    pub fn new(package: &Package, key: Fingerprint, reason: Reason) -> Self {
        let package = package.clone();
        LockedPackage {
            name: package.name,
            epoch: package.epoch,
            version: package.version,
            release: package.release,
            arch: package.arch,
            repo: package.repository,
            location: package.location,
            sha256: package.checksum,
            size: package.size_bytes,
            installed_size: package.installed_size_bytes,
            build_time: package.build_time,
            source_rpm: package.source_rpm,
            license: package.license,
            key,
            reason,
        }
    }

    /// The package as its repository described it.
    pub fn package(&self) -> Package {
        let locked = self.clone();
        Package {
            name: locked.name,
            epoch: locked.epoch,
            version: locked.version,
            release: locked.release,
            arch: locked.arch,
            repository: locked.repo,
            location: locked.location,
            checksum: locked.sha256,
            size_bytes: locked.size,
            installed_size_bytes: locked.installed_size,
            build_time: locked.build_time,
            source_rpm: locked.source_rpm,
            license: locked.license,
        }
    }

    /// `NAME-[EPOCH:]VERSION-RELEASE.ARCH`.
    pub fn nevra(&self) -> String {
        self.package().nevra()
    }
}

impl Section {
    /// The set of packages for exactly these profiles.
    pub fn solution(&self, profiles: &BTreeSet<String>) -> Option<&Solution> {
        self.solutions.iter().find(|solution| solution.profiles == *profiles)
    }

    /// The kernel of that version, or the newest one.
    pub fn kernel(&self, version: Option<&str>) -> Option<&Kernel> {
        self.kernels.iter().find(|kernel| version.map_or(!kernel.by_version, |version| kernel.version == version))
    }

    /// The versions of all kernels.
    pub fn kernel_versions(&self) -> Vec<&str> {
        self.kernels.iter().map(|kernel| kernel.version.as_str()).collect()
    }

    /// The packages of `nevras`, which this section names, sorted by name.
    pub fn packages(&self, nevras: &BTreeSet<String>) -> Vec<&LockedPackage> {
        self.packages.iter().filter(|package| nevras.contains(&package.nevra())).collect()
    }

    /// The profiles of all sets.
    pub fn profiles(&self) -> BTreeSet<String> {
        self.solutions.iter().flat_map(|solution| &solution.profiles).cloned().collect()
    }

    /// Adds the kernels that `before` has by their version, with their packages.
    ///
    /// # Errors
    /// Fails when this section lacks the repository or key of one of these packages.
    pub fn keep_kernels_by_version(&mut self, before: &Section) -> Result<()> {
        for kernel in before.kernels.iter().filter(|kernel| kernel.by_version) {
            self.kernels.push(kernel.clone());
            let known: BTreeSet<String> = self.packages.iter().map(LockedPackage::nevra).collect();
            let missing = before.packages(&kernel.packages).into_iter().filter(|one| !known.contains(&one.nevra()));
            self.packages.extend(missing.cloned());
        }
        self.sort();
        self.check().context("keeping the kernels that were locked by their version")
    }

    /// Lets packages come and go: `changes` are those of each set, `come` describes what comes.
    pub fn take(&mut self, changes: &[Change], come: Vec<LockedPackage>) {
        for (solution, change) in self.solutions.iter_mut().zip(changes) {
            solution.packages.retain(|nevra| !change.removed.contains(nevra));
            solution.packages.extend(change.installed.iter().map(|chosen| chosen.nevra.clone()));
        }
        for mut package in come {
            let known = self.packages.iter().position(|one| one.nevra() == package.nevra());
            // What was asked for by name is so still.
            if let Some(earlier) = self.packages.iter().find(|one| one.name == package.name) {
                package.reason = earlier.reason;
            }
            known.map(|position| self.packages.remove(position));
            self.packages.push(package);
        }
        self.sort();
        for position in 0..self.solutions.len() {
            let packages = self.packages(&self.solutions[position].packages);
            let newest = packages.iter().map(|package| package.build_time).max();
            self.solutions[position].epoch = newest.unwrap_or(0);
        }
    }

    /// Puts everything into the order in which it is written, and drops packages that nothing names.
    pub fn sort(&mut self) {
        let named: BTreeSet<String> = self.named().cloned().collect();
        self.packages.retain(|package| named.contains(&package.nevra()));
        self.packages.sort_by_key(|package| (package.name.clone(), package.nevra()));
        self.kernels.sort_by_key(|kernel| (kernel.version.clone(), kernel.by_version));
        self.solutions.sort_by_key(|solution| solution.profiles.clone());
    }

    fn check(&self) -> Result<()> {
        let mut unused: BTreeSet<String> = self.packages.iter().map(LockedPackage::nevra).collect();
        ensure!(unused.len() == self.packages.len(), "a package is listed twice");
        let known = unused.clone();
        for nevra in self.named() {
            ensure!(known.contains(nevra), "{nevra} is named, but not described as a package");
            unused.remove(nevra);
        }
        if let Some(nevra) = unused.first() {
            bail!("no solution and no kernel names the package {nevra}");
        }
        for package in &self.packages {
            let nevra = package.nevra();
            let repository = self.repos.get(&package.repo);
            let repository = repository
                .with_context(|| format!("{nevra} is of the repository {}, which is not described", package.repo))?;
            ensure!(
                repository.keys.contains(&package.key),
                "{nevra} is signed by {}, which is no key of its repository {}",
                package.key,
                package.repo
            );
        }
        for key in self.repos.values().flat_map(|repository| &repository.keys) {
            ensure!(self.keys.contains_key(key), "the key {key} is named, but not there");
        }
        self.solutions.iter().try_for_each(|solution| self.check_epoch(solution))
    }

    fn named(&self) -> impl Iterator<Item = &String> {
        let of_solutions = self.solutions.iter().flat_map(|solution| &solution.packages);
        of_solutions.chain(self.kernels.iter().flat_map(|kernel| &kernel.packages))
    }

    fn check_epoch(&self, solution: &Solution) -> Result<()> {
        let newest = self.packages(&solution.packages).iter().map(|package| package.build_time).max();
        ensure!(
            newest == Some(solution.epoch),
            "a solution has the epoch {}, its newest package is of {}",
            solution.epoch,
            newest.unwrap_or(0)
        );
        Ok(())
    }
}

impl Lock {
    /// A lock of nothing yet.
    pub fn new(image: &str) -> Lock {
        Lock { schema: SCHEMA, image: image.to_owned(), arch: BTreeMap::new() }
    }

    /// Reads the text of a lock.
    ///
    /// # Errors
    /// Fails on a lock of another schema, and on one that was damaged or edited so that it contradicts itself.
    pub fn parse(text: &str) -> Result<Lock> {
        #[derive(Deserialize)]
        struct Schema {
            schema: u32,
        }
        let Schema { schema } = toml::from_str(text)?;
        ensure!(
            schema == SCHEMA,
            "it has schema {schema}, this ocinitrd ({}) reads schema {SCHEMA}: use the version that wrote it",
            env!("CARGO_PKG_VERSION")
        );
        let lock: Lock = toml::from_str(text)?;
        for (arch, section) in &lock.arch {
            section.check().with_context(|| format!("it contradicts itself in [arch.{arch}]"))?;
        }
        Ok(lock)
    }

    /// Reads the lock at `path` of the image `image`; none if there is no such file.
    ///
    /// # Errors
    /// As [`Lock::parse`]; and when the file cannot be read or is another image's.
    pub fn load(path: &Path, image: &str) -> Result<Option<Lock>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        let advice = || {
            format!(
                "reading {}, which is made by ocinitrd and not to be edited (take the last good one from version control, \
                 or remove it and run: ocinitrd lock {image})",
                path.display()
            )
        };
        let lock = Lock::parse(&text).with_context(advice)?;
        ensure!(lock.image == image, "{} is the lock of the image {}, not of {image}", path.display(), lock.image);
        Ok(Some(lock))
    }

    /// The lock's text.
    ///
    /// # Errors
    /// Fails only where a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        Ok(HEADER.to_owned() + &toml::to_string_pretty(self).context("writing the lock as TOML")?)
    }

    /// Writes the lock to `path`, whole or not at all.
    ///
    /// # Errors
    /// Fails when the file cannot be written; what was there is there still.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut file = OutputFile::create(path, MODE_PUBLIC)?;
        file.write_all(self.to_toml()?.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
        let mut outputs = Outputs::new();
        outputs.add_file(file)?;
        outputs.commit()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
