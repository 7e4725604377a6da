//! Directories of the machine as trees, whose files are read when they are wanted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail};

use crate::image::modules::{self, External};
use crate::image::tree::{Content, Entry, Kind, Tree, TreePath, file_name, join};
use ocinitrd_support::links;

/// The names of the modules that are built into a kernel.
const BUILTIN: &str = "modules.builtin";
/// Symlinks to the kernel's source, which depmod does not follow.
const SOURCES: [&[u8]; 2] = [b"build", b"source"];

/// What lies elsewhere than a kernel's modules and firmware usually do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Elsewhere<'a> {
    /// Directories of modules that `depmod.d` names.
    pub modules: &'a [External],
    /// Directories of firmware, as `firmware_class.path=` names them.
    pub firmware: &'a [String],
}

/// The modules and the firmware of a kernel.
///
/// # Errors
/// Fails when the kernel is not installed, or not as a whole, and when a directory cannot be read.
pub(super) fn of_kernel(root: &Path, kernel_version: &str, elsewhere: Elsewhere<'_>) -> Result<Tree> {
    let directory = format!("usr/lib/modules/{kernel_version}");
    let is_there = |path: &str| Ok::<_, Error>(found(root, Path::new(path))?.is_some());
    if !is_there(&directory)? {
        bail!("there is no directory /{directory}: the kernel {kernel_version} is not installed, or half removed");
    }
    // Every kernel that is installed has it, and the packages of other modules have it not.
    if !is_there(&format!("{directory}/{BUILTIN}"))? {
        bail!(
            "/{directory} has no {BUILTIN}: the kernel {kernel_version} is half removed or half installed; install its \
             packages again, or remove them and the directory"
        );
    }
    let mut tree = Tree::new();
    let modules = elsewhere.modules.iter().map(|directory| (directory.written.as_str(), Follow::Modules));
    let firmware = elsewhere.firmware.iter().map(|path| (path.as_str(), Follow::Outwards));
    let usual = [(directory.as_str(), Follow::Modules), (modules::FIRMWARE_DIRECTORY, Follow::Outwards)];
    for (written, follow) in usual.into_iter().chain(modules).chain(firmware) {
        let path = modules::external_path(written);
        let is_whole_machine = found(root, Path::new(written))?.is_some_and(|end| end.as_os_str().is_empty());
        // What is named twice is there already.
        if tree.get(&path).is_none() && !is_whole_machine {
            add_directory_as(&mut tree, root, Path::new(written), &path, follow)?;
        }
    }
    tree.add_missing_parents(0)?;
    Ok(tree)
}

/// Where a path of the machine lies, with the symlinks on the way followed.
pub(super) fn place(root: &Path, path: &Path) -> Result<PathBuf> {
    links::place(root, path).with_context(|| format!("reading {}", shown(root, path)))
}

/// A path of the machine whose root is `root`, for messages.
pub(super) fn shown(root: &Path, path: &Path) -> String {
    root.join(path.strip_prefix("/").unwrap_or(path)).display().to_string()
}

/// What lies in a directory of the machine.
#[derive(Debug)]
pub(super) struct Named {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Whether it is a symlink to `/dev/null`, which hides what has its name in an earlier directory.
    pub hides: bool,
}

/// What lies in a directory of the machine; nothing if there is none.
///
/// # Errors
/// Fails when a directory that is there cannot be read.
pub(super) fn in_directory(root: &Path, directory: &str) -> Result<Vec<Named>> {
    let directory = Path::new(directory);
    let real = place(root, directory)?;
    if !real.exists() {
        return Ok(Vec::new());
    }
    let reading = || format!("reading {}", shown(root, directory));
    let entries = fs::read_dir(&real).with_context(reading)?.collect::<io::Result<Vec<_>>>().with_context(reading)?;
    let named = entries.into_iter().map(|entry| {
        let asked = directory.join(entry.file_name());
        let name = entry.file_name().to_string_lossy().into_owned();
        Ok(Named { name, path: place(root, &asked)?, hides: links::is_nothing(root, &asked) })
    });
    named.collect()
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
    for directory in places {
        for Named { name, path, hides } in in_directory(root, directory)? {
            if hides {
                found.remove(&name);
            } else if is_wanted(&path) {
                found.insert(name, path);
            }
        }
    }
    Ok(found)
}

/// Which symlinks are replaced by what they lead to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Follow {
    /// None.
    Never,
    /// Those that lead to files.
    Files,
    /// Those that are modules, as depmod follows them, and those that lead to directories: weak-updates has links to modules that
    /// were built for another kernel.
    Modules,
    /// Those that lead out of the directory that is added.
    Outwards,
}

/// Adds what lies in a directory of the machine, if it is there: directories, files and symlinks, all of them root's.
///
/// # Errors
/// Fails when it cannot be read.
pub(super) fn add_directory(tree: &mut Tree, root: &Path, path: &[u8], follow: Follow) -> Result<()> {
    add_directory_as(tree, root, Path::new(OsStr::from_bytes(path)), path, follow)
}

/// The same for a directory that has another path in the tree.
pub(super) fn add_directory_as(
    tree: &mut Tree,
    root: &Path,
    directory: &Path,
    path: &[u8],
    follow: Follow,
) -> Result<()> {
    let Some(real) = found(root, directory)? else { return Ok(()) };
    let mut adding = Adding { tree, root, follow, top: real.clone(), way: Vec::new() };
    adding.add_directory(path, &real)
}

/// A directory that is being added.
struct Adding<'a> {
    tree: &'a mut Tree,
    root: &'a Path,
    follow: Follow,
    /// Where the directory lies.
    top: PathBuf,
    /// Where the directories lie that are being walked through: a symlink back to one of them has no end.
    way: Vec<PathBuf>,
}

impl Adding<'_> {
    /// Adds the directory that lies at `real` below the root, as `path`.
    fn add_directory(&mut self, path: &[u8], real: &Path) -> Result<()> {
        let directory = self.root.join(real);
        let reading = || format!("reading {}", directory.display());
        let metadata = fs::metadata(&directory).with_context(reading)?;
        if !metadata.is_dir() {
            return Ok(());
        }
        self.tree.insert(path.to_vec(), Entry::of_root(Kind::Directory, metadata.permissions().mode() & 0o7777, 0));
        let entries =
            fs::read_dir(&directory).with_context(reading)?.collect::<io::Result<Vec<_>>>().with_context(reading)?;
        self.way.push(real.to_owned());
        for entry in entries {
            let path = join(path, entry.file_name().as_bytes());
            let real = real.join(entry.file_name());
            let kind = entry.file_type().with_context(reading)?;
            if kind.is_dir() {
                self.add_directory(&path, &real)?;
            } else if kind.is_symlink() {
                self.add_symlink(path, &real)?;
            } else {
                self.add_file(path, &real)?;
            }
        }
        self.way.pop();
        Ok(())
    }

    fn add_symlink(&mut self, path: TreePath, real: &Path) -> Result<()> {
        if let Some(end) = self.followed(&path, real)? {
            if self.root.join(&end).is_dir() {
                return self.add_directory(&path, &end);
            }
            return self.add_file(path, &end);
        }
        let link = self.root.join(real);
        let target = fs::read_link(&link).with_context(|| format!("reading {}", link.display()))?;
        let kind = Kind::Symlink { target: target.as_os_str().as_bytes().to_vec() };
        self.tree.insert(path, Entry::of_root(kind, 0o777, 0));
        Ok(())
    }

    /// What a symlink leads to, if that is to take its place.
    fn followed(&self, path: &[u8], real: &Path) -> Result<Option<PathBuf>> {
        if self.follow == Follow::Never {
            return Ok(None);
        }
        let Some(end) = found(self.root, real)? else { return Ok(None) };
        let is_directory = self.root.join(&end).is_dir();
        let is_taken = match self.follow {
            Follow::Never => false,
            Follow::Files => !is_directory,
            Follow::Modules if is_directory => !SOURCES.contains(&file_name(path)),
            Follow::Modules => modules::is_module(path),
            Follow::Outwards => !end.starts_with(&self.top),
        };
        let is_round = is_directory && self.way.iter().any(|above| above.starts_with(&end));
        Ok(Some(end).filter(|_| is_taken && !is_round))
    }

    /// Adds a file; what is neither that nor a directory stays out.
    fn add_file(&mut self, path: TreePath, real: &Path) -> Result<()> {
        let file = self.root.join(real);
        let metadata = fs::symlink_metadata(&file).with_context(|| format!("reading {}", file.display()))?;
        if metadata.is_file() {
            let kind = Kind::File(Content::on_disk(&file, metadata.len()));
            self.tree.insert(path, Entry::of_root(kind, metadata.permissions().mode() & 0o7777, 0));
        }
        Ok(())
    }
}

/// Where a path of the machine leads, if it is there.
pub(super) fn found(root: &Path, path: &Path) -> Result<Option<PathBuf>> {
    links::resolve(root, path).with_context(|| format!("reading {}", shown(root, path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;
    use crate::image::modules::KernelModules;

    fn kernel(root: &Fixture) -> Tree {
        root.write("usr/lib/modules/2/modules.builtin", "");
        of_kernel(root.path(), "2", Elsewhere::default()).unwrap()
    }

    fn names(tree: &Tree) -> Vec<String> {
        KernelModules::open(tree, "2").unwrap().files().map(|file| file.name.clone()).collect()
    }

    #[test]
    fn a_link_to_a_module_of_another_kernel_is_that_module_and_other_links_stay() {
        let root = Fixture::new();
        root.write("usr/lib/modules/1/extra/far.ko.xz", "").write("usr/lib/modules/2/kernel/near.ko.xz", "");
        root.link("lib", "usr/lib");
        root.link("usr/lib/modules/2/weak-updates/far.ko.xz", "../../1/extra/far.ko.xz");
        root.link("usr/lib/modules/2/weak-updates/absolute.ko.xz", "/lib/modules/1/extra/far.ko.xz");
        root.link("usr/lib/modules/2/weak-updates/gone.ko.xz", "../../1/extra/gone.ko.xz");
        root.link("usr/lib/modules/2/build", "/usr/src/2");
        let tree = kernel(&root);
        assert_eq!(names(&tree), ["absolute", "far", "near"]);
        assert!(matches!(tree.get(b"usr/lib/modules/2/build").unwrap().kind, Kind::Symlink { .. }));
        for kernel in ["1", "3"] {
            let error = format!("{:#}", of_kernel(root.path(), kernel, Elsewhere::default()).unwrap_err());
            let directory = format!("/usr/lib/modules/{kernel}");
            assert!(error.contains(&directory) && error.contains("half removed"), "{error}");
        }
    }

    #[test]
    fn directories_behind_links_are_walked_through_once() {
        let root = Fixture::new();
        root.write("srv/modules/deep/a.ko", "").write("usr/lib/modules/2/kernel/b.ko", "").write("usr/src/2/c.ko", "");
        root.link("usr/lib/modules/2/updates", "/srv/modules").link("usr/lib/modules/2/source", "/usr/src/2");
        root.link("srv/modules/deep/round", "/usr/lib/modules/2/updates").link("usr/lib/modules/2/kernel/up", "..");
        assert_eq!(names(&kernel(&root)), ["a", "b"]);
    }

    #[test]
    fn firmware_behind_links_that_lead_out_is_taken_along() {
        let root = Fixture::new();
        root.write("usr/lib/modules/2/kernel/b.ko", "").write("opt/fw/a.bin", "a").write("opt/other/b.bin", "b");
        root.write("usr/lib/firmware/c.bin", "c").link("usr/lib/firmware/a.bin", "/opt/fw/a.bin");
        root.link("usr/lib/firmware/d.bin", "c.bin").link("usr/lib/firmware/dir", "../../../opt/other");
        let tree = kernel(&root);
        for path in ["usr/lib/firmware/a.bin", "usr/lib/firmware/dir/b.bin"] {
            assert!(tree.content(path.as_bytes()).is_some(), "{path}");
        }
        assert!(matches!(tree.get(b"usr/lib/firmware/d.bin").unwrap().kind, Kind::Symlink { .. }));
    }
}
