//! `ocinitrd convert`: a tar archive, an OCI image layout or an archive of one to an initrd.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::limits;
use super::print;
use crate::image::layer::{Contents, Layer, Rules};
use crate::image::oci::image::Image;
use crate::image::segment::{SegmentFacts, write_segment};
use crate::image::tree::{Content, Tree};
use ocinitrd_format::architecture;
use ocinitrd_format::compress::Compression;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::time::Timestamp;
use ocinitrd_support::output::{MODE_PRIVATE, OutputFile};
use ocinitrd_support::progress::Progress;
use ocinitrd_support::regular_file;

/// Turn a layer (tar, OCI layout, OCI archive) into an initrd.
///
/// Owners, modes, hard links and devices are kept. Extended attributes are not: an initrd cannot hold them.
///
/// The unpacked archive is kept in an unnamed file in $TMPDIR [default: /var/tmp] while it is read. A plain archive that is a
/// file is read where it is.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  podman export CONTAINER | ocinitrd convert - -o initrd
  ocinitrd convert layer.tar.gz -o initrd --compress zstd:19
  ocinitrd convert oci-layout/ -o initrd --epoch 1700000000")]
pub struct Arguments {
    /// A tar archive of a root file system (plain, gzip or zstd; - for standard input), the directory of an OCI image
    /// layout, or an OCI archive.
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,

    /// Where to write the initrd, with mode 0600; replaced atomically if it exists.
    #[arg(short, long, value_name = "FILE", default_value = "initrd")]
    pub output: PathBuf,

    /// Compress with zstd, xz, gzip, lz4 or none, and a level if wanted: zstd:19.
    #[arg(long, value_name = "CODEC[:LEVEL]", default_value_t = Compression::default())]
    pub compress: Compression,

    /// Set later modification times to this one, in seconds since 1970; without it they stay as they are.
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    pub epoch: Option<Timestamp>,

    /// Refuse input that unpacks to more bytes; may end in K, M, G or T.
    #[arg(long, value_name = "SIZE", default_value = "16G", value_parser = limits::size)]
    pub max_unpacked_size: u64,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Of a `manifest.json` that is looked into: what a registry takes.
const LARGEST_MANIFEST_BYTES: u64 = 4 << 20;

/// What was written.
#[derive(Serialize)]
struct Converted<'a> {
    path: &'a Path,
    size_bytes: u64,
    digest: Digest,
    unpacked_bytes: u64,
    entries: usize,
    dropped_xattrs: usize,
}

/// Converts the input.
///
/// # Errors
/// Fails when the input is damaged, holds what an initrd cannot hold, or the output cannot be written; then nothing
/// was written, and a former output is as it was.
pub fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let output = OutputFile::create(&arguments.output, MODE_PRIVATE)?;
    let mut input = read(&arguments.input, arguments.max_unpacked_size, progress).map_err(limits::with_hint)?;
    if let Some(epoch) = arguments.epoch {
        input.tree.clamp_times(epoch.seconds());
    }
    warn_of_oddities(&input, progress);
    let facts = write(&input.tree, arguments.compress, output, progress)?;
    if facts.dropped_xattrs > 0 {
        let count = facts.dropped_xattrs;
        progress.warn(&format!("{count} file capabilities left out: cpio cannot hold them"));
    }
    report(arguments, &facts)?;
    Ok(ExitCode::SUCCESS)
}

fn read(input: &Path, limit_bytes: u64, progress: &Progress) -> Result<Contents> {
    let stage = progress.stage(&format!("reading {}", input.display()), None);
    let spool_directory = spool_directory();
    let contents = if input.is_dir() {
        read_layout(input, &spool_directory, limit_bytes)?
    } else {
        read_archive(input, &spool_directory, limit_bytes)?
    };
    stage.finish(&format!("{} entries", contents.tree.len()));
    Ok(contents)
}

fn read_layout(directory: &Path, spool_directory: &Path, limit_bytes: u64) -> Result<Contents> {
    if !Image::is_directory(directory) {
        bail!(
            "{0} is a directory without an oci-layout file; for a root file system: tar -C {0} -c . | ocinitrd convert -",
            directory.display()
        );
    }
    Image::open_directory(directory, architecture::oci_name(architecture::native()))?
        .flatten(spool_directory, limit_bytes)
}

fn read_archive(input: &Path, spool_directory: &Path, limit_bytes: u64) -> Result<Contents> {
    let rules = Rules { unpacked_limit_bytes: limit_bytes, ..Rules::root_filesystem() };
    let contents = if input == Path::new("-") {
        Layer::read(io::stdin().lock(), spool_directory, &rules).context("reading standard input")?.into()
    } else {
        let file = regular_file::open(input).with_context(|| format!("opening {}", input.display()))?;
        let contents = Contents::read_file(file, spool_directory, &rules);
        contents.with_context(|| format!("reading {}", input.display()))?
    };
    if Image::is_archive(&contents.tree) {
        return Image::open_archive(contents.tree, architecture::oci_name(architecture::native()))?
            .flatten(spool_directory, limit_bytes);
    }
    if is_docker_archive(&contents.tree) {
        bail!(
            "{} is an archive in Docker's own format; save the image with: podman save --format oci-archive",
            input.display()
        );
    }
    Ok(contents)
}

/// What `podman save` writes unless told otherwise: layers, and a `manifest.json` that lists them.
fn is_docker_archive(tree: &Tree) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        layers: Option<IgnoredAny>,
    }
    let reader = tree.content(b"manifest.json").map(Content::reader);
    let json = reader.and_then(|reader| regular_file::read_all(reader, LARGEST_MANIFEST_BYTES).ok());
    let images: Option<Vec<Listed>> = json.and_then(|json| serde_json::from_slice(&json).ok());
    images.is_some_and(|images| images.iter().any(|image| image.layers.is_some()))
}

/// Not `/tmp`, which is memory on many systems.
#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
fn spool_directory() -> PathBuf {
    match std::env::var_os("TMPDIR") {
        Some(directory) if !directory.is_empty() => directory.into(),
        _ => "/var/tmp".into(),
    }
}

fn warn_of_oddities(input: &Contents, progress: &Progress) {
    input.warnings.lines().for_each(|warning| progress.warn(&warning));
    if input.tree.resolve(b"init").is_none() {
        progress
            .warn("there is no /init in the tree: the kernel starts none other without rdinit= on its command line");
    }
}

fn write(tree: &Tree, compression: Compression, mut output: OutputFile, progress: &Progress) -> Result<SegmentFacts> {
    let stage = progress.stage(&format!("writing {}", output.target().display()), None);
    let facts = write_segment(tree, compression, &mut output)?;
    output.commit()?;
    stage.finish(&format!("{} entries", facts.entries));
    Ok(facts)
}

fn report(arguments: &Arguments, facts: &SegmentFacts) -> Result<()> {
    let converted = Converted {
        path: &arguments.output,
        size_bytes: facts.size_bytes,
        digest: facts.digest,
        unpacked_bytes: facts.unpacked_bytes,
        entries: facts.entries,
        dropped_xattrs: facts.dropped_xattrs,
    };
    print::print(|output| match arguments.json {
        true => print::write_json(output, &converted),
        false => writeln!(output, "{}  {} bytes  {}", arguments.output.display(), facts.size_bytes, facts.digest),
    })
}
