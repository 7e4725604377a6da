//! `ocinitrd inspect` on initrds that dracut and initramfs-tools make here and now, compared with what another program unpacks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use ocinitrd::analysis::inspect::{Report, extract, file_digests, inspect};
use ocinitrd_format::compress::Codec;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::process::Program;
use tempfile::TempDir;

use crate::fixture;

const KVER: &str = "6.12.0-fixture";
const GENERATOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/inspect/gen.sh");

fn inspect_command(arguments: &[&str]) -> Command {
    let mut command = fixture::ocinitrd();
    command.arg("inspect").args(arguments);
    command
}

/// What `sha256sum` printed for the unpacked files.
fn digests_by_the_other_program(image: &Path) -> BTreeMap<Vec<u8>, Digest> {
    let text = fs::read_to_string(image.with_extension("sha256")).unwrap();
    text.lines()
        .map(|line| {
            let (hex, path) = line.split_once("  ./").unwrap();
            (path.as_bytes().to_vec(), Digest::from_hex(hex).unwrap())
        })
        .collect()
}

fn codecs(report: &Report) -> Vec<Codec> {
    report.segments.iter().map(|segment| segment.codec).collect()
}

#[test]
fn initrds_of_dracut_and_initramfs_tools_are_read_as_others_read_them() {
    let directory = TempDir::new().unwrap();
    Program::new("sh").args([GENERATOR.as_ref(), directory.path().as_os_str()]).run().unwrap();
    let expected = [
        ("dracut-gzip", vec![Codec::None, Codec::Gzip]),
        ("dracut-bzip2", vec![Codec::None, Codec::Bzip2]),
        ("initramfs-tools-zstd", vec![Codec::Zstd]),
        ("initramfs-tools-xz", vec![Codec::Xz]),
        ("initramfs-tools-lz4", vec![Codec::Lz4]),
    ];
    for (name, expected_codecs) in expected {
        let image = directory.path().join(format!("{name}.img"));
        let report = inspect(File::open(&image).unwrap()).unwrap();
        assert!(report.problems.is_empty(), "{name}: {:?}", report.problems);
        assert_eq!(codecs(&report), expected_codecs, "{name}");
        assert_eq!(report.segments[0].microcode, name.starts_with("dracut"), "{name}");
        assert_eq!(report.size_bytes, fs::metadata(&image).unwrap().len(), "{name}");
        assert_eq!(report.kernel_versions.iter().collect::<Vec<_>>(), [KVER], "{name}");

        let digests = file_digests(File::open(&image).unwrap()).unwrap();
        assert!(digests.len() > 50, "{name}: {}", digests.len());
        assert_eq!(digests, digests_by_the_other_program(&image), "{name}");

        // init is a symlink in dracut's, a file in initramfs-tools'; /bin is a symlink in both.
        for path in ["init", "bin/mount"] {
            let mut content = Vec::new();
            let size_bytes = extract(File::open(&image).unwrap(), path.as_bytes(), &mut content).unwrap();
            assert_eq!(size_bytes, content.len() as u64, "{name}");
            assert!(digests.values().any(|digest| *digest == Digest::of(&content)), "{name}: {path}");
        }
        let listing = fixture::succeed(&mut inspect_command(&["--list", image.to_str().unwrap()]));
        assert_eq!(listing.lines().count() as u64, report.entries, "{name}");
        assert!(listing.contains(" bin -> usr/bin\n"), "{name}: {listing}");
    }
}

/// An archive of GNU cpio's with a file and a link to it, with zeros to 512 bytes at its end.
fn small_initrd(directory: &Path) -> String {
    fs::create_dir(directory.join("etc")).unwrap();
    fs::write(directory.join("etc/hostname"), "host\n").unwrap();
    std::os::unix::fs::symlink("etc/hostname", directory.join("name")).unwrap();
    let script = format!(
        "umask 022; cd '{}' && chmod 755 etc && chmod 644 etc/hostname && printf 'etc\\netc/hostname\\nname\\n' | cpio --quiet -o -H newc -R 0:0 >small.img",
        directory.display()
    );
    Program::new("sh").args(["-c", &script]).run().unwrap();
    directory.join("small.img").to_str().unwrap().to_owned()
}

#[test]
fn what_is_no_initrd_is_told_in_one_line() {
    let directory = TempDir::new().unwrap();
    let text = directory.path().join("text");
    fs::write(&text, "this is no initrd, but long enough to be looked at\n".repeat(20)).unwrap();
    let output = inspect_command(&[text.to_str().unwrap()]).output().unwrap();
    assert_eq!((output.status.code(), fixture::stdout(&output)), (Some(1), String::new()));
    let stderr = fixture::stderr(&output);
    assert!(stderr.contains("/text is no initrd: ") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn text_json_and_list_on_standard_output() {
    let directory = TempDir::new().unwrap();
    let image = small_initrd(directory.path());
    let stdout = |arguments: &[&str]| {
        let output = inspect_command(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fixture::stderr(&output), "");
        fixture::stdout(&output)
    };
    insta::assert_snapshot!(stdout(&[&image]), @"
    512 B, 1 segment
          offset  codec      stored    unpacked  entries   files  content
               0  none        500 B       500 B        3       1

    unpacked: 3 entries, 5 B in 1 different files

    biggest files:
             5 B  etc/hostname
    ");
    insta::assert_snapshot!(stdout(&[&image, "--list"]), @"
    drwxr-xr-x     0     0          0 etc
    -rw-r--r--     0     0          5 etc/hostname
    lrwxrwxrwx     0     0         12 name -> etc/hostname
    ");
    let json: serde_json::Value = serde_json::from_str(&stdout(&[&image, "--list", "--json"])).unwrap();
    assert_eq!(json["segments"][0]["codec"], "none");
    assert_eq!(json["list"][2]["target"], "etc/hostname");
    let json: serde_json::Value = serde_json::from_str(&stdout(&[&image, "--json"])).unwrap();
    assert_eq!((json["entries"].as_u64(), json.get("list")), (Some(3), None));
}

#[test]
fn damaged_initrd_is_described_and_fails() {
    let directory = TempDir::new().unwrap();
    let image = small_initrd(directory.path());
    let bytes = fs::read(&image).unwrap();
    fs::write(&image, &bytes[..300]).unwrap();
    let output = inspect_command(&[&image]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (stdout, stderr) = (fixture::stdout(&output), fixture::stderr(&output));
    assert!(stdout.contains("1 segment\n"), "{stdout}");
    assert_eq!(
        stderr.replace(&image, "small.img"),
        "error: the kernel would not unpack all of small.img: at byte 248: cpio entry at byte 248: the archive is cut off \
         inside its header (last good entry: etc/hostname); make the initrd anew\n"
    );
}

#[test]
fn missing_file_is_named() {
    let output = inspect_command(&["/nonexistent/initrd"]).output().unwrap();
    assert_eq!((output.status.code(), fixture::stdout(&output)), (Some(1), String::new()));
    let stderr = fixture::stderr(&output);
    assert!(stderr.contains("opening /nonexistent/initrd: No such file or directory"), "{stderr}");
}
