use std::fs;
use std::io::Write;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::analysis::inspect::Limits;
use crate::image::manifest::{Manifest, OutputPath};
use ocinitrd_format::compress::{Compression, Encoder};
use ocinitrd_format::cpio::{Header, Padding, Writer};
use ocinitrd_format::digest::Digest;
use ocinitrd_format::time::Timestamp;

const DIRECTORY: u32 = 0o40_755;
const FILE: u32 = 0o100_644;
const SYMLINK: u32 = 0o120_777;

type Given<'a> = (Header<'a>, &'a str);

fn entry<'a>(path: &'a str, mode: u32, data: &'a str) -> Given<'a> {
    let size_bytes = u32::try_from(data.len()).unwrap();
    (Header { path: path.as_bytes(), mode, size_bytes, links: 1, ..Header::default() }, data)
}

fn linked<'a>(path: &'a str, inode: u32, data: &'a str) -> Given<'a> {
    let (header, data) = entry(path, FILE, data);
    (Header { inode, links: 2, ..header }, data)
}

fn archive_with(entries: &[Given<'_>], padding: Padding) -> Vec<u8> {
    let mut writer = Writer::with_padding(Vec::new(), padding);
    for (header, data) in entries {
        writer.append(header, data.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn archive(entries: &[Given<'_>]) -> Vec<u8> {
    archive_with(entries, Padding::Word)
}

fn compressed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut encoder = Encoder::with_workers(Vec::new(), compression, 1).unwrap();
    encoder.write_all(bytes).unwrap();
    let mut bytes = encoder.finish().unwrap();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn base() -> Vec<Given<'static>> {
    vec![
        entry("bin", SYMLINK, "usr/bin"),
        entry("usr", DIRECTORY, ""),
        entry("usr/bin", DIRECTORY, ""),
        entry("usr/bin/sh", 0o100_755, "#!shell"),
    ]
}

fn modules() -> Vec<Given<'static>> {
    vec![entry("lib", DIRECTORY, ""), entry("lib/ext4.ko", FILE, "module"), entry("lib/xfs.ko", FILE, "other")]
}

/// Compares both ways round, and checks that the ways agree.
fn compared(a: &[u8], b: &[u8]) -> Result<Comparison> {
    let directory = TempDir::new().unwrap();
    let path = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let (a, b) = (path("a", a), path("b", b));
    let (comparison, back) = (initrds(&a, &b, &Limits::default())?, initrds(&b, &a, &Limits::default())?);
    assert_eq!((comparison.count, comparison.unpack_alike), (back.count, back.unpack_alike));
    assert_eq!(comparison.count, comparison.differences.len());
    Ok(comparison)
}

fn text(comparison: &Comparison) -> String {
    comparison.differences.iter().map(|difference| format!("{difference}\n")).collect()
}

fn differences(a: &[u8], b: &[u8]) -> String {
    let comparison = compared(a, b).unwrap();
    format!("{}alike: {}", text(&comparison), comparison.unpack_alike.unwrap())
}

#[test]
fn same_initrds_have_no_difference() {
    let initrd = [archive(&base()), compressed(&archive(&modules()), Compression::Zstd(3))].concat();
    assert_eq!(differences(&initrd, &initrd), "alike: true");
}

#[test]
fn every_field_of_an_entry_is_compared() {
    let device = |mode, device| (Header { device, ..entry("device", mode, "").0 }, "");
    let file = entry("file", FILE, "content");
    let owned = |uid, gid, mtime| (Header { uid, gid, mtime, ..entry("owned", FILE, "").0 }, "");
    let a = [device(0o20_600, (1, 3)), file, entry("gone", FILE, "1"), entry("kind", FILE, "data")];
    let a = [&a[..], &[entry("link", SYMLINK, "old"), entry("mode", FILE, ""), owned(1, 2, 3)]].concat();
    let b = [device(0o20_600, (1, 5)), entry("file", FILE, "con_ent"), entry("kind", SYMLINK, "data")];
    let b =
        [&b[..], &[entry("link", SYMLINK, "new"), entry("mode", 0o104_755, ""), entry("new", DIRECTORY, "")]].concat();
    let b = [&b[..], &[owned(4, 5, 6)]].concat();
    insta::assert_snapshot!(differences(&archive(&a), &archive(&b)), @"
    segment 1 (none): size 960 -> 956 bytes
    segment 1 (none), entry device: device 1:3 -> 1:5
    segment 1 (none), entry file: content differs from byte 3 on
    segment 1 (none), entry gone: only in A (file 0644, 1 bytes)
    segment 1 (none), entry kind: type file -> symlink
    segment 1 (none), entry kind: mode 0644 -> 0777
    segment 1 (none), entry link: target old -> new
    segment 1 (none), entry mode: mode 0644 -> 4755
    segment 1 (none), entry new: only in B (directory 0755)
    segment 1 (none), entry owned: uid 1 -> 4
    segment 1 (none), entry owned: gid 2 -> 5
    segment 1 (none), entry owned: mtime 3 -> 6
    alike: false
    ");
}

#[test]
fn type_of_a_device_is_compared_apart_from_its_numbers() {
    let device = |mode| vec![(Header { device: (7, 1), ..entry("device", mode, "").0 }, "")];
    assert_eq!(
        differences(&archive(&device(0o20_600)), &archive(&device(0o60_600))),
        "segment 1 (none), entry device: type character device -> block device\nalike: false"
    );
}

#[test]
fn contents_part_at_the_byte_that_is_named() {
    let long = "x".repeat(300_000);
    let flipped = format!("{}y{}", &long[..299_000], &long[299_001..]);
    let initrd = |content: &str, compression| compressed(&archive(&[entry("a", FILE, content)]), compression);
    for compression in [Compression::None, Compression::Xz(1)] {
        let comparison = compared(&initrd(&long, compression), &initrd(&flipped, compression)).unwrap();
        let content = comparison.differences.iter().find(|difference| difference.field == "content").unwrap();
        assert_eq!(content.offset, Some(299_000));
        assert_eq!(content.a, Digest::of(long.as_bytes()).to_string());
        assert_eq!(content.b, Digest::of(flipped.as_bytes()).to_string());
    }
    let shorter = differences(&initrd("abc", Compression::None), &initrd("abcde", Compression::None));
    insta::assert_snapshot!(shorter, @"
    segment 1 (none): size 240 -> 244 bytes
    segment 1 (none), entry a: size 3 -> 5 bytes
    segment 1 (none), entry a: content differs from byte 3 on
    alike: false
    ");
}

#[test]
fn names_of_one_file_are_compared_as_a_group_and_have_one_content() {
    let one_file = archive(&[linked("a", 1, ""), linked("b", 1, "data")]);
    let data_first = archive(&[linked("a", 9, "data"), linked("b", 9, "")]);
    let two_files = archive(&[entry("a", FILE, "data"), entry("b", FILE, "data")]);
    let other = archive(&[linked("a", 1, ""), linked("b", 1, "date")]);
    let all = [(&one_file, &data_first), (&one_file, &two_files), (&one_file, &other)];
    insta::assert_snapshot!(all.map(|(a, b)| differences(a, b)).join("\n\n"), @"
    segment 1 (none): the same entries in other bytes, from its byte 13 on: other inode numbers, counts of links, spellings of paths or padding
    alike: true

    segment 1 (none): size 352 -> 356 bytes
    segment 1 (none), entry a: hard link of a -> none
    segment 1 (none), entry b: hard link of a -> none
    alike: false

    segment 1 (none), entry a: content differs from byte 3 on
    segment 1 (none), entry b: content differs from byte 3 on
    alike: false
    ");
}

#[test]
fn path_that_a_segment_has_twice_is_compared_each_time() {
    let member = |second: &str| {
        let archives = [archive(&[entry("a", FILE, "first")]), archive(&[entry("a", FILE, second)])].concat();
        compressed(&archives, Compression::Gzip(6))
    };
    let found = differences(&member("second"), &member("sEcond"));
    assert!(
        found.starts_with("segment 1 (gzip), entry a (no. 2 of that path): content differs from byte 1 on"),
        "{found}"
    );
}

#[test]
fn what_a_later_segment_overrides_is_compared_too() {
    let later = archive(&[entry("a", FILE, "last")]);
    let initrd = |first: &str| [archive(&[entry("a", FILE, first)]), later.clone()].concat();
    assert_eq!(
        differences(&initrd("one"), &initrd("two")),
        "segment 1 (none), entry a: content differs from byte 0 on\nalike: true"
    );
}

#[test]
fn initrds_that_differ_in_a_time_only_do_not_unpack_alike() {
    let initrd = |mtime| archive(&[(Header { mtime, ..entry("a", FILE, "").0 }, "")]);
    assert_eq!(differences(&initrd(1), &initrd(2)), "segment 1 (none), entry a: mtime 1 -> 2\nalike: false");
}

#[test]
fn one_more_segment_is_one_difference_wherever_it_is() {
    let (base, modules) = (archive(&base()), compressed(&archive(&modules()), Compression::Zstd(3)));
    let local = compressed(&archive(&[entry("etc", DIRECTORY, "")]), Compression::Gzip(6));
    let two = [base.clone(), modules.clone()].concat();
    let all = [[&local, &base, &modules], [&base, &local, &modules], [&base, &modules, &local]];
    let found = all.map(|segments| differences(&two, &segments.map(Vec::clone).concat()));
    insta::assert_snapshot!(found.join("\n"), @"
    segment 1 (gzip): only in B (1 entries, 73 bytes)
    alike: false
    segment 2 (gzip): only in B (1 entries, 73 bytes)
    alike: false
    segment 3 (gzip): only in B (1 entries, 73 bytes)
    alike: false
    ");
}

#[test]
fn entries_are_named_with_the_segments_of_both_sides() {
    let mut changed = modules();
    changed[1] = entry("lib/ext4.ko", 0o100_600, "module");
    let a = [archive(&base()), archive(&modules())].concat();
    let b = [archive(&[entry("etc", DIRECTORY, "")]), archive(&base()), archive(&changed)].concat();
    insta::assert_snapshot!(differences(&a, &b), @"
    segment 1 (none): only in B (1 entries, 240 bytes)
    segment 2 -> 3 (none), entry lib/ext4.ko: mode 0644 -> 0600
    alike: false
    ");
}

#[test]
fn same_entries_in_other_bytes_are_told_with_offset_and_cause() {
    let text = "line of text, ".repeat(100);
    let entries = || vec![entry("etc", DIRECTORY, ""), entry("etc/a", FILE, &text), entry("etc/b", FILE, "b")];
    let mut turned = entries();
    turned.swap(1, 2);
    let mut numbered = entries();
    numbered[2].0.inode = 7;
    let front = archive(&base());
    let initrd =
        |entries: &[Given<'_>], compression| [front.clone(), compressed(&archive(entries), compression)].concat();
    let a = initrd(&entries(), Compression::Zstd(1));
    let found = [
        initrd(&entries(), Compression::Gzip(9)),
        initrd(&entries(), Compression::Zstd(19)),
        initrd(&turned, Compression::Zstd(1)),
        initrd(&numbered, Compression::Zstd(1)),
    ]
    .map(|b| differences(&a, &b));
    assert!(found.iter().all(|found| found.contains("segment 2 (zstd") && !found.contains("segment 1")), "{found:?}");
    let bytes = found.map(|found| found.lines().find(|line| line.contains("other bytes")).unwrap().to_owned());
    insta::assert_snapshot!(bytes.join("\n"), @"
    segment 2 (zstd -> gzip): the same entries in other bytes, from its byte 0 on: compressed otherwise
    segment 2 (zstd): the same entries in other bytes, from its byte 5 on: compressed otherwise
    segment 2 (zstd): the same entries in other bytes, from its byte 6 on: in another order
    segment 2 (zstd): the same entries in other bytes, from its byte 6 on: other inode numbers, counts of links, spellings of paths or padding
    ");

    let plain = [archive(&entries()), archive(&numbered)];
    // The inode number is the first field of the third header.
    let position = plain[0].iter().zip(&plain[1]).position(|(one, other)| one != other).unwrap();
    let comparison = compared(&plain[0], &plain[1]).unwrap();
    assert_eq!(comparison.differences[0].offset, Some(position as u64));
}

#[test]
fn zeros_between_and_after_segments_are_told_if_nothing_else_differs() {
    let (word, block) = (archive_with(&base(), Padding::Word), archive_with(&base(), Padding::Block));
    let modules = archive(&modules());
    let between = differences(&[&word[..], &modules].concat(), &[&block[..], &modules].concat());
    let after = differences(&[&modules[..], &word].concat(), &[&modules[..], &block].concat());
    insta::assert_snapshot!(format!("{between}\n{after}"), @"
    segment 2 (none): zeros before it 0 -> 408 bytes, from byte 616 of the initrd on
    alike: true
    end of the initrd: zeros before it 0 -> 408 bytes, from byte 1120 of the initrd on
    alike: true
    ");
}

#[test]
fn paths_are_shown_as_text_and_their_spelling_is_no_entry() {
    let spelled = |spelling: &'static str| archive(&[entry("x", DIRECTORY, ""), entry(spelling, FILE, "")]);
    assert!(differences(&spelled("x/a"), &spelled("x/./a")).contains("other bytes"));
    let bytes = |data| archive(&[(Header { path: b"caf\xe9\n", ..entry("", FILE, "a").0 }, data)]);
    assert!(differences(&bytes("a"), &bytes("b")).contains("entry caf\\xe9\\x0a: content differs from byte 0"));
}

#[test]
fn damaged_initrds_are_errors_also_when_both_are_the_same() {
    let whole = archive(&base());
    let cut = &whole[..whole.len() - 130];
    for (a, b) in [(cut, cut), (&whole[..], cut), (cut, &whole[..])] {
        let error = format!("{:#}", compared(a, b).unwrap_err());
        assert!(
            error.contains("of which only a sound initrd can be compared") && error.contains("at byte "),
            "{error}"
        );
    }
    let zeros = [0; 64];
    assert!(format!("{:#}", compared(&zeros, &zeros).unwrap_err()).contains("there is no cpio archive in it"));
}

#[test]
fn json_has_the_documented_keys() {
    let (a, b) = (archive(&[entry("a", FILE, "one")]), archive(&[entry("a", FILE, "ore"), entry("b", SYMLINK, "a")]));
    let comparison = compared(&a, &compressed(&b, Compression::Gzip(6))).unwrap();
    let json = serde_json::to_string_pretty(&comparison).unwrap();
    insta::assert_snapshot!(json.replace(&Digest::of(b"one").to_string(), "ONE").replace(&Digest::of(b"ore").to_string(), "ORE"), @r#"
    {
      "count": 5,
      "unpack_alike": false,
      "not_compared": [],
      "differences": [
        {
          "subject": "segment",
          "segment_a": 1,
          "segment_b": 1,
          "codec_a": "none",
          "codec_b": "gzip",
          "field": "codec",
          "a": "none",
          "b": "gzip"
        },
        {
          "subject": "segment",
          "segment_a": 1,
          "segment_b": 1,
          "codec_a": "none",
          "codec_b": "gzip",
          "field": "entries",
          "a": 1,
          "b": 2
        },
        {
          "subject": "segment",
          "segment_a": 1,
          "segment_b": 1,
          "codec_a": "none",
          "codec_b": "gzip",
          "field": "size_bytes",
          "a": 240,
          "b": 97
        },
        {
          "subject": "entry",
          "segment_a": 1,
          "segment_b": 1,
          "codec_a": "none",
          "codec_b": "gzip",
          "path": "a",
          "occurrence": 1,
          "field": "content",
          "a": "ONE",
          "b": "ORE",
          "offset": 1
        },
        {
          "subject": "entry",
          "segment_a": 1,
          "segment_b": 1,
          "codec_a": "none",
          "codec_b": "gzip",
          "path": "b",
          "occurrence": 1,
          "field": "presence",
          "a": null,
          "b": "symlink 0777 to a"
        }
      ]
    }
    "#);
}

const MANIFEST_A: &str = r#"{
    "schema": 1, "ocinitrd_version": "0.1.0", "image": "fedora-44", "architecture": "x86_64", "locked": false,
    "epoch": 1700000000,
    "ocinitrd_source": "sha256:5555555555555555555555555555555555555555555555555555555555555555",
    "inputs": "sha256:6666666666666666666666666666666666666666666666666666666666666666",
    "builder": {"image": "fedora:44", "digest": "sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "platform_digest": "sha256:7777777777777777777777777777777777777777777777777777777777777777", "tools": ["rpm 6"]},
    "options": {"profiles": [], "formats": ["cpio"], "segments": false, "output_name": null, "compression": "zstd:3", "modules": ["default"], "keep_module_compression": false},
    "repositories": {"fedora": "sha256:1111111111111111111111111111111111111111111111111111111111111111"},
    "packages": [
        {"name": "bash", "epoch": 0, "version": "5.2", "release": "1.fc44", "arch": "x86_64", "source_rpm": "bash-5.2.src.rpm", "license": "GPL", "installed_size_bytes": 100, "build_time": 5},
        {"name": "gone", "epoch": 2, "version": "1", "release": "1", "arch": "noarch", "source_rpm": "gone.src.rpm", "license": "MIT", "installed_size_bytes": 7, "build_time": 5}
    ],
    "kernels": [{
        "version": "6.12.1", "image": "vmlinuz", "initrd": "initrd",
        "segments": [{"name": "base", "compression": "zstd:3", "entries": 4, "size_bytes": 9, "unpacked_size_bytes": 20, "sha256": "sha256:2222222222222222222222222222222222222222222222222222222222222222"}],
        "packages": [
            {"name": "kernel-core", "epoch": 0, "version": "6.12.1", "release": "1", "arch": "x86_64", "source_rpm": "kernel.src.rpm", "license": "GPL", "installed_size_bytes": 1000, "build_time": 5}
        ]
    }],
    "outputs": [{"path": "initrd", "size_bytes": 9, "sha256": "sha256:4444444444444444444444444444444444444444444444444444444444444444"},
        {"path": "vmlinuz", "size_bytes": 3, "sha256": "sha256:3333333333333333333333333333333333333333333333333333333333333333"}]
}"#;

fn recorded(directory: &TempDir, name: &str, json: &str) -> Recorded {
    let path = directory.path().join(name);
    fs::write(&path, json).unwrap();
    Recorded::open(&path).unwrap()
}

#[test]
fn manifests_are_compared_key_by_key_and_package_by_package() {
    let mut b: Manifest = Manifest::parse(MANIFEST_A.as_bytes()).unwrap();
    b.epoch = Timestamp::from_seconds(1_700_000_001);
    b.kernels[0].version = "6.12.2".to_owned();
    b.builder.digest = Digest::of(b"");
    b.options.profiles.push("lvm".to_owned());
    b.repositories.insert("updates".to_owned(), Digest::of(b""));
    let mut rebuilt = b.packages[0].clone();
    rebuilt.build_time = Timestamp::from_seconds(6);
    let new = crate::definition::dnf::InstalledPackage { name: "new".to_owned(), epoch: 1, ..rebuilt.clone() };
    b.packages = vec![new, rebuilt];
    b.kernels[0].packages[0].version = "6.12.2".to_owned();
    b.kernels[0].packages[0].installed_size_bytes = 1001;
    b.kernels[0].segments[0].entries = 5;
    b.outputs[1].sha256 = Digest::of(b"");
    b.outputs.push(crate::image::manifest::Output {
        path: OutputPath::new("oci/index.json").unwrap(),
        size_bytes: 1,
        sha256: Digest::of(b""),
    });
    let directory = TempDir::new().unwrap();
    let a = recorded(&directory, "a.json", MANIFEST_A);
    let b = recorded(&directory, "b.json", &String::from_utf8(b.to_json().unwrap()).unwrap());
    let comparison = outputs(&a, &b, &Limits::default()).unwrap();
    insta::assert_snapshot!(text(&comparison).replace(&Digest::of(b"").to_string(), "EMPTY"), @r#"
    builder.digest: sha256:0000000000000000000000000000000000000000000000000000000000000000 -> EMPTY
    epoch: 1700000000 -> 1700000001
    options.profiles: [] -> ["lvm"]
    repositories.updates: none -> EMPTY
    package bash.x86_64: build time 5 -> 6
    package gone.noarch: only in A (2:1-1, 7 bytes)
    package new.x86_64: only in B (1:5.2-1.fc44, 100 bytes)
    kernel: version 6.12.1 -> 6.12.2
    kernel package kernel-core.x86_64: version 6.12.1-1 -> 6.12.2-1
    kernel package kernel-core.x86_64: installed size 1000 -> 1001 bytes
    output oci/index.json: only in B (1 bytes)
    output vmlinuz: digest sha256:3333333333333333333333333333333333333333333333333333333333333333 -> EMPTY
    segment base: entries 4 -> 5
    "#);
    assert_eq!((comparison.count, comparison.unpack_alike, comparison.not_compared.len()), (13, None, 2));
    let not_compared = comparison.not_compared.join(" and ").replace(directory.path().to_str().unwrap(), "DIR");
    assert_eq!(
        not_compared,
        "the initrd's entries: there is no file DIR/initrd and the initrd's entries: there is no file DIR/initrd"
    );
    let same = outputs(&a, &a, &Limits::default()).unwrap();
    assert_eq!((same.count, same.not_compared.len()), (0, 2));
}

#[test]
fn kernels_are_compared_with_those_of_the_same_version() {
    let directory = TempDir::new().unwrap();
    let output = |name: &str, kernels: &[(&str, &str)]| {
        let path = directory.path().join(name);
        fs::create_dir(&path).unwrap();
        let mut manifest = Manifest::parse(MANIFEST_A.as_bytes()).unwrap();
        let (kernel, output) = (manifest.kernels.remove(0), manifest.outputs.remove(0));
        manifest.outputs.clear();
        for (version, data) in kernels {
            let [image, initrd] =
                ["vmlinuz", "initrd"].map(|name| OutputPath::new(format!("{name}-{version}")).unwrap());
            let bytes = [archive(&base()), archive(&[entry("lib", FILE, data)])].concat();
            fs::write(initrd.in_directory(&path), &bytes).unwrap();
            for path in [&image, &initrd] {
                manifest.outputs.push(crate::image::manifest::Output { path: path.clone(), ..output.clone() });
            }
            let version = (*version).to_owned();
            manifest.kernels.push(crate::image::manifest::Kernel {
                version,
                image,
                initrd: Some(initrd),
                ..kernel.clone()
            });
        }
        fs::write(path.join("manifest.json"), manifest.to_json().unwrap()).unwrap();
        Recorded::open(&path).unwrap()
    };
    let a = output("a", &[("6.1", "same"), ("6.2", "one"), ("6.3", "same")]);
    let b = output("b", &[("6.2", "ore"), ("6.3", "same"), ("6.4", "same")]);
    let comparison = outputs(&a, &b, &Limits::default()).unwrap();
    insta::assert_snapshot!(text(&comparison), @"
    kernel 6.1: only in A (1 packages)
    kernel 6.4: only in B (1 packages)
    output initrd-6.1: only in A (9 bytes)
    output initrd-6.4: only in B (9 bytes)
    output vmlinuz-6.1: only in A (9 bytes)
    output vmlinuz-6.4: only in B (9 bytes)
    kernel 6.2, segment 2 (none), entry lib: content differs from byte 1 on
    ");
    assert_eq!((comparison.count, comparison.unpack_alike), (7, Some(false)));
    let json = serde_json::to_value(comparison.differences.last().unwrap()).unwrap();
    assert_eq!((&json["kernel"], &json["subject"], &json["offset"]), (&"6.2".into(), &"entry".into(), &1.into()));

    fs::remove_file(directory.path().join("b/initrd-6.3")).unwrap();
    let error = outputs(&a, &b, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("b/initrd-6.3, which manifest.json lists"), "{error}");
    let b = Recorded::open(&directory.path().join("b/manifest.json")).unwrap();
    let comparison = outputs(&a, &b, &Limits::default()).unwrap();
    let found = comparison.not_compared.join("\n").replace(directory.path().to_str().unwrap(), "DIR");
    assert_eq!(found, "kernel 6.3, the initrd's entries: there is no file DIR/b/initrd-6.3");
}

#[test]
fn outputs_without_an_initrd_are_compared_by_what_is_recorded() {
    let directory = TempDir::new().unwrap();
    let mut manifest = Manifest::parse(MANIFEST_A.as_bytes()).unwrap();
    manifest.kernels[0].initrd = None;
    manifest.kernels[0].segments.clear();
    let json = |manifest: &Manifest| String::from_utf8(manifest.to_json().unwrap()).unwrap();
    let a = recorded(&directory, "a.json", &json(&manifest));
    manifest.outputs[0].size_bytes += 1;
    let b = recorded(&directory, "b.json", &json(&manifest));
    let comparison = outputs(&a, &b, &Limits::default()).unwrap();
    assert_eq!(text(&comparison), "output initrd: size 9 -> 10 bytes\n");
    assert_eq!((comparison.unpack_alike, comparison.not_compared.len()), (None, 0));
}

#[test]
fn one_of_several_versions_of_a_package_is_told_alone() {
    let mut a: Manifest = Manifest::parse(MANIFEST_A.as_bytes()).unwrap();
    let bash = a.packages[0].clone();
    let version =
        |version: &str| crate::definition::dnf::InstalledPackage { version: version.to_owned(), ..bash.clone() };
    a.packages = vec![version("1"), version("2"), version("3")];
    let mut b = a.clone();
    b.packages = vec![version("3"), version("1"), version("4")];
    let found = manifests::compare(&a, &b).unwrap();
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["package bash.x86_64: version 2-1.fc44 -> 4-1.fc44"]);
}

#[test]
fn foreign_text_does_not_steer_the_terminal() {
    let name = "a\u{1b}[31m".to_owned();
    let difference = Difference::new(Subject::Package { name }, "version", "\u{7}", "2");
    assert_eq!(difference.to_string(), "package a\\x1b[31m: version \\x07 -> 2");
}

#[test]
fn manifests_of_others_are_refused() {
    let directory = TempDir::new().unwrap();
    let refusal = |json: &str| {
        let path = directory.path().join("manifest.json");
        fs::write(&path, json).unwrap();
        let error = format!("{:#}", Recorded::open(&path).unwrap_err());
        error.replace(directory.path().to_str().unwrap(), "DIR")
    };
    let lists = |path: &str| refusal(&MANIFEST_A.replace("vmlinuz", path));
    let mut twice = Manifest::parse(MANIFEST_A.as_bytes()).unwrap();
    twice.kernels.push(twice.kernels[0].clone());
    let all = [
        refusal("{}"),
        refusal(&MANIFEST_A[..500]),
        refusal(&MANIFEST_A.replace("\"schema\": 1", "\"schema\": 9")),
        lists("../vmlinuz"),
        lists("/etc/passwd"),
        lists(""),
        refusal(&MANIFEST_A.replace("\"initrd\": \"initrd\"", "\"initrd\": \"../initrd\"")),
        refusal(&String::from_utf8(twice.to_json().unwrap()).unwrap()),
    ];
    insta::assert_snapshot!(all.join("\n"), @r#"
    taking DIR/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: missing field `schema` at line 1 column 2
    taking DIR/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: EOF while parsing a string at line 7 column 52
    taking DIR/manifest.json for the manifest of an `ocinitrd build`: the manifest has schema 9, this ocinitrd reads 1: use the version that wrote it (0.1.0)
    taking DIR/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: "../vmlinuz" is not a path below the output directory at line 15 column 50
    taking DIR/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: "/etc/passwd" is not a path below the output directory at line 15 column 51
    taking DIR/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: "" is not a path below the output directory at line 15 column 40
    taking DIR/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: "../initrd" is not a path below the output directory at line 15 column 70
    taking DIR/manifest.json for the manifest of an `ocinitrd build`: checking the manifest, which ocinitrd did not write so: it has the kernel "6.12.1" twice
    "#);
    let empty = TempDir::new().unwrap();
    let error = Recorded::open(empty.path()).unwrap_err().to_string();
    assert!(error.ends_with("holds no manifest.json; give an output directory of `ocinitrd build`"), "{error}");
}

#[test]
fn files_that_are_not_as_recorded_differ_unless_both_are_the_same() {
    let directory = TempDir::new().unwrap();
    let output = |name: &str, image: Option<&str>| {
        let path = directory.path().join(name);
        fs::create_dir(&path).unwrap();
        let mut manifest = Manifest::parse(MANIFEST_A.as_bytes()).unwrap();
        let image = image.map(|image| fs::write(path.join("vmlinuz"), image).unwrap());
        assert_eq!(image.is_none(), name == "gone");
        manifest.outputs = vec![crate::image::manifest::Output {
            path: OutputPath::new("vmlinuz").unwrap(),
            size_bytes: 5,
            sha256: ocinitrd_format::digest::Digest::of(b"image"),
        }];
        (manifest.kernels[0].image, manifest.kernels[0].initrd) = (OutputPath::new("vmlinuz").unwrap(), None);
        fs::write(path.join("manifest.json"), manifest.to_json().unwrap()).unwrap();
        Recorded::open(&path).unwrap()
    };
    let (right, changed, gone) =
        (output("right", Some("image")), output("changed", Some("Image")), output("gone", None));
    let fields = |a: &Recorded, b: &Recorded| -> Vec<(String, serde_json::Value)> {
        outputs(a, b, &Limits::default()).unwrap().differences.into_iter().map(|one| (one.field, one.b)).collect()
    };
    assert_eq!(fields(&right, &right), []);
    assert_eq!(fields(&changed, &changed), []);
    let digest = ocinitrd_format::digest::Digest::of(b"Image").to_string();
    assert_eq!(fields(&right, &changed), [("sha256".to_owned(), digest.into())]);
    assert_eq!(fields(&right, &gone), [("file".to_owned(), "missing".into())]);
    assert_eq!(fields(&gone, &right), [("file".to_owned(), "as recorded".into())]);
    let manifest = Recorded::open(&directory.path().join("gone/manifest.json")).unwrap();
    assert_eq!(fields(&right, &manifest), [], "only a manifest was given");
}
