//! A tree as a plain directory of this host, as far as the user may make one.
//!
//! Root gets owners, devices and extended attributes; anyone else gets the files with their modes, and is told how much
//! could not be set.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use crate::tree::{Entry, Kind, Tree, quoted};

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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::tree::Content;

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
}
