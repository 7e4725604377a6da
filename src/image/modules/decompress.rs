//! Modules stored without compression, for a segment that is compressed as a whole.
//!
//! In: a tree and a selection with modules such as `a.ko.xz`. Out: both with `a.ko` in their place; the bytes lie in a
//! file without a name.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

use super::kernel_modules::{KernelModules, ModuleFile};
use super::module_info::decompressed;
use super::name::{Compression, split_suffix};
use super::selection::Selection;
use crate::image::tree::{Content, Entry, Kind, Tree, TreePath};
use ocinitrd_support::parallel;

/// Replaces the selected modules of `tree` and their paths in `selection` by decompressed ones, which are spooled in an
/// unnamed file in `spool_directory`. To be called before [`index()`](super::index()), which then names `.ko` files.
///
/// # Errors
/// Fails when a module cannot be decompressed and when the spool cannot be written (disk full).
pub fn decompress(
    tree: &mut Tree,
    modules: &KernelModules,
    selection: &mut Selection,
    spool_directory: &Path,
) -> Result<()> {
    let directory = spool_directory.display();
    let spool =
        tempfile::tempfile_in(spool_directory).with_context(|| format!("making a temporary file in {directory}"))?;
    let (spool, end) = (Arc::new(spool), AtomicU64::new(0));
    let selected = modules.files().filter(|file| selection.modules.contains_key(&modules.tree_path(file)));
    let compressed: Vec<&ModuleFile> = selected.filter(|file| file.compression != Compression::None).collect();
    let contents = parallel::map(&compressed, |file| {
        spool_module(file, &spool, &end).with_context(|| format!("decompressing the module {}", file.relative_path))
    })?;
    for (file, content) in compressed.iter().zip(contents) {
        let path = modules.tree_path(file);
        let shorter = without_suffix(&path);
        if let Some(entry) = tree.remove(&path) {
            tree.insert(shorter.clone(), Entry { kind: Kind::File(content), ..entry });
        }
        if let Some(info) = selection.modules.remove(&path) {
            selection.modules.insert(shorter, info);
        }
    }
    Ok(())
}

/// Writes a module to a place in the spool that no other thread has.
fn spool_module(file: &ModuleFile, spool: &Arc<File>, end: &AtomicU64) -> Result<Content> {
    let bytes = decompressed(file)?;
    let length_bytes = bytes.len() as u64;
    let offset = end.fetch_add(length_bytes, Ordering::Relaxed);
    spool.write_all_at(&bytes, offset).context("writing the temporary file of decompressed modules")?;
    Ok(Content::Spooled { file: Arc::clone(spool), offset, length_bytes })
}

fn without_suffix(path: &[u8]) -> TreePath {
    let stem = std::str::from_utf8(path).ok().and_then(split_suffix).map(|(stem, _)| stem);
    stem.map_or_else(|| path.to_vec(), |stem| format!("{stem}.ko").into_bytes())
}
