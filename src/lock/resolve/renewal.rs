//! Some packages of a lock to newer ones, with what these force to change; the rest stays.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::kernels;
use super::sources;
use super::{Request, ResolveContext, acquire, builder, locked_packages, metadata_files, selections, solve};
use crate::container::steps::renew;
use crate::container::steps::solve::Set;
use crate::definition::dnf;
use crate::definition::{Repository, Selection};
use crate::lock::file::{Inputs, LockedPackage, Section};
use crate::lock::signatures;
use crate::packages::repository::Metadata;

/// What of a lock is to change.
#[derive(Clone, Debug, Default)]
pub struct Renewal {
    /// Packages that are renewed, in all sets that have them.
    pub names: BTreeSet<String>,
    /// Packages that are added to each set; none where nothing is added.
    pub added: Vec<BTreeSet<String>>,
}

impl Renewal {
    fn added(&self, set: usize) -> BTreeSet<String> {
        self.added.get(set).cloned().unwrap_or_default()
    }
}

/// Renews and adds packages in `before`, with what they force to change. The rpms of `before` are in the store.
///
/// # Errors
/// As [`resolve`](super::resolve).
pub async fn renew(context: &ResolveContext<'_>, before: &Section, renewal: &Renewal) -> Result<Section> {
    let selections = selections(context.definition, before.solutions.iter().map(|solution| &solution.profiles))?;
    let repositories = sources::with_variables(context.definition, &selections)?;
    let metadata = sources::fetch_metadata(context, &repositories, None).await?;
    let changes = changes(context, &repositories, &metadata, &selections, before, renewal).await?;
    let renews_kernel = context.definition.kernel_packages.iter().any(|package| renewal.names.contains(&**package));
    let kernels = if renews_kernel { BTreeSet::from([None]) } else { BTreeSet::new() };
    let request = Request { profiles: BTreeSet::new(), kernels };
    // Also tells the keys, and what the builder has.
    let mut solution = solve(context, &repositories, &metadata, &[], &request.kernels).await?;
    let come = changes.iter().enumerate();
    let come = come.map(|(set, change)| Set { packages: change.installed.clone(), requested: renewal.added(set) });
    solution.sets = come.collect();
    let acquired = acquire(context, &repositories, &metadata, &solution).await?;
    let mut after = before.clone();
    after.inputs = Inputs::of(context.definition, &before.profiles())?;
    after.builder = builder(context, solution.builder_tools.clone());
    if renews_kernel {
        after.kernels.retain(|kernel| kernel.by_version);
        after.kernels.extend(kernels::locked(&solution, &request, &acquired.packages, context.store)?);
    }
    after.take(&changes, locked_packages(&solution, &acquired));
    (after.repos, after.keys) = (acquired.repos, acquired.keys);
    Ok(after)
}

async fn changes(
    context: &ResolveContext<'_>,
    repositories: &BTreeMap<String, Repository>,
    metadata: &[Metadata],
    selections: &[Selection],
    before: &Section,
    renewal: &Renewal,
) -> Result<Vec<dnf::Change>> {
    let rpm_name = |package: &LockedPackage| signatures::rpm_file(&package.package(), context.store);
    let mut sets = Vec::new();
    for (position, (solution, selection)) in before.solutions.iter().zip(selections).enumerate() {
        let names = &renewal.names;
        let packages = before.packages(&solution.packages);
        sets.push(renew::Set {
            selection,
            installed: packages.iter().map(|package| rpm_name(package).0).collect(),
            names: packages.iter().map(|package| &package.name).filter(|name| names.contains(*name)).cloned().collect(),
            added: renewal.added(position),
        });
    }
    let request = renew::Request {
        definition: context.definition,
        repositories,
        metadata: &metadata_files(metadata, context.store),
        sets: &sets,
        rpms: &before.packages.iter().map(rpm_name).collect::<Vec<_>>(),
    };
    let stage = context.progress.stage("solving", None);
    let changes = renew::renew(context.builder, &request, context.progress).await?;
    stage.finish(&format!(
        "{} packages come",
        changes.iter().flat_map(|one| &one.installed).collect::<BTreeSet<_>>().len()
    ));
    Ok(changes)
}
