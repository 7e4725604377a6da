//! `ocinitrd build`: an image definition to an initrd, its kernel and a manifest.

mod inputs;
mod outputs;
mod plan;
mod trees;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::engine::doctor::{self, EngineFacts};
use crate::engine::{Cancellation, Engine, Image, NoEngine};
use crate::format::compress::Compression;
use crate::progress::Progress;
use crate::steps::install::{self, Installed};
use crate::store::Store;

use super::surroundings::{self, EngineOption};
use inputs::Inputs;
use plan::Plan;

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

    /// The time stamp of everything, in seconds since 1970 [default: that of the newest package].
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    pub epoch: Option<u64>,

    #[command(flatten)]
    engine: EngineOption,

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

/// What every stage works with.
#[derive(Debug)]
struct Workshop<'a> {
    plan: &'a Plan,
    engine: &'a Engine,
    image: &'a Image,
    store: &'a Store,
    progress: &'a Progress,
}

/// Builds the image.
///
/// # Errors
/// Fails when anything does; then no output was written and those of an earlier build are as they were.
pub async fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let plan = Plan::new(arguments)?;
    outputs::check_directory(&plan.output_directory)?;
    let cancellation = Cancellation::on_signals()?;
    let engine = open_engine(&arguments.engine, &cancellation, progress).await?;
    let image = engine.ensure_image(&plan.reference, progress).await?;
    let store = Store::open(&plan.cache_directory)?;
    let workshop = Workshop { plan: &plan, engine: &engine, image: &image, store: &store, progress };
    let inputs = inputs::provide(&workshop).await?;
    let installed = install(&workshop, &inputs).await?;
    cancellation.check()?;
    let trees = trees::assemble(&workshop, &inputs, installed)?;
    cancellation.check()?;
    let manifest = outputs::write(&workshop, &inputs, &trees)?;
    outputs::report(&plan, &manifest, arguments.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the engine and refuses, in the doctor's words, a host that cannot build.
async fn open_engine(option: &EngineOption, cancellation: &Cancellation, progress: &Progress) -> Result<Engine> {
    let host = surroundings::host();
    let engine = match Engine::open(&option.surroundings()?, cancellation, progress).await {
        Ok(engine) => engine,
        Err(error) => match error.downcast_ref::<NoEngine>() {
            Some(missing) => bail!("{missing}\n    cure: {}", doctor::cure_for(&host, missing)),
            None => return Err(error),
        },
    };
    doctor::preflight(&host, &EngineFacts::from(&engine))?;
    Ok(engine)
}

async fn install(workshop: &Workshop<'_>, inputs: &Inputs) -> Result<Installed> {
    let Workshop { plan, engine, image, store, progress } = workshop;
    let request = install::Request {
        selection: &plan.selection,
        releasever: &plan.definition.releasever,
        rpms: &inputs::rpm_files(&inputs.packages, store),
        epoch: plan.epoch(inputs),
        spool_directory: store.root(),
    };
    let stage = progress.stage("installing", None);
    let installed = install::install(engine, image, &request, progress).await?;
    stage.finish(&format!("{} packages, {} entries", installed.packages.len(), installed.layer.tree.len()));
    installed.layer.warnings.iter().for_each(|warning| progress.warn(warning));
    Ok(installed)
}
