//! Which kernel modules and firmware an initrd needs, and the module index for what is left.
//!
//! In: a tree with `usr/lib/modules/KVER` as a kernel package ships it (modules, `modules.builtin`,
//! `modules.builtin.modinfo`, `modules.order`; no index), `usr/lib/firmware` in the same tree, and patterns.
//! Out: the same tree with the modules selected, their dependencies, their firmware, and the files that depmod(8) would
//! write for them. No program is run.
//!
//! The steps, in order: [`KernelModules::open`], [`select`], perhaps [`decompress()`], [`index()`], [`prune()`]. For a machine, whose
//! configuration of kmod counts too ([`kmod`]): [`KernelModules::open_in_order`] and [`select_with`].
//!
//! Patterns follow mkosi(1), `KernelModules=` and `FirmwareFiles=`; the index files follow modules.dep(5) and kmod's
//! `depmod`.

mod builtin;
mod decompress;
mod firmware;
#[cfg(test)]
pub(crate) mod fixture;
mod globs;
mod index;
mod kernel_modules;
mod kmod;
mod module_info;
mod name;
mod patterns;
mod prune;
mod selection;
mod soft_circles;

pub use decompress::decompress;
pub use firmware::FIRMWARE_DIRECTORY;
pub use index::index;
pub use kernel_modules::{KernelModules, ModuleFile, external_path, kernel_versions};
pub use kmod::depmod::{DEPMOD_DIRECTORIES, External, SearchOrder};
pub use kmod::files::{ConfigurationFile, Origin, configuration_files};
pub use kmod::modprobe::{InstallCommand, MODPROBE_DIRECTORIES, ModprobeConfiguration};
pub use module_info::ModuleInfo;
pub use name::{Compression, is_module};
pub use patterns::{FirmwarePatterns, Patterns, UnmatchedPattern, chosen};
pub use prune::prune;
pub use selection::{
    MissingDependency, Selection, Settings, dangling_firmware, missing_below, missing_firmware, select, select_with,
    warnings,
};
pub use soft_circles::soft_circles;
