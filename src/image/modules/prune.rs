//! From the tree of a kernel package to the tree of an initrd's modules.
//!
//! In: a tree, a selection, its index. Out: the same tree without what is not selected, with the index in it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::firmware::BELOW_FIRMWARE;
use super::kernel_modules::module_directory;
use super::name::split_suffix;
use super::selection::Selection;
use crate::image::tree::{Content, Entry, Kind, Tree, TreePath, is_within, parent};

/// What a kernel package ships beside its modules and modprobe or depmod still read.
const KEPT_LISTS: [&str; 2] = ["modules.builtin", "modules.builtin.modinfo"];
const ORDER: &str = "modules.order";

/// Removes from `usr/lib/modules/KVER` all but the selected modules, `modules.builtin`, `modules.builtin.modinfo` and
/// the lines of `modules.order` that still have a module; adds the index with the time `epoch`. Removes from
/// `usr/lib/firmware` all but the selected firmware, microcode too: take that out before; the same with other directories
/// that the selection looked through. Directories that are left empty go; nothing outside of these directories changes.
///
/// # Errors
/// Fails when `modules.order` cannot be read.
pub fn prune(
    tree: &mut Tree,
    kernel_version: &str,
    selection: &Selection,
    index: BTreeMap<String, Vec<u8>>,
    epoch: u64,
) -> Result<()> {
    let directory = module_directory(kernel_version);
    let order = filtered_order(tree, &directory, selection)?;
    let lists = KEPT_LISTS.map(|name| format!("{directory}{name}").into_bytes());
    let kept = with_parents(selection.modules.keys().chain(&selection.firmware).chain(&lists));
    let is_other = |path: &[u8]| selection.others.iter().any(|other| is_within(path, other));
    let pruned = |path: &[u8]| {
        path.starts_with(directory.as_bytes()) || path.starts_with(BELOW_FIRMWARE.as_bytes()) || is_other(path)
    };
    tree.retain(|path, _| !pruned(path) || kept.contains(path));
    let order = order.map(|order| (ORDER.to_owned(), order));
    for (name, bytes) in index.into_iter().chain(order) {
        let entry = Entry::of_root(Kind::File(Content::from_bytes(bytes)), 0o644, epoch);
        tree.insert(format!("{directory}{name}").into_bytes(), entry);
    }
    Ok(())
}

fn with_parents<'a>(paths: impl Iterator<Item = &'a TreePath>) -> BTreeSet<TreePath> {
    let mut all = BTreeSet::new();
    for path in paths {
        let mut path = path.as_slice();
        while !path.is_empty() && all.insert(path.to_vec()) {
            path = parent(path);
        }
    }
    all
}

/// The lines of `modules.order` whose modules are selected; nothing if there is no such file.
fn filtered_order(tree: &Tree, directory: &str, selection: &Selection) -> Result<Option<Vec<u8>>> {
    let path = format!("{directory}{ORDER}");
    let Some(content) = tree.content(path.as_bytes()) else { return Ok(None) };
    let bytes = content.read_all().with_context(|| format!("reading {path}"))?;
    let stems: BTreeSet<&str> = selection.modules.keys().filter_map(|path| stem(path, directory)).collect();
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter(|line| split_suffix(line).is_some_and(|(stem, _)| stems.contains(stem)));
    Ok(Some(lines.flat_map(|line| [line.as_bytes(), b"\n"]).flatten().copied().collect()))
}

fn stem<'a>(path: &'a [u8], directory: &str) -> Option<&'a str> {
    let relative = std::str::from_utf8(path.strip_prefix(directory.as_bytes())?).ok()?;
    split_suffix(relative).map(|(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::modules::ModuleInfo;

    fn file(text: &str) -> Entry {
        Entry::of_root(Kind::File(Content::from_bytes(text.as_bytes())), 0o644, 1)
    }

    fn tree(entries: &[(&str, Entry)]) -> Tree {
        let mut tree = Tree::new();
        for (path, entry) in entries {
            tree.insert(path.as_bytes().to_vec(), entry.clone());
        }
        tree
    }

    fn directory() -> Entry {
        Entry::of_root(Kind::Directory, 0o755, 1)
    }

    fn selection(modules: &[&str], firmware: &[&str]) -> Selection {
        Selection {
            modules: modules.iter().map(|path| (path.as_bytes().to_vec(), ModuleInfo::default())).collect(),
            firmware: firmware.iter().map(|path| path.as_bytes().to_vec()).collect(),
            ..Selection::default()
        }
    }

    fn paths(tree: &Tree) -> Vec<&str> {
        tree.iter().map(|(path, _)| std::str::from_utf8(path).unwrap()).collect()
    }

    #[test]
    fn only_the_selected_and_the_lists_stay() {
        let mut tree = tree(&[
            ("usr/lib/modules/1", directory()),
            ("usr/lib/modules/1/kernel", directory()),
            ("usr/lib/modules/1/kernel/a.ko.xz", file("a")),
            ("usr/lib/modules/1/kernel/x", directory()),
            ("usr/lib/modules/1/kernel/x/b.ko.xz", file("b")),
            ("usr/lib/modules/1/modules.builtin", file("")),
            ("usr/lib/modules/1/modules.order", file("kernel/x/b.ko\nkernel/a.ko\n")),
            ("usr/lib/modules/1/vmlinuz", file("")),
            ("usr/lib/modules/2/kernel/a.ko.xz", file("a")),
            ("usr/lib/firmware/a.bin", file("")),
            ("usr/lib/firmware/b.bin", file("")),
            ("usr/lib/os-release", file("")),
        ]);
        let selection = selection(&["usr/lib/modules/1/kernel/a.ko.xz"], &["usr/lib/firmware/b.bin"]);
        let index = BTreeMap::from([("modules.dep".to_owned(), b"dep".to_vec())]);
        prune(&mut tree, "1", &selection, index, 7).unwrap();
        let expected = [
            "usr/lib/firmware/b.bin",
            "usr/lib/modules/1",
            "usr/lib/modules/1/kernel",
            "usr/lib/modules/1/kernel/a.ko.xz",
            "usr/lib/modules/1/modules.builtin",
            "usr/lib/modules/1/modules.dep",
            "usr/lib/modules/1/modules.order",
            "usr/lib/modules/2/kernel/a.ko.xz",
            "usr/lib/os-release",
        ];
        assert_eq!(paths(&tree), expected);
        let order = b"usr/lib/modules/1/modules.order";
        assert_eq!(tree.content(order).unwrap().read_all().unwrap(), b"kernel/a.ko\n");
        assert_eq!(tree.get(order).unwrap().mtime, 7);
    }

    #[test]
    fn hard_links_survive_their_first_name() {
        let link = || Entry::of_root(Kind::HardLink { target: b"usr/lib/firmware/a".to_vec() }, 0o644, 1);
        let mut tree = tree(&[
            ("usr/lib/firmware/a", file("content")),
            ("usr/lib/firmware/b", link()),
            ("usr/lib/firmware/c", link()),
        ]);
        let selection = selection(&[], &["usr/lib/firmware/b", "usr/lib/firmware/c"]);
        prune(&mut tree, "1", &selection, BTreeMap::new(), 7).unwrap();
        assert!(matches!(tree.get(b"usr/lib/firmware/b").unwrap().kind, Kind::File(_)));
        let Kind::HardLink { target } = &tree.get(b"usr/lib/firmware/c").unwrap().kind else { panic!("no link") };
        assert_eq!(target, b"usr/lib/firmware/b");
    }
}
