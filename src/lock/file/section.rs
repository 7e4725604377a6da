//! What is locked for one architecture: builder, repositories, keys, sets of packages, and kernels.
//!
//! A section names each package by its `NAME-[EPOCH:]VERSION-RELEASE.ARCH`, and describes it once.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::inputs::Inputs;
use super::package::LockedPackage;
use crate::definition::dnf::Change;
use crate::definition::{none_one_or_many, one_or_many};
use crate::names::{KernelVersion, ProfileName, RepositoryId, check_address};
use ocinitrd_format::digest::Digest;
use ocinitrd_format::openpgp::Fingerprint;
use ocinitrd_format::time::Timestamp;

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
    /// Where packages stay that it has replaced since, the preferred place first.
    #[serde(
        default,
        deserialize_with = "one_or_many",
        serialize_with = "none_one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub archive: Vec<String>,
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
    pub epoch: Timestamp,
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
            self.solutions[position].epoch = newest.unwrap_or_default();
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

    pub(super) fn check(&self) -> Result<()> {
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
        self.check_grammar()?;
        let build_times = self.packages.iter().map(|package| (package.nevra(), package.build_time)).collect();
        self.solutions.iter().try_for_each(|solution| check_epoch(solution, &build_times))
    }

    /// What becomes an argument of a program, the name of a file or an address is what that may be: whoever wrote the lock.
    fn check_grammar(&self) -> Result<()> {
        for package in &self.packages {
            package.package().check().with_context(|| format!("reading the package {:?}", package.nevra()))?;
        }
        for (id, repository) in &self.repos {
            id.parse::<RepositoryId>()?;
            let base_urls = repository.base_urls.iter().try_for_each(|url| check_address(url, true));
            let archive = repository.archive.iter().try_for_each(|url| check_address(url, false));
            base_urls.and(archive).with_context(|| format!("reading the repository {id}"))?;
        }
        for kernel in &self.kernels {
            kernel.version.parse::<KernelVersion>()?;
        }
        for profile in self.solutions.iter().flat_map(|solution| &solution.profiles) {
            profile.parse::<ProfileName>()?;
        }
        Ok(())
    }

    fn named(&self) -> impl Iterator<Item = &String> {
        let of_solutions = self.solutions.iter().flat_map(|solution| &solution.packages);
        of_solutions.chain(self.kernels.iter().flat_map(|kernel| &kernel.packages))
    }
}

fn check_epoch(solution: &Solution, build_times: &BTreeMap<String, Timestamp>) -> Result<()> {
    let newest = solution.packages.iter().filter_map(|nevra| build_times.get(nevra)).max().copied();
    ensure!(
        newest == Some(solution.epoch),
        "a solution has the epoch {}, its newest package is of {}",
        solution.epoch,
        newest.unwrap_or_default()
    );
    Ok(())
}
