//! From what is installed and what the kernel's packages hold to the two trees of an initrd.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::dnf::InstalledPackage;
use crate::modules::{self, KernelModules, Selection};
use crate::progress::Progress;
use crate::steps::install::Installed;
use crate::tree::{Content, Tree, is_within};
use crate::{finish, kernel};

use super::Workshop;
use super::inputs::{self, Inputs};

const FIRMWARE_DIRECTORY: &str = "usr/lib/firmware";

/// What a build made, ready to be written.
#[derive(Debug)]
pub struct Trees {
    /// Everything that does not depend on the kernel.
    pub base: Tree,
    /// The kernel's modules, their index and the firmware.
    pub modules: Tree,
    /// The kernel itself.
    pub kernel_image: Content,
    /// What `uname -r` will print.
    pub kernel_version: String,
    /// The packages of the base.
    pub packages: Vec<InstalledPackage>,
    /// The time stamp of everything, in seconds.
    pub epoch: u64,
}

/// Finishes the base, reads the kernel's packages, and selects modules and firmware.
///
/// # Errors
/// Fails when the packages hold no kernel, not the one asked for or several, and when one of them cannot be read.
pub fn assemble(workshop: &Workshop<'_>, inputs: &Inputs, installed: Installed) -> Result<Trees> {
    let Workshop { plan, store, progress } = workshop;
    let epoch = plan.epoch(inputs);
    let mut base = installed.layer.tree;
    finish::finish(&mut base, &plan.selection.remove_files, epoch)?;
    let kernel_rpms: Vec<PathBuf> =
        inputs::rpm_files(&inputs.kernel_packages, store).into_iter().map(|(_, path)| path).collect();
    let mut kernel = kernel::read_packages(&kernel_rpms, store.root(), progress)?;
    // Which firmware is needed depends on the kernel, whichever package brings it.
    let firmware = base.split_off(FIRMWARE_DIRECTORY.as_bytes());
    kernel.merge(firmware).context("joining the firmware of the base's packages and of the kernel's")?;
    kernel.set_times(epoch);
    let kernel_version = choose_kernel(&kernel, plan.kernel_version.as_deref())?;
    let kernel_image = kernel_image(&kernel, &kernel_version)?;
    let modules = select_modules(workshop, kernel, &kernel_version, epoch)?;
    Ok(Trees { base, modules, kernel_image, kernel_version, packages: installed.packages, epoch })
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

/// The content of the kernel image of `kernel_version`.
fn kernel_image(kernel: &Tree, kernel_version: &str) -> Result<Content> {
    let path = format!("usr/lib/modules/{kernel_version}/vmlinuz");
    kernel.content(path.as_bytes()).cloned().with_context(|| {
        format!("the kernel's packages hold no /{path}: name the package with the kernel image in [kernel] packages")
    })
}

/// The modules segment's tree: what the patterns choose, what that needs, and its index.
fn select_modules(workshop: &Workshop<'_>, mut kernel: Tree, kernel_version: &str, epoch: u64) -> Result<Tree> {
    let Workshop { plan, store, progress } = workshop;
    let stage = progress.stage("selecting modules", None);
    let available = KernelModules::open(&kernel, kernel_version)?;
    let mut selection = modules::select(&available, &kernel, &plan.patterns, &plan.firmware)?;
    if !plan.definition.keep_module_compression {
        modules::decompress(&mut kernel, &available, &mut selection, store.root())?;
    }
    let index = modules::index(&available, &selection)?;
    modules::prune(&mut kernel, kernel_version, &selection, index, epoch)?;
    let kept = [format!("usr/lib/modules/{kernel_version}"), FIRMWARE_DIRECTORY.to_owned()];
    let is_on_the_way = |path: &[u8], kept: &[u8]| is_within(path, kept) || is_within(kept, path);
    kernel.retain(|path, _| kept.iter().any(|directory| is_on_the_way(path, directory.as_bytes())));
    stage.finish(&format!("{} of {}", selection.modules.len(), available.files().count()));
    report(&selection, progress);
    Ok(kernel)
}

fn report(selection: &Selection, progress: &Progress) {
    for unmatched in &selection.unmatched {
        let nearest = unmatched.nearest.as_ref().map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        progress.warn(&format!("the module pattern {:?} matches no module{nearest}", unmatched.pattern));
    }
    for missing in &selection.missing_dependencies {
        progress.warn(&format!(
            "the module {} cannot be loaded: it needs {}, which no kernel package holds; name its package in [kernel] packages",
            missing.module, missing.dependency
        ));
    }
    for missing in &selection.missing_firmware {
        progress.detail(&format!("firmware {missing} is in no package"));
    }
}
