//! What is given on the command line as a text or as `@` and the file that has it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

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
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
