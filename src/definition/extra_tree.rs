//! Extra trees: directories of a definition whose files are laid over the installed tree.
//!
//! Enters: a directory of this host. Leaves: its members in byte order of their paths, and a digest of all they say. Of
//! the modes only whether a file is executable counts, as in git: the rest depends on the umask of who checked it out.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use ocinitrd_format::digest::Digest;
use ocinitrd_support::regular_file;

/// One file, directory or symlink of an extra tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// The path below the tree.
    pub path: PathBuf,
    /// The permission bits that it is to have.
    pub mode: u32,
    /// What it is.
    pub content: Content,
}

/// What a member is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// A directory.
    Directory,
    /// A regular file, and where it lies on this host.
    File(PathBuf),
    /// A symlink and its target.
    Symlink(PathBuf),
}

/// Reads what lies below the directory `tree`.
///
/// # Errors
/// Fails when the directory cannot be read or holds anything but files, directories and symlinks.
pub fn read(tree: &Path) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    walk(Path::new(""), tree, &mut members)?;
    Ok(members)
}

/// A digest of paths, executable bits, contents and targets.
///
/// # Errors
/// As [`read`]; and when a file cannot be read.
pub fn digest(tree: &Path) -> Result<Digest> {
    let members = read(tree)?.iter().map(describe).collect::<Result<Vec<_>>>()?;
    Ok(Digest::of(json!(members).to_string().as_bytes()))
}

fn describe(member: &Member) -> Result<serde_json::Value> {
    let (kind, content) = match &member.content {
        Content::Directory => ("directory", Vec::new()),
        Content::Symlink(target) => ("symlink", target.as_os_str().as_bytes().to_vec()),
        Content::File(path) => {
            let opened = regular_file::open(path).and_then(Digest::of_reader);
            let (digest, _) = opened.with_context(|| format!("reading {}", path.display()))?;
            ("file", digest.to_string().into_bytes())
        }
    };
    Ok(json!([member.path.as_os_str().as_bytes(), member.mode, kind, content]))
}

fn walk(path: &Path, directory: &Path, members: &mut Vec<Member>) -> Result<()> {
    let reading = || format!("reading the extra tree {}", directory.display());
    let mut entries =
        fs::read_dir(directory).with_context(reading)?.collect::<io::Result<Vec<_>>>().with_context(reading)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = path.join(entry.file_name());
        let metadata = entry.metadata().with_context(reading)?;
        if metadata.is_dir() {
            members.push(Member { path: path.clone(), mode: 0o755, content: Content::Directory });
            walk(&path, &entry.path(), members)?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(entry.path()).with_context(reading)?;
            members.push(Member { path, mode: 0o777, content: Content::Symlink(target) });
        } else if metadata.is_file() {
            let mode = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            members.push(Member { path, mode, content: Content::File(entry.path()) });
        } else {
            bail!("{} is no file, directory or symlink: an extra tree cannot hold it", entry.path().display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        fs::create_dir(directory.path().join("etc")).unwrap();
        write("etc/run", "x", 0o700);
        write("etc/rules", "y", 0o600);
        std::os::unix::fs::symlink("run", directory.path().join("etc/link")).unwrap();
        directory
    }

    #[test]
    fn modes_are_gits_whatever_the_umask() {
        let listing: Vec<(String, u32)> = read(tree().path())
            .unwrap()
            .into_iter()
            .map(|member| (member.path.display().to_string(), member.mode))
            .collect();
        let expected = [("etc", 0o755), ("etc/link", 0o777), ("etc/rules", 0o644), ("etc/run", 0o755)];
        assert_eq!(listing, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }

    #[test]
    fn digest_is_of_what_counts_and_of_nothing_else() {
        let (one, other) = (tree(), tree());
        assert_eq!(digest(one.path()).unwrap(), digest(other.path()).unwrap());
        let changes: [&dyn Fn(&Path); 4] = [
            &|tree| fs::write(tree.join("etc/run"), "z").unwrap(),
            &|tree| fs::rename(tree.join("etc/run"), tree.join("etc/ran")).unwrap(),
            &|tree| fs::set_permissions(tree.join("etc/run"), fs::Permissions::from_mode(0o644)).unwrap(),
            &|tree| {
                fs::remove_file(tree.join("etc/link")).unwrap();
                std::os::unix::fs::symlink("rules", tree.join("etc/link")).unwrap();
            },
        ];
        for change in changes {
            let changed = tree();
            change(changed.path());
            assert_ne!(digest(one.path()).unwrap(), digest(changed.path()).unwrap());
        }
    }

    #[test]
    fn what_is_neither_file_directory_nor_symlink_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = read(directory.path()).unwrap_err().to_string();
        assert!(error.contains("socket is no file, directory or symlink"), "{error}");
    }
}
