//! Kernel packages as `rpmbuild` makes them, and those of the offline repository: our reading against rpm's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ocinitrd::image::kernel::read_packages;
use ocinitrd::image::tree::{Entry, Kind, Tree};
use ocinitrd_format::digest::Digest;
use ocinitrd_support::progress::{Progress, Verbosity};

use crate::fixture::offline_directory;

/// What `rpm --dump` tells of a file that is no ghost, and what a tree tells of it.
#[derive(Debug, Eq, PartialEq)]
struct Facts {
    permissions: u32,
    mtime: u64,
    content: String,
}

/// By path, of one or several rpm files, as rpm sees them.
fn rpms_view(packages: &[PathBuf]) -> BTreeMap<String, Facts> {
    let mut files = BTreeMap::new();
    for package in packages {
        let flags = rpm(&["-qp", "--qf", "[%{FILENAMES} %{FILEFLAGS:fflags}\\n]"], package);
        let flags = flags.lines().filter_map(|line| line.rsplit_once(' '));
        let ghosts: BTreeSet<&str> = flags.filter(|(_, flags)| flags.contains('g')).map(|(path, _)| path).collect();
        for line in rpm(&["-qp", "--dump"], package).lines() {
            // path size mtime digest mode owner group isconfig isdoc rdev symlink
            let [path, _, mtime, digest, mode, _, _, _, _, _, target] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let mode = u32::from_str_radix(mode, 8).unwrap();
            let content = match mode & 0o170_000 {
                0o100_000 => digest.to_owned(),
                0o120_000 => format!("-> {target}"),
                kind => format!("{kind:o}"),
            };
            if !ghosts.contains(path) {
                let path = path.trim_start_matches('/');
                let path = if path.starts_with("lib/") { format!("usr/{path}") } else { path.to_owned() };
                files.insert(path, Facts { permissions: mode & 0o7777, mtime: mtime.parse().unwrap(), content });
            }
        }
    }
    files
}

fn rpm(arguments: &[&str], package: &Path) -> String {
    let output = Command::new("rpm").args(arguments).arg(package).output().expect("rpm is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// By path, as the tree has them; hard links as what they link to.
fn our_view(tree: &Tree) -> BTreeMap<String, Facts> {
    let facts = |entry: &Entry| {
        let content = match &entry.kind {
            Kind::File(content) => Digest::of_reader(content.reader()).unwrap().0.hex(),
            Kind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
            Kind::Directory => "40000".to_owned(),
            Kind::HardLink { target } => {
                let Some(Kind::File(content)) = tree.get(target).map(|entry| &entry.kind) else {
                    panic!("the target of a hard link is a file")
                };
                Digest::of_reader(content.reader()).unwrap().0.hex()
            }
            other => format!("{other:?}"),
        };
        Facts { permissions: entry.permissions, mtime: entry.mtime, content }
    };
    tree.iter().map(|(path, entry)| (String::from_utf8(path.clone()).unwrap(), facts(entry))).collect()
}

/// Both views are the same, but for directories that no package owns and that a tree needs all the same.
fn assert_same_view(packages: &[PathBuf]) -> Tree {
    let spool_directory = tempfile::tempdir().unwrap();
    let tree = read_packages(packages, spool_directory.path(), &Progress::new(Verbosity::Quiet)).unwrap();
    let theirs = rpms_view(packages);
    let mut ours = our_view(&tree);
    ours.retain(|path, facts| facts.content != "40000" || theirs.contains_key(path));
    assert!(!theirs.is_empty());
    assert_eq!(ours, theirs);
    tree
}

const SPEC: &str = "
Name: kernel-core
Version: 6.12.2
Release: 1
Summary: a kernel for the tests
License: GPL-2.0-only
%description
%{summary}
%install
cd %{buildroot}
mkdir -p lib/modules/K/kernel boot usr/share/licenses/kernel
head -c 3000000 /dev/zero | tr '\\0' x >lib/modules/K/vmlinuz
echo config >lib/modules/K/config
: >lib/modules/K/modules.order
ln lib/modules/K/config lib/modules/K/a-config
ln lib/modules/K/config lib/modules/K/z-config
ln -s ../config lib/modules/K/kernel/link
echo ghost >boot/vmlinuz-K
echo text >usr/share/licenses/kernel/COPYING
chmod 0600 lib/modules/K/vmlinuz
%files
%dir /lib/modules/K
/lib/modules/K/*
%ghost /boot/vmlinuz-K
%license /usr/share/licenses/kernel/COPYING
";

/// Builds an rpm with rpmbuild and a payload like `w19.zstdio`.
fn rpmbuild(directory: &Path, payload: &str) -> PathBuf {
    let spec = directory.join("kernel.spec");
    fs::write(&spec, SPEC).unwrap();
    let output = Command::new("rpmbuild")
        .args(["--quiet", "-bb", "--target", "x86_64", "--define", "__os_install_post %{nil}"])
        .args(["--define", "debug_package %{nil}", "--define", &format!("_binary_payload {payload}")])
        .args(["--define", &format!("_topdir {}", directory.display())])
        .arg(&spec)
        .output()
        .expect("rpmbuild is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    directory.join("RPMS/x86_64/kernel-core-6.12.2-1.x86_64.rpm")
}

#[test]
fn packages_of_rpmbuild_are_read_as_rpm_reads_them_whatever_their_compression() {
    for payload in ["w9.gzdio", "w6.xzdio", "w3.zstdio", "w9.bzdio"] {
        let directory = tempfile::tempdir().unwrap();
        let tree = assert_same_view(&[rpmbuild(directory.path(), payload)]);
        assert!(tree.get(b"boot/vmlinuz-K").is_none(), "ghosts are left out");
        let link = tree.get(b"usr/lib/modules/K/z-config").map(|entry| &entry.kind);
        assert!(matches!(link, Some(Kind::HardLink { target }) if target == b"usr/lib/modules/K/a-config"), "{link:?}");
    }
}

#[test]
fn the_offline_kernel_is_read_as_rpm_reads_it() {
    let mut kernels: Vec<PathBuf> = fs::read_dir(offline_directory().join("repo/Packages"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("kernel-"))
        .collect();
    kernels.sort();
    assert!(!kernels.is_empty());
    assert_same_view(&kernels);
}
