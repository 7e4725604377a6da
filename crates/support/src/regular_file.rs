//! Opens and reads files that somebody else may have put there.
//!
//! A FIFO would block whoever opens it, a device has no end: only regular files are opened, without blocking, and what is read
//! into memory has a limit. Symlinks are followed unless a function says otherwise.

use std::fs::{self, File, FileType, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path};

use rustix::fs::{Access, AtFlags, CWD, FileType as FileKind, Mode, OFlags, access, openat, statat};

/// Enough for any text that a person writes, a manifest or a lock: 16 MiB.
pub const TEXT_LIMIT_BYTES: u64 = 16 << 20;

/// Opens a regular file for reading.
///
/// # Errors
/// Fails as [`File::open`] does, and on anything else than a regular file, which the message names.
pub fn open(path: &Path) -> io::Result<File> {
    // Before it is opened: opening a device can already do something.
    check_type(fs::metadata(path)?.file_type())?;
    open_with(path, OFlags::empty())
}

/// Opens a regular file that belongs to this user or to root, that nobody else may write, and that is not a symlink.
///
/// # Errors
/// As [`open`], and on a symlink or a file of somebody else.
pub fn open_own(path: &Path) -> io::Result<File> {
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return Err(is_symlink());
    }
    check_type(found.file_type())?;
    let file = open_with(path, OFlags::NOFOLLOW).map_err(|error| match rustix::io::Errno::from_io_error(&error) {
        Some(rustix::io::Errno::LOOP) => is_symlink(),
        _ => error,
    })?;
    check_owner(&file.metadata()?)?;
    Ok(file)
}

/// Opens a regular file by its path relative to `directory`. Neither it nor a directory on the way may be a symlink; `directory`
/// itself may. `path` has plain names only.
///
/// # Errors
/// As [`open`], and on a symlink and a path with other parts than names.
pub fn open_below(directory: &Path, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut above = openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = path.components().peekable();
    while let Some(Component::Normal(name)) = names.next() {
        let found = FileKind::from_raw_mode(statat(&above, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
        if found == FileKind::Symlink {
            return Err(is_symlink());
        }
        if names.peek().is_some() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            above = openat(&above, name, flags, Mode::empty())?;
            continue;
        }
        if !matches!(found, FileKind::RegularFile) {
            // Only to say what it is: it must not be opened.
            check_type(fs::symlink_metadata(directory.join(path))?.file_type())?;
        }
        let file = File::from(openat(&above, name, flags, Mode::empty())?);
        // What was looked at may have been replaced.
        check_type(file.metadata()?.file_type())?;
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a path below the directory"))
}

/// The error of who meets a symlink where none may be.
pub fn is_symlink() -> io::Error {
    io::Error::other("it is a symlink")
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = (flags | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    // What was looked at may have been replaced.
    check_type(file.metadata()?.file_type())?;
    Ok(file)
}

/// Opens a file of this user's own for reading and writing, as it is; makes it with mode 0600 if it is missing.
///
/// # Errors
/// As [`open_own`], and when it cannot be made.
pub fn open_for_writing(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    let options = |mut options: fs::OpenOptions| options.read(true).write(true).custom_flags(flags).open(path);
    let mut new = File::options();
    new.create_new(true).mode(0o600);
    match options(new) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return Err(io::Error::other("it is a symlink"));
    }
    check_type(found.file_type())?;
    let file = options(File::options())?;
    let found = file.metadata()?;
    check_type(found.file_type())?;
    check_owner(&found)?;
    Ok(file)
}

/// Reads a regular file of at most `limit_bytes`.
///
/// # Errors
/// As [`open`], and when the file is longer.
pub fn read(path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    read_all(&open(path)?, limit_bytes)
}

/// Reads a regular file of at most `limit_bytes` as text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, limit_bytes: u64) -> io::Result<String> {
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text");
    String::from_utf8(read(path, limit_bytes)?).map_err(not_text)
}

/// Reads the rest of `source`, which may be at most `limit_bytes` long.
///
/// # Errors
/// Fails when it cannot be read or is longer.
pub fn read_all(source: impl Read, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        let message = format!("it has more than {limit_bytes} bytes, the most that is read of such a file");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Whether a file was made read-only, even for root, who could replace it.
///
/// # Errors
/// Fails when it is not there or cannot be looked up.
pub fn is_read_only(path: &Path) -> io::Result<bool> {
    let mode = fs::metadata(path)?.permissions().mode();
    Ok(mode & 0o222 == 0 || access(path, Access::WRITE_OK).is_err())
}

/// Whether what `metadata` is of belongs to this user or to root, and nobody else may write to it.
///
/// # Errors
/// Fails with what is wrong.
pub fn check_owner(metadata: &Metadata) -> io::Result<()> {
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user && metadata.uid() != 0 {
        return Err(io::Error::other(format!("it belongs to the user {}, not to {user}", metadata.uid())));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!("other users may write to it (mode {:04o})", metadata.mode() & 0o7777)));
    }
    Ok(())
}

fn check_type(file_type: FileType) -> io::Result<()> {
    let (kind, what) = match file_type {
        file_type if file_type.is_file() => return Ok(()),
        file_type if file_type.is_dir() => (io::ErrorKind::IsADirectory, "a directory"),
        file_type if file_type.is_fifo() => (io::ErrorKind::InvalidInput, "a FIFO"),
        file_type if file_type.is_socket() => (io::ErrorKind::InvalidInput, "a socket"),
        _ => (io::ErrorKind::InvalidInput, "a device"),
    };
    Err(io::Error::new(kind, format!("it is {what}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn message<T: std::fmt::Debug>(result: io::Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn what_blocks_or_has_no_end_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, what) in [
            (fifo.as_path(), "a FIFO"),
            (&socket, "a socket"),
            (Path::new("/dev/zero"), "a device"),
            (directory.path(), "a directory"),
        ] {
            let expected = format!("it is {what}, not a regular file");
            assert_eq!(message(open(path)), expected);
            let link = directory.path().join("link");
            symlink(path, &link).unwrap();
            assert_eq!(message(read(&link, 10)), expected);
            assert_eq!(message(open_own(&link)), "it is a symlink");
            fs::remove_file(link).unwrap();
        }
    }

    #[test]
    fn what_is_read_has_a_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(message(read(&path, 4)), "it has more than 4 bytes, the most that is read of such a file");
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(message(read_text(&path, 4)), "it is not UTF-8 text");
    }

    #[test]
    fn a_file_that_others_may_write_is_not_taken_for_our_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "").unwrap();
        for mode in [0o600, 0o644, 0o444] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            open_own(&path).unwrap();
        }
        for mode in [0o620, 0o602, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(message(open_own(&path)).starts_with("other users may write to it (mode 06"), "{mode:o}");
        }
    }
}
