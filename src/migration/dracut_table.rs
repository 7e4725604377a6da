//! What the settings and the modules of dracut mean to ours; `dracut.conf(5)`, `dracut.modules(7)`.

use super::finding::Outcome;

/// What a setting of dracut's means.
#[derive(Clone, Copy, Debug)]
pub enum Meaning {
    /// The same whatever it says.
    Fixed(Outcome, &'static str),
    /// Modules of the kernel, and what else is to be known of them.
    Drivers(&'static str),
    /// Files.
    Items {
        /// Whether they need not be there.
        optional: bool,
    },
    /// Modules of dracut's that are added.
    AddModules,
    /// Modules of dracut's that are left out.
    OmitModules,
    /// Options of the kernel that are kept in the initrd.
    CommandLine,
    /// One of two things.
    Switch {
        /// If it says yes.
        yes: (Outcome, &'static str),
        /// If not.
        no: (Outcome, &'static str),
    },
    /// Whether the initrd is for one machine.
    HostOnly,
    /// A file that is for unified kernel images, by the word of ours.
    Uki(&'static str),
}

/// What a module of dracut's means.
#[derive(Clone, Copy, Debug)]
pub enum Module {
    /// A base has it.
    Part(&'static str),
    /// Nothing here needs it.
    Needless(&'static str),
    /// A base may have it: the row of [`crate::needs::NEEDS`].
    Need(&'static str),
    /// It is lost.
    ByHand(&'static str),
}

const NO_OUTPUT: &str = "it is about what dracut prints, and where it works";
const OF_FILES: &str = "ours writes the base as it was built, and the rest as it is";
const OF_COMPRESSION: &str = "the base is compressed as it was built; modules stay as the kernel's package has them, unless compression says otherwise";
const OF_CONSOLE: &str =
    "/etc/vconsole.conf says it, and goes in; it takes a base that was built with --profile vconsole";
const OF_NETWORK: &str = "it takes a base that was built with --profile network";

/// What a setting means, if it is known.
pub fn meaning(name: &str) -> Option<Meaning> {
    use Outcome::{AsBefore, ByHand, NotNeeded};
    Some(match name {
        "add_drivers" | "filesystems" => Meaning::Drivers(""),
        "force_drivers" => Meaning::Drivers(
            "; to load them before udev asks for them, say rd.modules_load=NAME on the kernel's command line",
        ),
        "drivers" => Meaning::Drivers("; beside those that the machine needs, which dracut would have left out"),
        "install_items" => Meaning::Items { optional: false },
        "install_optional_items" => Meaning::Items { optional: true },
        "add_dracutmodules" | "force_add_dracutmodules" | "dracutmodules" => Meaning::AddModules,
        "omit_dracutmodules" => Meaning::OmitModules,
        "kernel_cmdline" => Meaning::CommandLine,
        "hostonly" => Meaning::HostOnly,
        "lvmconf" => Meaning::Switch {
            yes: (AsBefore, "LVM's configuration goes in where the initrd has to find a volume of LVM"),
            no: (
                NotNeeded,
                "LVM's configuration goes in only where the initrd has to find a volume of LVM, which it may decide on",
            ),
        },
        "uefi_splash_image" => Meaning::Uki("splash"),
        "uefi_secureboot_key" => Meaning::Uki("secureboot_private_key"),
        "uefi_secureboot_cert" => Meaning::Uki("secureboot_certificate"),
        "early_microcode" => Meaning::Switch {
            yes: (AsBefore, "the updates of this machine's processors are in front of the initrd"),
            no: (NotNeeded, "updates in /usr/lib/firmware go in where there are some, as the kernel wants them"),
        },
        "uefi" => Meaning::Switch {
            yes: (
                ByHand,
                "say layout=uki and uki_generator=ocinitrd in install.conf(5), and the options in /etc/kernel/cmdline",
            ),
            no: (AsBefore, "a unified kernel image is made only where install.conf(5) says layout=uki"),
        },
        "mdadmconf" => Meaning::Switch {
            yes: (AsBefore, "/etc/mdadm.conf goes in where it is there"),
            no: (
                NotNeeded,
                "/etc/mdadm.conf goes in where it is there; without it udev assembles what belongs together",
            ),
        },
        "hostonly_cmdline" => Meaning::Switch {
            yes: (
                NotNeeded,
                "no options are kept in the initrd: those that count are on the kernel's command line, below",
            ),
            no: (AsBefore, "no options are kept in the initrd"),
        },
        "ro_mnt" => Meaning::Switch {
            yes: (ByHand, "say ro on the kernel's command line"),
            no: (AsBefore, "ro or rw on the kernel's command line says it"),
        },
        "use_fstab" | "add_fstab" => {
            Meaning::Fixed(ByHand, "what the initrd is to mount beside / and /usr has x-initrd.mount in /etc/fstab")
        }
        "acpi_override" | "acpi_table_dir" => {
            Meaning::Fixed(ByHand, "tables of ACPI are not put in front of the initrd")
        }
        "uefi_secureboot_engine" => {
            Meaning::Fixed(ByHand, "a key in a token is secureboot_private_key = \"pkcs11:...\" in [uki]")
        }
        "sbat" => Meaning::Fixed(ByHand, "say sbat in [uki] of /etc/ocinitrd/*.toml"),
        "fw_dir" => {
            Meaning::Fixed(ByHand, "firmware comes from /usr/lib/firmware alone: files takes others to their place")
        }
        "drivers_dir" => Meaning::Fixed(ByHand, "modules come from /usr/lib/modules/KVER alone"),
        "sshkey" => Meaning::Fixed(ByHand, "there is no SSH in the initrd"),
        "nbd" | "add_dlopen_features" => {
            Meaning::Fixed(ByHand, "the base has what it was built with: see its definition")
        }
        "omit_drivers" => Meaning::Fixed(
            NotNeeded,
            "modules go in where they are loaded or needed; module_blacklist=NAME on the kernel's command line keeps one from being loaded",
        ),
        "remove_items" | "omit_dlopen_features" => {
            Meaning::Fixed(NotNeeded, "the base has what something in it reaches")
        }
        "libdirs" => Meaning::Fixed(NotNeeded, "libraries are in the base"),
        "add_device" | "persistent_policy" | "hostonly_mode" | "hostonly_default_device" => Meaning::Fixed(
            NotNeeded,
            "what / and /usr lie on, swap and the lines of /etc/crypttab with x-initrd.attach decide",
        ),
        "hostonly_nics" => Meaning::Fixed(NotNeeded, OF_NETWORK),
        "fscks" | "nofscks" => Meaning::Fixed(
            NotNeeded,
            "the base has the programs for its file systems; fsck.mode=skip turns the check off",
        ),
        "uefi_stub" => Meaning::Fixed(NotNeeded, "the stub comes with the base"),
        "kernel_image" | "machine_id" | "ukify" => Meaning::Fixed(NotNeeded, "kernel-install says it"),
        "initrdname" => Meaning::Fixed(NotNeeded, "kernel-install says where it is put"),
        "dracut_rescue_image" => Meaning::Fixed(NotNeeded, "dracut makes its rescue image as before"),
        "compress" | "compress_options" | "squash_compress" => Meaning::Fixed(NotNeeded, OF_COMPRESSION),
        name if name.starts_with("compress_level_") => Meaning::Fixed(NotNeeded, OF_COMPRESSION),
        name if name.starts_with("i18n_") => Meaning::Fixed(NotNeeded, OF_CONSOLE),
        "do_strip" | "aggressive_strip" | "do_hardlink" | "do_prelink" | "prefix" | "enhanced_cpio" | "kernel_only"
        | "no_kernel" => Meaning::Fixed(NotNeeded, OF_FILES),
        "reproducible" => Meaning::Fixed(AsBefore, "the same inputs make the same initrd"),
        "stdloglvl" | "sysloglvl" | "fileloglvl" | "logfile" | "show_modules" | "loginstall" | "tmpdir"
        | "parallel" | "noimageifnotneeded" | "nofscks_check" => Meaning::Fixed(NotNeeded, NO_OUTPUT),
        "systemdutildir" | "systemdsystemunitdir" | "systemdsystemconfdir" | "udevdir" => {
            Meaning::Fixed(NotNeeded, "directories are those of the base")
        }
        _ => return None,
    })
}

/// What a module means, if it is known.
pub fn module(name: &str) -> Option<Module> {
    const BASE: &str = "part of every base";
    const CONSOLE: &str = "it takes a base that was built with --profile vconsole, and /etc/vconsole.conf";
    const LIVE: &str = "starting from a live image is not supported";
    Some(match name {
        "base"
        | "rootfs-block"
        | "udev-rules"
        | "kernel-modules"
        | "kernel-modules-extra"
        | "fs-lib"
        | "shutdown"
        | "usrmount"
        | "terminfo"
        | "fstab-sys"
        | "initqueue"
        | "drm"
        | "simpledrm"
        | "hwdb"
        | "securityfs"
        | "crypt-lib"
        | "dm"
        | "uefi-lib" => Module::Part(BASE),
        "systemd" | "systemd-initrd" | "dracut-systemd" => Module::Part("the initrd is systemd's"),
        "systemd-udevd"
        | "systemd-journald"
        | "systemd-modules-load"
        | "systemd-sysctl"
        | "systemd-tmpfiles"
        | "systemd-ask-password"
        | "systemd-sysusers" => Module::Part(BASE),
        "crypt" | "systemd-cryptsetup" => Module::Need("luks"),
        "lvm" | "lvmmerge" | "lvmthinpool-monitor" => Module::Need("lvm"),
        "mdraid" => Module::Need("md-raid1"),
        "btrfs" => Module::Need("btrfs"),
        "dmraid" => Module::Need("dmraid"),
        "multipath" => Module::Need("multipath"),
        "nfs" => Module::Need("nfs"),
        "cifs" => Module::Need("cifs"),
        "iscsi" => Module::Need("iscsi"),
        "tpm2-tss" => Module::Need("tpm2"),
        "fido2" => Module::Need("fido2"),
        "pkcs11" | "pcsc" => Module::Need("pkcs11"),
        "bcache" => Module::Need("bcache"),
        "resume" | "systemd-hibernate-resume" => Module::Need("hibernation"),
        "systemd-veritysetup" => Module::Need("dm-verity"),
        "systemd-integritysetup" => Module::Need("dm-integrity"),
        "systemd-sysext" => Module::Need("sysext"),
        "virtiofs" => Module::Part("modules of virtiofs go in where the root is on it"),
        "virtfs" => Module::Part("modules of 9p go in where the root is on it"),
        "network"
        | "systemd-networkd"
        | "systemd-network-management"
        | "network-manager"
        | "network-legacy"
        | "ifcfg"
        | "net-lib"
        | "kernel-network-modules"
        | "systemd-resolved"
        | "connman"
        | "qemu-net" => Module::ByHand(
            "it takes a base that was built with --profile network, whose network is systemd-networkd's; ip= says the addresses",
        ),
        "i18n" => Module::ByHand(CONSOLE),
        "plymouth" => Module::ByHand(
            "it takes a base that was built with --profile plymouth; without it passphrases are asked for on the console",
        ),
        "systemd-repart"
        | "systemd-coredump"
        | "systemd-pcrphase"
        | "systemd-pcrextend"
        | "systemd-creds"
        | "systemd-pstore"
        | "systemd-hostnamed"
        | "systemd-timesyncd"
        | "systemd-timedated"
        | "systemd-portabled"
        | "systemd-ldconfig"
        | "systemd-battery-check"
        | "systemd-bsod"
        | "systemd-ac-power"
        | "systemd-emergency"
        | "systemd-rfkill" => Module::Needless("the base has of systemd what an initrd starts"),
        "bash"
        | "dash"
        | "mksh"
        | "busybox"
        | "shell-interpreter"
        | "debug"
        | "rescue"
        | "memstrack"
        | "squash"
        | "squash-lib"
        | "squash-squashfs"
        | "squash-erofs"
        | "dbus"
        | "dbus-broker"
        | "dbus-daemon"
        | "rngd"
        | "watchdog"
        | "watchdog-modules"
        | "biosdevname"
        | "caps"
        | "syslog"
        | "warpclock"
        | "qemu"
        | "img-lib"
        | "url-lib"
        | "modsign"
        | "numlock"
        | "pollcdrom"
        | "bootchart"
        | "stratis-lib"
        | "kernel-modules-export"
        | "nss-softokn"
        | "nvdimm"
        | "pcmcia"
        | "ppcmac" => Module::Needless("nothing on the way to a root needs it here"),
        "fips" | "fips-crypto-policies" => {
            Module::ByHand("the check of a kernel in FIPS mode is not in the base: leave such a machine with dracut")
        }
        "integrity" | "ima" | "masterkey" | "ecryptfs" | "selinux" => Module::ByHand(
            "keys and policies that are loaded in the initrd are not supported: leave such a machine with dracut",
        ),
        "crypt-gpg" | "crypt-loop" | "bluetooth" | "crypt-ssh" | "sshd" | "ssh-client" | "dropbear" => Module::ByHand(
            "that way to a passphrase is not supported: keys are passphrases, files, TPM2, FIDO2 or PKCS#11",
        ),
        "clevis" | "clevis-pin-tang" | "clevis-pin-tpm2" | "clevis-pin-sss" | "clevis-pin-null" => Module::ByHand(
            "clevis is not supported: systemd-cryptenroll --tpm2-device=auto puts a key into the TPM that the base opens",
        ),
        "nbd" | "fcoe" | "fcoe-uefi" | "nvmf" | "lunmask" | "dasd" | "dasd_mod" | "zfcp" | "znet" | "zipl" | "cms"
        | "dcssblk" | "cio_ignore" => Module::ByHand("no base has it: leave a machine whose root needs it with dracut"),
        "zfs" | "stratis" | "bcachefs" => {
            Module::ByHand("no base has it: its package has to be added to the image's definition")
        }
        "dmsquash-live"
        | "dmsquash-live-ntfs"
        | "dmsquash-live-autooverlay"
        | "livenet"
        | "overlayfs"
        | "overlay-root"
        | "overlayfs-crypt"
        | "convertfs"
        | "memdisk"
        | "systemd-import" => Module::ByHand(LIVE),
        "ostree" | "bootc" | "ignition" | "coreos-installer" | "composefs" | "37composefs" | "cloud-init" => {
            Module::ByHand("a system that is deployed as an image has its own way to its root, which no base has")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs;

    /// The settings of dracut 108's dracut.conf(5).
    const SETTINGS: &str = "add_dracutmodules force_add_dracutmodules omit_dracutmodules dracutmodules add_drivers force_drivers \
        omit_drivers drivers add_dlopen_features omit_dlopen_features filesystems drivers_dir fw_dir libdirs install_items \
        remove_items install_optional_items compress compress_level_zstd squash_compress do_strip aggressive_strip do_hardlink \
        prefix hostonly hostonly_mode hostonly_cmdline hostonly_nics persistent_policy tmpdir use_fstab add_fstab add_device \
        mdadmconf lvmconf fscks nofscks ro_mnt kernel_cmdline kernel_only no_kernel acpi_override acpi_table_dir early_microcode \
        stdloglvl sysloglvl fileloglvl logfile sshkey show_modules i18n_vars i18n_default_font i18n_install_all reproducible \
        noimageifnotneeded loginstall uefi machine_id uefi_stub uefi_splash_image uefi_secureboot_cert uefi_secureboot_key \
        uefi_secureboot_engine kernel_image sbat enhanced_cpio parallel initrdname dracut_rescue_image";
    /// The modules that dracut 108 has.
    const MODULES: &str = "bash dash systemd-network-management systemd warpclock fips-crypto-policies fips systemd-ac-power \
        systemd-ask-password systemd-battery-check systemd-bsod systemd-coredump systemd-creds systemd-hostnamed systemd-initrd \
        systemd-integritysetup systemd-journald systemd-ldconfig systemd-modules-load systemd-networkd systemd-pcrextend \
        systemd-portabled systemd-pstore systemd-repart systemd-resolved systemd-sysctl systemd-sysext systemd-timedated \
        systemd-timesyncd systemd-tmpfiles systemd-udevd systemd-veritysetup caps modsign rescue watchdog-modules watchdog \
        dbus-broker dbus-daemon rngd dbus i18n connman network-legacy network-manager network drm net-lib plymouth simpledrm \
        systemd-import url-lib cms lvmmerge lvmthinpool-monitor cio_ignore bluetooth btrfs crypt-lib crypt dm dmraid \
        dmsquash-live-autooverlay dmsquash-live-ntfs dmsquash-live fs-lib img-lib kernel-modules-export kernel-modules-extra \
        kernel-modules kernel-network-modules livenet lvm mdraid memdisk multipath numlock nvdimm overlayfs pcmcia ppcmac qemu-net \
        qemu uefi-lib overlayfs-crypt systemd-cryptsetup crypt-gpg crypt-loop fido2 pcsc pkcs11 tpm2-tss zipl cifs dasd dasd_mod \
        dcssblk debug fcoe-uefi fcoe fstab-sys hwdb iscsi lunmask nbd nfs nvmf resume rootfs-block squash-erofs squash-squashfs \
        ssh-client terminfo udev-rules virtfs virtiofs zfcp znet securityfs biosdevname masterkey systemd-emergency \
        dracut-systemd ecryptfs initqueue integrity pollcdrom selinux syslog usrmount systemd-sysusers base busybox memstrack \
        shell-interpreter shutdown squash squash-lib";

    #[test]
    fn each_setting_and_each_module_of_dracut_is_known() {
        let unknown: Vec<&str> = SETTINGS.split_whitespace().filter(|name| meaning(name).is_none()).collect();
        assert_eq!(unknown, [""; 0]);
        let unknown: Vec<&str> = MODULES.split_whitespace().filter(|name| module(name).is_none()).collect();
        assert_eq!(unknown, [""; 0]);
    }

    #[test]
    fn a_need_that_a_module_stands_for_is_one() {
        for name in MODULES.split_whitespace() {
            if let Some(Module::Need(need)) = module(name) {
                needs::named(need).unwrap();
            }
        }
    }
}
