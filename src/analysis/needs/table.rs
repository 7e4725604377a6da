//! The table of needs: what each is called, what it asks of an initrd, and what brings that.
//!
//! A file without a slash is a library, wherever the distribution keeps those.

use super::Need;

/// Lists of which each asks for one of its members.
type Choices = &'static [&'static [&'static str]];

const LVM: Choices =
    &[&["usr/sbin/lvm", "usr/bin/lvm"], &["usr/lib/udev/rules.d/69-dm-lvm.rules", "usr/lib/udev/rules.d/69-lvm.rules"]];
const MDADM: Choices = &[&["usr/sbin/mdadm", "usr/bin/mdadm"], &["usr/lib/udev/rules.d/64-md-raid-assembly.rules"]];
const CRYPTSETUP: Choices = &[
    &["usr/bin/systemd-cryptsetup", "usr/lib/systemd/systemd-cryptsetup"],
    &["usr/lib/systemd/system-generators/systemd-cryptsetup-generator"],
];
const CRYPTSETUP_PACKAGES: &str = "the packages systemd-udev and cryptsetup-libs, and the module pattern dm-crypt";
const NFS: Choices = &[&["usr/sbin/mount.nfs", "usr/bin/mount.nfs"]];
const NFS_PROFILE: &str = "the profile nfs";
const BY_PATTERN: &str = "a pattern with its name in [kernel] modules";

const fn need(
    name: &'static str,
    summary: &'static str,
    modules: Choices,
    files: Choices,
    brought_by: &'static str,
) -> Need {
    Need { name, summary, modules, files, brought_by }
}

const fn module(name: &'static str, summary: &'static str, modules: Choices) -> Need {
    need(name, summary, modules, &[], BY_PATTERN)
}

const fn lvm(name: &'static str, summary: &'static str, modules: Choices) -> Need {
    need(name, summary, modules, LVM, "the profile lvm")
}

const fn raid(name: &'static str, summary: &'static str, modules: Choices) -> Need {
    need(name, summary, modules, MDADM, "the profile raid")
}

/// Every need that can be asked for.
pub const NEEDS: &[Need] = &[
    module("ext2", "an ext2 file system", &[&["ext4", "ext2"]]),
    module("ext4", "an ext4 file system, or an ext3 one", &[&["ext4"]]),
    module("xfs", "an XFS file system", &[&["xfs"]]),
    need(
        "btrfs",
        "a btrfs file system, over one device or several",
        &[&["btrfs"]],
        &[&["usr/lib/udev/rules.d/64-btrfs.rules"]],
        "the package systemd-udev, and a pattern with its name in [kernel] modules",
    ),
    module("f2fs", "an F2FS file system", &[&["f2fs"]]),
    need(
        "bcachefs",
        "a bcachefs file system, on one device",
        &[&["bcachefs"]],
        &[],
        "a kernel before 6.18, or the module of bcachefs-tools for this kernel, and the module pattern bcachefs",
    ),
    need(
        "bcachefs-devices",
        "a bcachefs file system over several devices",
        &[&["bcachefs"]],
        &[&["usr/sbin/mount.bcachefs", "usr/bin/mount.bcachefs"]],
        "the package bcachefs-tools with the program mount.bcachefs, and the module pattern bcachefs",
    ),
    need(
        "zfs",
        "a file system or a volume of a pool of ZFS",
        &[&["zfs"]],
        &[&["usr/sbin/zpool", "usr/bin/zpool"], &["usr/sbin/mount.zfs", "usr/bin/mount.zfs"]],
        "OpenZFS: its module for this kernel, and its part of dracut, zfs-dracut, which imports the pool. No image of ours has a \
         profile for it: let dracut make the initrd",
    ),
    module("vfat", "a FAT file system, such as the EFI system partition", &[&["vfat"]]),
    module("erofs", "an EROFS image", &[&["erofs"]]),
    module("squashfs", "a squashfs image", &[&["squashfs"]]),
    module("iso9660", "an optical disk, or an image of one", &[&["isofs"]]),
    module("overlay", "an overlay of file systems", &[&["overlay"]]),
    need(
        "sysext",
        "extensions of the root file system, merged before it is switched to",
        &[&["overlay"]],
        &[&["usr/bin/systemd-sysext"], &["usr/lib/systemd/system/systemd-sysext-sysroot.service"]],
        "systemd 258 or newer, its unit enabled, and the module pattern overlay",
    ),
    module("loop", "files as devices", &[&["loop"]]),
    lvm("lvm", "logical volumes", &[&["dm_mod"]]),
    lvm("lvm-thin", "thin logical volumes", &[&["dm_thin_pool"]]),
    lvm("lvm-snapshot", "snapshots of logical volumes, and volumes that have some", &[&["dm_snapshot"]]),
    lvm("lvm-cache", "logical volumes with a cache", &[&["dm_cache"], &["dm_cache_smq"]]),
    lvm("lvm-writecache", "logical volumes with a cache for writing", &[&["dm_writecache"]]),
    lvm("lvm-mirror", "logical volumes that are mirrors of the older kind", &[&["dm_mirror"]]),
    need(
        "lvm-raid",
        "logical volumes that are RAID",
        &[&["dm_raid"], &["raid1", "raid10", "raid456", "raid0"]],
        LVM,
        "the profile lvm, and the module patterns dm-raid and raid[0-9]*",
    ),
    need(
        "lvm-vdo",
        "logical volumes that are compressed and deduplicated",
        &[&["dm_vdo", "kvdo"]],
        LVM,
        "the profile lvm, and the module pattern dm-vdo (before Linux 6.9 kvdo, of the package kmod-kvdo)",
    ),
    need(
        "lvm-integrity",
        "logical volumes that are RAID with checksums",
        &[&["dm_integrity"]],
        LVM,
        "the profile lvm, and the module pattern dm-integrity",
    ),
    need(
        "dm-vdo",
        "VDO without LVM, as the program vdo made it",
        &[&["dm_vdo", "kvdo"]],
        &[&["usr/bin/vdo", "usr/sbin/vdo"]],
        "nothing that is still maintained: lvm_import_vdo makes a logical volume of it, which the profile lvm and the module \
         pattern dm-vdo bring",
    ),
    need(
        "stratis",
        "a pool of Stratis",
        &[&["dm_thin_pool"], &["dm_mod"]],
        &[
            &["usr/bin/stratis-min", "usr/sbin/stratis-min"],
            &["usr/libexec/stratisd-min"],
            &["usr/lib/systemd/system-generators/stratis-setup-generator"],
        ],
        "the package stratisd-dracut and the module pattern dm-thin-pool. No image of ours has a profile for it: let dracut make \
         the initrd",
    ),
    need(
        "dm-zoned",
        "zoned disks that look like others, by dm-zoned",
        &[&["dm_zoned"]],
        &[&["usr/sbin/dmzadm", "usr/bin/dmzadm"]],
        "the package dm-zoned-tools with a unit that calls `dmzadm --start`, and the module pattern dm-zoned",
    ),
    need("luks", "LUKS volumes", &[&["dm_crypt"]], CRYPTSETUP, CRYPTSETUP_PACKAGES),
    need(
        "crypt",
        "encrypted volumes other than LUKS: plain, TrueCrypt, BitLocker",
        &[&["dm_crypt"]],
        CRYPTSETUP,
        CRYPTSETUP_PACKAGES,
    ),
    need(
        "tpm2",
        "keys in a TPM 2.0",
        &[&["tpm_tis", "tpm_crb"]],
        &[&["libtss2-esys.so.0"], &["libtss2-mu.so.0"], &["libtss2-tcti-device.so.0"]],
        "the package tpm2-tss, and the module patterns tpm_tis and tpm_crb",
    ),
    need(
        "fido2",
        "keys on a FIDO2 token",
        &[&["usbhid"]],
        &[&["libfido2.so.1"], &["usr/lib/udev/rules.d/60-fido-id.rules"]],
        "the packages systemd-udev and libfido2, and the module pattern usbhid",
    ),
    need("pkcs11", "keys on a PKCS#11 token", &[], &[&["libp11-kit.so.0"]], "the profile pkcs11"),
    need(
        "dm-verity",
        "devices that are verified as they are read",
        &[&["dm_verity"]],
        &[
            &["usr/lib/systemd/systemd-veritysetup"],
            &["usr/lib/systemd/system-generators/systemd-veritysetup-generator"],
        ],
        "the packages systemd-udev and cryptsetup-libs, and the module pattern dm-verity",
    ),
    need(
        "dm-integrity",
        "devices with checksums of their own",
        &[&["dm_integrity"]],
        &[
            &["usr/lib/systemd/systemd-integritysetup"],
            &["usr/lib/systemd/system-generators/systemd-integritysetup-generator"],
        ],
        "the profile integrity, and the module pattern dm-integrity",
    ),
    raid("md-linear", "disks in a row, by md", &[&["linear", "md_linear"]]),
    raid("md-raid0", "md RAID0", &[&["raid0"]]),
    raid("md-raid1", "md RAID1", &[&["raid1"]]),
    raid("md-raid10", "md RAID10", &[&["raid10"]]),
    raid("md-raid4", "md RAID4", &[&["raid456"]]),
    raid("md-raid5", "md RAID5", &[&["raid456"]]),
    raid("md-raid6", "md RAID6", &[&["raid456"]]),
    need(
        "gpt-auto",
        "a root found by the type of its partition, without root=",
        &[&["efivarfs"]],
        &[&["usr/lib/systemd/system-generators/systemd-gpt-auto-generator"]],
        "the packages systemd and systemd-udev, and the module pattern efivarfs",
    ),
    need(
        "md-external",
        "RAID of the firmware, by md (Intel RST, DDF)",
        &[],
        &[
            &["usr/sbin/mdadm", "usr/bin/mdadm"],
            &["usr/lib/udev/rules.d/64-md-raid-assembly.rules"],
            &["usr/sbin/mdmon", "usr/bin/mdmon"],
            &["usr/lib/systemd/system/mdmon@.service"],
        ],
        "the profile raid",
    ),
    need(
        "multipath",
        "disks with several ways to them",
        &[&["dm_multipath"]],
        &[
            &["usr/sbin/multipathd", "usr/bin/multipathd"],
            &["usr/lib/systemd/system/multipathd.service"],
            &[
                "usr/lib/udev/rules.d/62-multipath.rules",
                "usr/lib/udev/rules.d/60-multipath.rules",
                "usr/lib/udev/rules.d/56-multipath.rules",
            ],
        ],
        "the package device-mapper-multipath, and the module pattern dm-multipath",
    ),
    need(
        "kpartx",
        "partitions that the device mapper makes",
        &[&["dm_mod"]],
        &[
            &["usr/sbin/kpartx", "usr/bin/kpartx"],
            &[
                "usr/lib/udev/rules.d/66-kpartx.rules",
                "usr/lib/udev/rules.d/60-kpartx.rules",
                "usr/lib/udev/rules.d/95-kpartx.rules",
            ],
        ],
        "the package kpartx, beside the package device-mapper-multipath",
    ),
    need(
        "dmraid",
        "RAID of the firmware, by dmraid",
        &[&["dm_mirror"]],
        &[&["usr/sbin/dmraid", "usr/bin/dmraid"]],
        "the package dmraid, and the module pattern dm-mirror",
    ),
    need(
        "bcache",
        "disks with a cache, by bcache",
        &[&["bcache"]],
        &[&["usr/lib/udev/rules.d/69-bcache.rules"]],
        "the package bcache-tools, and the module pattern bcache",
    ),
    need("nfs", "a root on NFS", &[&["nfs"], &["nfsv4", "nfsv3"]], NFS, NFS_PROFILE),
    need("nfs4", "a root on NFS of version 4", &[&["nfs"], &["nfsv4"]], NFS, NFS_PROFILE),
    need(
        "cifs",
        "a root on SMB",
        &[&["cifs"]],
        &[&["usr/sbin/mount.cifs", "usr/bin/mount.cifs"]],
        "the profile network, the package cifs-utils, and the module pattern cifs",
    ),
    need(
        "iscsi",
        "disks of other machines, by iSCSI",
        &[&["iscsi_tcp", "bnx2i", "qedi", "cxgb4i", "cxgb3i", "be2iscsi", "qla4xxx", "iscsi_ibft"]],
        &[&["usr/sbin/iscsistart", "usr/bin/iscsistart", "usr/sbin/iscsid", "usr/bin/iscsid"]],
        "the profile network, the package iscsi-initiator-utils, and the module pattern iscsi_tcp",
    ),
    need(
        "nvme-over-network",
        "disks of other machines, by NVMe",
        &[&["nvme_tcp", "nvme_rdma", "nvme_fc"]],
        &[&["usr/sbin/nvme", "usr/bin/nvme"]],
        "the profile network, the package nvme-cli with a unit that calls `nvme connect-all`, and the module patterns nvme-tcp, \
         nvme-rdma and nvme-fc",
    ),
    need(
        "somebody-types",
        "somebody types a passphrase or a PIN, on a keyboard",
        // Not those of older keyboards, which other processors than x86 do not have.
        &[&["usbhid"], &["hid_generic", "hid"], &["xhci_pci", "xhci_plat_hcd", "xhci_hcd"]],
        &[],
        "the module pattern default, or usbhid, hid-generic and xhci-pci",
    ),
    module("virtiofs", "a directory of the host of a virtual machine, by virtiofs", &[&["virtiofs"]]),
    module(
        "9p",
        "a directory of the host of a virtual machine, by 9p",
        &[&["9p"], &["9pnet_virtio", "9pnet_xen", "9pnet_fd"]],
    ),
    need(
        "hibernation",
        "waking up from hibernation",
        &[],
        &[
            &["usr/lib/systemd/systemd-hibernate-resume"],
            &["usr/lib/systemd/system-generators/systemd-hibernate-resume-generator"],
        ],
        "the package systemd",
    ),
    module("nvme", "NVMe disks", &[&["nvme"]]),
    module("ahci", "SATA disks", &[&["ahci"]]),
    module("sd", "disks that speak SCSI: SATA, SAS, USB", &[&["sd_mod"]]),
    module("usb-storage", "USB disks", &[&["usb_storage"], &["uas"]]),
    module("mmc", "SD cards and eMMC", &[&["mmc_block"]]),
    module("virtio", "disks of QEMU", &[&["virtio_pci"], &["virtio_blk"], &["virtio_scsi"]]),
    module("hyper-v", "disks of Hyper-V", &[&["hv_storvsc"]]),
    module("vmware", "disks of VMware", &[&["vmw_pvscsi"]]),
    module("xen", "disks of Xen", &[&["xen_blkfront"]]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_modules_are_spelled_as_the_kernel_does() {
        let mut names: Vec<&str> = NEEDS.iter().map(|need| need.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for need in NEEDS {
            assert!(need.modules.iter().copied().flatten().all(|module| !module.contains('-')), "{}", need.name);
            assert!(need.files.iter().copied().flatten().all(|file| !file.starts_with('/')), "{}", need.name);
            assert!(!need.modules.is_empty() || !need.files.is_empty(), "{}", need.name);
        }
    }
}
