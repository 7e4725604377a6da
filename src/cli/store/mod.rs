//! `ocinitrd store`: what is in the store, out of it, into it, and whether it is whole.

mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail};

use super::environment::cache_directory;
use super::print;
use crate::container::builder_image::StoredImage;
use crate::container::engine::ImageReference;
use crate::lock::file::Lock;
use crate::lock::transfer::{self, Counts, Exported};
use crate::packages::fetch;
use crate::packages::store::{Expiry, Item, Kind, Store};
use ocinitrd_format::architecture;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::progress::Progress;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};
use report::{Listed, Listing, Verified, Wrong};

/// Show, tidy up, check, export or fill the store of packages, metadata and builder images.
///
/// The store is ocinitrd in $XDG_CACHE_HOME, by default ~/.cache/ocinitrd. It holds packages and metadata by their SHA-256,
/// and what builds keep to be faster. What boots keep below it is not counted here.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List what is there: kind, size, last use (UTC, a day off at most), digest, and the package an rpm is
    List(ListArguments),
    /// Remove what was not used for some time, and what killed runs left.
    ///
    /// A build locks the store, shared with other builds. This command must have the lock alone: while a build runs, it refuses
    /// and removes nothing. A build that begins meanwhile waits for it. Downloads that were cut off may be taken up again for
    /// a day. What is removed is fetched or made again when it is needed.
    Gc(GcArguments),
    /// Read all blobs and compare their SHA-256 with their names; exits with 1 if any is wrong.
    ///
    /// What builds keep is named by what it was made from, and cannot be checked so.
    Verify(VerifyArguments),
    /// Copy all rpms, or those of a lock with its builder image, into a directory.
    ///
    /// Rpms are called NAME-VERSION-RELEASE.ARCH.rpm; a builder image is an OCI archive, builder-DIGEST.oci.tar, which podman load takes
    /// too. Only --lock brings builder images.
    ///
    /// The content of each is verified, and each file appears whole or not at all. Those that are there already and are the
    /// same stay as they are; where others have the same names, nothing is copied. On file systems that can share blocks
    /// the copies take no room.
    Export(ExportArguments),
    /// Take every *.rpm and every builder image (*.oci.tar) below a directory into the store.
    ///
    /// A build then needs to fetch none of them. They are stored by their content; who signed packages is verified by the
    /// build. Files that are something else are named, and the exit code is 1 then.
    Import(ImportArguments),
}

#[derive(Debug, clap::Args)]
struct ListArguments {
    /// Print JSON: {"root", "items": [{"kind", "name", "digest", "size_bytes", "last_use"}], "size_bytes"}
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct GcArguments {
    /// Keep what was used within so many days
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// Remove everything
    #[arg(long, conflicts_with = "days")]
    all: bool,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
struct VerifyArguments {
    /// Print JSON: {"blobs", "size_bytes", "wrong": [{"digest", "found", "removed"}]}; "found" is a digest or an error
    #[arg(long)]
    json: bool,
    /// Remove the wrong ones; refused while another ocinitrd uses the store
    #[arg(long)]
    remove: bool,
}

#[derive(Debug, clap::Args)]
struct ExportArguments {
    /// Where to; it must be there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Export what this lock names, and nothing else; may be repeated
    #[arg(long = "lock", value_name = "FILE")]
    locks: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ImportArguments {
    /// Where from
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Fails when the store cannot be used, and with what the action fails with.
pub fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let store = Store::open(&cache_directory()?)?;
    match &arguments.action {
        Action::List(arguments) => list(arguments, &store),
        Action::Gc(arguments) => collect_garbage(arguments, store),
        Action::Verify(arguments) => verify(arguments, store, progress),
        Action::Export(arguments) => export(arguments, &store, progress),
        Action::Import(arguments) => import(arguments, &store, progress),
    }
}

fn list(arguments: &ListArguments, store: &Store) -> Result<ExitCode> {
    let listing = Listing::new(store.root(), Listed::all(&store.items()?));
    print(&if arguments.json { report::json(&listing)? } else { listing.to_string() })?;
    Ok(ExitCode::SUCCESS)
}

fn collect_garbage(arguments: &GcArguments, store: Store) -> Result<ExitCode> {
    let expiry = if arguments.all { Expiry::Everything } else { Expiry::Days(arguments.days) };
    let now = SystemTime::now();
    // Looked at only once nobody else can use or change it.
    let (items, alone) = match arguments.dry_run {
        true => (store.items()?, None),
        false => {
            let alone = store.alone()?;
            (alone.store().items()?, Some(alone))
        }
    };
    let (removed, kept): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| expiry.is_over(item, now));
    let text: String = Listed::all(&removed).iter().map(|listed| format!("{listed}\n")).collect();
    if let Some(alone) = &alone {
        removed.iter().try_for_each(|item| alone.remove(item))?;
    }
    let did = if arguments.dry_run { "would remove" } else { "removed" };
    print(&format!("{text}{did} {}, keep {}\n", sum(&removed), sum(&kept)))?;
    Ok(ExitCode::SUCCESS)
}

fn sum(items: &[Item]) -> String {
    report::sum(items.len(), items.iter().map(|item| item.size_bytes).sum())
}

fn verify(arguments: &VerifyArguments, store: Store, progress: &Progress) -> Result<ExitCode> {
    let blobs: Vec<(Digest, Item)> = store.items()?.into_iter().filter_map(blob).collect();
    let size_bytes = blobs.iter().map(|(_, item)| item.size_bytes).sum();
    let stage = progress.stage("verifying", Some(size_bytes));
    let mut wrong = Vec::new();
    for (digest, item) in &blobs {
        let found = regular_file::open_own(&item.path).and_then(Digest::of_reader);
        stage.advance(item.size_bytes);
        if !matches!(found, Ok((found, _)) if found == *digest) {
            let found = found.map_or_else(|error| error.to_string(), |(found, _)| found.to_string());
            wrong.push((item, Wrong { digest: *digest, found, removed: false }));
        }
    }
    stage.finish(&format!("{} blobs", blobs.len()));
    if arguments.remove && !wrong.is_empty() {
        let alone = store.alone()?;
        for (item, wrong) in &mut wrong {
            alone.remove(item)?;
            wrong.removed = true;
        }
    }
    let wrong = wrong.into_iter().map(|(_, wrong)| wrong).collect();
    let verified = Verified { blobs: blobs.len(), size_bytes, wrong };
    print(&if arguments.json { report::json(&verified)? } else { verified.to_string() })?;
    Ok(if verified.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn blob(item: Item) -> Option<(Digest, Item)> {
    match item.kind {
        Kind::Blob(digest) => Some((digest, item)),
        _ => None,
    }
}

fn export(arguments: &ExportArguments, store: &Store, progress: &Progress) -> Result<ExitCode> {
    let directory = arguments.directory.display();
    let stage = progress.stage("exporting", None);
    let (files, mut refused) = match &arguments.locks[..] {
        [] => transfer::rpms(store)?,
        locks => (named_by(locks)?, Vec::new()),
    };
    let (images, lacking) = builder_images(&arguments.locks, store, progress)?;
    refused.extend(lacking);
    let Exported { counts: Counts { new, present }, refused: passed_over } =
        transfer::export(&files, store, &arguments.directory, &stage)?;
    let images = transfer::export_images(&images, store, &arguments.directory, &stage)?;
    refused.extend(passed_over);
    stage.finish(&format!("{} files", new + images.new));
    print(&format!("{new} packages written to {directory}, {present} were there already\n"))?;
    if images.new + images.present > 0 {
        print(&format!("{} builder images written, {} were there already\n", images.new, images.present))?;
    }
    check_all_done(new + present + images.new + images.present, "exported", &refused)
}

/// The builder images that locks name, for every architecture, and why some are not there.
fn builder_images(
    locks: &[PathBuf],
    store: &Store,
    progress: &Progress,
) -> Result<(Vec<StoredImage>, Vec<anyhow::Error>)> {
    let (mut images, mut lacking) = (BTreeMap::new(), Vec::new());
    for path in locks {
        for (arch, section) in &read_lock(path)?.arch {
            let builder = &section.builder;
            let reference: ImageReference = builder.image.parse().context("reading the builder image in the lock")?;
            match StoredImage::find(store, builder.digest, architecture::oci_name(arch), progress) {
                Ok(Some(image)) => drop(images.insert(builder.digest, image)),
                Ok(None) if reference.is_local() => progress.warn(&format!(
                    "the builder image {reference} was made on a machine and is not in the store, so it is not exported: carry it \
                     over with `podman save` and `podman load`"
                )),
                Ok(None) => {
                    lacking.push(anyhow!("the builder image {reference} is not in the store: run ocinitrd fetch first"))
                }
                Err(error) => lacking.push(error.context(format!("looking for the builder image {reference}"))),
            }
        }
    }
    Ok((images.into_values().collect(), lacking))
}

/// Success, unless some of the files were passed over: then an error that names them.
fn check_all_done(done: usize, what: &str, refused: &[anyhow::Error]) -> Result<ExitCode> {
    if !refused.is_empty() {
        let lines: String = refused.iter().map(|error| format!("\n  {error:#}")).collect();
        bail!("of {} files, {} could not be {what}:{lines}", done + refused.len(), refused.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// The rpms that locks name, for every architecture, by the names of their files.
fn named_by(locks: &[PathBuf]) -> Result<BTreeMap<String, Digest>> {
    let mut files = BTreeMap::new();
    for path in locks {
        let lock = read_lock(path)?;
        let packages = lock.arch.values().flat_map(|section| &section.packages);
        files.extend(packages.map(|locked| (fetch::proper_file_name(&locked.package()), locked.sha256)));
    }
    Ok(files)
}

fn read_lock(path: &Path) -> Result<Lock> {
    let reading = || format!("reading {}", path.display());
    let text = regular_file::read_text(path, TEXT_LIMIT_BYTES).with_context(reading)?;
    Lock::parse(&text).with_context(reading)
}

fn import(arguments: &ImportArguments, store: &Store, progress: &Progress) -> Result<ExitCode> {
    let stage = progress.stage("importing", None);
    let imported = transfer::import(&arguments.directory, store, &stage)?;
    let Counts { new, present } = imported.counts;
    let images = imported.images;
    let done = new + present + images.new + images.present;
    stage.finish(&format!("{done} files"));
    print(&format!("{new} packages imported, {present} were there already\n"))?;
    if images.new + images.present > 0 {
        print(&format!("{} builder images imported, {} were there already\n", images.new, images.present))?;
    }
    check_all_done(done, "imported", &imported.refused.into_iter().map(|(_, error)| error).collect::<Vec<_>>())
}

fn print(text: &str) -> Result<()> {
    print::print(|output| output.write_all(text.as_bytes()))
}
