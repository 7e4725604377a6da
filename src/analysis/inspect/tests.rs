use std::io::{Cursor, Write};

use proptest::prelude::*;

use super::*;
use ocinitrd_format::compress::{Compression, Encoder};
use ocinitrd_format::cpio::{Header, Padding, Writer};
use ocinitrd_format::text::Escaped;

const DIRECTORY: u32 = 0o40_755;
const FILE: u32 = 0o100_644;
const SYMLINK: u32 = 0o120_777;

type Given<'a> = (&'a str, u32, &'a str);

fn archive(entries: &[Given<'_>]) -> Vec<u8> {
    let links = |path: &str| if path.starts_with("linked") { (7, 2) } else { (0, 1) };
    let mut writer = Writer::new(Vec::new());
    for (path, mode, data) in entries {
        let size_bytes = u32::try_from(data.len()).unwrap();
        let (inode, links) = links(path);
        let header = Header { path: path.as_bytes(), mode: *mode, size_bytes, inode, links, ..Header::default() };
        writer.append(&header, data.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn compressed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut encoder = Encoder::with_workers(Vec::new(), compression, 1).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn microcode() -> Vec<u8> {
    archive(&[
        ("kernel", DIRECTORY, ""),
        ("kernel/x86", DIRECTORY, ""),
        ("kernel/x86/microcode", DIRECTORY, ""),
        ("kernel/x86/microcode/GenuineIntel.bin", FILE, "updates"),
    ])
}

fn base() -> Vec<u8> {
    archive(&[
        ("bin", SYMLINK, "usr/bin"),
        ("lib", SYMLINK, "usr/lib"),
        ("usr", DIRECTORY, ""),
        ("usr/bin", DIRECTORY, ""),
        ("usr/bin/sh", 0o100_755, "#!shell"),
        ("usr/lib", DIRECTORY, ""),
        ("usr/lib/modules", DIRECTORY, ""),
    ])
}

fn modules() -> Vec<u8> {
    archive(&[
        ("usr/lib/modules/6.12.1", DIRECTORY, ""),
        ("usr/lib/modules/6.12.1/modules.dep", FILE, "kernel/ext4.ko:\n"),
        ("usr/lib/modules/6.12.1/kernel", DIRECTORY, ""),
        ("usr/lib/modules/6.12.1/kernel/ext4.ko", FILE, "module"),
    ])
}

fn pad(mut bytes: Vec<u8>, multiple: usize) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(multiple), 0);
    bytes
}

/// Microcode, the base as zstd, two archives in one gzip member.
fn initrd() -> Vec<u8> {
    let local = archive(&[("etc", DIRECTORY, ""), ("etc/hostname", FILE, "host\n")]);
    [
        pad(microcode(), 512),
        pad(compressed(&base(), Compression::Zstd(3)), 4),
        pad(compressed(&[modules(), local].concat(), Compression::Gzip(6)), 16),
    ]
    .concat()
}

fn files(initrd: &[u8]) -> Vec<String> {
    let report = inspect(initrd).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    report
        .listing()
        .map(|listed| match listed.target {
            Some(target) => format!("{} {} -> {target}", listed.mode, listed.path),
            None => format!("{} {} {}", listed.mode, listed.path, listed.size_bytes),
        })
        .collect()
}

fn problems(initrd: &[u8]) -> String {
    let report = inspect(initrd).unwrap();
    report.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn report_as_json() {
    let report = inspect(initrd().as_slice()).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap(), @r#"
    {
      "size_bytes": 1392,
      "segments": [
        {
          "offset": 0,
          "codec": "none",
          "stored_bytes": 656,
          "unpacked_bytes": 656,
          "archives": 1,
          "entries": 4,
          "files": 1,
          "microcode": true,
          "kernel_versions": []
        },
        {
          "offset": 1024,
          "codec": "zstd",
          "stored_bytes": 160,
          "unpacked_bytes": 988,
          "archives": 1,
          "entries": 7,
          "files": 1,
          "microcode": false,
          "kernel_versions": []
        },
        {
          "offset": 1184,
          "codec": "gzip",
          "stored_bytes": 202,
          "unpacked_bytes": 1092,
          "archives": 2,
          "entries": 6,
          "files": 3,
          "microcode": false,
          "kernel_versions": [
            "6.12.1"
          ]
        }
      ],
      "kernel_versions": [
        "6.12.1"
      ],
      "entries": 17,
      "files": 5,
      "file_bytes": 41,
      "biggest_directories": [
        {
          "path": "usr/lib/modules/6.12.1",
          "size_bytes": 22
        },
        {
          "path": "kernel/x86/microcode",
          "size_bytes": 7
        },
        {
          "path": "usr/bin",
          "size_bytes": 7
        }
      ],
      "biggest_files": [
        {
          "path": "usr/lib/modules/6.12.1/modules.dep",
          "size_bytes": 16
        },
        {
          "path": "kernel/x86/microcode/GenuineIntel.bin",
          "size_bytes": 7
        },
        {
          "path": "usr/bin/sh",
          "size_bytes": 7
        },
        {
          "path": "usr/lib/modules/6.12.1/kernel/ext4.ko",
          "size_bytes": 6
        },
        {
          "path": "etc/hostname",
          "size_bytes": 5
        }
      ],
      "problems": []
    }
    "#);
}

#[test]
fn merged_listing() {
    insta::assert_snapshot!(files(&initrd()).join("\n"), @"
    lrwxrwxrwx bin -> usr/bin
    drwxr-xr-x etc 0
    -rw-r--r-- etc/hostname 5
    drwxr-xr-x kernel 0
    drwxr-xr-x kernel/x86 0
    drwxr-xr-x kernel/x86/microcode 0
    -rw-r--r-- kernel/x86/microcode/GenuineIntel.bin 7
    lrwxrwxrwx lib -> usr/lib
    drwxr-xr-x usr 0
    drwxr-xr-x usr/bin 0
    -rwxr-xr-x usr/bin/sh 7
    drwxr-xr-x usr/lib 0
    drwxr-xr-x usr/lib/modules 0
    drwxr-xr-x usr/lib/modules/6.12.1 0
    drwxr-xr-x usr/lib/modules/6.12.1/kernel 0
    -rw-r--r-- usr/lib/modules/6.12.1/kernel/ext4.ko 6
    -rw-r--r-- usr/lib/modules/6.12.1/modules.dep 16
    ");
}

#[test]
fn every_codec_is_read_in_any_order() {
    let all = [Compression::None, Compression::Lz4, Compression::Xz(6), Compression::Gzip(6), Compression::Zstd(19)];
    for first in all {
        for second in all {
            let (base, modules) = (pad(compressed(&base(), first), 4), pad(compressed(&modules(), second), 4));
            let initrd = [&base[..], &[0; 4], &modules].concat();
            let report = inspect(initrd.as_slice()).unwrap();
            assert!(report.problems.is_empty(), "{first} {second} {:?}", report.problems);
            // With fewer zeros between them the kernel takes what follows for a part of what has no end.
            let problems = inspect([base, modules].concat().as_slice()).unwrap().problems;
            let fails = first == Compression::Lz4;
            assert_eq!(!problems.is_empty(), fails, "{first} {second} {problems:?}");
            let codecs: Vec<_> = report.segments.iter().map(|segment| segment.codec.to_string()).collect();
            let names = [first, second].map(|codec| codec.to_string().split(':').next().unwrap().to_owned());
            assert_eq!(codecs, names);
            assert_eq!(report.kernel_versions.iter().collect::<Vec<_>>(), ["6.12.1"]);
        }
    }
}

#[test]
fn files_below_a_symlink_go_where_it_points() {
    let local = archive(&[("lib/modules/9.9", DIRECTORY, ""), ("lib/modules/9.9/modules.dep", FILE, "x")]);
    let listing = files(&[base(), local].concat());
    assert!(listing.contains(&"-rw-r--r-- usr/lib/modules/9.9/modules.dep 1".to_owned()), "{listing:?}");
}

#[test]
fn later_entries_override_as_in_the_kernel() {
    let first = archive(&[
        ("a", FILE, "old"),
        ("d", DIRECTORY, ""),
        ("e", DIRECTORY, ""),
        ("e/kept", FILE, ""),
        ("lib", SYMLINK, "e"),
        ("link", SYMLINK, "a"),
    ]);
    let second = archive(&[("a", FILE, "newer"), ("d", SYMLINK, "e"), ("lib", DIRECTORY, ""), ("link", SYMLINK, "d")]);
    insta::assert_snapshot!(files(&[first, second].concat()).join("\n"), @"
    -rw-r--r-- a 5
    lrwxrwxrwx d -> e
    drwxr-xr-x e 0
    -rw-r--r-- e/kept 0
    drwxr-xr-x lib 0
    lrwxrwxrwx link -> d
    ");
}

#[test]
fn what_the_kernel_drops_is_a_problem() {
    let missing = archive(&[("etc/hostname", FILE, "x"), ("opt/x", FILE, "")]);
    let blocked = archive(&[("d", DIRECTORY, ""), ("d/x", FILE, ""), ("d", SYMLINK, "x")]);
    let looping = archive(&[("l", SYMLINK, "l"), ("l/x", FILE, "")]);
    insta::assert_snapshot!([problems(&[microcode(), missing].concat()), problems(&blocked), problems(&looping)].join("\n"), @"
    at byte 656: in this segment the kernel would drop the entry etc/hostname, and so 1 more: no entry before it makes its parent directory
    at byte 0: in this segment the kernel would drop the entry d: a directory that is not empty is in its place
    at byte 0: in this segment the kernel would drop the entry l/x: more than 40 symlinks are on the way to it
    ");
    let early = archive(&[("kernel/x86/microcode/AuthenticAMD.bin", FILE, "x")]);
    assert_eq!(problems(&early), "");
}

#[test]
fn hard_links_share_data_that_is_on_the_first_or_on_the_last() {
    for data in [["data", "", ""], ["", "", "data"], ["", "data", ""]] {
        let entries = [("linked1", FILE, data[0]), ("linked2", FILE, data[1]), ("linked3", FILE, data[2])];
        let initrd = [archive(&entries), archive(&[("linked-not", FILE, "other")])].concat();
        let digests = file_digests(initrd.as_slice()).unwrap();
        let expected = [("linked-not", "other"), ("linked1", "data"), ("linked2", "data"), ("linked3", "data")];
        let expected = expected.map(|(path, data)| (path.as_bytes().to_vec(), Digest::of(data.as_bytes())));
        assert_eq!(digests, BTreeMap::from(expected));
        assert_eq!(inspect(initrd.as_slice()).unwrap().files, 2);
        for path in ["linked1", "linked3"] {
            let mut output = Vec::new();
            extract(Cursor::new(&initrd), path.as_bytes(), &mut output).unwrap();
            assert_eq!(output, b"data");
        }
    }
}

#[test]
fn later_links_without_data_empty_an_earlier_file() {
    let earlier = archive(&[("linked1", FILE, "old")]);
    let later = archive(&[("linked1", FILE, ""), ("linked2", FILE, "")]);
    let digests = file_digests([earlier, later].concat().as_slice()).unwrap();
    assert!(digests.values().all(|digest| *digest == Digest::of(b"")), "{digests:?}");
}

#[test]
fn digests_are_of_regular_files_as_unpacked() {
    let digests = file_digests(initrd().as_slice()).unwrap();
    let paths: Vec<_> = digests.keys().map(|path| Escaped(path).to_string()).collect();
    assert_eq!(
        paths,
        [
            "etc/hostname",
            "kernel/x86/microcode/GenuineIntel.bin",
            "usr/bin/sh",
            "usr/lib/modules/6.12.1/kernel/ext4.ko",
            "usr/lib/modules/6.12.1/modules.dep",
        ]
    );
    assert_eq!(digests[b"etc/hostname".as_slice()], Digest::of(b"host\n"));
}

#[test]
fn one_file_is_extracted_through_symlinks() {
    let later =
        archive(&[("usr/bin/sh", FILE, "#!later"), ("init", SYMLINK, "/bin/sh"), ("up", SYMLINK, "usr/../init")]);
    let mut initrd = Cursor::new([initrd(), later].concat());
    for path in ["init", "up", "bin/sh", "/usr/./bin//sh"] {
        let mut output = Vec::new();
        assert_eq!(extract(&mut initrd, path.as_bytes(), &mut output).unwrap(), 7);
        assert_eq!(output, b"#!later", "{path}");
        initrd.set_position(0);
    }
    let error =
        |path: &str| extract(Cursor::new(initrd.get_ref()), path.as_bytes(), Vec::new()).unwrap_err().to_string();
    assert_eq!(error("etc/nothing"), "the initrd has no file etc/nothing");
    assert_eq!(error("etc"), "etc is no regular file");
}

#[test]
fn damage_is_reported_with_offset_and_last_good_entry() {
    let plain = base();
    let member = pad(compressed(&base(), Compression::Zstd(3)), 4);
    let whole = [plain.clone(), member.clone()].concat();
    let gzip = compressed(&base()[..300], Compression::Gzip(6));
    let all = [
        ("nothing", vec![]),
        ("only zeros", vec![0; 2000]),
        ("text", b"hello".to_vec()),
        ("cut off in an entry", whole[..500].to_vec()),
        ("cut off in data", plain[..plain.windows(7).position(|window| window == b"#!shell").unwrap() + 3].to_vec()),
        ("cut off between entries", whole[..plain.len() - 124].to_vec()),
        ("cut off in the member", whole[..whole.len() - 30].to_vec()),
        ("garbage at the end", [&whole[..], b"garbage"].concat()),
        ("unaligned", [&compressed(&base(), Compression::Xz(6))[..], &[0], &plain].concat()),
        ("cut off before compression", [&plain[..], &gzip].concat()),
        ("text in the member", [&plain[..], &compressed(b"hello", Compression::Zstd(1))].concat()),
    ];
    let report = all.map(|(name, initrd)| format!("{name}: {}", problems(&initrd))).join("\n");
    insta::assert_snapshot!(report, @r#"
    nothing: at byte 0: there is no cpio archive in it
    only zeros: at byte 0: there is no cpio archive in it
    text: at byte 0: neither cpio nor a known compression begins with 68 65 6c 6c 6f
    cut off in an entry: at byte 484: cpio entry at byte 484: the archive is cut off inside its header (last good entry: usr/bin)
    cut off in data: at byte 611: cpio entry "usr/bin/sh" at byte 484: the archive is cut off 4 bytes before the end of its data (last good entry: usr/bin)
    cut off between entries: at byte 864: the archive has no trailer: it may be cut off (last good entry: usr/lib/modules)
    cut off in the member: at byte 988: in the zstd segment, byte 0 unpacked: incomplete frame (last good entry: usr/lib/modules)
    garbage at the end: at byte 1148: neither cpio nor a known compression begins with 67 61 72 62 61 67 (last good entry: usr/lib/modules)
    unaligned: at byte 197: cpio entry at byte 197: it does not start at a multiple of 4 bytes, where the kernel expects it (last good entry: usr/lib/modules)
    cut off before compression: at byte 988: in the gzip segment, byte 248 unpacked: cpio entry at byte 248: the archive is cut off inside its header (last good entry: lib)
    text in the member: at byte 988: in the zstd segment, byte 0 unpacked: what follows there is no cpio archive (last good entry: usr/lib/modules)
    "#);
    for (name, initrd) in [("cut off", &whole[..500]), ("garbage", &[&whole[..], b"garbage"].concat())] {
        assert!(file_digests(initrd).is_err(), "{name}");
        assert!(extract(Cursor::new(initrd), b"usr/bin/sh", Vec::new()).is_err(), "{name}");
    }
}

#[test]
fn xz_with_a_check_that_the_kernel_does_not_take_is_a_problem() {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
    encoder.write_all(&base()).unwrap();
    let initrd = encoder.finish().unwrap();
    assert_eq!(
        problems(&initrd),
        "at byte 0: the kernel does not take this kind of check in xz: compress with --check=crc32"
    );
}

#[test]
fn failing_reader_is_an_error_and_not_a_damaged_initrd() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk on fire"))
        }
    }
    for start in [&b""[..], &initrd()[..1200]] {
        let error = inspect(start.chain(Failing)).unwrap_err();
        assert_eq!(format!("{error:#}"), "reading the initrd: disk on fire");
    }
}

#[test]
fn wrapping_directories_are_left_out_of_the_biggest() {
    let large = "x".repeat(1000);
    let report = inspect(
        archive(&[
            ("usr", DIRECTORY, ""),
            ("usr/lib", DIRECTORY, ""),
            ("usr/lib/modules", DIRECTORY, ""),
            ("usr/lib/modules/1", DIRECTORY, ""),
            ("usr/lib/modules/1/large", FILE, &large),
            ("usr/lib/small", FILE, "x"),
            ("usr/share", DIRECTORY, ""),
            ("usr/share/medium", FILE, &large[..500]),
        ])
        .as_slice(),
    )
    .unwrap();
    let names: Vec<_> =
        report.biggest_directories.iter().map(|usage| (usage.path.as_str(), usage.size_bytes)).collect();
    assert_eq!(names, [("usr/lib/modules/1", 1000), ("usr/share", 500)]);
}

#[test]
fn padding_of_gnu_cpio_is_no_garbage() {
    let writer = Writer::with_padding(Vec::new(), Padding::Block);
    assert_eq!(problems(&writer.finish().unwrap()), "");
}

proptest! {
    #[test]
    fn damaged_initrds_end_in_a_report(at in 0_usize..4000, byte: u8, length in 0_usize..4000) {
        let mut bytes = initrd();
        let size = bytes.len();
        bytes[at % size] = byte;
        bytes.truncate(length.max(1));
        inspect(bytes.as_slice()).unwrap();
    }
}
