//! `ocinitrd build`: an image definition to an initrd, its kernel and a manifest.

mod inputs;
mod outputs;
mod plan;
mod trees;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::engine::doctor::{self, EngineFacts};
use crate::engine::{Cancellation, Engine, Image, NoEngine};
use crate::format::compress::Compression;
use crate::output;
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
    #[arg(short, long, value_name = "KVER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub kernel_version: Option<String>,

    /// Add a profile of the image; several are separated by commas, or the option is repeated.
    #[arg(long = "profile", value_name = "PROFILE", value_delimiter = ',')]
    pub profiles: Vec<String>,

    /// What to write beside vmlinuz and manifest.json; several are separated by commas.
    #[arg(short = 't', long = "format", value_enum, value_delimiter = ',', default_value = "cpio")]
    pub formats: Vec<Format>,

    /// Compress with zstd, xz, gzip, lz4 or none, and a level if wanted: zstd:19 [default: the image's].
    #[arg(long, value_name = "CODEC[:LEVEL]")]
    pub compress: Option<Compression>,

    /// The time stamp of everything, in seconds since 1970 [default: that of the newest package].
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", value_parser = surroundings::epoch())]
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
    store: &'a Store,
    progress: &'a Progress,
}

/// What runs dnf and rpm.
#[derive(Debug)]
struct Builder {
    engine: Engine,
    image: Image,
}

/// Builds the image.
///
/// # Errors
/// Fails when anything does; then no output was written and those of an earlier build are as they were.
pub async fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let plan = Plan::new(arguments)?;
    outputs::check(&plan)?;
    let cancellation = Cancellation::on_signals()?;
    let engine = open_engine(&arguments.engine, &cancellation, progress).await?;
    let image = engine.ensure_image(&plan.reference, progress).await?;
    let builder = Builder { engine, image };
    let store = Store::open(&plan.cache_directory)?;
    let workshop = Workshop { plan: &plan, store: &store, progress };
    let inputs = inputs::provide(&workshop, &builder).await?;
    let installed = install(&workshop, &builder, &inputs).await?;
    // No container is needed any more; what follows does not wait, so it cannot be interrupted on its way.
    let Builder { engine, image } = builder;
    drop(engine);
    cancellation.check()?;
    let made = (!plan.output_directory.exists()).then(|| plan.output_directory.clone());
    tokio::spawn(end_when_cancelled(cancellation.clone(), made.clone()));
    let written = trees::assemble(&workshop, &inputs, installed)
        .and_then(|trees| outputs::write(&workshop, &image, &inputs, &trees))
        .inspect_err(|_| unmake(made.as_deref()));
    if cancellation.check().is_err() {
        // The process is about to end; an error here only says that what was under way has been removed.
        std::future::pending::<()>().await;
    }
    outputs::report(&plan, &written?, arguments.json)?;
    Ok(ExitCode::SUCCESS)
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

async fn install(workshop: &Workshop<'_>, builder: &Builder, inputs: &Inputs) -> Result<Installed> {
    let Workshop { plan, store, progress } = workshop;
    let request = install::Request {
        selection: &plan.selection,
        releasever: &plan.definition.releasever,
        rpms: &inputs::rpm_files(&inputs.packages, store),
        epoch: plan.epoch(inputs),
        spool_directory: store.root(),
    };
    let stage = progress.stage("installing", None);
    let installed = install::install(&builder.engine, &builder.image, &request, progress).await?;
    stage.finish(&format!("{} packages, {} entries", installed.packages.len(), installed.layer.tree.len()));
    installed.layer.warnings.iter().for_each(|warning| progress.warn(warning));
    Ok(installed)
}
