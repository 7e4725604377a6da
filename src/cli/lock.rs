//! `ocinitrd lock`: which packages an image is made from, to the bit.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;

use crate::definition::Definition;
use crate::lock::context::BuildContext;
use crate::lock::ensure::{self, LockMode, LockRequest};
use crate::names::KernelVersion;
use ocinitrd_format::architecture;
use ocinitrd_format::text::one_line;
use ocinitrd_support::progress::Progress;

use super::print;
use super::source_options::SourceOptions;

/// Solve for the packages of an image and write images/IMAGE.lock.
///
/// A lock that is fresh stays as it is. One that is out of date is renewed from the repositories as it knows them, so that no
/// package changes without need; `ocinitrd update` takes what is new. What the lock names is fetched, and its signatures are
/// verified.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image: NAME for images/NAME.toml, or the path of a definition.
    #[arg(default_value = "fedora-44")]
    image: String,

    /// Lock the packages for these profiles too; several are separated by commas.
    #[arg(long = "profile", value_name = "PROFILE", value_delimiter = ',')]
    profiles: Vec<String>,

    /// Lock this kernel too; may be repeated [default: the newest of the repositories].
    #[arg(short, long = "kernel-version", value_name = "KVER")]
    kernel_versions: Vec<KernelVersion>,

    /// Only say whether the lock is fresh, and which input of it changed; exit with 1 if it is not, with 2 if that cannot
    /// be told. Nothing is solved.
    #[arg(long)]
    pub check: bool,

    /// With --check: also ask the registry whether the tag of the builder image names another image by now; exit with 1 if
    /// it does
    #[arg(long, requires = "check")]
    builder: bool,

    #[command(flatten)]
    supply: SourceOptions,
}

/// Runs the command.
///
/// # Errors
/// Fails when there is no solution, or what is needed cannot be had, read or written.
pub async fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let context = arguments.supply.open_workshop(&arguments.image, progress)?;
    let needs = needs(&context.definition, &arguments.profiles, &arguments.kernel_versions)?;
    if arguments.check {
        let is_fresh = check(&context, &needs)?;
        let is_newest = !arguments.builder || check_builder(&context).await?;
        return Ok(if is_fresh && is_newest { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let path = context.lock_name();
    let section = ensure::provide(&context, &needs, LockMode::Written).await?;
    print::print_line(&format!(
        "{path}  {} packages, kernels: {}",
        section.packages.len(),
        one_line(&section.kernel_versions().join(", "))
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// What is needed of a lock for these profiles and kernels.
///
/// # Errors
/// Fails on a profile that the definition does not have.
pub fn needs(definition: &Definition, profiles: &[String], kernel_versions: &[KernelVersion]) -> Result<LockRequest> {
    let profiles = definition.added(profiles)?.into_iter().collect();
    let kernels = match kernel_versions {
        [] => BTreeSet::from([None]),
        versions => versions.iter().map(|version| Some(version.to_string())).collect(),
    };
    Ok(LockRequest { profiles, kernels })
}

/// Prints whether the lock is fresh, and returns it.
fn check(context: &BuildContext<'_>, needs: &LockRequest) -> Result<bool> {
    let lock = ensure::load(context)?;
    let lacks = ensure::lacks(context, lock.arch.get(architecture::native()), needs)?;
    let path = context.lock_name();
    if lacks.is_empty() {
        print::print_line(&format!("{path}: fresh"))?;
        return Ok(true);
    }
    let cure = lacks.cure(&context.definition.argument);
    print::print_line(&format!("{path}: not fresh: {}; to renew it: {cure}", one_line(&lacks.reasons())))?;
    Ok(false)
}

/// Prints whether the builder image is what its tag names now, and returns it.
async fn check_builder(context: &BuildContext<'_>) -> Result<bool> {
    let image = &context.definition.builder_image;
    if context.builder_reference()?.is_local() {
        print::print_line(&format!("{image}: made on this machine, no registry is asked"))?;
        return Ok(true);
    }
    let newest = context.newest_builder().await?;
    print::print_line(&match &newest {
        None => format!("{image}: the newest"),
        Some(newest) => format!(
            "{image}: not the newest, the tag names {} now; to renew it: ocinitrd update {} --builder",
            newest.digest(),
            context.definition.argument
        ),
    })?;
    Ok(newest.is_none())
}
