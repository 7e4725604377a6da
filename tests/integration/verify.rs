//! `ocinitrd verify` on output directories made by hand, whole and damaged.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ocinitrd::image::manifest::{Kernel, Output, OutputPath};
use ocinitrd::image::tree::{Content, Entry, Tree};
use ocinitrd_format::digest::Digest;

use crate::fixture::{self, fail, is_root, names, ocinitrd, stderr, stdout, succeed};
use crate::handmade::{Place, directory, file, listed, read_manifest, write_manifest};
use crate::images::{SMALL, build_test, change, command_test, image_with_samples, serve, small_image};

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
    ocinitrd::image::directory::write(&owned, &root).unwrap();
    let mut manifest = read_manifest(output);
    manifest.outputs.push(Output {
        path: OutputPath::new("root").unwrap(),
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
    initrd: 20 bytes instead of 492
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
fn manifest_whose_segments_do_not_come_to_the_initrd_is_told() {
    let place = Place::new();
    let output = output(&place);
    let mut manifest = read_manifest(&output);
    manifest.kernels[0].segments[0].size_bytes = u64::MAX;
    write_manifest(&output, &manifest);
    let expected = "initrd: the segments listed do not come to its size\n1 finding";
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
        refusal(&json.replace("\"path\": \"vmlinuz\"", "\"path\": \"../vmlinuz\"")),
        refusal(&json.replace("\"image\": \"vmlinuz\"", "\"image\": \"/etc/passwd\"")),
        refusal(&json.replace("\"initrd\": \"initrd\"", "\"initrd\": \"/etc/passwd\"")),
        refusal(&json.replace(
            "\"initrd\": \"initrd\"",
            "\"initrd\": null, \"uki\": {\"path\": \"../../etc/passwd\", \"pcr11\": {}}",
        )),
        refusal(&json.replace("\"image\": \"vmlinuz\"", "\"image\": \"other\"")),
        refusal(&json.replace("\"6.12.1\"", "\"../6.12.1\"")),
        refusal(&json.replace("\"name\": \"modules\"", "\"name\": \"base\"")),
        refusal(&json.replace("\"path\": \"vmlinuz\"", "\"path\": \"initrd\"")),
        place.shortened(&fail(&mut verify(&place.path("missing")))),
        place.shortened(&fail(&mut verify(&output.join("oci")))),
    ];
    insta::assert_snapshot!(all.concat(), @r#"
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: EOF while parsing a string at line 4 column 52
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: missing field `schema` at line 1 column 20
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: the manifest has schema 2, this ocinitrd reads 1: use the version that wrote it (0.1.0)
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: "../vmlinuz" is not a path below the output directory at line 85 column 26
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: "/etc/passwd" is not a path below the output directory at line 45 column 28
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: "/etc/passwd" is not a path below the output directory at line 46 column 29
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: reading the manifest: "../../etc/passwd" is not a path below the output directory at line 46 column 56
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: checking the manifest, which ocinitrd did not write so: the file other of the kernel "6.12.1" is not one of its outputs
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: checking the manifest, which ocinitrd did not write so: "../6.12.1" is not the version of a kernel
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: checking the manifest, which ocinitrd did not write so: the kernel "6.12.1" has the segment "base" twice
    error: taking DIR/out/manifest.json for the manifest of an `ocinitrd build`: checking the manifest, which ocinitrd did not write so: it lists initrd twice
    error: reading DIR/missing: No such file or directory (os error 2)
    error: DIR/out/oci holds no manifest.json; give an output directory of `ocinitrd build`
    "#);
    let mut empty = ocinitrd::image::manifest::Manifest::parse(json.as_bytes()).unwrap();
    empty.outputs.clear();
    empty.kernels.clear();
    write_manifest(&output, &empty);
    assert!(fail(&mut verify(&output)).contains("lists no outputs"));
}

/// Whatever reads an output directory, given one and its error.
fn readers(output: &Path) -> Vec<Command> {
    let command = |words: &[&str]| {
        let mut command = ocinitrd();
        command.args(words).arg(output);
        command
    };
    let mut check = command(&["check", "--needs", "lvm"]);
    check.args(["--kernel-version", "6.12.1"]);
    let mut diff = command(&["diff"]);
    diff.arg(output);
    vec![command(&["verify"]), check, diff, command(&["boot"])]
}

#[test]
fn nothing_outside_of_an_output_directory_is_read_by_way_of_its_manifest() {
    let place = Place::new();
    let output = output(&place);
    let json = fs::read_to_string(output.join("manifest.json")).unwrap();
    let secret = place.path("secret");
    fs::copy(output.join("initrd"), &secret).unwrap();
    for path in [secret.to_str().unwrap(), "../secret", "oci/../../secret"] {
        for key in ["initrd", "image", "path"] {
            let name = if key == "image" { "vmlinuz" } else { "initrd" };
            let changed = json.replace(&format!("\"{key}\": \"{name}\""), &format!("\"{key}\": \"{path}\""));
            assert_ne!(changed, json);
            fs::write(output.join("manifest.json"), changed).unwrap();
            for mut command in readers(&output) {
                let answer = command.output().unwrap();
                assert!(!answer.status.success(), "{command:?} took {path}");
                let said = stderr(&answer);
                assert!(said.contains("is not a path below the output directory"), "{command:?}: {said}");
            }
        }
    }
    fs::write(output.join("manifest.json"), &json).unwrap();
    fs::remove_file(output.join("initrd")).unwrap();
    std::os::unix::fs::symlink(&secret, output.join("initrd")).unwrap();
    for mut command in readers(&output) {
        let answer = command.output().unwrap();
        assert!(!answer.status.success(), "{command:?} followed a symlink");
        let said = stdout(&answer) + &stderr(&answer);
        assert!(said.contains("it is a symlink"), "{command:?}: {said}");
    }
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

#[test]
fn initrd_of_each_kernel_is_checked_by_its_own_segments() {
    let place = Place::new();
    let output = output(&place);
    fs::copy(output.join("initrd"), output.join("initrd-6.12.2")).unwrap();
    let mut manifest = read_manifest(&output);
    manifest.outputs.push(listed(&output, "initrd-6.12.2"));
    let second = Kernel {
        version: "6.12.2".to_owned(),
        initrd: Some(OutputPath::new("initrd-6.12.2").unwrap()),
        ..manifest.kernels[0].clone()
    };
    manifest.kernels.push(second);
    write_manifest(&output, &manifest);
    assert_eq!(place.shortened(&succeed(&mut verify(&output))), "DIR/out: 5 outputs and 4 segments as recorded\n");
    manifest.kernels[1].segments[0].sha256 = Digest::of(b"");
    write_manifest(&output, &manifest);
    assert_eq!(findings(&place, &output), "initrd-6.12.2, segment base: DIGEST instead of DIGEST\n1 finding");
}

#[test]
fn output_without_an_initrd_is_right_without_segments() {
    let place = Place::new();
    let output = output(&place);
    let mut manifest = read_manifest(&output);
    manifest.kernels[0].initrd = None;
    manifest.kernels[0].segments.clear();
    manifest.outputs.retain(|output| output.path.as_str() != "initrd");
    write_manifest(&output, &manifest);
    assert_eq!(place.shortened(&succeed(&mut verify(&output))), "DIR/out: 3 outputs and 0 segments as recorded\n");
}

/// `ocinitrd verify test --rebuild` of what `build_test` built.
fn rebuild(image: &Path) -> Command {
    let mut command = command_test(image, "verify");
    command.arg("--rebuild");
    command
}

/// Every file below a directory with the digest of its content.
fn files(directory: &Path) -> Vec<(PathBuf, Digest)> {
    let (mut files, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        for path in names(&directory).iter().map(|name| directory.join(name)) {
            match path.is_dir() {
                true => open.push(path),
                false => files.push((path.clone(), Digest::of(&fs::read(path).unwrap()))),
            }
        }
    }
    files.sort();
    files
}

#[test]
fn build_that_is_made_anew_is_the_same_and_leaves_nothing() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    change(&image, "[kernel]", "[profiles.pager]\ninstall = [\"less\"]\n[kernel]");
    let options = ["--profile", "pager", "-t", "oci", "--segments", "--compress", "gzip:1", "--epoch", "1700000000"];
    succeed(build_test(image.path()).args(options).args(["-o", "layout"]));
    let cache = image.path().join(fixture::CACHE);
    let before = (files(image.path()), files(&cache));
    // No other lock, and no network, is needed.
    let answer = rebuild(image.path()).output().unwrap();
    let said = stderr(&answer);
    let outputs = read_manifest(&image.path().join("test")).outputs.len();
    let expected = format!("test: {outputs} outputs and 0 segments as recorded, and built anew the same to the bit\n");
    assert_eq!((stdout(&answer), answer.status.code()), (expected, Some(0)), "{said}");
    for stage in ["installing: ", "selecting modules: ", "compressing base (gzip:1): "] {
        assert!(said.contains(stage), "{stage} was taken from an earlier build: {said}");
    }
    assert!(before == (files(image.path()), files(&cache)), "a rebuild changes nothing");
    assert_eq!(names(&cache.join("ocinitrd")), ["blobs", "cache", "lock", "partial"]);
}

/// Flips a bit of the byte at `offset` of the file `path` in the plain segment that begins at `start` of the initrd.
fn flip(initrd: &mut [u8], start: usize, path: &str, offset: usize) {
    let name = format!("{path}\0").into_bytes();
    let position = initrd[start..].windows(name.len()).position(|bytes| bytes == name).unwrap();
    let content = start + (position + name.len()).next_multiple_of(4);
    initrd[content + offset] ^= 1;
}

#[test]
fn byte_that_no_build_makes_is_found_though_the_manifest_has_its_digest() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    succeed(&mut build_test(image.path()));
    let output = image.path().join("test");
    let mut manifest = read_manifest(&output);
    let recorded = manifest.outputs[0].sha256;
    let kernel = &mut manifest.kernels[0];
    let start = usize::try_from(kernel.segment_offsets().unwrap().0[1]).unwrap();
    let changed = format!("usr/lib/modules/{}/modules.dep", kernel.version);
    let mut initrd = fs::read(output.join("initrd")).unwrap();
    flip(&mut initrd, start, &changed, 3);
    fs::write(output.join("initrd"), &initrd).unwrap();
    kernel.segments[1].sha256 = Digest::of(&initrd[start..]);
    manifest.outputs[0] = listed(&output, "initrd");
    let forged = manifest.outputs[0].sha256;
    write_manifest(&output, &manifest);
    succeed(&mut command_test(image.path(), "verify"));

    let answer = rebuild(image.path()).output().unwrap();
    let expected = format!(
        "output initrd: digest {forged} -> {recorded}\n\
         segment 2 (none), entry {changed}: content differs from byte 3 on\n\
         2 differences\n"
    );
    assert_eq!((stdout(&answer), answer.status.code()), (expected, Some(1)), "{}", stderr(&answer));
}

#[test]
fn output_of_another_lock_is_told_with_the_packages_that_differ() {
    let image = image_with_samples("repo-update-1");
    succeed(&mut build_test(image.path()));
    serve(&image.path().join("second"), "repo-update-2");
    succeed(&mut command_test(image.path(), "update"));
    succeed(&mut command_test(image.path(), "fetch"));
    let answer = rebuild(image.path()).arg("--json").output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!((answer.status.code(), &json["ok"]), (Some(1), &false.into()), "{}", stderr(&answer));
    assert_eq!(json["findings"], serde_json::json!([]));
    assert_eq!(json["rebuild"]["other_inputs"], serde_json::json!(["another lock"]));
    let differences = json["rebuild"]["differences"].as_array().unwrap();
    assert_eq!(json["rebuild"]["count"], differences.len());
    let package = |difference: &&serde_json::Value| difference["subject"] == "package";
    let packages: Vec<_> = differences.iter().filter(package).map(|package| &package["name"]).collect();
    assert_eq!(packages, ["update-forced.noarch", "update-other.noarch", "update-sample.noarch"]);
    let sample = differences.iter().find(|difference| difference["name"] == "update-sample.noarch").unwrap();
    assert_eq!((&sample["field"], &sample["a"], &sample["b"]), (&"version".into(), &"1-1".into(), &"2-1".into()));

    change(&image, "\"bash\"", "\"bash\", \"less\"");
    let error = fail(&mut rebuild(image.path()));
    assert!(error.contains("building test anew: the lock ") && error.contains("[packages] install changed"), "{error}");
    fs::remove_file(image.path().join("images/test.lock")).unwrap();
    let error = fail(&mut rebuild(image.path()));
    assert!(error.contains("does not serve: there is none") && error.contains("run ocinitrd lock test"), "{error}");
    let error = fail(rebuild(image.path()).args(["--image", "other"]));
    assert!(
        error.contains("building other anew: ") && error.contains("hint: name its definition, if that is elsewhere,"),
        "{error}"
    );
    assert_eq!(names(&image.path().join(fixture::CACHE).join("ocinitrd")), ["blobs", "cache", "lock", "partial"]);
}
