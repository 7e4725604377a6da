//! `ocinitrd build`: an image definition to an initrd, its kernel and a manifest.

mod inputs;
mod outputs;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::definition::{Definition, Selection};
use crate::dnf::InstalledPackage;
use crate::engine::{Cancellation, Engine, Image, ImageReference, Wish};
use crate::finish;
use crate::format::compress::Compression;
use crate::kernel;
use crate::modules;
use crate::progress::Progress;
use crate::repository::Variables;
use crate::steps::install;
use crate::store::Store;
use crate::tree::Tree;

use inputs::Inputs;

/// Arguments of `ocinitrd build`.
#[derive(Debug, clap::Args)]
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

    /// The kernel to build for, as `uname -r` prints it [default: the newest of the repositories].
    #[arg(short, long, value_name = "KVER")]
    pub kernel_version: Option<String>,

    /// Add a profile of the image; may be given several times.
    #[arg(long = "profile", value_name = "PROFILE")]
    pub profiles: Vec<String>,

    /// What to write beside vmlinuz and manifest.json; several are separated by commas.
    #[arg(short = 't', long = "format", value_enum, value_delimiter = ',', default_value = "cpio")]
    pub formats: Vec<Format>,

    /// Compress with zstd, xz, gzip, lz4 or none, and a level if wanted: zstd:19 [default: the image's].
    #[arg(long, value_name = "CODEC[:LEVEL]")]
    pub compress: Option<Compression>,

    /// The engine that runs containers: podman, or the address of its API (unix:///PATH, tcp://HOST:PORT).
    #[arg(long, value_name = "podman|URL")]
    pub engine: Option<String>,

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

/// What is to be built: the command line and the definition as one value. Nothing has been done yet.
#[derive(Debug)]
struct Plan {
    definition: Definition,
    selection: Selection,
    profiles: Vec<String>,
    reference: ImageReference,
    patterns: modules::Patterns,
    kernel_version: Option<String>,
    compression: Compression,
    formats: BTreeSet<Format>,
    output_name: Option<String>,
    output_directory: PathBuf,
    cache_directory: PathBuf,
    explicit_epoch: Option<u64>,
}

/// What a build made, ready to be written.
#[derive(Debug)]
struct Built {
    base: Tree,
    modules: Tree,
    kernel_image: crate::tree::Content,
    kernel_version: String,
    packages: Vec<InstalledPackage>,
    epoch: u64,
}

/// Builds the image.
///
/// # Errors
/// Fails when anything does; then no output was written and those of an earlier build are as they were.
pub async fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let plan = Plan::new(arguments)?;
    let cancellation = Cancellation::on_signals()?;
    let engine = Engine::connect(&Wish::from_environment(arguments.engine.clone()), cancellation, progress).await?;
    let image = engine.ensure_image(&plan.reference, progress).await?;
    let store = Store::open(&plan.cache_directory)?;
    let inputs = inputs::provide(&plan, &engine, &image, &store, progress).await?;
    let built = make(&plan, &engine, &image, &inputs, progress).await?;
    let manifest = outputs::write(&plan, &image, &inputs, built, progress)?;
    outputs::report(&plan, &manifest, arguments.json)?;
    Ok(ExitCode::SUCCESS)
}

impl Plan {
    fn new(arguments: &Arguments) -> Result<Plan> {
        let directory = std::env::current_dir().context("finding the current directory")?;
        let definition = Definition::load(&arguments.image, &directory)?;
        let selection = definition.select(&arguments.profiles)?;
        if arguments.output.is_some() && arguments.formats.len() > 1 {
            bail!("--output names one output, but several formats are asked for: give one --format, or leave --output out");
        }
        Ok(Plan {
            reference: definition.builder_image.parse().context("in [builder] image")?,
            patterns: modules::Patterns::parse(&selection.modules).context("in [kernel] modules")?,
            profiles: arguments.profiles.clone(),
            kernel_version: arguments.kernel_version.clone(),
            compression: arguments.compress.unwrap_or(definition.compression),
            formats: arguments.formats.iter().copied().collect(),
            output_name: arguments.output.clone(),
            output_directory: arguments.output_dir.clone().unwrap_or_else(|| PathBuf::from(&definition.name)),
            cache_directory: cache_directory()?,
            explicit_epoch: explicit_epoch()?,
            definition,
            selection,
        })
    }
}

/// `$XDG_CACHE_HOME/ocinitrd`, or below `~/.cache`.
fn cache_directory() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .map(|cache| cache.join("ocinitrd"))
        .context("finding the cache directory: set HOME or XDG_CACHE_HOME to an absolute path")
}

/// `SOURCE_DATE_EPOCH`, <https://reproducible-builds.org/specs/source-date-epoch/>.
fn explicit_epoch() -> Result<Option<u64>> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let text = value.to_string_lossy();
    let epoch = text.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}: give seconds since 1970-01-01"))?;
    Ok(Some(epoch))
}
