//! What went into the initrd of a kernel's entry: a file of JSON on the machine, which goes when the entry does.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::LocalFile;
use crate::format::digest::Digest;
use crate::names::KernelVersion;
use crate::output::{MODE_PRIVATE, OutputFile};

/// Where they are.
const PLACE: &str = "var/lib/ocinitrd/installed";

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
    /// The files of the machine, secrets by their names only.
    pub files: Vec<LocalFile>,
}

impl Installed {
    /// Writes it in the place of an earlier one of the same entry.
    ///
    /// # Errors
    /// Fails when it cannot be written; an earlier one stays.
    pub fn write(&self, root: &Path, entry_token: &str) -> Result<()> {
        let path = path(root, entry_token, &self.kernel_version)?;
        let directory = path.parent().context("a record is in a directory")?;
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        let mut output = OutputFile::create(&path, MODE_PRIVATE)?;
        let writing = || format!("writing {}", path.display());
        serde_json::to_writer_pretty(&mut output, self).with_context(writing)?;
        output.write_all(b"\n").with_context(writing)?;
        output.commit()
    }
}

/// Removes that of an entry, if there is one.
///
/// # Errors
/// Fails when it cannot be removed.
pub fn remove_record(root: &Path, entry_token: &str, kernel_version: &str) -> Result<()> {
    let path = path(root, entry_token, kernel_version)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
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
    Ok(root.join(PLACE).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_the_place_of_an_earlier_one_and_goes() {
        let root = tempfile::tempdir().unwrap();
        let record = |modules: &[&str]| Installed {
            kernel_version: "6.1".to_owned(),
            sha256: Digest::of(b"initrd"),
            base: "/base".into(),
            base_sha256: Digest::of(b"base"),
            modules: modules.iter().map(|name| (*name).to_owned()).collect(),
            files: Vec::new(),
        };
        remove_record(root.path(), "a", "6.1").unwrap();
        record(&["ahci"]).write(root.path(), "a").unwrap();
        record(&["nvme"]).write(root.path(), "a").unwrap();
        record(&[]).write(root.path(), "trial/x").unwrap();
        let place = root.path().join(PLACE);
        let text = fs::read_to_string(place.join("a-6.1.json")).unwrap();
        assert!(text.contains("nvme") && !text.contains("ahci") && text.ends_with("}\n"), "{text}");
        remove_record(root.path(), "a", "6.1").unwrap();
        let names: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["trial_x-6.1.json"]);
        assert!(remove_record(root.path(), "a", "../6.1").is_err());
    }
}
