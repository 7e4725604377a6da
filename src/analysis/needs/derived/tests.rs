//! Machines of each kind, from their files to what they need.

use super::*;
use crate::analysis::machine::fixture::Fixture;

const LUKS: &str = "CRYPT-LUKS2-0c1d2d00111140008000000000000001-luks";
const OPENED: &str = "rd.luks.uuid=0c1d2d00-1111-4000-8000-000000000001\n";

fn derived(fixture: &Fixture) -> Derived {
    of_machine(&Machine::read(fixture.path()).unwrap())
}

/// Each need with what it is for.
fn needs(derived: &Derived) -> Vec<String> {
    let line = |wanted: &crate::analysis::needs::Wanted| {
        format!("{} for {}", wanted.demand.name(), wanted.for_what().join("; "))
    };
    derived.wants.iter().map(line).collect()
}

fn names(derived: &Derived) -> Vec<String> {
    derived.wants.iter().map(|wanted| wanted.demand.name().replace("the kernel module ", "+")).collect()
}

fn with_disk() -> Fixture {
    let fixture = Fixture::new();
    fixture.disk("sda", "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0", &["sd:sd_mod"]);
    fixture.driver("pci0000:00/0000:00:17.0", "ahci", "ahci").partition("sda", "sda2");
    fixture
}

/// A machine whose root, an ext4, is on a device.
fn with_root(fixture: &Fixture, kernel_name: &str) -> Derived {
    fixture.mounts(&[("/", "ext4", kernel_name, "rw")]);
    derived(fixture)
}

#[test]
fn tables_name_needs_that_there_are() {
    let tables = [FILE_SYSTEMS, MAPPED_BY, LVM_PARTS, LVM_NAMES];
    for (_, name) in tables.into_iter().flatten() {
        assert!(crate::analysis::needs::named(name).is_ok(), "{name}");
    }
}

#[test]
fn a_plain_disk_needs_its_file_system_and_its_drivers() {
    let expected =
        ["ext4 for /", "the kernel module sd_mod for /dev/sda below /", "the kernel module ahci for /dev/sda below /"];
    let derived = with_root(&with_disk(), "sda2");
    assert_eq!(needs(&derived), expected);
    assert!(derived.notes.is_empty());
}

#[test]
fn drivers_that_are_built_in_count_where_other_kernels_have_modules() {
    let fixture = Fixture::new();
    fixture.disk("vda", "pci0000:00/0000:00:01.0/0000:01:00.0/virtio1", &["virtio_blk:"]);
    fixture.driver("pci0000:00/0000:00:01.0/0000:01:00.0", "virtio-pci", "");
    fixture.driver("pci0000:00/0000:00:01.0", "pcieport", "");
    assert_eq!(names(&with_root(&fixture, "vda")), ["ext4", "+virtio_blk", "+virtio_pci"]);
}

#[test]
fn a_volume_on_lvm_on_luks_needs_every_layer() {
    let fixture = with_disk();
    fixture.mapped("dm-0", LUKS, "luks", &["sda2"]).mapped("dm-1", "LVM-abc", "vg-root", &["dm-0"]);
    fixture.write("proc/cmdline", OPENED);
    let derived = with_root(&fixture, "dm-1");
    let expected = [
        "ext4 for /",
        "lvm for /dev/mapper/vg-root below /",
        "luks for /dev/mapper/luks below /",
        "the kernel module sd_mod for /dev/sda below /",
        "the kernel module ahci for /dev/sda below /",
        "somebody-types for /dev/mapper/luks below /",
    ];
    assert_eq!(needs(&derived), expected);
    assert!(derived.notes.is_empty(), "{:?}", derived.notes);
}

#[test]
fn what_lvm_makes_for_itself_is_told_by_uuid_and_by_name() {
    for (uuid, name, need) in [
        ("LVM-b-tpool", "vg-pool-tpool", "lvm-thin"),
        ("LVM-b-real", "vg-root-real", "lvm-snapshot"),
        ("LVM-b-cow", "vg-snap-cow", "lvm-snapshot"),
        ("LVM-b-real", "vg-root_corig", "lvm-cache"),
        ("LVM-b-cdata", "vg-cache_cdata", "lvm-cache"),
        ("LVM-b-real", "vg-root_wcorig", "lvm-writecache"),
        ("LVM-b", "vg-root_rimage_0", "lvm-raid"),
        ("LVM-b", "vg-root_mimage_0", "lvm-mirror"),
        ("LVM-b-vpool", "vg-vpool0-vpool", "lvm-vdo"),
        ("LVM-b-real", "vg-root_iorig", "lvm-integrity"),
    ] {
        let fixture = with_disk();
        fixture.mapped("dm-0", uuid, name, &["sda2"]).mapped("dm-1", "LVM-a", "vg-root", &["dm-0"]);
        let derived = with_root(&fixture, "dm-1");
        assert_eq!(names(&derived), ["ext4", "lvm", need, "+sd_mod", "+ahci"], "{name}");
        assert_eq!(needs(&derived)[1], "lvm for /dev/mapper/vg-root below /");
    }
}

#[test]
fn every_maker_of_mapped_devices_has_its_need() {
    for (uuid, name, need) in [
        ("CRYPT-LUKS1-0c1d2d00111140008000000000000001-luks", "luks", "luks"),
        ("CRYPT-PLAIN-plain", "plain", "crypt"),
        ("CRYPT-VERITY-1-root", "root", "dm-verity"),
        ("CRYPT-INTEGRITY-root", "root", "dm-integrity"),
        ("CRYPT-SUBDEV-1-root_dif", "root_dif", "+dm_integrity"),
        ("CRYPT-SUBDEV-1-root_1", "root_1", "+dm_crypt"),
        ("mpath-3600", "mpatha", "multipath"),
        ("part2-mpath-3600", "mpatha2", "kpartx"),
        ("DMRAID-isw_1", "isw_1", "dmraid"),
        ("stratis-1-private-0c1d-flex-mdv", "stratis-1-private-0c1d-flex-mdv", "stratis"),
        ("VDO-1", "vdo0", "dm-vdo"),
        ("dmz-1", "dmz-sda", "dm-zoned"),
    ] {
        let fixture = with_disk();
        fixture.mapped("dm-0", uuid, name, &["sda2"]);
        let named = names(&with_root(&fixture, "dm-0"));
        let typed = if ["luks", "crypt"].contains(&need) { &["somebody-types"][..] } else { &[] };
        assert_eq!(named, [&["ext4", need, "+sd_mod", "+ahci"], typed].concat(), "{uuid}");
    }
    let fixture = with_disk();
    fixture.mapped("dm-0", "", "mine", &["sda2"]);
    let unknown = with_root(&fixture, "dm-0");
    assert_eq!(names(&unknown)[1], "+dm_mod");
    assert!(unknown.notes[0].starts_with("who made /dev/mapper/mine is not known"), "{:?}", unknown.notes);
}

#[test]
fn arrays_need_their_level_and_who_keeps_their_metadata() {
    let fixture = with_disk();
    fixture.array("md126", "raid5", &["sda"]).write("sys/devices/virtual/block/md126/md/metadata_version", "1.2\n");
    assert_eq!(names(&with_root(&fixture, "md126"))[..2], ["ext4", "md-raid5"]);
    fixture.write("sys/devices/virtual/block/md126/md/metadata_version", "external:/md127/0\n");
    assert_eq!(names(&with_root(&fixture, "md126"))[..3], ["ext4", "md-external", "md-raid5"]);
    fixture.write("sys/devices/virtual/block/md126/md/level", "faulty\n");
    assert!(with_root(&fixture, "md126").notes[0].contains("of the level \"faulty\""));
}

#[test]
fn caches_and_files_as_devices_need_their_drivers() {
    let fixture = with_disk();
    fixture.virtual_block("bcache0", &["sda2"]).directory("sys/devices/virtual/block/bcache0/bcache");
    assert_eq!(names(&with_root(&fixture, "bcache0"))[..2], ["ext4", "bcache"]);
    fixture.virtual_block("loop0", &[]).write("sys/devices/virtual/block/loop0/loop/backing_file", "/host/a\n");
    fixture.mounts(&[("/", "squashfs", "loop0", "ro"), ("/host", "fuseblk", "sda2", "rw")]);
    let expected = ["squashfs for /", "the kernel module fuse for /host below /", "loop for /dev/loop0 below /"];
    let said = needs(&derived(&fixture));
    for need in expected {
        assert!(said.contains(&need.to_owned()), "{said:?}");
    }
}

#[test]
fn crypttab_says_what_opens_a_volume() {
    let fixture = with_disk();
    fixture.mapped("dm-0", LUKS, "luks", &["sda2"]).write("proc/cmdline", OPENED);
    let with = |line: &str| {
        fixture.write("etc/crypttab", line);
        with_root(&fixture, "dm-0")
    };
    let token = with("luks UUID=1 - fido2-device=auto,pkcs11-uri=pkcs11:x\n");
    assert_eq!(names(&token)[4..], ["fido2", "pkcs11", "somebody-types"]);
    assert_eq!(needs(&token)[4], "fido2 for /dev/mapper/luks below /");
    let files = with("luks UUID=1 /etc/luks.key header=/boot/header.img\n");
    let expected = ["the file /boot/header.img", "the file /etc/luks.key"];
    assert_eq!(names(&files)[4..], expected);
    let elsewhere = with("luks UUID=1 /luks.key:LABEL=stick header=/dev/sdb\n");
    assert_eq!(names(&elsewhere).len(), 4, "who has a key types only if that fails");
    assert_eq!(elsewhere.notes, ["/dev/mapper/luks needs a file of LABEL=stick, which is not checked"]);
    assert_eq!(names(&with("luks UUID=1 /dev/urandom\nother UUID=2 /etc/key tpm2-device=auto\n")).len(), 4);
    // Without anything on the command line it is crypttab itself.
    fixture.write("proc/cmdline", "root=/dev/mapper/luks");
    let attached = with("luks UUID=1 - x-initrd.attach\n");
    assert_eq!(names(&attached)[4..], ["the file /etc/crypttab", "somebody-types"]);
    assert!(attached.notes.is_empty(), "{:?}", attached.notes);
}

#[test]
fn a_volume_opened_by_a_tpm_needs_the_drivers_of_that() {
    let fixture = with_disk();
    fixture.mapped("dm-0", LUKS, "luks", &["sda2"]).write("proc/cmdline", OPENED);
    fixture.write("etc/crypttab", "luks UUID=1 - tpm2-device=auto\n");
    let without = with_root(&fixture, "dm-0");
    assert_eq!(without.notes, ["/dev/mapper/luks is opened by a TPM, and this machine shows none"]);
    fixture.driver("platform/MSFT0101:00", "tpm_crb", "tpm_crb").directory("sys/devices/platform/MSFT0101:00/tpm/tpm0");
    fixture.link("sys/class/tpm/tpm0", "../../devices/platform/MSFT0101:00/tpm/tpm0");
    let with = with_root(&fixture, "dm-0");
    let expected =
        ["tpm2 for /dev/mapper/luks below /", "the kernel module tpm_crb for the TPM for /dev/mapper/luks below /"];
    assert_eq!(needs(&with)[4..], expected);
    assert!(with.notes.is_empty() && with.somebody_types());
}

#[test]
fn what_a_machine_wakes_up_from_needs_its_stack_too() {
    let fixture = with_disk();
    fixture.mapped("dm-0", "LVM-a", "vg-swap", &["sda2"]);
    fixture.write("proc/cmdline", "root=/dev/sda2 resume=/dev/mapper/vg-swap\n");
    let said = needs(&with_root(&fixture, "sda2"));
    let expected = [
        "the kernel module sd_mod for /dev/sda below /; /dev/sda below resume=/dev/mapper/vg-swap",
        "the kernel module ahci for /dev/sda below /; /dev/sda below resume=/dev/mapper/vg-swap",
        "hibernation for resume=/dev/mapper/vg-swap",
        "lvm for /dev/mapper/vg-swap below resume=/dev/mapper/vg-swap",
    ];
    assert_eq!(said[1..], expected);
}

#[test]
fn roots_from_elsewhere_need_their_client_and_the_card() {
    let fixture = Fixture::new();
    fixture.write("sys/devices/pci0000:00/0000:00:03.0/net/eth0/operstate", "up\n");
    fixture.driver("pci0000:00/0000:00:03.0", "e1000e", "e1000e");
    fixture.link("sys/devices/pci0000:00/0000:00:03.0/net/eth0/device", "../..");
    fixture.link("sys/class/net/eth0", "../../devices/pci0000:00/0000:00:03.0/net/eth0");
    for (kind, need) in [("nfs4", "nfs4"), ("nfs", "nfs"), ("smb3", "cifs"), ("ceph", "+ceph")] {
        fixture.mounts(&[("/", kind, "server:/root", "rw")]);
        let remote = derived(&fixture);
        assert_eq!(names(&remote), [need, "+e1000e"]);
        assert_eq!(remote.notes, ["how the initrd sets up the network for / is not checked"]);
    }
    for kind in ["9p", "virtiofs"] {
        fixture.mounts(&[("/", kind, "root", "rw")]);
        let of_host = derived(&fixture);
        assert_eq!((names(&of_host), of_host.notes.len()), (vec![kind.to_owned()], 0));
    }
    std::fs::remove_file(fixture.path().join("sys/class/net/eth0")).unwrap();
    fixture.mounts(&[("/", "nfs", "server:/root", "rw")]);
    assert!(derived(&fixture).notes[0].contains("(none is up)"));
}

#[test]
fn disks_of_other_machines_need_the_module_that_reaches_them() {
    let fixture = Fixture::new();
    fixture.disk("sda", "platform/host3/session1/target3:0:0/3:0:0:0", &["sd:sd_mod"]);
    fixture.directory("sys/devices/platform/host3/session1/iscsi_session");
    let iscsi = with_root(&fixture, "sda");
    assert_eq!(names(&iscsi), ["ext4", "iscsi", "+sd_mod"]);
    assert_eq!(iscsi.notes.len(), 2);
    fixture.virtual_block("nbd0", &[]);
    assert_eq!(names(&with_root(&fixture, "nbd0")), ["ext4", "+nbd"]);
}

#[test]
fn file_systems_without_a_row_need_the_module_of_their_name() {
    let fixture = with_disk();
    fixture.mounts(&[("/", "jfs", "sda2", "rw"), ("/usr", "ext3", "sda2", "ro")]);
    assert_eq!(names(&derived(&fixture)), ["+jfs", "+sd_mod", "+ahci", "ext4"]);
}

#[test]
fn who_types_a_passphrase_needs_a_keyboard_and_who_may_have_to_wishes_for_one() {
    let fixture = with_disk();
    fixture.mapped("dm-0", LUKS, "luks", &["sda2"]).write("proc/cmdline", OPENED);
    fixture.driver("platform/i8042/serio0", "atkbd", "atkbd").driver("platform/i8042", "i8042", "");
    let input = "sys/devices/platform/i8042/serio0/input/input0";
    fixture.write(&format!("{input}/capabilities/key"), "fffffffffffffffe\n").write(&format!("{input}/name"), "AT\n");
    fixture.link("sys/class/input/input0", "../../devices/platform/i8042/serio0/input/input0");
    let with = |line: &str| {
        fixture.write("etc/crypttab", line);
        with_root(&fixture, "dm-0")
    };
    let asked = with("luks UUID=1\n");
    assert_eq!(needs(&asked)[4..], ["somebody-types for /dev/mapper/luks below /"]);
    let missed = asked.missed(&Holdings::new([], ""));
    assert_eq!(
        missed,
        [
            "the initrd does not have the kernel module atkbd: the keyboard \"AT\" may be dead where a passphrase is asked for"
        ]
    );
    assert!(asked.somebody_types());
    let by_key = with("luks UUID=1 /etc/key token-timeout=10s\n");
    assert!(by_key.somebody_types() && !names(&by_key).contains(&"somebody-types".to_owned()));
    let missed = by_key.missed(&Holdings::new([], ""));
    assert!(
        missed[0].starts_with("the initrd does not have all that somebody-types needs: nobody can type"),
        "{missed:?}"
    );
    let nobody = with("luks UUID=1 /etc/key headless\n");
    assert!(!nobody.somebody_types() && nobody.wishes.is_empty());
    fixture.without_usb();
    let on_a_serial_console = with("luks UUID=1\n");
    assert!(on_a_serial_console.somebody_types());
    assert!(!names(&on_a_serial_console).contains(&"somebody-types".to_owned()));
    let missed = on_a_serial_console.missed(&Holdings::new([], ""));
    assert!(missed[0].ends_with("a USB keyboard could not type what /dev/mapper/luks asks for"), "{missed:?}");
}

#[test]
fn pools_of_zfs_lie_on_the_disks_that_udev_saw_them_on() {
    let fixture = with_disk();
    fixture.mounts(&[("/", "zfs", "rpool/ROOT/debian", "rw")]);
    let unseen = derived(&fixture);
    assert_eq!(needs(&unseen), ["zfs for /"]);
    assert_eq!(
        unseen.notes,
        ["what the pool \"rpool\" of ZFS lies on is not known: drivers of its disks are not checked"]
    );
    let member = |label: &str| format!("E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL={label}\n");
    fixture.write(&format!("run/udev/data/b{}", fixture.number("sda2")), &member("rpool"));
    fixture.write("run/udev/data/b9:9", &member("other")).write("run/udev/data/n1", "");
    let seen = derived(&fixture);
    assert_eq!((names(&seen), seen.notes.len()), (vec!["zfs".to_owned(), "+sd_mod".to_owned(), "+ahci".to_owned()], 0));
    let zfs = crate::analysis::needs::named("zfs").unwrap();
    assert!(zfs.brought_by.contains("let dracut make the initrd"));
}

#[test]
fn a_bcachefs_over_several_disks_needs_who_finds_them() {
    let fixture = with_disk();
    fixture.disk("sdb", "pci0000:00/0000:00:18.0", &[]);
    fixture.mounts(&[("/", "bcachefs", "/dev/sda2:/dev/sdb", "rw")]);
    assert_eq!(names(&derived(&fixture))[..2], ["bcachefs", "bcachefs-devices"]);
    fixture.mounts(&[("/", "bcachefs", "/dev/sda2", "rw")]);
    assert_eq!(names(&derived(&fixture)), ["bcachefs", "+sd_mod", "+ahci"]);
    // A volume over both disks is one device, two partitions of a disk are two.
    fixture.mapped("dm-0", "LVM-1", "vg-root", &["sda2", "sdb"]).partition("sdb", "sdb1").partition("sdb", "sdb2");
    fixture.mounts(&[("/", "bcachefs", "dm-0", "rw")]);
    assert!(!names(&derived(&fixture)).contains(&"bcachefs-devices".to_owned()));
    fixture.mounts(&[("/", "bcachefs", "/dev/sdb1:/dev/sdb2", "rw")]);
    assert_eq!(names(&derived(&fixture))[..2], ["bcachefs", "bcachefs-devices"]);
}

#[test]
fn volumes_with_checksums_need_their_generator_which_a_profile_keeps() {
    let fixture = with_disk();
    fixture.mapped("dm-0", "CRYPT-INTEGRITY-root", "root", &["sda2"]);
    fixture.write("etc/integritytab", "root PARTLABEL=root /etc/i.key x-initrd.attach\n");
    let derived = with_root(&fixture, "dm-0");
    assert_eq!(
        names(&derived)[1..],
        ["dm-integrity", "+sd_mod", "+ahci", "the file /etc/integritytab", "the file /etc/i.key"]
    );
    let answer = Holdings::new([], "").check(derived.wants.iter().nth(1).unwrap());
    assert!(answer.brought_by.starts_with("the profile integrity"), "{}", answer.brought_by);
    assert!(answer.missing_files[1].ends_with("systemd-integritysetup-generator"), "{:?}", answer.missing_files);
    assert!(derived.notes.is_empty() && !derived.somebody_types());
}
