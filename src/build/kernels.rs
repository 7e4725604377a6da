//! The kernels of an initrd: for each its image and its segment of modules and firmware.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cache::{Cache, Kind};
use crate::format::compress::Compression;
use crate::format::digest::Digest;
use crate::lock::LockedPackage;
use crate::modules::{self, KernelModules, Selection};
use crate::tree::{Tree, is_within};
use crate::workshop::architecture;
use crate::{kernel, microcode, supplies};

use super::base::{Base, FinishedBase};
use super::part::{Draft, Part};
use super::plan::Plan;
use super::{Build, FIRMWARE_DIRECTORY, recipe};

/// What the cache keeps of a kernel's image.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct ImageFacts {
    sha256: Digest,
    /// Whether there is early microcode beside it.
    microcode: bool,
}

/// A kernel's image.
#[derive(Debug)]
pub struct Image {
    /// Its digest.
    pub sha256: Digest,
    /// Whether there is early microcode beside it.
    pub microcode: bool,
    /// Its bytes.
    pub file: File,
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
}

/// What can be made of a kernel.
#[derive(Clone, Copy, Debug)]
struct Drafts {
    /// The digest of what the image is made from.
    image: Digest,
    microcode: Draft,
    modules: Draft,
}

/// A kernel, done.
#[derive(Debug)]
pub struct FinishedKernel {
    /// What `uname -r` prints under it.
    pub version: String,
    /// Its image.
    pub image: Image,
    /// The segment of early microcode, if segments are asked for and there is any.
    pub microcode: Option<Part>,
    /// The segment of its modules, if segments are asked for.
    pub segment: Option<Part>,
    /// The same as a tree, where it was needed.
    pub tree: Option<Tree>,
    /// What a person should know of how the modules were selected, a line each.
    pub warnings: Vec<String>,
}

/// Provides the kernels of the recipe: from the cache, or their rpms.
///
/// # Errors
/// Fails when a package cannot be had, or does not verify.
pub async fn provide(build: &Build<'_>, base: &Base) -> Result<Vec<Kernel>> {
    let mut kernels = Vec::new();
    let mut missing: Vec<LockedPackage> = Vec::new();
    for locked in &build.recipe.kernels {
        let kernel = Kernel::cached(build, locked, base)?;
        if kernel.is_read_from_packages(build.plan) {
            missing.extend(locked.packages.iter().cloned());
        }
        kernels.push(kernel);
    }
    supplies::provide(&build.workshop, &build.section, &missing).await?;
    Ok(kernels)
}

impl Drafts {
    fn new(build: &Build<'_>, kernel: &recipe::Kernel, firmware: Option<Digest>) -> Self {
        let Build { plan, recipe, .. } = build;
        let image = recipe.image(kernel, firmware);
        // The kernel looks for microcode before it can decompress anything.
        let microcode = Draft { name: "microcode", key: recipe.microcode(&image), compression: Compression::None };
        let modules = Draft {
            name: "modules",
            key: recipe.modules(plan, kernel, firmware),
            compression: plan.modules_compression(),
        };
        Drafts { image, microcode, modules }
    }
}

impl Kernel {
    /// What the cache has of a kernel.
    fn cached(build: &Build<'_>, locked: &recipe::Kernel, base: &Base) -> Result<Self> {
        let Build { workshop, plan, .. } = build;
        let cache = &workshop.results;
        let drafts = Drafts::new(build, locked, base.firmware());
        let segment = |draft: &Draft| if plan.wants_segments() { draft.cached(cache) } else { Ok(None) };
        Ok(Kernel {
            version: locked.version.clone(),
            rpms: locked.packages.iter().map(|package| workshop.store.path(&package.sha256)).collect(),
            image: Image::cached(cache, &drafts.image)?,
            microcode: segment(&drafts.microcode)?,
            segment: segment(&drafts.modules)?,
            drafts,
        })
    }

    /// Whether something of it is not in the cache.
    pub fn is_read_from_packages(&self, plan: &Plan) -> bool {
        let Some(image) = &self.image else { return true };
        let lacks_segment = self.segment.is_none() || (image.microcode && self.microcode.is_none());
        plan.wants_tree() || (plan.wants_segments() && lacks_segment)
    }

    /// Makes what is still missing.
    ///
    /// # Errors
    /// Fails when the packages hold no kernel, one of them cannot be read, or something cannot be written.
    pub fn finish(self, build: &Build<'_>, base: &FinishedBase) -> Result<FinishedKernel> {
        if self.is_read_from_packages(build.plan) {
            return self.read_packages(build, base);
        }
        let image = self.image.context("a kernel that is not read has its image")?;
        let warnings = self.segment.iter().flat_map(|segment| segment.facts.warnings.clone()).collect();
        let Kernel { version, microcode, segment, .. } = self;
        Ok(FinishedKernel { version, image, microcode, segment, tree: None, warnings })
    }

    fn read_packages(self, build: &Build<'_>, base: &FinishedBase) -> Result<FinishedKernel> {
        let Build { workshop, plan, recipe, .. } = build;
        let epoch = recipe.epoch;
        let mut tree = kernel::read_packages(&self.rpms, workshop.store.root(), workshop.progress)?;
        tree.merge(base.firmware.clone()).context("joining the firmware of the base's packages and of the kernel's")?;
        tree.set_times(epoch);
        let microcode_tree = microcode::microcode(&tree, architecture(), epoch)?;
        let image = match self.image {
            Some(image) => image,
            None => {
                let has_microcode = microcode_tree.is_some();
                Image::make(&workshop.results, &self.drafts.image, &tree, &self.version, has_microcode)?
            }
        };
        let microcode = match (self.microcode, microcode_tree) {
            (None, Some(tree)) if plan.wants_segments() => {
                Some(self.drafts.microcode.make(&tree, Vec::new(), workshop)?)
            }
            (microcode, _) => microcode,
        };
        let (tree, warnings) = select(build, tree, &self.version)?;
        let segment = match self.segment {
            None if plan.wants_segments() => Some(self.drafts.modules.make(&tree, warnings.clone(), workshop)?),
            segment => segment,
        };
        Ok(FinishedKernel { version: self.version, image, microcode, segment, tree: Some(tree), warnings })
    }
}

impl Image {
    fn cached(cache: &Cache, key: &Digest) -> Result<Option<Image>> {
        let Some(ImageFacts { sha256, microcode }) = cache.record(Kind::Kernel, key) else { return Ok(None) };
        Ok(cache.data(&sha256)?.map(|file| Image { sha256, microcode, file }))
    }

    fn make(cache: &Cache, key: &Digest, kernel: &Tree, version: &str, microcode: bool) -> Result<Image> {
        let path = format!("usr/lib/modules/{version}/vmlinuz");
        let Some(content) = kernel.content(path.as_bytes()) else {
            bail!("the kernel's packages hold no /{path}: name the package with the kernel image in [kernel] packages");
        };
        let mut data = cache.new_data()?;
        io::copy(&mut content.reader(), &mut data).context("writing the kernel's image")?;
        let (file, sha256, _) = data.finish()?;
        cache.keep(Kind::Kernel, key, &ImageFacts { sha256, microcode })?;
        Ok(Image { sha256, microcode, file })
    }
}

/// The modules segment's tree: what the patterns choose, what that needs, and its index; and what to tell of it.
fn select(build: &Build<'_>, mut kernel: Tree, version: &str) -> Result<(Tree, Vec<String>)> {
    let Build { workshop, plan, recipe, .. } = build;
    let progress = workshop.progress;
    let stage = progress.stage("selecting modules", None);
    let available = KernelModules::open(&kernel, version)?;
    let mut selection = modules::select(&available, &kernel, &plan.patterns, &plan.firmware)?;
    if !plan.keep_module_compression {
        modules::decompress(&mut kernel, &available, &mut selection, workshop.store.root())?;
    }
    let index = modules::index(&available, &selection)?;
    modules::prune(&mut kernel, version, &selection, index, recipe.epoch)?;
    let kept = [format!("usr/lib/modules/{version}"), FIRMWARE_DIRECTORY.to_owned()];
    let is_on_the_way = |path: &[u8], kept: &[u8]| is_within(path, kept) || is_within(kept, path);
    kernel.retain(|path, _| kept.iter().any(|directory| is_on_the_way(path, directory.as_bytes())));
    stage.finish(&format!("{} of {}", selection.modules.len(), available.files().count()));
    selection.missing_firmware.iter().for_each(|one| progress.detail(&format!("firmware {one} is in no package")));
    Ok((kernel, warnings(&selection)))
}

fn warnings(selection: &Selection) -> Vec<String> {
    let mut warnings = Vec::new();
    for unmatched in &selection.unmatched {
        let nearest = unmatched.nearest.as_ref().map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        warnings.push(format!("the module pattern {:?} matches no module{nearest}", unmatched.pattern));
    }
    for missing in &selection.missing_dependencies {
        warnings.push(format!(
            "the module {} cannot be loaded: it needs {}, which no kernel package holds; name its package in [kernel] packages",
            missing.module, missing.dependency
        ));
    }
    warnings
}
