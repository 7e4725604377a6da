//! What the kernel makes of the entries: entries in their order in, the file system that results out.
//!
//! Follows Linux `init/initramfs.c`: parents must exist; symlinks on the way are followed; an entry of another type replaces what is
//! there unless that is a directory with something in it; a file over a file is written into the same inode; names with the same inode
//! number and file type are links, until the archive's trailer.

use std::collections::BTreeMap;
use std::fmt;

use crate::format::cpio::{Entry, TYPE_DIRECTORY, TYPE_MASK, TYPE_SYMLINK};
use crate::format::digest::Digest;

/// The kernel gives up after 40 symlinks.
const SYMLINKS_MAX: usize = 40;

/// The data of a regular file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Content {
    /// Its length in bytes.
    pub size_bytes: u32,
    /// The entry it came from, counted from 0 over the whole initrd without trailers.
    pub entry: u64,
    /// Its digest, if computed.
    pub digest: Option<Digest>,
}

/// A file of any type, under one or several names.
#[derive(Clone, Debug, Default)]
pub struct Inode {
    /// The whole `st_mode`: file type and permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time in seconds since 1970-01-01 UTC, of the last entry that named it.
    pub mtime: u32,
    /// Major and minor number of a device node.
    pub device: (u32, u32),
    /// The target of a symlink, else empty.
    pub target: Vec<u8>,
    /// The data of a regular file.
    pub content: Option<Content>,
}

impl Inode {
    fn file_type(&self) -> u32 {
        self.mode & TYPE_MASK
    }

    /// Whether a program would see no difference. Contents are compared by digest.
    fn is_like(&self, other: &Inode) -> bool {
        let facts = |inode: &Inode| {
            let content = inode.content.map(|content| (content.size_bytes, content.digest));
            (inode.mode, inode.uid, inode.gid, inode.mtime, inode.device, content)
        };
        facts(self) == facts(other) && self.target == other.target
    }
}

/// Why the kernel would leave an entry out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dropped {
    NoParent,
    DirectoryInTheWay,
}

impl fmt::Display for Dropped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Dropped::NoParent => "no entry before it makes its parent directory",
            Dropped::DirectoryInTheWay => "a directory that is not empty is in its place",
        })
    }
}

/// Number of the file system, inode number, file type.
type LinkKey = ((u32, u32), u32, u32);

/// The unpacked file system. The root directory is no entry of it.
#[derive(Debug, Default)]
pub struct View {
    names: BTreeMap<Vec<u8>, usize>,
    inodes: Vec<Inode>,
    links: BTreeMap<LinkKey, usize>,
}

impl View {
    /// All names in byte order, with what they name.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Inode)> {
        self.names.iter().map(|(path, number)| (path.as_slice(), &self.inodes[*number]))
    }

    /// The paths with a number that is the same for names of the same file.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (&[u8], usize, &Inode)> {
        self.names.iter().map(|(path, number)| (path.as_slice(), *number, &self.inodes[*number]))
    }

    /// Whether the file systems are the same: names, metadata, contents, and which names are of one file. Both must have been
    /// unpacked with digests.
    pub fn is_like(&self, other: &View) -> bool {
        // Each number of one must go with one number of the other, in both directions.
        let (mut there, mut back) = (BTreeMap::new(), BTreeMap::new());
        self.names.len() == other.names.len()
            && self.numbered().zip(other.numbered()).all(
                |((path, number, inode), (other_path, other_number, other))| {
                    path == other_path
                        && *there.entry(number).or_insert(other_number) == other_number
                        && *back.entry(other_number).or_insert(number) == number
                        && inode.is_like(other)
                },
            )
    }

    /// What a program would find at `path`: symlinks are followed.
    pub fn get(&self, path: &[u8]) -> Option<&Inode> {
        let resolved = self.resolve(path, true)?;
        self.names.get(&resolved).map(|number| &self.inodes[*number])
    }

    /// Adds an entry. `target` is a symlink's; `content` is ignored unless the entry is a regular file.
    pub(super) fn apply(&mut self, entry: &Entry, target: Vec<u8>, content: Content) -> Result<(), Dropped> {
        let path = self.resolve(&entry.path, false).ok_or(Dropped::NoParent)?;
        if path.is_empty() {
            return Ok(());
        }
        let file_type = entry.mode & TYPE_MASK;
        self.clear(&path, file_type)?;
        let content = entry.is_file().then_some(content);
        let Entry { mode, uid, gid, mtime, device, .. } = *entry;
        let number = self.place(path, entry, file_type);
        let inode = &mut self.inodes[number];
        let linked_without_data = content.is_some_and(|content| content.size_bytes == 0) && inode.content.is_some();
        let content = if linked_without_data && entry.links >= 2 { inode.content } else { content };
        *inode = Inode { mode, uid, gid, mtime, device, target, content };
        Ok(())
    }

    /// The end of an archive: equal inode numbers after it mean nothing.
    pub(super) fn forget_links(&mut self) {
        self.links.clear();
    }

    /// Makes way for an entry of type `file_type`.
    fn clear(&mut self, path: &[u8], file_type: u32) -> Result<(), Dropped> {
        let Some(number) = self.names.get(path) else { return Ok(()) };
        let present = self.inodes[*number].file_type();
        if present == file_type {
            return Ok(());
        }
        if present == TYPE_DIRECTORY && self.has_children(path) {
            return Err(Dropped::DirectoryInTheWay);
        }
        self.names.remove(path);
        Ok(())
    }

    fn has_children(&self, path: &[u8]) -> bool {
        let below = [path, b"/"].concat();
        self.names.range(below.clone()..).next().is_some_and(|(name, _)| name.starts_with(&below))
    }

    /// The inode that the entry at `path` writes to: that of its other names, the one that is there, or a new one.
    fn place(&mut self, path: Vec<u8>, entry: &Entry, file_type: u32) -> usize {
        let linkable = entry.links >= 2 && file_type != TYPE_DIRECTORY && file_type != TYPE_SYMLINK;
        let key = (entry.file_system, entry.inode, file_type);
        if let Some(number) = self.links.get(&key).copied().filter(|_| linkable) {
            self.names.insert(path, number);
            return number;
        }
        let new = self.inodes.len();
        let number = *self.names.entry(path).or_insert(new);
        if number == new {
            self.inodes.push(Inode { mode: file_type, ..Inode::default() });
        }
        if linkable {
            // A file over a file is emptied; its other names, if any, see that.
            self.inodes[number].content = None;
            self.links.insert(key, number);
        }
        number
    }

    /// The path without symlinks, `.` and `..` on the way; empty for the root. None if something on the way is missing or no directory.
    fn resolve(&self, path: &[u8], follow_last: bool) -> Option<Vec<u8>> {
        let mut resolved: Vec<u8> = Vec::new();
        let mut pending = components(path);
        let mut symlinks = 0;
        while let Some(component) = pending.pop() {
            if component == b".." {
                let parent = resolved.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                resolved.truncate(parent);
                continue;
            }
            let length = resolved.len();
            if length > 0 {
                resolved.push(b'/');
            }
            resolved.extend_from_slice(&component);
            if pending.is_empty() && !follow_last {
                break;
            }
            let inode = &self.inodes[*self.names.get(&resolved)?];
            match inode.file_type() {
                TYPE_DIRECTORY => {}
                TYPE_SYMLINK if symlinks < SYMLINKS_MAX => {
                    symlinks += 1;
                    resolved.truncate(if inode.target.starts_with(b"/") { 0 } else { length });
                    pending.extend(components(&inode.target));
                }
                TYPE_SYMLINK => return None,
                _ if pending.is_empty() => {}
                _ => return None,
            }
        }
        Some(resolved)
    }
}

/// The components of a path, last first, without empty ones and `.`.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.rsplit(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec).collect()
}
