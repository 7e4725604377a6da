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
    // weak-updates has links to modules that were built for another kernel.
    add_directory(&mut tree, root, modules.as_bytes(), is_module)?;
    if root.join(FIRMWARE).is_dir() {
        add_directory(&mut tree, root, FIRMWARE.as_bytes(), |_| false)?;
    }
    tree.add_missing_parents(0)?;
    Ok(tree)
}

/// Adds what lies in a directory of the machine: directories, files and symlinks, all of them root's. Of a symlink that is to be
/// `followed` what it leads to is added in its place, if that is a file.
///
/// # Errors
/// Fails when it cannot be read.
pub(super) fn add_directory(tree: &mut Tree, root: &Path, path: &[u8], followed: fn(&[u8]) -> bool) -> Result<()> {
    let directory = root.join(Path::new(std::ffi::OsStr::from_bytes(path)));
    let reading = || format!("reading {}", directory.display());
    let metadata = fs::metadata(&directory).with_context(reading)?;
    tree.insert(path.to_vec(), Entry::of_root(Kind::Directory, metadata.permissions().mode() & 0o7777, 0));
    let entries =
        fs::read_dir(&directory).with_context(reading)?.collect::<io::Result<Vec<_>>>().with_context(reading)?;
    for entry in entries {
        let path = join(path, entry.file_name().as_bytes());
        if entry.file_type().with_context(reading)?.is_dir() {
            add_directory(tree, root, &path, followed)?;
        } else {
            add_file(tree, &entry.path(), path, followed)?;
        }
    }
    Ok(())
}

fn is_module(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    name.windows(3).any(|end| end == b".ko")
}

/// Adds a file or a symlink of the machine; what is neither stays out.
fn add_file(tree: &mut Tree, file: &Path, path: TreePath, followed: fn(&[u8]) -> bool) -> Result<()> {
    let reading = || format!("reading {}", file.display());
    let metadata = fs::symlink_metadata(file).with_context(reading)?;
    let target = if metadata.is_symlink() && followed(&path) { fs::metadata(file).ok() } else { None };
    let metadata = target.filter(fs::Metadata::is_file).unwrap_or(metadata);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::KernelModules;

    #[test]
    fn a_link_to_a_module_of_another_kernel_is_that_module_and_other_links_stay() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "\x7fELF").unwrap();
        };
        write("usr/lib/modules/1/extra/far.ko.xz");
        write("usr/lib/modules/2/kernel/near.ko.xz");
        write("usr/lib/modules/2/weak-updates/x");
        let link = |target: &str, path: &str| std::os::unix::fs::symlink(target, root.path().join(path)).unwrap();
        link("../../1/extra/far.ko.xz", "usr/lib/modules/2/weak-updates/far.ko.xz");
        link("../../1/extra/gone.ko.xz", "usr/lib/modules/2/weak-updates/gone.ko.xz");
        link("/usr/src/2", "usr/lib/modules/2/build");
        let tree = of_kernel(root.path(), "2").unwrap();
        let modules = KernelModules::open(&tree, "2").unwrap();
        assert_eq!(modules.files().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["far", "near"]);
        assert!(matches!(tree.get(b"usr/lib/modules/2/build").unwrap().kind, Kind::Symlink { .. }));
        let error = format!("{:#}", of_kernel(root.path(), "3").unwrap_err());
        assert!(error.contains("/usr/lib/modules/3") && error.contains("half removed"), "{error}");
    }
}
