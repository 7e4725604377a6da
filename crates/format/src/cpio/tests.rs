use std::fmt::Write as _;
use std::io::{self, BufReader, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::text::Escaped;

/// One entry of every kind, two names of one file with the data on the last, a name that is not UTF-8.
fn sample() -> Vec<(Header<'static>, &'static [u8])> {
    let entry = |path: &'static [u8], mode: u32, data: &'static [u8]| {
        let size_bytes = u32::try_from(data.len()).unwrap();
        (Header { path, mode, size_bytes, links: 1, mtime: 1_700_000_000, ..Header::default() }, data)
    };
    let mut entries = vec![
        entry(b"bin", 0o120_777, b"usr/bin"),
        entry(b"dev", 0o40_755, b""),
        entry(b"dev/console", 0o20_600, b""),
        entry(b"dev/pipe", 0o10_644, b""),
        entry(b"dev/vda", 0o60_660, b""),
        entry(b"usr", 0o40_755, b""),
        entry(b"usr/bin", 0o40_755, b""),
        entry(b"usr/bin/caf\xe9", 0o100_644, b"latin"),
        entry(b"usr/bin/empty", 0o100_644, b""),
        entry(b"usr/bin/first", 0o100_755, b""),
        entry(b"usr/bin/second", 0o100_755, b"shared\n"),
        entry(b"usr/bin/sudo", 0o104_755, b"#!/bin/sh\n"),
    ];
    entries[2].0.device = (5, 1);
    entries[4].0.device = (254, 0);
    for (number, (header, _)) in (1..).zip(&mut entries) {
        header.inode = number;
    }
    for (header, _) in &mut entries[9..=10] {
        (header.inode, header.links, header.uid, header.gid) = (10, 2, 1000, 100);
    }
    entries
}

fn archive(entries: &[(Header<'_>, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, data) in entries {
        writer.append(header, *data).unwrap();
    }
    writer.finish().unwrap()
}

/// The entries of all archives with their data.
fn read_all(bytes: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    loop {
        match reader.next_item()? {
            Next::Entry(entry) => {
                let mut data = Vec::new();
                reader.read_to_end(&mut data)?;
                entries.push((entry, data));
            }
            Next::ArchiveEnd { trailer: true } => {}
            Next::End => return Ok(entries),
            other => return Err(io::Error::other(format!("{other:?} at {}", reader.position()))),
        }
    }
}

/// Turns an archive into one with checksums, as the writer makes none.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut summed = bytes.to_vec();
    for (entry, data) in read_all(bytes).unwrap() {
        let at = usize::try_from(entry.offset).unwrap();
        let sum: u32 = if entry.is_file() { data.iter().map(|byte| u32::from(*byte)).sum() } else { 0 };
        summed[at + 5] = b'2';
        summed[at + 102..at + 110].copy_from_slice(format!("{sum:08X}").as_bytes());
    }
    summed
}

#[test]
fn listing_of_every_kind_of_entry() {
    let mut listing = String::new();
    for (entry, data) in read_all(&archive(&sample())).unwrap() {
        let Entry { mode, uid, gid, inode, links, device, size_bytes, offset, .. } = entry;
        let (path, data) = (Escaped(&entry.path), Escaped(&data));
        writeln!(listing, "{offset:4} {inode:2} {mode:6o} {links} {uid} {gid} {device:?} {size_bytes} {path} [{data}]")
            .unwrap();
    }
    insta::assert_snapshot!(listing, @r"
       0  1 120777 1 0 0 (0, 0) 7 bin [usr/bin]
     124  2  40755 1 0 0 (0, 0) 0 dev []
     240  3  20600 1 0 0 (5, 1) 0 dev/console []
     364  4  10644 1 0 0 (0, 0) 0 dev/pipe []
     484  5  60660 1 0 0 (254, 0) 0 dev/vda []
     604  6  40755 1 0 0 (0, 0) 0 usr []
     720  7  40755 1 0 0 (0, 0) 0 usr/bin []
     840  8 100644 1 0 0 (0, 0) 5 usr/bin/caf\xe9 [latin]
     972  9 100644 1 0 0 (0, 0) 0 usr/bin/empty []
    1096 10 100755 2 1000 100 (0, 0) 0 usr/bin/first []
    1220 10 100755 2 1000 100 (0, 0) 7 usr/bin/second [shared\x0a]
    1356 12 104755 1 0 0 (0, 0) 10 usr/bin/sudo [#!/bin/sh\x0a]
    ");
}

#[test]
fn bytes_are_those_of_the_day_the_format_was_fixed() {
    insta::assert_snapshot!(Digest::of(&archive(&sample())).to_string(), @"sha256:cc1935ff9d74c6094a85492a453f703423d5885ad7ab558e59afbc684a282399");
}

#[test]
fn the_cpio_crate_reads_what_we_write() {
    let entries: Vec<_> = sample().into_iter().filter(|(header, _)| header.path.is_ascii()).collect();
    let bytes = archive(&entries);
    let mut rest = bytes.as_slice();
    for (header, data) in entries {
        let mut reader = cpio::NewcReader::new(rest).unwrap();
        assert_eq!(reader.entry().name().as_bytes(), header.path);
        assert_eq!((reader.entry().mode(), reader.entry().nlink()), (header.mode, header.links));
        assert_eq!((reader.entry().rdev_major(), reader.entry().rdev_minor()), header.device);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, data);
        rest = reader.finish().unwrap();
    }
    assert!(cpio::NewcReader::new(rest).unwrap().entry().is_trailer());
}

#[test]
fn archives_may_follow_each_other_with_zeros_between() {
    let one = archive(&sample()[..1]);
    let bytes = [&[0; 8][..], &one, &[0; 1000], &one, &one, &[0; 3]].concat();
    let mut reader = Reader::new(bytes.as_slice());
    for _ in 0..3 {
        assert!(matches!(reader.next_item().unwrap(), Next::Entry(_)));
        assert_eq!(reader.next_item().unwrap(), Next::ArchiveEnd { trailer: true });
    }
    assert_eq!(reader.next_item().unwrap(), Next::End);
    assert_eq!(reader.position(), bytes.len() as u64);
}

#[test]
fn something_else_after_an_archive_is_left_alone() {
    let bytes = [&archive(&sample())[..], &[0; 4], b"\x28\xb5\x2f\xfd"].concat();
    let mut reader = Reader::new(bytes.as_slice());
    while matches!(reader.next_item().unwrap(), Next::Entry(_)) {}
    assert_eq!(reader.next_item().unwrap(), Next::Foreign);
    assert_eq!(reader.into_inner(), b"\x28\xb5\x2f\xfd");
}

#[test]
fn every_truncation_is_seen() {
    let bytes = archive(&sample());
    let trailer = bytes.len() as u64 - 124;
    let ends: Vec<_> = read_all(&bytes).unwrap().iter().map(|(entry, _)| entry.offset).chain([trailer]).collect();
    for length in 1..bytes.len() - 4 {
        let error = read_all(&bytes[..length]).unwrap_err().to_string();
        let complete = error.contains("trailer: false");
        let at_boundary = ends.iter().any(|end| (length as u64..length as u64 + 4).contains(end));
        assert!(complete || error.contains("cut off"), "{length}: {error}");
        assert!(!complete || at_boundary, "{length}: {error}");
    }
}

#[test]
fn damage_is_reported_with_entry_and_offset() {
    let bytes = archive(&sample());
    let at = bytes.windows(13).position(|window| window == b"usr/bin/empty").unwrap() - HEADER_BYTES;
    let damaged = |place: usize, with: &[u8]| {
        let mut copy = bytes.clone();
        copy[at + place..at + place + with.len()].copy_from_slice(with);
        read_all(&copy).unwrap_err().to_string()
    };
    let all = [
        damaged(0, b"070707"),
        damaged(0, b"070703"),
        damaged(0, b"x"),
        damaged(6, b"+0000001"),
        damaged(94, b"00000000"),
        damaged(94, b"00001001"),
        damaged(94, b"FFFFFFFF"),
        damaged(94, b"00000003"),
        damaged(110, b"\0"),
        damaged(54, b"FFFFFFFF"),
        damaged(54, b"00000002"),
    ];
    insta::assert_snapshot!(all.join("\n"), @r#"
    cpio entry at byte 972: it is in the old format (odc), and the kernel takes newc only
    cpio entry at byte 972: bad magic "070703"
    ArchiveEnd { trailer: false } at 972
    cpio entry at byte 972: header field "+0000001" is no hexadecimal number
    cpio entry at byte 972: its name has no bytes, not even a NUL
    cpio entry at byte 972: its name has 4097 bytes, and the kernel takes 4096
    cpio entry at byte 972: its name has 4294967295 bytes, and the kernel takes 4096
    cpio entry at byte 972: its name does not end in NUL
    cpio entry at byte 972: its name is empty
    cpio entry "usr/bin/empty" at byte 972: the archive is cut off 4294966775 bytes before the end of its data
    cpio entry at byte 1100: bad magic "010000"
    "#);
}

#[test]
fn unaligned_archive_is_refused() {
    let bytes = archive(&sample());
    let error = Reader::at(bytes.as_slice(), 2).next_item().unwrap_err().to_string();
    assert_eq!(error, "cpio entry at byte 2: it does not start at a multiple of 4 bytes, where the kernel expects it");
}

#[test]
fn checksums_are_verified_whether_data_is_read_or_skipped() {
    let mut bytes = with_checksums(&archive(&sample()));
    assert_eq!(read_all(&bytes).unwrap().len(), sample().len());
    let at = bytes.windows(7).position(|window| window == b"shared\n").unwrap();
    bytes[at] = b'S';
    let error = read_all(&bytes).unwrap_err().to_string();
    assert!(error.contains("usr/bin/second") && error.contains("checksum"), "{error}");
    let mut reader = Reader::new(bytes.as_slice());
    let skipped = loop {
        match reader.next_item() {
            Ok(Next::Entry(_)) => {}
            other => break other.unwrap_err().to_string(),
        }
    };
    assert_eq!(skipped, error);
}

#[test]
fn unfit_entries_are_refused_by_name_and_the_archive_stays_whole() {
    let long = vec![b'n'; PATH_MAX_BYTES + 1];
    let file = Header { path: b"file", mode: TYPE_FILE | 0o644, links: 1, ..Header::default() };
    let refused = [
        Header { path: b"", ..file },
        Header { path: b"/etc", ..file },
        Header { path: b"a/../b", ..file },
        Header { path: b"a\0b", ..file },
        Header { path: TRAILER, ..file },
        Header { path: &long, ..file },
        Header { path: b"link", mode: TYPE_SYMLINK, ..file },
        Header { path: b"link", mode: TYPE_SYMLINK, size_bytes: 4096, ..file },
        Header { path: b"caf\xe9", mode: TYPE_DIRECTORY, size_bytes: 1, ..file },
    ];
    let mut writer = Writer::new(Vec::new());
    let mut messages: Vec<String> =
        refused.iter().map(|header| writer.append(header, io::empty()).unwrap_err().to_string()).collect();
    messages.push(size_field(b"huge", 1 << 32).unwrap_err().to_string());
    insta::assert_snapshot!(messages.join("\n"), @r#"
    cpio entry "" refused: its path is empty
    cpio entry "/etc" refused: its path is absolute
    cpio entry "a/../b" refused: its path holds ".."
    cpio entry "a\x00b" refused: its path holds a NUL byte
    cpio entry "TRAILER!!!" refused: this name ends an archive
    cpio entry "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn..." refused: its path has 4096 bytes, and the kernel takes 4095
    cpio entry "link" refused: a symlink needs a target
    cpio entry "link" refused: its target has 4096 bytes, and the kernel takes 4095
    cpio entry "caf\xe9" refused: only regular files and symlinks have data
    cpio entry "huge" refused: it has 4294967296 bytes, and cpio holds files under 4 GiB only
    "#);
    assert_eq!(size_field(b"large", (1 << 32) - 1).unwrap(), u32::MAX);
    writer.append(&file, io::empty()).unwrap();
    assert_eq!(read_all(&writer.finish().unwrap()).unwrap().len(), 1);
}

#[test]
fn longest_path_is_written() {
    let path = [b'n'; PATH_MAX_BYTES];
    let bytes = archive(&[(Header { path: &path, mode: TYPE_FILE, links: 1, ..Header::default() }, b"")]);
    assert_eq!(read_all(&bytes).unwrap()[0].0.path, path);
}

#[test]
fn data_of_another_length_breaks_the_archive() {
    for (data, message) in [
        (&b"abc"[..], "writing cpio entry \"etc/x\": its data ends 2 bytes before the 5 bytes of its header"),
        (b"abcdef", "writing cpio entry \"etc/x\": its data goes on after the 5 bytes of its header"),
    ] {
        let mut writer = Writer::new(Vec::new());
        let header = Header { path: b"etc/x", mode: TYPE_FILE, size_bytes: 5, ..Header::default() };
        assert_eq!(writer.append(&header, data).unwrap_err().to_string(), message);
        assert!(writer.append(&header, &b"abcde"[..]).is_err());
        assert!(writer.finish().is_err());
    }
}

#[test]
fn padding_and_position() {
    let entries = sample();
    for (padding, multiple) in [(Padding::Word, 4), (Padding::Block, 512)] {
        let mut writer = Writer::with_padding(Vec::new(), padding);
        writer.append(&entries[0].0, entries[0].1).unwrap();
        assert_eq!(writer.position(), (110 + 4_u64).next_multiple_of(4) + 8);
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len() % multiple, 0);
        assert_eq!(read_all(&bytes).unwrap().len(), 1);
    }
}

/// Counts flushes and takes few bytes at a time.
#[derive(Default)]
struct Stubborn {
    bytes: Vec<u8>,
    flushes: usize,
}

impl Write for Stubborn {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = buffer.len().min(1000);
        self.bytes.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushes += 1;
        Ok(())
    }
}

#[test]
fn large_file_passes_through_the_buffer_without_a_flush() {
    let data: Vec<u8> = (0..3_000_001_u32).map(|number| (number % 251) as u8).collect();
    let header = Header { path: b"large", mode: TYPE_FILE, size_bytes: 3_000_001, links: 1, ..Header::default() };
    let mut writer = Writer::new(Stubborn::default());
    // A reader that gives little at a time, as pipes do.
    writer.append(&header, BufReader::with_capacity(777, data.as_slice())).unwrap();
    let output = writer.finish().unwrap();
    assert_eq!(output.flushes, 0);
    assert_eq!(read_all(&output.bytes).unwrap()[0].1, data);
}

type Generated = (Vec<u8>, (u32, u32, u32, u32, u32, u32), (u32, u32), Vec<u8>);

fn generated() -> impl Strategy<Value = Vec<Generated>> {
    let path = vec(any::<u8>().prop_filter("what a path can hold", |byte| !matches!(byte, 0 | b'/' | b'.')), 1..200);
    vec((path, any::<(u32, u32, u32, u32, u32, u32)>(), any::<(u32, u32)>(), vec(any::<u8>(), 1..300)), 0..12)
}

proptest! {
    #[test]
    fn what_is_written_is_read(generated in generated(), checksums: bool) {
        let entries: Vec<(Header<'_>, &[u8])> = generated.iter().map(|(path, numbers, device, data)| {
            let (mode, uid, gid, mtime, inode, links) = *numbers;
            let file_type = if mode > u32::MAX / 2 { TYPE_FILE } else { TYPE_SYMLINK };
            let mode = (mode % 0o10_000) | file_type;
            let size_bytes = u32::try_from(data.len()).unwrap();
            (Header { path, mode, uid, gid, mtime, inode, links, device: *device, size_bytes }, data.as_slice())
        }).collect();
        let plain = archive(&entries);
        let bytes = if checksums { with_checksums(&plain) } else { plain };
        let read = read_all(&bytes).unwrap();
        prop_assert_eq!(read.len(), entries.len());
        for ((header, data), (entry, read)) in entries.into_iter().zip(read) {
            let expected = Entry {
                path: header.path.to_vec(), mode: header.mode, uid: header.uid, gid: header.gid, mtime: header.mtime,
                inode: header.inode, links: header.links, file_system: (0, 0), device: header.device,
                size_bytes: header.size_bytes, offset: entry.offset,
                has_stale_checksum: false,
            };
            prop_assert_eq!(entry, expected);
            prop_assert_eq!(read, data);
        }
    }

    #[test]
    fn damaged_archives_end_in_an_error_or_in_entries(at in 0_usize..4000, byte: u8, checksums: bool) {
        let mut bytes = archive(&sample());
        if checksums {
            bytes = with_checksums(&bytes);
        }
        let length = bytes.len();
        bytes[at % length] = byte;
        let _ = read_all(&bytes);
    }
}
