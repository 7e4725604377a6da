//! What a section holds: one content, or several one behind the other.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::image::segment::{ALIGNMENT_BYTES, next_offset};
use crate::image::tree;
use ocinitrd_support::regular_file;

/// What a section holds.
#[derive(Clone, Debug)]
pub struct Content(Vec<tree::Content>);

/// A file, or what could be one, with the name that people know it by.
#[derive(Clone, Debug)]
pub struct NamedContent {
    /// Its path, for messages.
    pub name: PathBuf,
    /// Its bytes.
    pub content: tree::Content,
}

impl From<tree::Content> for Content {
    fn from(content: tree::Content) -> Self {
        Content(vec![content])
    }
}

impl NamedContent {
    /// A file as it is now.
    ///
    /// # Errors
    /// Fails when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(NamedContent { name: path.to_owned(), content: open(path)? })
    }
}

impl Content {
    /// A text.
    pub fn text(text: &str) -> Self {
        tree::Content::from_bytes(text.as_bytes()).into()
    }

    /// A file.
    ///
    /// # Errors
    /// Fails when it cannot be opened.
    pub fn file(path: &Path) -> Result<Self> {
        Ok(open(path)?.into())
    }

    /// Files as ukify(1) joins them: each filled up with zeros to a multiple of 4 bytes, where there are several.
    ///
    /// # Errors
    /// Fails on a file that cannot be opened.
    pub fn files<P: AsRef<Path>>(paths: &[P]) -> Result<Self> {
        let mut pieces = Vec::new();
        for path in paths {
            let file = open(path.as_ref())?;
            let padding = if paths.len() > 1 { padding_bytes(file.size_bytes()) } else { 0 };
            pieces.push(file);
            pieces.extend(zeros(padding));
        }
        Ok(Content(pieces))
    }

    /// Segments of an initrd, each where it begins in one.
    pub fn segments(segments: impl IntoIterator<Item = tree::Content>) -> Self {
        let mut content = Content(Vec::new());
        for segment in segments {
            let end = content.size_bytes();
            content.0.extend(zeros(next_offset(end).unwrap_or(end) - end));
            content.0.push(segment);
        }
        content
    }

    /// Its size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.0.iter().map(tree::Content::size_bytes).sum()
    }

    /// All of it.
    pub fn reader(&self) -> Box<dyn Read> {
        let empty: Box<dyn Read> = Box::new(io::empty());
        self.0.iter().fold(empty, |all, piece| Box::new(all.chain(piece.reader())))
    }
}

fn open(path: &Path) -> Result<tree::Content> {
    regular_file::open(path).and_then(tree::Content::of_file).with_context(|| format!("opening {}", path.display()))
}

/// How many bytes are missing to the next multiple of what the kernel looks for an archive at.
fn padding_bytes(size_bytes: u64) -> u64 {
    size_bytes.next_multiple_of(ALIGNMENT_BYTES) - size_bytes
}

fn zeros(count: u64) -> Option<tree::Content> {
    (count > 0).then(|| tree::Content::from_bytes(vec![0; count as usize]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &Content) -> Vec<u8> {
        let mut bytes = Vec::new();
        content.reader().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, content.size_bytes());
        bytes
    }

    #[test]
    fn several_files_are_filled_up_and_one_is_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("a"), "12345").unwrap();
        std::fs::write(path("b"), "67").unwrap();
        assert_eq!(read(&Content::files(&[path("a")]).unwrap()), b"12345");
        assert_eq!(read(&Content::files(&[path("a"), path("b")]).unwrap()), b"12345\0\0\x0067\0\0");
        let error = Content::files(&[path("c")]).unwrap_err();
        assert!(format!("{error:#}").contains("/c: No such file"), "{error:#}");
    }

    #[test]
    fn segments_begin_where_those_of_an_initrd_do_and_nothing_follows_the_last() {
        let segment = |text: &str| tree::Content::from_bytes(text.as_bytes());
        let joined = Content::segments([segment("12345"), segment("6789"), segment("0")]);
        assert_eq!(read(&joined), b"12345\0\0\0\0\0\0\x006789\0\0\0\x000");
        assert_eq!(read(&Content::segments([])), b"");
    }
}
