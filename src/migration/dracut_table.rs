//! What the settings and the modules of dracut mean to ours; `dracut.conf(5)`, `dracut.modules(7)`.

use super::finding::Outcome;
use super::install_items::Presence;
use super::table;
use super::texts;

/// What a setting of dracut's means.
#[derive(Clone, Copy, Debug)]
pub enum Meaning {
    /// The same whatever it says.
    Fixed(Outcome, &'static str),
    /// Modules of the kernel, and what else is to be known of them.
    Drivers(&'static str),
    /// Files.
    Items(Presence),
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
    /// A base may have it: the row of [`crate::analysis::needs::NEEDS`].
    Need(&'static str),
    /// It is lost, unless somebody does what the text says.
    Lost(&'static str),
}

use Meaning::{AddModules, CommandLine, Drivers, Fixed, HostOnly, Items, OmitModules, Switch, Uki};
use Module::{Lost, Need, Needless, Part};
use Outcome::{AsBefore, ByHand, NotNeeded};

const LVM_CONF: (Outcome, &str) =
    (AsBefore, "LVM's configuration goes in where the initrd has to find a volume of LVM");
const NO_LVM_CONF: (Outcome, &str) = (
    NotNeeded,
    "LVM's configuration goes in only where the initrd has to find a volume of LVM, which it may decide on",
);
const EARLY: (Outcome, &str) = (AsBefore, texts::MICROCODE);
const NOT_EARLY: (Outcome, &str) =
    (NotNeeded, "updates in /usr/lib/firmware go in where there are some, as the kernel wants them");
const UNIFIED: (Outcome, &str) = (ByHand, texts::UNIFIED);
const NOT_UNIFIED: (Outcome, &str) =
    (AsBefore, "a unified kernel image is made only where install.conf(5) says layout=uki");
const MDADM_CONF: (Outcome, &str) = (AsBefore, "/etc/mdadm.conf goes in where it is there");
const NO_MDADM_CONF: (Outcome, &str) =
    (NotNeeded, "/etc/mdadm.conf goes in where it is there; without it udev assembles what belongs together");
const OPTIONS_KEPT: (Outcome, &str) =
    (NotNeeded, "no options are kept in the initrd: those that count are on the kernel's command line, below");
const NO_OPTIONS_KEPT: (Outcome, &str) = (AsBefore, "no options are kept in the initrd");
const READ_ONLY: (Outcome, &str) = (ByHand, "say ro on the kernel's command line");
const READ_WRITE: (Outcome, &str) = (AsBefore, "ro or rw on the kernel's command line says it");

const ALONE: &str = "; beside those that the machine needs, which dracut would have left out";
const ACPI: &str = "tables of ACPI are not put in front of the initrd";
const BLACKLIST: &str = "modules go in where they are loaded or needed; module_blacklist=NAME on the kernel's command line keeps one from being loaded";
const DEFINITION: &str = "the base has what it was built with: see its definition";
const DEVICES: &str = "what / and /usr lie on, swap and the lines of /etc/crypttab with x-initrd.attach decide";
const DIRECTORIES: &str = "directories are those of the base";
const FIRMWARE: &str = "firmware comes from /usr/lib/firmware alone: files takes others to their place";
const FSCK: &str = "the base has the programs for its file systems; fsck.mode=skip turns the check off";
const FSTAB: &str = "what the initrd is to mount beside / and /usr has x-initrd.mount in /etc/fstab";
const NO_OUTPUT: &str = "it is about what dracut prints, and where it works";
const NO_SSH: &str = "there is no SSH in the initrd";
const OF_FILES: &str = "ours writes the base as it was built, and the rest as it is";
const OTHER_MODULES: &str = "modules come from /usr/lib/modules/KVER alone";
const OUTPUT: &str = "kernel-install says where it is put";
const REACHED: &str = "the base has what something in it reaches";
const RESCUE: &str = "dracut makes its rescue image as before";
const SAME: &str = "the same inputs make the same initrd";
const SBAT: &str = "say sbat in [uki] of /etc/ocinitrd/*.toml";
const STUB: &str = "the stub comes with the base";
const TOKEN: &str = "a key in a token is secureboot_private_key = \"pkcs11:...\" in [uki]";

/// What settings mean.
const SETTINGS: &[(&str, Meaning)] = &[
    ("add_drivers filesystems", Drivers("")),
    ("force_drivers", Drivers(texts::LOADED_FIRST)),
    ("drivers", Drivers(ALONE)),
    ("install_items", Items(Presence::Required)),
    ("install_optional_items", Items(Presence::Optional)),
    ("add_dracutmodules force_add_dracutmodules dracutmodules", AddModules),
    ("omit_dracutmodules", OmitModules),
    ("kernel_cmdline", CommandLine),
    ("hostonly", HostOnly),
    ("lvmconf", Switch { yes: LVM_CONF, no: NO_LVM_CONF }),
    ("mdadmconf", Switch { yes: MDADM_CONF, no: NO_MDADM_CONF }),
    ("early_microcode", Switch { yes: EARLY, no: NOT_EARLY }),
    ("uefi", Switch { yes: UNIFIED, no: NOT_UNIFIED }),
    ("hostonly_cmdline", Switch { yes: OPTIONS_KEPT, no: NO_OPTIONS_KEPT }),
    ("ro_mnt", Switch { yes: READ_ONLY, no: READ_WRITE }),
    ("uefi_splash_image", Uki("splash")),
    ("uefi_secureboot_key", Uki("secureboot_private_key")),
    ("uefi_secureboot_cert", Uki("secureboot_certificate")),
    ("uefi_secureboot_engine", Fixed(ByHand, TOKEN)),
    ("sbat", Fixed(ByHand, SBAT)),
    ("uefi_stub", Fixed(NotNeeded, STUB)),
    ("kernel_image machine_id ukify", Fixed(NotNeeded, "kernel-install says it")),
    ("initrdname", Fixed(NotNeeded, OUTPUT)),
    ("use_fstab add_fstab", Fixed(ByHand, FSTAB)),
    ("acpi_override acpi_table_dir", Fixed(ByHand, ACPI)),
    ("fw_dir", Fixed(ByHand, FIRMWARE)),
    ("drivers_dir", Fixed(ByHand, OTHER_MODULES)),
    ("sshkey", Fixed(ByHand, NO_SSH)),
    ("nbd add_dlopen_features", Fixed(ByHand, DEFINITION)),
    ("omit_drivers", Fixed(NotNeeded, BLACKLIST)),
    ("remove_items omit_dlopen_features", Fixed(NotNeeded, REACHED)),
    ("libdirs", Fixed(NotNeeded, "libraries are in the base")),
    ("add_device persistent_policy hostonly_mode hostonly_default_device", Fixed(NotNeeded, DEVICES)),
    ("hostonly_nics", Fixed(NotNeeded, texts::NETWORK)),
    ("fscks nofscks", Fixed(NotNeeded, FSCK)),
    ("dracut_rescue_image", Fixed(NotNeeded, RESCUE)),
    ("compress compress_options compress_level_* squash_compress", Fixed(NotNeeded, texts::COMPRESSION)),
    ("i18n_*", Fixed(NotNeeded, texts::CONSOLE)),
    ("do_strip aggressive_strip do_hardlink do_prelink prefix", Fixed(NotNeeded, OF_FILES)),
    ("enhanced_cpio kernel_only no_kernel", Fixed(NotNeeded, OF_FILES)),
    ("reproducible", Fixed(AsBefore, SAME)),
    ("stdloglvl sysloglvl fileloglvl logfile show_modules loginstall tmpdir", Fixed(NotNeeded, NO_OUTPUT)),
    ("parallel noimageifnotneeded nofscks_check", Fixed(NotNeeded, NO_OUTPUT)),
    ("systemdutildir systemdsystemunitdir systemdsystemconfdir udevdir", Fixed(NotNeeded, DIRECTORIES)),
];

/// What a setting means, if it is known.
pub fn meaning(name: &str) -> Option<Meaning> {
    table::find(SETTINGS, name)
}

const SYSTEMD: &str = "the initrd is systemd's";
const OF_SYSTEMD: &str = "the base has of systemd what an initrd starts";
const NOT_ON_THE_WAY: &str = "nothing on the way to a root needs it here";
const KEYS: &str =
    "keys and policies that are loaded in the initrd are not supported: leave such a machine with dracut";
const PASSPHRASE: &str =
    "that way to a passphrase is not supported: keys are passphrases, files, TPM2, FIDO2 or PKCS#11";
const CLEVIS: &str =
    "clevis is not supported: systemd-cryptenroll --tpm2-device=auto puts a key into the TPM that the base opens";
const ROOT: &str = "no base has it: leave a machine whose root needs it with dracut";
const PACKAGE: &str = "no base has it: its package has to be added to the image's definition";
const IMAGE: &str = "a system that is deployed as an image has its own way to its root, which no base has";
const VIRTIOFS: &str = "modules of virtiofs go in where the root is on it";
const VIRTFS: &str = "modules of 9p go in where the root is on it";

/// What modules mean.
const MODULES: &[(&str, Module)] = &[
    ("base rootfs-block udev-rules kernel-modules kernel-modules-extra fs-lib", Part(texts::IN_EVERY_BASE)),
    ("shutdown usrmount terminfo fstab-sys initqueue drm simpledrm hwdb securityfs", Part(texts::IN_EVERY_BASE)),
    ("crypt-lib dm uefi-lib systemd-udevd systemd-journald systemd-modules-load", Part(texts::IN_EVERY_BASE)),
    ("systemd-sysctl systemd-tmpfiles systemd-ask-password systemd-sysusers", Part(texts::IN_EVERY_BASE)),
    ("systemd systemd-initrd dracut-systemd", Part(SYSTEMD)),
    ("virtiofs", Part(VIRTIOFS)),
    ("virtfs", Part(VIRTFS)),
    ("crypt systemd-cryptsetup", Need("luks")),
    ("lvm lvmmerge lvmthinpool-monitor", Need("lvm")),
    ("mdraid", Need("md-raid1")),
    ("btrfs", Need("btrfs")),
    ("dmraid", Need("dmraid")),
    ("multipath", Need("multipath")),
    ("nfs", Need("nfs")),
    ("cifs", Need("cifs")),
    ("iscsi", Need("iscsi")),
    ("tpm2-tss", Need("tpm2")),
    ("fido2", Need("fido2")),
    ("pkcs11 pcsc", Need("pkcs11")),
    ("bcache", Need("bcache")),
    ("resume systemd-hibernate-resume", Need("hibernation")),
    ("systemd-veritysetup", Need("dm-verity")),
    ("systemd-integritysetup", Need("dm-integrity")),
    ("systemd-sysext", Need("sysext")),
    ("network systemd-networkd systemd-network-management network-manager", Lost(texts::NETWORK)),
    ("network-legacy ifcfg net-lib kernel-network-modules systemd-resolved connman qemu-net", Lost(texts::NETWORK)),
    ("i18n", Lost(texts::CONSOLE)),
    ("plymouth", Lost(texts::PLYMOUTH)),
    ("systemd-repart systemd-coredump systemd-pcrphase systemd-pcrextend systemd-creds", Needless(OF_SYSTEMD)),
    ("systemd-pstore systemd-hostnamed systemd-timesyncd systemd-timedated systemd-portabled", Needless(OF_SYSTEMD)),
    ("systemd-ldconfig systemd-battery-check systemd-bsod systemd-ac-power", Needless(OF_SYSTEMD)),
    ("systemd-emergency systemd-rfkill", Needless(OF_SYSTEMD)),
    ("bash dash mksh busybox shell-interpreter debug rescue memstrack squash squash-lib", Needless(NOT_ON_THE_WAY)),
    ("squash-squashfs squash-erofs dbus dbus-broker dbus-daemon rngd watchdog", Needless(NOT_ON_THE_WAY)),
    ("watchdog-modules biosdevname caps syslog warpclock qemu img-lib url-lib modsign", Needless(NOT_ON_THE_WAY)),
    ("numlock pollcdrom bootchart stratis-lib kernel-modules-export nss-softokn", Needless(NOT_ON_THE_WAY)),
    ("nvdimm pcmcia ppcmac", Needless(NOT_ON_THE_WAY)),
    ("fips fips-crypto-policies", Lost(texts::FIPS)),
    ("integrity ima masterkey ecryptfs selinux", Lost(KEYS)),
    ("crypt-gpg crypt-loop bluetooth crypt-ssh sshd ssh-client dropbear", Lost(PASSPHRASE)),
    ("clevis clevis-*", Lost(CLEVIS)),
    ("nbd fcoe fcoe-uefi nvmf lunmask dasd dasd_mod zfcp znet zipl cms dcssblk cio_ignore", Lost(ROOT)),
    ("zfs stratis bcachefs", Lost(PACKAGE)),
    ("dmsquash-live dmsquash-live-ntfs dmsquash-live-autooverlay livenet overlayfs", Lost(texts::LIVE)),
    ("overlay-root overlayfs-crypt convertfs memdisk systemd-import", Lost(texts::LIVE)),
    ("ostree bootc ignition coreos-installer composefs 37composefs cloud-init", Lost(IMAGE)),
];

/// What a module means, if it is known.
pub fn module(name: &str) -> Option<Module> {
    table::find(MODULES, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::needs;

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
