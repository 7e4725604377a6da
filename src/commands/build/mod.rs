//! `ocinitrd build`: an image definition to an initrd, its kernel and a manifest.

mod inputs;
mod outputs;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::definition::{Definition, Selection};
use crate::dnf::InstalledPackage;
use crate::engine::doctor::{self, EngineFacts};
use crate::engine::{Cancellation, Engine, Image, ImageReference, NoEngine};
use crate::finish;
use crate::format::compress::Compression;
use crate::kernel;
use crate::modules::{self, FirmwarePatterns, KernelModules, Patterns};
use crate::progress::Progress;
use crate::steps::install::{self, Installed};
use crate::store::Store;
use crate::tree::{Content, Tree};

use super::surroundings::{self, EngineOption};
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

/// What is to be built: the command line and the definition as one value. Nothing has been done yet.
#[derive(Debug)]
struct Plan {
    definition: Definition,
    selection: Selection,
    profiles: Vec<String>,
    reference: ImageReference,
    patterns: Patterns,
    firmware: FirmwarePatterns,
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
    kernel_image: Content,
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
    outputs::check_directory(&plan.output_directory)?;
    let cancellation = Cancellation::on_signals()?;
    let engine = open_engine(&arguments.engine, &cancellation, progress).await?;
    let image = engine.ensure_image(&plan.reference, progress).await?;
    let store = Store::open(&plan.cache_directory)?;
    let inputs = inputs::provide(&plan, &engine, &image, &store, progress).await?;
    let installed = install(&plan, &engine, &image, &inputs, &store, progress).await?;
    cancellation.check()?;
    let built = assemble(&plan, installed, &inputs, &store, progress)?;
    cancellation.check()?;
    let manifest = outputs::write(&plan, &image, &inputs, &built, progress)?;
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

async fn install(
    plan: &Plan,
    engine: &Engine,
    image: &Image,
    inputs: &Inputs,
    store: &Store,
    progress: &Progress,
) -> Result<Installed> {
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

/// The two trees of the initrd from the installed packages and the kernel's.
fn assemble(plan: &Plan, installed: Installed, inputs: &Inputs, store: &Store, progress: &Progress) -> Result<Built> {
    let epoch = plan.epoch(inputs);
    let mut base = installed.layer.tree;
    let kernel_rpms: Vec<PathBuf> =
        inputs::rpm_files(&inputs.kernel_packages, store).into_iter().map(|(_, path)| path).collect();
    let mut kernel = kernel::read_packages(&kernel_rpms, store.root(), progress)?;
    kernel.set_times(epoch);
    finish::finish(&mut base, &plan.selection.remove_files, epoch)?;
    let kernel_version = choose_kernel(&kernel, plan.kernel_version.as_deref())?;
    let kernel_image = outputs::kernel_image(&kernel, &kernel_version)?;
    let modules = select_modules(plan, kernel, &kernel_version, epoch, store, progress)?;
    Ok(Built { base, modules, kernel_image, kernel_version, packages: installed.packages, epoch })
}

/// The one kernel of the tree, or the one that was asked for.
fn choose_kernel(kernel: &Tree, wanted: Option<&str>) -> Result<String> {
    let mut found = modules::kernel_versions(kernel);
    match (wanted, found.len()) {
        (_, 0) => bail!("the packages hold no kernel: name its packages in [kernel] packages"),
        (Some(version), _) if found.iter().any(|one| one == version) => Ok(version.to_owned()),
        (Some(version), _) => bail!("the packages hold no kernel {version}; they hold {}", found.join(", ")),
        (None, 1) => Ok(found.remove(0)),
        (None, _) => bail!("the packages hold several kernels: choose one with --kernel-version: {}", found.join(", ")),
    }
}

/// The modules segment's tree: what the patterns choose, what that needs, and its index.
fn select_modules(
    plan: &Plan,
    mut kernel: Tree,
    kernel_version: &str,
    epoch: u64,
    store: &Store,
    progress: &Progress,
) -> Result<Tree> {
    let stage = progress.stage("selecting modules", None);
    let available = KernelModules::open(&kernel, kernel_version)?;
    let mut selection = modules::select(&available, &kernel, &plan.patterns, &plan.firmware)?;
    if !plan.definition.keep_module_compression {
        modules::decompress(&mut kernel, &available, &mut selection, store.root())?;
    }
    let index = modules::index(&available, &selection)?;
    modules::prune(&mut kernel, kernel_version, &selection, index, epoch)?;
    let kept = [format!("usr/lib/modules/{kernel_version}"), "usr/lib/firmware".to_owned()];
    kernel.retain(|path, _| kept.iter().any(|directory| is_on_the_way(path, directory.as_bytes())));
    stage.finish(&format!("{} of {}", selection.modules.len(), available.files().count()));
    for unmatched in &selection.unmatched {
        let nearest = unmatched.nearest.as_ref().map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        progress.warn(&format!("the module pattern {:?} matches no module{nearest}", unmatched.pattern));
    }
    for missing in &selection.missing_firmware {
        progress.detail(&format!("firmware {missing} is in no package"));
    }
    Ok(kernel)
}

/// Whether `path` is `directory`, below it or above it.
fn is_on_the_way(path: &[u8], directory: &[u8]) -> bool {
    let below =
        |long: &[u8], short: &[u8]| long.starts_with(short) && matches!(long.get(short.len()), None | Some(b'/'));
    below(path, directory) || below(directory, path)
}

impl Plan {
    fn new(arguments: &Arguments) -> Result<Plan> {
        let directory = std::env::current_dir().context("finding the current directory")?;
        let definition = Definition::load(&arguments.image, &directory)?;
        let selection = definition.select(&arguments.profiles)?;
        if arguments.output.is_some() && arguments.formats.len() > 1 {
            bail!(
                "--output names one output, but several formats are asked for: give one --format, or leave --output out"
            );
        }
        Ok(Plan {
            reference: definition.builder_image.parse().context("in [builder] image")?,
            patterns: Patterns::parse(&selection.modules).context("in [kernel] modules")?,
            firmware: FirmwarePatterns::parse(&selection.firmware).context("in [kernel] firmware")?,
            profiles: arguments.profiles.clone(),
            kernel_version: arguments.kernel_version.clone(),
            compression: arguments.compress.unwrap_or(definition.compression),
            formats: arguments.formats.iter().copied().collect(),
            output_name: arguments.output.clone(),
            output_directory: arguments.output_dir.clone().unwrap_or_else(|| PathBuf::from(&definition.name)),
            cache_directory: surroundings::cache_directory(),
            explicit_epoch: explicit_epoch()?,
            definition,
            selection,
        })
    }
}

impl Plan {
    /// The time stamp of everything, in seconds.
    fn epoch(&self, inputs: &Inputs) -> u64 {
        self.explicit_epoch.unwrap_or_else(|| inputs.newest_build_time())
    }

    /// Modules that are compressed already do not compress again: their segment is stored plain, which the kernel
    /// unpacks at the speed of copying.
    fn segment_compression(&self, segment: &str) -> Compression {
        if segment == "modules" && self.definition.keep_module_compression {
            return Compression::None;
        }
        self.compression
    }
}

/// `SOURCE_DATE_EPOCH`, <https://reproducible-builds.org/specs/source-date-epoch/>.
fn explicit_epoch() -> Result<Option<u64>> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let text = value.to_string_lossy();
    let epoch =
        text.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}: give seconds since 1970-01-01"))?;
    Ok(Some(epoch))
}
