//! Where symlinks of a machine lead whose root is mounted somewhere: absolute ones begin at that root, and none leads out of it.
//! Whoever reads below a `--root` asks here: the running system would follow an absolute symlink to its own file.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many symlinks as Linux follows in one path (path_resolution(7)).
const MOST_SYMLINKS: usize = 40;

/// A symlink to it hides a file of the same name that another directory has.
const NOTHING: &str = "dev/null";

/// What following a path comes to; paths are those below the root.
enum End {
    /// Something is there.
    Found(PathBuf),
    /// Nothing is there: where it would be, with all symlinks on the way followed.
    Missing(PathBuf),
    /// Symlinks run in a circle.
    Circle,
}

/// Where a path of the machine leads when all symlinks are followed: a path below its root. Nothing if that is not there, or if
/// symlinks run in a circle.
///
/// # Errors
/// Fails when a symlink or a directory on the way cannot be read.
pub fn resolve(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    match walk(root, path)? {
        End::Found(end) => Ok(Some(end)),
        End::Missing(_) | End::Circle => Ok(None),
    }
}

/// The same as a path of this system, without a symlink in it: what opens it stays below the root. What is not there has the path
/// at which it would be.
///
/// # Errors
/// As [`resolve`], and when symlinks run in a circle.
pub fn place(root: &Path, path: &Path) -> io::Result<PathBuf> {
    match walk(root, path)? {
        End::Found(end) | End::Missing(end) => Ok(root.join(end)),
        End::Circle => Err(rustix::io::Errno::LOOP.into()),
    }
}

/// The path of this system at which an entry of a directory is, be it a symlink itself: those on the way are followed.
///
/// # Errors
/// As [`place`].
pub fn entry(root: &Path, path: &Path) -> io::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(place(root, parent)?.join(name)),
        _ => place(root, path),
    }
}

/// Whether a path of the machine leads to `/dev/null`, which need not be there.
pub fn is_nothing(root: &Path, path: &Path) -> bool {
    place(root, path).is_ok_and(|end| end == root.join(NOTHING))
}

/// Whether a path of the machine leads to anything that is there.
pub fn exists(root: &Path, path: &Path) -> bool {
    place(root, path).is_ok_and(|end| end.exists())
}

/// Whether a path of the machine leads to a file.
pub fn is_file(root: &Path, path: &Path) -> bool {
    place(root, path).is_ok_and(|end| end.is_file())
}

fn walk(root: &Path, path: &Path) -> io::Result<End> {
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
                return Ok(End::Missing(ahead.into_iter().rev().fold(next, |path, name| path.join(name))));
            }
            found => found?,
        };
        if !metadata.is_symlink() {
            reached = next;
            continue;
        }
        followed += 1;
        if followed > MOST_SYMLINKS {
            return Ok(End::Circle);
        }
        let target = fs::read_link(root.join(&next))?;
        if target.is_absolute() {
            reached = PathBuf::new();
        }
        push(&mut ahead, &target);
    }
    Ok(End::Found(reached))
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
    use std::os::unix::fs::symlink;

    use super::*;

    /// A root directory.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            Machine(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn add(&self, path: &str) -> PathBuf {
            let path = self.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        }

        fn write(&self, path: &str, text: &str) -> &Self {
            fs::write(self.add(path), text).unwrap();
            self
        }

        fn link(&self, path: &str, target: &str) -> &Self {
            symlink(target, self.add(path)).unwrap();
            self
        }
    }

    #[test]
    fn absolute_links_begin_at_the_machine_s_root_and_none_leads_out() {
        let root = Machine::new();
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

    #[test]
    fn what_is_opened_lies_below_the_root_even_where_nothing_is() {
        let root = Machine::new();
        // What a link of the machine names is there on the system that runs this.
        root.link("etc/passwd", "/etc/hosts").link("etc/out", "../../../proc/self/status").write("usr/a", "a");
        root.link("etc/null", "/dev/null").link("etc/again", "null").link("round", "/about").link("about", "/round");
        let at = |path: &str| place(root.path(), Path::new(path)).unwrap();
        assert_eq!(at("/etc/passwd"), root.path().join("etc/hosts"));
        assert_eq!(at("/etc/out"), root.path().join("proc/self/status"));
        assert_eq!(at("/usr/a"), root.path().join("usr/a"));
        assert_eq!(entry(root.path(), Path::new("/etc/passwd")).unwrap(), root.path().join("etc/passwd"));
        assert!(place(root.path(), Path::new("round")).is_err());
        let is_nothing = |path: &str| is_nothing(root.path(), Path::new(path));
        assert!(
            is_nothing("/etc/null") && is_nothing("etc/again") && !is_nothing("usr/a") && !is_nothing("etc/passwd")
        );
    }
}
