//! The files that a step finds in its container, as one tar stream.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::definition::dnf::CONTAINER_DIRECTORY;
use crate::definition::extra_tree::{self, Content};
use crate::packages::rpm_file::Excerpt;
use ocinitrd_support::regular_file;

/// Files and directories below `/ocinitrd`, in the order in which they were added.
#[derive(Debug, Default)]
pub struct Input {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    /// The path in the container, without a leading slash.
    path: PathBuf,
    mode: u32,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Directory,
    Bytes(Vec<u8>),
    File(PathBuf),
    Excerpt(Excerpt, PathBuf),
    Symlink(PathBuf),
}

impl Input {
    /// An input whose script is `text`, at `/ocinitrd/NAME`.
    pub fn with_script(name: &str, text: &str) -> Self {
        let mut input = Input::default();
        input.add(CONTAINER_DIRECTORY, 0o755, Source::Directory);
        input.bytes(name, text);
        input
    }

    /// Adds a directory below `/ocinitrd`.
    pub fn directory(&mut self, path: &str) {
        self.add(&format!("{CONTAINER_DIRECTORY}/{path}"), 0o755, Source::Directory);
    }

    /// Adds a file with the given content below `/ocinitrd`.
    pub fn bytes(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.add(&format!("{CONTAINER_DIRECTORY}/{path}"), 0o644, Source::Bytes(content.into()));
    }

    /// Adds a file of this host below `/ocinitrd`.
    pub fn file(&mut self, path: &str, host_path: &Path) {
        self.add(&format!("{CONTAINER_DIRECTORY}/{path}"), 0o644, Source::File(host_path.to_owned()));
    }

    /// Adds an rpm of this host below `/ocinitrd`: as it is, or as the excerpt of it.
    pub fn rpm(&mut self, path: &str, host_path: &Path, excerpt: Option<Excerpt>) {
        match excerpt {
            None => self.file(path, host_path),
            Some(excerpt) => {
                let source = Source::Excerpt(excerpt, host_path.to_owned());
                self.add(&format!("{CONTAINER_DIRECTORY}/{path}"), 0o644, source);
            }
        }
    }

    /// Adds an extra tree as `path` below `/ocinitrd`.
    ///
    /// # Errors
    /// As [`extra_tree::read`].
    pub fn tree(&mut self, path: &str, tree: &Path) -> Result<()> {
        let directory = Path::new(CONTAINER_DIRECTORY).join(path);
        for member in extra_tree::read(tree)? {
            let source = match member.content {
                Content::Directory => Source::Directory,
                Content::File(path) => Source::File(path),
                Content::Symlink(target) => Source::Symlink(target),
            };
            self.members.push(Member { path: directory.join(member.path), mode: member.mode, source });
        }
        Ok(())
    }

    fn add(&mut self, path: &str, mode: u32, source: Source) {
        self.members.push(Member { path: PathBuf::from(path), mode, source });
    }

    /// Writes everything as a tar stream whose members belong into the container's root directory.
    ///
    /// # Errors
    /// Fails when a file of this host cannot be read, naming it, or the stream cannot be written.
    pub fn write(&self, writer: &mut dyn Write) -> Result<()> {
        let mut archive = tar::Builder::new(writer);
        for member in &self.members {
            let mut header = tar::Header::new_gnu();
            header.set_mode(member.mode);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            append(&mut archive, header, member)
                .with_context(|| format!("sending {} to the container", member.path.display()))?;
        }
        archive.finish().context("sending files to the container")
    }
}

fn append(archive: &mut tar::Builder<&mut dyn Write>, mut header: tar::Header, member: &Member) -> io::Result<()> {
    let mut data = |kind, size, content: &mut dyn Read| {
        header.set_entry_type(kind);
        header.set_size(size);
        archive.append_data(&mut header, &member.path, content)
    };
    match &member.source {
        Source::Directory => data(tar::EntryType::Directory, 0, &mut io::empty()),
        Source::Bytes(bytes) => data(tar::EntryType::Regular, bytes.len() as u64, &mut bytes.as_slice()),
        Source::File(path) => {
            let mut file = regular_file::open(path)?;
            let size = file.metadata()?.len();
            data(tar::EntryType::Regular, size, &mut file)
        }
        Source::Excerpt(Excerpt { head, rest_offset }, path) => {
            let mut file = regular_file::open(path)?;
            file.seek(SeekFrom::Start(*rest_offset))?;
            let rest_bytes = file.metadata()?.len().saturating_sub(*rest_offset);
            data(tar::EntryType::Regular, head.len() as u64 + rest_bytes, &mut head.chain(file))
        }
        Source::Symlink(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(
                &mut header,
                &member.path,
                Path::new(std::ffi::OsStr::from_bytes(target.as_os_str().as_bytes())),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_tree_is_sent_as_roots_with_the_modes_that_count() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("rules"), "y").unwrap();
        std::os::unix::fs::symlink("rules", directory.path().join("link")).unwrap();
        let mut input = Input::with_script("step.sh", "true");
        input.tree("extra", directory.path()).unwrap();
        let mut stream = Vec::new();
        input.write(&mut stream).unwrap();
        let mut archive = tar::Archive::new(stream.as_slice());
        let listing: Vec<(String, u32, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                (path, entry.header().mode().unwrap(), entry.header().uid().unwrap())
            })
            .collect();
        let expected = [
            ("ocinitrd", 0o755),
            ("ocinitrd/step.sh", 0o644),
            ("ocinitrd/extra/link", 0o777),
            ("ocinitrd/extra/rules", 0o644),
        ];
        assert_eq!(listing, expected.map(|(path, mode)| (path.to_owned(), mode, 0)));
    }

    #[test]
    fn missing_file_is_named() {
        let mut input = Input::default();
        input.file("rpms/a.rpm", Path::new("/nonexistent/a.rpm"));
        let error = format!("{:#}", input.write(&mut Vec::new()).unwrap_err());
        assert!(error.starts_with("sending ocinitrd/rpms/a.rpm to the container: No such file"), "{error}");
    }
}
