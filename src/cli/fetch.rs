//! `ocinitrd fetch`: all that a lock names into the store, verified.

use std::process::ExitCode;

use anyhow::Result;

use crate::lock::ensure::{self, LockMode, LockRequest};
use crate::lock::provision;
use ocinitrd_format::architecture;
use ocinitrd_support::progress::Progress;

use super::print;
use super::source_options::SourceOptions;

/// Fetch the packages that an image's lock names, and verify them.
///
/// Afterwards `ocinitrd build --offline` needs no network. Every rpm is checked against the digest and the size in the lock,
/// and its signature against the locked keys. What is there already is not fetched again, and a download that was
/// interrupted goes on where it ended. The builder image is fetched into the store, too.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image: NAME for images/NAME.toml, or the path of a definition.
    #[arg(default_value = "fedora-44")]
    image: String,

    #[command(flatten)]
    supply: SourceOptions,
}

/// Runs the command.
///
/// # Errors
/// Fails when the lock is not fresh, and when something cannot be had or does not verify.
pub async fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let context = arguments.supply.open_workshop(&arguments.image, progress)?;
    let lock = ensure::load(&context)?;
    let needs = lock.arch.get(architecture::native()).map(LockRequest::of).unwrap_or_default();
    let section = ensure::provide(&context, &needs, LockMode::Forbidden).await?;
    context.builder().await?;
    context.keep_builder_image().await?;
    provision::provide(&context, &section, &section.packages).await?;
    let packages = &section.packages;
    let size_bytes: u64 = packages.iter().map(|package| package.size).sum();
    print::print_line(&format!("{} packages, {:.1} MB, all verified", packages.len(), size_bytes as f64 / 1e6))?;
    Ok(ExitCode::SUCCESS)
}
