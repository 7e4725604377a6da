//! `ocinitrd build`: an image definition to an initrd, its kernel and a manifest.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::builder::PossibleValue;

use crate::build::{self, Format, Kernels, Plan, Request};
use crate::image::manifest::{self, Manifest};
use crate::lock::context::BuildContext;
use crate::lock::ensure::LockMode;
use crate::names::KernelVersion;
use ocinitrd_format::compress::Compression;
use ocinitrd_format::time::Timestamp;
use ocinitrd_support::progress::Progress;

use super::print;
use super::source_options::{SourceOptions, load_definition};
use super::text_arg;

/// Build an initrd from the packages that an image definition names.
///
/// The lock beside the definition, IMAGE.lock, says which packages exactly; it is made or renewed where it does not serve, and
/// what it names is fetched and verified. What an earlier build made of the same inputs is taken from the cache. Writes
/// vmlinuz, manifest.json and what --format asks for, all of it together or nothing. Where several kernels are built for, each
/// has its vmlinuz-KVER and initrd-KVER.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ocinitrd build fedora-44 --profile network,nfs -O out/fedora-44
  ocinitrd build fedora-44 --locked --offline -t cpio,oci
  ocinitrd build fedora-44 -t uki --cmdline 'root=LABEL=root rw'")]
pub struct Arguments {
    /// The image: NAME for images/NAME.toml, or the path of a definition.
    #[arg(default_value = "fedora-44")]
    pub image: String,

    /// Name of the main output in the output directory [default: initrd, root, oci or uki.efi, by format].
    #[arg(short, long, value_name = "NAME")]
    pub output: Option<String>,

    /// Directory that the outputs are written into [default: the image's name].
    #[arg(short = 'O', long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,

    /// The kernel to build for, as `uname -r` prints it; may be repeated [default: the one that was locked as
    /// the newest; one that was locked by its version counts only when it is named].
    #[arg(short, long = "kernel-version", value_name = "KVER")]
    pub kernel_versions: Vec<KernelVersion>,

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
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    pub epoch: Option<Timestamp>,

    /// The kernel's command line in a unified kernel image, or a file that has it [default: the image's].
    #[arg(long, value_name = "TEXT|@FILE")]
    pub cmdline: Option<String>,

    /// Replace files in the output directory that no build of ocinitrd wrote.
    #[arg(long)]
    pub force: bool,

    /// Take the lock as it is, and fail if it does not serve: for CI.
    #[arg(long)]
    pub locked: bool,

    /// Where packages may come from, and the engine.
    #[command(flatten)]
    pub supply: SourceOptions,

    /// Print the manifest as the result.
    #[arg(long)]
    pub json: bool,
}

impl clap::ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &Format::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Format::Cpio => "A compressed cpio archive, as boot loaders take it",
            Format::Directory => "The unpacked tree",
            Format::Oci => "An OCI image layout of the tree",
            Format::Uki => "A unified kernel image: an EFI program with the kernel and the initrd in it",
            Format::Base => {
                "What a host makes initrds of its own kernels with: the base segment and systemd-stub, no kernel"
            }
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl Arguments {
    fn request(&self, image: &str) -> Result<Request> {
        let kernels = match &self.kernel_versions[..] {
            _ if self.all_kernels => Kernels::All,
            [] => Kernels::Newest,
            versions => Kernels::Versions(versions.iter().map(ToString::to_string).collect()),
        };
        let command_line = self.cmdline.as_deref().map(text_arg::text).transpose()?;
        Ok(Request {
            profiles: self.profiles.clone(),
            kernels,
            formats: self.formats.iter().copied().collect(),
            segments: self.segments,
            compression: self.compress,
            epoch: self.epoch,
            output_name: self.output.clone(),
            force: self.force,
            command_line: command_line.map(|text| text.trim().to_owned()),
            output_directory: self.output_dir.clone().unwrap_or_else(|| PathBuf::from(image)),
        })
    }
}

/// Builds the image.
///
/// # Errors
/// Fails when anything does; then no output was written and those of an earlier build are as they were.
pub async fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let definition = load_definition(&arguments.image)?;
    let plan = Plan::new(arguments.request(&definition.name)?, &definition)?;
    build::check_outputs(&plan)?;
    let context = BuildContext::open(definition, arguments.supply.supply()?, progress)?;
    let renewal = if arguments.locked { LockMode::Forbidden } else { LockMode::Used };
    let manifest = build::build(&plan, context, renewal).await?;
    report(&plan, &manifest, arguments.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what was written and how to boot it, or the manifest.
fn report(plan: &Plan, manifest: &Manifest, json: bool) -> Result<()> {
    let text = manifest.to_json()?;
    print::print(|output| if json { output.write_all(&text) } else { write_outputs(output, plan, manifest) })
}

fn write_outputs(output: &mut dyn Write, plan: &Plan, manifest: &Manifest) -> io::Result<()> {
    let place = |name: &str| plan.output_directory.join(name);
    // An OCI layout has several files; it is told as one.
    for listed in manifest.outputs.iter().filter(|listed| !listed.path.as_str().contains('/')) {
        let megabytes = listed.size_bytes as f64 / 1e6;
        writeln!(output, "{}  {megabytes:.1} MB  {}", place(listed.path.as_str()).display(), listed.sha256)?;
    }
    if plan.formats.contains(&Format::Oci) {
        writeln!(output, "{0}  podman pull oci:{0}", place(&plan.output_name(Format::Oci, None)).display())?;
    }
    writeln!(output, "{}", place(manifest::FILE_NAME).display())
}
