//! The disk sets: what is made once, in a guest, for all scenarios that boot from it.
//!
//! A recipe is a few lines of shell over the functions of `guest/disks.sh`. Every set has its own root file system with the
//! same UUID and label, those of `guest/disks.sh`, since no guest sees two sets.

use super::{Disk, DiskSet, Tpm};
use crate::boot::partition::{EFI_SYSTEM, LINUX_DATA, Partition, ROOT_X86_64};

const GUIDS: [&str; 4] = [
    "0c1d2d00-0001-4000-8000-000000000000",
    "0c1d2d00-0002-4000-8000-000000000000",
    "0c1d2d00-0003-4000-8000-000000000000",
    "0c1d2d00-0004-4000-8000-000000000000",
];

/// A disk without a partition table.
const fn whole(number: usize, size_mib: u64) -> Disk {
    Disk { size_mib, guid: GUIDS[number], partitions: &[] }
}

const fn set(name: &'static str, disks: &'static [Disk], recipe: &'static str) -> DiskSet {
    DiskSet { name, disks, tpm: Tpm::None, recipe }
}

/// One partition that is the whole of the first disk.
const PARTITIONED: &[Partition] = &[Partition {
    label: "ocinitrd-part",
    guid: "0c1d2d00-0001-4000-8000-000000000001",
    type_guid: LINUX_DATA,
    size_mib: 0,
}];

const fn partitioned(size_mib: u64) -> Disk {
    Disk { size_mib, guid: GUIDS[0], partitions: PARTITIONED }
}

/// Room for a kernel and a large initrd; the file is sparse.
const EFI_SYSTEM_PARTITION: Partition = Partition {
    label: "ocinitrd-esp",
    guid: "0c1d2d00-0001-4000-8000-0000000000e5",
    type_guid: EFI_SYSTEM,
    size_mib: 512,
};

/// A partition whose type alone says that it is the root.
const TYPED_ROOT: Partition = Partition {
    label: "ocinitrd-root",
    guid: "0c1d2d00-0001-4000-8000-000000000002",
    type_guid: ROOT_X86_64,
    size_mib: 0,
};

/// The disk of a machine that is booted by UEFI. What the first partition holds is written for each boot.
const BOOTABLE: Disk = Disk { size_mib: 640, guid: GUIDS[0], partitions: &[EFI_SYSTEM_PARTITION, TYPED_ROOT] };
pub const NONE: DiskSet = set("none", &[], "");

pub const EXT4: DiskSet = set("ext4", &[partitioned(64)], "make_root /dev/vda1 ext4");

pub const EXT4_EXTENSION: DiskSet =
    set("ext4-extension", &[partitioned(64)], "make_root /dev/vda1 ext4\nadd_extension /dev/vda1 ext4");

/// `mkfs.xfs` makes none below 300 MB.
pub const XFS: DiskSet = set("xfs", &[partitioned(320)], "make_root /dev/vda1 xfs");

pub const BTRFS: DiskSet = set("btrfs", &[partitioned(256)], "make_root /dev/vda1 btrfs");

pub const BTRFS_RAID1: DiskSet =
    set("btrfs-raid1", &[whole(0, 256), whole(1, 256)], "make_root /dev/vda btrfs /dev/vdb");

pub const BTRFS_RAID1_LUKS: DiskSet = set(
    "btrfs-raid1-luks",
    &[whole(0, 320), whole(1, 320)],
    "make_luks /dev/vda 1
    make_luks /dev/vdb 2
    make_root /dev/mapper/luks1 btrfs /dev/mapper/luks2",
);

pub const USR_EXT4: DiskSet = set(
    "usr-ext4",
    &[whole(0, 64), whole(1, 64)],
    "make_file_system /dev/vda ext4
    make_usr /dev/vdb ext4
    mount_target /dev/vda ext4
    mkdir $target/usr
    mount -t ext4 /dev/vdb $target/usr
    populate $target
    echo LABEL=ocinitrdusr /usr ext4 ro 0 0 >$target/etc/fstab
    umount $target/usr
    umount $target",
);

pub const USR_SUBVOLUME: DiskSet = set(
    "usr-subvolume",
    &[whole(0, 256)],
    "need btrfs
    make_file_system /dev/vda btrfs
    mount_target /dev/vda btrfs
    btrfs -q subvolume create $target/root
    btrfs -q subvolume create $target/usr
    umount $target
    mount_target /dev/vda btrfs -o subvol=root
    mkdir $target/usr
    mount -t btrfs -o subvol=usr /dev/vda $target/usr
    populate $target
    echo LABEL=ocinitrdroot /usr btrfs subvol=usr 0 0 >$target/etc/fstab
    umount $target/usr
    umount $target",
);

pub const LVM: DiskSet = set(
    "lvm",
    &[whole(0, 64), whole(1, 64)],
    "make_group /dev/vda /dev/vdb
    lvm lvcreate -q -y -l 100%FREE -n root vg
    make_root /dev/mapper/vg-root ext4",
);

pub const LVM_THIN: DiskSet = set(
    "lvm-thin",
    &[whole(0, 128)],
    "load_modules dm_thin_pool
    make_group /dev/vda
    lvm lvcreate -q -y -T -L 96M -V 64M -n root vg/pool
    make_root /dev/mapper/vg-root ext4",
);

pub const LUKS: DiskSet = set("luks", &[partitioned(96)], "make_luks /dev/vda1 1\nmake_root /dev/mapper/luks1 ext4");

pub const LUKS_KEY: DiskSet = set(
    "luks-key",
    &[whole(0, 96), whole(1, 64), whole(2, 64)],
    "make_luks /dev/vda 1
    make_root /dev/mapper/luks1 ext4
    luks_options='--header /ocinitrd/header' make_luks /dev/vdc 2
    make_root /dev/mapper/luks2 ext4
    make_key_disk /dev/vdb
    cp $key $target/keyfile
    cp /ocinitrd/header $target/header",
);

/// A LUKS volume that the TPM opens, with further options of systemd-cryptenroll(1).
macro_rules! luks_in_tpm {
    ($options:literal) => {
        concat!(
            "need systemd-cryptenroll\nload_modules tpm_tis tpm_crb\nmake_luks /dev/vda 1\nmake_root /dev/mapper/luks1 ext4\n",
            "systemd-cryptenroll --unlock-key-file=$key --tpm2-device=auto --tpm2-pcrs= ",
            $options,
            " /dev/vda"
        )
    };
}

pub const LUKS_TPM2: DiskSet = DiskSet { tpm: Tpm::Version2, ..set("luks-tpm2", &[whole(0, 96)], luks_in_tpm!("")) };

/// Bound to nothing but what the key of a unified kernel image has signed.
pub const LUKS_SIGNED_POLICY: DiskSet = DiskSet {
    tpm: Tpm::Version2AndKey,
    ..set("luks-signed-policy", &[whole(0, 96)], luks_in_tpm!("--tpm2-public-key=$pcr_key --tpm2-public-key-pcrs=11"))
};

pub const MEASURED: DiskSet =
    DiskSet { tpm: Tpm::Version2, ..set("measured", &[whole(0, 64)], "make_root /dev/vda ext4") };

pub const MD_RAID1: DiskSet =
    set("md-raid1", &[whole(0, 64), whole(1, 64)], "make_array 1 /dev/vda /dev/vdb\nmake_root /dev/md0 ext4");

pub const MD_RAID5: DiskSet = set(
    "md-raid5",
    &[whole(0, 64), whole(1, 64), whole(2, 64)],
    "make_array 5 /dev/vda /dev/vdb /dev/vdc\nmake_root /dev/md0 ext4",
);

pub const MD_RAID10: DiskSet = set(
    "md-raid10",
    &[whole(0, 64), whole(1, 64), whole(2, 64), whole(3, 64)],
    "make_array 10 /dev/vda /dev/vdb /dev/vdc /dev/vdd\nmake_root /dev/md0 ext4",
);

pub const LVM_ON_LUKS: DiskSet = set(
    "lvm-on-luks",
    &[whole(0, 128)],
    "make_luks /dev/vda 1
    make_group /dev/mapper/luks1
    lvm lvcreate -q -y -l 100%FREE -n root vg
    make_root /dev/mapper/vg-root ext4",
);

pub const LUKS_ON_LVM: DiskSet = set(
    "luks-on-lvm",
    &[whole(0, 128)],
    "make_group /dev/vda
    lvm lvcreate -q -y -l 100%FREE -n crypt vg
    make_luks /dev/mapper/vg-crypt 1
    make_root /dev/mapper/luks1 ext4",
);

pub const LUKS_ON_MD: DiskSet = set(
    "luks-on-md",
    &[whole(0, 128), whole(1, 128)],
    "make_array 1 /dev/vda /dev/vdb
    make_luks /dev/md0 1
    make_root /dev/mapper/luks1 ext4",
);

pub const LVM_ON_MD_ON_LUKS: DiskSet = set(
    "lvm-on-md-on-luks",
    &[whole(0, 128), whole(1, 128)],
    "make_luks /dev/vda 1
    make_luks /dev/vdb 2
    make_array 1 /dev/mapper/luks1 /dev/mapper/luks2
    make_group /dev/md0
    lvm lvcreate -q -y -l 100%FREE -n root vg
    make_root /dev/mapper/vg-root ext4",
);

pub const GPT_AUTO: DiskSet = set("gpt-auto", &[BOOTABLE], "make_root /dev/vda2 ext4");

pub const GPT_AUTO_LUKS: DiskSet =
    set("gpt-auto-luks", &[BOOTABLE], "make_luks /dev/vda2 1\nmake_root /dev/mapper/luks1 ext4");

/// The root is not on the disk with the EFI system partition.
pub const GPT_AUTO_ELSEWHERE: DiskSet = set(
    "gpt-auto-elsewhere",
    &[
        Disk { size_mib: 544, guid: GUIDS[0], partitions: &[EFI_SYSTEM_PARTITION] },
        Disk { size_mib: 64, guid: GUIDS[1], partitions: &[TYPED_ROOT] },
    ],
    "make_root /dev/vdb1 ext4",
);

/// Room for what is in the memory of a guest.
const SWAP_MIB: u64 = 1024;

pub const SWAP: DiskSet = set(
    "swap",
    &[whole(0, 64), whole(1, SWAP_MIB)],
    "target_programs=swapon
    make_swap /dev/vdb
    make_root /dev/vda ext4",
);

pub const SWAP_ON_LVM: DiskSet = set(
    "swap-on-lvm",
    &[whole(0, SWAP_MIB + 128)],
    "target_programs=swapon
    make_group /dev/vda
    lvm lvcreate -q -y -L 64M -n root vg
    lvm lvcreate -q -y -L 1G -n swap vg
    make_swap /dev/mapper/vg-swap
    make_root /dev/mapper/vg-root ext4",
);

pub const SWAP_ON_LUKS: DiskSet = set(
    "swap-on-luks",
    &[whole(0, 96), whole(1, SWAP_MIB + 32)],
    "target_programs=swapon
    make_luks /dev/vda 1
    make_luks /dev/vdb 2
    make_swap /dev/mapper/luks2
    make_root /dev/mapper/luks1 ext4",
);
