//! The kernels of an initrd: for each its image and its segment of modules and firmware.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cache::{Cache, Kind};
use crate::commands::supplies;
use crate::commands::workshop::{Workshop, architecture};
use crate::format::compress::Compression;
use crate::format::digest::Digest;
use crate::lock::{LockedPackage, Section};
use crate::modules::{self, KernelModules, Selection};
use crate::tree::{Tree, is_within};
use crate::{kernel, microcode};

use super::base::{Base, FinishedBase};
use super::part::Part;
use super::plan::Plan;
use super::recipe::Recipe;

const FIRMWARE_DIRECTORY: &str = "usr/lib/firmware";
const MICROCODE: &str = "microcode";

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
    key: Digest,
    image_key: Digest,
    rpms: Vec<PathBuf>,
    image: Option<Image>,
    microcode_key: Digest,
    microcode: Option<Part>,
    segment: Option<Part>,
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
pub async fn provide(
    workshop: &Workshop<'_>,
    plan: &Plan,
    section: &Section,
    recipe: &Recipe<'_>,
    base: &Base,
) -> Result<Vec<Kernel>> {
    let cache = &workshop.results;
    let mut kernels = Vec::new();
    let mut missing: Vec<&LockedPackage> = Vec::new();
    for (position, (locked, packages)) in recipe.kernels.iter().enumerate() {
        let (key, image_key) =
            (recipe.modules(plan, position, base.firmware()), recipe.image(position, base.firmware()));
        let microcode_key = recipe.microcode(&image_key);
        let cached = |key: &Digest, name, compression| match plan.wants_segments() {
            true => Part::cached(cache, key, name, compression),
            false => Ok(None),
        };
        let kernel = Kernel {
            version: locked.version.clone(),
            rpms: packages.iter().map(|package| workshop.store.path(&package.sha256)).collect(),
            image: Image::cached(cache, &image_key)?,
            microcode: cached(&microcode_key, MICROCODE, Compression::None)?,
            segment: cached(&key, "modules", plan.modules_compression())?,
            key,
            image_key,
            microcode_key,
        };
        if kernel.is_read_from_packages(plan) {
            missing.extend(packages);
        }
        kernels.push(kernel);
    }
    supplies::provide(workshop, section, &missing).await?;
    Ok(kernels)
}

impl Kernel {
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
    pub fn finish(
        self,
        plan: &Plan,
        epoch: u64,
        base: &FinishedBase,
        workshop: &Workshop<'_>,
    ) -> Result<FinishedKernel> {
        let (cache, progress) = (&workshop.results, workshop.progress);
        if !self.is_read_from_packages(plan) {
            let image = self.image.context("a kernel that is not read has its image")?;
            let warnings = self.segment.iter().flat_map(|segment| segment.facts.warnings.clone()).collect();
            let Kernel { version, microcode, segment, .. } = self;
            return Ok(FinishedKernel { version, image, microcode, segment, tree: None, warnings });
        }
        let mut tree = kernel::read_packages(&self.rpms, workshop.store.root(), progress)?;
        tree.merge(base.firmware.clone()).context("joining the firmware of the base's packages and of the kernel's")?;
        tree.set_times(epoch);
        let microcode_tree = microcode::microcode(&tree, architecture(), epoch)?;
        let image = match self.image {
            Some(image) => image,
            None => Image::make(cache, &self.image_key, &tree, &self.version, microcode_tree.is_some())?,
        };
        let microcode = match (self.microcode, microcode_tree) {
            (None, Some(tree)) if plan.wants_segments() => {
                let (key, warnings) = (&self.microcode_key, Vec::new());
                // The kernel looks for it before it can decompress anything.
                Some(Part::make(cache, key, MICROCODE, &tree, Compression::None, warnings, progress)?)
            }
            (microcode, _) => microcode,
        };
        let (tree, warnings) = select(plan, tree, &self.version, epoch, workshop)?;
        let segment = match self.segment {
            None if plan.wants_segments() => {
                let compression = plan.modules_compression();
                Some(Part::make(cache, &self.key, "modules", &tree, compression, warnings.clone(), progress)?)
            }
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
        let (sha256, _) = data.finish()?;
        cache.keep(Kind::Kernel, key, &ImageFacts { sha256, microcode })?;
        let file = cache.data(&sha256)?.context("what was just written to the cache is gone")?;
        Ok(Image { sha256, microcode, file })
    }
}

/// The modules segment's tree: what the patterns choose, what that needs, and its index; and what to tell of it.
fn select(
    plan: &Plan,
    mut kernel: Tree,
    version: &str,
    epoch: u64,
    workshop: &Workshop<'_>,
) -> Result<(Tree, Vec<String>)> {
    let progress = workshop.progress;
    let stage = progress.stage("selecting modules", None);
    let available = KernelModules::open(&kernel, version)?;
    let mut selection = modules::select(&available, &kernel, &plan.patterns, &plan.firmware)?;
    if !plan.keep_module_compression {
        modules::decompress(&mut kernel, &available, &mut selection, workshop.store.root())?;
    }
    let index = modules::index(&available, &selection)?;
    modules::prune(&mut kernel, version, &selection, index, epoch)?;
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
