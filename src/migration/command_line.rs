//! Options of the kernel that an initrd reads: what each means in one of systemd, and what takes the place of those that only
//! another generator knows; `kernel-command-line(7)`, `dracut.cmdline(7)`, mkinitcpio's hooks.

use anyhow::Result;

use super::finding::{Finding, Outcome, Place};
use super::source::Source;
use super::table;
use super::texts;
use ocinitrd_format::command_line::{self, KernelOption, Reader};

/// Where the options of kernels that are installed later are: the first that is there counts.
const CONFIGURED: [&str; 2] = ["/etc/kernel/cmdline", "/usr/lib/kernel/cmdline"];
/// Those of the kernel that runs.
const BOOTED: &str = "/proc/cmdline";

use Outcome::{AsBefore, ByHand, NotNeeded};

const CRYPT: &str = "systemd-cryptsetup-generator reads it";
const NETWORK: &str = "systemd-network-generator reads it, in a base that was built with --profile network";
const CONSOLE: &str = "systemd-vconsole-setup reads it, in a base that was built with --profile vconsole";
const RESUME: &str = "systemd-hibernate-resume-generator reads it";
const SYSTEMD: &str = "systemd reads it";
const UDEV_LVM: &str = "udev activates each volume group whose disks are there, in a base with lvm";
const UDEV_MD: &str = "udev assembles each array whose disks are there, in a base with mdadm";
const UNSUPPORTED: &str = "nothing takes its place: leave a machine that needs it with the old generator";
const SHELL: &str = "say rd.systemd.debug_shell for a shell on the ninth console, or rd.systemd.unit=emergency.target";
const DISCARD: &str = "say rd.luks.options=discard, or discard in /etc/crypttab";
const HEADER: &str = "say rd.luks.name=UUID=NAME with the UUID of the volume's header";
const NO_SUCH: &str = "systemd knows no such option: see systemd-cryptsetup-generator(8)";
const DMRAID: &str = "no base has dmraid: RAID of Intel's and of DDF is md's as well";
const MD_RAID: &str = "RAID of the firmware is md's, in a base with mdadm; no base has dmraid";
const MULTIPATH: &str = "/etc/multipath.conf goes in where it is there, in a base with multipath";
const LOAD: &str = "say rd.modules_load=NAME";
const LOADED: &str = "systemd-modules-load reads it; name the module in modules";
const DRACUT: &str = "it is about dracut's own programs";
const DRACUT_SHELL: &str = "it is about dracut's own shell";
const HOST_ONLY: &str = "nothing of the machine's configuration is in the initrd but what it needs";
const NO_PLYMOUTH: &str = "there is no plymouth in a base that was built without it";
const NEED_NET: &str = "the network is waited for where a file system needs it, in a base with the profile network";
const NET_TIME: &str = "there is no such time limit: files of systemd.network(5) in a base say others";
const NFS_DOMAIN: &str = "say Domain in /etc/idmapd.conf, and files = [\"/etc/idmapd.conf\"]";
const UNKNOWN: &str = "not known here, and not to systemd: see dracut.cmdline(7) for what it was for";
const HOOK_ENCRYPT: &str = "that of mkinitcpio's hook encrypt: say rd.luks.name=UUID=NAME";
const HOOK_KEY: &str = "that of mkinitcpio's hook encrypt: say rd.luks.key=PATH:DEVICE";
const CRYPTROOT: &str = "that of Debian's cryptroot: say rd.luks.name=UUID=NAME";

/// What options mean, by their names with `_`.
const OPTIONS: &[(&str, (Outcome, &str))] = &[
    ("rd.luks.allow_discards", (ByHand, DISCARD)),
    ("rd.luks.timeout", (ByHand, "say rd.luks.options=timeout=SECONDS")),
    ("rd.luks.key.tout", (ByHand, "say rd.luks.options=keyfile-timeout=SECONDS")),
    ("rd.luks.partuuid rd.luks.serial", (ByHand, HEADER)),
    ("rd.luks.uuid rd.luks.name rd.luks.key rd.luks.data rd.luks.options rd.luks.crypttab rd.luks", (AsBefore, CRYPT)),
    ("rd.luks.*", (ByHand, NO_SUCH)),
    ("rd.lvm rd.lvm.*", (NotNeeded, UDEV_LVM)),
    ("rd.md rd.md.*", (NotNeeded, UDEV_MD)),
    ("rd.dm", (NotNeeded, MD_RAID)),
    ("rd.dm.*", (ByHand, DMRAID)),
    ("rd.auto", (NotNeeded, "what is there is assembled")),
    ("rd.multipath", (NotNeeded, MULTIPATH)),
    ("rd.driver.blacklist", (ByHand, "say module_blacklist=NAME")),
    ("rd.driver.pre rd.driver.post", (ByHand, LOAD)),
    ("rd.driver.*", (NotNeeded, DRACUT)),
    ("rd.modules_load", (AsBefore, LOADED)),
    ("rd.vconsole.* vconsole.*", (AsBefore, CONSOLE)),
    ("rd.locale.*", (NotNeeded, "messages of an initrd are in English")),
    ("rd.udev.info", (ByHand, "say rd.udev.log_level=info")),
    ("rd.udev.debug", (ByHand, "say rd.udev.log_level=debug")),
    ("rd.udev.*", (AsBefore, "systemd-udevd reads it")),
    ("rd.systemd.* rd.rescue", (AsBefore, SYSTEMD)),
    ("rd.veritytab", (AsBefore, "systemd-veritysetup-generator reads it")),
    ("rd.fstab", (AsBefore, "systemd-fstab-generator reads it")),
    ("rd.shell rd.break break", (ByHand, SHELL)),
    ("rd.debug", (ByHand, "say rd.systemd.log_level=debug")),
    ("rd.info", (ByHand, "say rd.systemd.show_status=1")),
    ("rd.memdebug", (NotNeeded, DRACUT)),
    ("rd.cmdline", (ByHand, "the boot loader's menu edits options")),
    ("rd.timeout", (ByHand, "say rootflags=x-systemd.device-timeout=SECONDS")),
    ("rd.retry rootdelay", (NotNeeded, texts::EVENTS)),
    ("rd.skipfsck", (ByHand, "say fsck.mode=skip")),
    ("rd.hostonly", (NotNeeded, HOST_ONLY)),
    ("rd.ctty", (NotNeeded, DRACUT_SHELL)),
    ("rd.shutdown.*", (NotNeeded, "the system shuts down by itself")),
    ("rd.plymouth", (NotNeeded, NO_PLYMOUTH)),
    ("rd.neednet", (NotNeeded, NEED_NET)),
    ("rd.route rd.peerdns", (AsBefore, NETWORK)),
    ("rd.bootif", (NotNeeded, "ip= and ifname= say which card")),
    ("rd.net.*", (ByHand, NET_TIME)),
    ("rd.nfs.domain", (ByHand, NFS_DOMAIN)),
    ("rd.znet* rd.iscsi.* rd.fcoe rd.nvmf.* rd.dasd rd.zfcp* rd.zipl", (ByHand, UNSUPPORTED)),
    ("rd.nonvmf", (NotNeeded, "no base has NVMe over networks")),
    ("rd.fips*", (ByHand, texts::FIPS)),
    ("rd.live.* rd.overlay* rd.writable.* rd.noverifyssl rd.minmem", (ByHand, texts::LIVE)),
    ("rd.*", (ByHand, UNKNOWN)),
    ("rootfallback netroot", (ByHand, UNSUPPORTED)),
    ("nfsroot", (ByHand, texts::NFS_ROOT)),
    ("cryptdevice", (ByHand, HOOK_ENCRYPT)),
    ("cryptkey", (ByHand, HOOK_KEY)),
    ("cryptopts", (ByHand, CRYPTROOT)),
    ("resume_offset resume noresume", (AsBefore, RESUME)),
    ("ip nameserver vlan bond bridge ifname", (AsBefore, NETWORK)),
    ("rhgb splash", (NotNeeded, texts::PICTURE)),
];

/// What becomes of the options of the kernels of a machine, as far as an initrd reads them.
///
/// # Errors
/// Fails on a file that cannot be read.
pub fn findings(source: &Source) -> Result<Vec<Finding>> {
    let mut findings: Vec<Finding> = Vec::new();
    for (file, option) in options(source)? {
        let is_known = findings.iter().any(|finding| finding.setting == option.text);
        findings.extend(of_option(&Place::file(file), &option).filter(|_| !is_known));
    }
    Ok(findings)
}

/// Whether an option says which root to mount.
///
/// # Errors
/// Fails on a file that cannot be read.
pub fn says_root(source: &Source) -> Result<bool> {
    let says_root = |option: &KernelOption| option.value.is_some() && ["root", "roothash"].contains(&&*option.name);
    Ok(options(source)?.iter().any(|(_, option)| says_root(option)))
}

/// All options of the machine's kernels, each with its file.
fn options(source: &Source) -> Result<Vec<(&'static str, KernelOption)>> {
    let mut options = Vec::new();
    for file in CONFIGURED {
        if let Some(text) = source.text(file)? {
            options.extend(Reader::Systemd.options(&command_line::of_file(&text)).into_iter().map(|one| (file, one)));
            break;
        }
    }
    let booted = source.text(BOOTED)?.unwrap_or_default();
    options.extend(Reader::Systemd.options(&booted).into_iter().map(|option| (BOOTED, option)));
    Ok(options)
}

/// What becomes of the options that dracut kept in the initrd: they have to be on the kernel's command line.
///
/// # Errors
/// Fails on a file that cannot be read.
pub(super) fn in_initrd(source: &Source, place: &Place, text: &str) -> Result<Vec<Finding>> {
    let there = options(source)?;
    let kept = Reader::Systemd.options(text);
    Ok(kept.iter().map(|option| kept_in_initrd(place, option, there.iter().any(|(_, one)| one == option))).collect())
}

fn kept_in_initrd(place: &Place, option: &KernelOption, is_there: bool) -> Finding {
    let shown = format!("kernel_cmdline: {}", option.text);
    match of_option(place, option) {
        Some(Finding { outcome: NotNeeded, text, .. }) => Finding::new(place, shown, NotNeeded, text),
        Some(Finding { outcome: ByHand, text, .. }) => Finding::new(place, shown, ByHand, text),
        _ if is_there => Finding::new(place, shown, AsBefore, "it is on the kernel's command line"),
        _ => Finding::new(
            place,
            shown,
            ByHand,
            "no options are kept in the initrd: add it to /etc/kernel/cmdline, or to the boot loader's",
        ),
    }
}

/// What becomes of an option, if it is one that initrds read in their own ways.
fn of_option(place: &Place, option: &KernelOption) -> Option<Finding> {
    let (name, value) = (option.name.as_str(), option.value.as_deref().unwrap_or_default());
    let finding = |outcome, text: &str| Some(Finding::new(place, &option.text, outcome, text));
    match name {
        "root" => return root(value).and_then(|text| finding(ByHand, text)),
        "rd.luks.uuid" | "rd.luks.name" if !names_volume(value) => {
            return finding(ByHand, "systemd takes the whole UUID of a volume's header: rd.luks.name=UUID=NAME");
        }
        "rd.luks.key" if value.matches(':').count() > 1 => {
            return finding(ByHand, "systemd puts the volume in front: rd.luks.key=UUID=PATH:DEVICE");
        }
        "rd.emergency" if value.is_empty() => return finding(AsBefore, SYSTEMD),
        "rd.emergency" => {
            return finding(ByHand, "nothing takes its place: an initrd that fails goes to emergency.target");
        }
        _ => {}
    }
    let (outcome, text) = table::find(OPTIONS, name)?;
    finding(outcome, text)
}

/// What is wrong with a root, if systemd does not mount it.
fn root(value: &str) -> Option<&'static str> {
    let (kind, _) = value.split_once(':').unwrap_or(("", value));
    Some(match kind {
        "live" | "http" | "https" | "ftp" | "torrent" => texts::LIVE,
        "nfs" | "nfs4" => texts::NFS_ROOT,
        "block" => "leave block: out",
        "virtiofs" => "say root=TAG rootfstype=virtiofs",
        "iscsi" | "nbd" | "fcoe" | "cifs" | "ZFS" | "zfs" => UNSUPPORTED,
        _ if ["dhcp", "dhcp6", "/dev/nfs"].contains(&value) => texts::NFS_ROOT,
        _ if value.starts_with("ZFS=") => UNSUPPORTED,
        _ => return None,
    })
}

/// Whether the value begins with a whole UUID, as systemd takes it.
fn names_volume(value: &str) -> bool {
    let uuid = value.split('=').next().unwrap_or_default();
    let uuid = uuid.strip_prefix("luks-").unwrap_or(uuid).replace('-', "");
    uuid.len() == 32 && uuid.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    fn told(word: &str) -> Option<(Outcome, String)> {
        let option = &Reader::Systemd.options(word)[0];
        of_option(&Place::file("/proc/cmdline"), option).map(|finding| (finding.outcome, finding.text))
    }

    #[test]
    fn options_that_systemd_reads_stay_and_others_have_a_successor() {
        const UUID: &str = "0c1d2d00-0000-4000-8000-000000000001";
        for (word, outcome, part) in [
            (format!("rd.luks.uuid=luks-{UUID}"), AsBefore, "cryptsetup-generator"),
            (format!("rd.luks.name={UUID}=root"), AsBefore, "cryptsetup-generator"),
            ("rd.luks.uuid=0c1d2d00".to_owned(), ByHand, "whole UUID"),
            ("rd.luks.uuid=keysource:0c1d".to_owned(), ByHand, "whole UUID"),
            (format!("rd.luks.key=/k:UUID=1:{UUID}"), ByHand, "in front"),
            ("rd.luks.key=/k:UUID=1".to_owned(), AsBefore, "reads it"),
            ("rd.luks.allow-discards".to_owned(), ByHand, "rd.luks.options=discard"),
            ("rd.lvm.lv=fedora/root".to_owned(), NotNeeded, "udev activates"),
            ("rd.md.uuid=1".to_owned(), NotNeeded, "udev assembles"),
            ("rd.driver.blacklist=nouveau,nova_core".to_owned(), ByHand, "module_blacklist="),
            ("rd.driver.pre=vfio-pci".to_owned(), ByHand, "rd.modules_load="),
            ("rd.shell=0".to_owned(), ByHand, "rd.systemd.debug_shell"),
            ("rd.break=pre-mount".to_owned(), ByHand, "rd.systemd.debug_shell"),
            ("rd.emergency=reboot".to_owned(), ByHand, "nothing takes its place"),
            ("rd.udev.log_level=3".to_owned(), AsBefore, "systemd-udevd"),
            ("rd.vconsole.keymap=de".to_owned(), AsBefore, "--profile vconsole"),
            ("rd.invented=1".to_owned(), ByHand, "not known here"),
            ("root=live:CDLABEL=x".to_owned(), ByHand, "live image"),
            ("root=block:/dev/sda1".to_owned(), ByHand, "block:"),
            ("cryptdevice=UUID=1:root".to_owned(), ByHand, "rd.luks.name"),
        ] {
            let (found, text) = told(&word).unwrap_or_else(|| panic!("{word} is not known"));
            assert!(found == outcome && text.contains(part), "{word}: {found}: {text}");
        }
        for word in ["root=UUID=1", "root=/dev/mapper/a", "root=fe80::1", "quiet", "ro", "mitigations=auto"] {
            assert_eq!(told(word), None, "{word}");
        }
    }

    #[test]
    fn options_of_both_files_are_told_once_and_comments_are_none() {
        let root = Fixture::new();
        root.write("etc/kernel/cmdline", "# rd.break\nroot=UUID=1 rd.lvm.lv=a/b \"x=a b\"\n");
        root.write("usr/lib/kernel/cmdline", "rd.debug\n");
        root.write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=UUID=1 rd.lvm.lv=\"a/b\" rhgb\n");
        let found = findings(&Source::open(root.path()).unwrap()).unwrap();
        let settings: Vec<&str> = found.iter().map(|finding| finding.setting.as_str()).collect();
        assert_eq!(settings, ["rd.lvm.lv=a/b", "rhgb"]);
        assert_eq!(found[1].place, Place::file("/proc/cmdline"));
    }

    #[test]
    fn what_dracut_kept_in_the_initrd_has_to_be_on_the_command_line() {
        let root = Fixture::new();
        root.write("etc/kernel/cmdline", "root=UUID=1 quiet\n");
        let source = Source::open(root.path()).unwrap();
        let place = Place::file("/etc/dracut.conf");
        let found = in_initrd(&source, &place, "\"quiet\" ro rd.auto=1 'rd.break'").unwrap();
        let outcomes: Vec<Outcome> = found.iter().map(|finding| finding.outcome).collect();
        assert_eq!(outcomes, [AsBefore, ByHand, NotNeeded, ByHand]);
    }

    #[test]
    fn quotes_hide_no_option() {
        let root = Fixture::new();
        root.write("proc/cmdline", "\"rd.break\" rd.luks.'allow-discards' \"root=/dev/a\" rd.debug=\"a b\"\n");
        let source = Source::open(root.path()).unwrap();
        let found = findings(&source).unwrap();
        let settings: Vec<&str> = found.iter().map(|finding| finding.setting.as_str()).collect();
        assert_eq!(settings, ["rd.break", "rd.luks.allow-discards", "rd.debug=a b"]);
        assert!(found[0].text.contains("rd.systemd.debug_shell") && says_root(&source).unwrap());
    }
}
