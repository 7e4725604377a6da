//! Layouts written and read back, and layouts that lie.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::image::Image;
use super::layout::{LayoutFacts, LayoutOptions, write_layout};
use super::*;
use crate::image::layer::{Layer, Rules, TooLong};
use crate::image::tree::{Content, Entry, Kind, Tree};
use ocinitrd_format::compress::Compression;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::time::Timestamp;

fn options(compression: Compression) -> LayoutOptions {
    LayoutOptions {
        architecture: "amd64".into(),
        epoch: Timestamp::from_seconds(86_400),
        compression,
        command: vec!["/bin/sh".into()],
        annotations: BTreeMap::from([("org.ocinitrd.image".into(), "test".into())]),
        reference: None,
    }
}

fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.add_file(b"etc/os-release", Content::from_bytes(*b"ID=test\n"), 0o644, 5).unwrap();
    tree.add_hard_link(b"etc/z".to_vec(), b"etc/os-release").unwrap();
    let xattrs = BTreeMap::from([(b"security.capability".to_vec(), b"\x01\n".to_vec())]);
    let kind = Kind::File(Content::from_bytes(*b"ping"));
    tree.insert(b"ping".to_vec(), Entry { xattrs, ..Entry::of_root(kind, 0o755, 5) });
    tree
}

fn write(tree: &Tree, compression: Compression) -> (tempfile::TempDir, LayoutFacts) {
    let directory = tempfile::tempdir().unwrap();
    let facts = write_layout(tree, &options(compression), directory.path()).unwrap();
    (directory, facts)
}

fn flatten(directory: &Path) -> Result<Tree> {
    let image = Image::open_directory(directory, "amd64")?;
    Ok(image.flatten(&std::env::temp_dir(), u64::MAX)?.tree)
}

fn refusal(directory: &Path) -> String {
    format!("{:#}", flatten(directory).unwrap_err())
}

fn blob(directory: &Path, digest: Digest) -> std::path::PathBuf {
    directory.join("blobs/sha256").join(digest.hex())
}

/// Puts JSON into the layout and returns its digest and descriptor.
fn put(directory: &Path, media_type: &str, json: &serde_json::Value) -> serde_json::Value {
    let bytes = serde_json::to_vec(json).unwrap();
    let digest = Digest::of(&bytes);
    fs::write(blob(directory, digest), &bytes).unwrap();
    serde_json::json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
}

/// A layout of the given layers, as some other tool would write it.
fn stack(layers: &[&Tree]) -> tempfile::TempDir {
    let (directory, _) = write(&Tree::new(), Compression::None);
    let (mut descriptors, mut diff_ids) = (Vec::new(), Vec::new());
    for layer in layers {
        let mut tar = Vec::new();
        crate::image::layer::write_tar(layer, &mut tar).unwrap();
        let digest = Digest::of(&tar);
        fs::write(blob(directory.path(), digest), &tar).unwrap();
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        descriptors.push(serde_json::json!({"mediaType": media_type, "digest": digest.to_string(), "size": tar.len()}));
        diff_ids.push(digest.to_string());
    }
    let config = serde_json::json!({"rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {"Volumes": null}});
    let config = put(directory.path(), "application/vnd.oci.image.config.v1+json", &config);
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": descriptors});
    let manifest = put(directory.path(), "application/vnd.oci.image.manifest.v1+json", &manifest);
    write_index(directory.path(), &[manifest]);
    directory
}

fn write_index(directory: &Path, manifests: &[serde_json::Value]) {
    let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
    fs::write(directory.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
}

fn manifests(directory: &Path) -> Vec<serde_json::Value> {
    let index: serde_json::Value = serde_json::from_slice(&fs::read(directory.join("index.json")).unwrap()).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

#[test]
fn json_has_sorted_keys() {
    let map: std::collections::HashMap<String, u8> = ('a'..='z').rev().map(|key| (key.to_string(), 0)).collect();
    let keys: String = ('a'..='z').map(|key| format!("\"{key}\":0,")).collect();
    assert_eq!(canonical_json(&map).unwrap(), format!("{{{}}}", keys.trim_end_matches(',')).into_bytes());
}

#[test]
fn a_tree_comes_back_from_its_layout_and_from_the_archive_of_it() {
    for compression in [Compression::Gzip(6), Compression::Zstd(3), Compression::None] {
        let (directory, facts) = write(&tree(), compression);
        let read = flatten(directory.path()).unwrap();
        assert_eq!(read.digest().unwrap(), tree().digest().unwrap());
        assert_eq!(Image::open_directory(directory.path(), "amd64").unwrap().digest, facts.manifest);

        let mut files = Tree::new();
        for path in ["oci-layout".to_owned(), "index.json".to_owned()]
            .into_iter()
            .chain([facts.manifest, facts.config, facts.layer].map(|digest| format!("blobs/sha256/{}", digest.hex())))
        {
            let content = Content::from_bytes(fs::read(directory.path().join(&path)).unwrap());
            files.add_file(path.as_bytes(), content, 0o644, 0).unwrap();
        }
        let mut archive = Vec::new();
        crate::image::layer::write_tar(&files, &mut archive).unwrap();
        let archive = Layer::read(&archive[..], &std::env::temp_dir(), &Rules::root_filesystem()).unwrap().tree;
        assert!(Image::is_archive(&archive) && !Image::is_archive(&tree()));
        let flattened =
            Image::open_archive(archive, "arm64").unwrap().flatten(&std::env::temp_dir(), u64::MAX).unwrap();
        assert_eq!(flattened.tree.digest().unwrap(), tree().digest().unwrap());
    }
}

#[test]
fn equal_trees_give_equal_layouts() {
    let (_kept, facts) = write(&tree(), Compression::None);
    assert_eq!(facts, write(&tree(), Compression::None).1);
    assert_eq!(facts.layer, facts.diff_id);
    assert_eq!(facts.manifest.to_string(), "sha256:2911a07dd16f62e26a1560d2b4ec4b73b37ea80ff31a4bcb1c6af965a6b31621");
}

#[test]
fn the_manifest_says_when_and_what_with_sorted_keys() {
    let (directory, facts) = write(&tree(), Compression::Gzip(6));
    let manifest = fs::read_to_string(blob(directory.path(), facts.manifest)).unwrap();
    let annotations =
        r#""annotations":{"org.ocinitrd.image":"test","org.opencontainers.image.created":"1970-01-02T00:00:00Z"}"#;
    assert!(manifest.contains(annotations), "{manifest}");
    assert!(manifest.contains("application/vnd.oci.image.layer.v1.tar+gzip"), "{manifest}");
    let config = fs::read_to_string(blob(directory.path(), facts.config)).unwrap();
    assert!(config.contains(r#""Cmd":["/bin/sh"]"#) && config.contains(&facts.diff_id.to_string()), "{config}");
}

#[test]
fn a_compression_without_a_media_type_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let error = write_layout(&tree(), &options(Compression::Xz(6)), directory.path()).unwrap_err();
    assert_eq!(error.to_string(), "an OCI layer cannot be compressed with xz:6; use gzip, zstd or none");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn layers_stack_with_whiteouts_and_keep_the_lower_directories_owner() {
    let mut lower = tree();
    lower.insert(b"home".to_vec(), Entry { uid: 5, ..Entry::of_root(Kind::Directory, 0o700, 1) });
    let mut upper = Tree::new();
    let empty = || Entry::of_root(Kind::File(Content::from_bytes([])), 0o644, 0);
    for path in ["etc/.wh.os-release", "home/new"] {
        upper.insert(path.into(), empty());
    }
    let stacked = flatten(stack(&[&lower, &upper]).path()).unwrap();
    let paths: Vec<_> = stacked.iter().map(|(path, _)| String::from_utf8_lossy(path)).collect();
    assert_eq!(paths, ["etc", "etc/z", "home", "home/new", "ping"]);
    assert_eq!((stacked.get(b"home").unwrap().uid, stacked.get(b"home").unwrap().permissions), (5, 0o700));
    assert_eq!(stacked.content(b"etc/z").unwrap().read_all().unwrap(), b"ID=test\n");
}

#[test]
fn an_entry_below_a_lower_layers_symlink_is_refused() {
    let (mut lower, mut upper) = (Tree::new(), Tree::new());
    lower.add_symlink(b"lib", b"/", 0).unwrap();
    upper.insert(b"lib/x".to_vec(), Entry::of_root(Kind::Fifo, 0o644, 0));
    let error = refusal(stack(&[&lower, &upper]).path());
    assert_eq!(error, "stacking the image's layers: the entry \"lib/x\" lies below the symlink \"lib\"");
}

#[test]
fn blobs_are_verified_before_they_are_read() {
    let damaged = "the image is damaged: fetch or export it again";
    for (pick, what) in [
        ((|facts| facts.manifest) as fn(&LayoutFacts) -> Digest, "manifest"),
        (|facts| facts.config, "config"),
        (|facts| facts.layer, "layer"),
    ] {
        let (directory, facts) = write(&tree(), Compression::Gzip(6));
        let digest = pick(&facts);
        let path = blob(directory.path(), digest);
        let whole = fs::read(&path).unwrap();
        let length = whole.len();
        fs::write(&path, &whole[1..]).unwrap();
        let error = refusal(directory.path());
        let expected = format!("the {what} {digest} has {} bytes instead of {length}; {damaged}", length - 1);
        assert!(error.ends_with(&expected), "{error}");
        let mut altered = whole.clone();
        altered[length / 2] ^= 1;
        fs::write(&path, &altered).unwrap();
        let error = refusal(directory.path());
        let expected = format!("the {what} {digest} has the digest {} instead; {damaged}", Digest::of(&altered));
        assert!(error.ends_with(&expected), "{error}");
        fs::remove_file(&path).unwrap();
        assert!(refusal(directory.path()).contains(&digest.hex()));
    }
}

#[test]
fn the_unpacked_layer_is_verified_too() {
    let (directory, facts) = write(&tree(), Compression::None);
    let config = serde_json::json!({"rootfs": {"type": "layers", "diff_ids": [Digest::of(b"other").to_string()]}});
    let config = put(directory.path(), "application/vnd.oci.image.config.v1+json", &config);
    let manifest = fs::read(blob(directory.path(), facts.manifest)).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["config"] = config;
    let manifest = put(directory.path(), "application/vnd.oci.image.manifest.v1+json", &manifest);
    write_index(directory.path(), &[manifest]);
    let error = refusal(directory.path());
    assert!(
        error.contains(&format!("has the digest {}, the config says {}", facts.diff_id, Digest::of(b"other"))),
        "{error}"
    );
}

#[test]
fn one_image_must_fit_the_architecture() {
    let (directory, facts) = write(&tree(), Compression::None);
    let ours = manifests(directory.path()).remove(0);
    let other = put(directory.path(), "application/vnd.oci.image.manifest.v1+json", &serde_json::json!({"other": 1}));
    let third = put(directory.path(), "application/vnd.oci.image.manifest.v1+json", &serde_json::json!({"other": 2}));
    let with_platform = |architecture: &str| {
        let mut descriptor = other.clone();
        descriptor["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        descriptor
    };
    write_index(directory.path(), &[with_platform("arm64"), ours.clone(), ours.clone()]);
    assert_eq!(Image::open_directory(directory.path(), "amd64").unwrap().digest, facts.manifest);
    for (fitting, list) in
        [("2", vec![with_platform("amd64"), ours]), ("0", vec![with_platform("arm64"), third]), ("0", Vec::new())]
    {
        write_index(directory.path(), &list);
        let error = refusal(directory.path());
        assert!(error.contains(&format!("{fitting} of the images in it are for linux/amd64")), "{error}");
    }
}

#[test]
fn indexes_may_nest_but_not_for_ever() {
    let (directory, facts) = write(&tree(), Compression::None);
    let media_type = "application/vnd.oci.image.index.v1+json";
    for depth in 1..=4 {
        let nested = serde_json::json!({"schemaVersion": 2, "manifests": manifests(directory.path())});
        let nested = put(directory.path(), media_type, &nested);
        write_index(directory.path(), &[nested]);
        match Image::open_directory(directory.path(), "amd64") {
            Ok(image) => assert!(depth <= 3 && image.digest == facts.manifest),
            Err(error) => assert!(depth == 4 && format!("{error:#}").ends_with("nested too deeply"), "{error:#}"),
        }
    }
}

/// A layout whose index leads through indexes of `width` names each to its image, `depth` deep.
fn nested(depth: usize, width: usize) -> tempfile::TempDir {
    let (directory, _) = write(&tree(), Compression::None);
    for _ in 0..depth {
        let named = vec![manifests(directory.path()).remove(0); width];
        let index = serde_json::json!({"schemaVersion": 2, "manifests": named});
        let index = put(directory.path(), "application/vnd.oci.image.index.v1+json", &index);
        write_index(directory.path(), &vec![index; width]);
    }
    directory
}

/// Each index is read once: in all ways there would be 300^4.
#[test]
fn an_index_that_is_named_often_is_read_once() {
    let directory = nested(3, 300);
    assert!(Image::open_directory(directory.path(), "amd64").is_ok());
}

#[test]
fn images_layers_and_what_they_unpack_to_have_a_limit() {
    let (directory, facts) = write(&tree(), Compression::Gzip(6));
    let image = Image::open_directory(directory.path(), "amd64").unwrap();
    let flattened = |limit_bytes| image.flatten(&std::env::temp_dir(), limit_bytes).map(drop);
    flattened(facts.unpacked_bytes).unwrap();
    let error = format!("{:#}", flattened(facts.unpacked_bytes - 1).unwrap_err());
    assert!(error.contains(&format!("it unpacks to more than {} bytes", facts.unpacked_bytes - 1)), "{error}");
    let twice = stack(&[&tree(), &tree()]);
    let image = Image::open_directory(twice.path(), "amd64").unwrap();
    let limit_bytes = facts.unpacked_bytes * 2 - 1;
    let error = image.flatten(&std::env::temp_dir(), limit_bytes).unwrap_err();
    assert!(TooLong::is_cause_of(&error), "{error:#}");
    assert!(format!("{error:#}").contains(&format!("it unpacks to more than {limit_bytes} bytes")), "{error:#}");

    let layers = vec![Tree::new(); 501];
    let refs: Vec<&Tree> = layers.iter().collect();
    assert!(flatten(stack(&refs[..500]).path()).unwrap().is_empty());
    let error = refusal(stack(&refs).path());
    assert!(error.ends_with("the image has 501 layers, and at most 500 are stacked"), "{error}");

    let image = |number: usize| {
        let digest = Digest::of(&number.to_be_bytes()).to_string();
        serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1})
    };
    let images: Vec<serde_json::Value> = (0..10_001).map(image).collect();
    write_index(directory.path(), &images);
    let error = refusal(directory.path());
    assert!(error.ends_with("its indexes name more than 10000 images"), "{error}");
    write_index(directory.path(), &images[..30]);
    let error = refusal(directory.path());
    assert!(error.ends_with(", ... (30 in all)") && error.matches("sha256:").count() == 20, "{error}");
}

#[test]
fn text_of_an_image_is_shown_as_one_line_that_steers_nothing() {
    const EVIL: &str = "x\n\u{1b}]0;t\u{7}";
    const SHOWN: &str = r"x\x0a\x1b]0;t\x07";
    let (directory, _) = write(&tree(), Compression::None);
    let mut descriptor = manifests(directory.path()).remove(0);
    descriptor["platform"] = serde_json::json!({"os": EVIL, "architecture": EVIL});
    let mut other = descriptor.clone();
    other["digest"] = serde_json::json!(Digest::of(b"other").to_string());
    write_index(directory.path(), &[descriptor.clone(), other]);
    let error = refusal(directory.path());
    assert!(error.contains(&format!(" ({SHOWN}/{SHOWN})")) && !error.contains('\n'), "{error:?}");
    for digest in [format!("sha512:{EVIL}"), format!("other:{EVIL}")] {
        descriptor["digest"] = serde_json::json!(digest);
        write_index(directory.path(), &[descriptor.clone()]);
        let error = refusal(directory.path());
        assert!(error.contains(SHOWN) && !error.contains('\n'), "{error:?}");
    }
    fs::write(directory.path().join("index.json"), format!("{{\"schemaVersion\": \"{}\"}}", "x\\n\\u001b[2J")).unwrap();
    let error = refusal(directory.path());
    assert!(error.contains(r"x\n\u{1b}[2J") && !error.contains('\u{1b}'), "{error:?}");
}

#[test]
fn what_is_no_file_system_is_refused() {
    let directory = stack(&[&Tree::new()]);
    let descriptor = manifests(directory.path()).remove(0);
    let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
    let manifest = fs::read_to_string(blob(directory.path(), digest)).unwrap();
    let manifest = manifest.replace("application/vnd.oci.image.layer.v1.tar", "text/plain");
    let manifest =
        put(directory.path(), "application/vnd.oci.image.manifest.v1+json", &serde_json::from_str(&manifest).unwrap());
    write_index(directory.path(), &[manifest]);
    assert!(refusal(directory.path()).ends_with("is of the type \"text/plain\", which is no readable tar archive"));
    fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(refusal(directory.path()).ends_with("the layout has the version \"2.0.0\"; only 1.0.0 is known"));
}
