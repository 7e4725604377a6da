//! What went into the initrd of a kernel's entry: a file of JSON on the machine, which comes when the initrd is in its place and goes
//! when the entry does.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::LocalFile;
use crate::names::KernelVersion;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::links;
use ocinitrd_support::output::{MODE_PRIVATE, OutputFile};
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// Where they are.
const PLACE: &str = "var/lib/ocinitrd/installed";
/// What one is called in the staging area. Plugins put into an entry what is called initrd or microcode there.
const STAGED: &str = "ocinitrd-installed.json";

/// What went into an initrd.
#[derive(Clone, Debug, Serialize)]
pub struct Installed {
    /// The kernel, as `uname -r` prints it.
    pub kernel_version: String,
    /// The initrd as a whole.
    pub sha256: Digest,
    /// The directory of the base.
    pub base: PathBuf,
    /// The base's segment.
    pub base_sha256: Digest,
    /// The names of the kernel modules.
    pub modules: Vec<String>,
    /// Those that went in for what may come, with what that is: a line each.
    pub for_what_may_come: Vec<String>,
    /// The files of the machine, secrets by their names only.
    pub files: Vec<LocalFile>,
}

impl Installed {
    /// Writes it beside the initrd, in kernel-install's staging area, until that is in its place.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn stage(&self, staging_area: &Path) -> Result<()> {
        let path = staging_area.join(STAGED);
        let mut text = serde_json::to_vec_pretty(self).context("writing what went into the initrd as JSON")?;
        text.push(b'\n');
        write(&path, &text)
    }
}

fn write(path: &Path, text: &[u8]) -> Result<()> {
    let mut output = OutputFile::create(path, MODE_PRIVATE)?;
    output.write_all(text).with_context(|| format!("writing {}", path.display()))?;
    output.commit()
}

/// Puts the record of an initrd that is in its place by now where records are, if one is staged. An earlier one of the entry goes
/// in any case: its initrd is not there any more.
///
/// # Errors
/// Fails when it cannot be written.
pub fn place_record(root: &Path, staging_area: &Path, entry_token: &str, kernel_version: &str) -> Result<()> {
    let staged = staging_area.join(STAGED);
    if !staged.exists() {
        return Ok(());
    }
    let placed = move_record(root, &staged, entry_token, kernel_version);
    if placed.is_err() {
        remove_record(root, entry_token, kernel_version)?;
    }
    placed
}

fn move_record(root: &Path, staged: &Path, entry_token: &str, kernel_version: &str) -> Result<()> {
    let text = regular_file::read(staged, TEXT_LIMIT_BYTES).with_context(|| format!("reading {}", staged.display()))?;
    let path = path(root, entry_token, kernel_version)?;
    let directory = path.parent().context("a record is in a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    write(&path, &text)?;
    fs::remove_file(staged).with_context(|| format!("removing {}", staged.display()))
}

/// Forgets what is staged, where another initrd than that takes the place.
///
/// # Errors
/// Fails when it cannot be removed.
pub fn forget_staged_record(staging_area: &Path) -> Result<()> {
    remove(&staging_area.join(STAGED))
}

/// What a record says of the initrd as a whole.
#[derive(Deserialize)]
struct Whole {
    sha256: Digest,
}

/// Whether a file is the initrd that an entry's record is of; nothing where there is no record. A damaged record is of no initrd: it
/// must not keep a kernel from being installed.
///
/// # Errors
/// Fails when the record or the file is there and cannot be opened or read.
pub fn is_recorded(root: &Path, entry_token: &str, kernel_version: &str, initrd: &Path) -> Result<Option<bool>> {
    let path = path(root, entry_token, kernel_version)?;
    let reading = || format!("reading {}", path.display());
    let json = match regular_file::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.and_then(|file| regular_file::read_all(file, TEXT_LIMIT_BYTES)).with_context(reading)?,
    };
    let Ok(Whole { sha256 }) = serde_json::from_slice(&json) else { return Ok(Some(false)) };
    let reading = || format!("reading {}", initrd.display());
    match regular_file::open(initrd) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(false)),
        file => Ok(Some(Digest::of_reader(file.with_context(reading)?).with_context(reading)?.0 == sha256)),
    }
}

/// Removes that of an entry, if there is one.
///
/// # Errors
/// Fails when it cannot be removed.
pub fn remove_record(root: &Path, entry_token: &str, kernel_version: &str) -> Result<()> {
    remove(&path(root, entry_token, kernel_version)?)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Err(error),
        _ => Ok(()),
    }
    .with_context(|| format!("removing {}", path.display()))
}

/// Entries are called by a token and the kernel; an entry of the same kernel for a trial has another token.
fn path(root: &Path, entry_token: &str, kernel_version: &str) -> Result<PathBuf> {
    kernel_version.parse::<KernelVersion>()?;
    let token = entry_token.replace('/', "_");
    let name =
        if token.is_empty() { format!("{kernel_version}.json") } else { format!("{token}-{kernel_version}.json") };
    let directory = links::place(root, Path::new(PLACE)).context("looking for the records of initrds")?;
    Ok(directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(modules: &[&str]) -> Installed {
        Installed {
            kernel_version: "6.1".to_owned(),
            sha256: Digest::of(b"initrd"),
            base: "/base".into(),
            base_sha256: Digest::of(b"base"),
            modules: modules.iter().map(|name| (*name).to_owned()).collect(),
            for_what_may_come: Vec::new(),
            files: Vec::new(),
        }
    }

    #[test]
    fn a_record_takes_the_place_of_an_earlier_one_when_its_initrd_does_and_goes() {
        let (root, staging) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let place = root.path().join(PLACE);
        let text = || fs::read_to_string(place.join("a-6.1.json")).unwrap();
        let put = |token: &str| place_record(root.path(), staging.path(), token, "6.1").unwrap();
        remove_record(root.path(), "a", "6.1").unwrap();
        put("a");
        assert!(!place.exists(), "nothing is staged");
        record(&["ahci"]).stage(staging.path()).unwrap();
        put("a");
        record(&["nvme"]).stage(staging.path()).unwrap();
        assert!(text().contains("ahci"), "the other initrd is not in its place");
        put("a");
        put("a");
        assert!(text().contains("nvme") && !text().contains("ahci") && text().ends_with("}\n"), "{}", text());
        record(&[]).stage(staging.path()).unwrap();
        put("trial/x");
        record(&["lost"]).stage(staging.path()).unwrap();
        forget_staged_record(staging.path()).unwrap();
        put("a");
        assert!(text().contains("nvme"));
        remove_record(root.path(), "a", "6.1").unwrap();
        let names: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["trial_x-6.1.json"]);
        assert!(remove_record(root.path(), "a", "../6.1").is_err());
    }

    #[test]
    fn a_record_that_cannot_be_written_leaves_none_of_an_initrd_that_is_gone() {
        let (root, staging) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        record(&["ahci"]).stage(staging.path()).unwrap();
        place_record(root.path(), staging.path(), "a", "6.1").unwrap();
        fs::create_dir(staging.path().join(STAGED)).unwrap();
        let error = format!("{:#}", place_record(root.path(), staging.path(), "a", "6.1").unwrap_err());
        assert!(error.contains(STAGED), "{error}");
        assert_eq!(fs::read_dir(root.path().join(PLACE)).unwrap().count(), 0);
    }

    #[test]
    fn a_record_knows_its_initrd() {
        let root = tempfile::tempdir().unwrap();
        let initrd = root.path().join("initrd");
        let known = || is_recorded(root.path(), "", "6.1", &initrd).unwrap();
        assert_eq!(known(), None);
        let staging = tempfile::tempdir().unwrap();
        record(&[]).stage(staging.path()).unwrap();
        place_record(root.path(), staging.path(), "", "6.1").unwrap();
        assert_eq!(known(), Some(false), "it is not there");
        fs::write(&initrd, "initrd").unwrap();
        assert_eq!(known(), Some(true));
        fs::write(&initrd, "another").unwrap();
        assert_eq!(known(), Some(false));
        fs::write(root.path().join(PLACE).join("6.1.json"), "{").unwrap();
        assert_eq!(known(), Some(false), "it is damaged");
    }
}
