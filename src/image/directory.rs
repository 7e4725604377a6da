//! A tree as a plain directory of this host, as far as the user may make one; and the digest of such a directory.
//!
//! Root gets owners, devices and extended attributes; anyone else gets the files with their modes, and is told how much
//! could not be set.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use crate::image::tree::attributes;
use crate::image::tree::{Content, Entry, Kind, Tree, TreeHasher, TreePath, join};
use ocinitrd_format::digest::Digest;
use ocinitrd_format::text::quoted;
use ocinitrd_support::regular_file;

/// What access control lists are kept in. No tree has any, so one in a directory is a difference: it lets others in.
const ACCESS_CONTROL_LISTS: &[u8] = b"system.posix_acl_";

/// Fills the empty `directory` with `tree`, whose paths run through no symlink of its own (as [`Tree`] warrants).
/// Returns how many owners, devices and attributes could not be set.
///
/// # Errors
/// Fails when a file cannot be written, naming it.
pub fn write(tree: &Tree, directory: &Path) -> Result<usize> {
    let mut left_out = 0;
    for (path, entry) in tree.iter() {
        left_out += write_entry(&place(directory, path), directory, entry)
            .with_context(|| format!("writing {} into the directory", quoted(path)))?;
    }
    // Last and backwards: filling a directory changes its time and needs its owner's right to write.
    for (path, entry) in tree.iter().rev() {
        finish_entry(&place(directory, path), entry)
            .with_context(|| format!("setting the mode of {} in the directory", quoted(path)))?;
    }
    Ok(left_out)
}

fn place(directory: &Path, path: &[u8]) -> PathBuf {
    directory.join(std::ffi::OsStr::from_bytes(path))
}

fn write_entry(place: &Path, directory: &Path, entry: &Entry) -> io::Result<usize> {
    match &entry.kind {
        Kind::Directory => fs::create_dir(place)?,
        Kind::File(content) => {
            let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place)?;
            io::copy(&mut content.reader(), &mut file)?;
        }
        Kind::HardLink { target } => {
            fs::hard_link(self::place(directory, target), place)?;
            return Ok(0);
        }
        Kind::Symlink { target } => symlink(std::ffi::OsStr::from_bytes(target), place)?,
        Kind::CharacterDevice(major, minor) => {
            return Ok(node(place, FileType::CharacterDevice, *major, *minor) + owner(place, entry));
        }
        Kind::BlockDevice(major, minor) => {
            return Ok(node(place, FileType::BlockDevice, *major, *minor) + owner(place, entry));
        }
        Kind::Fifo => rustix::fs::mknodat(CWD, place, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?,
    }
    Ok(owner(place, entry) + attributes(place, entry))
}

fn node(place: &Path, kind: FileType, major: u32, minor: u32) -> usize {
    let device = rustix::fs::makedev(major, minor);
    usize::from(rustix::fs::mknodat(CWD, place, kind, Mode::RUSR | Mode::WUSR, device).is_err())
}

fn owner(place: &Path, entry: &Entry) -> usize {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    let own = uid == rustix::process::geteuid() && gid == rustix::process::getegid();
    usize::from(!own && rustix::fs::chownat(CWD, place, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).is_err())
}

fn attributes(place: &Path, entry: &Entry) -> usize {
    let set = |(name, value): (&Vec<u8>, &Vec<u8>)| {
        rustix::fs::lsetxattr(place, name.as_slice(), value, XattrFlags::empty()).is_err()
    };
    entry.xattrs.iter().filter(|attribute| set(*attribute)).count()
}

/// Sets mode and time; a device that could not be made is passed over.
fn finish_entry(place: &Path, entry: &Entry) -> io::Result<()> {
    match entry.kind {
        Kind::HardLink { .. } => return Ok(()),
        Kind::CharacterDevice(..) | Kind::BlockDevice(..) if place.symlink_metadata().is_err() => return Ok(()),
        Kind::Symlink { .. } => {}
        _ => fs::set_permissions(place, Permissions::from_mode(entry.permissions))?,
    }
    let time = Timespec { tv_sec: i64::try_from(entry.mtime).unwrap_or(i64::MAX), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// The digest ([`Tree::digest`]) of the tree that `directory` holds, and the sum of its files' sizes in bytes. It is that of
/// the tree that [`write()`] was given if all could be set; what else this host adds to files, such as labels, is left out of
/// account.
///
/// # Errors
/// Fails when something cannot be read, and on a socket, which no tree holds.
pub fn digest(directory: &Path) -> Result<(Digest, u64)> {
    let mut hasher = TreeHasher::default();
    let mut first_names: BTreeMap<(u64, u64), TreePath> = BTreeMap::new();
    let mut size_bytes = 0;
    for (path, metadata) in listing(directory)? {
        let reading = || format!("reading {} in {}", quoted(&path), directory.display());
        let place = place(directory, &path);
        let linked = metadata.is_file() && metadata.nlink() > 1;
        let key = (metadata.dev(), metadata.ino());
        let kind = match first_names.get(&key).filter(|_| linked) {
            Some(target) => Kind::HardLink { target: target.clone() },
            None => kind(&place, &metadata).with_context(reading)?,
        };
        if let Kind::File(content) = &kind {
            size_bytes += content.size_bytes();
            first_names.insert(key, path.clone());
        }
        let entry = Entry {
            permissions: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: u64::try_from(metadata.mtime()).unwrap_or(0),
            xattrs: read_attributes(&place).with_context(reading)?,
            kind,
        };
        hasher.add(&path, &entry).with_context(reading)?;
    }
    Ok((hasher.finish(), size_bytes))
}

/// Everything below a directory, by path.
fn listing(directory: &Path) -> Result<BTreeMap<TreePath, Metadata>> {
    let mut found = BTreeMap::new();
    let mut open = vec![TreePath::new()];
    while let Some(above) = open.pop() {
        let listing = || format!("listing {} in {}", quoted(&above), directory.display());
        for entry in fs::read_dir(place(directory, &above)).with_context(listing)? {
            let entry = entry.with_context(listing)?;
            let path = join(&above, &entry.file_name().into_vec());
            let metadata = entry.metadata().with_context(listing)?;
            if metadata.is_dir() {
                open.push(path.clone());
            }
            found.insert(path, metadata);
        }
    }
    Ok(found)
}

/// A file's content stays in the file, which is open as long as the content is there.
fn kind(place: &Path, metadata: &Metadata) -> Result<Kind> {
    let file_type = metadata.file_type();
    let device = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    Ok(match file_type {
        _ if file_type.is_dir() => Kind::Directory,
        _ if file_type.is_file() => Kind::File(Content::Spooled {
            file: Arc::new(regular_file::open(place)?),
            offset: 0,
            length_bytes: metadata.len(),
        }),
        _ if file_type.is_symlink() => Kind::Symlink { target: fs::read_link(place)?.into_os_string().into_vec() },
        _ if file_type.is_char_device() => Kind::CharacterDevice(device.0, device.1),
        _ if file_type.is_block_device() => Kind::BlockDevice(device.0, device.1),
        _ if file_type.is_fifo() => Kind::Fifo,
        _ => bail!("it is a socket, which no tree holds"),
    })
}

fn read_attributes(place: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    const LONGEST_BYTES: usize = 64 << 10;
    let mut names = Vec::with_capacity(LONGEST_BYTES);
    match rustix::fs::llistxattr(place, rustix::buffer::spare_capacity(&mut names)) {
        Err(rustix::io::Errno::NOTSUP) => return Ok(BTreeMap::new()),
        result => result.context("listing its extended attributes")?,
    };
    let mut attributes = BTreeMap::new();
    let counts = |name: &&[u8]| attributes::is_of_a_package(name) || name.starts_with(ACCESS_CONTROL_LISTS);
    for name in names.split(|byte| *byte == 0).filter(counts) {
        let mut value = Vec::with_capacity(LONGEST_BYTES);
        rustix::fs::lgetxattr(place, name, rustix::buffer::spare_capacity(&mut value))
            .context("reading its extended attributes")?;
        attributes.insert(name.to_vec(), value);
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::image::tree::Content;

    #[test]
    fn modes_links_and_times_are_the_trees() {
        let mut tree = Tree::new();
        tree.add_directory(b"closed", 0o555, 7).unwrap();
        tree.add_file(b"closed/file", Content::from_bytes(*b"text"), 0o4755, 7).unwrap();
        tree.add_hard_link(b"closed/other".to_vec(), b"closed/file").unwrap();
        tree.add_symlink(b"link", b"closed/file", 7).unwrap();
        let directory = tempfile::tempdir().unwrap();
        write(&tree, directory.path()).unwrap();
        let metadata = |path: &str| directory.path().join(path).symlink_metadata().unwrap();
        assert_eq!(metadata("closed").mode() & 0o7777, 0o555);
        assert_eq!(metadata("closed/file").mode() & 0o7777, 0o4755);
        assert_eq!(metadata("closed/file").ino(), metadata("closed/other").ino());
        assert_eq!((metadata("closed").mtime(), metadata("link").mtime()), (7, 7));
        assert_eq!(fs::read(directory.path().join("link")).unwrap(), b"text");
    }

    /// As this user can write it in full.
    fn own_tree() -> Tree {
        let mut tree = Tree::new();
        tree.add_directory(b"a", 0o755, 7).unwrap();
        tree.add_file(b"a/one", Content::from_bytes(*b"text"), 0o4750, 7).unwrap();
        tree.add_hard_link(b"a-link".to_vec(), b"a/one").unwrap();
        tree.add_hard_link(b"z".to_vec(), b"a/one").unwrap();
        tree.add_file(b"a/empty", Content::from_bytes([]), 0o600, 8).unwrap();
        tree.add_symlink(b"caf\xe9", b"a/one", 9).unwrap();
        tree.insert(b"pipe".to_vec(), Entry::of_root(Kind::Fifo, 0o622, 5));
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let mut own = Tree::new();
        for (path, entry) in tree.iter() {
            own.insert(path.clone(), Entry { uid, gid, ..entry.clone() });
        }
        own
    }

    #[test]
    fn digest_of_what_was_written_is_that_of_the_tree() {
        let tree = own_tree();
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(write(&tree, directory.path()).unwrap(), 0);
        let expected = tree.digest().unwrap();
        assert_eq!(digest(directory.path()).unwrap(), (expected, tree.size_bytes()));

        let place = |name: &str| directory.path().join(name);
        fs::set_permissions(place("a/empty"), Permissions::from_mode(0o640)).unwrap();
        assert_ne!(digest(directory.path()).unwrap().0, expected);
        fs::set_permissions(place("a/empty"), Permissions::from_mode(0o600)).unwrap();
        assert_eq!(digest(directory.path()).unwrap().0, expected);
        fs::remove_file(place("z")).unwrap();
        assert_ne!(digest(directory.path()).unwrap().0, expected);
    }

    /// Not below a directory for temporary files, which may be in memory and then has no attributes.
    #[test]
    fn what_the_host_adds_to_files_is_not_in_the_digest() {
        let tree = own_tree();
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        write(&tree, directory.path()).unwrap();
        let set = |path: &str, name: &str, value: &[u8]| {
            rustix::fs::lsetxattr(directory.path().join(path), name, value, XattrFlags::empty())
        };
        set("a", "user.label", b"one").unwrap();
        set("a/one", "user.overlay.origin", b"two").unwrap();
        assert_eq!(digest(directory.path()).unwrap().0, tree.digest().unwrap());
        // ACL_USER_OBJ rwx, ACL_USER 1 rwx, ACL_GROUP_OBJ -, ACL_MASK rwx, ACL_OTHER -.
        let entries: [(u16, u16, u32); 5] =
            [(1, 7, u32::MAX), (2, 7, 1), (4, 0, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)];
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            list.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
            list.extend(id.to_le_bytes());
        }
        set("a", "system.posix_acl_access", &list).unwrap();
        fs::set_permissions(directory.path().join("a"), Permissions::from_mode(0o755)).unwrap();
        assert_ne!(
            digest(directory.path()).unwrap().0,
            tree.digest().unwrap(),
            "an access control list lets others in"
        );
    }

    #[test]
    fn a_socket_has_no_digest() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::net::UnixListener::bind(directory.path().join("s")).unwrap();
        let error = format!("{:#}", digest(directory.path()).unwrap_err());
        assert!(
            error.starts_with("reading \"s\" in ") && error.ends_with("it is a socket, which no tree holds"),
            "{error}"
        );
    }
}
