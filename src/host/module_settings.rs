//! What the machine says of its modules: `depmod.d`, `modprobe.d`, `modules-load.d` and the kernel's option `firmware_class.path=`.
//!
//! In: the root of the machine. Out: which module of several counts, what is loaded with it, and the files of this that go into
//! the initrd: those of `modprobe.d` that are about modules in it, and of `modules-load.d` the lines that name one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::files;
use super::local::LocalFile;
use super::record::{LoadedFile, ModprobeFile};
use crate::analysis::machine;
use crate::image::modules::{
    ConfigurationFile, DEPMOD_DIRECTORIES, External, MODPROBE_DIRECTORIES, ModprobeConfiguration, ModuleInfo, Origin,
    SearchOrder, Selection, Settings, configuration_files,
};
use crate::image::tree::{Content, Entry, Kind, Tree, TreePath, join, usr_merged};
use ocinitrd_format::digest::Digest;
use ocinitrd_support::links;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// Where files of `modules-load.d` are, the first one first (modules-load.d(5)).
const LOAD_DIRECTORIES: [&str; 4] =
    ["etc/modules-load.d", "run/modules-load.d", "usr/local/lib/modules-load.d", "usr/lib/modules-load.d"];
/// A symlink to it hides files of its name in later directories.
const NOTHING: &str = "dev/null";
/// The kernel's option with a directory of firmware.
const FIRMWARE_PATH: &str = "firmware_class.path";

/// What the machine says of its modules.
#[derive(Debug, Default)]
pub(super) struct ModuleSettings {
    /// Which of several modules of one name counts.
    pub order: SearchOrder,
    /// What is loaded with a module, and where firmware is.
    pub settings: Settings,
    load: Vec<LoadFile>,
    /// What does not count and was meant to.
    pub warnings: Vec<String>,
}

/// A file of `modules-load.d`.
#[derive(Debug)]
struct LoadFile {
    file: ConfigurationFile,
    lines: Vec<(Origin, String)>,
}

/// The files that go in, and what of them matters.
#[derive(Debug, Default)]
pub(super) struct Configured {
    /// Paths in the initrd and contents; no content for a symlink to `/dev/null`.
    pub files: BTreeMap<TreePath, Option<Vec<u8>>>,
    /// The files of `modprobe.d`.
    pub modprobe: Vec<ModprobeFile>,
    /// The files of `modules-load.d`.
    pub modules_load: Vec<LoadedFile>,
}

impl ModuleSettings {
    /// Reads what the machine says for one of its kernels.
    ///
    /// # Errors
    /// Fails when a file that is there cannot be read.
    pub(super) fn read(root: &Path, kernel_version: &str) -> Result<Self> {
        let mut warnings = Vec::new();
        let tree = configuration_tree(root, &mut warnings)?;
        let order = SearchOrder::of_machine(&tree, kernel_version)?;
        for External { written, .. } in order.externals() {
            if found(root, Path::new(written))?.is_some_and(|end| end.as_os_str().is_empty()) {
                warnings.push(format!(
                    "{written}, which depmod.d names as an external directory, is the whole machine: modules are not looked for there"
                ));
            }
        }
        let modprobe = ModprobeConfiguration::read(&tree)?;
        warnings.extend(modprobe.ignored().iter().cloned());
        let firmware_paths = firmware_paths(root, &mut warnings)?;
        let load = configuration_files(&tree, &LOAD_DIRECTORIES)?.into_iter().map(LoadFile::new).collect();
        Ok(ModuleSettings { order, settings: Settings { modprobe, firmware_paths }, load, warnings })
    }

    /// The names of the modules that `modules-load.d` has loaded.
    pub(super) fn loaded(&self) -> impl Iterator<Item = String> {
        let words = self.load.iter().flat_map(|file| &file.lines).map(|(_, word)| word.as_str());
        words.flat_map(|word| self.settings.modprobe.meant(word))
    }

    /// What goes in of the configuration for these modules.
    pub(super) fn configured(&self, selection: &Selection) -> Configured {
        let infos: BTreeMap<&str, &ModuleInfo> =
            selection.modules.values().map(|info| (info.name.as_str(), info)).collect();
        let mut configured = Configured::default();
        for (file, names) in self.settings.modprobe.concerning(&infos) {
            let path = place(&file.path);
            configured.modprobe.push(ModprobeFile { path: shown(&path), modules: names.into_iter().collect() });
            configured.files.insert(path, file.content.clone());
        }
        for LoadFile { file, lines } in &self.load {
            let is_there =
                |word: &str| self.settings.modprobe.meant(word).any(|name| infos.contains_key(name.as_str()));
            let kept: Vec<&(Origin, String)> = lines.iter().filter(|(_, word)| is_there(word)).collect();
            if kept.is_empty()
                && !file.hides_another
                && file.content.as_ref().is_some_and(|content| !content.is_empty())
            {
                continue;
            }
            let path = place(&file.path);
            let text: String = kept.iter().map(|(_, word)| format!("{word}\n")).collect();
            let modules = kept.iter().map(|(_, word)| word.clone()).collect();
            let lines = kept.iter().map(|(origin, _)| origin.to_string()).collect();
            configured.modules_load.push(LoadedFile { path: shown(&path), modules, lines });
            configured.files.insert(path, file.content.as_ref().map(|_| text.into_bytes()));
        }
        configured
    }
}

impl LoadFile {
    fn new(file: ConfigurationFile) -> Self {
        let text = String::from_utf8_lossy(file.content.as_deref().unwrap_or_default()).into_owned();
        let path = file.absolute_path();
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(['#', ';']));
        let lines = lines.map(|(place, word)| (Origin { path: path.clone(), line: place + 1 }, word.to_owned()));
        LoadFile { lines: lines.collect(), file }
    }
}

impl Configured {
    /// The files, with what reads them.
    pub(super) fn listed(&self) -> Vec<LocalFile> {
        let modprobe = self.modprobe.iter().map(|file| (&file.path, "modprobe", file.said()));
        let loaded = self.modules_load.iter().map(|file| (&file.path, "systemd-modules-load", file.said()));
        let listed = modprobe.chain(loaded).map(|(path, reader, said)| LocalFile {
            path: path.clone(),
            also: Vec::new(),
            reason: format!("read by {reader}: it {said}"),
            sha256: self.files.get(&path.as_bytes()[1..]).and_then(|content| content.as_deref().map(Digest::of)),
            secret: false,
        });
        listed.collect()
    }

    /// Puts the files into a tree of the initrd; what is there already stays.
    pub(super) fn add_to(&self, tree: &mut Tree, epoch: u64) -> Result<()> {
        for (path, content) in self.files.iter().filter(|(path, _)| tree.get(path).is_none()).collect::<Vec<_>>() {
            match content {
                Some(bytes) => tree.add_file(path, Content::from_bytes(bytes.as_slice()), 0o644, epoch)?,
                None => tree.add_symlink(path, format!("/{NOTHING}").as_bytes(), epoch)?,
            };
        }
        Ok(())
    }
}

/// Where a file of the machine goes. In an initrd a file in `/run` would be hidden as soon as systemd mounts that; one in `/etc`
/// has the same precedence over those in `/usr`.
fn place(path: &[u8]) -> TreePath {
    match path.strip_prefix(b"run/") {
        Some(below) => join(b"etc", below),
        None => usr_merged(path),
    }
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// The files of all directories of configuration, with what symlinks lead to in their place.
fn configuration_tree(root: &Path, warnings: &mut Vec<String>) -> Result<Tree> {
    let mut tree = Tree::new();
    for directory in DEPMOD_DIRECTORIES.iter().chain(&MODPROBE_DIRECTORIES).chain(&LOAD_DIRECTORIES) {
        // Where it is a symlink to that in /usr, its files are there already.
        if directory.starts_with("lib/") && root.join("lib").is_symlink() {
            continue;
        }
        let Some(real) = found(root, Path::new(directory))? else { continue };
        let reading = || format!("reading {}", root.join(&real).display());
        let entries = fs::read_dir(root.join(&real)).with_context(reading)?;
        for entry in entries.collect::<io::Result<Vec<_>>>().with_context(reading)? {
            let path = join(directory.as_bytes(), entry.file_name().as_bytes());
            if !path.ends_with(b".conf") {
                continue;
            }
            let Some(end) = found(root, &real.join(entry.file_name()))? else {
                // Debian's modules-load.d has a symlink to /etc/modules, which need not be there.
                if !LOAD_DIRECTORIES.contains(directory) {
                    warnings.push(format!("{} is a symlink that leads nowhere, and does not count", shown(&path)));
                }
                continue;
            };
            tree.insert(path.clone(), read(root, &end).with_context(|| format!("reading {}", shown(&path)))?);
        }
    }
    tree.add_missing_parents(0)?;
    Ok(tree)
}

/// A file of configuration, by its path without symlinks.
fn read(root: &Path, path: &Path) -> Result<Entry> {
    if path == Path::new(NOTHING) {
        let kind = Kind::Symlink { target: format!("/{NOTHING}").into_bytes() };
        return Ok(Entry::of_root(kind, 0o777, 0));
    }
    let file = root.join(path);
    if file.is_dir() {
        return Ok(Entry::of_root(Kind::Directory, 0o755, 0));
    }
    let bytes = regular_file::read(&file, TEXT_LIMIT_BYTES).with_context(|| format!("reading {}", file.display()))?;
    Ok(Entry::of_root(Kind::File(Content::from_bytes(bytes)), 0o644, 0))
}

/// Where a path of the machine leads, if it is there. `/dev/null` need not be.
fn found(root: &Path, path: &Path) -> Result<Option<std::path::PathBuf>> {
    if links::is_nothing(root, path) {
        return Ok(Some(NOTHING.into()));
    }
    files::found(root, path)
}

/// The directories of firmware that the kernel's options name, as far as they are there.
fn firmware_paths(root: &Path, warnings: &mut Vec<String>) -> Result<Vec<String>> {
    let mut paths: Vec<String> = Vec::new();
    for path in machine::kernel_option(root, FIRMWARE_PATH)?.into_iter().filter(|path| !path.is_empty()) {
        if paths.contains(&path) {
            continue;
        }
        let end = found(root, Path::new(&path))?;
        match end.filter(|end| path.starts_with('/') && root.join(end).is_dir()) {
            Some(end) if end.as_os_str().is_empty() => {
                warnings.push(format!("{FIRMWARE_PATH}={path} is the whole machine: firmware is not looked for there"));
            }
            Some(_) => paths.push(path),
            None => warnings.push(format!(
                "{FIRMWARE_PATH}={path} on the kernel's command line names no directory: firmware is not looked for there"
            )),
        }
    }
    Ok(paths)
}
