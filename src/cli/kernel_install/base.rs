//! The base of a machine's initrds: the one that is there, or one that is built in a container if the administrator allows it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;
use tokio::runtime::Runtime;

use crate::build::{self, Format, Kernels, Plan, Request};
use crate::cli::runtime;
use crate::cli::source_options::SourceOptions;
use crate::cli::update;
use crate::container::engine::Cancellation;
use crate::definition::{Definition, Shipped};
use crate::host::{self, Base, Configuration, Search};
use crate::image::manifest;
use crate::lock::context::BuildContext;
use crate::lock::ensure::LockMode;
use crate::packages::store;
use ocinitrd_support::links;
use ocinitrd_support::progress::Progress;
use ocinitrd_support::regular_file;

/// Where the administrator's definitions are, in a directory `images`.
pub const OWN: &str = "etc/ocinitrd";
/// Where those are that came with the program.
pub const SHIPPED: &str = "usr/share/ocinitrd/images";
/// Where the lock of a definition lies that a package brought, and the bases that are built.
const STATE: &str = "var/lib/ocinitrd";
/// What a build keeps: during a transaction of packages there may be no HOME.
const CACHE: &str = "var/cache/ocinitrd";
/// What is locked while a base is built.
const LOCK: &str = "bases.lock";

/// Where bases are looked for, and built.
#[derive(Clone, Copy, Debug)]
pub struct Bases<'a> {
    /// The root of the machine.
    pub root: &'a Path,
    /// Progress reporter.
    pub progress: &'a Progress,
}

impl Bases<'_> {
    /// The base that serves. Where none does and the administrator allows it, one is built.
    ///
    /// # Errors
    /// Fails where none serves and none is to be built, or cannot be; what was there stays.
    pub fn provide(&self, configuration: &Configuration) -> Result<Base> {
        let root = self.root;
        let reason = match host::base(root, configuration)? {
            Search::Found(base) => return Ok(*base),
            Search::Wanting { reason, .. } => reason,
        };
        let (Some(image), Some(name)) = (&configuration.build, configuration.built_base()) else {
            bail!(
                "{reason:#}; build one with `ocinitrd build IMAGE -t base -O /var/lib/ocinitrd/bases/IMAGE`, or have it \
                 built when it is needed, with build = \"IMAGE\" in /etc/ocinitrd/host.toml"
            );
        };
        let place = host::place_of_built(root, name);
        let _alone = lock(root, LOCK)?;
        make_parent(&place)?;
        // Whoever had the lock may have built it.
        let is_old = match host::base(root, configuration)? {
            Search::Found(base) => return Ok(*base),
            Search::Wanting { is_old, .. } => is_old,
        };
        self.progress.note(&format!("{reason:#}; {image} is built, as build of /etc/ocinitrd says"));
        let runtime = runtime()?;
        let built = runtime.block_on(self.build(image, &place, is_old));
        end_at_signals(runtime)?;
        built.with_context(|| format!("building a base of {image}, since {reason:#}"))?;
        Base::open(&place)
    }

    /// What `ocinitrd build IMAGE -t base` does. One that is old is built of newer packages.
    async fn build(&self, image: &str, place: &Path, is_old: bool) -> Result<()> {
        let definition = load(self.root, image)?;
        let request = Request {
            profiles: Vec::new(),
            kernels: Kernels::Newest,
            formats: BTreeSet::from([Format::Base]),
            segments: false,
            compression: None,
            epoch: None,
            output_name: None,
            // What is there serves not, and may be too damaged to be known for a base.
            force: true,
            command_line: None,
            output_directory: place.to_owned(),
        };
        let plan = Plan::new(request, &definition)?;
        let mut supply = SourceOptions::default().supply()?;
        supply.host.cache = self.root.join(CACHE);
        let context = BuildContext::open(definition, supply, self.progress)?;
        if is_old {
            update::renew(&context).await.context("looking for newer packages")?;
        }
        build::build(&plan, context, LockMode::Used).await?;
        // Where nothing is newer, nothing was written; it was looked for today, and that is what counts.
        let path = place.join(manifest::FILE_NAME);
        regular_file::open_own(&path)
            .and_then(|file| file.set_modified(SystemTime::now()))
            .with_context(|| format!("setting the time of {}", path.display()))
    }
}

/// Waits until nobody else does what is locked by that name.
pub fn lock(root: &Path, name: &str) -> Result<File> {
    // In a directory of our own: anybody who can open a file can hold its lock for ever.
    let cache = root.join(CACHE);
    store::open_root(&cache)?;
    let path = cache.join(name);
    let locking = || format!("locking {}", path.display());
    let file = regular_file::open_for_writing(&path).with_context(locking)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).with_context(locking)?;
    Ok(file)
}

/// Ends the process at a signal, as before the build: tokio never gives up the handlers that it installed for that.
fn end_at_signals(runtime: Runtime) -> Result<()> {
    runtime.block_on(async {
        let cancellation = Cancellation::on_signals()?;
        tokio::spawn(async move { std::process::exit(cancellation.cancelled().await.exit_code().into()) });
        anyhow::Ok(())
    })?;
    // Who listens does so until the process ends.
    std::mem::forget(runtime);
    Ok(())
}

/// The definition at that path; or of that name, the administrator's before those that came with the program.
fn load(root: &Path, image: &str) -> Result<Definition> {
    let [own, shipped, locks] = [OWN, SHIPPED, STATE].map(|place| root.join(place));
    if image.contains('/') {
        let path =
            links::place(root, Path::new(image)).with_context(|| format!("looking for the definition {image}"))?;
        return Definition::load(&path.to_string_lossy(), &own);
    }
    let shipped = Shipped { images: &shipped, locks: &locks };
    Definition::load_or_shipped(image, &own, Some(shipped))
        .with_context(|| format!("looking for the image {image:?} that build of /etc/ocinitrd names, or for a path"))
}

/// Makes the directory of the bases that are built; the one above it has their locks.
fn make_parent(place: &Path) -> Result<()> {
    let directory = place.parent().context("a base has a directory above it")?;
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))
}
