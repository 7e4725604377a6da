//! Firmware files in a tree, found as the kernel will find them: in the directories of its search path, through symbolic links at
//! any place of a path, and with the suffixes of the compressions that its firmware loader takes.
//!
//! In: a tree and what modules name in `firmware=`. Out: paths of files, and for each the links on the way and the file at the
//! end. The search path is that of `drivers/base/firmware_loader/main.c` of Linux: what `firmware_class.path=` names, then
//! `updates/KVER`, `updates`, `KVER` and the plain directory. The loader looks for the plain file in all of them, then for
//! `.zst`, then for `.xz`, so what is taken is in all of them too: which one counts is left to the loader.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};
use globset::{GlobSet, GlobSetBuilder};

use super::globs::component;
use super::kernel_modules::external_path;
use crate::image::tree::{Kind, Tree, TreePath, file_name, is_merged, is_within, join, parent};

/// Where firmware lies in a tree.
pub const FIRMWARE_DIRECTORY: &str = "usr/lib/firmware";
/// The same with a slash at its end.
pub(super) const BELOW_FIRMWARE: &str = "usr/lib/firmware/";
/// As many links as the kernel follows before it says ELOOP.
const MOST_LINKS: usize = 40;

/// The firmware of a tree.
pub(super) struct FirmwareTree<'a> {
    tree: &'a Tree,
    /// The directories in which the kernel looks for a name.
    search: Vec<TreePath>,
    /// The names in each directory at or below one of these.
    names: BTreeMap<TreePath, BTreeSet<Vec<u8>>>,
}

/// What a name of firmware comes to.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Paths of files, each with the directory of the search path that it was found in.
    pub files: BTreeSet<(TreePath, TreePath)>,
    /// Symlinks that lead nowhere.
    pub dangling: BTreeSet<TreePath>,
}

/// What a path leads to.
struct Trace {
    /// The links passed on the way.
    links: BTreeSet<TreePath>,
    /// The path without links. There may be nothing.
    end: TreePath,
}

/// The directories in which a kernel looks for firmware, as paths in a tree; `paths` are values of `firmware_class.path=`.
pub(super) fn search_path(kernel_version: &str, paths: &[String]) -> Vec<TreePath> {
    let usual = [format!("updates/{kernel_version}"), "updates".to_owned(), kernel_version.to_owned()];
    let usual = usual.iter().map(|directory| format!("{BELOW_FIRMWARE}{directory}").into_bytes());
    let plain = FIRMWARE_DIRECTORY.as_bytes().to_vec();
    paths.iter().map(|path| external_path(path)).chain(usual).chain([plain]).collect()
}

impl<'a> FirmwareTree<'a> {
    /// Lists the firmware in `tree` that is found in the directories `search`.
    pub(super) fn new(tree: &'a Tree, search: Vec<TreePath>) -> Self {
        let mut names: BTreeMap<TreePath, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for directory in &search {
            for (path, _) in tree.below(directory) {
                let mut path = path.as_slice();
                while path.len() > directory.len() {
                    names.entry(parent(path).to_vec()).or_default().insert(file_name(path).to_vec());
                    path = parent(path);
                }
            }
        }
        FirmwareTree { tree, search, names }
    }

    /// All files and links below `usr/lib/firmware`.
    pub(super) fn paths(&self) -> impl Iterator<Item = &'a TreePath> {
        self.tree.below(FIRMWARE_DIRECTORY.as_bytes()).filter_map(|(path, entry)| {
            let wanted = matches!(entry.kind, Kind::File(_) | Kind::HardLink { .. } | Kind::Symlink { .. });
            wanted.then_some(path)
        })
    }

    /// The files that a module means by `name`, a path or a glob below a directory of the search path: the file itself, and those
    /// with a suffix after it.
    pub(super) fn named(&self, name: &str) -> Result<Found> {
        let reading = || format!("reading the firmware name {name:?}");
        let (parents, last) = name.rsplit_once('/').unwrap_or(("", name));
        let parents = parents.split('/').filter(|directory| !directory.is_empty()).map(Pick::exactly);
        let parents = parents.collect::<Result<Vec<_>>>().with_context(reading)?;
        let last = Pick::with_suffix(last).with_context(reading)?;
        let mut found = Found::default();
        for directory in &self.search {
            let mut directories = BTreeSet::from([directory.clone()]);
            for pick in &parents {
                directories = directories.iter().flat_map(|directory| self.pick(directory, pick)).collect();
            }
            for path in directories.iter().flat_map(|directory| self.pick(directory, &last)) {
                if self.follow(&path).is_some() {
                    found.files.insert((path, directory.clone()));
                } else if self.leads_nowhere(&path) {
                    found.dangling.insert(path);
                }
            }
        }
        Ok(found)
    }

    /// The entries needed to reach the file at `path`: the links on the way, and the file. Nothing if the way ends in nothing.
    pub(super) fn follow(&self, path: &[u8]) -> Option<BTreeSet<TreePath>> {
        let Trace { links: mut entries, end } = self.trace(path)?;
        match self.tree.get(&end)?.kind {
            Kind::File(_) | Kind::HardLink { .. } => entries.insert(end),
            _ => return None,
        };
        Some(entries)
    }

    fn leads_nowhere(&self, path: &[u8]) -> bool {
        let is_link = matches!(self.tree.get(path).map(|entry| &entry.kind), Some(Kind::Symlink { .. }));
        is_link && self.trace(path).is_none_or(|trace| !self.is_there(&trace.end))
    }

    /// Whether there is a file or a directory; not every directory is an entry.
    fn is_there(&self, path: &[u8]) -> bool {
        self.tree.get(path).is_some() || self.tree.below(path).next().is_some()
    }

    /// The names in a directory that `pick` takes, with the directory in front.
    fn pick(&self, directory: &[u8], pick: &Pick) -> Vec<Vec<u8>> {
        let names = self.trace(directory).and_then(|trace| self.names.get(&trace.end));
        let taken = names.into_iter().flatten().filter(|name| pick.takes(name));
        taken.map(|name| join(directory, name)).collect()
    }

    fn trace(&self, path: &[u8]) -> Option<Trace> {
        let mut end: TreePath = Vec::new();
        let mut links = BTreeSet::new();
        let mut rest: Vec<Vec<u8>> = Vec::new();
        push_components(&mut rest, path);
        let mut followed = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                end = parent(&end).to_vec();
                continue;
            }
            let next = self.child(&end, &name);
            let Some(Kind::Symlink { target }) = self.tree.get(&next).map(|entry| &entry.kind) else {
                end = next;
                continue;
            };
            followed += 1;
            if followed > MOST_LINKS {
                return None;
            }
            if target.starts_with(b"/") {
                end.clear();
            }
            push_components(&mut rest, target);
            links.insert(next);
        }
        Some(Trace { links, end })
    }

    /// The path of a name in a directory. A tree of packages has no `/lib`, which is a symlink wherever it is unpacked.
    fn child(&self, directory: &[u8], name: &[u8]) -> TreePath {
        if directory.is_empty() && is_merged(name) && self.tree.get(name).is_none() {
            return join(b"usr", name);
        }
        join(directory, name)
    }
}

/// The part of a path that patterns of firmware are about: that below the directory it was found in.
pub(super) fn below<'p>(path: &'p [u8], directory: &[u8]) -> &'p [u8] {
    if is_within(path, directory) { path.get(directory.len() + 1..).unwrap_or_default() } else { path }
}

/// Puts the components of `path` on a stack, the first on top.
fn push_components(stack: &mut Vec<Vec<u8>>, path: &[u8]) {
    let components = path.rsplit(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    stack.extend(components.map(<[u8]>::to_vec));
}

/// Which names of a directory are meant by one component of a firmware path.
struct Pick {
    text: String,
    globs: GlobSet,
    /// Whether the name may go on after a dot.
    suffix: bool,
}

impl Pick {
    fn exactly(text: &str) -> Result<Self> {
        Pick::new(text, false)
    }

    fn with_suffix(text: &str) -> Result<Self> {
        Pick::new(text, true)
    }

    fn new(text: &str, suffix: bool) -> Result<Self> {
        let mut globs = GlobSetBuilder::new();
        if text.contains(['*', '?', '[']) {
            globs.add(component(text)?);
            if suffix {
                globs.add(component(&format!("{text}.*"))?);
            }
        }
        Ok(Pick { text: text.to_owned(), globs: globs.build()?, suffix })
    }

    fn takes(&self, name: &[u8]) -> bool {
        match name.strip_prefix(self.text.as_bytes()) {
            Some(b"") => true,
            Some([b'.', ..]) if self.suffix => true,
            _ => self.globs.is_match(OsStr::from_bytes(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::{Content, Entry};

    fn tree(files: &[&str], links: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for file in files {
            let entry = Entry::of_root(Kind::File(Content::from_bytes(*b"")), 0o644, 0);
            tree.insert(format!("{BELOW_FIRMWARE}{file}").into_bytes(), entry);
        }
        for (link, target) in links {
            let kind = Kind::Symlink { target: target.as_bytes().to_vec() };
            tree.insert(format!("{BELOW_FIRMWARE}{link}").into_bytes(), Entry::of_root(kind, 0o777, 0));
        }
        tree
    }

    fn firmware(tree: &Tree) -> FirmwareTree<'_> {
        FirmwareTree::new(tree, search_path("6.1", &["/lib/mine/".to_owned(), "/opt/fw".to_owned()]))
    }

    fn shown(path: &[u8]) -> String {
        String::from_utf8(path.to_vec()).unwrap().replace(BELOW_FIRMWARE, "")
    }

    fn named(tree: &Tree, name: &str) -> Vec<String> {
        firmware(tree).named(name).unwrap().files.iter().map(|(path, _)| shown(path)).collect()
    }

    fn followed(tree: &Tree, path: &str) -> Option<Vec<String>> {
        let entries = firmware(tree).follow(format!("{BELOW_FIRMWARE}{path}").as_bytes())?;
        Some(entries.iter().map(|path| shown(path)).collect())
    }

    #[test]
    fn names_find_the_file_and_its_compressed_forms() {
        let tree = tree(&["a.bin", "b.bin.xz", "b.bin.zst", "c.bin-not", "d/e.bin.xz"], &[]);
        assert_eq!(named(&tree, "a.bin"), ["a.bin"]);
        assert_eq!(named(&tree, "b.bin"), ["b.bin.xz", "b.bin.zst"]);
        assert_eq!(named(&tree, "d/e.bin"), ["d/e.bin.xz"]);
        assert!(named(&tree, "c.bin").is_empty());
        assert!(named(&tree, "d").is_empty(), "a directory is no firmware");
    }

    #[test]
    fn globs_stay_in_their_directory() {
        let tree = tree(&["v/a-1.ucode.xz", "v/a-2.ucode.xz", "v/w/a-3.ucode.xz", "v/b.ucode"], &[]);
        assert_eq!(named(&tree, "v/a-*.ucode"), ["v/a-1.ucode.xz", "v/a-2.ucode.xz"]);
        assert_eq!(named(&tree, "v/a-*"), ["v/a-1.ucode.xz", "v/a-2.ucode.xz"]);
        assert_eq!(named(&tree, "[v]/b.ucode"), ["v/b.ucode"]);
        assert_eq!(named(&tree, "*/w/a-[1-3].ucode"), ["v/w/a-3.ucode.xz"]);
    }

    #[test]
    fn links_on_the_way_and_their_targets_are_kept() {
        let links = [("ad103", "ga102"), ("ga103", "../firmware/ad103"), ("x.bin", "/usr/lib/firmware/ga103/g.bin.xz")];
        let tree = tree(&["ga102/g.bin.xz"], &links);
        assert_eq!(named(&tree, "ad103/g.bin"), ["ad103/g.bin.xz"]);
        assert_eq!(followed(&tree, "ad103/g.bin.xz").unwrap(), ["ad103", "ga102/g.bin.xz"]);
        assert_eq!(followed(&tree, "x.bin").unwrap(), ["ad103", "ga102/g.bin.xz", "ga103", "x.bin"]);
    }

    #[test]
    fn links_to_nothing_and_in_circles_lead_nowhere() {
        let tree = tree(&[], &[("a", "missing"), ("b", "c"), ("c", "b"), ("d", "../../../../../etc/x")]);
        for path in ["a", "b", "d", "none"] {
            assert_eq!(followed(&tree, path), None, "{path}");
            assert!(named(&tree, path).is_empty(), "{path}");
        }
    }

    #[test]
    fn every_directory_of_the_search_path_counts_in_every_form() {
        let files =
            ["updates/6.1/a.bin", "updates/a.bin.zst", "6.1/a.bin.xz", "a.bin", "6.2/a.bin", "updates/6.2/a.bin"];
        let mut tree = tree(&files, &[]);
        for path in ["opt/fw/a.bin.zst", "usr/lib/mine/a.bin", "opt/a.bin"] {
            tree.insert(path.as_bytes().to_vec(), Entry::of_root(Kind::File(Content::from_bytes(*b"")), 0o644, 0));
        }
        let expected = [
            "6.1/a.bin.xz",
            "a.bin",
            "opt/fw/a.bin.zst",
            "updates/6.1/a.bin",
            "updates/a.bin.zst",
            "usr/lib/mine/a.bin",
        ];
        let mut found = named(&tree, "a.bin");
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn links_below_lib_lead_to_usr_and_those_that_lead_nowhere_are_known() {
        let tree =
            tree(&["b.bin"], &[("a.bin", "/lib/firmware/b.bin"), ("c.bin", "gone"), ("c.bin.xz", "b.bin"), ("d", ".")]);
        assert_eq!(followed(&tree, "a.bin").unwrap(), ["a.bin", "b.bin"]);
        let found = firmware(&tree).named("c.bin").unwrap();
        assert_eq!(found.dangling.iter().map(|path| shown(path)).collect::<Vec<_>>(), ["c.bin"]);
        assert_eq!(found.files.len(), 1);
        assert!(firmware(&tree).named("d").unwrap().dangling.is_empty(), "it leads to a directory");
    }
}
