//! Some packages of a lock to newer ones, with what these force to change; the rest stays.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::{Request, Site, acquire, builder, kernels, locked_packages, metadata_files, solve, sources};
use crate::definition::Repository;
use crate::dnf;
use crate::lock::{LockedPackage, Section};
use crate::repository::Metadata;
use crate::signatures;
use crate::steps::renew;
use crate::steps::solve::Set;

/// Renews the packages `names` in all sets of `before`, and what they force to change. The rpms of `before` are in the store.
///
/// # Errors
/// As [`resolve`](super::resolve).
pub async fn renew(site: &Site<'_>, before: &Section, names: &BTreeSet<String>) -> Result<Section> {
    let repositories = sources::with_variables(site.definition)?;
    let metadata = sources::fetch_metadata(site, &repositories, None).await?;
    let changes = changes(site, &repositories, &metadata, before, names).await?;
    let renews_kernel = site.definition.kernel_packages.iter().any(|package| names.contains(&**package));
    let kernels = if renews_kernel { BTreeSet::from([None]) } else { BTreeSet::new() };
    let request = Request { profiles: BTreeSet::new(), kernels };
    // Also tells the keys, and what the builder has.
    let mut solution = solve(site, &repositories, &metadata, &request).await?;
    let come = changes.iter().map(|change| Set { packages: change.installed.clone(), requested: BTreeSet::new() });
    solution.sets = come.collect();
    let acquired = acquire(site, &repositories, &metadata, &solution).await?;
    let mut after = before.clone();
    after.builder = builder(site.image, solution.builder_tools.clone());
    if renews_kernel {
        after.kernels.retain(|kernel| kernel.by_version);
        after.kernels.extend(kernels::locked(&solution, &request, &acquired.packages, site.store)?);
    }
    after.take(&changes, locked_packages(&solution, &acquired));
    (after.repos, after.keys) = (acquired.repos, acquired.keys);
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
    let changes = renew::renew(site.builder, &request, site.progress).await?;
    stage.finish(&format!(
        "{} packages come",
        changes.iter().flat_map(|one| &one.installed).collect::<BTreeSet<_>>().len()
    ));
    Ok(changes)
}
