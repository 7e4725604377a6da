//! `ocinitrd update`: an image's lock, renewed from what its repositories have now; or the pin of its builder image.

mod builder;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::lock::context::BuildContext;
use crate::lock::ensure::{self, LockRequest};
use crate::lock::file::{Difference, Section};
use crate::lock::provision;
use crate::lock::resolve::{self, Renewal, Request};
use crate::names::PackageName;
use ocinitrd_format::architecture;
use ocinitrd_format::json;
use ocinitrd_support::progress::Progress;

use super::print;
use super::source_options::SourceOptions;

/// Renew the packages in an image's lock, or the pin of its builder image.
///
/// Without names all packages are renewed, with the newest kernel; kernels that were locked by their version stay. With names
/// only these packages and those that they force to change. Prints what was added, removed and changed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image: NAME for images/NAME.toml, or the path of a definition.
    #[arg(default_value = "fedora-44")]
    image: String,

    /// Packages to renew [default: all].
    #[arg(value_name = "PACKAGE")]
    packages: Vec<PackageName>,

    /// Renew the builder image instead of packages: pin the digest that its tag has now
    ///
    /// The new image is brought into the store and tried. The pin is replaced in the file that has it, be it the
    /// definition or one that it includes; nothing else in that file changes. Prints the digests and the versions of rpm
    /// and dnf before and after.
    #[arg(long, conflicts_with = "packages")]
    builder: bool,

    /// Print what would change, and leave lock and definition as they are; the store is filled all the same.
    #[arg(long)]
    dry_run: bool,

    /// Print the difference as JSON; sizes are in bytes.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    supply: SourceOptions,
}

/// Runs the command.
///
/// # Errors
/// Fails when there is no solution, a name is not in the lock, or what is needed cannot be had, read or written.
pub async fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    if arguments.builder {
        return builder::run(arguments, progress).await;
    }
    let context = arguments.supply.open_workshop(&arguments.image, progress)?;
    let mut lock = ensure::load(&context)?;
    let before = lock.arch.remove(architecture::native());
    let after = match &arguments.packages[..] {
        [] => renew_all(&context, before.as_ref()).await?,
        names => renew_some(&context, before.as_ref(), names).await?,
    };
    let difference = Difference::between(before.as_ref(), &after);
    let (path, is_same) = (context.lock_name(), before.as_ref() == Some(&after));
    if !is_same && !arguments.dry_run {
        ensure::save(&context, lock, after)?;
    }
    progress.note(&match (is_same, arguments.dry_run) {
        (true, _) => format!("{path}: there is nothing new, it stays as it is"),
        (_, true) => format!("{path}: would be written"),
        _ => format!("{path}: written"),
    });
    print(&difference, arguments.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what changed, as text or as JSON.
fn print(difference: &(impl Display + Serialize), as_json: bool) -> Result<()> {
    let text = if as_json {
        json::to_string(difference).context("writing the difference as JSON")?
    } else {
        difference.to_string()
    };
    print::print_line(&text)
}

/// Solves anew with what the repositories have now, and writes the lock if that changes it.
///
/// # Errors
/// Fails when there is no solution, and when what is needed cannot be had, read or written.
pub async fn renew(context: &BuildContext<'_>) -> Result<()> {
    let mut lock = ensure::load(context)?;
    let before = lock.arch.remove(architecture::native());
    let after = renew_all(context, before.as_ref()).await?;
    if before.as_ref() == Some(&after) { Ok(()) } else { ensure::save(context, lock, after) }
}

async fn renew_all(context: &BuildContext<'_>, before: Option<&Section>) -> Result<Section> {
    let kernels = match before {
        Some(before) if before.kernel(None).is_none() => BTreeSet::new(),
        _ => BTreeSet::from([None]),
    };
    let profiles = BTreeSet::new();
    let Request { profiles, .. } =
        ensure::request(context, before, &LockRequest { profiles, kernels: BTreeSet::new() });
    let kernels = if context.definition.kernel_packages.is_empty() { BTreeSet::new() } else { kernels };
    let resolving = context.resolve_context().await?;
    let mut after = resolve::resolve(&resolving, &Request { profiles, kernels }, None).await?;
    if let Some(before) = before {
        after.keep_kernels_by_version(before)?;
    }
    Ok(after)
}

async fn renew_some(context: &BuildContext<'_>, before: Option<&Section>, names: &[PackageName]) -> Result<Section> {
    let image = &context.definition.argument;
    let Some(before) = before else {
        bail!("the image {image} has no lock yet, so there is nothing to renew: run ocinitrd lock {image}");
    };
    let lacks = ensure::lacks(context, Some(before), &LockRequest::of(before))?;
    let added = ensure::additions(context, before, &lacks)?.unwrap_or_default();
    let names: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
    let is_covered = !added.is_empty() && added.iter().flatten().all(|name| names.contains(name));
    if !lacks.is_empty() && !is_covered {
        bail!("the lock of {image} is not fresh: {}; first run {}", lacks.reasons(), lacks.cure(image));
    }
    for name in names.iter().filter(|name| !added.iter().flatten().any(|one| one == *name)) {
        if !before.packages.iter().any(|package| package.name == *name) {
            bail!("the lock of {image} has no package {name}{}", nearest(before, name));
        }
    }
    // dnf reads from the rpms what must not change.
    provision::provide(context, before, &before.packages).await?;
    let resolving = context.resolve_context().await?;
    resolve::renew(&resolving, before, &Renewal { names, added }).await
}

fn nearest(section: &Section, name: &str) -> String {
    let names: BTreeSet<&str> = section.packages.iter().map(|package| package.name.as_str()).collect();
    let nearest = names.into_iter().map(|other| (strsim::damerau_levenshtein(name, other), other)).min();
    nearest
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, other)| format!("; did you mean {other}?"))
        .unwrap_or_default()
}
