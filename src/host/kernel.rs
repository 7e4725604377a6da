//! The segment of the machine's modules: which go in, by which of their files, and what the configuration of modules brings along.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};

use super::files::{self, Elsewhere};
use super::module_settings::{Configured, ModuleSettings};
use super::record::{Record, RecordedModule};
use crate::image::modules::{self, FirmwarePatterns, KernelModules, ModprobeConfiguration, Patterns, Selection};
use crate::image::tree::Tree;
use ocinitrd_format::text::quoted;

/// A kernel of the machine, of which nothing is selected yet.
#[derive(Debug)]
pub(super) struct MachineKernel {
    tree: Tree,
    /// Its modules.
    pub available: KernelModules,
    version: String,
    settings: ModuleSettings,
}

/// What was selected of a kernel.
#[derive(Debug, Default)]
pub(super) struct SelectedKernel {
    /// The modules with their index, and the firmware.
    pub tree: Tree,
    /// The configuration that goes with them.
    pub configured: Configured,
    /// What a person should know, a line each.
    pub warnings: Vec<String>,
}

impl MachineKernel {
    /// Opens a kernel of the machine whose root is `root`.
    ///
    /// # Errors
    /// Fails when it is not installed as a whole, and when the configuration of modules cannot be read.
    pub(super) fn open(root: &Path, version: &str) -> Result<Self> {
        let settings = ModuleSettings::read(root, version)?;
        let elsewhere = Elsewhere { modules: settings.order.externals(), firmware: &settings.settings.firmware_paths };
        let tree = files::of_kernel(root, version, elsewhere)?;
        let available = KernelModules::open_in_order(&tree, version, &settings.order)?;
        Ok(MachineKernel { tree, available, version: version.to_owned(), settings })
    }

    /// The names of the modules that the machine's `modules-load.d` has loaded.
    pub(super) fn loaded(&self) -> BTreeSet<String> {
        self.settings.loaded().collect()
    }

    /// Leaves what the patterns select, with its index, and notes it in `record`. `needed` are the modules that the machine
    /// needs, `in_use` those that count where others went in for what may come.
    ///
    /// # Errors
    /// Fails when a module cannot be read, and when one that is needed cannot be loaded.
    pub(super) fn select(
        mut self,
        patterns: &Patterns,
        firmware: &FirmwarePatterns,
        needed: &[&str],
        in_use: Option<&BTreeSet<String>>,
        epoch: u64,
        record: &mut Record,
    ) -> Result<SelectedKernel> {
        let mut selected =
            modules::select_with(&self.available, &self.tree, patterns, firmware, &self.settings.settings)?;
        if let Some(in_use) = in_use {
            selected.forget_missing_of_others(in_use);
        }
        let kernel_version = &self.version;
        if let Some(missing) = modules::missing_below(&selected, needed) {
            bail!(
                "the module {} of kernel {kernel_version}, which the machine needs, cannot be loaded: it needs {}, which is not there",
                missing.module,
                missing.dependency
            );
        }
        let modprobe = &self.settings.settings.modprobe;
        let mut warnings = std::mem::take(&mut self.settings.warnings);
        warnings.extend(self.available.ignored_lines().iter().cloned());
        warnings.extend(modules::warnings(&selected, "install its package"));
        warnings.extend(settings_warnings(&selected, modprobe, needed));
        warnings.extend(modules::dangling_firmware(&selected, &self.tree));
        // What is not in use, in a generic selection or for what may come, has hundreds, of devices that nobody has here.
        if let Some(in_use) = in_use {
            warnings.extend(modules::missing_firmware(&selected, in_use));
        }
        let configured = self.settings.configured(&selected);
        self.note(&selected, &configured, record);
        let index = modules::index(&self.available, &selected)?;
        modules::prune(&mut self.tree, kernel_version, &selected, index, epoch)?;
        self.tree.set_times(epoch);
        Ok(SelectedKernel { tree: self.tree, configured, warnings })
    }

    fn note(&self, selected: &Selection, configured: &Configured, record: &mut Record) {
        let modprobe = &self.settings.settings.modprobe;
        for (path, info) in &selected.modules {
            let module = RecordedModule {
                path: format!("/{}", String::from_utf8_lossy(path)),
                in_place_of: self.available.replaced(&info.name).to_vec(),
                brought_by: selected.brought_by.get(&info.name).cloned(),
                blacklisted: modprobe.blacklisted(&info.name).map(ToString::to_string),
                install: modprobe.install_command(&info.name).map(|command| command.origin.to_string()),
            };
            record.modules.insert(info.name.clone(), module);
        }
        record.firmware = selected.firmware.iter().map(|path| format!("/{}", String::from_utf8_lossy(path))).collect();
        record.modprobe.clone_from(&configured.modprobe);
        record.modules_load.clone_from(&configured.modules_load);
    }
}

/// What the configuration of modprobe means for modules that are in the initrd and will not be loaded there, or not as they are.
fn settings_warnings(selected: &Selection, modprobe: &ModprobeConfiguration, needed: &[&str]) -> Vec<String> {
    let mut warnings = modules::soft_circles(selected, modprobe);
    for info in selected.modules.values() {
        let name = &info.name;
        let is_needed = needed.contains(&name.as_str());
        let which = if is_needed { format!("{name}, which the machine needs,") } else { name.clone() };
        if let Some(command) = modprobe.install_command(name) {
            let (origin, text) = (&command.origin, quoted(command.command.as_bytes()));
            warnings.push(if command.is_idle {
                format!("the module {which} is not loaded in the initrd: {origin} has modprobe run {text} in its place")
            } else {
                format!(
                    "the module {which} may not be loaded in the initrd: {origin} has a shell run {text} in its place, and \
                     what that runs may not be in the initrd; say the same with softdep and options lines, or have \
                     files of /etc/ocinitrd bring it"
                )
            });
        }
        if is_needed && let Some(origin) = modprobe.blacklisted(name) {
            warnings.push(format!(
                "the module {which} is blacklisted by {origin}: in the initrd too, nothing loads it for the devices that it is \
                 for; remove the line if the machine does not boot"
            ));
        }
    }
    warnings
}
