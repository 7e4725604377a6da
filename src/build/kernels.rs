//! The kernels of an initrd: for each its image and its segment of modules and firmware.

use std::io;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::image::kernel;
use crate::image::microcode;
use crate::image::modules::{self, KernelModules};
use crate::image::tree::{Content, Tree, is_within};
use crate::lock::file::LockedPackage;
use crate::lock::provision;
use crate::packages::cache::{Cache, Kind};
use ocinitrd_format::architecture;
use ocinitrd_format::compress::Compression;
use ocinitrd_format::digest::Digest;

use super::Build;
use super::base::FinishedBase;
use super::cache_key;
use super::part::{Part, SegmentSpec};
use super::plan::Plan;
use super::prefetch::Reading;

/// What the cache keeps of a kernel's image.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct ImageFacts {
    sha256: Digest,
    /// Whether there is early microcode beside it.
    microcode: bool,
}

/// A kernel's image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its digest.
    pub sha256: Digest,
    /// Whether there is early microcode beside it.
    pub microcode: bool,
    /// Its bytes.
    pub content: Content,
}

/// A kernel's image, maybe still to be kept.
#[derive(Clone, Debug)]
pub enum ImageSource {
    /// From the cache.
    Cached(Image),
    /// From a kernel's packages.
    Packages {
        /// The key under which it will be kept.
        key: Digest,
        /// Whether there is early microcode beside it.
        microcode: bool,
        /// Its bytes.
        content: Content,
    },
}

/// A kernel, with what is left to do.
#[derive(Debug)]
pub struct Kernel {
    version: String,
    rpms: Vec<PathBuf>,
    drafts: Drafts,
    image: Option<Image>,
    microcode: Option<Part>,
    segment: Option<Part>,
    /// Its packages, if they are read while they are verified.
    reading: Option<Reading>,
}

/// What can be made of a kernel.
#[derive(Clone, Copy, Debug)]
struct Drafts {
    /// The digest of what the image is made from.
    image: Digest,
    microcode: SegmentSpec,
    modules: SegmentSpec,
}

/// A kernel, its packages read as far as something of it was missing.
#[derive(Debug)]
pub struct ReadKernel {
    version: String,
    drafts: Drafts,
    image: ImageSource,
    /// The segment of early microcode, if segments are asked for and there is any.
    pub microcode: Option<Part>,
    segment: Option<Part>,
    /// What its packages hold, where that is needed.
    tree: Option<Tree>,
}

/// A kernel, done.
#[derive(Debug)]
pub struct FinishedKernel {
    /// What `uname -r` prints under it.
    pub version: String,
    /// The segment of early microcode, if segments are asked for and there is any.
    pub microcode: Option<Part>,
    /// The segment of its modules, if segments are asked for.
    pub segment: Option<Part>,
    /// The same as a tree, where it was needed.
    pub tree: Option<Tree>,
    /// What a person should know of how the modules were selected, a line each.
    pub warnings: Vec<String>,
}

/// Provides the kernels of the recipe: from the cache, or their rpms. `firmware` is a digest of the base's firmware.
///
/// # Errors
/// Fails when a package cannot be had, or does not verify.
pub async fn provide(build: &Build<'_>, firmware: Option<Digest>) -> Result<Vec<Kernel>> {
    let mut kernels = Vec::new();
    let mut missing: Vec<LockedPackage> = Vec::new();
    let Build { context, .. } = build;
    for locked in &build.recipe.kernels {
        let mut kernel = Kernel::cached(build, locked, firmware)?;
        if kernel.is_read_from_packages(build.plan) {
            missing.extend(locked.packages.iter().cloned());
            kernel.reading = Reading::begin(&kernel.rpms, &context.store, context.progress);
        }
        kernels.push(kernel);
    }
    provision::provide(context, &build.section, &missing).await?;
    Ok(kernels)
}

impl Drafts {
    fn new(build: &Build<'_>, kernel: &cache_key::Kernel, firmware: Option<Digest>) -> Self {
        let Build { plan, recipe, .. } = build;
        let image = recipe.image(kernel, firmware);
        // The kernel looks for microcode before it can decompress anything.
        let microcode =
            SegmentSpec { name: "microcode", key: recipe.microcode(&image), compression: Compression::None };
        let modules = SegmentSpec {
            name: "modules",
            key: recipe.modules(plan, kernel, firmware),
            compression: plan.modules_compression(),
        };
        Drafts { image, microcode, modules }
    }
}

impl Kernel {
    /// What the cache has of a kernel.
    fn cached(build: &Build<'_>, locked: &cache_key::Kernel, firmware: Option<Digest>) -> Result<Self> {
        let Build { context, plan, .. } = build;
        let cache = &context.results;
        let drafts = Drafts::new(build, locked, firmware);
        let segment = |draft: &SegmentSpec| if plan.wants_segments() { draft.cached(cache) } else { Ok(None) };
        Ok(Kernel {
            version: locked.version.clone(),
            rpms: locked.packages.iter().map(|package| context.store.path(&package.sha256)).collect(),
            image: Image::cached(cache, &drafts.image)?,
            microcode: segment(&drafts.microcode)?,
            segment: segment(&drafts.modules)?,
            drafts,
            reading: None,
        })
    }

    /// Whether something of it is not in the cache.
    pub fn is_read_from_packages(&self, plan: &Plan) -> bool {
        let Some(image) = &self.image else { return true };
        let lacks_segment = self.segment.is_none() || (image.microcode && self.microcode.is_none());
        plan.wants_tree() || (plan.wants_segments() && lacks_segment)
    }

    /// Reads its packages if something of it is missing: its image and microcode, and what the modules are selected from.
    ///
    /// # Errors
    /// Fails when the packages hold no kernel, one of them cannot be read, or something cannot be written.
    pub fn read(self, build: &Build<'_>, base: &FinishedBase) -> Result<ReadKernel> {
        if self.is_read_from_packages(build.plan) {
            return self.read_packages(build, base);
        }
        let Kernel { version, drafts, image, microcode, segment, .. } = self;
        let image = image.context("a kernel that is not read has its image")?;
        Ok(ReadKernel { version, drafts, image: ImageSource::Cached(image), microcode, segment, tree: None })
    }

    fn read_packages(self, build: &Build<'_>, base: &FinishedBase) -> Result<ReadKernel> {
        let Build { context, plan, recipe, .. } = build;
        let Kernel { version, rpms, drafts, image, microcode, segment, reading } = self;
        let mut tree = match reading.map(Reading::finish).transpose()?.flatten() {
            Some(tree) => tree,
            None => kernel::read_packages(&rpms, context.store.root(), context.progress)?,
        };
        tree.merge(base.firmware.clone()).context("joining the firmware of the base's packages and of the kernel's")?;
        tree.set_times(recipe.epoch.seconds());
        let microcode_tree = microcode::microcode(&tree, architecture::native(), recipe.epoch.seconds())?;
        let image = match image {
            Some(image) => ImageSource::Cached(image),
            None => ImageSource::Packages {
                key: drafts.image,
                microcode: microcode_tree.is_some(),
                content: image_of(&tree, &version)?,
            },
        };
        let microcode = match (microcode, microcode_tree) {
            (None, Some(tree)) if plan.wants_segments() => Some(drafts.microcode.make(&tree, Vec::new(), context)?),
            (microcode, _) => microcode,
        };
        Ok(ReadKernel { version, drafts, image, microcode, segment, tree: Some(tree) })
    }
}

impl ReadKernel {
    /// Its version, as `uname -r` prints it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its image.
    pub fn image(&self) -> &ImageSource {
        &self.image
    }

    /// Selects its modules, and makes what is still missing.
    ///
    /// # Errors
    /// Fails when a module cannot be read, or the segment cannot be written.
    pub fn finish(self, build: &Build<'_>) -> Result<FinishedKernel> {
        let ReadKernel { version, drafts, microcode, segment, tree, .. } = self;
        let Some(tree) = tree else {
            let warnings = segment.iter().flat_map(|segment| segment.facts.warnings.clone()).collect();
            return Ok(FinishedKernel { version, microcode, segment, tree: None, warnings });
        };
        let (tree, warnings) = select(build, tree, &version)?;
        let segment = match segment {
            None if build.plan.wants_segments() => {
                Some(drafts.modules.make(&tree, warnings.clone(), &build.context)?)
            }
            segment => segment,
        };
        if !build.plan.wants_tree() {
            // Files of a hundred megabytes are forgotten while the outputs are written.
            thread::spawn(move || drop(tree));
            return Ok(FinishedKernel { version, microcode, segment, tree: None, warnings });
        }
        Ok(FinishedKernel { version, microcode, segment, tree: Some(tree), warnings })
    }
}

impl Image {
    fn cached(cache: &Cache, key: &Digest) -> Result<Option<Image>> {
        let Some(ImageFacts { sha256, microcode }) = cache.record(Kind::Kernel, key) else { return Ok(None) };
        let Some(file) = cache.data(&sha256)? else { return Ok(None) };
        let content = Content::of_file(file).context("reading from the cache")?;
        Ok(Some(Image { sha256, microcode, content }))
    }
}

impl ImageSource {
    /// The image, and leaves it in the cache if it is not there.
    ///
    /// # Errors
    /// Fails when it cannot be read or written.
    pub fn keep(self, cache: &Cache) -> Result<Image> {
        let (key, microcode, content) = match self {
            ImageSource::Cached(image) => return Ok(image),
            ImageSource::Packages { key, microcode, content } => (key, microcode, content),
        };
        let mut data = cache.new_data()?;
        io::copy(&mut content.reader(), &mut data).context("writing the kernel's image")?;
        let (_, sha256, _) = data.finish()?;
        cache.keep(Kind::Kernel, &key, &ImageFacts { sha256, microcode })?;
        Ok(Image { sha256, microcode, content })
    }
}

/// The image in what a kernel's packages hold.
fn image_of(kernel: &Tree, version: &str) -> Result<Content> {
    let path = format!("usr/lib/modules/{version}/vmlinuz");
    let content = kernel.content(path.as_bytes()).cloned();
    content.with_context(|| {
        format!("the kernel's packages hold no /{path}: name the package with the kernel image in [kernel] packages")
    })
}

/// The modules segment's tree: what the patterns choose, what that needs, and its index; and what to tell of it.
fn select(build: &Build<'_>, mut kernel: Tree, version: &str) -> Result<(Tree, Vec<String>)> {
    let Build { context, plan, recipe, .. } = build;
    let progress = context.progress;
    let stage = progress.stage("selecting modules", None);
    let available = KernelModules::open(&kernel, version)?;
    let mut selection = modules::select(&available, &kernel, &plan.patterns, &plan.firmware)?;
    let dangling = modules::dangling_firmware(&selection, &kernel);
    if !plan.keep_module_compression {
        modules::decompress(&mut kernel, &available, &mut selection, context.store.root())?;
    }
    let index = modules::index(&available, &selection)?;
    modules::prune(&mut kernel, version, &selection, index, recipe.epoch.seconds())?;
    let kept = [format!("usr/lib/modules/{version}"), modules::FIRMWARE_DIRECTORY.to_owned()];
    let is_on_the_way = |path: &[u8], kept: &[u8]| is_within(path, kept) || is_within(kept, path);
    kernel.retain(|path, _| kept.iter().any(|directory| is_on_the_way(path, directory.as_bytes())));
    stage.finish(&format!("{} of {}", selection.modules.len(), available.files().count()));
    selection.missing_firmware.iter().for_each(|one| progress.detail(&format!("firmware {one} is in no package")));
    dangling.iter().for_each(|line| progress.detail(line));
    let warnings = modules::warnings(&selection, "name its package in [kernel] packages");
    Ok((kernel, available.ignored_lines().iter().cloned().chain(warnings).collect()))
}
