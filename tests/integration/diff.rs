//! `ocinitrd diff` on initrds that `ocinitrd convert` makes here and now, and on output directories made by hand.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use ocinitrd_format::digest::Digest;
use tar::EntryType;

use crate::fixture::{fail_with, ocinitrd, stderr, stdout};
use crate::handmade::{Member, Place, directory, file, link, member, read_manifest, write_manifest};

fn diff(a: &Path, b: &Path) -> Command {
    let mut command = ocinitrd();
    command.arg("diff").arg(a).arg(b);
    command
}

/// The exit code and what was printed; there is no narration.
fn answer(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    assert_eq!(stderr(&output), "");
    (output.status.code().unwrap(), stdout(&output))
}

fn base() -> Vec<Member> {
    vec![
        directory("usr"),
        file("usr/data", "content of a file\n".repeat(500)),
        member("usr/null", EntryType::Char, 0o666, "").with(|header| header.set_device_minor(3).unwrap()),
        file("usr/one", "linked"),
        link("usr/two", EntryType::Link, "usr/one"),
        link("usr/way", EntryType::Symlink, "data"),
    ]
}

fn with(mut members: Vec<Member>, more: [Member; 2]) -> Vec<Member> {
    members.extend(more);
    members
}

#[test]
fn same_initrds_have_no_difference() {
    let place = Place::new();
    let (a, b) = (place.initrd("a", base(), "zstd"), place.initrd("b", base(), "zstd"));
    assert_eq!(answer(&mut diff(&a, &b)), (0, "no differences\n".to_owned()));
    let (code, json) = answer(diff(&a, &b).arg("--json"));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let expected = serde_json::json!({"count": 0, "unpack_alike": true, "not_compared": [], "differences": []});
    assert_eq!((code, json), (0, expected));
}

#[test]
fn each_field_that_differs_has_a_line() {
    let place = Place::new();
    let a = place.initrd("a", with(base(), [file("usr/only-a", "abc"), file("usr/turns", "")]), "gzip");
    let mut changed = base();
    changed[1] = file("usr/data", format!("{}!ontent of a file\n", "content of a file\n".repeat(499))).with(|header| {
        header.set_mode(0o4755);
        header.set_uid(10);
        header.set_gid(20);
        header.set_mtime(30);
    });
    changed[2] = member("usr/null", EntryType::Char, 0o666, "").with(|header| header.set_device_minor(5).unwrap());
    changed[4] = file("usr/two", "linked");
    changed[5] = link("usr/way", EntryType::Symlink, "one");
    let added = [link("usr/only-b", EntryType::Symlink, "one"), directory("usr/turns")];
    let b = place.initrd("b", with(changed, added), "gzip");
    let (code, text) = answer(&mut diff(&a, &b));
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("segment 1 (gzip): size")).collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    segment 1 (gzip), entry usr/data: mode 0644 -> 4755
    segment 1 (gzip), entry usr/data: uid 0 -> 10
    segment 1 (gzip), entry usr/data: gid 0 -> 20
    segment 1 (gzip), entry usr/data: mtime 0 -> 30
    segment 1 (gzip), entry usr/data: content differs from byte 8982 on
    segment 1 (gzip), entry usr/null: device 0:3 -> 0:5
    segment 1 (gzip), entry usr/one: hard link of usr/one -> none
    segment 1 (gzip), entry usr/only-a: only in A (file 0644, 3 bytes)
    segment 1 (gzip), entry usr/only-b: only in B (symlink 0777 to one)
    segment 1 (gzip), entry usr/turns: type file -> directory
    segment 1 (gzip), entry usr/turns: mode 0644 -> 0755
    segment 1 (gzip), entry usr/two: hard link of usr/one -> none
    segment 1 (gzip), entry usr/way: target data -> one
    14 differences
    ");
    assert_eq!(code, 1);
}

#[test]
fn flipped_byte_is_named_with_its_offset() {
    let place = Place::new();
    let content = |byte: u8| {
        let mut content = vec![b'x'; 400_000];
        content[123_456] = byte;
        vec![file("small", "s"), file("big", content)]
    };
    let (a, b) = (place.initrd("a", content(b'x'), "none"), place.initrd("b", content(b'y'), "none"));
    let expected = "segment 1 (none), entry big: content differs from byte 123456 on\n1 difference\n";
    assert_eq!(answer(&mut diff(&a, &b)), (1, expected.to_owned()));
    let (_, json) = answer(diff(&a, &b).arg("--json"));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["count"], &json["unpack_alike"]), (&1.into(), &false.into()));
    let difference = &json["differences"][0];
    assert_eq!((&difference["subject"], &difference["field"]), (&"entry".into(), &"content".into()));
    assert_eq!((&difference["path"], &difference["segment_b"]), (&"big".into(), &1.into()));
    assert_eq!(difference["offset"], 123_456);
    assert_ne!(difference["a"], difference["b"]);
}

#[test]
fn one_more_segment_and_another_compression_are_told_as_that() {
    let place = Place::new();
    let (zstd, gzip) = (place.initrd("zstd", base(), "zstd"), place.initrd("gzip", base(), "gzip"));
    let local = place.initrd("local", vec![directory("etc"), file("etc/hostname", "host\n")], "none");
    let both = place.path("both");
    fs::write(&both, [fs::read(&local).unwrap(), fs::read(&zstd).unwrap()].concat()).unwrap();
    let (code, text) = answer(&mut diff(&zstd, &both));
    assert!(
        text.starts_with("segment 1 (none): only in B (2 entries, ") && text.ends_with("bytes)\n1 difference\n"),
        "{text}"
    );
    assert_eq!(code, 1);

    let (code, text) = answer(&mut diff(&zstd, &gzip));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((code, lines.len()), (1, 4), "{text}");
    assert_eq!(lines[0], "segment 1 (zstd -> gzip): codec zstd -> gzip");
    assert_eq!(
        lines[2],
        "segment 1 (zstd -> gzip): the same entries in other bytes, from its byte 0 on: compressed otherwise"
    );
    assert_eq!(lines[3], "3 differences; the initrds unpack to the same files");
}

#[test]
fn what_cannot_be_compared_is_an_error_and_not_an_answer() {
    let place = Place::new();
    let initrd = place.initrd("initrd", base(), "zstd");
    let bytes = fs::read(&initrd).unwrap();
    fs::write(place.path("cut"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(place.path("text"), "no initrd").unwrap();
    fs::create_dir(place.path("empty")).unwrap();
    fs::write(place.path("object"), "{}").unwrap();
    let output = place.output("out", [&initrd, &initrd]);
    let refusal = |a: &Path, b: &Path| {
        let output = diff(a, b).output().unwrap();
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), String::new()));
        place.shortened(&stderr(&output))
    };
    let cut = place.path("cut");
    let all = [
        refusal(&initrd, &cut),
        refusal(&cut, &cut),
        refusal(&place.path("text"), &initrd),
        refusal(&initrd, &place.path("missing")),
        refusal(&output, &initrd),
        refusal(&initrd, &output.join("manifest.json")),
        refusal(&place.path("empty"), &output),
        refusal(&place.path("object"), &output),
        refusal(&initrd, Path::new("/dev/null")),
    ];
    insta::assert_snapshot!(all.concat(), @"
    error: reading DIR/cut, of which only a sound initrd can be compared: see ocinitrd inspect DIR/cut: at byte 0: in the zstd segment, byte 0 unpacked: incomplete frame
    error: reading DIR/cut, of which only a sound initrd can be compared: see ocinitrd inspect DIR/cut: at byte 0: in the zstd segment, byte 0 unpacked: incomplete frame
    error: reading DIR/text, of which only a sound initrd can be compared: see ocinitrd inspect DIR/text: at byte 0: neither cpio nor a known compression begins with 6e 6f 20 69 6e 69
    error: reading DIR/missing: No such file or directory (os error 2)
    error: DIR/initrd is an initrd and DIR/out the output of a build: give two initrds, or two output directories of `ocinitrd build` or their manifest.json
    error: DIR/initrd is an initrd and DIR/out/manifest.json the output of a build: give two initrds, or two output directories of `ocinitrd build` or their manifest.json
    error: DIR/empty holds no manifest.json; give an output directory of `ocinitrd build`
    error: taking DIR/object for the manifest of an `ocinitrd build`: reading the manifest: missing field `schema` at line 1 column 2
    error: /dev/null is no regular file, which is needed to read it more than once: give two initrds, or two output directories of `ocinitrd build` or their manifest.json
    ");
}

#[test]
fn outputs_are_compared_by_manifest_and_by_initrd() {
    let place = Place::new();
    let modules = |content: &'static str| vec![directory("lib"), file("lib/a.ko", content)];
    let base = place.initrd("base", base(), "zstd");
    let a = place.output("a", [&base, &place.initrd("modules-a", modules("module"), "none")]);
    let b = place.output("b", [&base, &place.initrd("modules-b", modules("mOdule"), "none")]);
    let mut manifest = read_manifest(&b);
    manifest.kernels[0].version = "6.12.2".to_owned();
    manifest.packages[0].version = "5.3".to_owned();
    write_manifest(&b, &manifest);
    let initrds = [&a, &b].map(|output| Digest::of(&fs::read(output.join("initrd")).unwrap()).to_string());
    let expected = format!(
        "package bash.x86_64: version 5.2-1 -> 5.3-1\n\
         kernel: version 6.12.1 -> 6.12.2\n\
         output initrd: digest {} -> {}\n\
         segment 2 (none), entry lib/a.ko: content differs from byte 1 on\n\
         4 differences\n",
        initrds[0], initrds[1]
    );
    assert_eq!(answer(&mut diff(&a, &b)), (1, expected.clone()));
    assert_eq!(answer(&mut diff(&a.join("manifest.json"), &b)), (1, expected));
    assert_eq!(answer(&mut diff(&a, &a)), (0, "no differences\n".to_owned()));

    fs::remove_file(b.join("initrd")).unwrap();
    let error = place.shortened(&fail_with(2, &mut diff(&a, &b)));
    assert!(
        error.contains("there is no file DIR/b/initrd, which manifest.json lists; give the manifest.json"),
        "{error}"
    );
    let (code, text) = answer(&mut diff(&a, &b.join("manifest.json")));
    let text = place.shortened(&text);
    assert!(text.contains("\nsegment modules: digest "), "{text}");
    assert!(
        text.ends_with("not compared: the initrd's entries: there is no file DIR/b/initrd\n4 differences\n"),
        "{text}"
    );
    assert_eq!(code, 1);
}

#[test]
fn reader_that_has_read_enough_gets_the_same_exit_code() {
    let place = Place::new();
    let many = |content: &'static str| -> Vec<Member> {
        (0..4000).map(|number| file(format!("a-file-with-a-number-{number}").leak(), content)).collect()
    };
    let (a, b) = (place.initrd("a", many("a"), "none"), place.initrd("b", many("b"), "none"));
    let mut child = diff(&a, &b).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut start = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((&start, output.status.code(), stderr(&output).as_str()), (b"segment 1 ", Some(1), ""));
}
