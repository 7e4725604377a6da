//! The machine's own segment: what its initrd has to know of it, which may be secret.
//!
//! The lines of `/etc/crypttab` that have `x-initrd.attach`, with the keys and headers that they name; the configuration of
//! arrays, paths and the console; and what the administrator names.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::configuration::Configuration;
use super::files;
use crate::machine::crypttab;
use crate::tree::{Content, Tree};

const CRYPTTAB: &str = "etc/crypttab";

/// What goes in where it is there.
const USUAL: [&str; 5] =
    ["/etc/vconsole.conf", "/etc/mdadm.conf", "/etc/mdadm/mdadm.conf", "/etc/multipath.conf", "/etc/multipath"];

/// The tree, if anything is in it, with every time set to `epoch` in seconds.
///
/// # Errors
/// Fails when a file that is named cannot be read.
pub(super) fn tree(root: &Path, configuration: &Configuration, epoch: u64) -> Result<Option<Tree>> {
    let mut tree = Tree::new();
    add_crypttab(&mut tree, root)?;
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
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let lines = crypttab::lines(&text).filter(|(line, _)| line.is_for_initrd());
    let mut kept = String::new();
    for (line, written) in lines {
        kept += &format!("{written}\n");
        for file in line.files() {
            add(tree, root, Path::new(file)).with_context(|| {
                format!("the volume {} of /etc/crypttab, which the initrd opens, needs it", line.name)
            })?;
        }
    }
    if !kept.is_empty() {
        tree.add_file(CRYPTTAB.as_bytes(), Content::from_bytes(kept.into_bytes()), 0o600, 0)?;
    }
    Ok(())
}

/// Adds a file or a directory of the machine, and where it is a symlink what that leads to.
fn add(tree: &mut Tree, root: &Path, path: &Path) -> Result<()> {
    let inside = path.strip_prefix("/").unwrap_or(path);
    let file = root.join(inside);
    let metadata = fs::metadata(&file).with_context(|| format!("reading {}", file.display()))?;
    if metadata.is_dir() {
        return files::add_directory(tree, root, inside.as_os_str().as_bytes());
    }
    // It is read now: what cannot be is told before anything is written.
    let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
    tree.add_file(inside.as_os_str().as_bytes(), Content::from_bytes(bytes), mode, 0)?;
    Ok(())
}

fn below(root: &Path, path: &Path) -> std::path::PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn text(tree: &Tree, path: &str) -> String {
        String::from_utf8(tree.content(path.as_bytes()).unwrap().read_all().unwrap()).unwrap()
    }

    #[test]
    fn crypttab_has_what_the_initrd_opens_and_brings_its_keys() {
        let root = machine(&[
            (
                "etc/crypttab",
                "# mine\nroot UUID=1 /etc/root.key luks,x-initrd.attach,header=/etc/root.header\nhome UUID=2 /etc/home.key\n\
                 usb UUID=3 /key:LABEL=usb x-initrd.attach\nrnd UUID=4 /dev/urandom x-initrd.attach\n",
            ),
            ("etc/root.key", "secret"),
            ("etc/root.header", "header"),
            ("etc/home.key", "other"),
            ("etc/mdadm.conf", "ARRAY"),
        ]);
        let tree = tree(root.path(), &Configuration::default(), 5).unwrap().unwrap();
        let crypttab = text(&tree, "etc/crypttab");
        assert!(crypttab.contains("root UUID=1") && crypttab.contains("usb UUID=3") && !crypttab.contains("home"));
        assert_eq!((text(&tree, "etc/root.key"), text(&tree, "etc/root.header")), ("secret".into(), "header".into()));
        assert!(tree.get(b"etc/home.key").is_none() && tree.get(b"dev/urandom").is_none());
        assert_eq!(text(&tree, "etc/mdadm.conf"), "ARRAY");
        assert!(tree.iter().all(|(_, entry)| entry.mtime == 5));
    }

    #[test]
    fn a_key_that_is_not_there_is_named_with_its_volume() {
        let root = machine(&[("etc/crypttab", "root UUID=1 /etc/root.key x-initrd.attach\n")]);
        let error = format!("{:#}", tree(root.path(), &Configuration::default(), 0).unwrap_err());
        assert!(error.contains("the volume root of /etc/crypttab") && error.contains("/etc/root.key"), "{error}");
    }

    #[test]
    fn a_machine_that_says_nothing_has_no_such_segment() {
        assert!(tree(machine(&[]).path(), &Configuration::default(), 0).unwrap().is_none());
    }
}
