//! Kernel packages to a tree: their payload only, without scriptlets, so that no kernel has to be installed.
//!
//! Enters: rpm files; nothing of them is used before they were verified. Leaves: one [`Tree`] of all their files; the bytes of each
//! package lie in a spool file without a name. Paths are those of a system with merged `/usr`: kernel packages still say
//! `/lib/modules`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use crate::image::tree::{Content, Entry, Kind, Tree, TreePath, normalized, usr_merged};
use crate::packages::rpm_file::{PackagedFile, RpmPackage};
use ocinitrd_format::text::{Escaped, quoted};
use ocinitrd_support::parallel;
use ocinitrd_support::progress::{Progress, Stage};

const BUFFER_BYTES: usize = 1 << 18;
/// What the files of one package may take, many times a kernel with its modules: 16 GiB. They are unpacked while the
/// package's signature is being verified.
const UNPACKED_MAX_BYTES: u64 = 16 << 30;

/// Reads the payloads of `paths` into one tree. The spool lies in `spool_directory`, which needs space for all files
/// uncompressed.
///
/// # Errors
/// Fails when an rpm cannot be read, is damaged, has a file that is not root's or a path outside the tree, when two have
/// one path with different content, and when the spool cannot be written.
pub fn read_packages(paths: &[PathBuf], spool_directory: &Path, progress: &Progress) -> Result<Tree> {
    let packages = parallel::map(paths, |path| RpmPackage::open(path))?;
    // Sizes of headers that were not verified yet: for show only.
    let sizes = packages.iter().map(|package| package.identity.installed_size_bytes);
    let total_bytes = sizes.fold(0, u64::saturating_add);
    let stage = progress.stage("reading kernel packages", Some(total_bytes));
    let what = |package: &RpmPackage| format!("reading the files of {}", Escaped::text(&package.identity.nevra()));
    let contents = parallel::map(&packages, |package| {
        spool_contents(package, spool_directory, &stage).with_context(|| what(package))
    })?;
    let mut reading = Reading::default();
    for (package, contents) in packages.iter().zip(contents) {
        reading.add(package, contents).with_context(|| what(package))?;
    }
    let newest = packages.iter().map(|package| package.identity.build_time).max().unwrap_or_default().seconds();
    reading.tree.add_missing_parents(newest).context("reading kernel packages")?;
    stage.finish(&format!("{} files of {} packages", reading.tree.len(), packages.len()));
    Ok(reading.tree)
}

/// The contents of the regular files in the order of the header.
fn spool_contents(package: &RpmPackage, spool_directory: &Path, stage: &Stage) -> Result<Vec<Option<Content>>> {
    let files = package.files.iter().filter(|file| file.is_regular() && !file.is_ghost);
    let unpacked_bytes = files.fold(0_u64, |sum, file| sum.saturating_add(file.size_bytes));
    ensure!(
        unpacked_bytes <= UNPACKED_MAX_BYTES,
        "they take {unpacked_bytes} bytes, and at most {UNPACKED_MAX_BYTES} are unpacked of a package"
    );
    let mut contents = vec![None; package.files.len()];
    let mut spool = Spool::new(spool_directory)?;
    let mut payload = package.payload()?;
    while let Some(index) = payload.next_file()? {
        let file = &package.files[index];
        if !file.is_regular() || payload.remaining_bytes() < file.size_bytes {
            continue;
        }
        let content = spool.take(&mut payload);
        contents[index] = Some(content.with_context(|| format!("unpacking {}", quoted(&file.path)))?);
        stage.advance(file.size_bytes);
    }
    Ok(contents)
}

#[derive(Default)]
struct Reading<'p> {
    tree: Tree,
    /// Who brought what: what tells conflicts from repetitions.
    origins: BTreeMap<TreePath, Origin<'p>>,
}

struct Origin<'p> {
    package: &'p RpmPackage,
    file: &'p PackagedFile,
}

impl<'p> Reading<'p> {
    fn add(&mut self, package: &'p RpmPackage, contents: Vec<Option<Content>>) -> Result<()> {
        let mut entries = BTreeMap::new();
        for (file, content) in package.files.iter().zip(contents).filter(|(file, _)| !file.is_ghost) {
            check_ownership(file)?;
            let path = merged_path(&file.path)?;
            if let Some((earlier, _)) = entries.insert(path, (file, content)) {
                ensure!(is_same(earlier, file), "{} is the same as {}", quoted(&file.path), quoted(&earlier.path));
            }
        }
        let contents = group_contents(&entries);
        let mut first_names: BTreeMap<u64, TreePath> = BTreeMap::new();
        for (path, (file, content)) in entries {
            let content = content.or_else(|| contents.get(&file.link_group?).cloned());
            let kind = match file.link_group.and_then(|group| first_names.get(&group)) {
                Some(first) => Kind::HardLink { target: first.clone() },
                None => kind(file, content)?,
            };
            if let Some(group) = file.link_group {
                first_names.entry(group).or_insert_with(|| path.clone());
            }
            self.insert(package, file, path, kind)?;
        }
        Ok(())
    }

    fn insert(&mut self, package: &'p RpmPackage, file: &'p PackagedFile, path: TreePath, kind: Kind) -> Result<()> {
        let entry =
            Entry { permissions: file.mode & 0o7777, uid: 0, gid: 0, mtime: file.mtime, xattrs: BTreeMap::new(), kind };
        match self.origins.get(&path) {
            None => {
                self.tree.insert(path.clone(), entry);
                self.origins.insert(path, Origin { package, file });
            }
            Some(earlier) => ensure!(
                is_same(earlier.file, file),
                "{} is in {} and, different, in {}",
                quoted(&path),
                Escaped::text(&earlier.package.identity.nevra()),
                Escaped::text(&package.identity.nevra())
            ),
        }
        Ok(())
    }
}

/// Whether two packages may both have a path: as directories, or as the same thing.
fn is_same(one: &PackagedFile, other: &PackagedFile) -> bool {
    let facts = |file: &PackagedFile| (file.mode, file.checksum.clone(), file.link_target.clone(), file.device);
    matches!((one.type_bits(), other.type_bits()), (0o040_000, 0o040_000)) || facts(one) == facts(other)
}

/// The content of each group of hard links: the archive has it with one of the names.
fn group_contents(entries: &BTreeMap<TreePath, (&PackagedFile, Option<Content>)>) -> BTreeMap<u64, Content> {
    let found = entries.values().filter_map(|(file, content)| Some((file.link_group?, content.clone()?)));
    found.collect()
}

fn kind(file: &PackagedFile, content: Option<Content>) -> Result<Kind> {
    let (major, minor) = file.device;
    Ok(match file.type_bits() {
        0o100_000 => Kind::File(content.with_context(|| format!("the payload lacks {}", quoted(&file.path)))?),
        0o040_000 => Kind::Directory,
        0o120_000 => Kind::Symlink { target: file.link_target.clone() },
        0o020_000 => Kind::CharacterDevice(major, minor),
        0o060_000 => Kind::BlockDevice(major, minor),
        0o010_000 => Kind::Fifo,
        _ => bail!("{} has the mode {:o}, which no kernel package needs", quoted(&file.path), file.mode),
    })
}

/// Names of users have no meaning outside the system they were made for, and file capabilities are lost in cpio.
fn check_ownership(file: &PackagedFile) -> Result<()> {
    for owner in [&file.user, &file.group] {
        ensure!(
            owner == b"root",
            "{} belongs to {}: kernel packages are expected to belong to root alone",
            quoted(&file.path),
            Escaped(owner)
        );
    }
    let capabilities = Escaped(&file.capabilities);
    ensure!(
        file.capabilities.is_empty(),
        "{} has the capabilities {capabilities}, an initrd cannot",
        quoted(&file.path)
    );
    Ok(())
}

/// The path in the tree.
fn merged_path(path: &[u8]) -> Result<TreePath> {
    let path = normalized(path)?;
    ensure!(!path.is_empty(), "the root directory is listed");
    Ok(usr_merged(&path))
}

/// The bytes of all files, one after another.
struct Spool {
    file: Arc<File>,
    directory: PathBuf,
    length_bytes: u64,
    buffer: Vec<u8>,
}

impl Spool {
    fn new(directory: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(directory)
            .with_context(|| format!("making a temporary file in {}", directory.display()))?;
        Ok(Spool {
            file: Arc::new(file),
            directory: directory.to_owned(),
            length_bytes: 0,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Appends the content that `reader` yields.
    fn take(&mut self, reader: &mut impl Read) -> Result<Content> {
        let offset = self.length_bytes;
        loop {
            let count = reader.read(&mut self.buffer)?;
            if count == 0 {
                break;
            }
            let bytes = &self.buffer[..count];
            (&*self.file).write_all(bytes).with_context(|| format!("writing to {}", self.directory.display()))?;
            self.length_bytes += count as u64;
        }
        Ok(Content::Spooled { file: self.file.clone(), offset, length_bytes: self.length_bytes - offset })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rpm::{BuildConfig, CompressionType, FileOptions, PackageBuilder};

    use super::*;
    use ocinitrd_support::progress::Verbosity;

    fn builder(name: &str) -> PackageBuilder {
        let mut builder = PackageBuilder::new(name, "6.12.2", "GPL-2.0-only", "x86_64", "a kernel for the tests");
        builder.release("1.fc44").using_config(BuildConfig::v4().source_date(1_780_000_000u32));
        builder
    }

    fn contents(builder: &mut PackageBuilder, files: &[(&str, &str)]) {
        for (path, content) in files {
            builder.with_file_contents(*content, FileOptions::new(*path).permissions(0o644)).unwrap();
        }
    }

    struct Packages(tempfile::TempDir, Vec<PathBuf>);

    impl Packages {
        fn new() -> Self {
            Packages(tempfile::tempdir().unwrap(), Vec::new())
        }

        fn add(&mut self, builder: &mut PackageBuilder) -> &mut Self {
            let path = self.0.path().join(format!("{}.rpm", self.1.len()));
            builder.build().unwrap().write_file(&path).unwrap();
            self.1.push(path);
            self
        }

        fn read(&self) -> Result<Tree> {
            read_packages(&self.1, self.0.path(), &Progress::new(Verbosity::Quiet))
        }

        fn message(&self) -> String {
            format!("{:#}", self.read().unwrap_err())
        }
    }

    fn listing(tree: &Tree) -> Vec<String> {
        let line = |(path, entry): (&TreePath, &Entry)| {
            let path = String::from_utf8_lossy(path);
            match &entry.kind {
                Kind::Directory => format!("{:o} {path}/", entry.permissions),
                Kind::File(content) => {
                    let content = content.read_all().unwrap();
                    format!("{:o} {path} {}", entry.permissions, String::from_utf8_lossy(&content))
                }
                Kind::HardLink { target } => format!("{path} = {}", String::from_utf8_lossy(target)),
                Kind::Symlink { target } => format!("{path} -> {}", String::from_utf8_lossy(target)),
                other => format!("{path} {other:?}"),
            }
        };
        tree.iter().map(line).collect()
    }

    #[test]
    fn several_packages_make_one_tree_below_usr_without_their_ghosts() {
        let mut core = builder("kernel-core");
        contents(&mut core, &[("/lib/modules/K/vmlinuz", "kernel"), ("/lib/modules/K/empty", "")]);
        core.with_dir_entry(FileOptions::dir("/lib/modules/K").permissions(0o750)).unwrap();
        core.with_symlink(FileOptions::symlink("/lib/modules/K/build", "/usr/src/kernels/K")).unwrap();
        core.with_ghost(FileOptions::ghost("/boot/vmlinuz-K")).unwrap();
        let mut modules = builder("kernel-modules");
        contents(&mut modules, &[("/usr/lib/modules/K/kernel/ext4.ko", "ext4")]);
        let tree = Packages::new().add(&mut core).add(&mut modules).read().unwrap();
        assert_eq!(
            listing(&tree),
            [
                "755 usr/",
                "755 usr/lib/",
                "755 usr/lib/modules/",
                "750 usr/lib/modules/K/",
                "usr/lib/modules/K/build -> /usr/src/kernels/K",
                "644 usr/lib/modules/K/empty ",
                "755 usr/lib/modules/K/kernel/",
                "644 usr/lib/modules/K/kernel/ext4.ko ext4",
                "644 usr/lib/modules/K/vmlinuz kernel",
            ]
        );
        assert!(tree.iter().all(|(_, entry)| (entry.uid, entry.gid) == (0, 0)));
        assert_eq!(tree.get(b"usr/lib").unwrap().mtime, 1_780_000_000);
    }

    #[test]
    fn every_format_and_compression_gives_the_same_tree() {
        let mut listings = Vec::new();
        for config in [BuildConfig::v4(), BuildConfig::v6()] {
            for compression in
                [CompressionType::None, CompressionType::Gzip, CompressionType::Xz, CompressionType::Zstd]
            {
                let mut package = builder("kernel-core");
                package.using_config(config.source_date(1_780_000_000u32).compression(compression));
                for name in ["c", "a", "b"] {
                    let options = FileOptions::new(format!("/lib/modules/{name}")).permissions(0o644).hardlink("set");
                    package.with_file_contents("linked", options).unwrap();
                }
                contents(&mut package, &[("/lib/modules/d", "alone")]);
                listings.push(listing(&Packages::new().add(&mut package).read().unwrap()));
            }
        }
        let linked = ["644 usr/lib/modules/a linked", "usr/lib/modules/b = usr/lib/modules/a"];
        assert_eq!(listings[0][3..5], linked);
        assert_eq!(listings[0][5..], ["usr/lib/modules/c = usr/lib/modules/a", "644 usr/lib/modules/d alone"]);
        assert!(listings.iter().all(|listing| *listing == listings[0]), "{listings:?}");
    }

    #[test]
    fn one_path_in_two_packages_must_be_the_same_file() {
        let package = |name, content| {
            let mut package = builder(name);
            contents(&mut package, &[("/lib/modules/K/modules.order", content)]);
            package
        };
        let same = Packages::new().add(&mut package("one", "x")).add(&mut package("two", "x")).read().unwrap();
        assert_eq!(listing(&same).last().unwrap(), "644 usr/lib/modules/K/modules.order x");
        let message = Packages::new().add(&mut package("one", "x")).add(&mut package("two", "y")).message();
        assert_eq!(
            message,
            "reading the files of two-6.12.2-1.fc44.x86_64: \"usr/lib/modules/K/modules.order\" is in \
             one-6.12.2-1.fc44.x86_64 and, different, in two-6.12.2-1.fc44.x86_64"
        );
    }

    #[test]
    fn files_that_are_not_roots_or_have_capabilities_are_refused() {
        let one = |options: rpm::FileOptionsBuilder| {
            let mut package = builder("kernel-core");
            package.with_file_contents("x", options).unwrap();
            Packages::new().add(&mut package).message()
        };
        let message = one(FileOptions::new("/usr/x").user("nobody"));
        assert!(message.contains("\"/usr/x\" belongs to nobody"), "{message}");
        let message = one(FileOptions::new("/usr/x").caps("cap_net_raw=ep").unwrap());
        assert!(message.contains("has the capabilities cap_net_raw=ep"), "{message}");
    }

    #[test]
    fn damage_is_told_where_it_can_be_seen_and_never_a_panic() {
        let mut package = builder("kernel-core");
        package.using_config(BuildConfig::v4().source_date(1_780_000_000u32).reserved_space(None));
        contents(&mut package, &[("/lib/modules/K/vmlinuz", "kernel"), ("/lib/modules/K/config", "CONFIG_X=y")]);
        let mut packages = Packages::new();
        packages.add(&mut package);
        let path = &packages.1[0];
        let whole = fs::read(path).unwrap();
        let shape = |tree: &Tree| -> Vec<(TreePath, u32, Option<u64>)> {
            let size_bytes = |path: &TreePath| tree.content(path).map(Content::size_bytes);
            tree.iter().map(|(path, entry)| (path.clone(), entry.permissions, size_bytes(path))).collect()
        };
        let expected = shape(&packages.read().unwrap());
        for position in (0..whole.len()).step_by(3) {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x55;
            fs::write(path, &damaged).unwrap();
            // The header has a digest of its own; what is in files is for the digest of the whole to tell.
            match packages.read() {
                Ok(tree) => assert_eq!(shape(&tree), expected, "{position}"),
                Err(error) => assert!(format!("{error:#}").contains("0.rpm"), "{position}: {error:#}"),
            }
        }
        for length in (0..whole.len()).step_by(11) {
            fs::write(path, &whole[..length]).unwrap();
            assert!(packages.read().is_err(), "{length}");
        }
    }

    #[test]
    fn other_files_are_told_from_packages() {
        let mut packages = Packages::new();
        let path = packages.0.path().join("page.rpm");
        fs::write(&path, "<html>".repeat(100)).unwrap();
        packages.1.push(path);
        assert!(packages.message().ends_with("page.rpm: it is no rpm file"));
        packages.1[0].set_file_name("absent.rpm");
        assert!(packages.message().contains("absent.rpm: No such file"));
    }
}
