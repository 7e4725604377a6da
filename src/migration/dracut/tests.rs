//! What becomes of lines of dracut's configuration.

use std::fmt::Write;

use super::*;
use crate::analysis::machine::fixture::Fixture;

/// The findings as lines, and what is carried over.
fn told(root: &Fixture) -> String {
    let mut carried = Carried::default();
    let mut text = String::new();
    for finding in findings(&Source::open(root.path()).unwrap(), &mut carried).unwrap() {
        let by = if finding.by_distribution { " (distribution)" } else { "" };
        writeln!(text, "{} {}{by}\n    {}: {}", finding.place, finding.setting, finding.outcome, finding.text).unwrap();
    }
    write!(text, "---\n{}", carried.toml().unwrap_or_default()).unwrap();
    text
}

#[test]
fn each_line_is_told_with_its_place() {
    let root = Fixture::new();
    // As in public configurations.
    root.write(
        "etc/dracut.conf.d/main.conf",
        "add_drivers+=\" nvme =drivers/hid vfio_pci.ko \"\n\
         force_drivers+=\" amdgpu \"\n\
         filesystems+=\" btrfs \"\n\
         omit_drivers+=' .*/fs/ocfs/.*  i2o_scsi'\n\
         install_items+=\" /etc/crypttab /usr/bin/lsblk /etc/gone \"\n\
         install_optional_items+=\" vi /etc/virc \"\n\
         add_dracutmodules+=\" crypt lvm plymouth systemd fips mine gone \"\n\
         omit_dracutmodules+=\" nfs systemd \"\n\
         kernel_cmdline=\"root=UUID=1 rd.luks.allow-discards rd.auto=1\"\n\
         hostonly=\"no\"\n\
         compress=\"zstd\"\n\
         early_microcode=\"yes\"\n\
         uefi=\"yes\"\n\
         uefi_stub=\"/usr/lib/systemd/boot/efi/linuxx64.efi.stub\"\n\
         uefi_secureboot_cert=\"/etc/keys/db.crt\"\n\
         uefi_secureboot_key=\"db.key\"\n\
         initrdname=\"initrd-$kernel\"\n\
         lvmconf=\"yes\"\n\
         nonsense=\"1\"\n",
    );
    root.write("etc/crypttab", "")
        .write("usr/bin/lsblk", "\x7fELF")
        .write("etc/virc", "")
        .write("etc/lvm/lvm.conf", "");
    root.directory("usr/lib/dracut/modules.d/90mine").write("proc/cmdline", "root=UUID=1 quiet\n");
    insta::assert_snapshot!(told(&root));
}

#[test]
fn later_files_replace_settings_and_the_distribution_s_lines_are_not_carried_over() {
    let root = Fixture::new();
    root.write("etc/dracut.conf", "hostonly=\"no\"\nadd_drivers+=\" a \"\n");
    root.write(
        "usr/lib/dracut/dracut.conf.d/01-dist.conf",
        "hostonly=\"yes\"\ninstall_optional_items+=\" vi /etc/virc \"\nforce_drivers+=\" d \"\n",
    );
    root.write("usr/lib/dracut/dracut.conf.d/50-x.conf", "add_drivers+=\" hidden \"\n");
    root.write("etc/dracut.conf.d/50-x.conf", "add_drivers+=\" b \"\n").write("etc/virc", "");
    root.write("etc/dracut.conf.d/README", "add_drivers+=\" no \"\n");
    root.write("etc/dracut.conf.d/60-y.conf", "add_drivers=\" c \"\nif true; then\n  add_drivers+=\" e \"\nfi\n");
    let told = told(&root);
    assert!(told.contains("/etc/dracut.conf:1 hostonly=\"no\"\n    not needed: /usr/lib/dracut/dracut.conf.d/01-dist.conf:1 sets it anew"), "{told}");
    assert!(
        told.contains(
            "/etc/dracut.conf.d/50-x.conf:1 add_drivers+=\"b\"\n    not needed: /etc/dracut.conf.d/60-y.conf:1"
        ),
        "{told}"
    );
    assert!(
        told.contains("/etc/dracut.conf.d/60-y.conf:2 if true; then\n    not read: it is part of a condition"),
        "{told}"
    );
    assert!(told.contains("01-dist.conf:3 force_drivers+=\"d\" (distribution)\n    not needed"), "{told}");
    assert!(!told.contains("hidden") && told.ends_with("---\nmodules = [\"c\"]\n"), "{told}");
}

#[test]
fn files_are_read_in_the_order_of_the_numbers_in_their_names() {
    let root = Fixture::new();
    root.write("etc/dracut.conf.d/9-a.conf", "hostonly=\"no\"\nadd_drivers=\" a \"\n");
    root.write("etc/dracut.conf.d/10-b.conf", "hostonly=yes\nadd_drivers+=\" b \"\n");
    // Only a shell can tell whether it adds to what was there before.
    root.write("run/initramfs/dracut.conf.d/11-c.conf", "add_drivers=\"$add_drivers c\"\n");
    root.write("etc/dracut.conf.d/.12-d.conf", "hostonly=no\n").directory("etc/dracut.conf.d/13-e.conf");
    let told = told(&root);
    assert!(
        told.contains("9-a.conf:1 hostonly=\"no\"\n    not needed: /etc/dracut.conf.d/10-b.conf:1 sets it anew"),
        "{told}"
    );
    assert!(told.contains("/run/initramfs/dracut.conf.d/11-c.conf:1 add_drivers=...\n    not read"), "{told}");
    assert!(told.ends_with("---\nmodules = [\"a\", \"b\"]\n"), "{told}");
}

#[test]
fn a_key_and_its_certificate_go_together() {
    let root = Fixture::new();
    root.write("etc/dracut.conf", "uefi_secureboot_key=/etc/a.key\nuefi_secureboot_cert=\"/etc/a.crt\"\n");
    assert!(
        told(&root)
            .ends_with("[uki]\nsecureboot_private_key = \"/etc/a.key\"\nsecureboot_certificate = \"/etc/a.crt\"\n")
    );
    root.write("etc/dracut.conf", "uefi_secureboot_cert=\"/etc/a.crt\"\n");
    let told = told(&root);
    assert!(told.contains("by hand: key and certificate go together") && told.ends_with("---\n"), "{told}");
}
