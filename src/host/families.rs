//! Modules that a machine does not use today, and may need before its next kernel: what is in use in, module patterns out.
//!
//! An initrd for one machine has the modules that are loaded while it is made. Between two kernels a machine changes: a volume
//! gets a snapshot or a mirror, an array another level, a root another file system, a disk another controller, and who types a
//! passphrase another keyboard. Of a kind that is in use, or that may come into use by plugging or by a setting of the firmware,
//! all go in.

use crate::analysis::needs::{Demand, Derived};

/// Modules that go in together.
#[derive(Debug)]
pub(super) struct Family {
    /// What it is for, in words.
    pub(super) purpose: &'static str,
    /// When its modules go in.
    when: When,
    /// Patterns of its modules.
    pub(super) patterns: &'static [&'static str],
    /// Whether only those of them go in that the base was built for.
    pub(super) is_of_base: bool,
}

#[derive(Clone, Copy, Debug)]
enum When {
    /// On every machine.
    Always,
    /// Where a need is one whose name begins so.
    Needs(&'static str),
    /// Where somebody may have to type.
    SomebodyTypes,
}

/// All families.
const FAMILIES: &[Family] = &[
    Family {
        purpose: "what LVM can make of a volume",
        when: When::Needs("lvm"),
        patterns: &[
            "dm-snapshot",
            "dm-thin-pool",
            "dm-cache*",
            "dm-writecache",
            "dm-mirror",
            "dm-log*",
            "dm-raid",
            "raid0",
            "raid1",
            "raid10",
            "raid456",
            "dm-integrity",
            "dm-vdo",
        ],
        is_of_base: false,
    },
    Family {
        purpose: "the levels of md",
        when: When::Needs("md-"),
        patterns: &["raid0", "raid1", "raid10", "raid456", "linear", "md-linear"],
        is_of_base: false,
    },
    Family {
        purpose: "another file system in place of the root's",
        when: When::Always,
        patterns: &["/fs/btrfs/", "/fs/ext4/", "/fs/xfs/", "/fs/f2fs/"],
        is_of_base: true,
    },
    Family {
        purpose: "another controller or bus for a disk",
        when: When::Always,
        patterns: &[
            "ahci",
            "ata_piix",
            "ata_generic",
            "nvme",
            "vmd",
            "sd_mod",
            "uas",
            "usb-storage",
            "xhci-pci",
            "xhci-pci-renesas",
            "ehci-pci",
            "virtio_blk",
            "virtio_scsi",
            "virtio_pci",
        ],
        is_of_base: true,
    },
    Family {
        purpose: "another keyboard",
        when: When::SomebodyTypes,
        patterns: &[
            "/drivers/hid/",
            "/drivers/input/keyboard/",
            "/drivers/input/serio/",
            "i8042",
            "serio",
            "evdev",
            "intel-lpss-pci",
            "surface_aggregator_registry",
            "thunderbolt",
            "xhci-pci",
            "xhci-pci-renesas",
            "ehci-pci",
            "ohci-pci",
            "uhci-hcd",
            "/drivers/pinctrl/",
            "hyperv-keyboard",
            "xen-kbdfront",
        ],
        is_of_base: true,
    },
    Family {
        purpose: "another kind of TPM",
        when: When::Needs("tpm2"),
        patterns: &["tpm_crb", "tpm_tis*"],
        is_of_base: true,
    },
];

/// Those of a machine with these needs.
pub(super) fn of(needs: &Derived) -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().filter(|family| is_in_use(family.when, needs))
}

fn is_in_use(when: When, needs: &Derived) -> bool {
    let has = |start: &str| {
        let is_it = |demand: &Demand| matches!(demand, Demand::Need(need) if need.name.starts_with(start));
        needs.wants.iter().any(|wanted| is_it(&wanted.demand))
    };
    match when {
        When::Always => true,
        When::Needs(start) => has(start),
        When::SomebodyTypes => needs.somebody_types(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::Machine;
    use crate::analysis::machine::fixture::Fixture;
    use crate::analysis::needs::of_machine;

    fn purposes(fixture: &Fixture) -> Vec<&'static str> {
        of(&of_machine(&Machine::read(fixture.path()).unwrap())).map(|family| family.purpose).collect()
    }

    #[test]
    fn what_is_in_use_brings_all_of_its_kind() {
        let fixture = Fixture::new();
        fixture.disk("sda", "pci0000:00/0000:00:17.0", &["sd:sd_mod"]).partition("sda", "sda2");
        fixture.mounts(&[("/", "ext4", "sda2", "rw")]);
        let [file_system, controller] = purposes(&fixture)[..] else { panic!("{:?}", purposes(&fixture)) };
        assert!(file_system.starts_with("another file system") && controller.starts_with("another controller"));
        fixture.mapped("dm-0", "LVM-abc", "vg-root", &["sda2"]).mounts(&[("/", "ext4", "dm-0", "rw")]);
        assert_eq!(purposes(&fixture)[0], "what LVM can make of a volume");
        fixture.array("md0", "raid1", &["sda2"]).mounts(&[("/", "ext4", "md0", "rw")]);
        assert_eq!(purposes(&fixture)[0], "the levels of md");
        let uuid = "CRYPT-LUKS2-0c1d2d00111140008000000000000001-luks";
        fixture.mapped("dm-1", uuid, "luks", &["sda2"]).mounts(&[("/", "ext4", "dm-1", "rw")]);
        fixture.write("etc/crypttab", "luks UUID=1 - x-initrd.attach,tpm2-device=auto\n");
        assert_eq!(purposes(&fixture)[2..], ["another keyboard", "another kind of TPM"]);
        fixture.write("etc/crypttab", "luks UUID=1 /etc/key x-initrd.attach,headless\n");
        assert_eq!(purposes(&fixture).len(), 2);
    }
}
