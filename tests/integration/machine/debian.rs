//! A machine of Debian's packages with GRUB, on which no kernel-install runs: hooks of a kernel's package make its initrd.
//!
//! systemd, initramfs-tools, linux-base, dpkg and what writes GRUB's menu are those of Debian 13, GRUB itself is newer. The kernels are
//! the offline repository's; the second is a package whose scripts do what those of Debian's kernels do. The file systems are made in a
//! container: machine/debian.sh. What the machine does each time it has booted is in machine/step-debian.sh.

use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ocinitrd::boot::partition::{self, EFI_SYSTEM, LINUX_DATA, Partition};

use super::system::{add_kernels, add_program, write_program};
use super::{DISK_GUID, boots, facts, modules_of_initrd, run, tail};
use crate::distribution::{Distribution, grub_container};
use crate::fixture::{checkout, succeed};
use crate::host_machine::base;

/// What GRUB's image holds of its modules; it loads the rest as its menu asks for it.
const MODULES: [&str; 6] = ["part_gpt", "fat", "ext2", "search", "search_label", "normal"];
const EARLY: &str = "search --no-floppy --label --set=root machine-boot\nset prefix=($root)/grub\n";

const ESP_MIB: u64 = 64;
const BOOT_MIB: u64 = 400;
const SYSTEM_MIB: u64 = 1300;
const PARTITIONS: [Partition; 3] = [
    Partition { label: "esp", guid: "0c1d2d00-0001-4000-8000-000000000001", type_guid: EFI_SYSTEM, size_mib: ESP_MIB },
    Partition {
        label: "boot",
        guid: "0c1d2d00-0001-4000-8000-000000000003",
        type_guid: LINUX_DATA,
        size_mib: BOOT_MIB,
    },
    Partition {
        label: "system",
        guid: "0c1d2d00-0001-4000-8000-000000000002",
        type_guid: LINUX_DATA,
        size_mib: SYSTEM_MIB,
    },
];
const DISK_BYTES: u64 = (ESP_MIB + BOOT_MIB + SYSTEM_MIB + 4) << 20;

#[test]
#[ignore = "five boots, and four initrds of initramfs-tools, without KVM: part of make test-matrix"]
fn a_machine_of_debian_s_packages_boots_our_initrds_and_goes_back() {
    let directory = checkout().join("target/test-output/machine-debian");
    let _ = fs::remove_dir_all(&directory);
    let tree = directory.join("machine/tree");
    fs::create_dir_all(&tree).unwrap();
    let [first, second] = add_kernels(&tree);
    add(&tree, &first, &second);
    let disk = disk(&directory);
    let lived = run(boots(&disk, &directory), &directory.join("debian.log"));
    assert!(!lived.contains("[FAILED]"), "{}", tail(&lived));

    let facts = facts(&lived);
    let fact = |name: &str| facts[name].trim_end();
    // The second boot is that of the trial, beside the initrd that is there.
    let boots =
        [(&first, "another"), (&first, "another"), (&second, "ocinitrd"), (&second, "ocinitrd"), (&first, "another")];
    for (step, (kernel, maker)) in (1..).zip(boots) {
        assert_eq!((fact(&format!("{step}.kernel")), fact(&format!("{step}.maker"))), (kernel.as_str(), maker));
        let options = fact(&format!("{step}.cmdline"));
        assert!(options.starts_with(&format!("BOOT_IMAGE=/vmlinuz-{kernel} root=UUID=")), "GRUB starts it: {options}");
        assert!(fact(&format!("{step}.mount./")).starts_with("/dev/vda3 ext4"), "{facts:#?}");
        assert!(fact(&format!("{step}.mount./boot")).starts_with("/dev/vda2 ext4"), "{facts:#?}");
        assert_eq!(fact(&format!("{step}.failed")), "", "units that failed after boot {step}");
        // It came from the initrd that is there; the kernel counts it by pages.
        let (of_file, of_kernel) = fact(&format!("{step}.size")).split_once(' ').unwrap();
        let [of_file, of_kernel] = [of_file, of_kernel].map(|number| number.parse::<u64>().unwrap());
        assert!(of_file.abs_diff(of_kernel) <= 8, "boot {step}: {of_file} KiB, {of_kernel} KiB");
    }
    // update-grub finds what the hooks make, and the link leads to the newest.
    let of = |kernels: &[&String]| {
        let all = |before: &str| kernels.iter().map(|kernel| format!("{before}{kernel}")).collect::<Vec<_>>().join(" ");
        (format!("{} {}", all("initrd.img-"), all("vmlinuz-")), all("/initrd.img-"))
    };
    for (name, kernels) in [
        ("1.before", &[&first][..]),
        ("2.installed", &[&first, &second]),
        ("3.updated", &[&first, &second]),
        ("4.removed", &[&first]),
    ] {
        let found = (fact(&format!("{name}.boot")).to_owned(), fact(&format!("{name}.menu")).to_owned());
        assert_eq!(found, of(kernels), "{name}");
    }
    assert_eq!(fact("2.installed.link"), format!("boot/initrd.img-{second}"));
    assert_eq!((fact("2.mode"), fact("3.updated")), ("600", "ocinitrd"));
    assert_eq!((fact("4.asked"), fact("4.unasked"), fact("4.left")), ("ocinitrd", "another", "/etc/kernel/install.d"));
    // Ours is made once each time, for this machine, and there is nothing to warn of.
    let said = |text: &str| {
        lived.lines().filter(|line| line.contains("machine: kernel-install: ") && line.contains(text)).count()
    };
    assert_eq!((said(&format!("initrd for {second}: ")), said(&format!("initrd for {first}: "))), (2, 1));
    let modules = modules_of_initrd(&lived, &second);
    assert!((8..80).contains(&modules), "{modules}");
    // dpkg has warnings of its own.
    assert_eq!(said("machine: kernel-install: warning: "), 0, "{}", tail(&lived));
}

/// Adds what the container makes file systems of, beside the kernels.
fn add(tree: &Path, first: &str, second: &str) {
    let source = checkout().join("tests/integration/machine");
    let read = |name: &str| fs::read_to_string(source.join(name)).unwrap();
    add_program(tree);
    let common = format!("first={first} second={second}\n{}", read("common.sh"));
    write_program(&tree.join("usr/lib/machine/common"), &common);
    write_program(&tree.join("usr/lib/machine/step"), &read("step-debian.sh"));
    let units = tree.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&units).unwrap();
    fs::copy(source.join("machine.service"), tree.join("etc/systemd/system/machine.service")).unwrap();
    symlink("../machine.service", units.join("machine.service")).unwrap();
    let hooks = checkout().join("packaging/debian/etc");
    succeed(Command::new("cp").arg("-rT").arg(hooks).arg(tree.join("etc")));

    let machine = tree.parent().unwrap();
    succeed(Command::new("cp").arg("-r").arg(base()).arg(machine.join("base")));
    write_program(&machine.join("debian.sh"), &read("debian.sh"));
    let kernels = format!("first={first} second={second} system_mib={SYSTEM_MIB} boot_mib={BOOT_MIB}\n");
    fs::write(machine.join("kernels"), kernels).unwrap();
}

/// The machine's disk, in that directory.
fn disk(directory: &Path) -> PathBuf {
    let (machine, out) = (directory.join("machine"), directory.join("out"));
    let grub = machine.join("grub");
    fs::create_dir_all(&grub).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(grub.join("early.cfg"), EARLY).unwrap();
    let script = format!(
        "grub-mkimage -O x86_64-efi -p /grub -c /grub/early.cfg -o /grub/grub.efi {} && cp -r /usr/lib/grub/x86_64-efi /grub/",
        MODULES.join(" ")
    );
    succeed(&mut grub_container(&[(&grub, "/grub")]).run(&["sh", "-c", &script]));
    let container = Distribution::Trixie.container(&[(&machine, "/machine:ro"), (&out, "/out")]);
    succeed(&mut container.run(&["bash", "/machine/debian.sh"]));

    let path = directory.join("disk");
    let disk = File::create_new(&path).unwrap();
    disk.set_len(DISK_BYTES).unwrap();
    partition::write_table(&disk, DISK_GUID, &PARTITIONS).unwrap();
    let start = |number| partition::place(&PARTITIONS, number, DISK_BYTES).unwrap().start;
    disk.write_all_at(&esp(&fs::read(grub.join("grub.efi")).unwrap()), start(0)).unwrap();
    for (number, name) in [(1, "boot.img"), (2, "system.img")] {
        let mut copy = Command::new("dd");
        copy.args(["status=none", "conv=notrunc,sparse", "bs=1M", &format!("seek={}", start(number) >> 20)]);
        succeed(copy.arg(format!("if={}", out.join(name).display())).arg(format!("of={}", path.display())));
        fs::remove_file(out.join(name)).unwrap();
    }
    path
}

/// A file system with a boot loader where the firmware looks for one.
fn esp(loader: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; (ESP_MIB << 20) as usize];
    fatfs::format_volume(Cursor::new(&mut bytes[..]), fatfs::FormatVolumeOptions::new()).unwrap();
    let file_system = fatfs::FileSystem::new(Cursor::new(&mut bytes[..]), fatfs::FsOptions::new()).unwrap();
    let directory = file_system.root_dir().create_dir("EFI").unwrap().create_dir("BOOT").unwrap();
    directory.create_file("BOOTX64.EFI").unwrap().write_all(loader).unwrap();
    drop(directory);
    file_system.unmount().unwrap();
    bytes
}
