//! File system trees as an initrd needs them: metadata in memory, file bytes where they were spooled.
//!
//! A [`Tree`] maps paths to entries in byte order, which is the order of every archive that is written from it.
//! Hard links are kept as groups: the first path in byte order is the [`Kind::File`], the others point at it. Every
//! operation here keeps groups right, also when their first member goes.

#[cfg(test)]
pub(crate) mod arbitrary;
pub(crate) mod attributes;
mod edit;
mod merge;
mod query;

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};

pub use edit::Globs;
pub use query::TreeHasher;

use ocinitrd_format::text::quoted;
use ocinitrd_support::regular_file;

/// A path inside a tree: relative, without `.`, `..`, empty components or slashes at either end; bytes, not UTF-8.
pub type TreePath = Vec<u8>;

/// The bytes of a regular file: a range of a spool file, or a few bytes in memory.
#[derive(Clone, Debug)]
pub enum Content {
    /// `length_bytes` bytes of `file` from `offset`.
    Spooled {
        /// The spool, shared by all entries of a layer.
        file: Arc<File>,
        /// Where the content starts, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        length_bytes: u64,
    },
    /// Part of a file that is opened when it is read: of directories with more files than a process may have open.
    OnDisk {
        /// The file.
        path: Arc<Path>,
        /// Where the content starts, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        length_bytes: u64,
    },
    /// Content made by the tool itself: small.
    Bytes(Arc<[u8]>),
}

impl Content {
    /// Content held in memory.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Content::Bytes(bytes.into())
    }

    /// The whole of a file as it is now.
    ///
    /// # Errors
    /// Fails when its size cannot be told.
    pub fn of_file(file: File) -> io::Result<Self> {
        let length_bytes = file.metadata()?.len();
        Ok(Content::Spooled { file: Arc::new(file), offset: 0, length_bytes })
    }

    /// The whole of a file that has that many bytes, to be opened when it is read.
    pub fn on_disk(path: &Path, length_bytes: u64) -> Self {
        Content::OnDisk { path: path.into(), offset: 0, length_bytes }
    }

    /// The length in bytes.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Content::Spooled { length_bytes, .. } | Content::OnDisk { length_bytes, .. } => *length_bytes,
            Content::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Part of it: from the byte `offset` on, so many, as far as there are so many.
    #[must_use]
    pub fn part(&self, offset: u64, length_bytes: u64) -> Self {
        let start = offset.min(self.size_bytes());
        let length_bytes = length_bytes.min(self.size_bytes() - start);
        match self {
            Content::Spooled { file, offset, .. } => {
                Content::Spooled { file: file.clone(), offset: offset + start, length_bytes }
            }
            Content::OnDisk { path, offset, .. } => {
                Content::OnDisk { path: path.clone(), offset: offset + start, length_bytes }
            }
            Content::Bytes(bytes) => {
                // What is in memory can be counted by its addresses.
                let (start, length) = (start as usize, length_bytes as usize);
                Content::Bytes(bytes[start..start + length].into())
            }
        }
    }

    /// A reader over the content; several may be open at a time.
    pub fn reader(&self) -> ContentReader {
        ContentReader { content: self.clone(), position: 0, opened: None }
    }

    /// All of it in memory: for files known to be small.
    ///
    /// # Errors
    /// Fails when the spool cannot be read or is shorter than recorded.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.size_bytes()).unwrap_or(0));
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads a [`Content`] from its start; a spool that ends early is an error, not an end of file.
#[derive(Debug)]
pub struct ContentReader {
    content: Content,
    position: u64,
    /// The file of a content on disk, once it is read.
    opened: Option<File>,
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let remaining = self.content.size_bytes() - self.position;
        let wanted = usize::try_from(remaining.min(buffer.len() as u64)).unwrap_or(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = match &self.content {
            Content::Spooled { file, offset, .. } => file.read_at(&mut buffer[..wanted], offset + self.position)?,
            Content::OnDisk { path, offset, .. } => {
                let file = match self.opened.take() {
                    Some(file) => file,
                    None => regular_file::open(path).map_err(|error| named(&error, path))?,
                };
                let count = file.read_at(&mut buffer[..wanted], offset + self.position);
                self.opened = Some(file);
                count?
            }
            Content::Bytes(bytes) => {
                let start = usize::try_from(self.position).map_err(io::Error::other)?;
                buffer[..wanted].copy_from_slice(&bytes[start..start + wanted]);
                wanted
            }
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        Ok(count)
    }
}

/// An error with the path that it is about.
fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Seek for ContentReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let size_bytes = self.content.size_bytes();
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => size_bytes.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.filter(|position| *position <= size_bytes).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// What an entry is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file. Of a group of hard links it is the first path in byte order.
    File(Content),
    /// A further name of the regular file at `target`, a path of the same tree that sorts before this one.
    HardLink {
        /// The path of the [`Kind::File`] entry.
        target: TreePath,
    },
    /// A symbolic link with its target as written.
    Symlink {
        /// What the link says; not resolved.
        target: Vec<u8>,
    },
    /// A character device with its major and minor number.
    CharacterDevice(u32, u32),
    /// A block device with its major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// One entry of a tree. Owners and times are what archives record; names of users do not occur.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Permission bits with setuid, setgid and sticky: `st_mode & 0o7777`.
    pub permissions: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time in seconds since 1970-01-01 UTC.
    pub mtime: u64,
    /// Extended attributes by name: those of [`attributes::is_of_a_package`]. cpio cannot hold them, OCI layers can.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the entry is.
    pub kind: Kind,
}

impl Entry {
    /// An entry of root's, as the tool adds them itself.
    pub fn of_root(kind: Kind, permissions: u32, mtime: u64) -> Self {
        Entry { permissions, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new(), kind }
    }
}

/// Entries by path, in byte order. The root directory itself is no entry.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: BTreeMap<TreePath, Entry>,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Self {
        Tree::default()
    }

    /// The entry at exactly `path`; symlinks are not followed.
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// All entries in byte order of their paths.
    pub fn iter(&self) -> btree_map::Iter<'_, TreePath, Entry> {
        self.entries.iter()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A path as a tree keeps it: slashes at the ends, doubled slashes and `.` components dropped. Empty for the root.
///
/// # Errors
/// Fails on a `..` component and on a NUL byte.
pub fn normalized(path: &[u8]) -> Result<TreePath> {
    let mut components = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => bail!("the path {} has a \"..\" component", quoted(path)),
            _ => components.push(component),
        }
    }
    if path.contains(&0) {
        bail!("the path {} holds a NUL byte", quoted(path));
    }
    Ok(components.join(&b'/'))
}

/// Directories that are symlinks to those below `/usr` wherever a tree is unpacked.
const MERGED: [&[u8]; 4] = [b"bin", b"lib", b"lib64", b"sbin"];

/// Whether a directory of that name is a symlink to one below `/usr`.
pub fn is_merged(name: &[u8]) -> bool {
    MERGED.contains(&name)
}

/// The path where it lies on a system with merged `/usr`: one in place of such a symlink would hide all that is there.
pub fn usr_merged(path: &[u8]) -> TreePath {
    let first = path.split(|byte| *byte == b'/').next().unwrap_or_default();
    if is_merged(first) { join(b"usr", path) } else { path.to_vec() }
}

/// Whether `path` is `directory` or lies below it.
pub fn is_within(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// The directory that holds `path`: empty for the root.
pub fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

/// The last component of `path`.
pub fn file_name(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |slash| &path[slash + 1..])
}

/// `directory/name`, or `name` when `directory` is the root.
pub fn join(directory: &[u8], name: &[u8]) -> TreePath {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalized_and_those_that_leave_the_tree_refused() {
        assert_eq!(normalized(b"./usr//lib/./x/").unwrap(), b"usr/lib/x");
        assert_eq!(normalized(b"/").unwrap(), b"");
        assert!(normalized(b"usr/../..").unwrap_err().to_string().contains("\"usr/../..\" has a \"..\""));
        assert!(normalized(b"a\0b").is_err());
    }

    #[test]
    fn parents_and_names_come_apart_and_together() {
        for (path, directory, name) in [(&b"a"[..], &b""[..], &b"a"[..]), (b"a/b/c", b"a/b", b"c")] {
            assert_eq!((parent(path), file_name(path)), (directory, name));
            assert_eq!(join(directory, name), path);
        }
    }

    #[test]
    fn a_spool_that_ends_early_is_an_error() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let content = Content::Spooled { file, offset: 0, length_bytes: 1 };
        assert_eq!(content.read_all().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
