//! The modules of one kernel in a tree: where they are and how they are called, without reading any.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use super::builtin::Builtin;
use super::kmod::depmod::{External, SearchOrder};
use super::name::{Compression, base_name, module_name, split_suffix};
use crate::image::tree::{Content, Tree, TreePath, is_within, usr_merged};

const MODULES_DIRECTORY: &str = "usr/lib/modules/";
/// What depmod wrote the last time, if it did.
const DEPENDENCIES: &str = "modules.dep";

/// A module's file.
#[derive(Clone, Debug)]
pub struct ModuleFile {
    /// Its path below `usr/lib/modules/KVER/`; that of a module in an external directory (depmod.d(5)) is absolute.
    pub relative_path: String,
    /// The module's name as the kernel writes it, with `_`.
    pub name: String,
    /// How the file is compressed.
    pub compression: Compression,
    /// Its bytes as shipped.
    pub content: Content,
}

/// The modules of one kernel version.
#[derive(Clone, Debug)]
pub struct KernelModules {
    directory: String,
    /// Directories of modules beside that, as `depmod.d` writes them.
    externals: Vec<String>,
    files: BTreeMap<String, ModuleFile>,
    /// Lines of `depmod.d` that do not count, a message each.
    ignored: Vec<String>,
    /// The paths of modules that do not count, by the name of the one that does.
    replaced: BTreeMap<String, Vec<String>>,
    builtin: Builtin,
    order: BTreeMap<String, usize>,
}

/// The kernel versions that have modules in `tree`, in byte order.
pub fn kernel_versions(tree: &Tree) -> Vec<String> {
    let versions = tree.iter().filter_map(|(path, _)| {
        let path = std::str::from_utf8(path).ok()?.strip_prefix(MODULES_DIRECTORY)?;
        split_suffix(path)?;
        path.split_once('/').map(|(version, _)| version.to_owned())
    });
    versions.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The directory of a kernel's modules, with a slash at its end.
pub(super) fn module_directory(kernel_version: &str) -> String {
    format!("{MODULES_DIRECTORY}{kernel_version}/")
}

impl KernelModules {
    /// Lists the modules of `kernel_version` in a tree of packages. Of two files of one name, the one that depmod prefers is taken,
    /// by `depmod.d` in the tree or else by Fedora's order: from `updates/`, then `extra/`, then the kernel's own, then
    /// `weak-updates/`, then by path. Symbolic links are no modules.
    ///
    /// # Errors
    /// Fails when that kernel has no modules (the message lists those there are), when a module's path is not ASCII,
    /// which no index can hold, and when the lists beside the modules cannot be read.
    pub fn open(tree: &Tree, kernel_version: &str) -> Result<Self> {
        KernelModules::open_in_order(tree, kernel_version, &SearchOrder::of_packages(tree, kernel_version)?)
    }

    /// Lists the modules of `kernel_version` in `tree`, as depmod does with that configuration. Where that prefers none of several,
    /// the one that an existing `modules.dep` names is taken, then the first by path.
    ///
    /// # Errors
    /// As [`KernelModules::open`].
    pub fn open_in_order(tree: &Tree, kernel_version: &str, order: &SearchOrder) -> Result<Self> {
        let directory = module_directory(kernel_version);
        let list = |name: &str| read_list(tree, &format!("{directory}{name}"));
        let listed = listed(&String::from_utf8_lossy(&list(DEPENDENCIES)?.unwrap_or_default()));
        let mut candidates: BTreeMap<String, Vec<ModuleFile>> = BTreeMap::new();
        for file in module_files(tree, &directory, order)? {
            candidates.entry(file.name.clone()).or_default().push(file);
        }
        let (mut files, mut replaced) = (BTreeMap::new(), BTreeMap::new());
        for (name, mut of_name) in candidates {
            // The preferred one comes first; of equals the first by path.
            of_name.sort_by_cached_key(|file| {
                let path = file.relative_path.as_str();
                (Reverse((order.preference(path), listed.contains(path))), path.to_owned())
            });
            let mut of_name = of_name.into_iter();
            files.extend(of_name.next().map(|file| (name.clone(), file)));
            let others: Vec<String> = of_name.map(|file| file.relative_path).collect();
            if !others.is_empty() {
                replaced.insert(name, others);
            }
        }
        if files.is_empty() {
            bail!("no modules of kernel {kernel_version} in the tree; {}", describe_versions(&kernel_versions(tree)));
        }
        let builtin_paths = String::from_utf8_lossy(&list("modules.builtin")?.unwrap_or_default()).into_owned();
        let builtin = Builtin::parse(&builtin_paths, list("modules.builtin.modinfo")?.as_deref());
        let positions_text = String::from_utf8_lossy(&list("modules.order")?.unwrap_or_default()).into_owned();
        let externals = order.externals().iter().map(|external| external.path.clone()).collect();
        let ignored = order.ignored().to_vec();
        Ok(KernelModules { directory, externals, files, ignored, replaced, builtin, order: positions(&positions_text) })
    }

    /// All modules in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = &ModuleFile> {
        self.files.values()
    }

    /// The module of that name, in either spelling.
    pub fn get(&self, name: &str) -> Option<&ModuleFile> {
        self.files.get(&module_name(name))
    }

    /// The path of a module in the tree.
    pub fn tree_path(&self, file: &ModuleFile) -> TreePath {
        if file.relative_path.starts_with('/') {
            return external_path(&file.relative_path);
        }
        [self.directory.as_bytes(), file.relative_path.as_bytes()].concat()
    }

    /// The kernel's version.
    pub(super) fn version(&self) -> &str {
        self.directory.strip_prefix(MODULES_DIRECTORY).unwrap_or(&self.directory).trim_end_matches('/')
    }

    /// The directories beside the kernel's own that have modules, as paths in the tree.
    pub(super) fn external_paths(&self) -> impl Iterator<Item = TreePath> {
        self.externals.iter().map(|directory| external_path(directory))
    }

    /// Lines of `depmod.d` that depmod cannot read, a message each.
    pub fn ignored_lines(&self) -> &[String] {
        &self.ignored
    }

    /// The paths of modules that do not count because another of that name is preferred.
    pub fn replaced(&self, name: &str) -> &[String] {
        self.replaced.get(&module_name(name)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The path of a module as the index has it: below the kernel's directory, or absolute, from its path in the tree.
    pub(super) fn relative_path(&self, path: &[u8]) -> Result<String> {
        let outside = || format!("{} does not lie in {}", String::from_utf8_lossy(path), self.directory);
        let text = |path: &[u8]| std::str::from_utf8(path).map(str::to_owned).with_context(outside);
        if let Some(relative) = path.strip_prefix(self.directory.as_bytes()) {
            return text(relative);
        }
        let external = self.externals.iter().find(|directory| is_within(path, &external_path(directory)));
        let external = external.with_context(outside)?;
        Ok(format!("{external}{}", text(&path[external_path(external).len()..])?))
    }

    /// What is built into the kernel.
    pub(super) fn builtin(&self) -> &Builtin {
        &self.builtin
    }

    /// Where `modules.order` has the module of that path, compressed or not; modules it lacks come last, by path.
    pub(super) fn position<'a>(&self, relative_path: &'a str) -> (usize, &'a str) {
        let stem = split_suffix(relative_path).map_or(relative_path, |(stem, _)| stem);
        (self.order.get(stem).copied().unwrap_or(usize::MAX), relative_path)
    }
}

fn describe_versions(versions: &[String]) -> String {
    match versions {
        [] => "there is no kernel in it: add the packages with its modules, such as kernel-modules-core".to_owned(),
        versions => format!("there are: {}", versions.join(", ")),
    }
}

/// Where a directory or a module of an absolute path lies in a tree.
pub fn external_path(path: &str) -> TreePath {
    usr_merged(plain_path(path).trim_start_matches('/').as_bytes())
}

/// An absolute path without `.`, `..`, and slashes that say nothing; `/` for the root, out of which none leads.
pub(super) fn plain_path(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => _ = names.pop(),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

fn module_files(tree: &Tree, directory: &str, order: &SearchOrder) -> Result<Vec<ModuleFile>> {
    let mut files = Vec::new();
    add_modules(&mut files, tree, directory.trim_end_matches('/').as_bytes(), "", order)?;
    for External { path, .. } in order.externals() {
        add_modules(&mut files, tree, &external_path(path), &format!("{path}/"), order)?;
    }
    Ok(files)
}

/// Adds the modules below a directory, whose paths in the index begin with `prefix`.
fn add_modules(
    files: &mut Vec<ModuleFile>,
    tree: &Tree,
    directory: &[u8],
    prefix: &str,
    order: &SearchOrder,
) -> Result<()> {
    for (path, _) in tree.below(directory) {
        let Some(content) = tree.content(path) else { continue };
        let text = String::from_utf8_lossy(&path[directory.len() + 1..]);
        let Some((_, compression)) = split_suffix(&text) else { continue };
        if text.split('/').any(|name| order.excludes(name)) {
            continue;
        }
        if !text.is_ascii() {
            bail!("the module {:?} has a name that is not ASCII; kmod's index cannot hold it, remove it", text);
        }
        let name = module_name(base_name(&text));
        files.push(ModuleFile {
            relative_path: format!("{prefix}{text}"),
            name,
            compression,
            content: content.clone(),
        });
    }
    Ok(())
}

/// The paths of the modules in the text of `modules.dep`.
fn listed(dependencies: &str) -> BTreeSet<String> {
    let paths = dependencies.lines().filter_map(|line| line.split_once(':')).map(|(path, _)| path);
    // Those in external directories are as the line of depmod.d writes them.
    paths.map(|path| if path.starts_with('/') { plain_path(path) } else { path.to_owned() }).collect()
}

fn read_list(tree: &Tree, path: &str) -> Result<Option<Vec<u8>>> {
    tree.content(path.as_bytes()).map(Content::read_all).transpose().with_context(|| format!("reading {path}"))
}

fn positions(order: &str) -> BTreeMap<String, usize> {
    let mut positions = BTreeMap::new();
    for (position, line) in order.lines().enumerate() {
        let stem = split_suffix(line).map_or(line, |(stem, _)| stem);
        positions.entry(stem.to_owned()).or_insert(position);
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::{Entry, Kind};

    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for path in paths {
            let path = format!("usr/lib/modules/{path}");
            tree.insert(path.into_bytes(), Entry::of_root(Kind::File(Content::from_bytes(*b"")), 0o644, 0));
        }
        tree
    }

    #[test]
    fn versions_are_those_with_modules() {
        let tree = tree(&["6.2/kernel/a.ko.xz", "6.1/extra/b.ko", "6.3/modules.builtin", "6.4/vmlinuz"]);
        assert_eq!(kernel_versions(&tree), ["6.1", "6.2"]);
    }

    #[test]
    fn another_version_is_refused_with_those_there_are() {
        let error = KernelModules::open(&tree(&["6.1/kernel/a.ko", "6.2/kernel/a.ko"]), "6.9").unwrap_err();
        assert_eq!(error.to_string(), "no modules of kernel 6.9 in the tree; there are: 6.1, 6.2");
        let error = KernelModules::open(&tree(&[]), "6.9").unwrap_err();
        assert!(error.to_string().contains("no kernel in it"), "{error}");
    }

    #[test]
    fn updates_replace_modules_of_the_same_name() {
        let paths = ["1/kernel/a-b.ko.xz", "1/updates/a_b.ko", "1/weak-updates/c.ko", "1/kernel/c.ko", "1/extra/c.ko"];
        let modules = KernelModules::open(&tree(&paths), "1").unwrap();
        let found: Vec<_> = modules.files().map(|file| file.relative_path.as_str()).collect();
        assert_eq!(found, ["updates/a_b.ko", "extra/c.ko"]);
        assert_eq!(modules.get("a-b").unwrap().name, "a_b");
    }

    #[test]
    fn names_that_are_not_ascii_are_refused() {
        let error = KernelModules::open(&tree(&["1/kernel/\u{e4}.ko"]), "1").unwrap_err();
        assert!(error.to_string().contains("not ASCII"), "{error}");
    }

    #[test]
    fn order_ignores_suffixes_and_puts_strangers_last() {
        let mut tree = tree(&["1/kernel/a.ko.xz", "1/kernel/b.ko"]);
        let order = Content::from_bytes(*b"kernel/b.ko\nkernel/a.ko\n");
        tree.insert(b"usr/lib/modules/1/modules.order".to_vec(), Entry::of_root(Kind::File(order), 0o644, 0));
        let modules = KernelModules::open(&tree, "1").unwrap();
        assert!(modules.position("kernel/b.ko") < modules.position("kernel/a.ko.xz"));
        assert!(modules.position("kernel/a.ko.xz") < modules.position("extra/0.ko"));
    }
}
