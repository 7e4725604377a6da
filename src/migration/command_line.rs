//! Options of the kernel that an initrd reads: what each means in one of systemd, and what takes the place of those that only
//! another generator knows; `kernel-command-line(7)`, `dracut.cmdline(7)`, mkinitcpio's hooks.

use anyhow::Result;

use super::finding::{Finding, Outcome, Place};
use super::source::Source;

/// Where the options of kernels that are installed later are, and those of the one that runs.
const FILES: [&str; 3] = ["/etc/kernel/cmdline", "/usr/lib/kernel/cmdline", "/proc/cmdline"];

use Outcome::{AsBefore, ByHand, NotNeeded};

const CRYPT: &str = "systemd-cryptsetup-generator reads it";
const NETWORK: &str = "systemd-network-generator reads it, in a base that was built with --profile network";
const CONSOLE: &str = "systemd-vconsole-setup reads it, in a base that was built with --profile vconsole";
const UDEV_LVM: &str = "udev activates each volume group whose disks are there, in a base with lvm";
const UDEV_MD: &str = "udev assembles each array whose disks are there, in a base with mdadm";
const UNSUPPORTED: &str = "nothing takes its place: leave a machine that needs it with the old generator";
const LIVE: &str = "starting from a live image is not supported";
const SHELL: &str = "say rd.systemd.debug_shell for a shell on the ninth console, or rd.systemd.unit=emergency.target";

/// By the name of an option, or the beginning of it if that ends in `*`. The first that fits counts.
const OPTIONS: &[(&str, Outcome, &str)] = &[
    ("rd.luks.allow-discards", ByHand, "say rd.luks.options=discard, or discard in /etc/crypttab"),
    ("rd.luks.timeout", ByHand, "say rd.luks.options=timeout=SECONDS"),
    ("rd.luks.key.tout", ByHand, "say rd.luks.options=keyfile-timeout=SECONDS"),
    ("rd.luks.partuuid", ByHand, "say rd.luks.name=UUID=NAME with the UUID of the volume's header"),
    ("rd.luks.serial", ByHand, "say rd.luks.name=UUID=NAME with the UUID of the volume's header"),
    ("rd.luks.uuid", AsBefore, CRYPT),
    ("rd.luks.name", AsBefore, CRYPT),
    ("rd.luks.key", AsBefore, CRYPT),
    ("rd.luks.data", AsBefore, CRYPT),
    ("rd.luks.options", AsBefore, CRYPT),
    ("rd.luks.crypttab", AsBefore, CRYPT),
    ("rd.luks", AsBefore, CRYPT),
    ("rd.luks.*", ByHand, "systemd knows no such option: see systemd-cryptsetup-generator(8)"),
    ("rd.lvm", NotNeeded, UDEV_LVM),
    ("rd.lvm.*", NotNeeded, UDEV_LVM),
    ("rd.md", NotNeeded, UDEV_MD),
    ("rd.md.*", NotNeeded, UDEV_MD),
    ("rd.dm", NotNeeded, "RAID of the firmware is md's, in a base with mdadm; no base has dmraid"),
    ("rd.dm.*", ByHand, "no base has dmraid: RAID of Intel's and of DDF is md's as well"),
    ("rd.auto", NotNeeded, "what is there is assembled"),
    ("rd.multipath", NotNeeded, "/etc/multipath.conf goes in where it is there, in a base with multipath"),
    ("rd.driver.blacklist", ByHand, "say module_blacklist=NAME"),
    ("rd.driver.pre", ByHand, "say rd.modules_load=NAME"),
    ("rd.driver.post", ByHand, "say rd.modules_load=NAME"),
    ("rd.driver.*", NotNeeded, "it is about dracut's own programs"),
    ("rd.modules_load", AsBefore, "systemd-modules-load reads it; name the module in modules"),
    ("rd.vconsole.*", AsBefore, CONSOLE),
    ("vconsole.*", AsBefore, CONSOLE),
    ("rd.locale.*", NotNeeded, "messages of an initrd are in English"),
    ("rd.udev.info", ByHand, "say rd.udev.log_level=info"),
    ("rd.udev.debug", ByHand, "say rd.udev.log_level=debug"),
    ("rd.udev.*", AsBefore, "systemd-udevd reads it"),
    ("rd.systemd.*", AsBefore, "systemd reads it"),
    ("rd.veritytab", AsBefore, "systemd-veritysetup-generator reads it"),
    ("rd.fstab", AsBefore, "systemd-fstab-generator reads it"),
    ("rd.rescue", AsBefore, "systemd reads it"),
    ("rd.shell", ByHand, SHELL),
    ("rd.break", ByHand, SHELL),
    ("rd.debug", ByHand, "say rd.systemd.log_level=debug"),
    ("rd.info", ByHand, "say rd.systemd.show_status=1"),
    ("rd.memdebug", NotNeeded, "it is about dracut's own programs"),
    ("rd.cmdline", ByHand, "the boot loader's menu edits options"),
    ("rd.timeout", ByHand, "say rootflags=x-systemd.device-timeout=SECONDS"),
    ("rd.retry", NotNeeded, "systemd waits for devices by their events"),
    ("rd.skipfsck", ByHand, "say fsck.mode=skip"),
    ("rd.hostonly", NotNeeded, "nothing of the machine's configuration is in the initrd but what it needs"),
    ("rd.ctty", NotNeeded, "it is about dracut's own shell"),
    ("rd.shutdown.*", NotNeeded, "the system shuts down by itself"),
    ("rd.plymouth", NotNeeded, "there is no plymouth in a base that was built without it"),
    (
        "rd.neednet",
        NotNeeded,
        "the network is waited for where a file system needs it, in a base with the profile network",
    ),
    ("rd.route", AsBefore, NETWORK),
    ("rd.peerdns", AsBefore, NETWORK),
    ("rd.bootif", NotNeeded, "ip= and ifname= say which card"),
    ("rd.net.*", ByHand, "there is no such time limit: files of systemd.network(5) in a base say others"),
    ("rd.znet*", ByHand, UNSUPPORTED),
    ("rd.nfs.domain", ByHand, "say Domain in /etc/idmapd.conf, and files = [\"/etc/idmapd.conf\"]"),
    ("rd.iscsi.*", ByHand, UNSUPPORTED),
    ("rd.fcoe", ByHand, UNSUPPORTED),
    ("rd.nvmf.*", ByHand, UNSUPPORTED),
    ("rd.nonvmf", NotNeeded, "no base has NVMe over networks"),
    ("rd.dasd", ByHand, UNSUPPORTED),
    ("rd.zfcp*", ByHand, UNSUPPORTED),
    ("rd.zipl", ByHand, UNSUPPORTED),
    ("rd.fips*", ByHand, "the check of a kernel in FIPS mode is not in the base: leave such a machine with dracut"),
    ("rd.live.*", ByHand, LIVE),
    ("rd.overlay*", ByHand, LIVE),
    ("rd.writable.*", ByHand, LIVE),
    ("rd.noverifyssl", ByHand, LIVE),
    ("rd.minmem", ByHand, LIVE),
    ("rd.*", ByHand, "not known here, and not to systemd: see dracut.cmdline(7) for what it was for"),
    ("rootfallback", ByHand, UNSUPPORTED),
    ("netroot", ByHand, UNSUPPORTED),
    ("nfsroot", ByHand, "say root=SERVER:PATH rootfstype=nfs, in a base with the profile nfs"),
    ("cryptdevice", ByHand, "that of mkinitcpio's hook encrypt: say rd.luks.name=UUID=NAME"),
    ("cryptkey", ByHand, "that of mkinitcpio's hook encrypt: say rd.luks.key=PATH:DEVICE"),
    ("cryptopts", ByHand, "that of Debian's cryptroot: say rd.luks.name=UUID=NAME"),
    ("break", ByHand, SHELL),
    ("rootdelay", NotNeeded, "systemd waits for devices by their events"),
    ("resume_offset", AsBefore, "systemd-hibernate-resume-generator reads it"),
    ("resume", AsBefore, "systemd-hibernate-resume-generator reads it"),
    ("noresume", AsBefore, "systemd-hibernate-resume-generator reads it"),
    ("ip", AsBefore, NETWORK),
    ("nameserver", AsBefore, NETWORK),
    ("vlan", AsBefore, NETWORK),
    ("bond", AsBefore, NETWORK),
    ("bridge", AsBefore, NETWORK),
    ("ifname", AsBefore, NETWORK),
    ("rhgb", NotNeeded, "the picture is plymouth's, in a base that was built with --profile plymouth"),
    ("splash", NotNeeded, "the picture is plymouth's, in a base that was built with --profile plymouth"),
];

/// What becomes of the options of the kernels of a machine, as far as an initrd reads them.
///
/// # Errors
/// Fails on a file that cannot be read.
pub fn findings(source: &Source<'_>) -> Result<Vec<Finding>> {
    let mut findings: Vec<Finding> = Vec::new();
    for file in FILES {
        let place = Place::file(file);
        for word in words(&source.text(file)?.unwrap_or_default()) {
            let is_known = findings.iter().any(|finding| finding.setting == word);
            findings.extend(of_option(&place, &word).filter(|_| !is_known));
        }
    }
    Ok(findings)
}

/// Whether an option says which root to mount.
///
/// # Errors
/// Fails on a file that cannot be read.
pub fn says_root(source: &Source<'_>) -> Result<bool> {
    for file in FILES {
        let text = source.text(file)?.unwrap_or_default();
        if words(&text).iter().any(|word| word.starts_with("root=") || word.starts_with("roothash=")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What becomes of an option that dracut kept in the initrd: it has to be on the kernel's command line.
pub(super) fn in_initrd(source: &Source<'_>, place: &Place, word: &str) -> Finding {
    let is_there = FILES
        .iter()
        .any(|file| source.text(file).ok().flatten().is_some_and(|text| words(&text).contains(&word.to_owned())));
    let known = of_option(place, word);
    let shown = format!("kernel_cmdline: {word}");
    match known {
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
fn of_option(place: &Place, word: &str) -> Option<Finding> {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    // `_` and `-` are the same in names.
    let name = name.replace('-', "_");
    let finding = |outcome, text: &str| Some(Finding::new(place, word, outcome, text));
    match name.as_str() {
        "root" => return root(value).and_then(|text| finding(ByHand, text)),
        "rd.luks.uuid" | "rd.luks.name" if !names_volume(value) => {
            return finding(ByHand, "systemd takes the whole UUID of a volume's header: rd.luks.name=UUID=NAME");
        }
        "rd.luks.key" if value.matches(':').count() > 1 => {
            return finding(ByHand, "systemd puts the volume in front: rd.luks.key=UUID=PATH:DEVICE");
        }
        "rd.emergency" if value.is_empty() => return finding(AsBefore, "systemd reads it"),
        "rd.emergency" => {
            return finding(ByHand, "nothing takes its place: an initrd that fails goes to emergency.target");
        }
        _ => {}
    }
    let fits = |pattern: &str| {
        let pattern = pattern.replace('-', "_");
        pattern.strip_suffix('*').map_or(name == pattern, |beginning| name.starts_with(beginning))
    };
    let (_, outcome, text) = OPTIONS.iter().find(|(pattern, ..)| fits(pattern))?;
    finding(*outcome, text)
}

/// What is wrong with a root, if systemd does not mount it.
fn root(value: &str) -> Option<&'static str> {
    let (kind, _) = value.split_once(':').unwrap_or(("", value));
    Some(match kind {
        "live" | "http" | "https" | "ftp" | "torrent" => LIVE,
        "nfs" | "nfs4" => "say root=SERVER:PATH rootfstype=nfs, in a base with the profile nfs",
        "block" => "leave block: out",
        "virtiofs" => "say root=TAG rootfstype=virtiofs",
        "iscsi" | "nbd" | "fcoe" | "cifs" | "ZFS" | "zfs" => UNSUPPORTED,
        _ if value == "dhcp" || value == "dhcp6" || value == "/dev/nfs" => {
            "say root=SERVER:PATH rootfstype=nfs, in a base with the profile nfs"
        }
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

/// The options of a text; comments of `/etc/kernel/cmdline` are none.
fn words(text: &str) -> Vec<String> {
    let mut is_quoted = false;
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let text = lines.collect::<Vec<_>>().join(" ");
    let words = text.split(|character: char| {
        is_quoted ^= character == '"';
        character.is_ascii_whitespace() && !is_quoted
    });
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fixture::Fixture;

    fn told(word: &str) -> Option<(Outcome, String)> {
        of_option(&Place::file("/proc/cmdline"), word).map(|finding| (finding.outcome, finding.text))
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
        root.write("etc/kernel/cmdline", "# rd.break\nroot=UUID=1 rd.lvm.lv=a/b \"rd.x=a b\"\n");
        root.write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=UUID=1 rd.lvm.lv=a/b rhgb\n");
        let found = findings(&Source::new(root.path())).unwrap();
        let settings: Vec<&str> = found.iter().map(|finding| finding.setting.as_str()).collect();
        assert_eq!(settings, ["rd.lvm.lv=a/b", "rhgb"]);
        assert_eq!(found[1].place, Place::file("/proc/cmdline"));
    }

    #[test]
    fn what_dracut_kept_in_the_initrd_has_to_be_on_the_command_line() {
        let root = Fixture::new();
        root.write("etc/kernel/cmdline", "root=UUID=1 quiet\n");
        let source = Source::new(root.path());
        let outcome = |word| in_initrd(&source, &Place::file("/etc/dracut.conf"), word).outcome;
        assert_eq!(
            [outcome("quiet"), outcome("ro"), outcome("rd.auto=1"), outcome("rd.break")],
            [AsBefore, ByHand, NotNeeded, ByHand]
        );
    }
}
