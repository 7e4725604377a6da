//! The files of an rpm: the file list of its header and the compressed cpio archive that follows it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::digest::sha256_hex;
use crate::package::{Class, Content, File};

const DIRECTORY: u16 = 0o040_000;
const REGULAR: u16 = 0o100_000;
const SYMLINK: u16 = 0o120_000;

/// A file in the order of the header's arrays.
#[derive(Debug)]
pub struct FileEntry<'a> {
    /// Its absolute path.
    pub path: &'a str,
    /// What lies there.
    pub file: &'a File,
    /// The place, counted from 1, of the first name of this file.
    pub inode: u32,
    /// How many names the file has in the package.
    links: u32,
    /// The cpio archive holds the bytes of a file with several names at its last.
    holds_content: bool,
}

impl<'a> FileEntry<'a> {
    /// The path's directory with a slash at its end.
    pub fn directory(&self) -> &'a str {
        &self.path[..self.path.len() - self.base_name().len()]
    }

    /// The path's last component.
    pub fn base_name(&self) -> &'a str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// File type and permissions.
    pub fn mode(&self) -> u16 {
        let kind = match self.file.content {
            Content::Directory => DIRECTORY,
            Content::Symlink(_) => SYMLINK,
            Content::Regular(_) => REGULAR,
        };
        kind | self.file.mode
    }

    /// The target of a link, else nothing.
    pub fn link_target(&self) -> &'a str {
        match &self.file.content {
            Content::Symlink(target) => target,
            _ => "",
        }
    }

    /// SHA-256 of a regular file's bytes, else nothing.
    pub fn digest(&self) -> String {
        match &self.file.content {
            Content::Regular(bytes) if !self.is_ghost() => sha256_hex(bytes),
            _ => String::new(),
        }
    }

    /// The size that stat(2) would tell.
    ///
    /// # Errors
    /// Fails from 4 GiB on, for which the format has other tags.
    pub fn size(&self) -> Result<u32> {
        u32::try_from(self.bytes().len()).with_context(|| format!("writing {}: it is too large", self.path))
    }

    /// Whether the package owns the file without bringing it.
    fn is_ghost(&self) -> bool {
        self.file.class == Class::Ghost
    }

    fn bytes(&self) -> &'a [u8] {
        match &self.file.content {
            Content::Directory => &[],
            Content::Symlink(target) => target.as_bytes(),
            Content::Regular(bytes) => bytes,
        }
    }
}

/// The entries of `files`; names that share their content's allocation are hard links.
pub fn entries(files: &BTreeMap<String, File>) -> Vec<FileEntry<'_>> {
    let mut names: BTreeMap<*const Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (index, file) in files.values().enumerate() {
        if let Content::Regular(bytes) = &file.content {
            names.entry(Arc::as_ptr(bytes)).or_default().push(index);
        }
    }
    files
        .iter()
        .enumerate()
        .map(|(index, (path, file))| {
            let group = match &file.content {
                Content::Regular(bytes) => names.get(&Arc::as_ptr(bytes)).map(Vec::as_slice).unwrap_or_default(),
                _ => &[],
            };
            FileEntry {
                path,
                file,
                inode: *group.first().unwrap_or(&index) as u32 + 1,
                links: group.len().max(1) as u32,
                holds_content: group.last().is_none_or(|last| *last == index),
            }
        })
        .collect()
}

/// What the files take when installed: each regular file once.
///
/// # Errors
/// Fails from 4 GiB on, for which the format has other tags.
pub fn installed_bytes(entries: &[FileEntry<'_>]) -> Result<u32> {
    let counted =
        entries.iter().filter(|entry| entry.holds_content && !matches!(entry.file.content, Content::Directory));
    let bytes: usize = counted.map(|entry| entry.bytes().len()).sum();
    u32::try_from(bytes).context("writing a package: its files take more than 4 GiB")
}

/// The archive behind the headers.
#[derive(Debug)]
pub struct Payload {
    /// Its compressed bytes.
    pub compressed: Vec<u8>,
    /// How long it is before compression.
    pub archive_bytes: usize,
    /// SHA-256 before compression.
    pub archive_sha256: String,
}

/// The cpio archive of `entries`.
///
/// # Errors
/// Fails when a file is too large or the compressor fails.
pub fn write(entries: &[FileEntry<'_>], level: i32) -> Result<Payload> {
    let mut archive = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.is_ghost()) {
        let content = if entry.holds_content { entry.bytes() } else { &[] };
        append_cpio(&mut archive, entry, content)?;
    }
    append_trailer(&mut archive);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level).context("starting zstd")?;
    encoder.write_all(&archive).and_then(|()| encoder.finish()).map_or_else(
        |error| Err(error).context("compressing the payload"),
        |compressed| Ok(Payload { compressed, archive_bytes: archive.len(), archive_sha256: sha256_hex(&archive) }),
    )
}

fn append_cpio(archive: &mut Vec<u8>, entry: &FileEntry<'_>, content: &[u8]) -> Result<()> {
    let name = format!(".{}", entry.path);
    let size = u32::try_from(content.len())?;
    let fields = [entry.inode, u32::from(entry.mode()), 0, 0, entry.links, entry.file.mtime, size, 0, 0, 0, 0];
    append_cpio_header(archive, &fields, &name);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
    Ok(())
}

fn append_trailer(archive: &mut Vec<u8>) {
    append_cpio_header(archive, &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], "TRAILER!!!");
}

fn append_cpio_header(archive: &mut Vec<u8>, fields: &[u32; 11], name: &str) {
    archive.extend(b"070701");
    for field in fields {
        archive.extend(format!("{field:08x}").into_bytes());
    }
    archive.extend(format!("{:08x}{:08x}", name.len() + 1, 0).into_bytes());
    archive.extend(name.bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
