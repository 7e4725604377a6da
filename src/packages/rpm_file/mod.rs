//! An rpm file: what its header says, and its payload as a stream. No scriptlet is run, no signature verified: that is
//! rpm's, in the container.
//!
//! Enters: the path of a file. Leaves: [`RpmPackage`] and [`Payload`], each with its digest verified; and which keys the
//! package says it was signed with ([`signatures()`]). See <https://rpm-software-management.github.io/rpm/manual/format_v4.html>;
//! version 6 of the format has the same structure.

#[cfg(test)]
pub(crate) mod fixture;
mod header;
mod payload;
mod signature;

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};

use self::header::Header;
use crate::names::Nevra;
use ocinitrd_format::checksum::Checksum;
use ocinitrd_format::text::quoted;
use ocinitrd_format::time::Timestamp;
use ocinitrd_support::regular_file;

pub use payload::Payload;
pub use signature::{Author, Excerpt, Signature, signatures, with_one_signature, without_several_signatures};

const LEAD_BYTES: u64 = 96;
/// How every rpm file begins.
pub const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];

/// Tags of the signature header.
mod signature_tag {
    /// What a header's entries are one region by.
    pub const REGION: u32 = 62;
    /// Signature of the package header, of any algorithm but RSA.
    pub const DSA: u32 = 267;
    /// Signature of the package header.
    pub const RSA: u32 = 268;
    /// SHA-256 of the package header.
    pub const SHA256: u32 = 273;
    /// Signatures of the package header, in base64: of rpm 6.
    pub const OPENPGP: u32 = 278;
    /// Signature of header and payload, as rpm made them before its version 4.14.
    pub const LEGACY_RSA: u32 = 1002;
    /// The same, of any algorithm but RSA.
    pub const LEGACY_DSA: u32 = 1005;
}

/// Tags of the package header.
mod tag {
    pub const NAME: u32 = 1000;
    pub const VERSION: u32 = 1001;
    pub const RELEASE: u32 = 1002;
    pub const EPOCH: u32 = 1003;
    pub const BUILD_TIME: u32 = 1006;
    pub const SIZE: u32 = 1009;
    pub const LICENSE: u32 = 1014;
    pub const ARCH: u32 = 1022;
    pub const FILE_SIZES: u32 = 1028;
    pub const FILE_MODES: u32 = 1030;
    pub const FILE_RDEVS: u32 = 1033;
    pub const FILE_MTIMES: u32 = 1034;
    pub const FILE_DIGESTS: u32 = 1035;
    pub const FILE_LINKTOS: u32 = 1036;
    pub const FILE_FLAGS: u32 = 1037;
    pub const FILE_USERNAMES: u32 = 1039;
    pub const FILE_GROUPNAMES: u32 = 1040;
    pub const SOURCE_RPM: u32 = 1044;
    pub const FILE_DEVICES: u32 = 1095;
    pub const FILE_INODES: u32 = 1096;
    pub const DIR_INDEXES: u32 = 1116;
    pub const BASE_NAMES: u32 = 1117;
    pub const DIR_NAMES: u32 = 1118;
    pub const PAYLOAD_FORMAT: u32 = 1124;
    pub const LONG_FILE_SIZES: u32 = 5008;
    pub const LONG_SIZE: u32 = 5009;
    pub const FILE_CAPS: u32 = 5010;
    pub const FILE_DIGEST_ALGORITHM: u32 = 5011;
}

/// Several times what the largest packages have.
const FILES_MAX: usize = 200_000;
/// Linux takes no longer path.
const PATH_MAX_BYTES: usize = 4096;
/// A file that is not in the payload but only owned.
const FLAG_GHOST: u64 = 1 << 6;
const TYPE_MASK: u32 = 0o170_000;

/// An rpm file, its header read and verified.
pub struct RpmPackage {
    path: PathBuf,
    /// What the package is.
    pub identity: Identity,
    /// All files, ghosts included, in the order of the header.
    pub files: Vec<PackagedFile>,
    payload_offset: u64,
}

/// What a package is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its epoch; 0 if it has none.
    pub epoch: u32,
    /// Its version.
    pub version: String,
    /// Its release.
    pub release: String,
    /// Its architecture.
    pub arch: String,
    /// When it was built, in seconds since 1970-01-01 UTC.
    pub build_time: Timestamp,
    /// File name of the source rpm it was built from; empty if it is one itself.
    pub source_rpm: String,
    /// Its licence, as the package states it.
    pub license: String,
    /// Size of its files when installed, in bytes.
    pub installed_size_bytes: u64,
}

impl Identity {
    /// What tells it from other packages.
    pub fn identity(&self) -> Nevra<'_> {
        let Identity { name, epoch, version, release, arch, .. } = self;
        Nevra { name, epoch: *epoch, version, release, arch }
    }

    /// `name-[epoch:]version-release.arch`, as libsolv writes it: an epoch of 0 is left out.
    pub fn nevra(&self) -> String {
        self.identity().to_string()
    }

    /// `name-version-release.arch.rpm`, as rpm names the file it builds.
    pub fn file_name(&self) -> String {
        let arch = if self.source_rpm.is_empty() { "src" } else { &self.arch };
        format!("{}-{}-{}.{arch}.rpm", self.name, self.version, self.release)
    }
}

/// A file of a package, as its header has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PackagedFile {
    /// The absolute path.
    pub path: Vec<u8>,
    /// The whole `st_mode`.
    pub mode: u32,
    /// Name of the owner.
    pub user: Vec<u8>,
    /// Name of the group.
    pub group: Vec<u8>,
    /// Modification time in seconds since 1970-01-01 UTC.
    pub mtime: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Checksum of a regular file; empty files and ghosts may have none.
    pub checksum: Option<Checksum>,
    /// What a symlink says.
    pub link_target: Vec<u8>,
    /// Major and minor number of a device node.
    pub device: (u32, u32),
    /// File capabilities in text form; empty if none.
    pub capabilities: Vec<u8>,
    /// Whether the package owns the path without bringing the file.
    pub is_ghost: bool,
    /// Files with the same number are one file; none for a file with one name.
    pub link_group: Option<u64>,
}

impl PackagedFile {
    /// The file type bits of the mode.
    pub fn type_bits(&self) -> u32 {
        self.mode & TYPE_MASK
    }

    /// Whether it is a regular file.
    pub fn is_regular(&self) -> bool {
        self.type_bits() == 0o100_000
    }
}

impl RpmPackage {
    /// Opens an rpm file, reads its header and verifies its digest.
    ///
    /// # Errors
    /// Fails when the file cannot be read, is no rpm file, is damaged, or is older than rpm 4.14's format.
    pub fn open(path: &Path) -> Result<Self> {
        let file = regular_file::open(path).with_context(|| format!("opening {}", path.display()))?;
        RpmPackage::read(path, BufReader::new(file)).with_context(|| format!("reading {}", path.display()))
    }

    fn read(path: &Path, mut reader: impl Read) -> Result<Self> {
        let (header, payload_offset) = package_header(&mut reader)?;
        let format = header.text(tag::PAYLOAD_FORMAT)?.unwrap_or_else(|| "cpio".to_owned());
        ensure!(format == "cpio", "its payload is {}, which is not supported, only cpio", quoted(format.as_bytes()));
        Ok(RpmPackage {
            path: path.to_owned(),
            identity: identity_of(&header)?,
            files: files(&header).context("reading its list of files")?,
            payload_offset,
        })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its payload, from the start. Its digest is not verified: that is for who knows the digest of the whole file.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub fn payload(&self) -> Result<Payload<'_>> {
        Payload::open(self).with_context(|| format!("reading the payload of {}", self.path.display()))
    }
}

/// What the package of the rpm file at `path` is. Its header is read and its digest verified; its list of files is not read.
///
/// # Errors
/// As [`RpmPackage::open`].
pub fn identity(path: &Path) -> Result<Identity> {
    let read = |path| {
        let (header, _) = package_header(&mut BufReader::new(regular_file::open(path)?))?;
        identity_of(&header)
    };
    read(path).with_context(|| format!("reading {}", path.display()))
}

/// The header of the package, verified, and where its payload begins.
fn package_header(reader: &mut impl Read) -> Result<(Header, u64)> {
    let (_, signatures) = lead_and_signatures(reader)?;
    let padding_bytes = signatures.length_bytes.next_multiple_of(8) - signatures.length_bytes;
    std::io::copy(&mut reader.take(padding_bytes), &mut std::io::sink())?;
    let header = Header::read(reader)?;
    let digest = signatures.text(signature_tag::SHA256)?;
    let digest = digest.context("it has no SHA-256 of its header: it was built by an rpm older than 4.14")?;
    ensure!(header.digest.hex() == digest, "its header is damaged: the SHA-256 of it is another");
    let payload_offset = LEAD_BYTES + signatures.length_bytes + padding_bytes + header.length_bytes;
    Ok((header, payload_offset))
}

/// The lead and the header of signatures behind it.
fn lead_and_signatures(reader: &mut impl Read) -> Result<([u8; LEAD_BYTES as usize], Header)> {
    let mut lead = [0; LEAD_BYTES as usize];
    reader.read_exact(&mut lead).context("it is no rpm file: it is too short")?;
    ensure!(lead[..4] == LEAD_MAGIC, "it is no rpm file");
    Ok((lead, Header::read(reader)?))
}

fn identity_of(header: &Header) -> Result<Identity> {
    let text = |tag, what| header.text(tag)?.with_context(|| format!("it has no {what}"));
    let first = |tag| anyhow::Ok(header.numbers(tag)?.next());
    Ok(Identity {
        name: text(tag::NAME, "name")?,
        epoch: u32::try_from(first(tag::EPOCH)?.unwrap_or(0)).context("its epoch is too big")?,
        version: text(tag::VERSION, "version")?,
        release: text(tag::RELEASE, "release")?,
        arch: text(tag::ARCH, "architecture")?,
        build_time: first(tag::BUILD_TIME)?.unwrap_or(0).try_into().context("its time of build")?,
        source_rpm: header.text(tag::SOURCE_RPM)?.unwrap_or_default(),
        // Of old packages not always UTF-8.
        license: header.strings(tag::LICENSE)?.next().map_or_else(String::new, lossy),
        installed_size_bytes: first(tag::LONG_SIZE)?.or(first(tag::SIZE)?).unwrap_or(0),
    })
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

const ALGORITHM_MD5: u64 = 1;
const ALGORITHM_SHA256: u64 = 8;
const ALGORITHM_SHA512: u64 = 10;

/// A checksum by OpenPGP's number of its algorithm.
fn checksum(algorithm: u64, digits: &str) -> Result<Checksum> {
    Ok(match algorithm {
        ALGORITHM_SHA256 => Checksum::parse("sha256", digits)?,
        ALGORITHM_SHA512 => Checksum::parse("sha512", digits)?,
        ALGORITHM_MD5 => Checksum::parse("md5", digits)?,
        other => bail!("its digests are of the unknown algorithm {other}"),
    })
}

/// The parallel arrays of the header, one value a file.
fn files(header: &Header) -> Result<Vec<PackagedFile>> {
    let base_names = header.strings(tag::BASE_NAMES)?;
    let count = header.numbers(tag::FILE_MODES)?.len();
    ensure!(count <= FILES_MAX, "it has {count} files, and at most {FILES_MAX} are read of a package");
    let columns = Columns::of(header)?;
    let mut links: BTreeMap<u64, u32> = BTreeMap::new();
    let mut files = Vec::new();
    for (index, base_name) in base_names.enumerate() {
        let file = columns.file(index, base_name)?;
        if let Some(group) = file.link_group {
            *links.entry(group).or_insert(0) += 1;
        }
        files.push(file);
    }
    for file in &mut files {
        file.link_group = file.link_group.filter(|group| links[group] > 1);
    }
    Ok(files)
}

struct Columns<'h> {
    dir_names: Vec<&'h [u8]>,
    dir_indexes: Vec<u64>,
    modes: Vec<u64>,
    users: Vec<&'h [u8]>,
    groups: Vec<&'h [u8]>,
    mtimes: Vec<u64>,
    sizes: Vec<u64>,
    digests: Vec<&'h [u8]>,
    digest_algorithm: u64,
    link_targets: Vec<&'h [u8]>,
    rdevs: Vec<u64>,
    flags: Vec<u64>,
    capabilities: Vec<&'h [u8]>,
    devices: Vec<u64>,
    inodes: Vec<u64>,
}

impl<'h> Columns<'h> {
    fn of(header: &'h Header) -> Result<Self> {
        let strings = |tag| anyhow::Ok(header.strings(tag)?.take(FILES_MAX).collect());
        let numbers = |tag| anyhow::Ok(header.numbers(tag)?.take(FILES_MAX).collect::<Vec<u64>>());
        let long_sizes = numbers(tag::LONG_FILE_SIZES)?;
        Ok(Columns {
            dir_names: strings(tag::DIR_NAMES)?,
            dir_indexes: numbers(tag::DIR_INDEXES)?,
            modes: numbers(tag::FILE_MODES)?,
            users: strings(tag::FILE_USERNAMES)?,
            groups: strings(tag::FILE_GROUPNAMES)?,
            mtimes: numbers(tag::FILE_MTIMES)?,
            sizes: if long_sizes.is_empty() { numbers(tag::FILE_SIZES)? } else { long_sizes },
            digests: strings(tag::FILE_DIGESTS)?,
            digest_algorithm: header.numbers(tag::FILE_DIGEST_ALGORITHM)?.next().unwrap_or(ALGORITHM_MD5),
            link_targets: strings(tag::FILE_LINKTOS)?,
            rdevs: numbers(tag::FILE_RDEVS)?,
            flags: numbers(tag::FILE_FLAGS)?,
            capabilities: strings(tag::FILE_CAPS)?,
            devices: numbers(tag::FILE_DEVICES)?,
            inodes: numbers(tag::FILE_INODES)?,
        })
    }

    fn file(&self, index: usize, base_name: &[u8]) -> Result<PackagedFile> {
        let directory = text(&self.dir_names, usize::try_from(number(&self.dir_indexes, index)?)?)?;
        // Many files may share one directory's name.
        let path_bytes = directory.len() + base_name.len();
        ensure!(path_bytes <= PATH_MAX_BYTES, "a path in it has {path_bytes} bytes, and Linux takes {PATH_MAX_BYTES}");
        let mode = u32::try_from(number(&self.modes, index)?)?;
        let rdev = number(&self.rdevs, index)?;
        let digits = std::str::from_utf8(text(&self.digests, index)?)?;
        let is_ghost = number(&self.flags, index)? & FLAG_GHOST != 0;
        let mut file = PackagedFile {
            path: [directory, base_name].concat(),
            mode,
            user: text(&self.users, index)?.to_vec(),
            group: text(&self.groups, index)?.to_vec(),
            mtime: number(&self.mtimes, index)?,
            size_bytes: number(&self.sizes, index)?,
            checksum: None,
            link_target: text(&self.link_targets, index)?.to_vec(),
            device: (u32::try_from(rdev >> 8)?, u32::try_from(rdev & 0xff)?),
            capabilities: self.capabilities.get(index).copied().unwrap_or_default().to_vec(),
            is_ghost,
            link_group: None,
        };
        if file.is_regular() && !is_ghost {
            file.checksum = (!digits.is_empty()).then(|| checksum(self.digest_algorithm, digits)).transpose()?;
            // Both numbers are made by rpm when it builds: small, and unique within the package.
            let inode = self.inodes.get(index).copied().filter(|inode| *inode != 0);
            file.link_group = inode.map(|inode| inode << 32 | self.devices.get(index).copied().unwrap_or(0));
        }
        Ok(file)
    }
}

fn number(column: &[u64], index: usize) -> Result<u64> {
    column.get(index).copied().ok_or_else(too_short)
}

fn text<'h>(column: &[&'h [u8]], index: usize) -> Result<&'h [u8]> {
    column.get(index).copied().ok_or_else(too_short)
}

fn too_short() -> anyhow::Error {
    anyhow!("its columns have different lengths")
}

#[cfg(test)]
mod tests {
    use super::fixture::{INT16, INT32, STRING_ARRAY};
    use super::*;

    /// The package `a` with these further tags: number, type, count, data.
    fn package(tags: &[(u32, u32, usize, Vec<u8>)]) -> Result<RpmPackage> {
        let (mut entries, mut data) = fixture::identity("a");
        for (tag, kind, count, bytes) in tags {
            entries.push((*tag, *kind, data.len(), *count));
            data.extend(bytes);
        }
        read(&fixture::package(&fixture::header(&entries, &data)))
    }

    fn read(bytes: &[u8]) -> Result<RpmPackage> {
        RpmPackage::read(Path::new("a.rpm"), bytes)
    }

    fn files(count: usize, directory: &str) -> Vec<(u32, u32, usize, Vec<u8>)> {
        let texts = |text: &str, tag| (tag, STRING_ARRAY, count, format!("{text}\0").repeat(count).into_bytes());
        let numbers = |tag, kind, width: usize| (tag, kind, count, vec![0; count * width]);
        vec![
            (tag::DIR_NAMES, STRING_ARRAY, 1, format!("{directory}\0").into_bytes()),
            numbers(tag::DIR_INDEXES, INT32, 4),
            numbers(tag::FILE_MODES, INT16, 2),
            texts("root", tag::FILE_USERNAMES),
            texts("root", tag::FILE_GROUPNAMES),
            numbers(tag::FILE_MTIMES, INT32, 4),
            numbers(tag::FILE_SIZES, INT32, 4),
            texts("", tag::FILE_DIGESTS),
            texts("", tag::FILE_LINKTOS),
            numbers(tag::FILE_RDEVS, INT16, 2),
            numbers(tag::FILE_FLAGS, INT32, 4),
            texts("f", tag::BASE_NAMES),
        ]
    }

    fn message(result: Result<RpmPackage>) -> String {
        format!("{:#}", result.map(|package| package.files.len()).unwrap_err())
    }

    #[test]
    fn tags_that_share_their_data_are_refused() {
        let (mut entries, data) = fixture::identity("a");
        let read = |entries: &[fixture::Entry]| read(&fixture::package(&fixture::header(entries, &data)));
        assert_eq!(read(&entries).unwrap().identity.nevra(), "a-1-1.noarch");
        entries.reverse();
        assert!(read(&entries).is_ok(), "their order is not prescribed");
        for (offset, tag) in [(entries[0].2, 5000), (entries[0].2 + 1, 5000), (0, tag::NAME)] {
            let mut shared = entries.clone();
            shared.push((5000, STRING_ARRAY, offset, 1));
            let error = message(read(&shared));
            assert!(error.ends_with("shares its data with another"), "{tag} {error}");
        }
    }

    #[test]
    fn values_outside_of_the_data_and_of_unknown_types_are_refused() {
        let one = |kind, count, data: &[u8]| message(package(&[(5000, kind, count, data.to_vec())]));
        assert_eq!(one(INT32, 2, &[0; 7]), "the header's tag 5000 is cut off");
        assert_eq!(one(STRING_ARRAY, 3, b"a\0b\0"), "the header's tag 5000 is cut off");
        assert_eq!(one(10, 1, b"a"), "the header's tag 5000 has the unknown type 10");
        assert!(package(&[(5000, 0, 9, vec![]), (5001, STRING_ARRAY, 0, vec![])]).is_ok());
    }

    #[test]
    fn number_of_files_and_length_of_paths_have_a_limit() {
        assert_eq!(package(&files(2, "/d/")).unwrap().files[1].path, b"/d/f");
        let error = message(package(&files(200_001, "/d/")));
        assert_eq!(error, "reading its list of files: it has 200001 files, and at most 200000 are read of a package");
        let error = message(package(&files(2, &"d".repeat(5000))));
        assert_eq!(error, "reading its list of files: a path in it has 5001 bytes, and Linux takes 4096");
    }

    #[test]
    fn a_header_that_says_it_is_too_big_is_not_read() {
        let mut bytes = fixture::package(&fixture::named("a"));
        let header = bytes.len() - fixture::named("a").len();
        bytes[header..][..4].copy_from_slice(&[0x8e, 0xad, 0xe8, 1]);
        bytes[header + 12..][..4].copy_from_slice(&((64 << 20) + 1_u32).to_be_bytes());
        let error = message(read(&bytes));
        assert!(error.ends_with("67108865 bytes, and at most 65535 and 67108864 are read"), "{error}");
    }
}
