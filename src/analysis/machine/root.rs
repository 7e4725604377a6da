//! A machine's files below a root directory, so that a temporary folder can stand in for a machine.
//!
//! A path of the machine in, what lies there out. What is not there is `None`; what cannot be read is an error that names it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};

use ocinitrd_support::links;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// The root directory of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    /// As it was given, for messages.
    given: PathBuf,
    /// Without symlinks.
    directory: PathBuf,
}

impl Root {
    /// # Errors
    /// Fails when there is no such directory.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let resolved = directory.canonicalize().with_context(|| format!("reading {}", directory.display()))?;
        anyhow::ensure!(resolved.is_dir(), "{} is not a directory: give the root of a machine", directory.display());
        Ok(Root { given: directory.to_owned(), directory: resolved })
    }

    /// Where it lies, without symlinks.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path of the machine as the caller can find it.
    pub(crate) fn shown(&self, path: &str) -> String {
        self.given.join(path.trim_start_matches('/')).display().to_string()
    }

    /// Where a path of the machine lies, without a symlink on the way.
    pub(crate) fn place(&self, path: &str) -> io::Result<PathBuf> {
        links::place(&self.directory, Path::new(path))
    }

    /// The bytes of a file; none of one that is a symlink to `/dev/null`.
    pub(super) fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>> {
        if self.is_nothing(path) {
            return Ok(Some(Vec::new()));
        }
        found(self.place(path).and_then(|place| regular_file::read(&place, TEXT_LIMIT_BYTES)))
            .with_context(|| format!("reading {}", self.shown(path)))
    }

    /// A file as text, in which what is no UTF-8 is replaced.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>> {
        Ok(self.bytes(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// A file as text, for who must not mistake what it says: it has to be UTF-8 without NUL bytes. Nothing where there is none, or a
    /// symlink to `/dev/null`.
    pub(crate) fn exact_text(&self, path: &str) -> io::Result<Option<String>> {
        if self.is_nothing(path) {
            return Ok(None);
        }
        let text = found(self.place(path).and_then(|place| regular_file::read_text(&place, TEXT_LIMIT_BYTES)))?;
        if text.as_ref().is_some_and(|text| text.contains('\0')) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds NUL bytes and is no text"));
        }
        Ok(text)
    }

    /// Whether a path leads to `/dev/null`, which hides what another directory has.
    pub(crate) fn is_nothing(&self, path: &str) -> bool {
        links::is_nothing(&self.directory, Path::new(path))
    }

    /// The one line of an attribute in `/sys`.
    pub(super) fn attribute(&self, path: &str) -> Result<Option<String>> {
        Ok(self.text(path)?.map(|text| text.trim().to_owned()))
    }

    /// What was read; nothing where only root may read it, for who checks a machine without being root.
    pub(super) fn if_allowed<T: Default>(read: Result<T>) -> Result<T> {
        match read {
            Err(error) if is_denied(&error) => Ok(T::default()),
            read => read,
        }
    }

    /// What lies in a directory, sorted; nothing where there is none.
    pub(crate) fn names(&self, path: &str) -> Result<Vec<String>> {
        let reading = || format!("reading {}", self.shown(path));
        let Some(entries) = found(self.place(path).and_then(fs::read_dir)).with_context(reading)? else {
            return Ok(Vec::new());
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<String>>>().with_context(reading)?;
        names.sort();
        Ok(names)
    }

    /// Where a symlink points, as it is written.
    pub(super) fn link(&self, path: &str) -> Result<Option<String>> {
        let target = match links::entry(&self.directory, Path::new(path)).and_then(fs::read_link) {
            // What is there and no symlink.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => None,
            result => found(result).with_context(|| format!("reading {}", self.shown(path)))?,
        };
        Ok(target.map(|target| target.to_string_lossy().into_owned()))
    }

    /// The path without symlinks, as one of the machine with a leading slash.
    pub(super) fn resolve(&self, path: &str) -> Result<Option<String>> {
        let resolved = links::resolve(&self.directory, Path::new(path));
        let resolved = resolved.with_context(|| format!("reading {}", self.shown(path)))?;
        Ok(resolved.map(|resolved| format!("/{}", resolved.display())))
    }

    /// Whether anything lies there.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.place(path).is_ok_and(|place| place.exists())
    }
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_denied(error: &Error) -> bool {
    error.root_cause().downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::fixture::Fixture;

    #[test]
    fn what_is_no_text_is_replaced_for_who_looks_around_and_refused_for_who_takes_its_word() {
        let fixture = Fixture::new();
        fixture.write("etc/a", "x\0y").write("etc/b", "").link("etc/c", "/dev/null").write("etc/d", "z");
        fs::write(fixture.path().join("etc/b"), b"x\xff").unwrap();
        let root = fixture.root();
        for (path, lossy) in [("/etc/a", "x\0y"), ("/etc/b", "x\u{fffd}")] {
            assert_eq!(root.text(path).unwrap().as_deref(), Some(lossy));
            assert_eq!(root.exact_text(path).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
        }
        assert_eq!(root.exact_text("/etc/c").unwrap(), None);
        assert_eq!(root.exact_text("/etc/d").unwrap().as_deref(), Some("z"));
        assert_eq!(root.exact_text("/etc/gone").unwrap(), None);
    }

    #[test]
    fn absolute_symlinks_begin_at_the_machine_s_root() {
        let fixture = Fixture::new();
        fixture.write("usr/etc/fstab", "mine\n").link("etc/fstab", "/usr/etc/fstab").link("etc/hosts", "/etc/passwd");
        fixture.link("etc/udev", "/usr/udev").write("usr/udev/rules.d/a.rules", "").link("etc/x", "/dev/null");
        fixture.link("usr/udev/rules.d/b.rules", "/dev/null");
        let root = fixture.root();
        assert_eq!(root.text("/etc/fstab").unwrap().as_deref(), Some("mine\n"));
        assert_eq!(root.resolve("/etc/fstab").unwrap().as_deref(), Some("/usr/etc/fstab"));
        // It is on the system that runs this, and not on the machine.
        assert!(root.text("/etc/hosts").unwrap().is_none() && !root.has("/etc/hosts") && root.has("/etc/fstab"));
        assert_eq!(root.names("/etc/udev/rules.d").unwrap(), ["a.rules", "b.rules"]);
        assert_eq!(root.link("/etc/udev/rules.d/b.rules").unwrap().as_deref(), Some("/dev/null"));
        assert_eq!(root.text("/etc/x").unwrap().as_deref(), Some(""), "it says nothing");
    }
}
