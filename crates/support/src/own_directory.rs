//! Directories that nobody but this user can put anything into.
//!
//! In: a path. Out: nothing but the certainty that neither the directory nor the way to it is in the hands of somebody else, or
//! an error that names the directory which is. Whoever may write to a directory can replace what is in it, so the owner and
//! the mode of every directory on the way count, and the owner of every symlink. Trusted are this user, root, and the owner of
//! `/`: in a user namespace root may have no other name than that of all who are unknown there.
//!
//! Below such a directory paths may be used as they are: nobody can put a symlink there meanwhile.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::private_group::others_may_write;

/// The mode of directories that only their owner may look into.
pub const MODE: u32 = 0o700;
const OTHERS_MAY_ENTER: u32 = 0o011;
const STICKY: u32 = 0o1000;
/// As many as the kernel follows in one path.
const MOST_SYMLINKS: usize = 40;

/// Checks a directory that must be this user's own, and changes nothing.
///
/// # Errors
/// Fails when it is missing, and when it or a directory above it is in the hands of somebody else.
pub fn check_own(path: &Path) -> io::Result<()> {
    Way::begin(path)?.follow_to_own(false).map(drop)
}

/// Takes a directory into use that must be this user's own. Missing directories are made, with mode 0700. Where others may look
/// into it, that is taken from them; where they may write to it, it is refused.
///
/// # Errors
/// Fails when it cannot be made, and when it or a directory above it is in the hands of somebody else.
pub fn open(path: &Path) -> io::Result<()> {
    close(&Way::begin(path)?.follow_to_own(true)?)
}

/// Checks a directory in which things lie under known names that this user trusts. It may be root's.
///
/// # Errors
/// Fails when it is missing, and when it or a directory above it is in the hands of somebody else.
pub fn check(path: &Path) -> io::Result<()> {
    let mut way = Way::begin(path)?;
    way.follow(false)?;
    let found = fs::symlink_metadata(&way.here)?;
    way.check_trusted(&way.here, &found)?;
    if way.is_out_of_reach() { Ok(()) } else { check_writers(&way.here, &found) }
}

/// Checks a directory in which this user makes files and directories with names that nobody can foretell. It may be one for
/// everybody, such as `/tmp`, if everybody's files are safe from the others there.
///
/// # Errors
/// Fails when it is missing, and when it or a directory above it is in the hands of somebody else.
pub fn check_shared(path: &Path) -> io::Result<()> {
    let mut way = Way::begin(path)?;
    way.follow(false)?;
    way.check_passage()
}

/// Takes from others the right to look into the directory, which is no symlink.
fn close(directory: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty())?;
    let found = rustix::fs::fstat(&opened)?;
    if found.st_uid != rustix::process::geteuid().as_raw() {
        return Err(refuse(directory, "somebody else has replaced it"));
    }
    let mode = found.st_mode & 0o7777;
    if mode & 0o777 == MODE {
        return Ok(());
    }
    rustix::fs::fchmod(&opened, Mode::from_raw_mode(mode & 0o7000 | MODE))?;
    Ok(())
}

/// Whether a directory was refused because of somebody else, and the reason is no other.
pub fn is_refusal(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Refusal>())
}

#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

fn refuse(path: &Path, reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, Refusal(format!("{}: {reason}", path.display())))
}

/// A path that is followed directory by directory.
struct Way {
    user: u32,
    /// Whose `/` is.
    root_owner: u32,
    /// Where it has led to: a path without symlinks.
    here: PathBuf,
    /// What is still to be followed, the next one last.
    rest: Vec<OsString>,
    /// The directory above everything from which on nobody else comes any further.
    closed: Option<PathBuf>,
    symlinks: usize,
}

impl Way {
    fn begin(path: &Path) -> io::Result<Self> {
        let mut way = Way {
            user: rustix::process::geteuid().as_raw(),
            root_owner: fs::symlink_metadata("/")?.uid(),
            here: PathBuf::from("/"),
            rest: Vec::new(),
            closed: None,
            symlinks: 0,
        };
        way.push(&std::path::absolute(path)?);
        Ok(way)
    }

    fn push(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::RootDir => self.here = PathBuf::from("/"),
                Component::ParentDir | Component::Normal(_) => self.rest.push(component.as_os_str().to_owned()),
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }

    /// Goes to the end; missing directories are made if `make` says so.
    fn follow(&mut self, make: bool) -> io::Result<()> {
        while let Some(name) = self.rest.pop() {
            self.check_passage()?;
            self.step(&name, make)?;
        }
        Ok(())
    }

    /// Goes to the end, which must be this user's own. Returns where that is.
    fn follow_to_own(mut self, make: bool) -> io::Result<PathBuf> {
        self.follow(make)?;
        let found = fs::symlink_metadata(&self.here)?;
        if found.uid() != self.user {
            return Err(refuse(&self.here, &of_somebody_else(found.uid(), self.user)));
        }
        if !self.is_out_of_reach() {
            check_writers(&self.here, &found)?;
        }
        Ok(self.here)
    }

    fn step(&mut self, name: &OsString, make: bool) -> io::Result<()> {
        if name == ".." {
            self.here.pop();
            return Ok(());
        }
        let next = self.here.join(name);
        let found = match fs::symlink_metadata(&next) {
            Err(error) if make && error.kind() == io::ErrorKind::NotFound => make_directory(&next)?,
            found => found.map_err(|error| with_path(&next, &error))?,
        };
        self.check_trusted(&next, &found)?;
        if found.is_symlink() {
            self.symlinks += 1;
            if self.symlinks > MOST_SYMLINKS {
                return Err(rustix::io::Errno::LOOP.into());
            }
            self.push(&fs::read_link(&next)?);
        } else if found.is_dir() {
            self.here = next;
        } else {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is no directory", next.display())));
        }
        Ok(())
    }

    /// Whether what lies in the directory reached is safe from everybody who is not trusted.
    fn check_passage(&mut self) -> io::Result<()> {
        if self.is_out_of_reach() {
            return Ok(());
        }
        let found = fs::symlink_metadata(&self.here)?;
        self.check_trusted(&self.here, &found)?;
        if found.mode() & STICKY == 0 {
            check_writers(&self.here, &found)?;
        }
        if found.uid() == self.user && found.mode() & OTHERS_MAY_ENTER == 0 {
            self.closed = Some(self.here.clone());
        }
        Ok(())
    }

    /// Whether the directory reached lies below one that nobody else can enter.
    fn is_out_of_reach(&self) -> bool {
        self.closed.as_deref().is_some_and(|closed| self.here != closed && self.here.starts_with(closed))
    }

    fn check_trusted(&self, path: &Path, found: &Metadata) -> io::Result<()> {
        if [self.user, 0, self.root_owner].contains(&found.uid()) {
            return Ok(());
        }
        Err(refuse(path, &of_somebody_else(found.uid(), self.user)))
    }
}

fn make_directory(path: &Path) -> io::Result<Metadata> {
    match DirBuilder::new().mode(MODE).create(path) {
        // Another process of ours may have been quicker; what is there is looked at all the same.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(with_path(path, &error)),
        _ => fs::symlink_metadata(path),
    }
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn of_somebody_else(owner: u32, user: u32) -> String {
    format!("it belongs to the user {owner}, and this is the user {user}")
}

fn check_writers(path: &Path, found: &Metadata) -> io::Result<()> {
    if !others_may_write(path, found) {
        return Ok(());
    }
    let mode = found.mode() & 0o7777;
    Err(refuse(path, &format!("other users may write to it (mode {mode:04o}; `chmod go-w` takes that from them)")))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn make(path: &Path, mode: u32) {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// A directory that others may enter: below one that is closed to them nothing would be refused.
    fn entered() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        directory
    }

    #[test]
    fn missing_directories_are_made_for_this_user_alone_and_others_are_shut_out_of_an_old_one() {
        let base = entered();
        let path = base.path().join("a/b/c");
        open(&path).unwrap();
        for made in path.ancestors().take(3) {
            assert_eq!(mode(made), 0o700, "{}", made.display());
        }
        let old = base.path().join("old");
        make(&old, 0o755);
        open(&old).unwrap();
        assert_eq!(mode(&old), 0o700);
    }

    #[test]
    fn what_others_may_write_is_refused_and_so_is_what_lies_below_it() {
        // Whether a group counts as others depends on the host: tests that run as root have groups for it.
        for writable in [0o757, 0o777] {
            let base = entered();
            let (shared, below) = (base.path().join("shared"), base.path().join("shared/own"));
            make(&shared, writable);
            make(&below, 0o700);
            for path in [&shared, &below, &below.join("new")] {
                let message = open(path).unwrap_err().to_string();
                let expected =
                    format!("{}: other users may write to it (mode {writable:04o}; `chmod go-w`", shared.display());
                assert!(message.starts_with(&expected), "{message}");
            }
            assert_eq!((mode(&shared), fs::read_dir(&below).unwrap().count()), (writable, 0), "nothing was changed");
            let link = base.path().join("link");
            symlink(&below, &link).unwrap();
            open(&link).unwrap_err();
            check_shared(&shared).unwrap_err();
        }
    }

    #[test]
    fn below_a_sticky_directory_is_room_for_an_own_one_but_it_is_none_itself() {
        let base = entered();
        let (sticky, own) = (base.path().join("sticky"), base.path().join("sticky/own"));
        make(&sticky, 0o1777);
        check_shared(&sticky).unwrap();
        check(&sticky).unwrap_err();
        open(&own).unwrap();
        check(&own).unwrap();
        assert_eq!(mode(&own), 0o700);
        assert!(is_refusal(&open(&sticky).unwrap_err()));
    }

    #[test]
    fn nobody_can_write_where_nobody_can_come() {
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), Permissions::from_mode(0o700)).unwrap();
        let (shared, own) = (base.path().join("shared"), base.path().join("shared/own"));
        make(&shared, 0o775);
        make(&own, 0o775);
        open(&own).unwrap();
        assert_eq!((mode(&shared), mode(&own)), (0o775, 0o700));
        // A way that leaves it again is in the open.
        let outside = entered();
        make(&outside.path().join("shared"), 0o777);
        symlink(outside.path().join("shared"), base.path().join("out")).unwrap();
        open(&base.path().join("out/new")).unwrap_err();
    }

    #[test]
    fn symlinks_are_followed_to_their_end_and_a_circle_is_none() {
        let base = entered();
        make(&base.path().join("real"), 0o755);
        symlink("real/../real", base.path().join("link")).unwrap();
        open(&base.path().join("link/new")).unwrap();
        assert_eq!(mode(&base.path().join("real/new")), 0o700);
        symlink("circle", base.path().join("circle")).unwrap();
        open(&base.path().join("circle")).unwrap_err();
        fs::write(base.path().join("file"), "").unwrap();
        let error = open(&base.path().join("file/x")).unwrap_err();
        assert!(error.kind() == io::ErrorKind::NotADirectory && !is_refusal(&error), "{error}");
    }
}
