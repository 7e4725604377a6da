//! Machines that are made up, read as a whole. What they need is tested with [`crate::analysis::needs`].

use super::fixture::Fixture;
use super::*;

fn read(fixture: &Fixture) -> Machine {
    Machine::read(fixture.path()).unwrap()
}

fn error(fixture: &Fixture) -> String {
    format!("{:#}", Machine::read(fixture.path()).unwrap_err())
}

/// The names of the places, each with the devices below it.
fn places(machine: &Machine) -> Vec<(&str, Vec<&str>)> {
    let paths = machine.places.iter().map(|place| place.devices.iter().map(|device| device.path.as_str()).collect());
    machine.places.iter().map(|place| place.name.as_str()).zip(paths).collect()
}

fn with_disks() -> Fixture {
    let fixture = Fixture::new();
    fixture.disk("sda", "pci0000:00/0000:00:17.0", &[]).partition("sda", "sda2").partition("sda", "sda3");
    fixture.disk("sdb", "pci0000:00/0000:00:18.0", &[]);
    fixture
}

#[test]
fn a_machine_has_a_root_a_usr_and_what_fstab_has_the_initrd_mount() {
    let fixture = with_disks();
    fixture.mounts(&[
        ("/", "ext4", "/dev/sda2", "rw"),
        ("/usr", "xfs", "/dev/sda3", "rw"),
        ("/var", "ext4", "/dev/sdb", "rw"),
        ("/home", "ext4", "/dev/sdb", "rw"),
    ]);
    fixture.write(
        "etc/fstab",
        "# x-initrd.mount\n/dev/sdb /var ext4 x-initrd.mount,noatime 0 0\n/dev/sdb /home ext4 defaults 0 0\n\
         /dev/sdc /srv ext4 x-initrd.mount 0 0\nUUID=1 / ext4 x-initrd.mount 0 0\nbroken x-initrd.mount\n",
    );
    let machine = read(&fixture);
    let expected = [("/", vec!["/dev/sda"]), ("/usr", vec!["/dev/sda"]), ("/var", vec!["/dev/sdb"])];
    assert_eq!(places(&machine), expected);
    assert_eq!(
        machine.places[1].file_systems,
        [FileSystem { kind: "xfs".to_owned(), point: "/usr".to_owned(), device_count: 1 }]
    );
    assert_eq!(machine.notes, ["/etc/fstab has the initrd mount /srv, which is not mounted"]);
}

#[test]
fn btrfs_has_all_of_its_devices_whichever_it_was_mounted_from() {
    let fixture = with_disks();
    fixture.mapped("dm-0", "CRYPT-LUKS2-0c1d2d00111140008000000000000001-luks1", "luks1", &["sda2"]);
    fixture.btrfs("1111", &["dm-0", "sdb"]).btrfs("2222", &["sda3"]).directory("sys/fs/btrfs/features");
    fixture.mounts(&[("/", "btrfs", "/dev/mapper/luks1", "rw,subvol=/root")]);
    assert_eq!(places(&read(&fixture)), [("/", vec!["/dev/mapper/luks1", "/dev/sda", "/dev/sdb"])]);
    fixture.mounts(&[("/", "btrfs", "/dev/root", "rw")]);
    let said = error(&fixture);
    assert!(
        said.contains("what / lies on cannot be told: no one file system in ") && said.ends_with("/dev/root"),
        "{said}"
    );
    // With one there is no doubt.
    std::fs::remove_dir_all(fixture.path().join("sys/fs/btrfs/2222")).unwrap();
    assert_eq!(places(&read(&fixture)).len(), 1);
}

#[test]
fn overlays_lie_on_what_their_layers_do() {
    let fixture = with_disks();
    fixture.virtual_block("loop0", &[]).write("sys/devices/virtual/block/loop0/loop/backing_file", "/run/live/a.img\n");
    fixture.mounts(&[
        ("/", "overlay", "LiveOS_rootfs", "rw,lowerdir=/run/rootfsbase,upperdir=/run/overlayfs"),
        ("/run", "tmpfs", "tmpfs", "rw"),
        ("/run/live", "iso9660", "/dev/sdb", "ro"),
        ("/run/rootfsbase", "squashfs", "/dev/loop0", "ro"),
    ]);
    let machine = read(&fixture);
    assert_eq!(places(&machine), [("/", vec!["/dev/loop0", "/dev/sdb"])]);
    let kinds: Vec<_> = machine.places[0].file_systems.iter().map(|one| one.kind.as_str()).collect();
    assert_eq!(kinds, ["overlay", "squashfs", "iso9660", "tmpfs"]);

    fixture.mounts(&[
        ("/", "overlay", "composefs", "ro,lowerdir=/run/ostree/.private/cfsroot-lower"),
        ("/run", "tmpfs", "tmpfs", "rw"),
        ("/sysroot", "xfs", "/dev/sda3", "rw"),
    ]);
    let machine = read(&fixture);
    assert_eq!(places(&machine), [("/", vec!["/dev/sda"])]);
    let kinds: Vec<_> = machine.places[0].file_systems.iter().map(|one| one.kind.as_str()).collect();
    assert_eq!(kinds, ["overlay", "erofs", "tmpfs", "xfs"]);
}

#[test]
fn a_file_as_a_device_lies_on_the_file_system_that_holds_it() {
    let fixture = with_disks();
    fixture.virtual_block("loop0", &[]).write("sys/devices/virtual/block/loop0/loop/backing_file", "/host/root.disk\n");
    fixture.mounts(&[("/", "ext4", "/dev/loop0", "rw")]);
    let machine = read(&fixture);
    assert_eq!(places(&machine), [("/", vec!["/dev/loop0"])]);
    assert_eq!(machine.notes, ["/dev/loop0 is the file /host/root.disk: what that lies on is not known"]);
}

#[test]
fn what_cannot_be_told_is_an_error_that_names_it() {
    let fixture = with_disks();
    assert!(error(&fixture).contains("/proc/self/mountinfo: a machine that is mounted below a directory"));
    for (mounts, expected) in [
        (&[("/home", "ext4", "/dev/sda2", "rw")][..], "nothing is mounted at the root of "),
        (&[("/", "tmpfs", "tmpfs", "rw")], "/ is in memory (tmpfs): there is nothing that an initrd could mount"),
        (&[("/", "oddfs", "pool/root", "rw")], "what / lies on cannot be told: it is oddfs on \"pool/root\""),
        (
            &[("/", "overlay", "overlay", "lowerdir=/var/lib/containers/l,upperdir=/var/lib/containers/u")],
            "/ is an overlay whose layers cannot be seen from here, as in a container",
        ),
        (&[("/", "xfs", "/dev/sda2", "rw,logdev=/dev/sdx")], "there is no device /dev/sdx"),
    ] {
        let said = error(fixture.mounts(mounts));
        assert!(said.contains(expected), "{said}");
    }
    fixture.write("proc/1/mountinfo", "20 1 8:77 / / rw - ext4 /dev/sdz rw\n");
    assert!(error(&fixture).ends_with("/sys/dev/block/8:77"), "{}", error(&fixture));
    let said = format!("{:#}", Machine::read(&fixture.path().join("nowhere")).unwrap_err());
    assert!(said.starts_with("reading ") && said.contains("/nowhere"), "{said}");
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_it() {
    let fixture = with_disks();
    fixture.mounts(&[("/", "ext4", "/dev/sda2", "rw")]).directory("etc/crypttab");
    let said = error(&fixture);
    assert!(said.contains("/etc/crypttab: ") && said.starts_with("reading "), "{said}");
}

#[test]
fn a_machine_wakes_up_from_what_it_is_told_to() {
    let fixture = with_disks();
    fixture.mounts(&[("/", "ext4", "/dev/sda2", "rw")]).link("dev/disk/by-uuid/12", "../../sdb");
    fixture.write("proc/cmdline", "root=UUID=1 resume=UUID=12\n").write("etc/kernel/cmdline", "resume=UUID=34\n");
    let machine = read(&fixture);
    assert_eq!(places(&machine)[1], ("resume=UUID=12", vec!["/dev/sdb"]));
    assert!(machine.places[1].is_resumed && !machine.places[0].is_resumed);
    assert_eq!(machine.notes, ["resume=UUID=34 names no device that is there"]);
}

#[test]
fn volumes_for_the_initrd_count_once() {
    let fixture = with_disks();
    fixture.mapped("dm-0", "CRYPT-PLAIN-a", "a", &["sda2"]).mapped("dm-1", "CRYPT-PLAIN-b", "b", &["sdb"]);
    fixture.mounts(&[("/", "ext4", "/dev/mapper/a", "rw")]);
    let number = fixture.number("dm-0");
    fixture.write("proc/1/mountinfo", &format!("20 1 {number} / / rw - ext4 /dev/mapper/a rw\n"));
    let lines = "a /dev/sda2 - x-initrd.attach\nb /dev/sdb - x-initrd.attach\nc /dev/sdc - x-initrd.attach\n";
    let machine = read(fixture.write("etc/crypttab", lines));
    let expected = [
        ("/", vec!["/dev/mapper/a", "/dev/sda"]),
        ("/dev/mapper/b, which has x-initrd.attach", vec!["/dev/mapper/b", "/dev/sdb"]),
    ];
    assert_eq!(places(&machine), expected);
    assert_eq!(machine.places[1].volumes.len(), 1);
    assert_eq!(machine.notes, ["/etc/crypttab has the initrd open c, which is not open"]);
}

#[test]
fn cards_that_are_up_and_the_tpm_have_drivers() {
    let fixture = with_disks();
    fixture.mounts(&[("/", "nfs4", "server:/root", "rw")]);
    for (name, state, place) in [
        ("eth0", "up", "pci0000:00/0000:00:03.0"),
        ("eth1", "down", "pci0000:00/0000:00:04.0"),
        ("lo", "up", "virtual"),
    ] {
        fixture.write(&format!("sys/devices/{place}/net/{name}/operstate"), &format!("{state}\n"));
        fixture.link(&format!("sys/class/net/{name}"), &format!("../../devices/{place}/net/{name}"));
        if place != "virtual" {
            fixture.driver(place, "e1000e", "e1000e");
            fixture.link(&format!("sys/devices/{place}/net/{name}/device"), "../..");
        }
    }
    fixture.driver("platform/MSFT0101:00", "tpm_crb", "tpm_crb").directory("sys/devices/platform/MSFT0101:00/tpm/tpm0");
    fixture.link("sys/class/tpm/tpm0", "../../devices/platform/MSFT0101:00/tpm/tpm0");
    let machine = read(&fixture);
    let module = |name: &str| vec![Driver::Module(name.to_owned())];
    assert_eq!(machine.network, [Card { name: "eth0".to_owned(), drivers: module("e1000e") }]);
    assert_eq!(machine.tpm, module("tpm_crb"));
    assert!(machine.places[0].file_systems[0].is_remote() && machine.places[0].devices.is_empty());
}

#[test]
fn a_swap_file_is_woken_up_from_through_its_file_system() {
    let fixture = with_disks();
    fixture.mounts(&[("/", "ext4", "/dev/sda2", "rw")]).link("dev/disk/by-uuid/12", "../../sda2");
    fixture.write("proc/cmdline", "root=UUID=12 resume=UUID=12 resume_offset=38912\n");
    let machine = read(&fixture);
    assert_eq!(places(&machine)[1], ("resume=UUID=12, a swap file", vec!["/dev/sda"]));
    assert!(machine.notes.is_empty(), "{:?}", machine.notes);
    fixture.write("proc/cmdline", "root=UUID=12 resume=UUID=12\n");
    let notes = read(&fixture).notes;
    assert!(
        notes[0].starts_with("resume=UUID=12 is the device of /, a file system: without resume_offset="),
        "{notes:?}"
    );
}

/// As Ubuntu's installer writes crypttab: initramfs-tools opens what the running root lies on, systemd does not.
#[test]
fn a_root_that_nothing_has_an_initrd_open_is_named() {
    let fixture = with_disks();
    fixture.mapped("dm-0", "CRYPT-LUKS2-0c1d2d00111140008000000000000001-dm_crypt-0", "dm_crypt-0", &["sda2"]);
    fixture.mapped("dm-1", "CRYPT-LUKS2-0c1d2d00111140008000000000000002-data", "data", &["sda3"]);
    fixture.write("etc/crypttab", "dm_crypt-0 UUID=0c1d2d00-1111-4000-8000-000000000001 none luks\ndata UUID=2 -\n");
    fixture.mounts(&[("/", "ext4", "dm-0", "rw"), ("/srv", "ext4", "dm-1", "rw")]);
    let unopened = read(&fixture).unopened;
    assert!(unopened[0].starts_with("nothing has the initrd open /dev/mapper/dm_crypt-0: "), "{unopened:?}");
    assert_eq!(unopened.len(), 1, "the other is not the root's: {unopened:?}");
    fixture.write("proc/cmdline", "root=/dev/mapper/dm_crypt-0 rd.luks.uuid=0c1d2d00-1111-4000-8000-000000000001\n");
    assert_eq!(read(&fixture).unopened, [""; 0]);
    fixture.write("proc/cmdline", "").write("etc/crypttab", "dm_crypt-0 UUID=1 none luks,x-initrd.attach\n");
    assert_eq!(read(&fixture).unopened, [""; 0]);
}

#[test]
fn a_boot_loader_that_opens_an_encrypted_volume_asks_first() {
    let fixture = with_disks();
    fixture.mapped("dm-0", "CRYPT-LUKS2-0c1d2d00111140008000000000000001-luks", "luks", &["sda2"]);
    fixture.mapped("dm-1", "CRYPT-LUKS1-0c1d2d00111140008000000000000002-boot", "boot", &["sda3"]);
    fixture.write("etc/crypttab", "luks UUID=1 - x-initrd.attach\nboot UUID=2 -\n").write("boot/grub2/grub.cfg", "");
    fixture.mounts(&[("/", "ext4", "dm-0", "rw"), ("/boot", "ext4", "sdb", "rw")]);
    assert!(read(&fixture).notes.is_empty(), "it is not encrypted");
    fixture.mounts(&[("/", "ext4", "dm-0", "rw")]);
    let notes = read(&fixture).notes;
    assert!(notes[0].starts_with("GRUB reads /boot/grub2/grub.cfg and the initrd from /dev/mapper/luks"), "{notes:?}");
    assert!(notes[0].contains("asks for the passphrase once more"), "{notes:?}");
    fixture.mounts(&[("/", "ext4", "dm-0", "rw"), ("/boot", "ext4", "dm-1", "rw")]);
    let notes = read(&fixture).notes;
    assert!(notes[0].ends_with("from /dev/mapper/boot, which it has to open itself"), "{notes:?}");
    fixture.write("etc/crypttab", "luks UUID=1 /etc/key x-initrd.attach\n").mounts(&[("/", "ext4", "dm-0", "rw")]);
    assert!(read(&fixture).notes[0].ends_with("from /dev/mapper/luks, which it has to open itself"));
}

#[test]
fn places_know_what_the_initrd_finds_them_by() {
    let fixture = with_disks();
    fixture.mounts(&[("/", "ext4", "/dev/sda2", "rw"), ("/usr", "xfs", "/dev/sda3", "rw")]);
    fixture
        .write("proc/cmdline", "root=/dev/mine resume=/dev/sdb\n")
        .write("etc/fstab", "/dev/vg/usr /usr xfs ro 0 0\n");
    let machine = read(&fixture);
    let called: Vec<_> = machine.places.iter().map(|place| place.called.join(" ")).collect();
    assert_eq!(called, ["/dev/mine", "/dev/vg/usr", "/dev/sdb"]);
}

#[test]
fn fields_of_fstab_may_have_blanks() {
    let fixture = with_disks();
    fixture.write(
        "proc/1/mountinfo",
        &format!(
            "20 1 {} / / rw - ext4 /dev/sda2 rw\n21 20 {} / /my\\040data rw - ext4 /dev/sdb rw\n",
            fixture.number("sda2"),
            fixture.number("sdb")
        ),
    );
    fixture.write("etc/fstab", "/dev/my\\040link /my\\040data ext4 x-initrd.mount 0 0\n");
    let machine = read(&fixture);
    assert_eq!(places(&machine)[1], ("/my data", vec!["/dev/sdb"]));
    assert_eq!((machine.places[1].called.as_slice(), machine.notes.len()), (&["/dev/my link".to_owned()][..], 0));
}

#[test]
fn a_pool_s_device_that_is_gone_is_passed_over() {
    let fixture = with_disks();
    fixture.mounts(&[("/", "zfs", "rpool/root", "rw")]);
    let entry = "E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=rpool\n";
    fixture.write("run/udev/data/b8:77", entry).write(&format!("run/udev/data/b{}", fixture.number("sdb")), entry);
    let machine = read(&fixture);
    assert_eq!((places(&machine), machine.notes.len()), (vec![("/", vec!["/dev/sdb"])], 0));
    std::fs::remove_file(fixture.path().join(format!("run/udev/data/b{}", fixture.number("sdb")))).unwrap();
    assert!(read(&fixture).notes[0].starts_with("what the pool \"rpool\" of ZFS lies on is not known"));
}

#[test]
fn a_bcachefs_has_all_devices_that_its_mount_names() {
    let fixture = with_disks();
    // The kernel gives it the number of one of them.
    let line = format!("20 1 {} / / rw - bcachefs /dev/sda2:/dev/sdb rw\n", fixture.number("sda2"));
    fixture.write("proc/1/mountinfo", &line);
    let machine = read(&fixture);
    assert_eq!(places(&machine), [("/", vec!["/dev/sda", "/dev/sdb"])]);
    assert_eq!(machine.places[0].file_systems[0].device_count, 2);
}
