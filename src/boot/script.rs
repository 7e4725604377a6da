//! Guests that run a script of ours in place of the initrd's init, over the very bytes of the initrd under test.
//!
//! The script comes as one more cpio segment behind the initrd, in a directory that no initrd has: `/ocinitrd`. So do the
//! files that a scenario adds to an initrd, each at its place.

use std::collections::BTreeSet;
use std::io::{self, Seek, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::image::segment::next_offset;
use ocinitrd_format::cpio::{Header, TYPE_DIRECTORY, TYPE_FILE, Writer};
use ocinitrd_support::output;
use ocinitrd_support::regular_file;

/// Where the kernel finds the script.
pub const INIT: &str = "/ocinitrd/run";

const COMMON: &str = include_str!("guest/common.sh");
const DISKS: &str = include_str!("guest/disks.sh");
const SERVER: &str = include_str!("guest/server.sh");
const CONTENTS: &str = include_str!("guest/contents.sh");
const DISKS_END: &str = "\nput_away\nsay done\npower_off\n";
const TARGET_INIT: &str = include_str!("guest/target-init.sh");
const PROGRAM: u32 = 0o755;
const SECRET: u32 = 0o600;

/// The segment of a guest that makes disks by `recipe`, which may use the key `pcr_key` in PEM.
///
/// # Errors
/// Fails only where a script of ours cannot be an entry.
pub fn disk_maker(recipe: &str, pcr_key: Option<&str>) -> Result<Vec<u8>> {
    let run = [COMMON, DISKS, recipe, DISKS_END].concat();
    let scripts = [("ocinitrd/run", run.as_str()), ("ocinitrd/target-init", TARGET_INIT)];
    let files: Vec<_> = scripts.into_iter().chain(pcr_key.map(|key| ("ocinitrd/pcr-key", key))).collect();
    segment(&files, PROGRAM)
}

/// The segment of a guest that serves its disks by `script`. Should nobody end it, it ends after `lifetime`.
///
/// # Errors
/// Fails only where a script of ours cannot be an entry.
pub fn server(script: &str, lifetime: Duration) -> Result<Vec<u8>> {
    segment(&[("ocinitrd/run", &server_text(script, lifetime))], PROGRAM)
}

fn server_text(script: &str, lifetime: Duration) -> String {
    let end = format!("\nsay serving\nsleep {}\npower_off\n", lifetime.as_secs());
    [COMMON, SERVER, script, &end].concat()
}

/// The segment with files that a scenario adds, readable by root alone.
///
/// # Errors
/// Fails only where one of them cannot be an entry.
pub fn additions(files: &[(&str, &str)]) -> Result<Vec<u8>> {
    segment(files, SECRET)
}

/// The segment of a guest that lists what the kernel unpacked.
///
/// # Errors
/// Fails only where a script of ours cannot be an entry.
pub fn contents_lister() -> Result<Vec<u8>> {
    segment(&[("ocinitrd/run", &[COMMON, CONTENTS].concat())], PROGRAM)
}

/// Writes `initrd` and behind it `segment` as one new file.
///
/// # Errors
/// Fails when the one cannot be read or the other not be written.
pub fn append(initrd: &Path, segment: &[u8], output: &Path) -> Result<()> {
    let mut source = regular_file::open(initrd).with_context(|| format!("opening {}", initrd.display()))?;
    let mut write = || -> io::Result<()> {
        let mut output = output::create_new(output)?;
        io::copy(&mut source, &mut output)?;
        let end = output.stream_position()?;
        output.set_len(next_offset(end).ok_or(io::ErrorKind::FileTooLarge)?)?;
        output.seek(io::SeekFrom::End(0))?;
        output.write_all(segment)
    };
    write().with_context(|| format!("writing {}", output.display()))
}

fn segment(files: &[(&str, &str)], permissions: u32) -> Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new());
    let parents: BTreeSet<&str> = files.iter().flat_map(|(path, _)| parents(path)).collect();
    let mut inodes = 1..;
    for path in parents {
        let inode = inodes.next().context("there are too many files")?;
        let header =
            Header { path: path.as_bytes(), mode: TYPE_DIRECTORY | 0o755, inode, links: 2, ..Header::default() };
        writer.append(&header, io::empty())?;
    }
    for (path, text) in files {
        let header = Header {
            path: path.as_bytes(),
            mode: TYPE_FILE | permissions,
            inode: inodes.next().context("there are too many files")?,
            links: 1,
            size_bytes: u32::try_from(text.len()).context("a file is too long")?,
            ..Header::default()
        };
        writer.append(&header, text.as_bytes())?;
    }
    writer.finish().context("writing the guest's files")
}

/// The directories that a path lies in, none of them the root.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::inspect;
    use crate::boot::scenario::{Network, SCENARIOS};
    use ocinitrd_support::process::Program;

    #[test]
    fn an_appended_segment_is_found_behind_any_length() {
        let directory = tempfile::tempdir().unwrap();
        for length in 0..4 {
            let initrd = directory.path().join("initrd");
            let output = directory.path().join(format!("output{length}"));
            let mut bytes = segment(&[("ocinitrd/first", "#!/bin/bash")], PROGRAM).unwrap();
            bytes.resize(bytes.len() + length, 0);
            std::fs::write(&initrd, bytes).unwrap();
            append(&initrd, &contents_lister().unwrap(), &output).unwrap();
            let digests = inspect::file_digests(regular_file::open(&output).unwrap()).unwrap();
            let paths: Vec<_> = digests.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
            assert_eq!(paths, ["ocinitrd/first", "ocinitrd/run"], "{length}");
        }
    }

    #[test]
    fn a_disk_maker_brings_its_recipe_and_the_target_s_init() {
        let digests = inspect::file_digests(&disk_maker("need mke2fs\n", None).unwrap()[..]).unwrap();
        assert_eq!(digests.len(), 2);
        assert_ne!(digests[&b"ocinitrd/run"[..]], inspect_run(&contents_lister().unwrap()));
    }

    #[test]
    fn additions_bring_the_directories_they_lie_in() {
        let segment = additions(&[("etc/ssl/key", "secret"), ("etc/crypttab", "")]).unwrap();
        let digests = inspect::file_digests(&segment[..]).unwrap();
        assert_eq!(digests[&b"etc/ssl/key"[..]], ocinitrd_format::digest::Digest::of(b"secret"));
        assert_eq!(digests.len(), 2);
        let text = String::from_utf8_lossy(&segment);
        let place = |name: &str| text.find(&format!("{name}\0")).unwrap();
        assert!(place("etc") < place("etc/ssl") && place("etc/ssl") < place("etc/ssl/key"));
    }

    fn inspect_run(segment: &[u8]) -> ocinitrd_format::digest::Digest {
        inspect::file_digests(segment).unwrap()[&b"ocinitrd/run"[..]]
    }

    /// bash itself reads every script without running it.
    #[test]
    fn scripts_are_bash() {
        let mut scripts = vec![[COMMON, CONTENTS].concat(), TARGET_INIT.to_owned()];
        scripts.extend(SCENARIOS.iter().map(|scenario| [COMMON, DISKS, scenario.disks.recipe, DISKS_END].concat()));
        scripts.extend(SCENARIOS.iter().filter_map(|scenario| match scenario.network {
            Network::Served(script) => Some(server_text(script, Duration::from_secs(1))),
            Network::None | Network::Silent => None,
        }));
        for script in scripts {
            let output = Program::new("bash").args(["-n", "-c", &script]).output().unwrap();
            assert!(output.status.success(), "{}", output.stderr);
        }
    }
}
