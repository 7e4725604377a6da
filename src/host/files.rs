//! Directories of the machine as trees, whose files are read when they are wanted.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::tree::{Content, Entry, Kind, Tree, TreePath, join};

const FIRMWARE: &str = "usr/lib/firmware";

/// The modules and the firmware of a kernel.
///
/// # Errors
/// Fails when the kernel has no directory, and when a directory cannot be read.
pub(super) fn of_kernel(root: &Path, kernel_version: &str) -> Result<Tree> {
    let modules = format!("usr/lib/modules/{kernel_version}");
    if !root.join(&modules).is_dir() {
        bail!("there is no directory /{modules}: the kernel {kernel_version} is not installed, or half removed");
    }
    let mut tree = Tree::new();
    add_directory(&mut tree, root, modules.as_bytes())?;
    if root.join(FIRMWARE).is_dir() {
        add_directory(&mut tree, root, FIRMWARE.as_bytes())?;
    }
    tree.add_missing_parents(0)?;
    Ok(tree)
}

/// Adds what lies in a directory of the machine: directories, files and symlinks, all of them root's.
///
/// # Errors
/// Fails when it cannot be read.
pub(super) fn add_directory(tree: &mut Tree, root: &Path, path: &[u8]) -> Result<()> {
    let directory = root.join(Path::new(std::ffi::OsStr::from_bytes(path)));
    let reading = || format!("reading {}", directory.display());
    let metadata = fs::metadata(&directory).with_context(reading)?;
    tree.insert(path.to_vec(), Entry::of_root(Kind::Directory, metadata.permissions().mode() & 0o7777, 0));
    let entries =
        fs::read_dir(&directory).with_context(reading)?.collect::<io::Result<Vec<_>>>().with_context(reading)?;
    for entry in entries {
        let path = join(path, entry.file_name().as_bytes());
        if entry.file_type().with_context(reading)?.is_dir() {
            add_directory(tree, root, &path)?;
        } else {
            add_file(tree, &entry.path(), path)?;
        }
    }
    Ok(())
}

/// Adds a file or a symlink of the machine; what is neither stays out.
///
/// # Errors
/// Fails when it cannot be looked at.
pub(super) fn add_file(tree: &mut Tree, file: &Path, path: TreePath) -> Result<()> {
    let reading = || format!("reading {}", file.display());
    let metadata = fs::symlink_metadata(file).with_context(reading)?;
    let kind = if metadata.is_symlink() {
        Kind::Symlink { target: fs::read_link(file).with_context(reading)?.as_os_str().as_bytes().to_vec() }
    } else if metadata.is_file() {
        Kind::File(Content::on_disk(file, metadata.len()))
    } else {
        return Ok(());
    };
    tree.insert(path, Entry::of_root(kind, metadata.permissions().mode() & 0o7777, 0));
    Ok(())
}
