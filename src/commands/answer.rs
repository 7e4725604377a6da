//! A command's result on standard output: text, or JSON.

use std::io::{self, Write, stdout};

use anyhow::{Context, Result};
use serde::Serialize;

/// Has `write` print the result. Whether all of it was taken: whoever closes the pipe has read enough, and that is no error.
///
/// # Errors
/// Fails when standard output cannot be written otherwise.
pub fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<bool> {
    let mut output = io::BufWriter::new(stdout().lock());
    match write(&mut output).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("writing to standard output"),
    }
}

/// Prints a result of one line.
///
/// # Errors
/// As [`print()`].
pub fn print_line(line: &str) -> Result<()> {
    print(|output| writeln!(output, "{line}")).map(drop)
}

/// Writes `value` as indented JSON with a final newline.
///
/// # Errors
/// Fails when `output` does.
pub fn write_json(output: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *output, value).map_err(io::Error::from)?;
    writeln!(output)
}

/// `1 thing`, `2 things`.
pub fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
