//! A command's result on standard output: text, or JSON.
//!
//! One rule for all commands: whoever closes the pipe has read enough, which changes nothing about what is done and about the
//! exit code; everything else that keeps a result from being written, such as a full disk, is an error.

use std::io::{self, Write, stdout};

use anyhow::{Context, Result};
use serde::Serialize;

use ocinitrd_format::json;

/// Has `write` print the result.
///
/// # Errors
/// Fails when standard output cannot be written, unless it is a pipe that was closed.
pub fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut output = io::BufWriter::new(stdout().lock());
    match write(&mut output).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing to standard output"),
    }
}

/// Prints a result of one line.
///
/// # Errors
/// As [`print()`].
pub fn print_line(line: &str) -> Result<()> {
    print(|output| writeln!(output, "{line}"))
}

/// Writes `value` as indented JSON with a final newline.
///
/// # Errors
/// Fails when `output` does.
pub fn write_json(output: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    json::write(output, value)?;
    writeln!(output)
}

/// `1 thing`, `2 things`.
pub fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
