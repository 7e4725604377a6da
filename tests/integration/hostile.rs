//! Files that are small and made to cost their reader much: each command ends with a result or an error, within limits of CPU time and
//! memory that are far above what it needs and far below what it took once.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::fixture::{stderr, stdout};

#[path = "../bench/hostile/images.rs"]
mod images;
#[path = "../bench/hostile/initrds.rs"]
mod initrds;

/// A file by its name, and what writes it.
pub type Input = (&'static str, fn(&mut dyn std::io::Write));

/// What a command may need: on a slow machine, without optimisation.
const SECONDS: u32 = 60;
const BYTES: u64 = 1_000_000_000;

const FOLLOWED: &str = "its symlinks lead through more than 134217728 bytes of targets, which no initrd needs";

fn write(directory: &Path, inputs: &[Input], name: &str) -> String {
    let (_, write) = inputs.iter().find(|(one, _)| *one == name).unwrap();
    let path = directory.join(name);
    write(&mut std::io::BufWriter::new(fs::File::create(&path).unwrap()));
    path.to_str().unwrap().to_owned()
}

/// Runs the program with limits of CPU time and address space; beyond them it is killed, or fails to allocate.
fn limited(arguments: &[&str]) -> Output {
    let mut command = Command::new("prlimit");
    command.args([format!("--cpu={SECONDS}"), format!("--as={BYTES}"), "--".to_owned()]);
    let output = command.arg(env!("CARGO_BIN_EXE_ocinitrd")).args(arguments).output().unwrap();
    // 1 and 2 are answers; a signal has no code, and a panic has 101.
    assert!(matches!(output.status.code(), Some(0..=2)), "{arguments:?}: {:?} {}", output.status, stderr(&output));
    output
}

/// Each command on an initrd, and a part of what it must say; nothing where the initrd is read to its end.
fn read_all(inputs: &[(&str, &str)]) {
    let directory = TempDir::new().unwrap();
    for (name, expected) in inputs {
        let path = write(directory.path(), initrds::INPUTS, name);
        for arguments in
            [&["inspect", "--list", &path][..], &["check", &path, "--needs", "ext4"], &["diff", &path, &path]]
        {
            let told = stderr(&limited(arguments));
            assert!(told.contains(expected), "{arguments:?}: {told}");
            assert_eq!(told.is_empty(), expected.is_empty(), "{arguments:?}: {told}");
        }
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn initrds_that_expand_are_read_or_refused_within_limits() {
    read_all(&[
        ("blocks.lz4", ""),
        ("chained-symlinks.zst", FOLLOWED),
        ("changing-symlinks.zst", FOLLOWED),
        ("bomb.zst", "it unpacks to more than 8589934592 bytes; --max-unpacked-size raises this limit"),
    ]);
}

#[test]
#[ignore = "makes gigabytes to compress them"]
fn initrds_with_much_in_them_are_read_or_refused_within_limits() {
    read_all(&[
        ("deep.zst", ""),
        ("without-parents.zst", "and so 499999 more: no entry before it makes its parent directory"),
        ("long-targets.zst", "have more than 256000000 bytes; --max-entries raises this limit"),
        ("deep-links.zst", FOLLOWED),
    ]);
}

#[test]
fn what_is_read_of_an_initrd_can_be_raised_and_lowered() {
    let directory = TempDir::new().unwrap();
    let path = write(directory.path(), initrds::INPUTS, "deep.zst");
    for (options, expected) in [
        (&["--max-unpacked-size", "1M"][..], "it unpacks to more than 1048576 bytes; --max-unpacked-size raises"),
        (&["--max-entries", "100"], "it has more than 100 entries; --max-entries raises this limit"),
        (&["--max-entries", "500000"], ""),
        (&["--max-entries", "19999"], "it has more than 19999 entries"),
    ] {
        for command in [&["inspect", &path][..], &["check", &path, "--needs", "ext4"], &["diff", &path, &path]] {
            let output = limited(&[command, options].concat());
            assert!(stderr(&output).contains(expected), "{command:?}: {}", stderr(&output));
            assert_eq!(stderr(&output).is_empty(), expected.is_empty(), "{command:?}: {}", stderr(&output));
        }
    }
}

#[test]
#[ignore = "makes gigabytes to compress them"]
fn lists_of_built_in_modules_are_read_up_to_a_limit() {
    let directory = TempDir::new().unwrap();
    let path = write(directory.path(), initrds::INPUTS, "builtin.zst");
    let output = limited(&["check", &path, "--needs", "ext4"]);
    let expected = "the files in it that are to be read have more than 4194304 bytes";
    assert!(stderr(&output).contains(expected) && stdout(&output).is_empty(), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn images_that_claim_much_are_told_without_reading_it() {
    let directory = TempDir::new().unwrap();
    for (name, expected) in [
        ("empty-sections.efi", "the sections .linux and .osrel overlap in memory"),
        ("overlapping.efi", "the sections .data and .data overlap in memory"),
        ("profiles.efi", "its kernel is no EFI program"),
        ("signed-profiles.efi", ".pcrsig has no signature for the phase enter-initrd in sha1"),
    ] {
        let path = write(directory.path(), images::INPUTS, name);
        for arguments in [["uki", "inspect", &path], ["uki", "verify", &path]] {
            let output = limited(&arguments);
            assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        }
        fs::remove_file(path).unwrap();
    }
}

/// Two initrds of a million entries, in less than the 500 MB that `diff` may take of them.
#[test]
#[ignore = "compares two million entries"]
fn a_million_entries_are_compared_in_little_memory() {
    let directory = TempDir::new().unwrap();
    let [a, b] = ["million-a.zst", "million-b.zst"].map(|name| write(directory.path(), initrds::INPUTS, name));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocinitrd"));
    let child = command.args(["diff", &a, &b]).stdout(Stdio::piped()).spawn().unwrap();
    // The high-water mark is the kernel's own: it does not matter when it is read, only that it is until the end.
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    while let Some(seen_kib) = fs::read_to_string(&status).ok().and_then(|status| peak(&status)) {
        peak_kib = seen_kib;
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("content differs from byte 0 on"), "{}", stdout(&output));
    assert!((100_000..500_000_000 / 1024).contains(&peak_kib), "{peak_kib} KiB");
}

/// The most memory that a process had, in KiB; none once it has ended.
fn peak(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
}
