//! The closure: from the modules that patterns select to all that they need.
//!
//! A module brings its `depends`, what its `softdep` (before and after) and `weakdep` name, and the firmware it may ask
//! for; so do lines of `modprobe.d`, where a machine has them. Drivers built into the kernel bring their soft dependencies and
//! firmware too. An exclusion keeps a module out of
//! the patterns' choice, not out of the closure. Only modules that are reached are decoded.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::firmware::{self, FirmwareTree};
use super::kernel_modules::{KernelModules, ModuleFile};
use super::kmod::modprobe::ModprobeConfiguration;
use super::module_info::{self, ModuleInfo, dependency_words};
use super::name::{module_name, normalize_alias};
use super::patterns::{FirmwarePatterns, Patterns, UnmatchedPattern};
use crate::image::tree::{Kind, Tree, TreePath, is_within};
use ocinitrd_format::text::quoted;
use ocinitrd_support::parallel;

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
    /// Symlinks in the place of firmware that lead nowhere, by the name of the firmware.
    pub dangling_firmware: BTreeSet<(String, TreePath)>,
    /// The lines of `modprobe.d` that brought modules, by the name of the module.
    pub brought_by: BTreeMap<String, String>,
    /// Directories outside of those of kernel and firmware that were looked through.
    pub others: BTreeSet<TreePath>,
}

/// The settings of a machine that decide with the kernel's own files.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Its configuration of modprobe.
    pub modprobe: ModprobeConfiguration,
    /// Values of the kernel's option `firmware_class.path=`.
    pub firmware_paths: Vec<String>,
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
    select_with(modules, firmware_tree, patterns, firmware_files, &Settings::default())
}

/// Selects as [`select`] does, by the settings of a machine too.
///
/// # Errors
/// Fails when a module that is reached cannot be read.
pub fn select_with(
    modules: &KernelModules,
    firmware_tree: &Tree,
    patterns: &Patterns,
    firmware_files: &FirmwarePatterns,
    settings: &Settings,
) -> Result<Selection> {
    let (selected, unmatched) = patterns.apply(modules);
    let mut closure = Closure::new(modules, &settings.modprobe);
    selected.into_iter().for_each(|file| closure.want(file));
    closure.want_of_builtin();
    closure.run()?;
    let builtin = modules.builtin().values("firmware").map(str::to_owned);
    let named: BTreeSet<String> =
        closure.infos.values().flat_map(|info| info.firmware.iter().cloned()).chain(builtin).collect();
    let mut selection = Selection { unmatched, missing_dependencies: closure.missing, ..Selection::default() };
    let search = firmware::search_path(modules.version(), &settings.firmware_paths);
    let is_other = |path: &TreePath| !is_within(path, firmware::FIRMWARE_DIRECTORY.as_bytes());
    selection.others = modules.external_paths().chain(search.iter().cloned()).filter(is_other).collect();
    select_firmware(&FirmwareTree::new(firmware_tree, search), &named, firmware_files, &mut selection)?;
    selection.brought_by = closure.brought_by;
    let paths = |(name, info): (String, ModuleInfo)| modules.get(&name).map(|file| (modules.tree_path(file), info));
    selection.modules = closure.infos.into_iter().filter_map(paths).collect();
    let names: BTreeSet<&str> = selection.modules.values().map(|info| info.name.as_str()).collect();
    selection.brought_by.retain(|name, _| names.contains(name.as_str()));
    Ok(selection)
}

/// A search that decodes the modules it reaches.
struct Closure<'a> {
    modules: &'a KernelModules,
    modprobe: &'a ModprobeConfiguration,
    /// What is reached.
    wanted: BTreeSet<&'a str>,
    /// What is decoded: also modules that provide algorithms, reached or not.
    infos: BTreeMap<String, ModuleInfo>,
    /// What is decoded or will be.
    begun: BTreeSet<&'a str>,
    /// What is to be decoded and not yet handed out.
    next: Vec<Reached<'a>>,
    /// What is wanted and decoded, and what it needs not yet wanted.
    ready: Vec<String>,
    /// The aliases of algorithms that were asked for, normalised.
    aliases: BTreeSet<String>,
    missing: BTreeSet<MissingDependency>,
    /// The line that asked for a module first.
    brought_by: BTreeMap<String, String>,
}

/// A module to be decoded. What is greatest comes first: what is surely needed, since it tells what else is, and what takes
/// longest, since begun last it would keep the others waiting.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Reached<'a> {
    is_wanted: bool,
    size_bytes: u64,
    name: &'a str,
}

impl<'a> Closure<'a> {
    fn new(modules: &'a KernelModules, modprobe: &'a ModprobeConfiguration) -> Self {
        Closure {
            modules,
            modprobe,
            brought_by: BTreeMap::new(),
            wanted: BTreeSet::new(),
            infos: BTreeMap::new(),
            begun: BTreeSet::new(),
            next: Vec::new(),
            ready: Vec::new(),
            aliases: BTreeSet::new(),
            missing: BTreeSet::new(),
        }
    }

    /// Wants what drivers that are built into the kernel need.
    fn want_of_builtin(&mut self) {
        let builtin = self.modules.builtin();
        for value in builtin.values("softdep").chain(builtin.values("weakdep")) {
            dependency_words(value).for_each(|word| self.want_softly(word));
        }
        builtin.names().for_each(|name| self.want_configured(name));
    }

    fn run(&mut self) -> Result<()> {
        let modules = self.modules;
        let first = std::mem::take(&mut self.next);
        let read = |reached: &Reached<'_>| {
            module_info::read(modules.get(reached.name).expect("what is reached is a module of the kernel"))
        };
        parallel::explore(first, read, |info| {
            self.take(info);
            std::mem::take(&mut self.next)
        })?;
        self.infos.retain(|name, _| self.wanted.contains(name.as_str()));
        Ok(())
    }

    fn take(&mut self, info: ModuleInfo) {
        let name = info.name.clone();
        let is_wanted = self.wanted.contains(name.as_str());
        let provides = !is_wanted && info.aliases.iter().any(|alias| self.is_asked_for(alias));
        self.infos.insert(name.clone(), info);
        if is_wanted {
            self.ready.push(name);
        } else if provides {
            self.want_named(&name);
        }
        while let Some(name) = self.ready.pop() {
            self.follow(&name);
        }
    }

    fn is_asked_for(&self, alias: &str) -> bool {
        normalize_alias(alias).is_some_and(|alias| self.aliases.contains(&alias))
    }

    /// Wants what a decoded module needs.
    fn follow(&mut self, name: &str) {
        let Some(info) = self.infos.get(name).cloned() else { return };
        for dependency in &info.depends {
            match self.modules.get(dependency) {
                Some(file) => self.want(file),
                None if self.modules.builtin().contains(&module_name(dependency)) => {}
                None => {
                    let (module, dependency) = (info.name.clone(), dependency.clone());
                    self.missing.insert(MissingDependency { module, dependency });
                }
            }
        }
        info.soft_dependencies().for_each(|word| self.want_softly(word));
        self.want_configured(&info.name);
        let redirected =
            self.modprobe.redirected(&info).map(|(origin, target)| (target.to_owned(), origin.to_string()));
        for (target, line) in redirected.collect::<Vec<_>>() {
            self.want_by_line(&target, &line);
        }
    }

    /// Wants what lines of `modprobe.d` say that a module needs.
    fn want_configured(&mut self, name: &str) {
        let modprobe = self.modprobe;
        let words: Vec<(String, String)> = modprobe
            .dependencies(name)
            .map(|(origin, word)| (word.to_owned(), format!("{origin} for {name}")))
            .collect();
        for (word, line) in words {
            modprobe.meant(&word).for_each(|module| self.want_by_line(&module, &line));
        }
    }

    fn want_by_line(&mut self, module: &str, line: &str) {
        let name = module_name(module);
        if !self.wanted.contains(name.as_str()) {
            self.brought_by.entry(name).or_insert_with(|| line.to_owned());
        }
        self.want_softly(module);
    }

    fn want(&mut self, file: &'a ModuleFile) {
        if !self.wanted.insert(&file.name) {
            return;
        }
        if self.infos.contains_key(&file.name) {
            self.ready.push(file.name.clone());
        } else {
            self.decode(file, true);
        }
    }

    fn want_named(&mut self, name: &str) {
        let modules = self.modules;
        modules.get(name).into_iter().for_each(|file| self.want(file));
    }

    fn decode(&mut self, file: &'a ModuleFile, is_wanted: bool) {
        if self.begun.insert(&file.name) {
            self.next.push(Reached { is_wanted, size_bytes: file.content.size_bytes(), name: &file.name });
        }
    }

    /// What a soft or weak dependency names may be a module, an alias, or not there at all.
    fn want_softly(&mut self, word: &str) {
        if let Some(file) = self.modules.get(word) {
            self.want(file);
        } else if !self.modules.builtin().contains(&module_name(word))
            && let Some(alias) = normalize_alias(word)
            && !alias.contains(':')
            && !self.modules.builtin().has_alias(&alias)
            && self.aliases.insert(alias.clone())
        {
            self.want_providers(&alias);
        }
    }

    /// Wants every module that provides an algorithm, as modprobe would load every one: those that are decoded now, the
    /// others when they are.
    fn want_providers(&mut self, alias: &str) {
        let modules = self.modules;
        modules
            .files()
            .filter(|file| provides_algorithms(&file.relative_path))
            .for_each(|file| self.decode(file, false));
        let provides =
            |info: &&ModuleInfo| info.aliases.iter().any(|one| normalize_alias(one).is_some_and(|one| one == alias));
        let providers: Vec<String> = self.infos.values().filter(provides).map(|info| info.name.clone()).collect();
        providers.iter().for_each(|name| self.want_named(name));
    }
}

/// Whether a module lies where those are that provide algorithms by alias (`crypto-crc32c`). Soft dependencies on an
/// alias are looked up among these alone: to know every module's aliases, all would have to be decoded, which takes
/// seconds. So aliases of devices (`platform:leds-gpio`) stay unresolved; modprobe does without what they name.
fn provides_algorithms(relative_path: &str) -> bool {
    let of_arch = relative_path.starts_with("kernel/arch/")
        && ["/crypto/", "/lib/"].iter().any(|directory| relative_path.contains(directory));
    of_arch || ["kernel/crypto/", "kernel/lib/"].iter().any(|directory| relative_path.starts_with(directory))
}

/// Selects the firmware that is named or asked for, with the links that lead to it, and notes the names that no file has.
fn select_firmware(
    firmware: &FirmwareTree<'_>,
    named: &BTreeSet<String>,
    patterns: &FirmwarePatterns,
    selection: &mut Selection,
) -> Result<()> {
    let mut wanted: BTreeSet<TreePath> = BTreeSet::new();
    for name in named {
        let found = firmware.named(name)?;
        if found.files.is_empty() {
            selection.missing_firmware.insert(name.clone());
        }
        selection.dangling_firmware.extend(found.dangling.into_iter().map(|link| (name.clone(), link)));
        let is_wanted =
            |path: &[u8], directory: &[u8]| patterns.verdict(firmware::below(path, directory)) != Some(false);
        let files = found.files.into_iter().filter(|(path, directory)| is_wanted(path, directory));
        wanted.extend(files.map(|(path, _)| path));
    }
    let plain = firmware::FIRMWARE_DIRECTORY.as_bytes();
    wanted
        .extend(firmware.paths().filter(|path| patterns.verdict(firmware::below(path, plain)) == Some(true)).cloned());
    selection.firmware = wanted.iter().filter_map(|path| firmware.follow(path)).flatten().collect();
    Ok(())
}

/// What one of these modules, or one that they depend on, cannot be loaded without.
pub fn missing_below<'s>(selection: &'s Selection, names: &[&str]) -> Option<&'s MissingDependency> {
    let seen = reached(selection, names.iter().map(|name| module_name(name)).collect());
    selection.missing_dependencies.iter().find(|missing| seen.contains(&missing.module))
}

impl Selection {
    /// Forgets what is missing of other modules than those of these names and what they depend on: they may never be loaded.
    pub fn forget_missing_of_others(&mut self, names: &BTreeSet<String>) {
        let reached = reached(self, names.iter().cloned().collect());
        self.missing_dependencies.retain(|missing| reached.contains(&missing.module));
    }
}

/// The names of those modules and of all that they cannot be loaded without, as far as they are selected.
fn reached(selection: &Selection, mut open: Vec<String>) -> BTreeSet<String> {
    let infos: BTreeMap<&str, &ModuleInfo> =
        selection.modules.values().map(|info| (info.name.as_str(), info)).collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if let Some(info) = infos.get(name.as_str())
            && seen.insert(name)
        {
            open.extend(info.depends.iter().map(|name| module_name(name)));
        }
    }
    seen
}

/// The firmware that no file has, a line for each module of those names, or that they depend on, that may ask for it.
pub fn missing_firmware(selection: &Selection, names: &BTreeSet<String>) -> Vec<String> {
    let reached = reached(selection, names.iter().cloned().collect());
    let lines = selection.modules.values().filter(|info| reached.contains(&info.name)).filter_map(|info| {
        let missing = info.firmware.iter().filter(|name| selection.missing_firmware.contains(*name));
        let missing = missing.map(String::as_str).collect::<Vec<_>>().join(", ");
        (!missing.is_empty())
            .then(|| format!("the module {} may ask for firmware that is not there: {missing}", info.name))
    });
    lines.collect()
}

/// The symlinks in the place of firmware that lead nowhere, a line for each module that may ask for it.
pub fn dangling_firmware(selection: &Selection, tree: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, link) in &selection.dangling_firmware {
        let target = match tree.get(link).map(|entry| &entry.kind) {
            Some(Kind::Symlink { target }) => quoted(target),
            _ => continue,
        };
        let askers = selection.modules.values().filter(|info| info.firmware.contains(name));
        let askers = askers.map(|info| format!("the module {}", info.name)).collect::<Vec<_>>().join(", ");
        let askers = if askers.is_empty() { "the kernel".to_owned() } else { askers };
        lines.push(format!(
            "the firmware /{} is a symlink that leads nowhere, to {target}; {askers} may ask for it: install its package again, or \
             remove the link",
            String::from_utf8_lossy(link)
        ));
    }
    lines
}

/// What a person should know of how modules were selected, a line each; `remedy` brings a module that is not there.
pub fn warnings(selection: &Selection, remedy: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    for unmatched in &selection.unmatched {
        let nearest = unmatched.nearest.as_ref().map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        warnings.push(format!("the module pattern {:?} matches no module{nearest}", unmatched.pattern));
    }
    for missing in &selection.missing_dependencies {
        warnings.push(format!(
            "the module {} cannot be loaded: it needs {}, which is not there; {remedy}",
            missing.module, missing.dependency
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, VERSION, add_builtin, add_file, module_path};
    use super::super::name::{base_name, split_suffix};
    use super::*;
    use crate::image::tree::Entry;

    fn patterns(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|pattern| (*pattern).to_owned()).collect()
    }

    fn selected(tree: &Tree, wanted: &[&str], firmware: &[&str]) -> Selection {
        let modules = KernelModules::open(tree, VERSION).unwrap();
        let firmware = FirmwarePatterns::parse(&patterns(firmware)).unwrap();
        select(&modules, tree, &Patterns::parse(&patterns(wanted)).unwrap(), &firmware).unwrap()
    }

    fn names(selection: &Selection) -> Vec<&str> {
        let stem =
            |path: &'_ TreePath| base_name(split_suffix(std::str::from_utf8(path).unwrap()).unwrap().0).to_owned();
        let mut names: Vec<&str> = Vec::new();
        for (path, info) in &selection.modules {
            assert_eq!(module_name(&stem(path)), info.name);
            names.push(&info.name);
        }
        names.sort_unstable();
        names
    }

    fn firmware(selection: &Selection) -> Vec<&str> {
        let below = |path: &'_ TreePath| path.strip_prefix(b"usr/lib/firmware/").unwrap().len();
        selection.firmware.iter().map(|path| std::str::from_utf8(&path[path.len() - below(path)..]).unwrap()).collect()
    }

    fn firmware_tree(fields: &[&str], files: &[&str]) -> Tree {
        let mut tree = fixture::tree(&[("kernel/a.ko", fields)]);
        files.iter().for_each(|file| add_file(&mut tree, &format!("usr/lib/firmware/{file}"), *b"x"));
        tree
    }

    #[test]
    fn depends_are_followed_to_their_end_in_either_spelling() {
        let tree = fixture::recorded();
        for pattern in ["usb-storage", "usb_storage", "drivers/usb/storage/usb_storage", "/drivers/usb/storage/"] {
            let selection = selected(&tree, &[pattern], &[]);
            assert!(names(&selection).contains(&"scsi_mod"), "{pattern}");
            assert!(names(&selection).contains(&"usbcore"), "{pattern}");
        }
        let raid = selected(&tree, &["raid456"], &[]);
        let needed = ["async_memcpy", "async_pq", "async_raid6_recov", "async_tx", "async_xor", "md_mod", "raid456"];
        assert!(needed.iter().all(|name| names(&raid).contains(name)), "{:?}", names(&raid));
    }

    #[test]
    fn soft_dependencies_before_and_after_are_followed() {
        let tree = fixture::recorded();
        assert!(names(&selected(&tree, &["ohci-pci"], &[])).contains(&"ehci_pci"), "pre");
        assert!(names(&selected(&tree, &["ipmi_msghandler"], &[])).contains(&"ipmi_devintf"), "post");
    }

    #[test]
    fn soft_dependencies_on_algorithms_bring_every_provider() {
        let selection = selected(&fixture::recorded(), &["btrfs"], &[]);
        for name in ["crc32c_generic", "crc32c_intel", "blake2b_generic", "sha256_ssse3", "xxhash_generic"] {
            assert!(names(&selection).contains(&name), "{name}: {:?}", names(&selection));
        }
        assert!(!names(&selection).contains(&"crc32_generic"));
    }

    #[test]
    fn weak_dependencies_and_circles_are_followed_once() {
        let tree = fixture::tree(&[
            ("kernel/a.ko", &["softdep=pre: b-b post: c", "weakdep=d e"]),
            ("kernel/b_b.ko", &["softdep=post: a"]),
            ("kernel/c.ko", &["weakdep=a"]),
            ("kernel/d.ko", &[]),
            ("kernel/e.ko", &["depends=f"]),
            ("kernel/f.ko", &[]),
            ("kernel/g.ko", &["depends=a"]),
        ]);
        assert_eq!(names(&selected(&tree, &["a"], &[])), ["a", "b_b", "c", "d", "e", "f"]);
    }

    /// Modules that are decoded already are followed to each other: on the stack, so many would not find room.
    #[test]
    fn chains_of_modules_are_followed_to_their_end() {
        const MODULES: usize = 10_000;
        let mut tree = fixture::tree(&[("kernel/a.ko", &["softdep=pre: crypto-x"])]);
        for number in 0..MODULES {
            let needs = format!("softdep=pre: m{}", number + 1);
            // The first of the chain is the shortest and so decoded last.
            let filler = format!("parm={}", "x".repeat(if number == 0 { 0 } else { 100 }));
            let alias = if number == 0 { "alias=crypto-x" } else { "alias=crypto-y" };
            let path = format!("kernel/crypto/m{number}.ko");
            let one = fixture::tree(&[(&path, &[&needs, &filler, alias])]);
            one.iter().for_each(|(path, entry)| drop(tree.insert(path.clone(), entry.clone())));
        }
        assert_eq!(selected(&tree, &["a"], &[]).modules.len(), MODULES + 1);
    }

    #[test]
    fn excluded_modules_come_back_if_others_need_them() {
        let tree = fixture::recorded();
        let selection = selected(&tree, &["btrfs", "-lib/raid6/", "-xor"], &[]);
        assert!(names(&selection).contains(&"raid6_pq") && names(&selection).contains(&"xor"));
        assert!(!names(&selected(&tree, &["drivers/md/", "-dm_thin*"], &[])).contains(&"dm_thin_pool"));
    }

    #[test]
    fn soft_dependencies_of_the_kernel_itself_count() {
        let mut tree = fixture::tree(&[("kernel/a.ko", &[]), ("kernel/b.ko", &[])]);
        add_builtin(&mut tree, &["kernel/c.ko"], &["c.softdep=pre: b", "c.alias=d"]);
        assert_eq!(names(&selected(&tree, &["c"], &[])), ["b"]);
    }

    #[test]
    fn default_selects_what_it_did_when_recorded() {
        let selection = selected(&fixture::recorded(), &["default"], &[]);
        insta::assert_snapshot!(names(&selection).join(" "));
        assert!(selection.unmatched.is_empty(), "a group's patterns need not match");
    }

    #[test]
    fn patterns_that_match_nothing_are_told_with_the_nearest_name() {
        let wanted = ["dm-cript", "virtio_pci", "zzz*", "-nonesuch", "btrfs"];
        let selection = selected(&fixture::recorded(), &wanted, &[]);
        let told: Vec<_> =
            selection.unmatched.iter().map(|one| (one.pattern.as_str(), one.nearest.as_deref())).collect();
        assert_eq!(told, [("dm-cript", Some("dm-crypt")), ("zzz*", None), ("-nonesuch", None)]);
    }

    #[test]
    fn dependencies_that_the_tree_lacks_are_told() {
        let mut tree = fixture::tree(&[("kernel/a.ko", &["depends=b,c-c"])]);
        add_builtin(&mut tree, &["kernel/c_c.ko"], &[]);
        let missing = MissingDependency { module: "a".to_owned(), dependency: "b".to_owned() };
        assert_eq!(selected(&tree, &["a"], &[]).missing_dependencies, BTreeSet::from([missing]));
    }

    #[test]
    fn what_is_missing_is_told_of_the_modules_that_count_and_of_what_they_depend_on() {
        let tree = fixture::tree(&[
            ("kernel/a.ko", &["depends=b"]),
            ("kernel/b.ko", &["depends=gone", "firmware=b.bin"]),
            ("kernel/c.ko", &["depends=lost", "firmware=c.bin"]),
        ]);
        let mut selection = selected(&tree, &["a", "c"], &[]);
        let names = BTreeSet::from(["a".to_owned()]);
        let missed = missing_firmware(&selection, &names);
        assert_eq!(missed, ["the module b may ask for firmware that is not there: b.bin"]);
        selection.forget_missing_of_others(&names);
        let left: Vec<_> = selection.missing_dependencies.iter().map(|missing| missing.dependency.as_str()).collect();
        assert_eq!(left, ["gone"]);
    }

    #[test]
    fn modules_are_read_in_every_compression() {
        for suffix in ["ko", "ko.gz", "ko.xz", "ko.zst"] {
            let (first, second) = (format!("kernel/a.{suffix}"), format!("kernel/b.{suffix}"));
            let tree = fixture::tree(&[(&first, &["depends=b"]), (&second, &[])]);
            assert_eq!(names(&selected(&tree, &["a"], &[])), ["a", "b"], "{suffix}");
        }
    }

    #[test]
    fn damaged_modules_are_refused_by_name() {
        for (path, content) in [("kernel/a.ko", "no elf"), ("kernel/a.ko.xz", "no xz"), ("kernel/a.ko.zst", "")] {
            let mut tree = Tree::new();
            add_file(&mut tree, &module_path(path), content);
            let modules = KernelModules::open(&tree, VERSION).unwrap();
            let none = FirmwarePatterns::parse(&[]).unwrap();
            let error = select(&modules, &tree, &Patterns::parse(&patterns(&["a"])).unwrap(), &none).unwrap_err();
            assert_eq!(error.to_string(), format!("reading the module {path}"));
        }
    }

    #[test]
    fn firmware_of_modules_and_of_the_kernel_is_found() {
        let mut tree = firmware_tree(
            &["firmware=brcm/b*-sdio.*.bin", "firmware=plain.fw", "firmware=none.fw"],
            &["brcm/b43-sdio.x.bin.xz", "brcm/b43-pcie.bin.xz", "plain.fw", "builtin.bin.zst", "other.bin"],
        );
        add_builtin(&mut tree, &["kernel/b.ko"], &["b.firmware=builtin.bin"]);
        let selection = selected(&tree, &["a"], &[]);
        assert_eq!(firmware(&selection), ["brcm/b43-sdio.x.bin.xz", "builtin.bin.zst", "plain.fw"]);
        assert_eq!(selection.missing_firmware, BTreeSet::from(["none.fw".to_owned()]));
    }

    #[test]
    fn firmware_comes_with_every_link_on_its_path() {
        let mut tree = firmware_tree(&["firmware=nvidia/ad103/gsp.bin"], &["nvidia/ga102/gsp.bin.xz"]);
        let link = Kind::Symlink { target: b"ga102".to_vec() };
        tree.insert(b"usr/lib/firmware/nvidia/ad103".to_vec(), Entry::of_root(link, 0o777, 0));
        assert_eq!(firmware(&selected(&tree, &["a"], &[])), ["nvidia/ad103", "nvidia/ga102/gsp.bin.xz"]);
    }

    #[test]
    fn firmware_patterns_add_and_take_away() {
        let tree = firmware_tree(&["firmware=a.bin", "firmware=b.bin"], &["a.bin", "b.bin.xz", "c/d.bin", "e.bin"]);
        assert_eq!(firmware(&selected(&tree, &["a"], &["c/", "-b.bin"])), ["a.bin", "c/d.bin"]);
    }
}
