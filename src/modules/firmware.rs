//! Firmware files in a tree, found as the kernel will find them: through symbolic links at any place of a path, and with
//! the suffixes of the compressions that the kernel's firmware loader takes.
//!
//! In: a tree and what modules name in `firmware=`. Out: paths below `usr/lib/firmware`, and for each the links on the
//! way and the file at the end (`Documentation/driver-api/firmware` of Linux).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};
use globset::{GlobSet, GlobSetBuilder};

use super::globs::component;
use crate::tree::{Kind, Tree, TreePath, file_name, join, parent};

/// Where firmware lies in a tree.
pub const FIRMWARE_DIRECTORY: &str = "usr/lib/firmware";
/// The same with a slash at its end.
pub(super) const BELOW_FIRMWARE: &str = "usr/lib/firmware/";
/// As many links as the kernel follows before it says ELOOP.
const MOST_LINKS: usize = 40;

/// The firmware of a tree.
pub(super) struct FirmwareTree<'a> {
    tree: &'a Tree,
    /// The names in each directory at or below `usr/lib/firmware`.
    names: BTreeMap<TreePath, BTreeSet<Vec<u8>>>,
}

/// What a path leads to.
struct Trace {
    /// The links passed on the way.
    links: BTreeSet<TreePath>,
    /// The path without links. There may be nothing.
    end: TreePath,
}

impl<'a> FirmwareTree<'a> {
    /// Lists the firmware in `tree`.
    pub(super) fn new(tree: &'a Tree) -> Self {
        let mut names: BTreeMap<TreePath, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for (path, _) in tree.below(FIRMWARE_DIRECTORY.as_bytes()) {
            let mut path = path.as_slice();
            while path.len() > BELOW_FIRMWARE.len() {
                names.entry(parent(path).to_vec()).or_default().insert(file_name(path).to_vec());
                path = parent(path);
            }
        }
        FirmwareTree { tree, names }
    }

    /// All files and links, as paths below `usr/lib/firmware`.
    pub(super) fn paths(&self) -> impl Iterator<Item = &'a [u8]> {
        self.tree.iter().filter_map(|(path, entry)| {
            let wanted = matches!(entry.kind, Kind::File(_) | Kind::HardLink { .. } | Kind::Symlink { .. });
            path.strip_prefix(BELOW_FIRMWARE.as_bytes()).filter(|_| wanted)
        })
    }

    /// The files that a module means by `name`, a path or a glob below `usr/lib/firmware`: the file itself, and those
    /// with a suffix after it.
    pub(super) fn named(&self, name: &str) -> Result<BTreeSet<Vec<u8>>> {
        let mut directories = BTreeSet::from([Vec::new()]);
        let (parents, last) = name.rsplit_once('/').unwrap_or(("", name));
        for directory in parents.split('/').filter(|directory| !directory.is_empty()) {
            let pick = Pick::exactly(directory).with_context(|| format!("reading the firmware name {name:?}"))?;
            directories = directories.iter().flat_map(|directory| self.pick(directory, &pick)).collect();
        }
        let pick = Pick::with_suffix(last).with_context(|| format!("reading the firmware name {name:?}"))?;
        let found = directories.iter().flat_map(|directory| self.pick(directory, &pick));
        Ok(found.filter(|path| self.follow(path).is_some()).collect())
    }

    /// The entries needed to reach the file at `path` below `usr/lib/firmware`: the links on the way, and the file.
    /// Nothing if the way ends in nothing.
    pub(super) fn follow(&self, path: &[u8]) -> Option<BTreeSet<TreePath>> {
        let Trace { links: mut entries, end } = self.trace(path)?;
        match self.tree.get(&end)?.kind {
            Kind::File(_) | Kind::HardLink { .. } => entries.insert(end),
            _ => return None,
        };
        Some(entries)
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
        push_components(&mut rest, FIRMWARE_DIRECTORY.as_bytes());
        let mut followed = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                end = parent(&end).to_vec();
                continue;
            }
            let next = join(&end, &name);
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
    use crate::tree::{Content, Entry};

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

    fn named(tree: &Tree, name: &str) -> Vec<String> {
        let found = FirmwareTree::new(tree).named(name).unwrap();
        found.into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
    }

    fn followed(tree: &Tree, path: &str) -> Option<Vec<String>> {
        let entries = FirmwareTree::new(tree).follow(path.as_bytes())?;
        let below = |path: TreePath| String::from_utf8(path).unwrap().replace(BELOW_FIRMWARE, "");
        Some(entries.into_iter().map(below).collect())
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
}
