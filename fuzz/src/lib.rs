//! What the fuzz targets share: a limit on memory, and places for readers that take paths.
//!
//! Cost counts as a fault: an input that needs more than [`MEMORY_LIMIT_BYTES`] ends the run as a crash does, and one that takes
//! longer than the `-timeout` of `scripts/fuzz.sh` as a hang.

use std::alloc::System;
use std::fs;
use std::path::Path;

use cap::Cap;

/// What one input may use. Inputs have 64 KiB at most, and all readers promise memory in proportion to their input.
pub const MEMORY_LIMIT_BYTES: usize = 400 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY_LIMIT_BYTES);

/// Cuts an input into `N` parts at the byte 0xff, which no text holds; missing parts are empty.
pub fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let mut rest = bytes.splitn(N, |byte| *byte == 0xff);
    std::array::from_fn(|_| rest.next().unwrap_or_default())
}

/// Has `read` read a file with these bytes.
pub fn with_file<T>(bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    with_directory(&[("file", bytes)], |directory| read(&directory.join("file")))
}

/// Has `read` read a directory with these files.
pub fn with_directory<T>(files: &[(&str, &[u8])], read: impl FnOnce(&Path) -> T) -> T {
    let directory = tempfile::tempdir().expect("TMPDIR has room");
    for (path, bytes) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("TMPDIR has room");
        fs::write(path, bytes).expect("TMPDIR has room");
    }
    read(directory.path())
}
