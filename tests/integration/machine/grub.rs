//! A machine whose boot loader is GRUB, with `/boot` and `/boot/efi` on partitions of their own, as Fedora installs it.
//!
//! GRUB and dracut are real, Debian's; the plugins that make GRUB's entries and start dracut are those of the directory grub.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use ocinitrd::boot::partition::{EFI_SYSTEM, LINUX_DATA, Partition};

use super::system::{DEFINITION, System, write_program};
use super::{DISK_BYTES, TOKEN, life, modules_of_initrd, tail};
use crate::distribution::{Distribution, grub_container};
use crate::fixture::{checkout, succeed};

/// What dracut runs that others do not, and what makes another file system for `/boot`.
const MORE_PACKAGES: &str = "\"btrfs-progs\", \"cpio\", \"findutils\", \"gawk\", \"gzip\", \"xz\", \"zstd\",";

/// What dracut puts into its initrd: enough for this machine's root, so that it does not take long without KVM.
const DRACUT: &str = "hostonly=no\ndracutmodules=\"base systemd systemd-initrd udev-rules rootfs-block fs-lib kernel-modules\"\n\
                      drivers=\"virtio_pci virtio_blk ext4\"\nfilesystems=\"ext4\"\ncompress=cat\nearly_microcode=no\ndo_strip=no\n";

/// What GRUB's image holds of its modules; it looks for the rest of its configuration on the partition of that label.
const MODULES: [&str; 15] = [
    "part_gpt",
    "fat",
    "ext2",
    "search",
    "search_label",
    "configfile",
    "normal",
    "linux",
    "blsuki",
    "serial",
    "terminal",
    "test",
    "echo",
    "reboot",
    "halt",
];
const EARLY: &str = "search --no-floppy --label --set=root machine-boot\nset prefix=($root)/grub2\n\
                     configfile ($root)/grub2/grub.cfg\n";
const CONFIGURATION: &str = "serial --unit=0\nterminal_output serial\nset timeout=0\nset default=0\nblscfg\n";

const PARTITIONS: [Partition; 3] = [
    Partition { label: "esp", guid: "0c1d2d00-0001-4000-8000-000000000001", type_guid: EFI_SYSTEM, size_mib: 64 },
    Partition { label: "boot", guid: "0c1d2d00-0001-4000-8000-000000000003", type_guid: LINUX_DATA, size_mib: 300 },
    Partition { label: "system", guid: "0c1d2d00-0001-4000-8000-000000000002", type_guid: LINUX_DATA, size_mib: 0 },
];

#[test]
#[ignore = "five guests and a dracut without KVM take many minutes: part of make test-matrix"]
fn a_machine_with_grub_boots_the_kernel_that_it_installs_and_goes_back_to_dracut() {
    let system = system();
    let (first, second) = (&system.first, &system.second);
    let (lived, facts) = life(system, "grub-plain", &PARTITIONS, DISK_BYTES);
    let fact = |name: &str| facts[name].as_str();
    check_first_boots(&lived, &facts);
    for step in ["1", "2", "3"] {
        assert!(fact(&format!("{step}.mount./")).starts_with("/dev/vda3 ext4"));
    }
    check_boot(&facts, "3", first);
    assert_eq!(fact("2.boot"), in_boot(&[first]));
    for file_system in ["vfat", "btrfs"] {
        let fact = |name: &str| fact(&format!("3.{file_system}.{name}"));
        assert_eq!((fact("added"), fact("mode")), (in_boot(&[second]).as_str(), private_mode(file_system)));
        assert_eq!(fact("removed"), "", "what is left of a kernel on {file_system}");
    }
    let dracut = ["1", "2", "3"].map(|step| fact(&format!("{step}.dracut")).parse::<u64>().unwrap() > 0);
    assert_eq!(dracut, [false, false, true], "{facts:#?}");
}

#[test]
#[ignore = "three guests without KVM: part of make test-matrix"]
fn a_machine_with_grub_and_luks_boots_the_kernel_that_it_installs() {
    let (lived, facts) = life(system(), "grub-luks", &PARTITIONS, DISK_BYTES);
    check_first_boots(&lived, &facts);
    for step in ["1", "2"] {
        assert!(facts[&format!("{step}.mount./")].starts_with("/dev/mapper/root ext4"));
        assert!(facts[&format!("{step}.dm.root")].starts_with("CRYPT-LUKS2-"), "{facts:#?}");
    }
}

#[test]
#[ignore = "three guests without KVM: part of make test-matrix"]
fn a_machine_with_grub_and_lvm_boots_the_kernel_that_it_installs() {
    let (lived, facts) = life(system(), "grub-lvm", &PARTITIONS, DISK_BYTES);
    check_first_boots(&lived, &facts);
    for step in ["1", "2"] {
        assert!(facts[&format!("{step}.mount./")].starts_with("/dev/mapper/machine-root ext4"));
        assert!(facts[&format!("{step}.dm.machine-root")].starts_with("LVM-"), "{facts:#?}");
    }
}

/// Built once a run of the tests.
fn system() -> &'static System {
    static SYSTEM: OnceLock<System> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        let definition = DEFINITION.replace("\"kmod\",", &format!("\"kmod\", {MORE_PACKAGES}"));
        System::new("machine-grub", &definition, add)
    })
}

/// The first kernel is booted, which installs the second; that is booted, and removed.
fn check_first_boots(lived: &str, facts: &BTreeMap<String, String>) {
    let System { first, second, .. } = system();
    check_boot(facts, "1", first);
    check_boot(facts, "2", second);
    assert_eq!((facts["1.boot"].as_str(), facts["1.mode"].as_str()), (in_boot(&[first, second]).as_str(), "600"));
    assert_eq!(facts["2.removed"], in_boot(&[first]));
    let modules = modules_of_initrd(lived, second);
    assert!((8..120).contains(&modules), "{modules}");
    let warned = lived.lines().any(|line| line.contains("machine: kernel-install: ") && line.contains("warning"));
    assert!(!warned, "{}", tail(lived));
}

/// GRUB started this kernel, with the initrd of its entry, and nothing failed.
fn check_boot(facts: &BTreeMap<String, String>, step: &str, kernel: &str) {
    let fact = |name: &str| facts[&format!("{step}.{name}")].as_str();
    assert_eq!(fact("kernel"), kernel);
    let options = fact("cmdline");
    // systemd-boot says nothing of the kind.
    assert!(options.starts_with(&format!("BOOT_IMAGE=/vmlinuz-{kernel} root=")), "GRUB starts it: {options}");
    assert!(fact("mount./boot").starts_with("/dev/vda2 ext4") && fact("mount./boot/efi").starts_with("/dev/vda1 vfat"));
    assert_eq!(fact("failed"), "", "units that failed after boot {step}");
    // Who made the initrd that it came from; the kernel counts it by pages.
    let (of_file, of_kernel) = fact("size").split_once(' ').unwrap();
    let [of_file, of_kernel] = [of_file, of_kernel].map(|number| number.parse::<u64>().unwrap());
    assert!(of_file.abs_diff(of_kernel) <= 8, "boot {step}: {of_file} KiB, {of_kernel} KiB");
}

/// What is in `/boot` of these kernels.
fn in_boot(kernels: &[&String]) -> String {
    let all = |before: &str, after: &str| {
        kernels.iter().map(|kernel| format!("{before}{kernel}{after}")).collect::<Vec<_>>().join(" ")
    };
    let entries = all(&format!("loader/entries/{TOKEN}-"), ".conf");
    format!("{entries} {} {}", all("initramfs-", ".img"), all("vmlinuz-", ""))
}

/// The mode of a file that root alone reads. FAT has none: it is that of the mount, here with `umask=0077`.
fn private_mode(file_system: &str) -> &'static str {
    if file_system == "vfat" { "700" } else { "600" }
}

/// Adds GRUB, dracut, and the plugins of both.
fn add(tree: &Path) {
    let machine = tree.join("usr/lib/machine");
    let source = checkout().join("tests/integration");
    write_program(&machine.join("step"), &fs::read_to_string(source.join("machine/step-grub.sh")).unwrap());
    fs::write(machine.join("grub.cfg"), CONFIGURATION).unwrap();
    let early = machine.join("early.cfg");
    fs::write(&early, EARLY).unwrap();
    let mut words =
        vec!["grub-mkimage", "-O", "x86_64-efi", "-p", "/grub2", "-c", "/out/early.cfg", "-o", "/out/grub.efi"];
    words.extend(MODULES);
    succeed(&mut grub_container(&[(&*machine, "/out")]).run(&words));

    let plugins = tree.join("etc/kernel/install.d");
    let read = |name: &str| fs::read_to_string(source.join("grub").join(name)).unwrap();
    write_program(&plugins.join("20-grub.install"), &read("20-grub.install"));
    let stand_in = read("50-dracut.install");
    let started =
        stand_in.replace("echo \"dracut's for $2\" >\"$initrd\"", "dracut --quiet --force --kver \"$2\" \"$initrd\"");
    assert_ne!(started, stand_in);
    write_program(&plugins.join("50-dracut.install"), &started);

    let archive = machine.join("dracut.tar");
    let words = ["tar", "-cf", "/out/dracut.tar", "-C", "/", "usr/bin/dracut", "usr/lib/dracut"];
    succeed(&mut Distribution::Trixie.container(&[(&*machine, "/out")]).run(&words));
    succeed(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(tree));
    fs::remove_file(archive).unwrap();
    fs::create_dir_all(tree.join("etc/dracut.conf.d")).unwrap();
    fs::write(tree.join("etc/dracut.conf.d/machine.conf"), DRACUT).unwrap();
}
