//! Directories of the machine as trees, whose files are read when they are wanted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::modules;
use crate::tree::{Content, Entry, Kind, Tree, TreePath, join};

/// The names of the modules that are built into a kernel.
const BUILTIN: &str = "modules.builtin";

/// The modules and the firmware of a kernel.
///
/// # Errors
/// Fails when the kernel is not installed, or not as a whole, and when a directory cannot be read.
pub(super) fn of_kernel(root: &Path, kernel_version: &str) -> Result<Tree> {
    let directory = format!("usr/lib/modules/{kernel_version}");
    if !root.join(&directory).is_dir() {
        bail!("there is no directory /{directory}: the kernel {kernel_version} is not installed, or half removed");
    }
    // Every kernel that is installed has it, and the packages of other modules have it not.
    if !root.join(&directory).join(BUILTIN).is_file() {
        bail!(
            "/{directory} has no {BUILTIN}: the kernel {kernel_version} is half removed or half installed; install its \
             packages again, or remove them and the directory"
        );
    }
    let mut tree = Tree::new();
    // weak-updates has links to modules that were built for another kernel.
    add_directory(&mut tree, root, directory.as_bytes(), modules::is_module)?;
    if root.join(modules::FIRMWARE_DIRECTORY).is_dir() {
        add_directory(&mut tree, root, modules::FIRMWARE_DIRECTORY.as_bytes(), |_| false)?;
    }
    tree.add_missing_parents(0)?;
    Ok(tree)
}

/// Where a path of the machine lies whose root is `root`.
pub fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// What lies in these directories of the machine by its name, as far as it `is_wanted`; of one name the last directory's counts.
///
/// # Errors
/// Fails when a directory that is there cannot be read.
pub(super) fn by_name(
    root: &Path,
    places: &[&str],
    is_wanted: impl Fn(&Path) -> bool,
) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for place in places.iter().map(|place| root.join(place)).filter(|place| place.exists()) {
        let reading = || format!("reading {}", place.display());
        for entry in fs::read_dir(&place).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            if is_wanted(&entry.path()) {
                found.insert(entry.file_name().to_string_lossy().into_owned(), entry.path());
            }
        }
    }
    Ok(found)
}

/// Adds what lies in a directory of the machine: directories, files and symlinks, all of them root's. Of a symlink that is to be
/// `followed` what it leads to is added in its place, if that is a file.
///
/// # Errors
/// Fails when it cannot be read.
pub(super) fn add_directory(tree: &mut Tree, root: &Path, path: &[u8], followed: fn(&[u8]) -> bool) -> Result<()> {
    let directory = root.join(Path::new(OsStr::from_bytes(path)));
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
    use crate::machine::fixture::Fixture;
    use crate::modules::KernelModules;

    #[test]
    fn a_link_to_a_module_of_another_kernel_is_that_module_and_other_links_stay() {
        let root = Fixture::new();
        root.write("usr/lib/modules/1/extra/far.ko.xz", "").write("usr/lib/modules/2/kernel/near.ko.xz", "");
        root.write("usr/lib/modules/2/modules.builtin", "");
        root.link("usr/lib/modules/2/weak-updates/far.ko.xz", "../../1/extra/far.ko.xz");
        root.link("usr/lib/modules/2/weak-updates/gone.ko.xz", "../../1/extra/gone.ko.xz");
        root.link("usr/lib/modules/2/build", "/usr/src/2");
        let tree = of_kernel(root.path(), "2").unwrap();
        let modules = KernelModules::open(&tree, "2").unwrap();
        assert_eq!(modules.files().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["far", "near"]);
        assert!(matches!(tree.get(b"usr/lib/modules/2/build").unwrap().kind, Kind::Symlink { .. }));
        for kernel in ["1", "3"] {
            let error = format!("{:#}", of_kernel(root.path(), kernel).unwrap_err());
            let directory = format!("/usr/lib/modules/{kernel}");
            assert!(error.contains(&directory) && error.contains("half removed"), "{error}");
        }
    }
}
