//! Outputs that appear whole or not at all.
//!
//! A file is written beside its target, without a name where the file system can do that (`O_TMPFILE`: whatever ends
//! the process, nothing stays behind), reaches the disk, and then takes the target's place by a rename. A directory is
//! built beside its target and exchanged with it. [`Outputs`] holds back everything that was finished until all is.
//! Only logs ([`LogDirectory`]) grow in their places. Nothing is written through a symlink that has an output's name.

mod commit;
mod log;
mod temporary_registry;

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{AtFlags, CWD, OFlags};

use crate::own_directory;
use commit::{Finished, Temporary};
pub use log::LogDirectory;
use temporary_registry::TemporaryName;
pub use temporary_registry::abandon;

/// Its bytes hold secrets of a host or are its boot code: an initrd is for root's eyes.
pub const MODE_PRIVATE: u32 = 0o600;
/// For what everyone may read.
pub const MODE_PUBLIC: u32 = 0o644;

/// A file being written, not yet at its target.
pub struct OutputFile {
    target: PathBuf,
    file: File,
    /// Its name until it takes the target's place; none with `O_TMPFILE`.
    name: Option<TemporaryName>,
}

impl OutputFile {
    /// Begins the output at `target` with permission bits `mode`, whatever the umask.
    ///
    /// # Errors
    /// Fails when the directory is missing or not writable, or when something else than a regular file is at `target`.
    pub fn create(target: &Path, mode: u32) -> Result<Self> {
        check_replaceable(target)?;
        let directory = directory_of(target);
        let (file, name) = open_beside(directory, target).map_err(|error| cannot_create(target, error))?;
        file.set_permissions(Permissions::from_mode(mode)).with_context(|| format!("creating {}", target.display()))?;
        Ok(OutputFile { target: target.to_owned(), file, name })
    }

    /// Begins the successor of the regular file at `target`, with its mode, owner and group.
    ///
    /// # Errors
    /// As [`OutputFile::create`]; and when there is no such file, or its owner cannot be given to another file.
    pub fn in_place_of(target: &Path) -> Result<Self> {
        let earlier = fs::metadata(target).with_context(|| format!("reading the mode of {}", target.display()))?;
        let output = OutputFile::create(target, earlier.permissions().mode() & 0o7777)?;
        let owner = (earlier.uid(), earlier.gid());
        output.set_owner(owner).with_context(|| format!("giving {} the owner that it has", target.display()))?;
        Ok(output)
    }

    /// Gives it an owner and a group, and the time of its last change, for what is put back. Nothing is written to it afterwards.
    ///
    /// # Errors
    /// Fails when the owner cannot be given to a file, or the time cannot be set.
    pub fn set_owner_and_time(&self, owner: (u32, u32), modified: SystemTime) -> Result<()> {
        let setting = || format!("giving {} the owner and the time that it had", self.target.display());
        self.set_owner(owner).with_context(setting)?;
        self.file.set_modified(modified).with_context(setting)
    }

    /// Gives it an owner and a group, if they are others. It keeps its mode.
    fn set_owner(&self, (uid, gid): (u32, u32)) -> io::Result<()> {
        let own = self.file.metadata()?;
        if (own.uid(), own.gid()) == (uid, gid) {
            return Ok(());
        }
        fchown(&self.file, Some(uid), Some(gid))?;
        // The kernel takes the bits of set-user-ID programs from what changes hands.
        self.file.set_permissions(own.permissions())
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Appends the rest of `source`, sharing its blocks where the file system can.
    ///
    /// # Errors
    /// Fails when `source` cannot be read or the output not be written.
    pub fn copy_from(&mut self, source: &mut File) -> io::Result<u64> {
        // Between two files the standard library lets the kernel copy (copy_file_range).
        io::copy(source, &mut self.file).map_err(|error| cannot_write(&self.target, &error))
    }

    /// What the file system says of it.
    ///
    /// # Errors
    /// Fails when it says nothing.
    pub fn metadata(&self) -> io::Result<fs::Metadata> {
        self.file.metadata()
    }

    /// Sets the time of its last change, which further writing changes again.
    ///
    /// # Errors
    /// Fails when the file system cannot.
    pub fn set_modified(&self, time: SystemTime) -> Result<()> {
        self.file.set_modified(time).with_context(|| format!("setting the time of {}", self.target.display()))
    }

    /// How much was written, in bytes.
    ///
    /// # Errors
    /// Fails when the file system cannot say it.
    pub fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Brings to the disk what was written so far, so that less is left to do at the end.
    ///
    /// # Errors
    /// Fails when the disk is full or fails.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all().map_err(|error| cannot_write(&self.target, &error))
    }

    /// Brings all bytes to the disk and moves the file to its target, where it is the only output.
    ///
    /// # Errors
    /// As [`Outputs::add_file`] and [`Outputs::commit`].
    pub fn commit(self) -> Result<()> {
        let mut outputs = Outputs::new();
        outputs.add_file(self)?;
        outputs.commit().map(drop)
    }

    /// Brings all bytes to the disk and gives the file a temporary name.
    fn finish(self) -> Result<Finished> {
        let OutputFile { target, file, name } = self;
        file.sync_all().map_err(|error| cannot_write(&target, &error)).context("finishing the output")?;
        let name = match name {
            Some(name) => name,
            None => link_beside(&file, &target).with_context(|| format!("naming {}", target.display()))?,
        };
        Ok(Finished { target, temporary: Temporary::File(name) })
    }
}

impl Write for OutputFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer).map_err(|error| cannot_write(&self.target, &error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A directory being filled, not yet at its target.
pub struct OutputDirectory {
    target: PathBuf,
    mode: u32,
    replaces: Replaces,
    name: TemporaryName,
}

/// What an [`OutputDirectory`] may take the place of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replaces {
    /// An empty directory.
    Nothing,
    /// Any directory: the caller knows that it is an earlier output.
    Earlier,
}

impl OutputDirectory {
    /// Begins the output at `target`, which is to have permission bits `mode`.
    ///
    /// # Errors
    /// Fails when the parent directory is missing or not writable, or when something else is at `target` than what may
    /// be replaced.
    pub fn create(target: &Path, mode: u32, replaces: Replaces) -> Result<Self> {
        // A final slash or dot would name the inside of the target.
        let target: PathBuf = target.components().collect();
        check_directory_replaceable(&target, replaces)?;
        let name = TemporaryName::make(|| {
            let mut builder = tempfile::Builder::new();
            // Until it is whole it is nobody else's business.
            builder.permissions(Permissions::from_mode(own_directory::MODE));
            Ok(((), builder.prefix(&temporary_prefix(&target)).tempdir_in(directory_of(&target))?.keep()))
        });
        let ((), name) = name.map_err(|error| cannot_create(&target, error))?;
        Ok(OutputDirectory { target, mode, replaces, name })
    }

    /// Where to put what belongs in it, for now.
    pub fn path(&self) -> &Path {
        self.name.path()
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }
}

/// A directory for what is needed for a while: it goes with all in it when this is dropped, and when the process is told
/// to end.
#[derive(Debug)]
pub struct TemporaryDirectory {
    name: TemporaryName,
}

impl TemporaryDirectory {
    /// Makes one in `parent`, for this user only. Its name begins with `prefix`.
    ///
    /// # Errors
    /// Fails when it cannot be made.
    pub fn create(parent: &Path, prefix: &str) -> Result<Self> {
        let name = TemporaryName::make(|| {
            DirBuilder::new().recursive(true).mode(own_directory::MODE).create(parent)?;
            let mut builder = tempfile::Builder::new();
            builder.permissions(Permissions::from_mode(own_directory::MODE));
            Ok(((), builder.prefix(prefix).tempdir_in(parent)?.keep()))
        });
        let ((), name) = name.with_context(|| format!("making a temporary directory in {}", parent.display()))?;
        Ok(TemporaryDirectory { name })
    }

    /// Makes one where temporary files go (`TMPDIR`, else `/tmp`).
    ///
    /// # Errors
    /// Fails when it cannot be made, and when others could put something else in its place there.
    pub fn create_in_temporary(prefix: &str) -> Result<Self> {
        let parent = std::env::temp_dir();
        own_directory::check_shared(&parent).context(
            "checking the directory for temporary files; set TMPDIR to one where this user's files are safe",
        )?;
        TemporaryDirectory::create(&parent, prefix)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.name.path()
    }

    /// Removes it.
    ///
    /// # Errors
    /// Fails when something in it cannot be removed.
    pub fn close(self) -> Result<()> {
        let path = self.path().to_owned();
        self.name.close().with_context(|| format!("removing the temporary directory {}", path.display()))
    }
}

/// Finished outputs that appear together, or not at all when dropped.
#[derive(Default)]
pub struct Outputs {
    finished: Vec<Finished>,
}

impl Outputs {
    /// None yet.
    pub fn new() -> Self {
        Outputs::default()
    }

    /// Takes a file whose last byte was written.
    ///
    /// # Errors
    /// Fails when its bytes cannot be brought to the disk, or another output has the same target.
    pub fn add_file(&mut self, file: OutputFile) -> Result<()> {
        self.check_target(&file.target)?;
        self.finished.push(file.finish()?);
        Ok(())
    }

    /// Takes a directory whose last file was written. Returns where it lies until all appear.
    ///
    /// # Errors
    /// Fails when it cannot be brought to the disk, or another output has the same target.
    pub fn add_directory(&mut self, output: OutputDirectory) -> Result<PathBuf> {
        let OutputDirectory { target, mode, replaces, name } = output;
        self.check_target(&target)?;
        let synced = File::open(name.path()).and_then(|opened| opened.sync_all());
        synced.map_err(|error| cannot_write(&target, &error)).context("finishing the output")?;
        fs::set_permissions(name.path(), Permissions::from_mode(mode))
            .with_context(|| format!("finishing {}", target.display()))?;
        let place = name.path().to_owned();
        self.finished.push(Finished { target, temporary: Temporary::Directory(name, replaces) });
        Ok(place)
    }

    /// The second of two would replace the first.
    fn check_target(&self, target: &Path) -> Result<()> {
        let is_taken = self.finished.iter().any(|finished| finished.target == target);
        ensure!(!is_taken, "{} would be two outputs at once; give one of them another name", target.display());
        Ok(())
    }

    /// Moves all to their targets, in the order in which they were added; returns the targets.
    ///
    /// # Errors
    /// Fails when a target cannot be replaced; what was at the others before is back then. Fails after all have appeared
    /// when the former content cannot be removed.
    pub fn commit(self) -> Result<Vec<PathBuf>> {
        commit::commit(self.finished)
    }
}

/// Makes a new file that only this user reads and writes, in a directory of this user's own; no output, but what one is made of.
///
/// # Errors
/// Fails when it cannot be made, and when anything has the name.
pub fn create_new(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).mode(MODE_PRIVATE).open(path)
}

fn directory_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

fn temporary_prefix(target: &Path) -> String {
    format!(".{}.", target.file_name().unwrap_or_default().to_string_lossy())
}

/// A file that exists is replaced; a directory, device, pipe or socket is not.
fn check_replaceable(target: &Path) -> Result<()> {
    if target.file_name().is_none() {
        bail!("{} names no file; give the output a file name", target.display());
    }
    match fs::symlink_metadata(target) {
        Ok(metadata) if metadata.is_dir() => bail!("{} is a directory; give the output another name", target.display()),
        Ok(metadata) if !metadata.is_file() && !metadata.is_symlink() => {
            bail!("{} is no regular file and is not replaced; give the output another name", target.display())
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot_create(target, error)),
        _ => Ok(()),
    }
}

/// Whether an output directory may take the place of what is at `target`.
///
/// # Errors
/// Fails when it may not, naming what is there.
pub fn check_directory_replaceable(target: &Path, replaces: Replaces) -> Result<()> {
    if target.file_name().is_none() {
        bail!("{} names no directory that can be replaced; give the output a name", target.display());
    }
    match fs::symlink_metadata(target) {
        Ok(metadata) if !metadata.is_dir() => {
            bail!("{} is there and no directory; remove it or choose another name", target.display())
        }
        Ok(_) => {
            let mut entries = fs::read_dir(target).map_err(|error| cannot_create(target, error))?;
            if replaces == Replaces::Nothing && entries.next().is_some() {
                bail!("{} holds files that are no earlier output; remove it or choose another name", target.display());
            }
            Ok(())
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot_create(target, error)),
        Err(_) => Ok(()),
    }
}

fn open_beside(directory: &Path, target: &Path) -> io::Result<(File, Option<TemporaryName>)> {
    let flags = i32::try_from(OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
    match File::options().read(true).write(true).mode(0o600).custom_flags(flags).open(directory) {
        Ok(file) if proc_path(&file).exists() => return Ok((file, None)),
        // File systems and kernels without it say so in three ways.
        Err(error)
            if !matches!(
                rustix::io::Errno::from_io_error(&error),
                Some(rustix::io::Errno::NOTSUP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL)
            ) =>
        {
            return Err(error);
        }
        _ => {}
    }
    let (file, name) = TemporaryName::make(|| {
        Ok(tempfile::Builder::new().prefix(&temporary_prefix(target)).tempfile_in(directory)?.keep()?)
    })?;
    Ok((file, Some(name)))
}

/// Gives an unnamed file a temporary name beside its target; a rename can then replace what is there, a link cannot.
fn link_beside(file: &File, target: &Path) -> io::Result<TemporaryName> {
    let ((), name) = TemporaryName::make(|| {
        let mut builder = tempfile::Builder::new();
        let named = builder.prefix(&temporary_prefix(target)).make_in(directory_of(target), |name| {
            rustix::fs::linkat(CWD, proc_path(file), CWD, name, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
        })?;
        Ok(((), named.into_temp_path().keep()?))
    })?;
    Ok(name)
}

fn proc_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn cannot_create(target: &Path, error: io::Error) -> anyhow::Error {
    let directory = directory_of(target).display().to_string();
    let cure = match error.kind() {
        io::ErrorKind::NotFound => format!("; make the directory first: mkdir -p {directory}"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("; {directory} is not writable for this user: choose another directory")
        }
        _ => String::new(),
    };
    anyhow::anyhow!("creating {}: {error}{cure}", target.display())
}

/// A failed write with its file and, where the disk is full, what to do.
pub fn cannot_write(target: &Path, error: &io::Error) -> io::Error {
    let cure = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("; make room in {} or choose another directory", directory_of(target).display())
        }
        _ => String::new(),
    };
    io::Error::new(error.kind(), format!("writing {}: {error}{cure}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn write(target: &Path, content: &str) -> OutputFile {
        let mut file = OutputFile::create(target, MODE_PRIVATE).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    /// As on a file system without `O_TMPFILE`.
    fn named(target: &Path, content: &str) -> OutputFile {
        let make = || Ok(tempfile::NamedTempFile::new_in(target.parent().unwrap())?.keep()?);
        let (mut file, name) = TemporaryName::make(make).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        OutputFile { target: target.to_owned(), file, name: Some(name) }
    }

    /// Only root can give files away; for others it stays their own.
    #[test]
    fn what_changes_hands_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("a");
        let own = fs::metadata(directory.path()).unwrap();
        let owner = if own.uid() == 0 { (1, 1) } else { (own.uid(), own.gid()) };
        let file = OutputFile::create(&target, 0o6755).unwrap();
        file.set_owner_and_time(owner, SystemTime::UNIX_EPOCH).unwrap();
        file.commit().unwrap();
        let facts = || fs::metadata(&target).map(|facts| (facts.uid(), facts.gid(), facts.mode() & 0o7777)).unwrap();
        assert_eq!(facts(), (owner.0, owner.1, 0o6755));
        OutputFile::in_place_of(&target).unwrap().commit().unwrap();
        assert_eq!(facts(), (owner.0, owner.1, 0o6755));
    }

    #[test]
    fn a_temporary_directory_goes_with_all_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let parent = directory.path().join("made/for/it");
        for close in [true, false] {
            let temporary = TemporaryDirectory::create(&parent, "work-").unwrap();
            assert!(names(&parent)[0].starts_with("work-"));
            let mode = fs::metadata(temporary.path()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
            fs::create_dir(temporary.path().join("inner")).unwrap();
            fs::write(temporary.path().join("inner/file"), "data").unwrap();
            if close {
                temporary.close().unwrap()
            } else {
                drop(temporary)
            }
            assert_eq!(names(&parent), [""; 0]);
        }
    }

    #[test]
    fn a_file_appears_at_commit_with_its_mode_and_replaces_the_old_one() {
        for begin in [write, named] {
            let directory = tempfile::tempdir().unwrap();
            let target = directory.path().join("initrd");
            fs::write(&target, "old").unwrap();
            let mut outputs = Outputs::new();
            outputs.add_file(begin(&target, "new")).unwrap();
            assert_eq!(fs::read(&target).unwrap(), b"old");
            assert_eq!(outputs.commit().unwrap(), [target.as_path()]);
            assert_eq!(fs::read(&target).unwrap(), b"new");
            assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o600);
            assert_eq!(names(directory.path()), ["initrd"]);
        }
    }

    #[test]
    fn what_is_not_committed_leaves_the_old_one_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("initrd");
        fs::write(&target, "old").unwrap();
        drop(write(&target, "dropped while being written"));
        drop(named(&target, "dropped while being written"));
        let mut outputs = Outputs::new();
        outputs.add_file(write(&target, "finished")).unwrap();
        outputs.add_file(named(&directory.path().join("other"), "finished")).unwrap();
        let layout = OutputDirectory::create(&directory.path().join("layout"), 0o755, Replaces::Nothing).unwrap();
        fs::write(layout.path().join("marker"), "").unwrap();
        outputs.add_directory(layout).unwrap();
        drop(outputs);
        assert_eq!(names(directory.path()), ["initrd"]);
        assert_eq!(fs::read(&target).unwrap(), b"old");
    }

    #[test]
    fn outputs_go_back_where_a_later_one_cannot_take_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("vmlinuz"), "old").unwrap();
        fs::create_dir(path("oci")).unwrap();
        fs::write(path("oci/index.json"), "old").unwrap();
        let mut outputs = Outputs::new();
        for name in ["vmlinuz", "initrd", "manifest.json"] {
            outputs.add_file(write(&path(name), "new")).unwrap();
            if name == "initrd" {
                let layout = OutputDirectory::create(&path("oci"), 0o755, Replaces::Earlier).unwrap();
                fs::write(layout.path().join("index.json"), "new").unwrap();
                outputs.add_directory(layout).unwrap();
            }
        }
        // Somebody was faster than the build.
        fs::create_dir(path("manifest.json")).unwrap();
        let error = format!("{:#}", outputs.commit().unwrap_err());
        assert!(error.contains("manifest.json is a directory"), "{error}");
        assert_eq!(names(directory.path()), ["manifest.json", "oci", "vmlinuz"]);
        assert_eq!(fs::read_to_string(path("vmlinuz")).unwrap(), "old");
        assert_eq!(fs::read_to_string(path("oci/index.json")).unwrap(), "old");
    }

    #[test]
    fn nothing_has_a_name_while_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = write(&directory.path().join("initrd"), "half");
        if file.name.is_none() {
            assert!(names(directory.path()).is_empty());
        }
    }

    #[test]
    fn a_directory_replaces_an_earlier_output_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("layout");
        for (content, replaces) in [("first", Replaces::Nothing), ("second", Replaces::Earlier)] {
            let layout = OutputDirectory::create(&target.join("."), 0o755, replaces).unwrap();
            fs::create_dir(layout.path().join("sealed")).unwrap();
            fs::write(layout.path().join("sealed/file"), content).unwrap();
            // As trees have them; whoever is not root cannot remove what is in it.
            fs::set_permissions(layout.path().join("sealed"), Permissions::from_mode(0o555)).unwrap();
            let mut outputs = Outputs::new();
            outputs.add_directory(layout).unwrap();
            outputs.commit().unwrap();
            assert_eq!(fs::read_to_string(target.join("sealed/file")).unwrap(), content);
            assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o755);
            assert_eq!(names(parent.path()), ["layout"]);
        }
        let error = OutputDirectory::create(&target, 0o755, Replaces::Nothing).err().unwrap().to_string();
        assert!(error.ends_with("holds files that are no earlier output; remove it or choose another name"), "{error}");
        let empty = parent.path().join("empty");
        fs::create_dir(&empty).unwrap();
        assert!(
            OutputDirectory::create(&empty, 0o755, Replaces::Nothing).is_ok(),
            "an empty directory may be replaced"
        );
        fs::write(target.join("diary"), "").unwrap();
        let error = OutputDirectory::create(&target.join("diary"), 0o755, Replaces::Earlier).err().unwrap().to_string();
        assert!(error.ends_with("is there and no directory; remove it or choose another name"), "{error}");
    }

    #[test]
    fn what_is_no_regular_file_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        for (target, message) in [
            (directory.path(), "is a directory; give the output another name"),
            (Path::new("/dev/full"), "is no regular file and is not replaced; give the output another name"),
            (Path::new(".."), "names no file; give the output a file name"),
        ] {
            let error = OutputFile::create(target, MODE_PRIVATE).err().unwrap().to_string();
            assert_eq!(error, format!("{} {message}", target.display()));
        }
    }

    #[test]
    fn errors_say_what_and_where_and_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("no/initrd");
        let error = OutputFile::create(&missing, MODE_PRIVATE).err().unwrap().to_string();
        let cure = format!("make the directory first: mkdir -p {}", directory.path().join("no").display());
        assert!(error.starts_with(&format!("creating {}: No such file", missing.display())), "{error}");
        assert!(error.ends_with(&cure), "{error}");

        let file = File::options().write(true).open("/dev/full").unwrap();
        let target = directory.path().join("initrd");
        let error = OutputFile { target, file, name: None }.write_all(b"x").unwrap_err().to_string();
        assert!(error.contains("/initrd: No space left on device"), "{error}");
        assert!(error.ends_with(&format!("make room in {} or choose another directory", directory.path().display())));
    }
}
