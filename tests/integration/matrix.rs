//! What is too long for every change: each root by each of its names, each codec, and that no scenario passes without what its
//! root needs.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::fixture::{disk_maker_output, ocinitrd, offline_output, offline_variant, stderr, stdout};

/// Those whose root is one file system in one partition.
const PARTITIONS: [&str; 3] = ["ext4-uuid", "xfs", "btrfs"];

/// The others with a file system on this machine that is named by the kernel's option `root=`.
const STACKS: [&str; 18] = [
    "btrfs-raid1",
    "btrfs-raid1-luks",
    "usr-ext4",
    "usr-subvolume",
    "lvm",
    "lvm-thin",
    "luks-credential",
    "luks-key-file",
    "luks-detached-header",
    "luks-tpm2",
    "luks-crypttab",
    "md-raid1",
    "md-raid5-degraded",
    "md-raid10",
    "lvm-on-luks",
    "luks-on-lvm",
    "luks-on-md",
    "lvm-on-md-on-luks",
];

/// Boots these roots and returns what became of each; none may be left out.
fn boots(output: &Path, test: &str, roots: &[&str], append: &str) -> Vec<Value> {
    boots_within(600, output, test, roots, append)
}

/// The same within so many seconds each: where a passphrase is asked that nobody types, nothing else ends the boot.
fn boots_within(seconds: u32, output: &Path, test: &str, roots: &[&str], append: &str) -> Vec<Value> {
    let mut command = ocinitrd();
    command.arg("boot").arg(output).arg("--disks-by").arg(disk_maker_output()).arg("--json");
    command.args(["--timeout", &seconds.to_string()]);
    command.arg("--log-dir").arg(output.join("boot").join(test)).args(["--append", append]);
    let output = command.args(roots.iter().flat_map(|root| ["--root", *root])).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", stderr(&output));
    let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
    answer["boots"].as_array().unwrap().clone()
}

fn failures(reports: &[Value]) -> Vec<&Value> {
    reports.iter().filter(|report| report["ok"] != true).collect()
}

#[test]
#[ignore = "boots fifty guests: part of make test-matrix"]
fn each_root_is_found_by_each_of_its_names() {
    let names = [
        ("uuid", "UUID=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d"),
        ("label", "LABEL=ocinitrdroot"),
        ("partuuid", "PARTUUID=0c1d2d00-0001-4000-8000-000000000001"),
        ("partlabel", "PARTLABEL=ocinitrd-part"),
    ];
    for (test, name) in names {
        let mut roots = PARTITIONS.to_vec();
        // A partition's name is no name of what lies in it.
        if !name.starts_with("PART") {
            roots.extend(STACKS);
        }
        let reports = boots(&offline_output(), test, &roots, &format!("root={name}"));
        assert_eq!(reports.len(), roots.len());
        assert!(failures(&reports).is_empty(), "root={name}: {:#?}", failures(&reports));
    }
}

#[test]
#[ignore = "builds and boots with every codec: part of make test-matrix"]
fn the_kernel_takes_every_codec_and_modules_in_every_form() {
    for codec in ["none", "gzip:6", "xz:6", "lz4", "zstd:3"] {
        for keep in [true, false] {
            let name = format!("codec-{}-{keep}", codec.replace(':', "-"));
            let lines = format!("[kernel]\nkeep_compression = {keep}\n[output]\ncompression = \"{codec}\"");
            let reports = boots(&offline_variant(&name, &lines), "plain", &PARTITIONS, "quiet");
            assert!(reports.len() == PARTITIONS.len() && failures(&reports).is_empty(), "{name}: {reports:#?}");
        }
    }
}

/// What boots of all scenarios when something is taken away.
fn what_boots(name: &str, lines: &str) -> BTreeSet<String> {
    let output = offline_variant(name, lines);
    let reports = boots_within(200, &output, "all", &["all"], "systemd.default_device_timeout_sec=15");
    let boots = |report: &&Value| report["ok"] == true && report["failure"].is_null();
    reports.iter().filter(boots).map(|report| report["scenario"].as_str().unwrap().to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The profile `lvm` brings the modules of its own; without efivarfs nobody knows from which disk the firmware started.
#[test]
#[ignore = "boots fifty guests, most of which wait in vain: part of make test-matrix"]
fn with_the_modules_of_ext4_alone_no_other_root_is_found() {
    let ext4_alone = [
        "ext4-label",
        "ext4-partlabel",
        "ext4-partuuid",
        "ext4-uuid",
        "hibernation",
        "hibernation-lvm",
        "lvm",
        "lvm-thin",
        "usr-ext4",
    ];
    let modules = "[kernel]\nmodules = [\"-*\", \"virtio_pci\", \"virtio_blk\", \"ext4\"]";
    assert_eq!(what_boots("ext4-alone", modules), set(&ext4_alone));
}

#[test]
#[ignore = "boots fifty guests, most of which wait in vain: part of make test-matrix"]
fn without_the_module_of_ext4_no_root_with_it_is_found() {
    let not_ext4 = ["btrfs", "btrfs-raid1", "btrfs-raid1-luks", "usr-subvolume", "xfs"];
    assert_eq!(what_boots("no-ext4", "[kernel]\nmodules = [\"-ext4\"]"), set(&not_ext4));
}

/// Those in which a program does what no module can: without it, they fail.
#[test]
#[ignore = "boots guests that wait in vain: part of make test-matrix"]
fn no_scenario_passes_without_the_program_that_it_is_about() {
    let roots =
        ["luks-tpm2", "gpt-auto", "gpt-auto-luks", "hibernation", "hibernation-lvm", "hibernation-luks", "btrfs-raid1"];
    let files = [
        "/usr/lib/systemd/system-generators/systemd-gpt-auto-generator",
        "/usr/lib/systemd/system-generators/systemd-hibernate-resume-generator",
        "/usr/lib64/libtss2-esys.so*",
        "/usr/lib/udev/rules.d/*btrfs*",
    ];
    let output = offline_variant("no-programs", &format!("[packages]\nremove_files = {files:?}"));
    let reports = boots_within(150, &output, "no-programs", &roots, "systemd.default_device_timeout_sec=15");
    assert_eq!(failures(&reports).len(), roots.len(), "{reports:#?}");
}
