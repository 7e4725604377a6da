//! The table of scenarios.

use super::disks::{
    BTRFS, BTRFS_RAID1, BTRFS_RAID1_LUKS, EXT4, EXT4_EXTENSION, GPT_AUTO, GPT_AUTO_ELSEWHERE, GPT_AUTO_LUKS, LUKS,
    LUKS_KEY, LUKS_ON_LVM, LUKS_ON_MD, LUKS_SIGNED_POLICY, LUKS_TPM2, LVM, LVM_ON_LUKS, LVM_ON_MD_ON_LUKS, LVM_THIN,
    MD_RAID1, MD_RAID5, MD_RAID10, MEASURED, SWAP, SWAP_ON_LUKS, SWAP_ON_LVM, USR_EXT4, USR_SUBVOLUME, XFS,
};
use super::remote::{NFS_DEAD_SERVER, NFS3_DHCP, NFS3_STATIC, NFS4_DHCP, NFS4_STATIC};
use super::{Expectation, Firmware, Prompt, Scenario};
use crate::boot::stage::Stage;

/// What opens every LUKS volume; `guest/disks.sh` has it too.
const PASSPHRASE: &str = "a passphrase";
const CREDENTIAL: &[(&str, &str)] = &[("cryptsetup.passphrase", PASSPHRASE)];
const ASKED: Prompt = Prompt { question: "Please enter passphrase for disk", answer: PASSPHRASE };
const WRONG: Prompt = Prompt { answer: "a wrong one", ..ASKED };

/// For how long a device that will not come is waited for.
macro_rules! soon {
    ($options:literal) => {
        concat!($options, " rw systemd.default_device_timeout_sec=15")
    };
}

/// The kernel's options for the LUKS volume `luks1`.
macro_rules! luks {
    ($options:literal) => {
        concat!("rd.luks.name=0c1d2d00-1111-4000-8000-000000000001=luks1 ", $options, " rw")
    };
}

/// The kernel's options for the LUKS volumes `luks1` and `luks2`.
macro_rules! two_luks {
    ($options:literal) => {
        concat!(
            "rd.luks.name=0c1d2d00-1111-4000-8000-000000000001=luks1 ",
            "rd.luks.name=0c1d2d00-1111-4000-8000-000000000002=luks2 ",
            $options,
            " rw"
        )
    };
}

const fn target(facts: &'static [(&'static str, &'static str)]) -> Expectation {
    Expectation::Target(facts)
}

/// A boot that ends in emergency mode, which nobody can enter: no password is set for root.
const fn locked(names: &'static str) -> Expectation {
    Expectation::Failure { stage: Stage::Device, names, last_words: "the root account is locked" }
}

const EXT4_IS_ROOT: Expectation = target(&[("root", "/dev/vda1 / ext4 ")]);
const LUKS_IS_ROOT: Expectation = target(&[("root", "/dev/mapper/luks1 / ext4 "), ("dm.luks1", "CRYPT-LUKS2 on vda1")]);
const LUKS_DISK_IS_ROOT: Expectation =
    target(&[("root", "/dev/mapper/luks1 / ext4 "), ("dm.luks1", "CRYPT-LUKS2 on vda")]);

/// Every scenario, in the order in which `all` runs them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "ext4-uuid",
        "ext4 in a GPT partition, root=UUID=",
        &EXT4,
        "root=UUID=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d rw",
        EXT4_IS_ROOT,
    ),
    Scenario::new(
        "ext4-label",
        "ext4 in a GPT partition, root=LABEL=",
        &EXT4,
        "root=LABEL=ocinitrdroot rw",
        EXT4_IS_ROOT,
    ),
    Scenario::new(
        "ext4-partuuid",
        "ext4 in a GPT partition, root=PARTUUID=",
        &EXT4,
        "root=PARTUUID=0c1d2d00-0001-4000-8000-000000000001 rw",
        EXT4_IS_ROOT,
    ),
    Scenario::new(
        "ext4-partlabel",
        "ext4 in a GPT partition, root=PARTLABEL=",
        &EXT4,
        "root=PARTLABEL=ocinitrd-part rw",
        EXT4_IS_ROOT,
    ),
    Scenario {
        needs: &["sysext"],
        ..Scenario::new(
            "ext4-extension",
            "ext4 with an extension of /usr in /var/lib/extensions",
            &EXT4_EXTENSION,
            "root=LABEL=ocinitrdroot rw",
            target(&[("root", "/dev/vda1 / ext4 "), ("usr", "sysext /usr overlay ")]),
        )
    },
    Scenario::new(
        "xfs",
        "XFS in a GPT partition, root=UUID=",
        &XFS,
        "root=UUID=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d rw",
        target(&[("root", "/dev/vda1 / xfs ")]),
    ),
    Scenario::new(
        "btrfs",
        "btrfs in a GPT partition, root=LABEL=",
        &BTRFS,
        "root=LABEL=ocinitrdroot rw",
        target(&[("root", "/dev/vda1 / btrfs "), ("btrfs", "vda1")]),
    ),
    Scenario::new(
        "btrfs-raid1",
        "btrfs RAID1 over two disks",
        &BTRFS_RAID1,
        "root=UUID=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d rw",
        target(&[("root", "/dev/vd"), ("btrfs", "vda vdb")]),
    ),
    Scenario {
        credentials: CREDENTIAL,
        ..Scenario::new(
            "btrfs-raid1-luks",
            "btrfs RAID1 over two LUKS volumes",
            &BTRFS_RAID1_LUKS,
            two_luks!("root=UUID=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d"),
            target(&[("root", "/dev/"), ("btrfs", "luks1 luks2"), ("dm.luks2", "CRYPT-LUKS2 on vdb")]),
        )
    },
    Scenario::new(
        "usr-ext4",
        "/usr on a disk of its own, by the root's /etc/fstab",
        &USR_EXT4,
        "root=LABEL=ocinitrdroot rw",
        target(&[("root", "/dev/vda / ext4 "), ("usr", "/dev/vdb /usr ext4 ro")]),
    ),
    Scenario::new(
        "usr-subvolume",
        "/ and /usr on subvolumes of one btrfs",
        &USR_SUBVOLUME,
        "root=LABEL=ocinitrdroot rootflags=subvol=root rw",
        target(&[("root", "/dev/vda / btrfs "), ("usr", "/dev/vda /usr btrfs ")]),
    ),
    Scenario::new(
        "lvm",
        "ext4 on a logical volume over two physical ones",
        &LVM,
        "root=/dev/vg/root rw",
        target(&[("root", "/dev/mapper/vg-root / ext4 "), ("dm.vg-root", "LVM on vda vdb")]),
    ),
    Scenario::new(
        "lvm-thin",
        "ext4 on a thin logical volume",
        &LVM_THIN,
        "root=/dev/vg/root rw",
        target(&[("root", "/dev/mapper/vg-root / ext4 "), ("dm.vg-root", "LVM on vg-pool-tpool")]),
    ),
    Scenario {
        dialogue: &[ASKED],
        ..Scenario::new(
            "luks-passphrase",
            "LUKS2, passphrase typed on the console",
            &LUKS,
            luks!("root=/dev/mapper/luks1"),
            LUKS_IS_ROOT,
        )
    },
    Scenario {
        credentials: CREDENTIAL,
        ..Scenario::new(
            "luks-credential",
            "LUKS2, passphrase from a credential of the firmware",
            &LUKS,
            luks!("root=UUID=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d"),
            LUKS_IS_ROOT,
        )
    },
    Scenario::new(
        "luks-key-file",
        "LUKS2, key file on the file system of another disk",
        &LUKS_KEY,
        luks!("rd.luks.key=0c1d2d00-1111-4000-8000-000000000001=/keyfile:LABEL=ocinitrdkey root=/dev/mapper/luks1"),
        LUKS_DISK_IS_ROOT,
    ),
    Scenario {
        dialogue: &[ASKED],
        ..Scenario::new(
            "luks-detached-header",
            "LUKS2, its header in a file on another disk",
            &LUKS_KEY,
            "rd.luks.name=0c1d2d00-1111-4000-8000-000000000002=luks2 \
             rd.luks.options=0c1d2d00-1111-4000-8000-000000000002=header=/header:LABEL=ocinitrdkey \
             rd.luks.data=0c1d2d00-1111-4000-8000-000000000002=/dev/disk/by-id/virtio-disk2 root=/dev/mapper/luks2 rw",
            target(&[("root", "/dev/mapper/luks2 / ext4 "), ("dm.luks2", "CRYPT-LUKS2 on vdc")]),
        )
    },
    Scenario::new(
        "luks-tpm2",
        "LUKS2, key sealed in a TPM 2.0",
        &LUKS_TPM2,
        luks!("rd.luks.options=tpm2-device=auto root=/dev/mapper/luks1"),
        LUKS_DISK_IS_ROOT,
    ),
    Scenario {
        files: &[
            ("etc/crypttab", "luks1 UUID=0c1d2d00-1111-4000-8000-000000000001 /etc/luks1.key x-initrd.attach\n"),
            ("etc/luks1.key", PASSPHRASE),
        ],
        ..Scenario::new(
            "luks-crypttab",
            "LUKS2, by /etc/crypttab and a key file behind the initrd",
            &LUKS,
            "root=/dev/mapper/luks1 rw",
            LUKS_IS_ROOT,
        )
    },
    Scenario::new(
        "md-raid1",
        "md RAID1",
        &MD_RAID1,
        "root=UUID=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d rw",
        target(&[("root", "/dev/md"), ("md", "raid1 degraded 0 on vda vdb")]),
    ),
    Scenario::new(
        "md-raid5",
        "md RAID5",
        &MD_RAID5,
        "root=UUID=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d rw",
        target(&[("root", "/dev/md"), ("md", "raid5 degraded 0 on vda vdb vdc")]),
    ),
    Scenario::new(
        "md-raid10",
        "md RAID10",
        &MD_RAID10,
        "root=UUID=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d rw",
        target(&[("root", "/dev/md"), ("md", "raid10 degraded 0 on vda vdb vdc vdd")]),
    ),
    Scenario {
        without: &[1],
        ..Scenario::new(
            "md-raid1-degraded",
            "md RAID1 of which a disk is missing",
            &MD_RAID1,
            "root=UUID=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d rw",
            target(&[("root", "/dev/md"), ("md", "raid1 degraded 1 on vda")]),
        )
    },
    Scenario {
        without: &[2],
        ..Scenario::new(
            "md-raid5-degraded",
            "md RAID5 of which a disk is missing",
            &MD_RAID5,
            "root=UUID=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d rw",
            target(&[("root", "/dev/md"), ("md", "raid5 degraded 1 on vda vdb")]),
        )
    },
    Scenario {
        credentials: CREDENTIAL,
        ..Scenario::new(
            "lvm-on-luks",
            "ext4 on LVM on LUKS",
            &LVM_ON_LUKS,
            luks!("root=/dev/vg/root"),
            target(&[
                ("root", "/dev/mapper/vg-root / ext4 "),
                ("dm.vg-root", "LVM on luks1"),
                ("dm.luks1", "CRYPT-LUKS2 on vda"),
            ]),
        )
    },
    Scenario {
        credentials: CREDENTIAL,
        ..Scenario::new(
            "luks-on-lvm",
            "ext4 on LUKS on LVM",
            &LUKS_ON_LVM,
            luks!("root=/dev/mapper/luks1"),
            target(&[
                ("root", "/dev/mapper/luks1 / ext4 "),
                ("dm.luks1", "CRYPT-LUKS2 on vg-crypt"),
                ("dm.vg-crypt", "LVM on vda"),
            ]),
        )
    },
    Scenario {
        credentials: CREDENTIAL,
        ..Scenario::new(
            "luks-on-md",
            "ext4 on LUKS on md RAID1",
            &LUKS_ON_MD,
            luks!("root=/dev/mapper/luks1"),
            target(&[
                ("root", "/dev/mapper/luks1 / ext4 "),
                ("dm.luks1", "CRYPT-LUKS2 on md"),
                ("md", "raid1 degraded 0 on vda vdb"),
            ]),
        )
    },
    Scenario {
        credentials: CREDENTIAL,
        ..Scenario::new(
            "lvm-on-md-on-luks",
            "ext4 on LVM on md RAID1 over two LUKS volumes",
            &LVM_ON_MD_ON_LUKS,
            two_luks!("root=/dev/vg/root"),
            target(&[
                ("root", "/dev/mapper/vg-root / ext4 "),
                ("dm.vg-root", "LVM on md"),
                ("md", "raid1 degraded 0 on luks1 luks2"),
            ]),
        )
    },
    Scenario {
        firmware: Firmware::Uefi,
        ..Scenario::new(
            "gpt-auto",
            "no root=: ext4, found by its partition's type beside the EFI system partition",
            &GPT_AUTO,
            "rw",
            target(&[("root", "/dev/vda2 / ext4 rw")]),
        )
    },
    Scenario {
        firmware: Firmware::Uefi,
        credentials: CREDENTIAL,
        ..Scenario::new(
            "gpt-auto-luks",
            "no root=: LUKS2, found by its partition's type beside the EFI system partition",
            &GPT_AUTO_LUKS,
            "rw",
            target(&[("root", "/dev/mapper/root / ext4 rw"), ("dm.root", "CRYPT-LUKS2 on vda2")]),
        )
    },
    Scenario {
        unified: true,
        ..Scenario::new(
            "measured",
            "a unified kernel image and a TPM 2.0: PCR 11 is what was predicted of the image",
            &MEASURED,
            "root=LABEL=ocinitrdroot rw",
            target(&[("root", "/dev/vda / ext4 ")]),
        )
    },
    Scenario {
        unified: true,
        ..Scenario::new(
            "luks-signed-policy",
            "LUKS2, key sealed in a TPM 2.0 for what the key of a unified kernel image signs",
            &LUKS_SIGNED_POLICY,
            luks!("rd.luks.options=tpm2-device=auto root=/dev/mapper/luks1"),
            LUKS_DISK_IS_ROOT,
        )
    },
    Scenario {
        hibernates: true,
        ..Scenario::new(
            "hibernation",
            "hibernation to a swap disk, and waking up",
            &SWAP,
            "root=LABEL=ocinitrdroot rw resume=UUID=0c1d2d00-e4f5-4a6b-8c7d-000000000004",
            target(&[("root", "/dev/vda / ext4 "), ("swap", "/dev/vdb")]),
        )
    },
    Scenario {
        hibernates: true,
        ..Scenario::new(
            "hibernation-lvm",
            "hibernation to swap on a logical volume, and waking up",
            &SWAP_ON_LVM,
            "root=/dev/vg/root rw resume=/dev/vg/swap",
            target(&[("root", "/dev/mapper/vg-root / ext4 "), ("dm.vg-swap", "LVM on vda")]),
        )
    },
    Scenario {
        credentials: CREDENTIAL,
        hibernates: true,
        ..Scenario::new(
            "hibernation-luks",
            "hibernation to swap on a LUKS volume, and waking up",
            &SWAP_ON_LUKS,
            two_luks!("root=/dev/mapper/luks1 resume=/dev/mapper/luks2"),
            target(&[("root", "/dev/mapper/luks1 / ext4 "), ("dm.luks2", "CRYPT-LUKS2 on vdb")]),
        )
    },
    NFS3_DHCP,
    NFS3_STATIC,
    NFS4_DHCP,
    NFS4_STATIC,
    Scenario::new(
        "absent-root",
        "root=UUID= of a file system that is on no disk: must fail, in bounded time, naming it",
        &EXT4,
        soon!("root=UUID=0c1d2d00-dead-4000-8000-000000000000"),
        locked("0c1d2d00-dead-4000-8000-000000000000"),
    ),
    Scenario::new(
        "emergency-shell",
        "a root that is absent, and an administrator who lets anybody into the emergency shell",
        &EXT4,
        soon!("root=LABEL=nowhere systemd.setenv=SYSTEMD_SULOGIN_FORCE=1"),
        Expectation::Failure { stage: Stage::Device, names: "by-label/nowhere", last_words: "Press Enter for " },
    ),
    Scenario {
        firmware: Firmware::Uefi,
        ..Scenario::new(
            "gpt-auto-elsewhere",
            "no root=, and a root of the right type on another disk than was booted from: must fail, in bounded time",
            &GPT_AUTO_ELSEWHERE,
            // Longer than the others wait: it is to be passed over, not to come too late on a busy host.
            "rw systemd.default_device_timeout_sec=30",
            locked("gpt-auto-root"),
        )
    },
    Scenario {
        without: &[1],
        ..Scenario::new(
            "absent-pv",
            "a logical volume of which a physical one is missing: must fail, in bounded time, naming it",
            &LVM,
            soon!("root=/dev/vg/root"),
            locked("vg"),
        )
    },
    Scenario {
        dialogue: &[WRONG, WRONG, WRONG],
        ..Scenario::new(
            "wrong-passphrase",
            "LUKS2, a wrong passphrase three times: must fail, naming the volume",
            &LUKS,
            luks!("root=/dev/mapper/luks1"),
            locked("luks1"),
        )
    },
    NFS_DEAD_SERVER,
];
