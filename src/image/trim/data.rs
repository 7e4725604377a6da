//! Data that only some programs and libraries read: it goes where none of these is reached.
//!
//! Which data that is says the definition (`read_by`); what the console needs of kbd's files says `/etc/vconsole.conf`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::image::tree::{Globs, Kind, Tree, TreePath, file_name};

/// The names of all that was reached: also those of links to it.
pub struct Names<'a>(BTreeSet<&'a [u8]>);

impl<'a> Names<'a> {
    /// Of the files of `tree` that `is_reached` says of.
    pub fn new(tree: &'a Tree, is_reached: impl Fn(&[u8]) -> bool) -> Self {
        let is_name = |path: &[u8], kind: &Kind| match kind {
            Kind::File(_) => is_reached(path),
            Kind::HardLink { target } => is_reached(target),
            Kind::Symlink { .. } => tree.resolve(path).is_some_and(|resolved| is_reached(&resolved)),
            _ => false,
        };
        let named = tree.iter().filter(|(path, entry)| is_name(path, &entry.kind));
        Names(named.map(|(path, _)| file_name(path)).collect())
    }

    /// Whether one of them matches.
    fn have(&self, globs: &GlobSet) -> bool {
        self.0.iter().any(|name| globs.is_match(String::from_utf8_lossy(name).as_ref()))
    }
}

/// The files of `tree` that nothing reads of what was reached.
///
/// # Errors
/// Fails on a malformed pattern.
pub fn unread(tree: &Tree, read_by: &BTreeMap<String, Vec<String>>, names: &Names<'_>) -> Result<BTreeSet<TreePath>> {
    let mut unread = Vec::new();
    for (data, readers) in read_by {
        if !names.have(&readers_glob(readers).with_context(|| format!("in read_by of {data:?}"))?) {
            unread.push(data);
        }
    }
    let globs = Globs::within(tree, unread)?;
    let matched = tree.iter().map(|(path, _)| path).filter(|path| globs.matches(path));
    Ok(matched.flat_map(|path| tree.below(path).map(|(below, _)| below).chain([path])).cloned().collect())
}

/// The readers of some data as one pattern of names.
///
/// # Errors
/// Fails on a malformed one.
pub fn readers_glob(readers: &[String]) -> Result<GlobSet> {
    let mut globs = GlobSetBuilder::new();
    for reader in readers {
        globs.add(Glob::new(reader).with_context(|| format!("reading the pattern {reader:?}"))?);
    }
    globs.build().context("compiling the patterns")
}
