//! Files that grow while somebody looks at them: they have their names from the start.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// How often the name of a log is made free that somebody else takes at the same time.
const ATTEMPTS: u32 = 10;

/// A directory for logs. It is held open, so that nothing which takes its place later changes where the logs are.
#[derive(Debug)]
pub struct LogDirectory {
    path: PathBuf,
    directory: OwnedFd,
}

impl LogDirectory {
    /// Opens the directory at `path`, which is made with mode 0700 if it is missing.
    ///
    /// # Errors
    /// Fails when it cannot be made or is a symlink. It may be somebody else's: who owns it can remove logs, and neither read them
    /// nor say where they go.
    pub fn open(path: &Path) -> Result<Self> {
        let opening = || format!("opening the directory {} for logs", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(opening)?;
        }
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).with_context(opening),
        }
        if fs::symlink_metadata(path).with_context(opening)?.is_symlink() {
            bail!("{}: it is a symlink; remove it, or choose another directory with --log-dir", opening());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).with_context(opening)?;
        Ok(LogDirectory { path: path.to_owned(), directory })
    }

    /// Where the log `name` is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Begins the log `name` with an empty file that only this user reads. Whatever has the name goes, be it a symlink: nothing
    /// is written through it.
    ///
    /// # Errors
    /// Fails when a directory has the name, and when the file cannot be made.
    pub fn create(&self, name: &str) -> Result<File> {
        let creating = || format!("creating {}", self.path(name).display());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..ATTEMPTS {
            match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error).with_context(creating),
            }
            match rustix::fs::openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR) {
                Err(Errno::EXIST) => {}
                file => return Ok(File::from(file.with_context(creating)?)),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists)).with_context(creating)
    }

    /// Gives a log another name.
    ///
    /// # Errors
    /// Fails when the file system does.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        rustix::fs::renameat(&self.directory, from, &self.directory, to)
            .with_context(|| format!("renaming {} to {to}", self.path(from).display()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_log_is_written_through_nothing_that_has_its_name() {
        let base = tempfile::tempdir().unwrap();
        let (victim, logs) = (base.path().join("victim"), base.path().join("out/boot"));
        fs::write(&victim, "precious").unwrap();
        fs::create_dir_all(&logs).unwrap();
        symlink(&victim, logs.join("a.log")).unwrap();
        fs::hard_link(&victim, logs.join("b.log")).unwrap();
        let directory = LogDirectory::open(&logs).unwrap();
        for name in ["a.log", "b.log", "c.log"] {
            directory.create(name).unwrap().write_all(b"console").unwrap();
            let found = fs::symlink_metadata(logs.join(name)).unwrap();
            assert!(found.is_file() && found.mode() & 0o777 == 0o600, "{name}");
            assert_eq!(fs::read(directory.path(name)).unwrap(), b"console");
        }
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        fs::create_dir(logs.join("d.log")).unwrap();
        assert!(directory.create("d.log").is_err());
        directory.rename("a.log", "b.log").unwrap();
        assert!(!logs.join("a.log").exists());
    }

    #[test]
    fn the_directory_is_no_symlink_and_stays_the_one_that_was_opened() {
        let base = tempfile::tempdir().unwrap();
        let (elsewhere, logs) = (base.path().join("elsewhere"), base.path().join("boot"));
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, &logs).unwrap();
        let message = LogDirectory::open(&logs).unwrap_err().to_string();
        assert!(message.contains("it is a symlink") && message.contains("--log-dir"), "{message}");
        fs::remove_file(&logs).unwrap();
        let directory = LogDirectory::open(&logs).unwrap();
        assert_eq!(fs::metadata(&logs).unwrap().mode() & 0o777, 0o700);
        fs::rename(&logs, base.path().join("moved")).unwrap();
        symlink(&elsewhere, &logs).unwrap();
        directory.create("a.log").unwrap();
        assert!(base.path().join("moved/a.log").exists() && !elsewhere.join("a.log").exists());
    }
}
