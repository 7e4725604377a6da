//! Our cpio archives and compressed members, read by the usual programs, and theirs read by us.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ocinitrd_format::compress::{Compression, Decoder, Encoder, Input};
use ocinitrd_format::cpio::{Entry, Header, Next, Padding, Reader, Writer};
use ocinitrd_support::process::Program;
use tempfile::TempDir;

/// Runs a shell script in `directory` in a fixed locale and time zone.
fn shell(directory: &Path, script: &str) -> String {
    let script = format!("cd '{}' && export LC_ALL=C TZ=UTC && {script}", directory.display());
    Program::new("sh").args(["-ec", &script]).run().unwrap()
}

/// Every kind of entry, three names of one file with the data on the last.
fn archive(padding: Padding) -> Vec<u8> {
    let base = Header { links: 1, mtime: 1_600_000_000, ..Header::default() };
    let linked = Header { mode: 0o100_644, inode: 100, links: 3, ..base };
    let entries: [(Header<'_>, &[u8]); 11] = [
        (Header { path: b"bin", mode: 0o120_777, size_bytes: 7, inode: 1, ..base }, b"usr/bin"),
        (Header { path: b"dev", mode: 0o40_755, inode: 2, links: 2, ..base }, b""),
        (Header { path: b"dev/console", mode: 0o20_600, device: (5, 1), inode: 3, ..base }, b""),
        (Header { path: b"dev/pipe", mode: 0o10_644, inode: 4, ..base }, b""),
        (Header { path: b"dev/vda", mode: 0o60_660, device: (254, 17), gid: 6, inode: 5, ..base }, b""),
        (Header { path: b"tmp", mode: 0o41_777, inode: 6, ..base }, b""),
        (Header { path: b"tmp/caf\xe9", mode: 0o100_600, size_bytes: 5, inode: 7, ..base }, b"latin"),
        (Header { path: b"tmp/one", ..linked }, b""),
        (
            Header { path: b"tmp/sudo", mode: 0o104_755, uid: 4_000_000, gid: 65_534, size_bytes: 4, inode: 8, ..base },
            b"root",
        ),
        (Header { path: b"tmp/three", ..linked }, b""),
        (Header { path: b"tmp/two", size_bytes: 6, ..linked }, b"shared"),
    ];
    let mut writer = Writer::with_padding(Vec::new(), padding);
    for (header, data) in entries {
        writer.append(&header, data).unwrap();
    }
    writer.finish().unwrap()
}

fn read_entries(bytes: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    loop {
        match reader.next_item().unwrap() {
            Next::Entry(entry) => {
                let mut data = Vec::new();
                reader.read_to_end(&mut data).unwrap();
                entries.push((entry, data));
            }
            Next::ArchiveEnd { trailer } => assert!(trailer),
            Next::End => return entries,
            Next::Foreign => panic!("no cpio at {}", reader.position()),
        }
    }
}

#[test]
fn gnu_cpio_lists_names_modes_sizes_links_and_devices() {
    let directory = TempDir::new().unwrap();
    for padding in [Padding::Word, Padding::Block] {
        fs::write(directory.path().join("archive"), archive(padding)).unwrap();
        insta::allow_duplicates! {
            insta::assert_snapshot!(shell(directory.path(), "cpio --quiet -itvn <archive"), @"
            lrwxrwxrwx   1 0        0               7 Sep 13  2020 bin -> usr/bin
            drwxr-xr-x   2 0        0               0 Sep 13  2020 dev
            crw-------   1 0        0          5,   1 Sep 13  2020 dev/console
            prw-r--r--   1 0        0               0 Sep 13  2020 dev/pipe
            brw-rw----   1 0        6        254,  17 Sep 13  2020 dev/vda
            drwxrwxrwt   1 0        0               0 Sep 13  2020 tmp
            -rw-------   1 0        0               5 Sep 13  2020 tmp/caf�
            -rw-r--r--   3 0        0               0 Sep 13  2020 tmp/one
            -rwsr-xr-x   1 4000000  65534           4 Sep 13  2020 tmp/sudo
            -rw-r--r--   3 0        0               0 Sep 13  2020 tmp/three
            -rw-r--r--   3 0        0               6 Sep 13  2020 tmp/two
            ");
        }
    }
}

#[test]
fn gnu_cpio_and_bsdtar_unpack_links_and_data() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("archive"), archive(Padding::Word)).unwrap();
    for (name, program) in [("gnu", "cpio --quiet -id 'tmp*' <../archive"), ("bsd", "bsdtar -xf ../archive 'tmp*'")] {
        shell(directory.path(), &format!("mkdir {name} && cd {name} && {program}"));
        let unpacked = directory.path().join(name).join("tmp");
        let inode = |file: &str| fs::metadata(unpacked.join(file)).unwrap().ino();
        assert_eq!((inode("one"), inode("two")), (inode("three"), inode("three")), "{name}");
        assert_eq!(fs::read(unpacked.join("one")).unwrap(), b"shared", "{name}");
        assert_eq!(fs::read(unpacked.join("sudo")).unwrap(), b"root", "{name}");
    }
}

#[test]
fn archives_of_other_programs_are_read() {
    let directory = TempDir::new().unwrap();
    let make_tree =
        "mkdir tree && cd tree && mkdir d && echo data >d/first && ln d/first d/second && ln -s first d/link
        printf x >\"d/caf$(printf '\\351')\"";
    shell(directory.path(), make_tree);
    let names = "find . | sort";
    for program in [
        format!("{names} | cpio --quiet -o -H newc"),
        format!("{names} | cpio --quiet -o -H crc"),
        format!("{names} | cpio --quiet -o -H newc --reproducible -R 0:0"),
        format!("{names} | bsdtar -cnf - --format newc -T -"),
    ] {
        shell(&directory.path().join("tree"), &format!("{program} >../archive"));
        let entries = read_entries(&fs::read(directory.path().join("archive")).unwrap());
        let find = |name: &[u8]| entries.iter().find(|(entry, _)| entry.path.ends_with(name)).unwrap();
        assert_eq!(entries.len(), 6, "{program}");
        assert_eq!(find(b"d/link").1, b"first", "{program}");
        assert_eq!(find(b"d/caf\xe9").1, b"x", "{program}");
        let (first, second) = (find(b"d/first"), find(b"d/second"));
        assert_eq!((first.0.links, first.0.inode), (2, second.0.inode), "{program}");
        let data: Vec<_> = [&first.1, &second.1].into_iter().filter(|data| !data.is_empty()).collect();
        assert!(data.iter().all(|data| *data == b"data\n") && !data.is_empty(), "{program}");
    }
}

/// Text, so that what a program prints can be compared; for lz4 a megabyte more than its block.
fn text(program: &str) -> String {
    let numbers: u64 = if program.starts_with("lz4") { 1_300_000 } else { 200_000 };
    (0..numbers).map(|number| format!("{:07}", number * 7919 % 10_000_000)).collect()
}

#[test]
fn usual_programs_decompress_what_we_compress() {
    let directory = TempDir::new().unwrap();
    for (compression, program) in [
        (Compression::Zstd(3), "zstd"),
        (Compression::Zstd(19), "zstd"),
        (Compression::Xz(1), "xz"),
        (Compression::Gzip(6), "gzip"),
        (Compression::Lz4, "lz4"),
    ] {
        let text = text(program);
        let mut encoder = Encoder::new(Vec::new(), compression).unwrap();
        encoder.write_all(text.as_bytes()).unwrap();
        fs::write(directory.path().join("member"), encoder.finish().unwrap()).unwrap();
        assert!(shell(directory.path(), &format!("{program} -dc <member")) == text, "{compression}");
    }
}

#[test]
fn members_of_the_usual_programs_are_decompressed() {
    let directory = TempDir::new().unwrap();
    for program in [
        "zstd -q -3",
        "zstd -q -9 --long=27 -T0",
        "xz -1 --check=crc32",
        "xz -1 --check=none -T2",
        "xz -1 --format=lzma",
        "gzip -n",
        "gzip -1 --name",
        "bzip2 -1",
        "lz4 -q -l -1",
        "lz4 -q -l -9",
    ] {
        let text = text(program);
        fs::write(directory.path().join("text"), &text).unwrap();
        shell(directory.path(), &format!("{program} -c <text >member && printf '\\000\\000\\000\\000070701' >>member"));
        let member = fs::read(directory.path().join("member")).unwrap();
        let mut decoder = Decoder::new(Input::new(member.as_slice())).unwrap();
        let mut decompressed = String::new();
        decoder.read_to_string(&mut decompressed).unwrap();
        assert!(decompressed == text, "{program}");
        let (_, consumed_bytes) = decoder.finish().unwrap();
        assert_eq!(consumed_bytes, member.len() as u64 - 10, "{program}");
    }
}
