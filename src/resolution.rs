//! A definition and what its repositories have now to what is locked: solved, fetched, and verified.
//!
//! Enters: a definition, the sets of profiles and the kernels that are wanted, and maybe the lock that this adds to.
//! Leaves: a [`Section`]; the rpms that it names are in the store, and the key that it names signed each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::definition::{Definition, Repository};
use crate::dnf::{self, Chosen};
use crate::download::Downloader;
use crate::engine::{Cancellation, Engine, Image};
use crate::fetch::{self, Places, Wanted};
use crate::format::digest::Digest;
use crate::format::openpgp::{Fingerprint, PublicKey};
use crate::lock::{Builder, Inputs, Kernel, Key, LockedPackage, Reason, Section, Solution};
use crate::progress::Progress;
use crate::repository::{self, Location, Metadata, Package, Source, Variables, substitute};
use crate::rpm_package::RpmPackage;
use crate::signatures;
use crate::steps::{renew, solve};
use crate::store::Store;

/// Where it happens.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The definition.
    pub definition: &'a Definition,
    /// The engine.
    pub engine: &'a Engine,
    /// The builder image.
    pub image: &'a Image,
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

/// Solves, fetches and verifies. With `state` the repositories are taken as that lock has them.
///
/// # Errors
/// Fails when a repository, or the state of it that is wanted, or a package cannot be had, when dnf finds no solution,
/// and when a signature does not verify.
pub async fn resolve(site: &Site<'_>, request: &Request, state: Option<&Section>) -> Result<Section> {
    let repositories = with_variables(site.definition)?;
    let metadata = fetch_metadata(site, &repositories, state).await?;
    let solution = solve(site, &repositories, &metadata, request).await?;
    let keys = keys(&repositories, &solution.keys)?;
    let packages = look_up(&metadata, &solution, site.store)?;
    let repos = locked_repositories(site.definition, &repositories, &metadata, &keys);
    fetch(site, &repos, packages.values()).await?;
    let signers = signatures::signers(packages.values(), &keys, site.store)?;
    let keys = locked_keys(&keys);
    let signed: Vec<(&Package, &Fingerprint)> = packages.values().zip(signers.values()).collect();
    signatures::verify(site.engine, site.image, &keys, &signed, site.store, site.progress).await?;
    let kernels = kernels_of(&solution, request, &packages, site.store)?;
    Ok(Section {
        builder: builder(site.image, solution.builder_tools.clone()),
        inputs: Inputs::of(site.definition, &request.profiles.iter().flatten().cloned().collect())?,
        repos,
        keys,
        solutions: solutions(&solution, request, &packages),
        kernels,
        packages: locked_packages(&solution, &packages, &signers),
    })
}

/// Renews the packages `names` in all sets of `before`, and what they force to change. The rpms of `before` are in the store.
///
/// # Errors
/// As [`resolve`].
pub async fn renew(site: &Site<'_>, before: &Section, names: &BTreeSet<String>) -> Result<Section> {
    let repositories = with_variables(site.definition)?;
    let metadata = fetch_metadata(site, &repositories, None).await?;
    let changes = changes(site, &repositories, &metadata, before, names).await?;
    let renews_kernel = site.definition.kernel_packages.iter().any(|package| names.contains(package));
    let kernels = if renews_kernel { BTreeSet::from([None]) } else { BTreeSet::new() };
    let request = Request { profiles: BTreeSet::new(), kernels };
    // Also tells the keys, and what the builder has.
    let mut solution = solve(site, &repositories, &metadata, &request).await?;
    let come =
        changes.iter().map(|change| solve::Set { packages: change.installed.clone(), requested: BTreeSet::new() });
    solution.sets = come.collect();
    let packages = look_up(&metadata, &solution, site.store)?;
    let keys = keys(&repositories, &solution.keys)?;
    let repos = locked_repositories(site.definition, &repositories, &metadata, &keys);
    fetch(site, &repos, packages.values()).await?;
    let signers = signatures::signers(packages.values(), &keys, site.store)?;
    let keys = locked_keys(&keys);
    let signed: Vec<(&Package, &Fingerprint)> = packages.values().zip(signers.values()).collect();
    signatures::verify(site.engine, site.image, &keys, &signed, site.store, site.progress).await?;
    let mut after =
        Section { repos, keys, builder: builder(site.image, solution.builder_tools.clone()), ..before.clone() };
    if renews_kernel {
        after.kernels.retain(|kernel| kernel.by_version);
        after.kernels.extend(kernels_of(&solution, &request, &packages, site.store)?);
    }
    after.take(&changes, locked_packages(&solution, &packages, &signers));
    Ok(after)
}

async fn changes(
    site: &Site<'_>,
    repositories: &BTreeMap<String, Repository>,
    metadata: &[Metadata],
    before: &Section,
    names: &BTreeSet<String>,
) -> Result<Vec<dnf::Change>> {
    let mut selections = Vec::new();
    for solution in &before.solutions {
        selections.push(site.definition.select(&solution.profiles)?);
    }
    let rpm_name = |package: &LockedPackage| signatures::rpm_file(&package.package(), site.store);
    let mut sets = Vec::new();
    for (solution, selection) in before.solutions.iter().zip(&selections) {
        let packages = before.packages(&solution.packages);
        sets.push(renew::Set {
            selection,
            installed: packages.iter().map(|package| rpm_name(package).0).collect(),
            names: packages.iter().map(|package| &package.name).filter(|name| names.contains(*name)).cloned().collect(),
        });
    }
    let request = renew::Request {
        definition: site.definition,
        repositories,
        metadata: &metadata_files(metadata, site.store),
        sets: &sets,
        rpms: &before.packages.iter().map(rpm_name).collect::<Vec<_>>(),
    };
    let stage = site.progress.stage("solving", None);
    let changes = renew::renew(site.engine, site.image, &request, site.progress).await?;
    stage.finish(&format!(
        "{} packages come",
        changes.iter().flat_map(|one| &one.installed).collect::<BTreeSet<_>>().len()
    ));
    Ok(changes)
}

fn metadata_files(metadata: &[Metadata], store: &Store) -> Vec<(String, String, PathBuf)> {
    let files = |one: &Metadata| -> Vec<(String, String, PathBuf)> {
        one.files.iter().map(|file| (one.id.clone(), file.path.clone(), store.path(&file.digest))).collect()
    };
    metadata.iter().flat_map(files).collect()
}

/// The packages that dnf chose, by their `NAME-[EPOCH:]VERSION-RELEASE.ARCH`.
type Packages = BTreeMap<String, Package>;

/// The keys of each repository, by its id.
pub type Keys = BTreeMap<String, Vec<PublicKey>>;

fn builder(image: &Image, tools: Vec<String>) -> Builder {
    Builder {
        image: image.reference.clone(),
        digest: image.digest,
        platform_digest: image.platform_digest.unwrap_or(image.digest),
        tools,
    }
}

/// What may stand for other text in addresses and key paths.
fn variables(definition: &Definition) -> Variables {
    let architecture = std::env::consts::ARCH.to_owned();
    Variables::from([
        ("arch".to_owned(), architecture.clone()),
        ("basearch".to_owned(), architecture),
        ("releasever".to_owned(), definition.releasever.clone()),
    ])
}

fn with_variables(definition: &Definition) -> Result<BTreeMap<String, Repository>> {
    let variables = variables(definition);
    let mut substituted = definition.repositories.clone();
    for (id, repository) in &mut substituted {
        let texts = repository
            .baseurl
            .iter_mut()
            .chain(&mut repository.gpg_keys)
            .chain(&mut repository.metalink)
            .chain(&mut repository.mirrorlist);
        for text in texts {
            *text = substitute(text, &variables).with_context(|| format!("in [repos.{id}]"))?;
        }
    }
    Ok(substituted)
}

async fn fetch_metadata(
    site: &Site<'_>,
    repositories: &BTreeMap<String, Repository>,
    state: Option<&Section>,
) -> Result<Vec<Metadata>> {
    let mut metadata = Vec::new();
    for (id, repository) in repositories {
        let locked = state.and_then(|state| state.repos.get(id));
        let source = Source {
            id: id.clone(),
            location: location(site.definition, repository, locked),
            // The lock vouches for an earlier state, whose signature is not kept.
            repo_gpgcheck: repository.repo_gpgcheck && locked.is_none(),
            pinned: locked.map(|locked| locked.repomd),
            filelists: repository.filelists,
        };
        let fetching = repository::fetch(&source, site.store, site.downloader, site.progress);
        let fetched = site.cancellation.unless(fetching).await;
        let fetched = match locked {
            None => fetched,
            Some(_) => fetched.with_context(|| {
                format!(
                    "the repository {id} has changed since the lock was made, so nothing can be added to it; renew all of it \
                     with: ocinitrd update {}",
                    site.definition.name
                )
            }),
        };
        metadata.push(fetched?);
    }
    Ok(metadata)
}

/// The definition was checked to give exactly one; a lock knows where it was.
fn location(definition: &Definition, repository: &Repository, locked: Option<&crate::lock::Repository>) -> Location {
    let base_urls = |urls: &[String]| Location::BaseUrls(urls.iter().map(|url| definition.base_url(url)).collect());
    match (locked, &repository.metalink, &repository.mirrorlist) {
        (Some(locked), ..) => base_urls(&locked.base_urls),
        (_, Some(url), _) => Location::Metalink(url.clone()),
        (_, _, Some(url)) => Location::MirrorList(url.clone()),
        _ => base_urls(&repository.baseurl),
    }
}

async fn solve(
    site: &Site<'_>,
    repositories: &BTreeMap<String, Repository>,
    metadata: &[Metadata],
    request: &Request,
) -> Result<solve::Solution> {
    // Metadata without a signature was vouched for by the lock.
    let mut repositories = repositories.clone();
    for one in metadata.iter().filter(|one| !one.files.iter().any(|file| file.kind == "signature")) {
        repositories.entry(one.id.clone()).and_modify(|repository| repository.repo_gpgcheck = false);
    }
    let selections: Result<Vec<_>> = request.profiles.iter().map(|profiles| site.definition.select(profiles)).collect();
    let kernels: Vec<Option<String>> = request.kernels.iter().cloned().collect();
    let solved = solve::Request {
        definition: site.definition,
        repositories: &repositories,
        metadata: &metadata_files(metadata, site.store),
        selections: &selections?,
        kernels: &kernels,
    };
    let stage = site.progress.stage("solving", None);
    let solution = solve::solve(site.engine, site.image, &solved, site.progress).await?;
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

/// The keys of each repository, in the files that its definition names.
fn keys(repositories: &BTreeMap<String, Repository>, files: &BTreeMap<String, Vec<u8>>) -> Result<Keys> {
    let mut keys = Keys::new();
    for (id, repository) in repositories {
        let found: &mut Vec<PublicKey> = keys.entry(id.clone()).or_default();
        for (position, name) in repository.gpg_keys.iter().enumerate() {
            let reading = || format!("reading the key {name} of [repos.{id}]");
            let text = files.get(&dnf::key_file_name(id, position)).with_context(reading)?;
            found.extend(PublicKey::parse_all(text).with_context(reading)?);
        }
    }
    Ok(keys)
}

fn locked_keys(keys: &Keys) -> BTreeMap<Fingerprint, Key> {
    let keys = keys.values().flatten();
    keys.map(|key| (key.fingerprint.clone(), Key { user_ids: key.user_ids.clone(), armored: key.armored.clone() }))
        .collect()
}

fn locked_repositories(
    definition: &Definition,
    repositories: &BTreeMap<String, Repository>,
    metadata: &[Metadata],
    keys: &Keys,
) -> BTreeMap<String, crate::lock::Repository> {
    let locked = |one: &Metadata| {
        let repository = &repositories[&one.id];
        let local = |url: &String| {
            let written = repository.baseurl.iter().find(|baseurl| definition.base_url(baseurl) == *url);
            written.unwrap_or(url).clone()
        };
        crate::lock::Repository {
            // The first had the metadata; a few more are enough to fall back to.
            base_urls: one.base_urls.iter().take(BASE_URLS_MAX).map(local).collect(),
            archive: repository.archive.clone(),
            repomd: one.repomd,
            priority: repository.priority,
            repo_gpgcheck: repository.repo_gpgcheck,
            keys: keys[&one.id].iter().map(|key| key.fingerprint.clone()).collect(),
        }
    };
    metadata.iter().map(|one| (one.id.clone(), locked(one))).collect()
}

/// How many mirrors a lock names for each repository.
const BASE_URLS_MAX: usize = 5;

async fn fetch<'p>(
    site: &Site<'_>,
    repos: &BTreeMap<String, crate::lock::Repository>,
    packages: impl Iterator<Item = &'p Package>,
) -> Result<()> {
    let places = places(site.definition, repos, site.rpm_directories);
    let wanted: Result<Vec<Wanted>> =
        packages.map(|package| Ok(Wanted { package: package.clone(), locations: places.of(package, None)? })).collect();
    let wanted = wanted?;
    let fetching = fetch::fetch(&wanted, &site.definition.name, site.store, site.downloader, site.progress);
    site.cancellation.unless(fetching).await
}

/// Where the rpms of locked repositories may be.
pub fn places(
    definition: &Definition,
    repos: &BTreeMap<String, crate::lock::Repository>,
    rpm_directories: &[PathBuf],
) -> Places {
    let base_urls = |repository: &crate::lock::Repository| -> Vec<String> {
        repository.base_urls.iter().map(|url| definition.base_url(url)).collect()
    };
    Places {
        directories: rpm_directories.to_vec(),
        base_urls: repos.iter().map(|(id, repository)| (id.clone(), base_urls(repository))).collect(),
        archives: repos.iter().filter_map(|(id, repository)| Some((id.clone(), repository.archive.clone()?))).collect(),
    }
}

fn nevras(chosen: &BTreeSet<Chosen>) -> BTreeSet<String> {
    chosen.iter().map(|package| package.nevra.clone()).collect()
}

fn solutions(solution: &solve::Solution, request: &Request, packages: &Packages) -> Vec<Solution> {
    let locked = |(profiles, set): (&BTreeSet<String>, &solve::Set)| {
        let nevras = nevras(&set.packages);
        let epoch = nevras.iter().map(|nevra| packages[nevra].build_time).max().unwrap_or(0);
        Solution { profiles: profiles.clone(), epoch, packages: nevras }
    };
    request.profiles.iter().zip(&solution.sets).map(locked).collect()
}

/// The kernels with their versions, which the files of their packages tell.
fn kernels_of(
    solution: &solve::Solution,
    request: &Request,
    packages: &Packages,
    store: &Store,
) -> Result<Vec<Kernel>> {
    let mut kernels = Vec::new();
    for (wanted, chosen) in request.kernels.iter().zip(&solution.kernels) {
        if chosen.is_empty() {
            continue;
        }
        let digests = chosen.iter().map(|one| packages[&one.nevra].checksum);
        let version = kernel_version(digests, store)?;
        kernels.push(Kernel { version, by_version: wanted.is_some(), packages: nevras(chosen) });
    }
    kernels.sort_by(|one, other| (&one.version, one.by_version).cmp(&(&other.version, other.by_version)));
    Ok(kernels)
}

/// What `uname -r` prints under the kernel that these rpms are: the one directory that its image and modules lie in.
fn kernel_version(digests: impl Iterator<Item = Digest>, store: &Store) -> Result<String> {
    let (mut found, mut has_image) = (BTreeSet::new(), false);
    for digest in digests {
        let package = RpmPackage::open(&store.path(&digest))?;
        for (version, file) in package.files.iter().filter_map(|file| kernel_file(&file.path)) {
            found.insert(version.to_owned());
            has_image |= file == "vmlinuz";
        }
    }
    let versions: Vec<&str> = found.iter().map(String::as_str).collect();
    match versions[..] {
        [version] if has_image => Ok(version.to_owned()),
        [] | [_] => bail!(
            "the packages of [kernel] packages hold no kernel image (/lib/modules/KVER/vmlinuz): name the one that does"
        ),
        _ => bail!(
            "the packages of [kernel] packages hold several kernels: {}; name packages of one kernel only",
            versions.join(", ")
        ),
    }
}

/// The kernel that a file belongs to, and its path below the kernel's directory.
fn kernel_file(path: &[u8]) -> Option<(&str, &str)> {
    let path = std::str::from_utf8(path).ok()?;
    path.strip_prefix("/usr").unwrap_or(path).strip_prefix("/lib/modules/")?.split_once('/')
}

fn locked_packages(
    solution: &solve::Solution,
    packages: &Packages,
    signers: &BTreeMap<String, Fingerprint>,
) -> Vec<LockedPackage> {
    let requested: BTreeSet<&String> = solution.sets.iter().flat_map(|set| &set.requested).collect();
    let of_kernels: BTreeSet<&String> = solution.kernels.iter().flatten().map(|chosen| &chosen.nevra).collect();
    let locked = |(nevra, package): (&String, &Package)| {
        let reason = match (requested.contains(&package.name), of_kernels.contains(nevra)) {
            (true, _) => Reason::User,
            (_, true) => Reason::Kernel,
            _ => Reason::Dependency,
        };
        LockedPackage::new(package, signers[nevra].clone(), reason)
    };
    let mut locked: Vec<LockedPackage> = packages.iter().map(locked).collect();
    locked.sort_by_key(|package| (package.name.clone(), package.nevra()));
    locked
}
