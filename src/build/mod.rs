//! What an image's lock names to the outputs of a build.
//!
//! Enters: a [`Plan`], and a [`BuildContext`] with the definition it was made for. Leaves: the outputs, and the [`Manifest`] of
//! them. What an earlier build of the same inputs made is taken from the cache, so that a container runs only when
//! packages have to be solved for, verified or installed.

mod base;
mod cache_key;
mod kernels;
mod names;
mod outputs;
mod part;
mod plan;
mod prefetch;
mod previous;
mod prewrite;
pub(crate) mod rebuild;
mod stub;
mod unified;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Result;

use crate::container::engine::Cancellation;
use crate::image::manifest::Manifest;
use crate::lock::context::BuildContext;
use crate::lock::ensure::{self, LockMode};
use crate::lock::file::Section;
use base::Base;
use cache_key::Recipe;
use kernels::Kernel;
use ocinitrd_support::output;
use ocinitrd_support::progress;
pub use plan::{Format, Kernels, Plan, Request};
pub use previous::check as check_outputs;
use prewrite::Early;

/// A build under way: what is to be made, of what, and with what.
struct Build<'a> {
    context: BuildContext<'a>,
    plan: &'a Plan,
    section: Section,
    recipe: Recipe,
}

/// Makes the outputs of the plan, unless they are there as an earlier build wrote them, and says what they are.
///
/// # Errors
/// Fails when anything does; then no output was written and those of an earlier build are as they were.
pub async fn build(plan: &Plan, context: BuildContext<'_>, renewal: LockMode) -> Result<Manifest> {
    let mut section = ensure::provide(&context, &plan.needs(), renewal).await?;
    context.take_tools_of_this_place(&mut section).await?;
    let recipe = Recipe::new(plan, &section)?;
    names::check(plan, recipe.kernels.iter().map(|kernel| kernel.version.as_str()))?;
    if let Some(manifest) = previous::outputs(plan, &recipe, &context.results) {
        context.progress.note("nothing changed since the outputs were written");
        return Ok(manifest);
    }
    make(Build { context, plan, section, recipe }).await
}

async fn make(mut build: Build<'_>) -> Result<Manifest> {
    let (mut base, kernels) = provide(&build).await?;
    if base.firmware().is_some() && kernels.iter().any(|kernel| kernel.is_read_from_packages(build.plan)) {
        base.provide_tree(&build).await?;
    }
    // No container is needed any more; what follows does not wait, so it cannot be interrupted on its way.
    build.context.dismiss_builder();
    build.context.cancellation.check()?;
    let missing = missing_directories(&build.plan.output_directory);
    tokio::spawn(end_when_cancelled(build.context.cancellation.clone(), missing.clone()));
    let written = finish(&build, base, kernels).inspect_err(|_| unmake(&missing));
    if build.context.cancellation.check().is_err() {
        // The process is about to end; an error here only says that what was under way has been removed.
        std::future::pending::<()>().await;
    }
    written
}

/// Provides the base and the kernels: from the cache, or what they are made of. Whatever is used of it is read once more
/// to see that it is whole, and all of it at the same time.
async fn provide(build: &Build<'_>) -> Result<(Base, Vec<Kernel>)> {
    if let Some(found) = base::find(build) {
        let kernels = kernels::provide(build, found.firmware());
        let (segment, kernels) = tokio::try_join!(found.segment(build), kernels)?;
        return Ok((found.complete(build, segment).await?, kernels));
    }
    let base = base::install(build).await?;
    let kernels = kernels::provide(build, base.firmware()).await?;
    Ok((base, kernels))
}

/// What computes and writes. Outputs whose content is known are written while the modules of a kernel are selected.
fn finish(build: &Build<'_>, base: Base, kernels: Vec<Kernel>) -> Result<Manifest> {
    let base = base.finish(build)?;
    outputs::make_directory(build.plan)?;
    thread::scope(|scope| {
        let finish = |kernel: Kernel| {
            let kernel = kernel.read(build, &base)?;
            let early = Early::begin(scope, build, &base, &kernel)?;
            Ok((kernel.finish(build)?, early))
        };
        let kernels: Vec<_> = kernels.into_iter().map(finish).collect::<Result<_>>()?;
        outputs::write(build, &base, kernels)
    })
}

/// Ends the process at the first signal. What is under way is removed, with the directories that were `made` for it;
/// outputs that take their places do so first.
async fn end_when_cancelled(cancellation: Cancellation, made: Vec<PathBuf>) {
    let interrupted = cancellation.cancelled().await;
    tokio::task::block_in_place(output::abandon);
    unmake(&made);
    progress::print(format!("error: {interrupted}\n").as_bytes());
    std::process::exit(interrupted.exit_code().into());
}

/// The directory and those above it that have to be made, the lowest first.
fn missing_directories(directory: &Path) -> Vec<PathBuf> {
    let above = directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    above.map(Path::to_owned).collect()
}

/// Removes directories that were made for nothing. One stays if somebody else has put something there.
fn unmake(directories: &[PathBuf]) {
    let _ = directories.iter().try_for_each(fs::remove_dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_directories_that_were_made_for_outputs_go_again_unless_something_else_is_there() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("a/b/c");
        let missing = missing_directories(&directory);
        assert_eq!(missing.len(), 3);
        fs::create_dir_all(&directory).unwrap();
        unmake(&missing);
        assert!(!base.path().join("a").exists() && base.path().exists());
        fs::create_dir_all(&directory).unwrap();
        fs::write(base.path().join("a/note"), "").unwrap();
        unmake(&missing);
        assert!(base.path().join("a/note").exists() && !base.path().join("a/b").exists());
        assert_eq!(missing_directories(Path::new("no/such")), [Path::new("no/such"), Path::new("no")]);
    }
}
