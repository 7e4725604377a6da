//! `ocinitrd build`: an image definition to an initrd, its kernel and a manifest.
//!
//! The lock decides what goes in. What an earlier build of the same inputs made is taken from the cache, so that a container
//! runs only when packages have to be solved for, verified or installed.

mod base;
mod kernels;
mod outputs;
mod part;
mod plan;
mod recipe;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};

use crate::engine::Cancellation;
use crate::format::compress::Compression;
use crate::lock::Section;
use crate::manifest::Manifest;
use crate::output;
use crate::progress::Progress;

use super::locking::{self, Renewal};
use super::surroundings::{self, EngineOption};
use super::workshop::{SupplyOptions, Workshop};
use base::Base;
use kernels::Kernel;
pub use plan::Plan;
use recipe::Recipe;

/// Build an initrd from the packages that an image definition names.
///
/// The lock beside the definition, IMAGE.lock, says which packages exactly; it is made or renewed where it does not serve, and
/// what it names is fetched and verified. What an earlier build made of the same inputs is taken from the cache. Writes
/// vmlinuz, manifest.json and what --format asks for, all of it together or nothing. Where several kernels are built for, each
/// has its vmlinuz-KVER and initrd-KVER.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ocinitrd build fedora-44 --profile lvm,raid -O out/fedora-44
  ocinitrd build fedora-44 --locked --offline -t cpio,oci")]
pub struct Arguments {
    /// The image: NAME for images/NAME.toml, or the path of a definition.
    #[arg(default_value = "fedora-44")]
    pub image: String,

    /// Name of the main output in the output directory [default: initrd, oci or root, by format].
    #[arg(short, long, value_name = "NAME")]
    pub output: Option<String>,

    /// Directory that the outputs are written into [default: the image's name].
    #[arg(short = 'O', long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,

    /// The kernel to build for, as `uname -r` prints it; may be repeated [default: the newest that is locked].
    #[arg(short, long = "kernel-version", value_name = "KVER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub kernel_versions: Vec<String>,

    /// Build for every kernel of the lock.
    #[arg(long, conflicts_with = "kernel_versions")]
    pub all_kernels: bool,

    /// Add a profile of the image; several are separated by commas, or the option is repeated.
    #[arg(long = "profile", value_name = "PROFILE", value_delimiter = ',')]
    pub profiles: Vec<String>,

    /// What to write beside vmlinuz and manifest.json; several are separated by commas.
    #[arg(short = 't', long = "format", value_enum, value_delimiter = ',', default_value = "cpio")]
    pub formats: Vec<Format>,

    /// Also write each segment of the initrd as a file: base, and for each kernel modules and, if there is any, microcode.
    #[arg(long)]
    pub segments: bool,

    /// Compress with zstd, xz, gzip, lz4 or none, and a level if wanted: zstd:19 [default: the image's].
    #[arg(long, value_name = "CODEC[:LEVEL]")]
    pub compress: Option<Compression>,

    /// The time stamp of everything, in seconds since 1970 [default: that of the newest package].
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", value_parser = surroundings::epoch())]
    pub epoch: Option<u64>,

    /// Take the lock as it is, and fail if it does not serve: for CI.
    #[arg(long)]
    pub locked: bool,

    /// Where packages may come from, and the engine.
    #[command(flatten)]
    pub supply: SupplyOptions,

    /// Print the manifest as the result.
    #[arg(long)]
    pub json: bool,
}

/// Forms of the main output.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub enum Format {
    /// A compressed cpio archive, as boot loaders take it.
    Cpio,
    /// The unpacked tree.
    Directory,
    /// An OCI image layout of the tree.
    Oci,
}

impl Format {
    /// As it is written on the command line and in the manifest.
    pub fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self).expect("every format can be asked for");
        value.get_name().to_owned()
    }

    fn named(name: &str) -> Result<Self> {
        let found = <Format as clap::ValueEnum>::from_str(name, false);
        found.map_err(|_| anyhow!("the manifest has the format {name:?}, which this ocinitrd does not know"))
    }
}

impl Arguments {
    /// Those of a build of `image` as `manifest` records it: from the lock as it is, without network, into
    /// `output_directory`.
    ///
    /// # Errors
    /// Fails when the manifest has an option that no build can have.
    pub fn as_recorded(
        manifest: &Manifest,
        image: String,
        output_directory: PathBuf,
        engine: EngineOption,
    ) -> Result<Self> {
        let options = &manifest.options;
        let formats = options.formats.iter().map(|name| Format::named(name)).collect::<Result<_>>()?;
        Ok(Arguments {
            image,
            output: options.output_name.clone(),
            output_dir: Some(output_directory),
            kernel_versions: manifest.kernels.iter().map(|kernel| kernel.version.clone()).collect(),
            all_kernels: false,
            profiles: options.profiles.clone(),
            formats,
            segments: options.segments,
            compress: Some(options.compression.parse().context("reading options.compression of the manifest")?),
            epoch: Some(manifest.epoch),
            locked: true,
            supply: SupplyOptions { engine, offline: true, rpm_directories: Vec::new() },
            json: false,
        })
    }
}

/// Builds the image.
///
/// # Errors
/// Fails when anything does; then no output was written and those of an earlier build are as they were.
pub async fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let directory = std::env::current_dir().context("finding the current directory")?;
    let (definition, plan) = Plan::new(arguments, &directory)?;
    outputs::check(&plan)?;
    let workshop = Workshop::open(definition, &arguments.supply, progress)?;
    let renewal = if arguments.locked { Renewal::Forbidden } else { Renewal::Used };
    let manifest = carry_out(&plan, workshop, renewal).await?;
    outputs::report(&plan, &manifest, arguments.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the outputs of the plan, unless they are there as an earlier build wrote them, and says what they are.
///
/// # Errors
/// Fails when anything does; then no output was written and those of an earlier build are as they were.
pub async fn carry_out(plan: &Plan, workshop: Workshop<'_>, renewal: Renewal) -> Result<Manifest> {
    let section = locking::provide(&workshop, &plan.needs(), renewal).await?;
    let recipe = Recipe::new(plan, &section)?;
    if let Some(manifest) = outputs::earlier(plan, &recipe) {
        workshop.progress.note("nothing changed since the outputs were written");
        return Ok(manifest);
    }
    make(workshop, plan, &section, &recipe).await
}

async fn make(mut workshop: Workshop<'_>, plan: &Plan, section: &Section, recipe: &Recipe<'_>) -> Result<Manifest> {
    let mut base = base::provide(&workshop, plan, section, recipe).await?;
    let kernels = kernels::provide(&workshop, plan, section, recipe, &base).await?;
    if base.firmware().is_some() && kernels.iter().any(|kernel| kernel.is_read_from_packages(plan)) {
        base.provide_tree(&workshop, plan, section, recipe).await?;
    }
    // No container is needed any more; what follows does not wait, so it cannot be interrupted on its way.
    workshop.dismiss_builder();
    workshop.cancellation.check()?;
    let made = (!plan.output_directory.exists()).then(|| plan.output_directory.clone());
    tokio::spawn(end_when_cancelled(workshop.cancellation.clone(), made.clone()));
    let written = finish(&workshop, plan, section, recipe, base, kernels).inspect_err(|_| unmake(made.as_deref()));
    if workshop.cancellation.check().is_err() {
        // The process is about to end; an error here only says that what was under way has been removed.
        std::future::pending::<()>().await;
    }
    written
}

/// What computes and writes.
fn finish(
    workshop: &Workshop<'_>,
    plan: &Plan,
    section: &Section,
    recipe: &Recipe<'_>,
    base: Base,
    kernels: Vec<Kernel>,
) -> Result<Manifest> {
    let base = base.finish(plan, recipe, &workshop.results, workshop.progress)?;
    let kernels = kernels
        .into_iter()
        .map(|kernel| kernel.finish(plan, recipe.epoch, &base, workshop))
        .collect::<Result<Vec<_>>>()?;
    outputs::write(plan, section, recipe, &base, &kernels, workshop.progress)
}

/// Ends the process at the first signal. What is under way is removed, with the directory that was `made` for it;
/// outputs that take their places do so first.
async fn end_when_cancelled(cancellation: Cancellation, made: Option<PathBuf>) {
    let interrupted = cancellation.cancelled().await;
    tokio::task::block_in_place(output::abandon);
    unmake(made.as_deref());
    eprintln!("error: {interrupted}");
    std::process::exit(interrupted.exit_code().into());
}

/// Removes an output directory that was made for nothing. It stays if somebody else has put something there.
fn unmake(directory: Option<&Path>) {
    let _ = directory.map(fs::remove_dir);
}
