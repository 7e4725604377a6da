//! What of an installed tree something in it reaches; the rest of its programs, libraries and units is left out.
//!
//! Enters: a finished tree. Leaves: the same tree without the programs, shared libraries and systemd units that nothing
//! leads to. What leads to them:
//!
//! - Where an initrd starts: `/init`, the units that systemd starts in an initrd or on a signal (`STARTED_UNITS`), its
//!   generators and shutdown programs, udev's rules, and the programs that the definition names.
//! - A unit leads to the units that it and its drop-ins name and to the programs that it starts, unless it has a condition
//!   that no initrd meets. A masked unit leads nowhere.
//! - A udev rule leads to the programs that it runs and to the units that it asks for.
//! - A script leads to its interpreter and to every program and unit whose name is a word of it.
//! - A program or library leads to the libraries that it is linked to; to those that its notes say it loads when they are
//!   there, or, where it has no notes, whose names are in it; and to the programs and units whose names are in it.
//! - `/etc/nsswitch.conf` leads to the libraries of the sources that it names, settings of modprobe to the programs that it
//!   runs.
//!
//! Any of these files, and any directory on the way to it, may be a symlink: what counts is where systemd and the others look
//! for it, and what they find there (`places`).
//!
//! Names that are made up at run time are not seen: such files are named in the definition. Everything that is neither
//! program, library nor unit stays, but for what the definition says that only certain programs read (`data`), and for the
//! keymaps and fonts that no setting names (`console`).

mod console;
mod data;
mod elf;
mod features;
mod modprobe;
mod places;
mod references;
mod script;
mod udev;
mod unit;
mod walk;

use std::collections::BTreeSet;

use anyhow::Result;

use crate::definition::Selection;
use crate::image::tree::{Globs, Kind, Tree, TreePath, parent};
use ocinitrd_format::text::quoted;

use walk::Reached;

pub use data::readers_glob;
pub use features::Features;

/// What was left out.
#[derive(Debug, Default)]
pub struct Trimmed {
    /// How many programs, libraries and units, and files that only these read.
    pub files: usize,
    /// Their size in bytes.
    pub size_bytes: u64,
    /// What the definition names and the tree does not have, as written.
    pub unknown_programs: Vec<String>,
    /// What else a person should know, a line each.
    pub remarks: Vec<String>,
}

/// Leaves out of `tree` what nothing in it reaches.
///
/// # Errors
/// Fails on a malformed pattern of the definition, and when a file of the tree cannot be read.
pub fn trim(tree: &mut Tree, selection: &Selection) -> Result<Trimmed> {
    let features = Features::parse(&selection.dlopen)?;
    let kept = Globs::within(tree, &selection.keep_files)?;
    let mut reached = Reached::new(tree, &features)?;
    reached.start_as_initrd();
    let unknown_programs = reached.start_programs(&selection.programs)?;
    reached.start_files(&kept);
    reached.explore()?;
    let doomed: BTreeSet<TreePath> = reached.unreached();
    doomed.iter().for_each(|path| tracing::debug!("nothing leads to {}", quoted(path)));
    let console = console::console(tree, |path| reached.has(path))?;
    let names = data::Names::new(tree, |path| reached.has(path));
    let unread = data::unread(tree, &selection.read_by, &names)?.into_iter().chain(console.unread);
    let unread: BTreeSet<TreePath> = unread.filter(|path| !kept.matches(path)).collect();
    unread.iter().for_each(|path| tracing::debug!("nothing reads {}", quoted(path)));
    let size_before = tree.size_bytes();
    let files = doomed.len() + unread.iter().filter(|path| !tree.contains_dir(path)).count();
    remove(tree, &doomed, &unread);
    let size_bytes = size_before - tree.size_bytes();
    Ok(Trimmed { files, size_bytes, unknown_programs, remarks: console.remarks })
}

/// Removes `doomed` by all their names and `unread` by these alone, the symlinks that led to them, and the directories that are
/// empty then.
fn remove(tree: &mut Tree, doomed: &BTreeSet<TreePath>, unread: &BTreeSet<TreePath>) {
    let links = tree.iter().filter(|(path, entry)| is_symlink(&entry.kind) && tree.resolve(path).is_some());
    let leading: BTreeSet<TreePath> = links.map(|(path, _)| path.clone()).collect();
    let mut emptied: BTreeSet<TreePath> = unread.iter().filter(|path| tree.contains_dir(path)).cloned().collect();
    emptied.extend(remove_where(tree, |path, kind| match kind {
        Kind::Directory => false,
        Kind::HardLink { target } => doomed.contains(target) || unread.contains(path),
        _ => doomed.contains(path) || unread.contains(path),
    }));
    // Links may have led to directories too.
    remove_empty(tree, emptied);
    let dangling: BTreeSet<TreePath> = leading.into_iter().filter(|path| tree.resolve(path).is_none()).collect();
    let emptied = remove_where(tree, |path, _| dangling.contains(path));
    remove_empty(tree, emptied);
}

/// Removes what `is_doomed` says of; returns the directories that it was in.
fn remove_where(tree: &mut Tree, is_doomed: impl Fn(&[u8], &Kind) -> bool) -> BTreeSet<TreePath> {
    let mut directories = BTreeSet::new();
    tree.retain(|path, entry| {
        let doomed = is_doomed(path, &entry.kind);
        if doomed {
            directories.insert(parent(path).to_vec());
        }
        !doomed
    });
    directories
}

fn is_symlink(kind: &Kind) -> bool {
    matches!(kind, Kind::Symlink { .. })
}

fn remove_empty(tree: &mut Tree, candidates: BTreeSet<TreePath>) {
    for mut directory in candidates.into_iter().rev() {
        while !directory.is_empty() && tree.contains_dir(&directory) && tree.children(&directory).next().is_none() {
            tree.remove(&directory);
            directory = parent(&directory).to_vec();
        }
    }
}

#[cfg(test)]
mod tests;
