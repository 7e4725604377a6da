//! Everything that is installed, at hand on this host: metadata fetched, the set solved, rpms fetched and verified.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::definition::Repository;
use crate::dnf::Chosen;
use crate::download::{Downloader, Patience};
use crate::fetch::{self, BaseUrls};
use crate::format::digest::Digest;
use crate::progress::Progress;
use crate::repository::{self, Location, Metadata, Package, Source, Variables, substitute};
use crate::steps::solve::{self, Solution};
use crate::steps::verify;
use crate::store::Store;

use super::{Builder, Plan, Workshop};

/// The packages of a build; their rpms are in the store, and a key of the definition signed each of them.
#[derive(Debug)]
pub struct Inputs {
    /// The packages of the base, sorted by name.
    pub packages: Vec<Package>,
    /// The packages of the kernel, sorted by name.
    pub kernel_packages: Vec<Package>,
    /// The digests of the repositories' `repomd.xml`, by repository id.
    pub repositories: BTreeMap<String, Digest>,
    /// What the builder's rpm and dnf say of their versions, a line each.
    pub builder_tools: Vec<String>,
}

impl Inputs {
    /// When the newest package of the base was built, in seconds. The kernel's do not count: the base must not depend
    /// on the kernel.
    pub fn newest_build_time(&self) -> u64 {
        self.packages.iter().map(|package| package.build_time).max().unwrap_or(0)
    }
}

/// Fetches, solves and verifies.
///
/// # Errors
/// Fails when a repository or package cannot be had, dnf finds no solution, or a signature does not verify.
pub async fn provide(workshop: &Workshop<'_>, builder: &Builder) -> Result<Inputs> {
    let Workshop { plan, store, progress } = workshop;
    let variables = variables(plan);
    let repositories = with_variables(&plan.definition.repositories, &variables)?;
    let downloader = Downloader::new(Patience::default());
    let metadata = fetch_metadata(&repositories, store, &downloader, progress).await?;
    let solution = solve(workshop, builder, &repositories, &metadata).await?;
    let packages = look_up(&metadata, &solution.packages, store)?;
    let kernel_packages = look_up(&metadata, &solution.kernel_packages, store)?;
    let all: Vec<Package> = packages.iter().chain(&kernel_packages).cloned().collect();
    let base_urls: BaseUrls = metadata.iter().map(|one| (one.id.clone(), one.base_urls.clone())).collect();
    fetch::fetch(&all, &base_urls, store, &downloader, progress).await?;
    verify_signatures(workshop, builder, &repositories, &all).await?;
    Ok(Inputs {
        packages,
        kernel_packages,
        repositories: metadata.iter().map(|one| (one.id.clone(), one.repomd)).collect(),
        builder_tools: solution.builder_tools,
    })
}

/// The name of a package's rpm in a container, and where it lies on this host.
pub fn rpm_files(packages: &[Package], store: &Store) -> Vec<(String, PathBuf)> {
    packages.iter().map(|package| (format!("{}.rpm", package.nevra()), store.path(&package.checksum))).collect()
}

/// What may stand for other text in addresses and key paths.
fn variables(plan: &Plan) -> Variables {
    let architecture = std::env::consts::ARCH.to_owned();
    Variables::from([
        ("arch".to_owned(), architecture.clone()),
        ("basearch".to_owned(), architecture),
        ("releasever".to_owned(), plan.definition.releasever.clone()),
    ])
}

fn with_variables(
    repositories: &BTreeMap<String, Repository>,
    variables: &Variables,
) -> Result<BTreeMap<String, Repository>> {
    let mut substituted = repositories.clone();
    for (id, repository) in &mut substituted {
        let texts = repository
            .baseurl
            .iter_mut()
            .chain(&mut repository.gpg_keys)
            .chain(&mut repository.metalink)
            .chain(&mut repository.mirrorlist);
        for text in texts {
            *text = substitute(text, variables).with_context(|| format!("in [repos.{id}]"))?;
        }
    }
    Ok(substituted)
}

async fn fetch_metadata(
    repositories: &BTreeMap<String, Repository>,
    store: &Store,
    downloader: &Downloader,
    progress: &Progress,
) -> Result<Vec<Metadata>> {
    let mut metadata = Vec::new();
    for (id, repository) in repositories {
        let source = Source {
            id: id.clone(),
            location: location(repository),
            gpg_keys: repository.gpg_keys.clone(),
            repo_gpgcheck: repository.repo_gpgcheck,
            filelists: repository.filelists,
        };
        metadata.push(repository::fetch(&source, store, downloader, progress).await?);
    }
    Ok(metadata)
}

/// The definition was checked to give exactly one.
fn location(repository: &Repository) -> Location {
    match (&repository.metalink, &repository.mirrorlist) {
        (Some(url), _) => Location::Metalink(url.clone()),
        (_, Some(url)) => Location::MirrorList(url.clone()),
        _ => Location::BaseUrls(repository.baseurl.clone()),
    }
}

async fn solve(
    workshop: &Workshop<'_>,
    builder: &Builder,
    repositories: &BTreeMap<String, Repository>,
    metadata: &[Metadata],
) -> Result<Solution> {
    let Workshop { plan, store, progress } = workshop;
    let files: Vec<(String, String, PathBuf)> = metadata
        .iter()
        .flat_map(|one| one.files.iter().map(|file| (one.id.clone(), file.path.clone(), store.path(&file.digest))))
        .collect();
    let request = solve::Request {
        repositories,
        metadata: &files,
        releasever: &plan.definition.releasever,
        selection: &plan.selection,
        kernel_packages: &plan.definition.kernel_packages,
        kernel_version: plan.kernel_version.as_deref(),
    };
    let stage = progress.stage("solving", None);
    let solution = solve::solve(&builder.engine, &builder.image, &request, progress).await?;
    stage.finish(&format!("{} packages, {} of the kernel", solution.packages.len(), solution.kernel_packages.len()));
    Ok(solution)
}

/// What the metadata says of the packages that dnf chose by name.
fn look_up(metadata: &[Metadata], chosen: &BTreeSet<Chosen>, store: &Store) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for one in metadata {
        let wanted: BTreeSet<String> =
            chosen.iter().filter(|package| package.repository == one.id).map(|package| package.nevra.clone()).collect();
        if !wanted.is_empty() {
            packages.extend(one.packages(store, &wanted)?);
        }
    }
    if packages.len() != chosen.len() {
        bail!("dnf chose {} packages, the metadata lists {} of them", chosen.len(), packages.len());
    }
    packages.sort_by_key(|package| (package.name.clone(), package.nevra()));
    Ok(packages)
}

async fn verify_signatures(
    workshop: &Workshop<'_>,
    builder: &Builder,
    repositories: &BTreeMap<String, Repository>,
    packages: &[Package],
) -> Result<()> {
    let Workshop { store, progress, .. } = workshop;
    let stage = progress.stage("verifying signatures", None);
    verify::verify(&builder.engine, &builder.image, repositories, &rpm_files(packages, store), progress).await?;
    stage.finish(&format!("{} packages", packages.len()));
    Ok(())
}
