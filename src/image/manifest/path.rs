//! A path below the output directory, as a manifest lists it: text of others until it was checked here.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result, ensure};
use serde::{Deserialize, Serialize};

use ocinitrd_format::text::{Escaped, quoted};
use ocinitrd_support::regular_file;

/// As long as Linux lets a name and a path be, in bytes.
const LONGEST_NAME_BYTES: usize = 255;
const LONGEST_PATH_BYTES: usize = 4095;

/// A path below the output directory: relative, without `.`, `..`, empty names, NUL and control characters.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct OutputPath(String);

impl OutputPath {
    /// Checks a path.
    ///
    /// # Errors
    /// Fails when it could lead out of the output directory, or no file can have it.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let is_path = text.len() <= LONGEST_PATH_BYTES && text.split('/').all(is_name);
        ensure!(is_path, "{} is not a path below the output directory", quoted(text.as_bytes()));
        Ok(OutputPath(text))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in the output directory itself: of the file, or of the directory that it is below.
    pub fn top(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The path in `directory`. What is there may be a symlink: to read it, use [`OutputPath::open`].
    pub fn in_directory(&self, directory: &Path) -> PathBuf {
        directory.join(&self.0)
    }

    /// Looks what is there in `directory`; `None` if nothing is. Symlinks are refused, since they may lead anywhere: no
    /// build writes one in place of an output.
    ///
    /// # Errors
    /// Fails when it cannot be looked at, and when it or a directory on the way is a symlink.
    pub fn find(&self, directory: &Path) -> io::Result<Option<Metadata>> {
        let mut path = directory.to_owned();
        let mut found = None;
        for name in self.0.split('/') {
            path.push(name);
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_symlink() => return Err(regular_file::is_symlink()),
                Ok(metadata) => found = Some(metadata),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Opens the regular file in `directory`, following no symlink below it.
    ///
    /// # Errors
    /// Fails as [`regular_file::open_below`] does.
    pub fn open(&self, directory: &Path) -> io::Result<File> {
        regular_file::open_below(directory, Path::new(&self.0))
    }
}

/// Whether a file can have the name, and it means nothing else than this file.
pub(super) fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME_BYTES).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|character: char| character == '/' || character.is_control())
}

impl TryFrom<String> for OutputPath {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        OutputPath::new(text)
    }
}

impl From<OutputPath> for String {
    fn from(path: OutputPath) -> Self {
        path.0
    }
}

impl fmt::Display for OutputPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped::text(&self.0).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_paths_below_the_directory_are_taken() {
        for path in ["initrd", "oci/blobs/sha256/0a", "...", "a b", "caf\u{e9}", &"n".repeat(255)] {
            assert_eq!(OutputPath::new(path).unwrap().as_str(), path);
        }
        let (long_name, long_path) = ("n".repeat(256), "n/".repeat(2048) + "n");
        let refused = ["", "/", "/etc/passwd", "..", "../a", "a/..", "a/../b", ".", "./a", "a/.", "a//b", "a/", "a\0b"];
        for path in refused.into_iter().chain(["a\nb", "\u{1b}[2J", "\u{9b}", &long_name, &long_path]) {
            let json = serde_json::to_string(path).unwrap();
            let error = serde_json::from_str::<OutputPath>(&json).unwrap_err().to_string();
            assert!(error.contains(" is not a path below the output directory"), "{path:?}: {error}");
            assert!(!error.contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn what_a_symlink_leads_to_is_not_opened() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        symlink(outside.path().join("secret"), place("initrd")).unwrap();
        symlink(outside.path(), place("oci")).unwrap();
        symlink("plain", place("beside")).unwrap();
        fs::create_dir(place("sub")).unwrap();
        fs::write(place("sub/plain"), "plain").unwrap();
        for path in ["initrd", "oci/secret", "beside"] {
            let path = OutputPath::new(path).unwrap();
            for error in [path.open(directory.path()).unwrap_err(), path.find(directory.path()).unwrap_err()] {
                assert_eq!(error.to_string(), "it is a symlink", "{path}");
            }
        }
        let plain = OutputPath::new("sub/plain").unwrap();
        assert_eq!(io::read_to_string(plain.open(directory.path()).unwrap()).unwrap(), "plain");
        assert!(plain.find(directory.path()).unwrap().unwrap().is_file());
        for missing in ["none", "sub/none", "sub/plain/none"] {
            assert!(OutputPath::new(missing).unwrap().find(directory.path()).unwrap().is_none(), "{missing}");
            assert!(OutputPath::new(missing).unwrap().open(directory.path()).is_err(), "{missing}");
        }
        // The directory itself may be reached by a symlink: it was named by the user.
        let link = outside.path().join("link");
        symlink(directory.path(), &link).unwrap();
        assert!(plain.open(&link).is_ok() && plain.find(&link).unwrap().is_some());
    }
}
