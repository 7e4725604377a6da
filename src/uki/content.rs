//! What a section holds: bytes, or files one behind the other.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The kernel looks for the next archive of an initrd at a multiple of it.
const ARCHIVE_ALIGNMENT_BYTES: u64 = 4;

/// What a section holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These files with their sizes in bytes, each filled up with zeros to a multiple of 4 bytes where there are several.
    Files(Vec<(PathBuf, u64)>),
    /// Part of a file: from that byte on, so many.
    Part(PathBuf, u64, u64),
}

impl Content {
    /// A text.
    pub fn text(text: &str) -> Self {
        Content::Bytes(text.as_bytes().to_vec())
    }

    /// Files one behind the other.
    ///
    /// # Errors
    /// Fails on a file that cannot be found.
    pub fn files<P: AsRef<Path>>(paths: &[P]) -> Result<Self> {
        let sized = |path: &P| {
            let path = path.as_ref();
            let metadata = path.metadata().with_context(|| format!("looking for {}", path.display()))?;
            Ok((path.to_owned(), metadata.len()))
        };
        Ok(Content::Files(paths.iter().map(sized).collect::<Result<_>>()?))
    }

    /// Its size in bytes.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Part(_, _, size_bytes) => *size_bytes,
            Content::Files(files) => {
                files.iter().map(|(_, size_bytes)| size_bytes + padding(files.len(), *size_bytes)).sum()
            }
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// Fails on a file that cannot be opened.
    pub fn reader(&self) -> Result<Box<dyn Read + '_>> {
        let files = match self {
            Content::Bytes(bytes) => return Ok(Box::new(Cursor::new(bytes))),
            Content::Part(path, offset, size_bytes) => {
                let mut file = open(path)?;
                file.seek(SeekFrom::Start(*offset)).with_context(|| format!("reading {}", path.display()))?;
                return Ok(Box::new(file.take(*size_bytes)));
            }
            Content::Files(files) => files,
        };
        let mut all: Box<dyn Read> = Box::new(io::empty());
        for (path, size_bytes) in files {
            let file = open(path)?;
            all = Box::new(all.chain(file).chain(io::repeat(0).take(padding(files.len(), *size_bytes))));
        }
        Ok(all)
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("opening {}", path.display()))
}

fn padding(files: usize, size_bytes: u64) -> u64 {
    if files == 1 { 0 } else { size_bytes.next_multiple_of(ARCHIVE_ALIGNMENT_BYTES) - size_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_files_are_filled_up_and_one_is_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("a"), "12345").unwrap();
        std::fs::write(path("b"), "67").unwrap();
        let read = |content: &Content| {
            let mut bytes = Vec::new();
            content.reader().unwrap().read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, content.size_bytes());
            bytes
        };
        assert_eq!(read(&Content::files(&[path("a")]).unwrap()), b"12345");
        assert_eq!(read(&Content::files(&[path("a"), path("b")]).unwrap()), b"12345\0\0\x0067\0\0");
        let error = Content::files(&[path("c")]).unwrap_err();
        assert!(format!("{error:#}").contains("/c: No such file"), "{error:#}");
    }
}
