//! FAT32 file systems: files in, a file system out that is written once and never changed.
//!
//! Every file and directory lies in one run of clusters behind the one before it, and all times are the beginning of FAT's calendar, so
//! the same files give the same bytes. A name that is not upper-case 8.3 gets a long one beside a short one.
//! Specification: Microsoft, FAT32 File System Specification 1.03; [UEFI 2.10, 13.3](https://uefi.org/specs/UEFI/2.10/).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use ocinitrd_support::regular_file;

const SECTOR_BYTES: u64 = 512;
const CLUSTER_SECTORS: u64 = 8;
const CLUSTER_BYTES: u64 = CLUSTER_SECTORS * SECTOR_BYTES;
/// The boot sector, the sector that counts free clusters, and a copy of both.
const RESERVED_SECTORS: u64 = 32;
const COPY_SECTOR: u64 = 6;
const TABLES: u64 = 2;
const TABLE_ENTRY_BYTES: u64 = 4;
/// What has fewer clusters is FAT16.
const LEAST_CLUSTERS: u64 = 65525;
/// The first two entries of the table stand for no cluster.
const FIRST_CLUSTER: u32 = 2;
const END_OF_CHAIN: u32 = 0x0fff_ffff;
const FIXED_DISK: u8 = 0xf8;

const ENTRY_BYTES: usize = 32;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const LONG_NAME: u8 = 0x0f;
const LAST_PART: u8 = 0x40;
const PART_UNITS: usize = 13;
/// 1 January 1980.
const DATE: u16 = 0x0021;
/// A directory that lies in another begins with its own entry and that of the other.
const SPECIAL_ENTRIES: usize = 2;
const DOT: [u8; 11] = *b".          ";
const DOT_DOT: [u8; 11] = *b"..         ";

/// What a file is to hold.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// What another file holds.
    File(&'a Path),
}

/// Writes a file system with `files`, by their paths, over the bytes `place` of `disk`.
///
/// # Errors
/// Fails when they do not fit, one of them cannot be read, or the disk cannot be written.
pub fn write(disk: &File, place: Range<u64>, files: &[(&str, Content<'_>)]) -> Result<()> {
    let mut root = Directory::default();
    for (path, content) in files {
        insert(&mut root, path, *content)?;
    }
    let mut volume = Volume::new(disk, place)?;
    let first = volume.allocate(directory_bytes(&root, 0))?;
    volume.put_directory(&root, first, None)?;
    volume.finish()
}

enum Node<'a> {
    Directory(Directory<'a>),
    File(Content<'a>),
}

type Directory<'a> = BTreeMap<&'a str, Node<'a>>;

fn insert<'a>(directory: &mut Directory<'a>, path: &'a str, content: Content<'a>) -> Result<()> {
    let Some((name, rest)) = path.split_once('/') else {
        ensure!(directory.insert(path, Node::File(content)).is_none(), "there are two files {path}");
        return Ok(());
    };
    match directory.entry(name).or_insert_with(|| Node::Directory(Directory::new())) {
        Node::Directory(inner) => insert(inner, rest, content),
        Node::File(_) => bail!("{name} is a file, and cannot hold {rest}"),
    }
}

/// A file system under way.
struct Volume<'d> {
    disk: &'d File,
    place: Range<u64>,
    sectors: u64,
    table_sectors: u64,
    clusters: u64,
    /// What follows on each cluster, as far as they are taken.
    table: Vec<u32>,
}

impl<'d> Volume<'d> {
    fn new(disk: &'d File, place: Range<u64>) -> Result<Self> {
        let sectors = (place.end - place.start) / SECTOR_BYTES;
        let after_reserved = sectors.saturating_sub(RESERVED_SECTORS);
        // As the specification computes it: some sectors more than it takes, never less.
        let table_sectors =
            after_reserved.div_ceil((SECTOR_BYTES / TABLE_ENTRY_BYTES * 2 * CLUSTER_SECTORS + TABLES) / 2);
        let clusters = after_reserved.saturating_sub(TABLES * table_sectors) / CLUSTER_SECTORS;
        ensure!(clusters >= LEAST_CLUSTERS, "{sectors} sectors are too few for FAT32");
        let table = vec![0x0fff_ff00 | u32::from(FIXED_DISK), END_OF_CHAIN];
        Ok(Volume { disk, place, sectors, table_sectors, clusters, table })
    }

    /// Takes clusters for so many bytes. The first of them; 0, which stands for none, for no bytes.
    fn allocate(&mut self, bytes: u64) -> Result<u32> {
        let count = bytes.div_ceil(CLUSTER_BYTES);
        let taken = self.table.len() as u64 - u64::from(FIRST_CLUSTER);
        ensure!(
            taken + count <= self.clusters,
            "{bytes} bytes do not fit: of {} bytes {} are free",
            self.clusters * CLUSTER_BYTES,
            (self.clusters - taken) * CLUSTER_BYTES
        );
        let first = u32::try_from(self.table.len()).context("there are too many clusters")?;
        let count = u32::try_from(count).context("there are too many clusters")?;
        self.table.extend((1..count).map(|number| first + number));
        self.table.extend((count > 0).then_some(END_OF_CHAIN));
        Ok(if count > 0 { first } else { 0 })
    }

    /// Writes a directory that lies at the cluster `own`, and all below it. `parent` is the one that it lies in.
    fn put_directory(&mut self, directory: &Directory<'_>, own: u32, parent: Option<u32>) -> Result<()> {
        let mut bytes = Vec::new();
        if let Some(parent) = parent {
            bytes.extend(entry(DOT, DIRECTORY, own, 0));
            bytes.extend(entry(DOT_DOT, DIRECTORY, parent, 0));
        }
        for (number, (name, node)) in (1..).zip(directory) {
            let (short, is_whole) = short_name(name, number);
            if !is_whole {
                bytes.extend(long_name(name, &short)?);
            }
            bytes.extend(match node {
                Node::Directory(inner) => {
                    let first = self.allocate(directory_bytes(inner, SPECIAL_ENTRIES))?;
                    // The root directory, which has no parent, is written as 0.
                    self.put_directory(inner, first, Some(parent.map_or(0, |_| own)))?;
                    entry(short, DIRECTORY, first, 0)
                }
                Node::File(content) => {
                    let (first, size_bytes) = self.put_file(*content).with_context(|| format!("writing {name}"))?;
                    entry(short, ARCHIVE, first, size_bytes)
                }
            });
        }
        // What follows on the last entry has to be zero.
        bytes.resize(bytes.len().next_multiple_of(CLUSTER_BYTES as usize), 0);
        self.put(&bytes, self.cluster_offset(own))
    }

    /// Writes a file; its first cluster and its length.
    fn put_file(&mut self, content: Content<'_>) -> Result<(u32, u32)> {
        let path = match content {
            Content::Bytes(bytes) => return self.put_stream(bytes, bytes.len() as u64),
            Content::File(path) => path,
        };
        let reading = || format!("reading {}", path.display());
        let file = regular_file::open(path).with_context(reading)?;
        let size_bytes = file.metadata().with_context(reading)?.len();
        self.put_stream(file, size_bytes).with_context(reading)
    }

    fn put_stream(&mut self, mut stream: impl Read, size_bytes: u64) -> Result<(u32, u32)> {
        let first = self.allocate(size_bytes)?;
        let (mut chunk, mut written) = (vec![0; 1 << 20], 0);
        while written < size_bytes {
            let count = stream.read(&mut chunk)?.min((size_bytes - written) as usize);
            ensure!(count > 0, "it became shorter than its {size_bytes} bytes meanwhile");
            self.put(&chunk[..count], self.cluster_offset(first) + written)?;
            written += count as u64;
        }
        Ok((first, u32::try_from(size_bytes).context("FAT32 holds no files of 4 GiB or more")?))
    }

    /// Where a cluster lies, from the start of the file system.
    fn cluster_offset(&self, cluster: u32) -> u64 {
        let before = RESERVED_SECTORS + TABLES * self.table_sectors;
        before * SECTOR_BYTES + u64::from(cluster.saturating_sub(FIRST_CLUSTER)) * CLUSTER_BYTES
    }

    fn put(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.disk.write_all_at(bytes, self.place.start + offset).context("writing a FAT file system")
    }

    /// Writes what describes the whole.
    fn finish(self) -> Result<()> {
        let mut table: Vec<u8> = self.table.iter().flat_map(|next| next.to_le_bytes()).collect();
        table.resize((self.table_sectors * SECTOR_BYTES) as usize, 0);
        for number in 0..TABLES {
            self.put(&table, (RESERVED_SECTORS + number * self.table_sectors) * SECTOR_BYTES)?;
        }
        let sectors = [self.boot_sector()?, self.count_sector()].concat();
        self.put(&sectors, 0)?;
        self.put(&sectors, COPY_SECTOR * SECTOR_BYTES)
    }

    fn boot_sector(&self) -> Result<Vec<u8>> {
        let number = |value: u64| u32::try_from(value).context("there are too many sectors");
        let mut bytes = vec![0xeb, 0x58, 0x90];
        bytes.extend(b"ocinitrd");
        bytes.extend((SECTOR_BYTES as u16).to_le_bytes());
        bytes.push(CLUSTER_SECTORS as u8);
        bytes.extend((RESERVED_SECTORS as u16).to_le_bytes());
        bytes.push(TABLES as u8);
        // No root directory of fixed size, and no number of sectors in 16 bits.
        bytes.extend([0; 4]);
        bytes.push(FIXED_DISK);
        bytes.extend([0; 2]);
        // Sectors a track and heads, as every disk has them in name.
        bytes.extend([63, 0, 255, 0]);
        for value in [self.place.start / SECTOR_BYTES, self.sectors, self.table_sectors] {
            bytes.extend(number(value)?.to_le_bytes());
        }
        // Both tables are kept the same, and the version is 0.0.
        bytes.extend([0; 4]);
        bytes.extend(FIRST_CLUSTER.to_le_bytes());
        bytes.extend(1_u16.to_le_bytes());
        bytes.extend((COPY_SECTOR as u16).to_le_bytes());
        bytes.extend([0; 12]);
        // The number of the drive, and a mark that what follows is there: serial number, label, type.
        bytes.extend([0x80, 0, 0x29]);
        bytes.extend(b"ociiNO NAME    FAT32   ");
        bytes.resize(SECTOR_BYTES as usize - 2, 0);
        bytes.extend([0x55, 0xaa]);
        Ok(bytes)
    }

    /// How many clusters are free, and where the next may be looked for.
    fn count_sector(&self) -> Vec<u8> {
        let taken = self.table.len() as u64;
        let free = self.clusters + u64::from(FIRST_CLUSTER) - taken;
        let mut bytes = b"RRaA".to_vec();
        bytes.resize(484, 0);
        bytes.extend(b"rrAa");
        bytes.extend((free as u32).to_le_bytes());
        bytes.extend((taken as u32).to_le_bytes());
        bytes.resize(SECTOR_BYTES as usize - 2, 0);
        bytes.extend([0x55, 0xaa]);
        bytes
    }
}

/// How long a directory is that has so many entries beside those of what lies in it.
fn directory_bytes(directory: &Directory<'_>, special_entries: usize) -> u64 {
    let parts = |name: &str| if short_name(name, 1).1 { 0 } else { name.encode_utf16().count().div_ceil(PART_UNITS) };
    let entries: usize = directory.keys().map(|name| 1 + parts(name)).sum();
    // An empty directory has a cluster too.
    ((entries + special_entries) * ENTRY_BYTES).max(1) as u64
}

fn entry(name: [u8; 11], attributes: u8, first_cluster: u32, size_bytes: u32) -> [u8; ENTRY_BYTES] {
    let [low, lower, high, higher] = first_cluster.to_le_bytes();
    let [day, year] = DATE.to_le_bytes();
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..11].copy_from_slice(&name);
    bytes[11] = attributes;
    // Made, read and changed on that day, at midnight.
    for place in [16, 18, 24] {
        bytes[place..place + 2].copy_from_slice(&[day, year]);
    }
    bytes[20..22].copy_from_slice(&[high, higher]);
    bytes[26..28].copy_from_slice(&[low, lower]);
    bytes[28..].copy_from_slice(&size_bytes.to_le_bytes());
    bytes
}

/// A name in the form 8.3, and whether that is all of it. What is shortened is told apart by its `number` in the directory.
fn short_name(name: &str, number: u32) -> ([u8; 11], bool) {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let keep = |text: &str, length: usize| -> Vec<u8> {
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        text.bytes().map(|byte| byte.to_ascii_uppercase()).filter(|byte| plain(*byte)).take(length).collect()
    };
    let mut short = [b' '; 11];
    let is_whole = keep(stem, 8) == stem.as_bytes() && keep(extension, 3) == extension.as_bytes() && !stem.is_empty();
    let tail = if is_whole { String::new() } else { format!("~{number}") };
    let stem = [keep(stem, 8 - tail.len()), tail.into_bytes()].concat();
    let extension = keep(extension, 3);
    short[..stem.len()].copy_from_slice(&stem);
    short[8..8 + extension.len()].copy_from_slice(&extension);
    (short, is_whole)
}

/// The entries with a long name, which stand before that with the short one: the last part first.
fn long_name(name: &str, short: &[u8; 11]) -> Result<Vec<u8>> {
    let mut units: Vec<u16> = name.encode_utf16().collect();
    ensure!(units.len() <= 255, "the name {name} is longer than 255 UTF-16 units");
    if !units.len().is_multiple_of(PART_UNITS) {
        units.push(0);
        units.resize(units.len().next_multiple_of(PART_UNITS), 0xffff);
    }
    let checksum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let parts: Vec<&[u16]> = units.chunks_exact(PART_UNITS).collect();
    let mut bytes = Vec::new();
    for (number, part) in (1..=parts.len() as u8).zip(&parts).rev() {
        let last = if usize::from(number) == parts.len() { LAST_PART } else { 0 };
        let mut text = part.iter().flat_map(|unit| unit.to_le_bytes());
        bytes.push(number | last);
        bytes.extend(text.by_ref().take(10));
        bytes.extend([LONG_NAME, 0, checksum]);
        bytes.extend(text.by_ref().take(12));
        bytes.extend([0; 2]);
        bytes.extend(text);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use super::*;
    use ocinitrd_support::process::{Program, find};

    const MIB: u64 = 1 << 20;
    const PLACE: Range<u64> = MIB..301 * MIB;
    /// A directory of more than one cluster.
    const MANY: usize = 100;

    fn disk() -> File {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(302 * MIB).unwrap();
        disk
    }

    /// The bytes of `place`, as a file system of their own.
    fn read(disk: &File, place: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (place.end - place.start) as usize];
        disk.read_exact_at(&mut bytes, place.start).unwrap();
        bytes
    }

    fn samples() -> Vec<(String, Vec<u8>)> {
        let long = format!("a name of more than two parts of thirteen units: {}", "Größe".repeat(8));
        let mut files = vec![
            ("EFI/BOOT/BOOTX64.EFI".to_owned(), b"upper-case 8.3".to_vec()),
            ("loader/entries/ocinitrd.conf".to_owned(), b"entry".to_vec()),
            ("loader/loader.conf".to_owned(), Vec::new()),
            ("initrd".to_owned(), (0..3 * CLUSTER_BYTES as usize + 5).map(|number| number as u8).collect()),
            // As long as three parts of a long name.
            ("x".repeat(3 * PART_UNITS), vec![7; CLUSTER_BYTES as usize]),
            (format!("loader/{long}"), b"long".to_vec()),
        ];
        files.extend((0..MANY).map(|number| (format!("many/file number {number}"), number.to_string().into_bytes())));
        files
    }

    fn write_samples(disk: &File) {
        let samples = samples();
        let files: Vec<_> = samples.iter().map(|(path, bytes)| (path.as_str(), Content::Bytes(bytes))).collect();
        write(disk, PLACE, &files).unwrap();
    }

    #[test]
    fn another_program_reads_back_every_file_and_finds_nothing_outside() {
        let disk = disk();
        for place in [MIB - 3, 301 * MIB] {
            disk.write_all_at(b"old", place).unwrap();
        }
        write_samples(&disk);
        let bytes = Cursor::new(read(&disk, PLACE));
        let file_system = fatfs::FileSystem::new(bytes, fatfs::FsOptions::new()).unwrap();
        assert_eq!(file_system.fat_type(), fatfs::FatType::Fat32);
        for (path, expected) in samples() {
            let mut bytes = Vec::new();
            file_system.root_dir().open_file(&path).unwrap().read_to_end(&mut bytes).unwrap();
            assert!(bytes == expected, "{path}");
        }
        let names: Vec<_> = file_system.root_dir().iter().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["EFI", "initrd", "loader", "many", &"x".repeat(39)]);
        let stats = file_system.stats().unwrap();
        assert_eq!(stats.free_clusters() + taken_clusters(), stats.total_clusters());
        for place in [MIB - 3, 301 * MIB] {
            assert_eq!(read(&disk, place..place + 3), b"old");
        }
    }

    /// Of the files and of six directories, the last of which has entries of three parts.
    fn taken_clusters() -> u32 {
        let of = |bytes: u64| bytes.div_ceil(CLUSTER_BYTES) as u32;
        let files: u32 = samples().iter().map(|(_, bytes)| of(bytes.len() as u64)).sum();
        files + 5 + of(((MANY * 3 + 2) * ENTRY_BYTES) as u64)
    }

    #[test]
    fn the_checker_of_such_file_systems_has_no_complaint() {
        let fsck = find("fsck.vfat").unwrap().expect("fsck.vfat is installed: `make check` sees to it");
        let disk = disk();
        write_samples(&disk);
        let image = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(image.path(), read(&disk, PLACE)).unwrap();
        let output = Program::new(fsck).args(["-n"]).args([image.path()]).output().unwrap();
        let lines: Vec<&str> = output.stdout.lines().collect();
        // Its version, and how many files and clusters there are.
        assert!(output.status.success() && output.stderr.is_empty() && lines.len() == 2, "{output:?}");
        assert!(lines[1].contains(&format!("{} files, ", samples().len() + 5)), "{output:?}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let large = directory.path().join("large");
        File::create(&large).unwrap().set_len(300 * MIB).unwrap();
        let error = write(&disk(), PLACE, &[("initrd", Content::File(&large))]).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("writing initrd: reading ") && text.contains("314572800 bytes do not fit"), "{text}");
        let error = write(&disk(), MIB..200 * MIB, &[]).unwrap_err();
        assert_eq!(error.to_string(), "407552 sectors are too few for FAT32");
    }

    #[test]
    fn a_path_is_one_file_or_one_directory() {
        let text = |files: &[(&str, Content<'_>)]| write(&disk(), PLACE, files).unwrap_err().to_string();
        let file = |path| (path, Content::Bytes(b""));
        assert_eq!(text(&[file("a/b"), file("a/b")]), "there are two files b");
        assert_eq!(text(&[file("a"), file("a/b")]), "a is a file, and cannot hold b");
    }

    #[test]
    fn a_long_name_has_an_end_only_where_its_last_part_is_not_full() {
        let parts = |length: usize| long_name(&"x".repeat(length), &DOT).unwrap().len() / ENTRY_BYTES;
        assert_eq!([parts(1), parts(PART_UNITS), parts(PART_UNITS + 1)], [1, 1, 2]);
        assert_eq!(long_name("x", &DOT).unwrap()[..7], [0x41, b'x', 0, 0, 0, 0xff, 0xff]);
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let images = [disk(), disk()].map(|disk| {
            write_samples(&disk);
            read(&disk, PLACE)
        });
        assert!(images[0] == images[1]);
    }
}
