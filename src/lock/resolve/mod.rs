//! A definition and what its repositories have now to what is locked: solved, fetched, and verified.
//!
//! Enters: a definition, the sets of profiles and the kernels that are wanted, and maybe the lock that this adds to.
//! Leaves: a [`Section`]; the rpms that it names are in the store, and the key that it names signed each of them.

mod kernels;
mod renewal;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::container::engine::{self, Cancellation, Image};
use crate::container::steps::solve;
use crate::definition::dnf::Chosen;
use crate::definition::{Definition, Repository, Selection};
use crate::lock::file::{self, Builder, Inputs, Key, LockedPackage, Reason, Section, Solution};
use crate::lock::signatures;
use crate::packages::download::Downloader;
use crate::packages::fetch::{self, Wanted};
use crate::packages::identity;
use crate::packages::repository::{Metadata, Package};
use crate::packages::store::Store;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::openpgp::Fingerprint;
use ocinitrd_support::progress::Progress;
pub use renewal::{Renewal, renew};
pub use sources::places;

/// Where it happens.
#[derive(Clone, Copy)]
pub struct ResolveContext<'a> {
    /// The definition.
    pub definition: &'a Definition,
    /// What runs dnf and rpm.
    pub builder: &'a engine::Builder,
    /// The image whose containers do.
    pub image: &'a Image,
    /// The digest of the manifest that its registry has for this platform.
    pub platform_digest: Digest,
    /// The store.
    pub store: &'a Store,
    /// What fetches.
    pub downloader: &'a Downloader,
    /// Directories that may have rpm files.
    pub rpm_directories: &'a [PathBuf],
    /// Whether the run is to end.
    pub cancellation: &'a Cancellation,
    /// Who is told.
    pub progress: &'a Progress,
}

/// What is to be locked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// Sets of profiles; the empty one is the image alone.
    pub profiles: BTreeSet<BTreeSet<String>>,
    /// Kernels by version; none stands for the newest.
    pub kernels: BTreeSet<Option<String>>,
}

/// The repositories as a lock has them.
#[derive(Clone, Copy, Debug)]
pub struct State<'a> {
    /// Those that are taken so; others are taken as they are.
    pub repos: &'a BTreeMap<String, file::Repository>,
    /// What to do where one of them cannot be had so any more, for people.
    pub remedy: &'a str,
}

/// What dnf chose, had and verified.
struct Acquired {
    packages: Packages,
    repos: BTreeMap<String, file::Repository>,
    keys: BTreeMap<Fingerprint, Key>,
    /// The key that signed each package.
    signers: BTreeMap<String, Fingerprint>,
}

/// Solves, fetches and verifies. With `state` the repositories are taken as a lock has them.
///
/// # Errors
/// Fails when a repository, or the state of it that is wanted, or a package cannot be had, when dnf finds no solution,
/// and when a signature does not verify.
pub async fn resolve(context: &ResolveContext<'_>, request: &Request, state: Option<&State<'_>>) -> Result<Section> {
    let selections = selections(context.definition, &request.profiles)?;
    let repositories = sources::with_variables(context.definition, &selections)?;
    let metadata = sources::fetch_metadata(context, &repositories, state).await?;
    let solution = solve(context, &repositories, &metadata, &selections, &request.kernels).await?;
    let acquired = acquire(context, &repositories, &metadata, &solution).await?;
    Ok(Section {
        builder: builder(context, solution.builder_tools.clone()),
        inputs: Inputs::of(context.definition, &request.profiles.iter().flatten().cloned().collect())?,
        solutions: solutions(&solution, request, &acquired.packages),
        kernels: kernels::locked(&solution, request, &acquired.packages, context.store)?,
        packages: locked_packages(&solution, &acquired),
        repos: acquired.repos,
        keys: acquired.keys,
    })
}

/// What the image is with each of these sets of profiles.
fn selections<'p>(
    definition: &Definition,
    profiles: impl IntoIterator<Item = &'p BTreeSet<String>>,
) -> Result<Vec<Selection>> {
    profiles.into_iter().map(|profiles| definition.select(profiles)).collect()
}

/// Fetches what dnf chose, and verifies it.
async fn acquire(
    context: &ResolveContext<'_>,
    repositories: &BTreeMap<String, Repository>,
    metadata: &[Metadata],
    solution: &solve::Solution,
) -> Result<Acquired> {
    let packages = look_up(metadata, solution, context.store)?;
    let keys = sources::keys(repositories, &solution.keys, context.progress)?;
    let repos = sources::locked_repositories(context.definition, repositories, metadata, &keys);
    fetch(context, &repos, packages.values()).await?;
    let signers =
        signatures::signers(context.builder, packages.values(), &keys, context.store, context.progress).await?;
    let keys = sources::locked_keys(&keys);
    let packages = identity::described_by_headers(&packages.values().collect::<Vec<_>>(), context.store)?;
    let packages: Packages = packages.into_iter().map(|package| (package.nevra(), package)).collect();
    Ok(Acquired { packages, repos, keys, signers })
}

fn metadata_files(metadata: &[Metadata], store: &Store) -> Vec<(String, String, PathBuf)> {
    let files = |one: &Metadata| -> Vec<(String, String, PathBuf)> {
        one.files.iter().map(|file| (one.id.clone(), file.path.clone(), store.path(&file.digest))).collect()
    };
    metadata.iter().flat_map(files).collect()
}

/// The packages that dnf chose, by their `NAME-[EPOCH:]VERSION-RELEASE.ARCH`.
type Packages = BTreeMap<String, Package>;

fn builder(context: &ResolveContext<'_>, tools: Vec<String>) -> Builder {
    Builder {
        image: context.image.reference.clone(),
        digest: context.image.digest,
        platform_digest: context.platform_digest,
        tools,
    }
}

async fn solve(
    context: &ResolveContext<'_>,
    repositories: &BTreeMap<String, Repository>,
    metadata: &[Metadata],
    selections: &[Selection],
    kernels: &BTreeSet<Option<String>>,
) -> Result<solve::Solution> {
    // Metadata without a signature was vouched for by the lock.
    let mut repositories = repositories.clone();
    for one in metadata.iter().filter(|one| !one.files.iter().any(|file| file.kind == "signature")) {
        repositories.entry(one.id.clone()).and_modify(|repository| repository.repo_gpgcheck = false);
    }
    let kernels: Vec<Option<String>> = kernels.iter().cloned().collect();
    let solved = solve::Request {
        definition: context.definition,
        repositories: &repositories,
        metadata: &metadata_files(metadata, context.store),
        selections,
        kernels: &kernels,
    };
    let stage = context.progress.stage("solving", None);
    let solution = solve::solve(context.builder, &solved, context.progress).await?;
    sources::warn_of_refused_keys(&repositories, &solution.refused_keys, context.progress);
    let packages: BTreeSet<&Chosen> = solution.sets.iter().flat_map(|set| &set.packages).collect();
    let of_kernels: BTreeSet<&Chosen> = solution.kernels.iter().flatten().collect();
    stage.finish(&format!("{} packages, {} of the kernel", packages.len(), of_kernels.len()));
    Ok(solution)
}

/// What the metadata says of the packages that dnf chose by name.
fn look_up(metadata: &[Metadata], solution: &solve::Solution, store: &Store) -> Result<Packages> {
    let chosen: BTreeSet<&Chosen> =
        solution.sets.iter().flat_map(|set| &set.packages).chain(solution.kernels.iter().flatten()).collect();
    let mut packages = Packages::new();
    for one in metadata {
        let wanted: BTreeSet<String> =
            chosen.iter().filter(|package| package.repository == one.id).map(|package| package.nevra.clone()).collect();
        if !wanted.is_empty() {
            packages.extend(one.packages(store, &wanted)?.into_iter().map(|package| (package.nevra(), package)));
        }
    }
    ensure!(
        packages.len() == chosen.len(),
        "dnf chose {} packages, the metadata lists {} of them",
        chosen.len(),
        packages.len()
    );
    Ok(packages)
}

async fn fetch<'p>(
    context: &ResolveContext<'_>,
    repos: &BTreeMap<String, file::Repository>,
    packages: impl Iterator<Item = &'p Package>,
) -> Result<()> {
    let places = sources::places(context.definition, repos, context.rpm_directories);
    let wanted: Result<Vec<Wanted>> =
        packages.map(|package| Ok(Wanted { package: package.clone(), locations: places.of(package, None)? })).collect();
    let wanted = wanted?;
    let fetching =
        fetch::fetch(&wanted, &context.definition.argument, context.store, context.downloader, context.progress);
    context.cancellation.unless(fetching).await
}

fn nevras(chosen: &BTreeSet<Chosen>) -> BTreeSet<String> {
    chosen.iter().map(|package| package.nevra.clone()).collect()
}

fn solutions(solution: &solve::Solution, request: &Request, packages: &Packages) -> Vec<Solution> {
    let locked = |(profiles, set): (&BTreeSet<String>, &solve::Set)| {
        let nevras = nevras(&set.packages);
        let epoch = nevras.iter().map(|nevra| packages[nevra].build_time).max().unwrap_or_default();
        Solution { profiles: profiles.clone(), epoch, packages: nevras }
    };
    request.profiles.iter().zip(&solution.sets).map(locked).collect()
}

fn locked_packages(solution: &solve::Solution, acquired: &Acquired) -> Vec<LockedPackage> {
    let requested: BTreeSet<&String> = solution.sets.iter().flat_map(|set| &set.requested).collect();
    let of_kernels: BTreeSet<&String> = solution.kernels.iter().flatten().map(|chosen| &chosen.nevra).collect();
    let locked = |(nevra, package): (&String, &Package)| {
        let reason = match (requested.contains(&package.name), of_kernels.contains(nevra)) {
            (true, _) => Reason::User,
            (_, true) => Reason::Kernel,
            _ => Reason::Dependency,
        };
        LockedPackage::new(package, acquired.signers[nevra].clone(), reason)
    };
    let mut locked: Vec<LockedPackage> = acquired.packages.iter().map(locked).collect();
    locked.sort_by_key(|package| (package.name.clone(), package.nevra()));
    locked
}
