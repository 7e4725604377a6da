//! Members of an archive to a tree: what an initrd cannot hold or an attacker would like is refused with its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;

use anyhow::{Result, bail};

use super::Rules;
use super::archive::{Archive, Member, Source};
use crate::image::tree::{Content, Entry, Kind, Tree, TreePath, normalized};
use ocinitrd_format::text::quoted;
use ocinitrd_format::time::Timestamp;

/// The kernel silently skips longer names and link targets (`PATH_MAX` with its NUL is 4,096).
const LONGEST_PATH_BYTES: usize = 4095;
/// No Linux file system holds longer names (`NAME_MAX`).
const LONGEST_NAME_BYTES: usize = 255;
/// What an entry takes in memory besides its names and attributes.
const ENTRY_BYTES: u64 = 256;
const LARGEST_ID: u32 = u32::MAX - 1;
/// Linux has 12 bits for a device's major number and 20 for the minor one; the kernel cuts off the rest.
const LARGEST_DEVICE: (u32, u32) = (0xfff, 0xf_ffff);

/// Reads all members; `spool` holds the archive's bytes at the archive's offsets.
pub(super) fn import<R: Source>(archive: &mut Archive<R>, spool: &Arc<File>, rules: &Rules) -> Result<Tree> {
    let mut importer = Importer::default();
    while let Some(member) = archive.next_member()? {
        let Some(path) = checked_path(&member)? else { continue };
        if rules.drop_device_directory && path.starts_with(b"dev/") {
            continue;
        }
        importer.add(path, member, spool, rules)?;
    }
    let mut tree = importer.finish();
    if let Some(mtime) = rules.add_missing_parents {
        tree.add_missing_parents(mtime)?;
    }
    Ok(tree)
}

/// A path's entry while reading; files apart, since later members may give them further names or take names away.
enum Slot {
    File(usize),
    Other(Box<Entry>),
}

#[derive(Default)]
struct Importer {
    slots: BTreeMap<TreePath, Slot>,
    files: Vec<Entry>,
    /// Which of `files` were given further names.
    linked: BTreeSet<usize>,
    /// What the members came to in memory: roughly, and whether or not a later one took their place.
    memory_bytes: u64,
}

impl Importer {
    fn add(&mut self, path: TreePath, member: Member, spool: &Arc<File>, rules: &Rules) -> Result<()> {
        let slot = if member.typeflag == b'1' {
            let slot = self.link_target(&member)?;
            let linked = match &slot {
                Slot::File(number) => {
                    self.linked.insert(*number);
                    &self.files[*number]
                }
                Slot::Other(entry) => entry,
            };
            self.memory_bytes += memory_bytes(linked);
            slot
        } else {
            let entry = checked_entry(member, spool, rules)?;
            self.memory_bytes += memory_bytes(&entry);
            match entry {
                entry if matches!(entry.kind, Kind::File(_)) => {
                    self.files.push(entry);
                    Slot::File(self.files.len() - 1)
                }
                entry => Slot::Other(Box::new(entry)),
            }
        };
        self.memory_bytes += ENTRY_BYTES + path.len() as u64;
        if self.memory_bytes > rules.memory_limit_bytes {
            bail!(
                "up to the entry {} the names and attributes of the archive take more than {} bytes, the most that is kept \
                 in memory: leave files out of it",
                quoted(&path),
                rules.memory_limit_bytes
            );
        }
        // Of two members with one path the later wins, as when they are unpacked.
        self.slots.insert(path, slot);
        Ok(())
    }

    /// What a hard link names: of regular files a further name, of others (tar links symlinks too) a copy.
    fn link_target(&self, member: &Member) -> Result<Slot> {
        let target = normalized(&member.link_target)?;
        match self.slots.get(&target) {
            Some(Slot::File(number)) => Ok(Slot::File(*number)),
            Some(Slot::Other(entry)) if !matches!(entry.kind, Kind::Directory) => Ok(Slot::Other(entry.clone())),
            Some(Slot::Other(_)) => {
                refuse(&member.path, &format!("is a hard link to the directory {}", quoted(&target)))
            }
            None => {
                let reason = format!("is a hard link to {}, which is not in the archive before it", quoted(&target));
                refuse(&member.path, &reason)
            }
        }
    }

    /// The first name of each file in byte order becomes the file, the others its links.
    fn finish(self) -> Tree {
        let mut files: Vec<Option<Entry>> = self.files.into_iter().map(Some).collect();
        let mut heads: BTreeMap<usize, TreePath> = BTreeMap::new();
        let mut tree = Tree::new();
        for (path, slot) in self.slots {
            let entry = match slot {
                Slot::Other(entry) => *entry,
                Slot::File(number) => match files[number].take() {
                    Some(entry) => {
                        if self.linked.contains(&number) {
                            heads.insert(number, path.clone());
                        }
                        entry
                    }
                    None => {
                        let target = heads[&number].clone();
                        let file = tree.get(&target).expect("the file was inserted at its first name").clone();
                        Entry { kind: Kind::HardLink { target }, ..file }
                    }
                },
            };
            tree.insert(path, entry);
        }
        tree
    }
}

/// What of an entry is of no fixed size.
fn memory_bytes(entry: &Entry) -> u64 {
    let target = if let Kind::Symlink { target } = &entry.kind { target.len() } else { 0 };
    let attribute = |(name, value): (&Vec<u8>, &Vec<u8>)| name.len() + value.len() + ENTRY_BYTES as usize / 2;
    (target + entry.xattrs.iter().map(attribute).sum::<usize>()) as u64
}

/// The path as trees keep it, or `None` for the root directory's own entry.
fn checked_path(member: &Member) -> Result<Option<TreePath>> {
    const CURE: &str = "archive the tree from inside its root: tar -C ROOT -c .";
    let raw = member.path.as_slice();
    if raw.starts_with(b"/") {
        return refuse(raw, &format!("has an absolute path; {CURE}"));
    }
    if raw.split(|byte| *byte == b'/').any(|component| component == b"..") {
        return refuse(raw, &format!("has a \"..\" in its path; {CURE}"));
    }
    if raw.len() > LONGEST_PATH_BYTES {
        let reason = format!("has a path of {} bytes; the kernel unpacks none over {LONGEST_PATH_BYTES}", raw.len());
        return refuse(raw, &reason);
    }
    if let Some(long) = raw.split(|byte| *byte == b'/').find(|component| component.len() > LONGEST_NAME_BYTES) {
        let reason = format!("has a name of {} bytes in its path; Linux takes {LONGEST_NAME_BYTES}", long.len());
        return refuse(raw, &reason);
    }
    let path = normalized(raw)?;
    Ok(Some(path).filter(|path| !path.is_empty()))
}

fn checked_entry(member: Member, spool: &Arc<File>, rules: &Rules) -> Result<Entry> {
    let kind = checked_kind(&member, spool, rules)?;
    if !matches!(kind, Kind::File(_)) && member.size_bytes > 0 {
        let reason = format!("has a size of {} bytes and is not a file; make the archive anew", member.size_bytes);
        return refuse(&member.path, &reason);
    }
    let (Some(uid), Some(gid)) = (checked_id(member.uid), checked_id(member.gid)) else {
        let reason = format!("has the owner {}:{}; ids end at {LARGEST_ID}", member.uid, member.gid);
        return refuse(&member.path, &reason);
    };
    if let Err(error) = Timestamp::try_from(member.mtime) {
        return refuse(&member.path, &format!("cannot be taken: {error}"));
    }
    // The mask leaves 12 bits.
    let permissions = (member.mode & 0o7777) as u32;
    Ok(Entry { permissions, uid, gid, mtime: member.mtime, xattrs: member.xattrs, kind })
}

/// The number after the largest stands for "leave the owner as it is": to the kernel, that is root.
fn checked_id(id: u64) -> Option<u32> {
    u32::try_from(id).ok().filter(|id| *id <= LARGEST_ID)
}

fn checked_kind(member: &Member, spool: &Arc<File>, rules: &Rules) -> Result<Kind> {
    let path = &member.path;
    Ok(match member.typeflag {
        // In the oldest format a directory is a file whose name ends with a slash.
        b'0' | 0 if path.ends_with(b"/") => Kind::Directory,
        b'0' | 0 | b'7' => {
            if member.size_bytes > rules.largest_file_bytes {
                let reason = format!("holds {} bytes; a cpio archive ends at files of 4 GiB", member.size_bytes);
                return refuse(path, &format!("{reason}: leave it out of the tree"));
            }
            let (offset, length_bytes) = (member.offset, member.size_bytes);
            Kind::File(Content::Spooled { file: Arc::clone(spool), offset, length_bytes })
        }
        b'2' => Kind::Symlink { target: checked_link_target(member)? },
        b'3' => checked_device(member).map(|(major, minor)| Kind::CharacterDevice(major, minor))?,
        b'4' => checked_device(member).map(|(major, minor)| Kind::BlockDevice(major, minor))?,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => return refuse(path, "is stored sparse; make the archive without tar's --sparse"),
        other => {
            let reason = format!("is of the type {:?}, which no initrd can hold", char::from(other));
            return refuse(path, &reason);
        }
    })
}

fn checked_link_target(member: &Member) -> Result<Vec<u8>> {
    let target = &member.link_target;
    if target.is_empty() || target.len() > LONGEST_PATH_BYTES || target.contains(&0) {
        return refuse(
            &member.path,
            &format!("is a symlink with a target of {} bytes, or with a NUL in it", target.len()),
        );
    }
    Ok(target.clone())
}

fn checked_device(member: &Member) -> Result<(u32, u32)> {
    let (major, minor) = member.device;
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) if major <= LARGEST_DEVICE.0 && minor <= LARGEST_DEVICE.1 => Ok((major, minor)),
        _ => refuse(&member.path, &format!("is the device {major}:{minor}, beyond what Linux has")),
    }
}

fn refuse<T>(path: &[u8], reason: &str) -> Result<T> {
    bail!("the archive entry {} {reason}", quoted(path))
}
