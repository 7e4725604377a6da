//! What is given on the command line as a text or as `@` and the file that has it.

use std::path::Path;

use anyhow::{Context, Result};

use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// The text that was given, or that of the file that was named with `@`.
///
/// # Errors
/// Fails when the file cannot be read.
pub fn text(given: &str) -> Result<String> {
    given.strip_prefix('@').map_or_else(|| Ok(given.to_owned()), |path| read(Path::new(path)))
}

/// The text of a file.
///
/// # Errors
/// Fails when it cannot be read.
pub fn read(path: &Path) -> Result<String> {
    regular_file::read_text(path, TEXT_LIMIT_BYTES).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_itself_or_that_of_a_file_and_of_nothing_that_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let given = format!("@{}", path.display());
        std::fs::write(&path, "quiet").unwrap();
        assert_eq!((text("rw").unwrap(), text(&given).unwrap()), ("rw".to_owned(), "quiet".to_owned()));
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
        assert!(format!("{:#}", text(&given).unwrap_err()).ends_with("it is a FIFO, not a regular file"));
    }
}
