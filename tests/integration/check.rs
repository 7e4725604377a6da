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
    let said =
        succeed(&mut check("ext4,xfs,btrfs,lvm,lvm-thin,luks,tpm2,md-raid1,md-raid5,md-raid10,hibernation,virtio"));
    assert!(said.lines().all(|line| line.ends_with(": ok")) && said.lines().count() == 12, "{said}");
    let said = succeed(&mut check("nvme,ahci,sd,usb-storage,mmc,hyper-v,vmware,xen"));
    assert!(said.lines().all(|line| line.ends_with(": ok")), "{said}");

    let output = check("ext4,nfs").arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let answers: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(answers[0]["missing_modules"], serde_json::json!([]));
    assert_eq!(answers[1]["missing_files"], serde_json::json!(["/usr/sbin/mount.nfs"]));
    assert_eq!(answers[1]["brought_by"], "the profile nfs");
    let said = succeed(ocinitrd().arg("check").arg(nfs_output().join("initrd")).args(["--needs", "nfs"]));
    assert_eq!(said, "nfs: ok\n");

    let error = fail_with(2, &mut check("lvn"));
    assert!(error.contains("there is no need \"lvn\"; those there are: ext4"), "{error}");
    let error = fail_with(2, ocinitrd().args(["check", "Cargo.toml", "--needs", "ext4"]));
    assert!(error.contains("reading Cargo.toml"), "{error}");
}
