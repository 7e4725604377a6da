//! Where symlinks of a machine lead whose root is mounted somewhere: absolute ones begin at that root, and none leads out of it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many symlinks as Linux follows in one path (path_resolution(7)).
const MOST_SYMLINKS: usize = 40;

/// Where a path of the machine leads when all symlinks are followed: a path below its root. Nothing if that is not there, or if
/// symlinks run in a circle.
///
/// # Errors
/// Fails when a symlink or a directory on the way cannot be read.
pub(super) fn resolve(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    let mut ahead: Vec<OsString> = Vec::new();
    push(&mut ahead, path);
    let (mut reached, mut followed) = (PathBuf::new(), 0);
    while let Some(name) = ahead.pop() {
        if name == ".." {
            reached.pop();
            continue;
        }
        let next = reached.join(&name);
        let metadata = match fs::symlink_metadata(root.join(&next)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            found => found?,
        };
        if !metadata.is_symlink() {
            reached = next;
            continue;
        }
        followed += 1;
        if followed > MOST_SYMLINKS {
            return Ok(None);
        }
        let target = fs::read_link(root.join(&next))?;
        if target.is_absolute() {
            reached = PathBuf::new();
        }
        push(&mut ahead, &target);
    }
    Ok(Some(reached))
}

/// Puts the components of a path on a stack, the first on top.
fn push(stack: &mut Vec<OsString>, path: &Path) {
    let components = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        _ => None,
    });
    stack.extend(components.map(OsStr::to_owned));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fixture::Fixture;

    #[test]
    fn absolute_links_begin_at_the_machine_s_root_and_none_leads_out() {
        let root = Fixture::new();
        root.write("srv/m/a.ko", "")
            .link("lib", "/usr/lib")
            .link("usr/lib/x", "/../../srv/./m")
            .link("b", "lib/x/a.ko");
        root.link("round", "about").link("about", "round").link("gone", "/etc/none").link("file", "b/c");
        let leads = |path: &str| resolve(root.path(), Path::new(path)).unwrap();
        assert_eq!(leads("/b").unwrap(), Path::new("srv/m/a.ko"));
        assert_eq!(leads("lib/x").unwrap(), Path::new("srv/m"));
        assert_eq!(leads("/").unwrap(), Path::new(""));
        for path in ["round", "gone", "file", "none"] {
            assert_eq!(leads(path), None, "{path}");
        }
    }
}
