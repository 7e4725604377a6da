//! Machines with files of their own, from these to what an initrd needs.

use crate::analysis::machine::fixture::Fixture;
use crate::analysis::machine::{Machine, OwnFile};
use crate::analysis::needs::{Derived, Holdings, of_machine};

fn derived(fixture: &Fixture) -> Derived {
    of_machine(&Machine::read(fixture.path()).unwrap())
}

/// The files that are needed, each with what for.
fn needed(derived: &Derived) -> Vec<String> {
    let lines =
        derived.wants.iter().map(|wanted| format!("{} for {}", wanted.demand.name(), wanted.for_what().join("; ")));
    lines.filter_map(|line| line.strip_prefix("the file ").map(str::to_owned)).collect()
}

/// The files that are wished for.
fn wished(derived: &Derived) -> Vec<String> {
    derived.wishes.iter().filter_map(|wish| wish.demand.name().strip_prefix("the file ").map(str::to_owned)).collect()
}

/// The files that go in.
fn taken(derived: &Derived) -> Vec<&str> {
    derived.own_files.iter().map(|OwnFile { path, .. }| path.as_str()).collect()
}

fn with_disk() -> Fixture {
    let fixture = Fixture::new();
    fixture.disk("sda", "pci0000:00/0000:00:17.0", &["sd:sd_mod"]).partition("sda", "sda2");
    fixture
}

fn with_root(fixture: &Fixture, kernel_name: &str, options: &str) -> Derived {
    fixture.write("proc/cmdline", &format!("{options}\n")).mounts(&[("/", "ext4", kernel_name, "rw")]);
    derived(fixture)
}

#[test]
fn a_machine_that_has_no_use_for_them_takes_none_of_them() {
    let fixture = with_disk();
    fixture.write("etc/hostname", "myhost\n").write("etc/mdadm.conf", "ARRAY /dev/md0\n").write("etc/lvm/lvm.conf", "");
    fixture.write("etc/nvme/hostnqn", "nqn").write("etc/iscsi/initiatorname.iscsi", "InitiatorName=a");
    let plain = with_root(&fixture, "sda2", "root=/dev/sda2");
    assert_eq!((taken(&plain).len(), needed(&plain).len(), wished(&plain).len(), plain.notes.len()), (0, 0, 0, 0));
}

#[test]
fn a_root_that_is_found_by_an_array_s_name_needs_who_gives_that_name() {
    let fixture = with_disk();
    fixture.array("md0", "raid1", &["sda2"]).write("etc/hostname", "myhost\n");
    let by_name = with_root(&fixture, "md0", "root=/dev/md0");
    assert_eq!(needed(&by_name), ["/etc/hostname for /dev/md0 below /"]);
    let by_uuid = with_root(&fixture, "md0", "root=UUID=1");
    assert_eq!((needed(&by_uuid).len(), wished(&by_uuid)), (0, vec!["/etc/hostname".to_owned()]));
    assert_eq!(taken(&by_uuid), ["/etc/hostname"]);
    let missed = by_uuid.missed(&Holdings::new([], ""));
    assert!(
        missed[0].starts_with("the initrd does not have the file /etc/hostname: arrays of this host"),
        "{missed:?}"
    );
    assert!(by_uuid.missed(&Holdings::new(["etc/hostname".to_owned()], "")).is_empty());

    // A line for the array names it whoever the host is.
    fixture.write("etc/mdadm/mdadm.conf", "HOMEHOST <system>\nARRAY /dev/md/0 metadata=1.2 UUID=1\n");
    let listed = with_root(&fixture, "md0", "root=/dev/md0");
    assert_eq!(
        (needed(&listed), wished(&listed)),
        (vec!["/etc/mdadm/mdadm.conf for /dev/md0 below /".to_owned()], vec!["/etc/hostname".to_owned()])
    );
    fixture.write("etc/mdadm/mdadm.conf", "HOMEHOST other\n");
    let other = with_root(&fixture, "md0", "root=/dev/md0");
    assert_eq!((needed(&other).len(), taken(&other)), (0, vec!["/etc/mdadm/mdadm.conf"]));
}

#[test]
fn an_array_that_the_machine_knows_by_another_host_s_name_keeps_it() {
    let fixture = with_disk();
    fixture.array("md127", "raid1", &["sda2"]).write("etc/hostname", "myhost\n");
    let foreign = with_root(&fixture, "md127", "root=/dev/md127");
    assert_eq!((needed(&foreign).len(), taken(&foreign).len()), (0, 0), "by its host's name it would be another");
    fixture.link("dev/md/root", "../md127");
    assert_eq!(needed(&with_root(&fixture, "md127", "root=/dev/md/root")), ["/etc/hostname for /dev/md/root below /"]);
}

#[test]
fn groups_of_volumes_with_an_owner_need_what_says_who_that_is() {
    let fixture = with_disk();
    fixture.mapped("dm-0", "LVM-a", "my--vg-root", &["sda2"]).write("etc/hostname", "myhost\n");
    fixture.write("etc/lvm/lvm.conf", "global {\n\tsystem_id_source = \"uname\"\n}\n");
    fixture.write("etc/lvm/devices/system.devices", "IDTYPE=sys_wwid\n").write("etc/lvm/profile/thin.profile", "");
    let owned = with_root(&fixture, "dm-0", "root=/dev/my-vg/root");
    let expected =
        ["/etc/lvm/lvm.conf", "/etc/hostname"].map(|path| format!("{path} for /dev/mapper/my--vg-root below /"));
    assert_eq!(needed(&owned), expected);
    assert_eq!(wished(&owned), ["/etc/lvm/devices/system.devices"]);
    assert_eq!(taken(&owned)[2], "/etc/lvm/profile/thin.profile");
    assert!(owned.notes.is_empty(), "{:?}", owned.notes);
    // Of a group that is known to be anybody's nothing of it is needed.
    fixture.write("etc/lvm/backup/my-vg", "my-vg {\n\tid = \"x\"\n}\n");
    assert_eq!(needed(&with_root(&fixture, "dm-0", "root=/dev/my-vg/root")).len(), 0);
    fixture.write("etc/lvm/backup/my-vg", "my-vg {\n\tsystem_id = \"myhost\"\n}\n");
    assert_eq!(needed(&with_root(&fixture, "dm-0", "root=/dev/my-vg/root")), expected);
    // The id of the machine, where that is whose name counts.
    fixture
        .write("etc/lvm/lvm.conf", "global { system_id_source = \"machineid\" }\n")
        .write("etc/machine-id", "0c1d\n");
    let by_id = with_root(&fixture, "dm-0", "root=/dev/my-vg/root");
    assert_eq!(taken(&by_id).last(), Some(&"/etc/machine-id"));
    assert_eq!(needed(&by_id)[1], "/etc/machine-id for /dev/mapper/my--vg-root below /");
}

#[test]
fn a_link_that_root_names_needs_the_rule_that_makes_it() {
    let fixture = with_disk();
    fixture.write("etc/udev/rules.d/60-mine.rules", "ENV{BAY}==\"?*\", SYMLINK+=\"bay/$env{BAY}%n\"\n");
    let by_link = with_root(&fixture, "sda2", "root=/dev/bay/two2");
    assert_eq!(needed(&by_link), ["/etc/udev/rules.d/60-mine.rules for /dev/bay/two2 below /"]);
    fixture.write("etc/udev/rules.d/61-mine.rules", "KERNEL==\"sda2\", SYMLINK+=\"mdisk\"\n");
    let like_an_array = with_root(&fixture, "sda2", "root=/dev/mdisk");
    assert_eq!(needed(&like_an_array), ["/etc/udev/rules.d/61-mine.rules for /dev/mdisk below /"]);
    std::fs::remove_file(fixture.path().join("etc/udev/rules.d/61-mine.rules")).unwrap();
    for usual in ["/dev/sda2", "/dev/disk/by-label/root", "UUID=1"] {
        let plain = with_root(&fixture, "sda2", &format!("root={usual}"));
        assert_eq!((needed(&plain).len(), taken(&plain).len(), plain.notes.len()), (0, 1, 0), "{usual}");
    }
    let unknown = with_root(&fixture, "sda2", "root=/dev/mine/root");
    assert!(unknown.notes[0].starts_with("/ is found by /dev/mine/root, a link that no rule"), "{:?}", unknown.notes);
    // A volume may be opened by a link as well.
    fixture.mapped("dm-0", "CRYPT-PLAIN-a", "a", &["sda2"]).write("etc/crypttab", "a /dev/bay/one - x-initrd.attach\n");
    let opened = with_root(&fixture, "dm-0", "root=/dev/mapper/a");
    assert!(needed(&opened).contains(&"/etc/udev/rules.d/60-mine.rules for /dev/bay/one below /".to_owned()));
}

#[test]
fn disks_of_other_machines_need_the_name_that_they_know_this_one_by() {
    let fixture = Fixture::new();
    fixture.disk("sda", "platform/host3/session1/target3:0:0/3:0:0:0", &["sd:sd_mod"]);
    fixture.directory("sys/devices/platform/host3/session1/iscsi_session");
    fixture.write("etc/iscsi/initiatorname.iscsi", "InitiatorName=a").write("etc/iscsi/iscsid.conf", "");
    fixture.write("etc/nvme/hostnqn", "nqn").write("etc/systemd/network/10-lan.link", "[Link]\nName=lan0\n");
    let iscsi = with_root(&fixture, "sda", "root=/dev/sda ip=lan0:dhcp");
    let expected = [
        "/etc/systemd/network/10-lan.link for the name of a network card below /",
        "/etc/iscsi/initiatorname.iscsi for /dev/sda below /",
    ];
    assert_eq!(needed(&iscsi), expected);
    assert_eq!(taken(&iscsi).last(), Some(&"/etc/iscsi/iscsid.conf"));
    fixture.directory("sys/firmware/ibft");
    assert_eq!(needed(&with_root(&fixture, "sda", "root=/dev/sda")).len(), 0, "the firmware says it");

    let fixture = Fixture::new();
    fixture.write("sys/devices/virtual/nvme-fabrics/ctl/nvme0/transport", "tcp\n");
    fixture.disk("nvme0n1", "virtual/nvme-fabrics/ctl/nvme0", &[]);
    for name in ["hostnqn", "hostid", "discovery.conf"] {
        fixture.write(&format!("etc/nvme/{name}"), "x");
    }
    let nvme = with_root(&fixture, "nvme0n1", "root=/dev/nvme0n1");
    assert_eq!(needed(&nvme), ["hostnqn", "hostid"].map(|name| format!("/etc/nvme/{name} for /dev/nvme0n1 below /")));
    assert_eq!(taken(&nvme).len(), 3);
}

#[test]
fn disks_with_several_ways_need_the_configuration_and_the_names_of_multipath() {
    let fixture = with_disk();
    fixture.mapped("dm-0", "mpath-3600", "mpatha", &["sda"]).mapped("dm-1", "part2-mpath-3600", "mpatha2", &["dm-0"]);
    fixture.mapped("dm-2", "CRYPT-PLAIN-a", "a", &["dm-1"]).mapped("dm-3", "LVM-a", "vg-root", &["dm-2"]);
    fixture.write("etc/multipath.conf", "").write("etc/multipath/bindings", "mpatha 3600\n");
    fixture.write("etc/multipath/wwids", "/3600/\n");
    let nested = with_root(&fixture, "dm-3", "root=/dev/vg/root");
    assert_eq!(needed(&nested), ["/etc/multipath.conf for /dev/mapper/mpatha below /"]);
    assert_eq!(taken(&nested).len(), 3);
    let named = with_root(&fixture, "dm-1", "root=/dev/mapper/mpatha2");
    assert_eq!(needed(&named)[1], "/etc/multipath/bindings for /dev/mapper/mpatha below /");
    // Both have several ways, and the root is found by the name of one.
    fixture.mapped("dm-4", "mpath-3601", "mpathab", &["sda"]).mapped("dm-5", "LVM-b", "vg-a", &["dm-0", "dm-4"]);
    fixture.write("etc/multipath/bindings", "mpatha 3600\n");
    let other = needed(&with_root(&fixture, "dm-5", "root=/dev/mapper/mpathab"));
    assert!(other.iter().all(|line| !line.starts_with("/etc/multipath/bindings")), "{other:?}");
    for partition in ["mpatha-part2", "mpathap2", "mpatha"] {
        let named = with_root(&fixture, "dm-5", &format!("root=/dev/mapper/{partition}"));
        assert!(
            needed(&named).contains(&"/etc/multipath/bindings for /dev/mapper/mpatha below /".to_owned()),
            "{partition}"
        );
    }
}

#[test]
fn a_clock_of_local_time_is_wished_for() {
    let fixture = with_disk();
    fixture.write("etc/adjtime", "0.0 0 0.0\n0\nLOCAL\n").write("etc/localtime", "TZif");
    let local = with_root(&fixture, "sda2", "root=/dev/sda2");
    assert_eq!(
        (wished(&local), needed(&local).len()),
        (vec!["/etc/adjtime".to_owned(), "/etc/localtime".to_owned()], 0)
    );
}
