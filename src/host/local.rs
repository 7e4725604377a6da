//! The machine's own segment: what its initrd has to know of it, which may be secret.
//!
//! The lines of `/etc/crypttab` that have `x-initrd.attach`, with the keys and headers that they name; the configuration of
//! arrays, paths and the console; and what the administrator names.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::configuration::Configuration;
use super::console::Console;
use super::files::{self, Follow};
use crate::machine::crypttab;
use crate::needs::{Demand, Derived};
use crate::regular_file::{self, TEXT_LIMIT_BYTES};
use crate::tree::{Content, Entry, Kind, Tree};

const CRYPTTAB: &str = "etc/crypttab";

/// Where the key of a volume is, by the volume's name, if its line names none.
const KEYS: &str = "/etc/cryptsetup-keys.d";

/// What are symlinks to directories in `/usr`.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// What goes in where it is there.
const USUAL: [&str; 5] =
    ["/etc/vconsole.conf", "/etc/mdadm.conf", "/etc/mdadm/mdadm.conf", "/etc/multipath.conf", "/etc/multipath"];

/// The tree, if anything is in it, with every time set to `epoch` in seconds.
///
/// # Errors
/// Fails when a file that is named cannot be read.
pub(super) fn tree(
    root: &Path,
    configuration: &Configuration,
    needs: &Derived,
    console: &Console,
    epoch: u64,
) -> Result<Option<Tree>> {
    let mut tree = Tree::new();
    for (path, bytes) in &console.files {
        add_parents(&mut tree, root, path)?;
        tree.add_file(path.as_os_str().as_bytes(), Content::from_bytes(bytes.clone()), 0o644, 0)?;
    }
    add_crypttab(&mut tree, root)?;
    // Keys of volumes below the root that crypttab or the kernel's options name. Of crypttab its own lines are there already.
    let files = needs.wants.iter().filter_map(|wanted| match &wanted.demand {
        Demand::File(path) if path != crypttab::PATH => Some(Path::new(path)),
        _ => None,
    });
    for path in files.filter(|path| below(root, path).is_file()) {
        add(&mut tree, root, path)?;
    }
    for path in USUAL.map(Path::new).into_iter().filter(|path| below(root, path).exists()) {
        add(&mut tree, root, path)?;
    }
    for path in &configuration.files {
        add(&mut tree, root, path).with_context(|| format!("{} is named in files of /etc/ocinitrd", path.display()))?;
    }
    if tree.is_empty() {
        return Ok(None);
    }
    tree.add_missing_parents(epoch)?;
    tree.set_times(epoch);
    Ok(Some(tree))
}

fn add_crypttab(tree: &mut Tree, root: &Path) -> Result<()> {
    let path = root.join(CRYPTTAB);
    if !path.exists() {
        return Ok(());
    }
    let text =
        regular_file::read_text(&path, TEXT_LIMIT_BYTES).with_context(|| format!("reading {}", path.display()))?;
    let lines = crypttab::lines(&text).filter(|(line, _)| line.is_for_initrd());
    let mut kept = String::new();
    for (line, written) in lines {
        kept += &format!("{written}\n");
        let usual = format!("{KEYS}/{}.key", line.name);
        let usual = Some(usual.as_str()).filter(|path| line.key.is_none() && below(root, Path::new(path)).exists());
        for file in line.files().chain(usual) {
            add_key(tree, root, Path::new(file)).with_context(|| {
                format!("the volume {} of /etc/crypttab, which the initrd opens, needs it", line.name)
            })?;
        }
    }
    if !kept.is_empty() {
        tree.add_file(CRYPTTAB.as_bytes(), Content::from_bytes(kept.into_bytes()), 0o600, 0)?;
    }
    Ok(())
}

/// Adds a key or a header, which is never a directory.
fn add_key(tree: &mut Tree, root: &Path, path: &Path) -> Result<()> {
    let is_directory = below(root, path).is_dir();
    ensure!(!is_directory, "{} is no file, but a directory", path.display());
    add(tree, root, path)
}

/// More than a file has that is to lie in memory at every boot: 256 MiB.
const LONGEST_FILE_BYTES: u64 = 256 << 20;

/// Adds a file or a directory of the machine, and where it is a symlink what that leads to.
fn add(tree: &mut Tree, root: &Path, path: &Path) -> Result<()> {
    let inside = merged(path);
    let file = root.join(&inside);
    let metadata = fs::metadata(&file).with_context(|| format!("reading {}", file.display()))?;
    add_parents(tree, root, &inside)?;
    if metadata.is_dir() {
        return files::add_directory(tree, root, inside.as_os_str().as_bytes(), Follow::Never);
    }
    ensure!(metadata.is_file(), "{} is neither a file nor a directory", file.display());
    // It is read now: what cannot be is told before anything is written.
    let bytes = regular_file::read(&file, LONGEST_FILE_BYTES).with_context(|| format!("reading {}", file.display()))?;
    let mode = metadata.permissions().mode() & 0o7777;
    tree.add_file(inside.as_os_str().as_bytes(), Content::from_bytes(bytes), mode, 0)?;
    Ok(())
}

/// The directories above it, as they are on the machine: in the initrd they take the place of the base's.
fn add_parents(tree: &mut Tree, root: &Path, inside: &Path) -> Result<()> {
    for parent in inside.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        let directory = root.join(parent);
        let metadata = fs::metadata(&directory).with_context(|| format!("reading {}", directory.display()))?;
        let path = parent.as_os_str().as_bytes().to_vec();
        if tree.get(&path).is_none() {
            tree.insert(path, Entry::of_root(Kind::Directory, metadata.permissions().mode() & 0o7777, 0));
        }
    }
    Ok(())
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(merged(path))
}

/// The path below the root, by the name that it has where `/lib` and the like are symlinks: a directory in their place would hide
/// all that the base has there.
fn merged(path: &Path) -> PathBuf {
    let inside = path.strip_prefix("/").unwrap_or(path);
    let first = inside.components().next().map(|part| part.as_os_str().to_owned());
    if first.is_some_and(|name| MERGED.iter().any(|merged| name == *merged)) {
        Path::new("usr").join(inside)
    } else {
        inside.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fixture::Fixture;

    fn text(tree: &Tree, path: &str) -> String {
        String::from_utf8(tree.content(path.as_bytes()).unwrap().read_all().unwrap()).unwrap()
    }

    #[test]
    fn crypttab_has_what_the_initrd_opens_and_brings_its_keys() {
        let root = Fixture::new();
        root.write(
            "etc/crypttab",
            "# mine\nroot UUID=1 /etc/root.key luks,x-initrd.attach,header=/etc/root.header\nhome UUID=2 /etc/home.key\n\
             usb UUID=3 /key:LABEL=usb x-initrd.attach\nrnd UUID=4 /dev/urandom x-initrd.attach\n\
             data UUID=5 - x-initrd.attach\n",
        );
        root.write("etc/cryptsetup-keys.d/data.key", "found").write("etc/cryptsetup-keys.d/home.key", "not wanted");
        root.write("etc/root.key", "secret").write("etc/root.header", "header").write("etc/home.key", "other");
        root.write("etc/mdadm.conf", "ARRAY");
        let mut needs = Derived::default();
        needs.wants.add_for(Demand::File(crypttab::PATH.to_owned()), None, "/");
        let tree = tree(root.path(), &Configuration::default(), &needs, &Console::default(), 5).unwrap().unwrap();
        let crypttab = text(&tree, "etc/crypttab");
        assert!(crypttab.contains("root UUID=1") && crypttab.contains("usb UUID=3") && !crypttab.contains("home"));
        assert_eq!((text(&tree, "etc/root.key"), text(&tree, "etc/root.header")), ("secret".into(), "header".into()));
        assert_eq!(text(&tree, "etc/cryptsetup-keys.d/data.key"), "found");
        assert!(tree.get(b"etc/cryptsetup-keys.d/home.key").is_none());
        assert!(tree.get(b"etc/home.key").is_none() && tree.get(b"dev/urandom").is_none());
        assert_eq!(text(&tree, "etc/mdadm.conf"), "ARRAY");
        assert!(tree.iter().all(|(_, entry)| entry.mtime == 5));
    }

    #[test]
    fn a_key_that_is_not_there_is_named_with_its_volume() {
        let root = Fixture::new();
        root.write("etc/crypttab", "root UUID=1 /etc/root.key x-initrd.attach\n");
        let of_crypttab = || tree(root.path(), &Configuration::default(), &Derived::default(), &Console::default(), 0);
        let error = format!("{:#}", of_crypttab().unwrap_err());
        assert!(error.contains("the volume root of /etc/crypttab") && error.contains("/etc/root.key"), "{error}");
        root.directory("etc/root.key");
        let error = of_crypttab().unwrap_err();
        assert!(format!("{error:#}").contains("/etc/root.key is no file, but a directory"), "{error:#}");
    }

    #[test]
    fn what_is_named_keeps_its_place_and_the_modes_above_it() {
        let root = Fixture::new();
        root.write("usr/lib/firmware/x.bin", "x").write("root/.netrc", "y");
        std::os::unix::fs::symlink("usr/lib", root.path().join("lib")).unwrap();
        fs::set_permissions(root.path().join("root"), fs::Permissions::from_mode(0o700)).unwrap();
        let files = vec!["/lib/firmware/x.bin".into(), "/root/.netrc".into()];
        let configuration = Configuration { files, ..Configuration::default() };
        let tree = tree(root.path(), &configuration, &Derived::default(), &Console::default(), 0).unwrap().unwrap();
        assert!(tree.get(b"lib").is_none(), "it would hide the symlink");
        assert_eq!(text(&tree, "usr/lib/firmware/x.bin"), "x");
        assert_eq!(tree.get(b"root").unwrap().permissions, 0o700);
    }

    #[test]
    fn a_machine_that_says_nothing_has_no_such_segment() {
        assert!(
            tree(Fixture::new().path(), &Configuration::default(), &Derived::default(), &Console::default(), 0)
                .unwrap()
                .is_none()
        );
    }
}
