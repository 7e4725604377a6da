//! `ocinitrd verify` on output directories made by hand, whole and damaged.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ocinitrd::manifest::Output;
use ocinitrd::tree::{Content, Entry, Tree};

use crate::fixture::{fail, is_root, ocinitrd, stderr, stdout, succeed};
use crate::handmade::{Place, directory, file, read_manifest, write_manifest};

fn verify(output: &Path) -> Command {
    let mut command = ocinitrd();
    command.arg("verify").arg(output);
    command
}

fn output(place: &Place) -> PathBuf {
    let base = place.initrd("base", vec![directory("usr"), file("usr/data", "content\n".repeat(100))], "zstd");
    let modules = place.initrd("modules", vec![directory("lib"), file("lib/a.ko", "module")], "none");
    place.output("out", [&base, &modules])
}

/// The findings, without digests, after insisting on exit code 1.
fn findings(place: &Place, output: &Path) -> String {
    let answer = verify(output).output().unwrap();
    assert_eq!((answer.status.code(), stderr(&answer).as_str()), (Some(1), ""));
    let words = |line: &str| -> String {
        let short = |word: &str| if word.starts_with("sha256:") { "DIGEST".to_owned() } else { word.to_owned() };
        line.split(' ').map(short).collect::<Vec<_>>().join(" ")
    };
    place.shortened(&stdout(&answer)).lines().map(words).collect::<Vec<_>>().join("\n")
}

/// Writes `root` as `build -t directory` does, and lists it.
fn add_tree(output: &Path, owner: Option<u32>) -> PathBuf {
    let mut tree = Tree::new();
    tree.add_file(b"usr/file", Content::from_bytes(*b"text"), 0o644, 7).unwrap();
    tree.add_hard_link(b"usr/link".to_vec(), b"usr/file").unwrap();
    tree.add_symlink(b"lib", b"usr/lib", 7).unwrap();
    let mut owned = Tree::new();
    for (path, entry) in tree.iter() {
        let uid = owner.unwrap_or(rustix::process::geteuid().as_raw());
        let gid = owner.unwrap_or(rustix::process::getegid().as_raw());
        owned.insert(path.clone(), Entry { uid, gid, ..entry.clone() });
    }
    let root = output.join("root");
    fs::create_dir(&root).unwrap();
    ocinitrd::directory::write(&owned, &root).unwrap();
    let mut manifest = read_manifest(output);
    manifest.outputs.push(Output {
        path: "root".to_owned(),
        size_bytes: owned.size_bytes(),
        sha256: owned.digest().unwrap(),
    });
    write_manifest(output, &manifest);
    root
}

#[test]
fn untouched_output_is_right() {
    let place = Place::new();
    let output = output(&place);
    assert_eq!(place.shortened(&succeed(&mut verify(&output))), "DIR/out: 4 outputs and 2 segments as recorded\n");
    add_tree(&output, None);
    let manifest = output.join("manifest.json");
    assert_eq!(
        place.shortened(&succeed(&mut verify(&manifest))),
        "DIR/out/manifest.json: 5 outputs and 2 segments as recorded\n"
    );
    let json: serde_json::Value = serde_json::from_str(&succeed(verify(&output).arg("--json"))).unwrap();
    assert_eq!(json, serde_json::json!({"ok": true, "outputs": 5, "segments": 2, "findings": []}));
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let place = Place::new();
    let output = output(&place);
    let mut initrd = fs::read(output.join("initrd")).unwrap();
    let last = initrd.len() - 1;
    initrd[last] ^= 1;
    fs::write(output.join("initrd"), &initrd).unwrap();
    fs::remove_file(output.join("oci/blobs/sha256/layer")).unwrap();
    fs::write(output.join("oci/index.json"), "{ }").unwrap();
    fs::remove_file(output.join("vmlinuz")).unwrap();
    fs::create_dir(output.join("vmlinuz")).unwrap();
    insta::assert_snapshot!(findings(&place, &output), @"
    initrd: DIGEST instead of DIGEST
    initrd, segment modules: DIGEST instead of DIGEST
    oci/blobs/sha256/layer: missing
    oci/index.json: 3 bytes instead of 2
    oci/index.json: DIGEST instead of DIGEST
    vmlinuz: 0 bytes instead of 10
    vmlinuz: DIGEST instead of DIGEST
    7 findings
    ");
    let answer = verify(&output).arg("--json").output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!((answer.status.code(), &json["ok"]), (Some(1), &false.into()));
    let segment = &json["findings"][1];
    assert_eq!(
        (&segment["output"], &segment["segment"], &segment["problem"]),
        (&"initrd".into(), &"modules".into(), &"sha256".into())
    );
    assert_ne!(segment["recorded"], segment["found"]);
    assert_eq!(json["findings"][2], serde_json::json!({"output": "oci/blobs/sha256/layer", "problem": "missing"}));
}

#[test]
fn initrd_that_is_cut_off_or_missing_is_told_segment_by_segment() {
    let place = Place::new();
    let output = output(&place);
    let initrd = fs::read(output.join("initrd")).unwrap();
    fs::write(output.join("initrd"), &initrd[..20]).unwrap();
    insta::assert_snapshot!(findings(&place, &output), @"
    initrd: 20 bytes instead of 488
    initrd: DIGEST instead of DIGEST
    initrd, segment base: 20 bytes instead of 120
    initrd, segment base: DIGEST instead of DIGEST
    initrd, segment modules: 0 bytes instead of 368
    initrd, segment modules: DIGEST instead of DIGEST
    6 findings
    ");
    fs::remove_file(output.join("initrd")).unwrap();
    assert_eq!(findings(&place, &output), "initrd: missing\n1 finding");
}

#[test]
fn manifest_whose_segments_are_those_of_no_output_is_told() {
    let place = Place::new();
    let output = output(&place);
    let mut manifest = read_manifest(&output);
    manifest.segments[0].size_bytes = u64::MAX;
    write_manifest(&output, &manifest);
    let expected = "manifest.json: no output has the size that the segments listed come to\n1 finding";
    assert_eq!(findings(&place, &output), expected);
}

#[test]
fn directory_is_checked_to_the_last_mode() {
    let place = Place::new();
    let output = output(&place);
    let root = add_tree(&output, None);
    if is_root() {
        fs::set_permissions(root.join("usr/file"), Permissions::from_mode(0o600)).unwrap();
        assert_eq!(findings(&place, &output), "root: DIGEST instead of DIGEST\n1 finding");
    }
    fs::write(root.join("usr/file"), "longer").unwrap();
    assert_eq!(findings(&place, &output), "root: 6 bytes instead of 4\nroot: DIGEST instead of DIGEST\n2 findings");
    fs::remove_dir_all(&root).unwrap();
    assert_eq!(findings(&place, &output), "root: missing\n1 finding");
}

#[test]
fn directory_that_no_root_wrote_is_not_said_to_be_right() {
    let place = Place::new();
    let output = output(&place);
    // What a tree of somebody else's is in a directory of this user's.
    let root = add_tree(&output, Some(12_345));
    for path in ["", "usr", "usr/file", "lib"] {
        let id = if is_root() { Some(54_321) } else { None };
        std::os::unix::fs::lchown(root.join(path), id, id).unwrap();
    }
    let found = findings(&place, &output);
    assert!(found.starts_with("root: not checked: DIR/out/root was not written by root, "), "{found}");
    assert!(found.ends_with("the sum of its files' sizes is right\n1 finding"), "{found}");
}

#[test]
fn damaged_or_foreign_manifest_is_an_error() {
    let place = Place::new();
    let output = output(&place);
    let manifest = output.join("manifest.json");
    let json = fs::read_to_string(&manifest).unwrap();
    let refusal = |json: &str| {
        fs::write(&manifest, json).unwrap();
        place.shortened(&fail(&mut verify(&output)))
    };
    let all = [
        refusal(&json[..100]),
        refusal("{\"schemaVersion\": 2}"),
        refusal(&json.replace("\"schema\": 1", "\"schema\": 2")),
        refusal(&json.replace("\"vmlinuz\"", "\"../vmlinuz\"")),
        place.shortened(&fail(&mut verify(&place.path("missing")))),
        place.shortened(&fail(&mut verify(&output.join("oci")))),
    ];
    insta::assert_snapshot!(all.concat(), @r#"
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: EOF while parsing a value at line 6 column 1
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: missing field `schema` at line 1 column 20
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: the manifest has schema 2, this ocinitrd reads 1: use the version that wrote it (0.1.0)
    error: DIR/out/manifest.json lists "../vmlinuz", which is no path in its directory: ocinitrd did not write it so
    error: reading DIR/missing: No such file or directory (os error 2)
    error: DIR/out/oci holds no manifest.json; give an output directory of `ocinitrd build`
    "#);
    let mut empty = ocinitrd::manifest::Manifest::parse(json.as_bytes()).unwrap();
    empty.outputs.clear();
    write_manifest(&output, &empty);
    assert!(fail(&mut verify(&output)).contains("lists no outputs"));
}

#[test]
fn closed_standard_output_does_not_change_the_exit_code() {
    let place = Place::new();
    let output = output(&place);
    fs::remove_file(output.join("vmlinuz")).unwrap();
    let mut child = verify(&output).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let answer = child.wait_with_output().unwrap();
    assert_eq!((answer.status.code(), stderr(&answer).as_str()), (Some(1), ""));
}
