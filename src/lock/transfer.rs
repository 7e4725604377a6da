//! The store's rpms and builder images under their names: out to a directory of files, and in from one.
//!
//! Enters: a [`Store`] and a directory. Leaves: `NAME-VERSION-RELEASE.ARCH.rpm` files and `builder-DIGEST.oci.tar`, or blobs.
//! Signatures are not looked at: content is named by its digest, and a build verifies what it installs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

use crate::container::builder_image::{self, StoredImage};
use crate::packages::rpm_file::{self, Identity, LEAD_MAGIC};
use crate::packages::store::{Kind, Store};
use ocinitrd_format::compress::MultiDecoder;
use ocinitrd_format::digest::{Digest, Hasher};
use ocinitrd_format::text::quoted;
use ocinitrd_support::output::{MODE_PUBLIC, OutputFile};
use ocinitrd_support::progress::Stage;
use ocinitrd_support::regular_file;

/// How far into a file is looked for what tells metadata.
const PROBE_BYTES: u64 = 1024;
/// The root elements of repository metadata, and what its signatures begin with.
const METADATA_MARKS: [&[u8]; 7] =
    [b"<repomd", b"<metadata", b"<filelists", b"<comps", b"<updateinfo", b"<modules", b"-----BEGIN PGP SIGNATURE-----"];
/// Keys of an image's documents.
const IMAGE_MARKS: [&[u8]; 2] = [b"\"schemaVersion\"", b"\"architecture\""];

/// What a blob is, as far as it can be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// An rpm file.
    Rpm(Box<Identity>),
    /// What begins as an rpm file but cannot be read.
    DamagedRpm,
    /// Metadata of a repository.
    Metadata,
    /// A part of a builder image: its index, manifest, configuration, or a layer.
    Image,
    /// Something else.
    Other,
}

impl Content {
    /// Of the file at `path`.
    ///
    /// # Errors
    /// Fails when it cannot be opened.
    pub fn of(path: &Path) -> Result<Self> {
        let mut file = regular_file::open(path).with_context(|| format!("opening {}", path.display()))?;
        let mut magic = [0; LEAD_MAGIC.len()];
        if file.read_exact(&mut magic).is_ok() && magic == LEAD_MAGIC {
            let identity = rpm_file::identity(path);
            return Ok(identity.map_or(Content::DamagedRpm, |identity| Content::Rpm(Box::new(identity))));
        }
        let mut start = Vec::new();
        file.rewind().with_context(|| format!("reading {}", path.display()))?;
        // What cannot be decompressed is neither of these.
        let _ = MultiDecoder::new(file).take(PROBE_BYTES).read_to_end(&mut start);
        let has = |mark: &&[u8]| start.windows(mark.len()).any(|window| window == *mark);
        Ok(if is_tar(&start) || start.starts_with(b"{") && IMAGE_MARKS.iter().any(has) {
            Content::Image
        } else if METADATA_MARKS.iter().any(has) {
            Content::Metadata
        } else {
            Content::Other
        })
    }
}

fn is_tar(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar")
}

/// How many digits of a digest tell files of one package apart.
const DIGITS: usize = 12;

/// The rpms of the store by the names of their files, and those that have none, each with the reason. A package that was built
/// twice has two files; the names of all but one also have the beginning of their digests.
///
/// # Errors
/// Fails when one cannot be opened.
pub fn rpms(store: &Store) -> Result<(BTreeMap<String, Digest>, Vec<anyhow::Error>)> {
    let (mut rpms, mut refused) = (BTreeMap::new(), Vec::new());
    for item in store.items()? {
        let Kind::Blob(digest) = item.kind else { continue };
        match Content::of(&item.path)? {
            Content::Rpm(identity) => match file_name(&identity) {
                Ok(name) => {
                    let is_taken = rpms.contains_key(&name);
                    rpms.insert(if is_taken { with_digest(&name, &digest) } else { name }, digest);
                }
                Err(error) => refused.push(error.context(format!("{digest} has no name for a file"))),
            },
            Content::DamagedRpm => {
                refused.push(anyhow!("{digest} is a damaged rpm file: remove it, if it is not the right one: {REMOVE}"))
            }
            Content::Metadata | Content::Image | Content::Other => {}
        }
    }
    Ok((rpms, refused))
}

/// What removes damaged files from the store.
const REMOVE: &str = "ocinitrd store verify --remove";

/// The name of a package's file. What a header says becomes a path only if it is of rpm's grammar.
fn file_name(identity: &Identity) -> Result<String> {
    identity.identity().check()?;
    Ok(identity.file_name())
}

/// `bash-5.2-1.x86_64.0123456789ab.rpm`.
fn with_digest(name: &str, digest: &Digest) -> String {
    format!("{}.{}.rpm", name.strip_suffix(".rpm").unwrap_or(name), &digest.hex()[..DIGITS])
}

/// How many files are new where they were to go, and how many were there already.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// The new ones.
    pub new: usize,
    /// Those that were there.
    pub present: usize,
}

/// What an export did.
#[derive(Debug, Default)]
pub struct Exported {
    /// The files that are in the directory now.
    pub counts: Counts,
    /// What could not be exported, each with its name and the reason.
    pub refused: Vec<anyhow::Error>,
}

/// Copies blobs into `directory` under the given names, each file whole or not at all, its content verified on the way.
/// Files that are there and the same stay as they are. A blob that is missing or damaged is passed over.
///
/// # Errors
/// Fails before anything is written when the directory is missing, a name is not that of a file, or other files have one of
/// the names, naming them all. Fails when the directory is not writable; what was copied until then stays.
pub fn export(files: &BTreeMap<String, Digest>, store: &Store, directory: &Path, stage: &Stage) -> Result<Exported> {
    check_directory(directory)?;
    let missing = missing(files, directory)?;
    let mut exported = Exported::default();
    exported.counts.present = files.len() - missing.len();
    for (name, digest) in missing {
        match whole(digest, store) {
            Ok((mut blob, size_bytes)) => {
                let mut output = OutputFile::create(&directory.join(name), MODE_PUBLIC)?;
                output.copy_from(&mut blob).with_context(|| format!("exporting {digest}"))?;
                output.commit()?;
                exported.counts.new += 1;
                stage.advance(size_bytes);
            }
            Err(error) => exported.refused.push(error.context(name.to_owned())),
        }
    }
    Ok(exported)
}

/// Writes builder images into `directory` as OCI archives, each whole or not at all, its content verified before. One that is there
/// with the same content stays as it is.
///
/// # Errors
/// Fails when a file of the same name has other content, when a blob is damaged, and when the directory is not writable.
pub fn export_images(images: &[StoredImage], store: &Store, directory: &Path, stage: &Stage) -> Result<Counts> {
    check_directory(directory)?;
    let mut counts = Counts::default();
    for image in images {
        let name = builder_image::file_name(&image.pinned);
        let path = directory.join(&name);
        let mut digest = Hasher::new(io::sink());
        image.write_archive(store, &mut digest)?;
        let (_, digest, size_bytes) = digest.finish();
        if missing(&BTreeMap::from([(name, digest)]), directory)?.is_empty() {
            counts.present += 1;
            continue;
        }
        let mut output = OutputFile::create(&path, MODE_PUBLIC)?;
        image.write_archive(store, &mut output)?;
        output.commit()?;
        counts.new += 1;
        stage.advance(size_bytes);
    }
    Ok(counts)
}

/// A blob that was just verified, at its start, and its size in bytes.
fn whole(digest: &Digest, store: &Store) -> Result<(File, u64)> {
    let mut blob = store.read(digest)?;
    let (actual, size_bytes) = Digest::of_reader(&blob).with_context(|| format!("reading {digest}"))?;
    ensure!(actual == *digest, "{digest} is damaged, it has become {actual}; run {REMOVE}");
    blob.rewind().with_context(|| format!("reading {digest}"))?;
    Ok((blob, size_bytes))
}

/// Those of `files` that `directory` does not have.
fn missing<'f>(files: &'f BTreeMap<String, Digest>, directory: &Path) -> Result<Vec<(&'f str, &'f Digest)>> {
    let (mut missing, mut others) = (Vec::new(), Vec::new());
    for (name, digest) in files {
        let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        ensure!(is_plain, "{digest} calls itself {}, which is not a name for a file", quoted(name.as_bytes()));
        let path = directory.join(name);
        match regular_file::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push((name.as_str(), digest)),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => others.push(name.as_str()),
            file => {
                let reading = || format!("reading {}", path.display());
                let (present, _) = Digest::of_reader(file.with_context(reading)?).with_context(reading)?;
                if present != *digest {
                    others.push(name);
                }
            }
        }
    }
    ensure!(
        others.is_empty(),
        "{} has other files of the same names, which are not replaced: {}; move them away or choose another directory",
        directory.display(),
        others.join(", ")
    );
    Ok(missing)
}

fn check_directory(directory: &Path) -> Result<()> {
    let shown = directory.display();
    ensure!(directory.exists(), "there is no directory {shown}; make it first: mkdir -p {shown}");
    ensure!(directory.is_dir(), "{shown} is no directory");
    Ok(())
}

/// What an import did.
#[derive(Debug, Default)]
pub struct Imported {
    /// The rpms that are in the store now.
    pub counts: Counts,
    /// The builder images that are.
    pub images: Counts,
    /// The files that are neither, each with the reason.
    pub refused: Vec<(PathBuf, anyhow::Error)>,
}

/// Takes every `*.rpm` and every `*.oci.tar` below `directory` into the store.
///
/// # Errors
/// Fails when the directory cannot be read or has no such file, and when the store cannot be written; what was imported
/// until then stays.
pub fn import(directory: &Path, store: &Store, stage: &Stage) -> Result<Imported> {
    ensure!(directory.is_dir(), "there is no directory {}", directory.display());
    let mut paths = Vec::new();
    find_files(directory, &mut paths)?;
    ensure!(!paths.is_empty(), "there is no *.rpm and no *.oci.tar below {}", directory.display());
    let mut imported = Imported::default();
    for path in paths {
        if builder_image::is_archive(&path) {
            match builder_image::import(&path, store) {
                Ok((_, new)) => {
                    *(if new > 0 { &mut imported.images.new } else { &mut imported.images.present }) += 1;
                    stage.advance(fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?.len());
                }
                Err(error) => imported.refused.push((path, error)),
            }
            continue;
        }
        // The list of files is of no use here: an unverified header costs no more than it is long.
        let named = rpm_file::identity(&path)
            .and_then(|identity| file_name(&identity).with_context(|| format!("reading {}", path.display())));
        if let Err(error) = named {
            imported.refused.push((path, error));
            continue;
        }
        let (digest, is_new) = store.insert_file(&path)?;
        *(if is_new { &mut imported.counts.new } else { &mut imported.counts.present }) += 1;
        stage.advance(store.size_bytes(&digest)?);
    }
    Ok(imported)
}

/// All `*.rpm` and `*.oci.tar` below a directory in byte order of their paths; symlinks to directories are not followed.
fn find_files(directory: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let reading = || format!("reading the directory {}", directory.display());
    let entries = fs::read_dir(directory).with_context(reading)?.collect::<io::Result<Vec<_>>>();
    let mut entries = entries.with_context(reading)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type().with_context(reading)?.is_dir() {
            find_files(&path, paths)?;
        } else if has_name_of_one(&path) && !path.is_dir() {
            paths.push(path);
        }
    }
    Ok(())
}

fn has_name_of_one(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rpm") || builder_image::is_archive(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::rpm_file::fixture;
    use ocinitrd_support::progress::{Progress, Verbosity};

    fn stage() -> Stage {
        Progress::new(Verbosity::Quiet).stage("testing", None)
    }

    fn store() -> (tempfile::TempDir, Store, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(&root.path().join("store")).unwrap();
        let directory = root.path().join("directory");
        fs::create_dir(&directory).unwrap();
        (root, store, directory)
    }

    fn rpm(name: &str) -> rpm::Package {
        rpm::PackageBuilder::new(name, "1.2", "MIT", "x86_64", "for the tests")
            .release("3.fc44")
            .epoch(2)
            .build()
            .unwrap()
    }

    fn rpm_bytes(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        rpm(name).write(&mut bytes).unwrap();
        bytes
    }

    fn names_of_rpms(store: &Store) -> BTreeMap<String, Digest> {
        let (rpms, refused) = rpms(store).unwrap();
        assert!(refused.is_empty(), "{refused:?}");
        rpms
    }

    fn counts(exported: Result<Exported>) -> Counts {
        let Exported { counts, refused } = exported.unwrap();
        assert!(refused.is_empty(), "{refused:?}");
        counts
    }

    fn messages(errors: &[anyhow::Error]) -> Vec<String> {
        errors.iter().map(|error| format!("{error:#}")).collect()
    }

    fn names(directory: &Path) -> Vec<String> {
        let listing = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn content_is_told_by_what_it_begins_with() {
        let (_root, store, _) = store();
        let content = |bytes: &[u8]| Content::of(&store.path(&store.insert(bytes).unwrap())).unwrap();
        let Content::Rpm(identity) = content(&rpm_bytes("alpha")) else { panic!("it is an rpm") };
        assert_eq!(identity.nevra(), "alpha-2:1.2-3.fc44.x86_64");
        assert_eq!(content(&rpm_bytes("alpha")[..200]), Content::DamagedRpm);
        assert_eq!(content(b"<?xml?>\n<repomd xmlns=\"\">"), Content::Metadata);
        let mut compressed = ocinitrd_format::compress::Encoder::new(Vec::new(), "zstd".parse().unwrap()).unwrap();
        io::Write::write_all(&mut compressed, b"<?xml?><metadata>").unwrap();
        assert_eq!(content(&compressed.finish().unwrap()), Content::Metadata);
        assert_eq!([content(b"initrd"), content(&[0x1f, 0x8b, 1])], [Content::Other, Content::Other]);
        let mut layer = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(8);
        layer.append_data(&mut header, "a", &b"<repomd "[..]).unwrap();
        for image in
            [&layer.into_inner().unwrap()[..], b"{\"schemaVersion\":2}", b"{\"created\": 1, \"architecture\": 2}"]
        {
            assert_eq!(content(image), Content::Image);
        }
        assert_eq!(content(b"[\"schemaVersion\"]"), Content::Other);
    }

    #[test]
    fn exported_files_have_their_names_and_are_imported_again() {
        let (root, store, directory) = store();
        let digests: Vec<Digest> = ["alpha", "beta"].map(|name| store.insert(&rpm_bytes(name)).unwrap()).to_vec();
        store.insert(b"something else").unwrap();
        let files = names_of_rpms(&store);
        assert_eq!(counts(export(&files, &store, &directory, &stage())), Counts { new: 2, present: 0 });
        assert_eq!(names(&directory), ["alpha-1.2-3.fc44.x86_64.rpm", "beta-1.2-3.fc44.x86_64.rpm"]);
        fs::remove_file(directory.join("alpha-1.2-3.fc44.x86_64.rpm")).unwrap();
        assert_eq!(counts(export(&files, &store, &directory, &stage())), Counts { new: 1, present: 1 });

        let other = Store::open(&root.path().join("other")).unwrap();
        fs::create_dir(directory.join("below")).unwrap();
        fs::rename(directory.join("beta-1.2-3.fc44.x86_64.rpm"), directory.join("below/b.rpm")).unwrap();
        fs::write(directory.join("README"), "no rpm").unwrap();
        fs::write(directory.join("a.rpm"), "no rpm").unwrap();
        let imported = import(&directory, &other, &stage()).unwrap();
        assert_eq!(imported.counts, Counts { new: 2, present: 0 });
        assert_eq!(
            imported.refused.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(),
            [directory.join("a.rpm")]
        );
        assert!(digests.iter().all(|digest| other.contains(digest)));
        assert_eq!(import(&directory, &other, &stage()).unwrap().counts, Counts { new: 0, present: 2 });
    }

    #[test]
    fn other_files_in_the_way_are_named_and_nothing_is_exported() {
        let (_root, store, directory) = store();
        for name in ["alpha", "beta", "gamma"] {
            store.insert(&rpm_bytes(name)).unwrap();
        }
        fs::write(directory.join("beta-1.2-3.fc44.x86_64.rpm"), "mine").unwrap();
        fs::create_dir(directory.join("gamma-1.2-3.fc44.x86_64.rpm")).unwrap();
        let error = export(&names_of_rpms(&store), &store, &directory, &stage()).unwrap_err().to_string();
        assert!(error.contains("not replaced: beta-1.2-3.fc44.x86_64.rpm, gamma-1.2-3.fc44.x86_64.rpm; "), "{error}");
        assert_eq!(names(&directory).len(), 2);
        assert_eq!(fs::read(directory.join("beta-1.2-3.fc44.x86_64.rpm")).unwrap(), b"mine");
    }

    #[test]
    fn damaged_blobs_are_passed_over_and_the_others_exported() {
        let (_root, store, directory) = store();
        let digests = ["alpha", "beta", "gamma"].map(|name| store.insert(&rpm_bytes(name)).unwrap());
        let files = names_of_rpms(&store);
        for (digest, content) in [(digests[0], &rpm_bytes("alpha")[..200]), (digests[1], b"another")] {
            fs::remove_file(store.path(&digest)).unwrap();
            fs::write(store.path(&digest), content).unwrap();
        }
        let exported = export(&files, &store, &directory, &stage()).unwrap();
        assert_eq!(exported.counts, Counts { new: 1, present: 0 });
        assert_eq!(names(&directory), ["gamma-1.2-3.fc44.x86_64.rpm"]);
        let refused = messages(&exported.refused);
        assert_eq!(refused.len(), 2);
        for (message, name) in refused.iter().zip(["alpha", "beta"]) {
            assert!(message.starts_with(&format!("{name}-1.2-3.fc44.x86_64.rpm: sha256:")), "{message}");
            assert!(message.ends_with("run ocinitrd store verify --remove"), "{message}");
        }
        let (rpms, refused) = rpms(&store).unwrap();
        assert_eq!(rpms.keys().collect::<Vec<_>>(), ["gamma-1.2-3.fc44.x86_64.rpm"]);
        assert!(
            matches!(&messages(&refused)[..], [message] if message.contains("is a damaged rpm file")),
            "{refused:?}"
        );
    }

    #[test]
    fn an_rpm_whose_name_is_no_name_for_a_file_is_named_and_the_others_exported() {
        let (_root, store, directory) = store();
        store.insert(&rpm_bytes("alpha")).unwrap();
        for name in ["../../etc/x", "a/b", "-x", "a\x1b]0;b\x07"] {
            store.insert(&fixture::named(name)).unwrap();
        }
        let (rpms, refused) = rpms(&store).unwrap();
        assert_eq!(rpms.keys().collect::<Vec<_>>(), ["alpha-1.2-3.fc44.x86_64.rpm"]);
        let refused = messages(&refused);
        assert_eq!(refused.len(), 4);
        assert!(refused.iter().all(|message| message.contains(" has no name for a file: \"")), "{refused:?}");
        assert!(refused.iter().any(|message| message.contains(r"a\x1b]0;b\x07")), "{refused:?}");

        fs::write(directory.join("evil.rpm"), fixture::named("a/b")).unwrap();
        fs::write(directory.join("good.rpm"), rpm_bytes("beta")).unwrap();
        let imported = import(&directory, &store, &stage()).unwrap();
        assert_eq!(imported.counts, Counts { new: 1, present: 0 });
        assert!(matches!(&imported.refused[..], [(path, _)] if *path == directory.join("evil.rpm")));
    }

    #[test]
    fn names_that_lead_elsewhere_and_missing_directories_are_refused_before_anything_is_written() {
        let (root, store, directory) = store();
        let digest = store.insert(&rpm_bytes("alpha")).unwrap();
        let message = |result: Result<Exported>| result.unwrap_err().to_string();
        for name in ["../a.rpm", ".a.rpm", ""] {
            let files = BTreeMap::from([(name.to_owned(), digest)]);
            assert!(message(export(&files, &store, &directory, &stage())).ends_with("which is not a name for a file"));
        }
        assert_eq!(names(&directory), [""; 0]);
        let absent = root.path().join("absent");
        let files = names_of_rpms(&store);
        assert!(message(export(&files, &store, &absent, &stage())).contains("make it first: mkdir -p "));
        assert!(import(&absent, &store, &stage()).unwrap_err().to_string().starts_with("there is no directory "));
        assert!(
            import(&directory, &store, &stage())
                .unwrap_err()
                .to_string()
                .starts_with("there is no *.rpm and no *.oci.tar below ")
        );
    }

    #[test]
    fn package_that_was_built_twice_is_exported_twice() {
        let (_root, store, directory) = store();
        let mut digests =
            [rpm_bytes("alpha"), [rpm_bytes("alpha"), vec![0]].concat()].map(|bytes| store.insert(&bytes).unwrap());
        digests.sort();
        let files = names_of_rpms(&store);
        let second = format!("alpha-1.2-3.fc44.x86_64.{}.rpm", &digests[1].hex()[..12]);
        assert_eq!(
            files,
            BTreeMap::from([("alpha-1.2-3.fc44.x86_64.rpm".to_owned(), digests[0]), (second, digests[1])])
        );
        assert_eq!(counts(export(&files, &store, &directory, &stage())), Counts { new: 2, present: 0 });
    }
}
