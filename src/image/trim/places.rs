//! Where systemd, udev, modprobe and glibc look for files, and what a file is because it is found there.
//!
//! A distribution may have a link in any of these places (authselect makes one of `/etc/nsswitch.conf`), so directories are
//! looked into where their links lead, and a file is what any of its places makes of it.

use std::collections::BTreeSet;

use crate::image::tree::{Tree, TreePath, file_name, is_within, join, parent};

/// Where systemd looks for units; the first that has one wins.
const UNITS: &[&str] = &["etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"];
const RULES: &[&str] = &["etc/udev/rules.d", "usr/local/lib/udev/rules.d", "usr/lib/udev/rules.d"];
const MODPROBE: &[&str] = &["etc/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d"];
/// Where programs are called by their names.
const PROGRAMS: &[&str] = &["usr/local/bin", "usr/local/sbin", "usr/bin", "usr/sbin", "usr/lib/udev"];
/// Directories whose programs systemd runs, all of them.
const HOOKS: &[&str] = &[
    "etc/systemd/system-environment-generators",
    "etc/systemd/system-generators",
    "etc/systemd/system-shutdown",
    "usr/local/lib/systemd/system-environment-generators",
    "usr/local/lib/systemd/system-generators",
    "usr/lib/systemd/system-environment-generators",
    "usr/lib/systemd/system-generators",
    "usr/lib/systemd/system-shutdown",
];

/// How a file is read that is found in such a place.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// A unit of systemd's, or a drop-in of one.
    Unit,
    /// Rules of udev's.
    Rules,
    /// Settings of modprobe's.
    Modprobe,
    /// `/etc/nsswitch.conf`.
    NameServices,
}

/// The places of a tree, without links on the way to them.
pub struct Places {
    /// Directories of units.
    pub units: Vec<TreePath>,
    /// Directories of programs.
    pub programs: Vec<TreePath>,
    /// Directories of programs that systemd runs, all of them.
    pub hooks: Vec<TreePath>,
    rules: Vec<TreePath>,
    modprobe: Vec<TreePath>,
}

impl Places {
    /// Those that the tree has.
    pub fn new(tree: &Tree) -> Self {
        Places {
            units: resolved(tree, UNITS),
            programs: resolved(tree, PROGRAMS),
            hooks: resolved(tree, HOOKS),
            rules: resolved(tree, RULES),
            modprobe: resolved(tree, MODPROBE),
        }
    }

    /// The files that are read whatever leads to them, and what they are.
    pub fn settings<'a>(&'a self, tree: &'a Tree) -> impl Iterator<Item = (TreePath, Role)> + 'a {
        let in_directories = [(&self.rules, Role::Rules), (&self.modprobe, Role::Modprobe)];
        let found = in_directories.into_iter().flat_map(move |(directories, role)| {
            let files = directories.iter().flat_map(|directory| tree.children(directory));
            files.map(move |(path, _)| (path.clone(), role))
        });
        found.chain([(b"etc/nsswitch.conf".to_vec(), Role::NameServices)])
    }

    /// What a file is that lies there.
    pub fn role(&self, place: &[u8]) -> Option<Role> {
        let is_in = |directories: &[TreePath]| directories.iter().any(|directory| parent(place) == directory);
        if self.units.iter().any(|directory| is_within(place, directory)) {
            Some(Role::Unit)
        } else if is_in(&self.rules) {
            Some(Role::Rules)
        } else if is_in(&self.modprobe) {
            Some(Role::Modprobe)
        } else {
            None
        }
    }
}

/// The directories that there are, each once.
fn resolved(tree: &Tree, directories: &[&str]) -> Vec<TreePath> {
    let mut seen = BTreeSet::new();
    let found = directories.iter().filter_map(|directory| tree.resolve(directory.as_bytes()));
    found.filter(|directory| tree.contains_dir(directory) && seen.insert(directory.clone())).collect()
}

/// What lies directly in a directory, which may be a link, by its name below `directory`.
pub fn listed(tree: &Tree, directory: &[u8]) -> Vec<TreePath> {
    let Some(resolved) = tree.resolve(directory) else { return Vec::new() };
    tree.children(&resolved).map(|(path, _)| join(directory, file_name(path))).collect()
}
