//! The installed tree as an initrd: what Rust finishes after the distribution's own programs have run.
//!
//! Enters: the base tree as the install step left it. Leaves: the tree that becomes the base segment, in which nothing
//! depends on the host, the user or the hour. What makes systemd take a tree for an initrd is documented in
//! <https://systemd.io/INITRD_INTERFACE/>.

use anyhow::{Context, Result, bail};

use crate::definition::Selection;
use crate::definition::dnf;
use crate::image::tree::{Content, Globs, Tree};
use crate::names::UnitName;

/// What installing leaves behind that no system would be shipped with: state of this one installation.
const INSTALLATION_STATE: &[&str] = &[
    // The package database was read into the manifest; an initrd installs nothing.
    "usr/lib/sysimage/rpm",
    "usr/lib/sysimage/libdnf5",
    "var/lib/rpm",
    "var/lib/dnf",
    // dnf's logs and caches: the directories of its configuration lie below the root it installs into.
    dnf::CONTAINER_DIRECTORY,
    // dnf4 leaves a directory for its configuration.
    "etc/dnf",
    // Caches and logs.
    "var/cache/*",
    "var/log/*",
    // Kernel file systems and temporary ones: mounted over at boot.
    "dev/*",
    "proc/*",
    "run/*",
    "sys/*",
    "tmp/*",
    "var/tmp/*",
    // Backups of the user database.
    "etc/group-",
    "etc/gshadow-",
    "etc/passwd-",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "etc/.pwd.lock",
    "etc/.updated",
    "var/.updated",
    // Identities and secrets of one machine.
    "etc/machine-info",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/random-seed",
    // The database that counts is the one in /usr.
    "etc/udev/hwdb.bin",
];

/// Where the kernel and systemd mount things; missing ones are made.
const MOUNT_POINTS: &[(&str, u32)] =
    &[("dev", 0o755), ("proc", 0o555), ("run", 0o755), ("sys", 0o555), ("sysroot", 0o755), ("tmp", 0o1777)];

/// What pid 1 is.
const SYSTEMD: &[u8] = b"usr/lib/systemd/systemd";

/// Finishes `tree` with every time set to `epoch` (seconds): clock-dependent files would otherwise differ.
///
/// # Errors
/// Fails when the tree holds no systemd or no `os-release`, a pattern of `remove_files` is malformed, or a unit cannot be
/// masked.
pub fn finish(tree: &mut Tree, selection: &Selection, epoch: u64) -> Result<()> {
    require(tree, SYSTEMD, "systemd")?;
    require(tree, b"etc/os-release", "the distribution's release package, such as fedora-release")?;
    tree.remove_matching(&Globs::within(tree, INSTALLATION_STATE)?);
    remove_files(tree, selection)?;
    mask(tree, &selection.mask_units, epoch)?;
    mark_as_initrd(tree, epoch)?;
    forget_password_dates(tree)?;
    // Clamping would keep the clock of a host that is behind the packages.
    tree.set_times(epoch);
    Ok(())
}

fn require(tree: &Tree, path: &[u8], package: &str) -> Result<()> {
    if tree.resolve(path).is_none() {
        bail!("the installed packages hold no /{}: add {package} to [packages] install", String::from_utf8_lossy(path));
    }
    Ok(())
}

/// What is to be kept wins: so a profile can have what the image goes without.
fn remove_files(tree: &mut Tree, selection: &Selection) -> Result<()> {
    let (removed, kept) = (Globs::within(tree, &selection.remove_files)?, Globs::within(tree, &selection.keep_files)?);
    tree.remove_trees(|path| removed.matches(path) && !kept.matches(path));
    Ok(())
}

/// Does what `systemctl mask` would.
fn mask(tree: &mut Tree, units: &[UnitName], epoch: u64) -> Result<()> {
    for unit in units {
        let path = format!("etc/systemd/system/{unit}");
        tree.add_symlink(path.as_bytes(), b"/dev/null", epoch).with_context(|| format!("masking the unit {unit}"))?;
    }
    Ok(())
}

/// What the kernel runs, and what tells systemd that this is an initrd.
fn mark_as_initrd(tree: &mut Tree, epoch: u64) -> Result<()> {
    for (path, permissions) in MOUNT_POINTS {
        tree.add_directory(path.as_bytes(), *permissions, epoch)?;
    }
    tree.add_symlink(b"init", SYSTEMD, epoch)?;
    // systemd starts this one in an initrd whatever the default is; a person who leaves the emergency shell means it too.
    tree.add_symlink(b"etc/systemd/system/default.target", b"/usr/lib/systemd/system/initrd.target", epoch)?;
    tree.add_symlink(b"etc/initrd-release", b"os-release", epoch)?;
    // A machine id of its own is given to it at boot and never stored.
    tree.add_file(b"etc/machine-id", Content::from_bytes(*b"uninitialized\n"), 0o444, epoch)?;
    // systemd sets a clock that is behind the time of this file forward to it.
    tree.add_file(b"usr/lib/clock-epoch", Content::from_bytes(*b""), 0o644, epoch)?;
    Ok(())
}

/// Blanks the day of the last password change, which is the day of the build: `NAME:PASSWORD:DAY:...`, `shadow(5)`.
fn forget_password_dates(tree: &mut Tree) -> Result<()> {
    let Some(path) = tree.resolve(b"etc/shadow") else { return Ok(()) };
    let (Some(entry), Some(content)) = (tree.get(&path), tree.content(&path)) else { return Ok(()) };
    let permissions = entry.permissions;
    let text = String::from_utf8(content.read_all().context("reading /etc/shadow of the tree")?)
        .context("reading /etc/shadow of the tree")?;
    let mut blanked = String::with_capacity(text.len());
    for line in text.lines() {
        let mut fields: Vec<&str> = line.split(':').collect();
        if let Some(day) = fields.get_mut(2) {
            *day = "";
        }
        blanked.push_str(&fields.join(":"));
        blanked.push('\n');
    }
    tree.add_file(&path, Content::from_bytes(blanked.into_bytes()), permissions, 0)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::Kind;

    fn installed() -> Tree {
        let mut tree = Tree::new();
        let file = |text: &str| Content::from_bytes(text.as_bytes());
        for (path, text) in [
            ("usr/lib/systemd/systemd", "ELF"),
            ("usr/lib/os-release", "ID=test"),
            ("usr/share/doc/a/readme", "text"),
            ("usr/share/one1", "text"),
            ("usr/share/one2", "text"),
            ("var/log/dnf5.log", "a day"),
            ("etc/machine-id", "f00d"),
        ] {
            tree.add_file(path.as_bytes(), file(text), 0o644, 77).unwrap();
        }
        tree.add_symlink(b"etc/os-release", b"../usr/lib/os-release", 77).unwrap();
        tree.add_file(b"etc/shadow", file("root:!*:20000::::::\nbin:*:20001:0:99999:7:::\n"), 0o0, 77).unwrap();
        tree
    }

    #[test]
    fn what_the_installation_left_goes_and_what_an_initrd_needs_comes() {
        let mut tree = installed();
        let selection = Selection {
            remove_files: vec!["/usr/share/doc".to_owned(), "/usr/share/one*".to_owned()],
            keep_files: vec!["/usr/share/one2".to_owned()],
            mask_units: vec!["tmp.mount".parse().unwrap()],
            ..Selection::default()
        };
        finish(&mut tree, &selection, 5).unwrap();
        assert!(tree.get(b"usr/share/one1").is_none() && tree.get(b"usr/share/one2").is_some());
        assert!(tree.get(b"usr/share/doc").is_none() && tree.get(b"var/log/dnf5.log").is_none());
        assert!(tree.contains_dir(b"var/log") && tree.contains_dir(b"sysroot"));
        assert_eq!(tree.resolve(b"init"), Some(SYSTEMD.to_vec()));
        assert_eq!(tree.resolve(b"etc/initrd-release"), Some(b"usr/lib/os-release".to_vec()));
        assert_eq!(tree.content(b"etc/machine-id").unwrap().read_all().unwrap(), b"uninitialized\n");
        let masked = &tree.get(b"etc/systemd/system/tmp.mount").unwrap().kind;
        assert!(matches!(masked, Kind::Symlink { target } if target == b"/dev/null"), "{masked:?}");
        assert!(tree.iter().all(|(_, entry)| entry.mtime == 5));
    }

    #[test]
    fn password_dates_are_blanked_and_the_mode_is_kept() {
        let mut tree = installed();
        finish(&mut tree, &Selection::default(), 5).unwrap();
        let shadow = tree.content(b"etc/shadow").unwrap().read_all().unwrap();
        assert_eq!(String::from_utf8(shadow).unwrap(), "root:!*:::::::\nbin:*::0:99999:7:::\n");
        assert_eq!(tree.get(b"etc/shadow").unwrap().permissions, 0);
    }

    #[test]
    fn the_user_database_and_the_release_may_be_links() {
        let mut tree = installed();
        let shadow = tree.remove(b"etc/shadow").unwrap();
        tree.add_directory(b"usr/share/accounts", 0o755, 77).unwrap();
        tree.insert(b"usr/share/accounts/shadow".to_vec(), shadow);
        tree.add_symlink(b"etc/shadow", b"../usr/share/accounts/shadow", 77).unwrap();
        tree.add_symlink(b"etc/machine-id", b"/usr/share/accounts/machine-id", 77).unwrap();
        tree.add_symlink(b"etc/os-release", b"/usr/lib/release/../os-release", 77).unwrap();
        tree.add_directory(b"usr/lib/release", 0o755, 77).unwrap();
        finish(&mut tree, &Selection::default(), 5).unwrap();
        let text = |path: &[u8]| tree.content(&tree.resolve(path).unwrap()).unwrap().read_all().unwrap();
        assert!(text(b"etc/shadow").starts_with(b"root:!*:::"));
        assert_eq!(tree.get(b"usr/share/accounts/shadow").unwrap().permissions, 0);
        assert_eq!(text(b"etc/machine-id"), b"uninitialized\n");
        assert_eq!(text(b"etc/initrd-release"), b"ID=test");
    }

    #[test]
    fn tree_without_systemd_is_refused_with_the_cure() {
        let mut tree = installed();
        tree.remove(SYSTEMD);
        let error = finish(&mut tree, &Selection::default(), 5).unwrap_err().to_string();
        assert_eq!(error, "the installed packages hold no /usr/lib/systemd/systemd: add systemd to [packages] install");
    }
}
