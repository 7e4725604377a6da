//! OCI layouts against podman and skopeo: what we write they take and run, what they write we read.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use ocinitrd::image::layer::{Contents, Layer, Rules};
use ocinitrd::image::oci::image::Image;
use ocinitrd::image::oci::layout::{LayoutFacts, LayoutOptions, write_layout};
use ocinitrd::image::tree::{Kind, Tree};
use ocinitrd_format::compress::Compression;
use ocinitrd_format::time::Timestamp;

use crate::fixture::{builder, ocinitrd, stderr, stdout, succeed};

/// The file system of the builder image, as podman exports it.
fn exported(directory: &Path) -> Tree {
    let container = succeed(Command::new("podman").args(["create", "--network=none", &builder("dnf5"), "true"]));
    let container = container.trim();
    let mut export = Command::new("podman").args(["export", container]).stdout(Stdio::piped()).spawn().unwrap();
    let layer = Layer::read(export.stdout.take().unwrap(), directory, &Rules::root_filesystem());
    assert!(export.wait().unwrap().success());
    succeed(Command::new("podman").args(["rm", container]));
    layer.unwrap().tree
}

fn options(compression: Compression) -> LayoutOptions {
    LayoutOptions {
        architecture: ocinitrd_format::architecture::oci_name(std::env::consts::ARCH).to_owned(),
        epoch: Timestamp::from_seconds(1_700_000_000),
        compression,
        command: vec!["/bin/bash".into()],
        annotations: [("org.opencontainers.image.title".to_owned(), "test".to_owned())].into(),
        reference: Some("test".into()),
    }
}

fn layout(tree: &Tree, compression: Compression, directory: &Path) -> LayoutFacts {
    std::fs::create_dir(directory).unwrap();
    write_layout(tree, &options(compression), directory).unwrap()
}

#[test]
fn podman_pulls_and_runs_what_we_write_and_skopeo_inspects_it() {
    // podman makes a name of the path, and takes no capital letters in it.
    let name = format!("ocinitrd-test-{}", std::process::id());
    let directory = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir().unwrap();
    let mut tree = exported(directory.path());
    tree.clamp_times(1_700_000_000);
    let layout_directory = directory.path().join("layout");
    let facts = layout(&tree, Compression::Gzip(1), &layout_directory);
    let source = format!("oci:{}", layout_directory.display());

    let inspected = succeed(Command::new("skopeo").args(["inspect", &source]));
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Digest"].as_str(), Some(facts.manifest.to_string().as_str()));
    assert_eq!(inspected["Created"].as_str(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(inspected["Layers"][0].as_str(), Some(facts.layer.to_string().as_str()));

    let image = succeed(Command::new("podman").args(["pull", "-q", &source]));
    let image = image.trim();
    assert_eq!(image, facts.config.hex());
    let hash = "sha256sum /usr/bin/bash; stat -c '%a %u:%g %Y' /usr/bin/passwd";
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
    let run = Command::new("podman")
        .args(["run", "--rm", "--network=none"])
        .args(limits)
        .args([image, "bash", "-c", hash])
        .output()
        .unwrap();
    succeed(Command::new("podman").args(["rmi", image]));
    let run = format!("{}{}", stdout(&run), stderr(&run));
    let content = tree.content(b"usr/bin/bash").unwrap();
    let bash = ocinitrd_format::digest::Digest::of_reader(content.reader()).unwrap().0;
    assert!(run.contains(&format!("{}  /usr/bin/bash", bash.hex())), "{run}");
    let passwd = tree.get(b"usr/bin/passwd").unwrap();
    assert!(run.contains(&format!("{:o} 0:0 {}", passwd.permissions, passwd.mtime)), "{run}");
}

#[test]
fn every_compression_we_write_is_one_that_skopeo_unpacks() {
    let directory = tempfile::tempdir().unwrap();
    let mut tree = Tree::new();
    tree.add_file(b"etc/x", ocinitrd::image::tree::Content::from_bytes([b'x'; 5000]), 0o644, 5).unwrap();
    for (name, compression) in
        [("gzip", Compression::Gzip(6)), ("zstd", Compression::Zstd(3)), ("none", Compression::None)]
    {
        let source = directory.path().join(name);
        layout(&tree, compression, &source);
        let copy = format!("dir:{}", directory.path().join(format!("{name}-copy")).display());
        succeed(Command::new("skopeo").args([
            "copy",
            "-q",
            "--dest-decompress",
            &format!("oci:{}", source.display()),
            &copy,
        ]));
    }
}

#[test]
fn tar_and_bsdtar_read_the_canonical_layer_as_we_do() {
    let directory = tempfile::tempdir().unwrap();
    let tree = exported(directory.path());
    let path = directory.path().join("layer.tar");
    ocinitrd::image::layer::write_tar(&tree, &mut std::io::BufWriter::new(File::create(&path).unwrap())).unwrap();
    let expected: Vec<String> = tree
        .iter()
        .map(|(path, entry)| {
            let slash = if matches!(entry.kind, Kind::Directory) { "/" } else { "" };
            format!("{}{slash}", String::from_utf8_lossy(path))
        })
        .collect();
    let gnu = succeed(Command::new("tar").args(["--quoting-style=literal", "-tf"]).arg(&path));
    assert_eq!(gnu.lines().collect::<Vec<_>>(), expected);
    let bsd = succeed(Command::new("bsdtar").env("LC_ALL", "C.UTF-8").arg("-tf").arg(&path));
    assert_eq!(bsd.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn images_of_podman_are_read_as_podman_reads_them() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    let archive = directory.path().join("archive.tar");
    let source = format!("containers-storage:{}", builder("dnf5"));
    succeed(Command::new("skopeo").args(["copy", "-q", &source, &format!("oci:{}", layout.display())]));
    succeed(Command::new("skopeo").args(["copy", "-q", &source, &format!("oci-archive:{}", archive.display())]));
    let mut exported = exported(directory.path());
    let image =
        Image::open_directory(&layout, ocinitrd_format::architecture::oci_name(std::env::consts::ARCH)).unwrap();
    let mut flattened = image.flatten(directory.path(), u64::MAX).unwrap().tree;
    // The container's own files are in the export only.
    for tree in [&mut exported, &mut flattened] {
        tree.retain(|path, _| path == b"usr" || path.starts_with(b"usr/"));
        tree.clamp_times(0);
    }
    assert!(flattened.len() > 1000);
    assert_eq!(flattened.digest().unwrap(), exported.digest().unwrap());

    let file = File::open(&archive).unwrap();
    let contents = Contents::read_file(file, directory.path(), &Rules::root_filesystem()).unwrap();
    assert!(Image::is_archive(&contents.tree));
    let from = |input: &Path, name: &str| {
        let output = directory.path().join(name);
        succeed(ocinitrd().arg("convert").arg(input).arg("--compress").arg("none").arg("-o").arg(&output));
        std::fs::read(output).unwrap()
    };
    assert!(from(&layout, "a") == from(&archive, "b"));
}
