//! `ocinitrd check` on the real initrd, and on another's.

use crate::fixture::{fail_with, nfs_output, ocinitrd, offline_output, stdout, succeed};

#[test]
fn the_offline_initrd_holds_what_its_boots_need() {
    let initrd = offline_output().join("initrd");
    let check = |needs: &str| {
        let mut command = ocinitrd();
        command.arg("check").arg(&initrd).args(["--needs", needs]);
        command
    };
    let said = succeed(&mut check(
        "ext4,xfs,btrfs,lvm,lvm-thin,luks,tpm2,md-raid1,md-raid5,md-raid10,gpt-auto,hibernation,virtio",
    ));
    assert!(said.lines().all(|line| line.ends_with(": ok")) && said.lines().count() == 13, "{said}");
    let said = succeed(&mut check("nvme,ahci,sd,usb-storage,mmc,hyper-v,vmware,xen"));
    assert!(said.lines().all(|line| line.ends_with(": ok")), "{said}");

    let output = check("ext4,nfs").arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let answer: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&answer["ok"], &answer["notes"]), (&serde_json::json!(false), &serde_json::json!([])));
    assert_eq!(answer["needs"][0]["missing_modules"], serde_json::json!([]));
    assert_eq!(answer["needs"][0]["for"], serde_json::json!([]));
    assert_eq!(answer["needs"][1]["missing_files"], serde_json::json!(["/usr/sbin/mount.nfs"]));
    assert_eq!(answer["needs"][1]["brought_by"], "the profile nfs");
    let said = succeed(ocinitrd().arg("check").arg(nfs_output().join("initrd")).args(["--needs", "nfs"]));
    assert_eq!(said, "nfs: ok\n");

    let error = fail_with(2, &mut check("lvn"));
    assert!(error.contains("there is no need \"lvn\"; those there are: ext2, ext4"), "{error}");
    let error = fail_with(2, ocinitrd().args(["check", "Cargo.toml", "--needs", "ext4"]));
    assert!(error.contains("reading Cargo.toml"), "{error}");
    let error = fail_with(2, ocinitrd().arg("check").arg(&initrd));
    assert!(error.contains("<--host <DIR>|--needs <NEED>|--list>"), "{error}");
    let error = fail_with(2, check("ext4").args(["-k", "6.1"]));
    assert!(error.contains("chooses from an output directory"), "{error}");
}

/// The machine that runs the tests may be anything: where its root cannot be told, as in a container, that must be said.
#[test]
fn this_machine_is_told_what_it_needs_or_why_that_cannot_be_told() {
    let output =
        ocinitrd().arg("check").arg(offline_output()).args(["--host", "/", "--needs", "erofs"]).output().unwrap();
    let (said, error) = (stdout(&output), String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(0 | 1) => {
            let first = said.lines().next().unwrap();
            assert!(first.contains(" (for /)") || first.contains(" (for /;"), "{said}");
            assert!(said.lines().any(|line| line == "erofs: ok"), "{said}");
        }
        Some(2) => assert!(error.starts_with("error: reading the machine at /: "), "{error}"),
        code => panic!("{code:?}: {said}{error}"),
    }
}

#[test]
fn a_machine_below_a_directory_is_read_by_its_files() {
    let machine = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = machine.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let link = |path: &str, target: &str| {
        let path = machine.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    };
    write("proc/1/mountinfo", "20 1 253:0 / / rw - f2fs /dev/mapper/luks rw\n");
    write("proc/cmdline", "root=/dev/mapper/luks\n");
    write("etc/crypttab", "luks /dev/sdz1 /etc/luks.key\n");
    write("sys/devices/virtual/block/dm-0/dm/uuid", "CRYPT-LUKS2-0c1d2d00111140008000000000000001-luks\n");
    write("sys/devices/virtual/block/dm-0/dm/name", "luks\n");
    write("sys/devices/pci0000:00/0000:00:17.0/block/sdz/sdz1/partition", "1\n");
    write("sys/module/made_up/initstate", "live\n");
    link("sys/dev/block/253:0", "../../devices/virtual/block/dm-0");
    link("sys/class/block/dm-0", "../../devices/virtual/block/dm-0");
    link("sys/class/block/sdz", "../../devices/pci0000:00/0000:00:17.0/block/sdz");
    link("sys/class/block/sdz1", "../../devices/pci0000:00/0000:00:17.0/block/sdz/sdz1");
    link("sys/devices/virtual/block/dm-0/slaves/sdz1", "../../../../pci0000:00/0000:00:17.0/block/sdz/sdz1");
    link("sys/bus/pci/drivers/made-up/module", "../../../../module/made_up");
    link("sys/devices/pci0000:00/0000:00:17.0/driver", "../../../bus/pci/drivers/made-up");

    let output = ocinitrd().arg("check").arg(offline_output()).arg("--host").arg(machine.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    let expected = [
        "f2fs (for /): missing: the kernel module f2fs; it comes with a pattern with its name in [kernel] modules",
        "luks (for /dev/mapper/luks below /): ok",
        "the kernel module made_up (for /dev/sdz below /): missing; it comes with the pattern made_up in [kernel] modules",
        "the file /etc/luks.key (for /dev/mapper/luks below /): missing; it comes with a directory of extra_trees",
    ];
    assert_eq!(said.lines().take(4).collect::<Vec<_>>(), expected);
    let note = "note: nothing has the initrd open /dev/mapper/luks: ";
    assert!(said.lines().nth(4).unwrap().starts_with(note), "{said}");
}
