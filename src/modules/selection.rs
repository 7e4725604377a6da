//! The closure: from the modules that patterns select to all that they need.
//!
//! A module brings its `depends`, what its `softdep` (before and after) and `weakdep` name, and the firmware it may ask
//! for; drivers built into the kernel bring their soft dependencies and firmware too. An exclusion keeps a module out of
//! the patterns' choice, not out of the closure. Only modules that are reached are decoded.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::firmware::FirmwareTree;
use super::kernel_modules::{KernelModules, ModuleFile};
use super::module_info::{self, ModuleInfo, dependency_words};
use super::name::{module_name, normalize_alias};
use super::parallel;
use super::patterns::{FirmwarePatterns, Patterns, UnmatchedPattern};
use crate::tree::{Tree, TreePath};

/// Where modules lie that provide algorithms by alias (`crypto-crc32c`). A soft dependency on an alias is looked up
/// among these and the modules selected: to know every module's aliases, all would have to be decoded.
const ALGORITHM_DIRECTORIES: [&str; 4] = ["kernel/crypto/", "kernel/lib/", "/crypto/", "/lib/"];

/// What an initrd needs of a kernel.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The modules by their paths in the kernel's tree.
    pub modules: BTreeMap<TreePath, ModuleInfo>,
    /// Firmware files and the symbolic links that lead to them, as paths in the firmware's tree.
    pub firmware: BTreeSet<TreePath>,
    /// Patterns a user wrote that match nothing: worth a warning.
    pub unmatched: Vec<UnmatchedPattern>,
    /// Firmware names of selected modules and built-in drivers that no file has. Common: no distribution ships all.
    pub missing_firmware: BTreeSet<String>,
    /// Modules that a selected module cannot be loaded without and that the tree lacks.
    pub missing_dependencies: BTreeSet<MissingDependency>,
}

/// A dependency that the tree lacks.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MissingDependency {
    /// The module that needs it.
    pub module: String,
    /// The module that is needed.
    pub dependency: String,
}

/// Selects modules by `patterns`, and with them all that they need; firmware from `firmware_tree`, which may be the same
/// tree as the modules' or another.
///
/// # Errors
/// Fails when a module that is reached cannot be read.
pub fn select(
    modules: &KernelModules,
    firmware_tree: &Tree,
    patterns: &Patterns,
    firmware_files: &FirmwarePatterns,
) -> Result<Selection> {
    let (selected, unmatched) = patterns.apply(modules);
    let mut closure = Closure::new(modules);
    closure.want_all(selected);
    for value in modules.builtin().values("softdep").chain(modules.builtin().values("weakdep")) {
        dependency_words(value).for_each(|word| closure.want_softly(word));
    }
    closure.run()?;
    let builtin = modules.builtin().values("firmware").map(str::to_owned);
    let named: BTreeSet<String> =
        closure.infos.values().flat_map(|info| info.firmware.iter().cloned()).chain(builtin).collect();
    let (firmware, missing_firmware) = select_firmware(firmware_tree, &named, firmware_files)?;
    let missing_dependencies = closure.missing;
    let paths = |(name, info): (String, ModuleInfo)| modules.get(&name).map(|file| (modules.tree_path(file), info));
    let modules = closure.infos.into_iter().filter_map(paths).collect();
    Ok(Selection { modules, firmware, unmatched, missing_firmware, missing_dependencies })
}

/// A search that decodes the modules it reaches, one wave at a time.
struct Closure<'a> {
    modules: &'a KernelModules,
    infos: BTreeMap<String, ModuleInfo>,
    /// Modules reached and not yet decoded.
    wave: BTreeMap<&'a str, &'a ModuleFile>,
    /// Aliases asked for and not yet looked up, normalised.
    aliases: BTreeSet<String>,
    seen_aliases: BTreeSet<String>,
    /// The modules that provide algorithms and are not selected, decoded when first needed.
    algorithms: Option<BTreeMap<String, ModuleInfo>>,
    missing: BTreeSet<MissingDependency>,
}

impl<'a> Closure<'a> {
    fn new(modules: &'a KernelModules) -> Self {
        Closure {
            modules,
            infos: BTreeMap::new(),
            wave: BTreeMap::new(),
            aliases: BTreeSet::new(),
            seen_aliases: BTreeSet::new(),
            algorithms: None,
            missing: BTreeSet::new(),
        }
    }

    fn run(&mut self) -> Result<()> {
        while !self.wave.is_empty() || !self.aliases.is_empty() {
            let wave: Vec<&ModuleFile> = std::mem::take(&mut self.wave).into_values().collect();
            for info in parallel::map(&wave, |file| self.known_or_read(file))? {
                self.want_dependencies(&info);
                self.infos.insert(info.name.clone(), info);
            }
            if self.wave.is_empty() {
                self.look_up_aliases()?;
            }
        }
        Ok(())
    }

    fn known_or_read(&self, file: &ModuleFile) -> Result<ModuleInfo> {
        let known = self.algorithms.as_ref().and_then(|algorithms| algorithms.get(&file.name));
        known.map_or_else(|| module_info::read(file), |info| Ok(info.clone()))
    }

    fn want_dependencies(&mut self, info: &ModuleInfo) {
        for dependency in &info.depends {
            match self.modules.get(dependency) {
                Some(file) => self.want_all([file]),
                None if self.modules.builtin().contains(&module_name(dependency)) => {}
                None => {
                    let (module, dependency) = (info.name.clone(), dependency.clone());
                    self.missing.insert(MissingDependency { module, dependency });
                }
            }
        }
        info.soft_dependencies().for_each(|word| self.want_softly(word));
    }

    fn want_all(&mut self, files: impl IntoIterator<Item = &'a ModuleFile>) {
        let new = files.into_iter().filter(|file| !self.infos.contains_key(&file.name));
        self.wave.extend(new.map(|file| (file.name.as_str(), file)));
    }

    /// What a soft or weak dependency names may be a module, an alias, or not there at all.
    fn want_softly(&mut self, word: &str) {
        if let Some(file) = self.modules.get(word) {
            self.want_all([file]);
        } else if !self.modules.builtin().contains(&module_name(word))
            && let Some(alias) = normalize_alias(word)
            && self.seen_aliases.insert(alias.clone())
        {
            self.aliases.insert(alias);
        }
    }

    /// Takes every module that provides an algorithm asked for, as modprobe would load every one.
    fn look_up_aliases(&mut self) -> Result<()> {
        let mut aliases = std::mem::take(&mut self.aliases);
        aliases.retain(|alias| !alias.contains(':') && !self.modules.builtin().has_alias(alias));
        if aliases.is_empty() {
            return Ok(());
        }
        let algorithms = match self.algorithms.take() {
            Some(algorithms) => algorithms,
            None => self.read_algorithms()?,
        };
        let provides = |info: &&ModuleInfo| {
            info.aliases.iter().any(|alias| normalize_alias(alias).is_some_and(|alias| aliases.contains(&alias)))
        };
        let modules = self.modules;
        self.want_all(algorithms.values().filter(provides).filter_map(|info| modules.get(&info.name)));
        self.algorithms = Some(algorithms);
        Ok(())
    }

    fn read_algorithms(&self) -> Result<BTreeMap<String, ModuleInfo>> {
        let candidates = self.modules.files().filter(|file| {
            let path = file.relative_path.as_str();
            let [crypto, library, arch_crypto, arch_library] = ALGORITHM_DIRECTORIES;
            let of_arch = path.starts_with("kernel/arch/") && (path.contains(arch_crypto) || path.contains(arch_library));
            (path.starts_with(crypto) || path.starts_with(library) || of_arch) && !self.infos.contains_key(&file.name)
        });
        let infos = parallel::map(&candidates.collect::<Vec<_>>(), |file| module_info::read(file))?;
        Ok(infos.into_iter().map(|info| (info.name.clone(), info)).collect())
    }
}

/// The firmware that is named or asked for, with the links that lead to it, and the names that no file has.
fn select_firmware(
    tree: &Tree,
    named: &BTreeSet<String>,
    patterns: &FirmwarePatterns,
) -> Result<(BTreeSet<TreePath>, BTreeSet<String>)> {
    let firmware = FirmwareTree::new(tree);
    let mut missing = BTreeSet::new();
    let mut wanted: BTreeSet<Vec<u8>> = BTreeSet::new();
    for name in named {
        let found = firmware.named(name)?;
        if found.is_empty() {
            missing.insert(name.clone());
        }
        wanted.extend(found.into_iter().filter(|path| patterns.verdict(path) != Some(false)));
    }
    wanted.extend(firmware.paths().filter(|path| patterns.verdict(path) == Some(true)).map(<[u8]>::to_vec));
    let entries = wanted.iter().filter_map(|path| firmware.follow(path)).flatten().collect();
    Ok((entries, missing))
}
