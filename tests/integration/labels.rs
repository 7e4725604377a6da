//! What the machine of an engine adds to files, such as labels of SELinux, is in no output: builds whose containers have
//! labels on every file, made up and others in every run, give the bytes of builds without. Capabilities stay.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use rustix::fs::XattrFlags;

use crate::fixture::{self, container, ocinitrd, stderr, stdout, succeed};
use crate::images::{SMALL, build_test, change, command_test, small_image};

/// In the place of tar in the builder image: puts labels on all of the tree that is archived, says which, and goes on as tar.
/// Only root may set others than those of users, which symlinks cannot have.
const LABELLING_TAR: &str = r#"#!/usr/bin/perl
use strict;
my %count;
my %labels = map { $_ => 'labelled-by-tests ' . rand() } qw(security.selinux security.ima security.evm security.SMACK64 security.apparmor
    trusted.overlay.origin trusted.madeup user.overlay.origin user.madeup);
sub label {
    my ($path) = @_;
    while (my ($name, $value) = each %labels) {
        $count{$name}++ if syscall(189, $path, $name, $value, length $value, 0) == 0;
    }
    return if -l $path or not -d $path;
    opendir my $directory, $path or die "$path: $!";
    label("$path/$_") for grep { $_ ne '.' && $_ ne '..' } readdir $directory;
}
label($_) for map { /^--directory=(.*)/ } @ARGV;
print STDERR join(' ', 'labelled:', map { "$_=$count{$_}" } sort keys %count), "\n";
exec '/usr/bin/tar', ARGUMENTS;
"#;

/// The builder image with that tar, which hands `arguments`, in Perl, on. It goes at the end.
struct LabellingBuilder(String);

impl LabellingBuilder {
    fn new(name: &str, arguments: &str) -> Self {
        let image = format!("localhost/ocinitrd/test-{name}-{}", std::process::id());
        let place = tempfile::tempdir().unwrap();
        let tar = place.path().join("tar");
        fs::write(&tar, LABELLING_TAR.replace("ARGUMENTS", arguments)).unwrap();
        let podman = |arguments: &[&str]| succeed(Command::new("podman").args(arguments)).trim().to_owned();
        let made = podman(&["create", &fixture::builder("dnf5"), "true"]);
        succeed(Command::new("chmod").arg("755").arg(&tar));
        podman(&["cp", tar.to_str().unwrap(), &format!("{made}:/usr/local/bin/tar")]);
        podman(&["commit", "--quiet", &made, &image]);
        podman(&["rm", &made]);
        LabellingBuilder(image)
    }

    fn pinned(&self) -> String {
        let mut inspect = Command::new("podman");
        let digest = succeed(inspect.args(["image", "inspect", "--format", "{{.Digest}}", &self.0]));
        format!("{}@{}", self.0, digest.trim())
    }
}

impl Drop for LabellingBuilder {
    fn drop(&mut self) {
        let _ = Command::new("podman").args(["rmi", "--force", &self.0]).output();
    }
}

/// The small image with a file that has a capability.
fn image() -> tempfile::TempDir {
    small_image("dnf5", "repo-foreign", &format!("{SMALL}, \"capability-sample\""))
}

/// The same, made by that builder.
fn labelled_image(builder: &LabellingBuilder) -> tempfile::TempDir {
    let image = image();
    change(&image, &fixture::builder("dnf5"), &builder.pinned());
    image
}

fn build(image: &tempfile::TempDir) -> String {
    let output = build_test(image.path()).args(["-v", "-t", "cpio,oci,directory"]).output().unwrap();
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    stderr(&output)
}

/// The names of the labels that were set in the container, of the last archive: that of the tree.
fn labels(narration: &str) -> Vec<String> {
    let line = narration.lines().rev().find_map(|line| line.split_once("labelled: ")).expect("labels were set").1;
    line.split(' ').map(|label| label.split('=').next().unwrap().to_owned()).collect()
}

/// The digest of each output, by its path.
fn outputs(image: &tempfile::TempDir) -> BTreeMap<String, String> {
    let manifest = crate::images::manifest(&image.path().join("test"));
    let outputs = manifest["outputs"].as_array().unwrap().iter();
    outputs.map(|one| (one["path"].to_string(), one["sha256"].to_string())).collect()
}

/// The layer of the OCI layout, decompressed.
fn layer(image: &tempfile::TempDir) -> Vec<u8> {
    let oci = image.path().join("test/oci");
    let read = |digest: &serde_json::Value| {
        fs::read(oci.join("blobs").join(digest.as_str().unwrap().replace(':', "/"))).unwrap()
    };
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    let index = json(&fs::read(oci.join("index.json")).unwrap());
    let manifest = json(&read(&index["manifests"][0]["digest"]));
    let mut layer = Vec::new();
    GzDecoder::new(&read(&manifest["layers"][0]["digest"])[..]).read_to_end(&mut layer).unwrap();
    layer
}

fn capability(image: &tempfile::TempDir) -> PathBuf {
    image.path().join("test/root/usr/bin/capability-sample")
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(1024);
    rustix::fs::lgetxattr(path, name, rustix::buffer::spare_capacity(&mut value)).ok()?;
    Some(value)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn builds_whose_containers_label_every_file_give_the_bytes_of_those_without() {
    let plain = image();
    build(&plain);
    let expected = outputs(&plain);
    // As tar is asked to leave them out, and as if it had not been.
    for (name, arguments, warns) in
        [("labels", "@ARGV", false), ("labels-kept", "map { s/^(--xattrs-include=).*/$1*/r } @ARGV", true)]
    {
        let builder = LabellingBuilder::new(name, arguments);
        let image = labelled_image(&builder);
        let narration = build(&image);
        let set = labels(&narration);
        assert!(set.contains(&"user.madeup".to_owned()), "{set:?}");
        if fixture::is_root() {
            for name in ["security.selinux", "security.ima", "security.evm", "trusted.madeup"] {
                assert!(set.contains(&name.to_owned()), "{set:?}");
            }
        }
        assert_eq!(outputs(&image), expected, "{name}");
        let said = narration.contains("extended attributes that belong to the machine where the archive was made");
        assert_eq!(said, warns, "{narration}");
        let layer = layer(&image);
        assert!(
            contains(&layer, "SCHILY.xattr.security.capability=") && !contains(&layer, "labelled-by-tests"),
            "{name}"
        );
        // Of what was installed with labels of their own again.
        let said = succeed(command_test(image.path(), "verify").args(["--rebuild"]));
        assert!(said.contains("test"), "{said}");
    }
}

#[test]
fn verify_sees_the_capabilities_of_a_directory_and_not_the_labels_of_the_host() {
    let image = image();
    build(&image);
    let verify = || {
        let mut command = ocinitrd();
        command.arg("verify").arg(image.path().join("test"));
        command
    };
    let file = capability(&image);
    let set = |name: &str| rustix::fs::lsetxattr(&file, name, b"made up", XattrFlags::empty());
    set("user.madeup").unwrap();
    if fixture::is_root() {
        for name in ["security.selinux", "security.ima", "security.evm", "security.SMACK64", "trusted.madeup"] {
            set(name).unwrap();
        }
        assert!(attribute(&file, "security.capability").is_some());
    }
    succeed(&mut verify());
    if fixture::is_root() {
        rustix::fs::lremovexattr(&file, "security.capability").unwrap();
        let output = verify().output().unwrap();
        let said = stdout(&output);
        assert!(output.status.code() == Some(1) && said.contains("root"), "{said}");
    }
}

#[test]
fn tar_in_the_container_is_told_to_leave_them_out() {
    // That the labels are really there, and what this tar makes of the pattern.
    let script = "cd /tmp && mkdir d && perl -e '@words = qw(d user.madeup x); syscall(189, @words, 1, 0) == 0 or die $!' && \
                  for include in '*' security.capability; do tar -c --format=posix --xattrs --xattrs-include=\"$include\" d \
                  | grep -a -c 'SCHILY.xattr' || true; done";
    let mut command = container();
    let said = succeed(command.args([&fixture::builder("dnf5"), "sh", "-c", script]));
    assert_eq!(said, "1\n0\n");
}
