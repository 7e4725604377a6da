//! The configuration of Debian's initramfs-tools: its files in, what becomes of each setting out; `initramfs.conf(5)`.
//!
//! mkinitramfs reads `/etc/initramfs-tools/initramfs.conf`, then what packages have in `/usr/share/initramfs-tools/conf.d`, then
//! `/etc/initramfs-tools/conf.d`, each in the order of the names, and last `conf-hooks.d` of packages.

use std::collections::BTreeSet;

use anyhow::Result;

use super::finding::{Carried, Finding, Outcome, Place};
use super::settings::{File, Setting, Settings};
use super::shell::Value;
use super::source::Source;
use super::table;
use super::texts;

const DIRECTORY: &str = "/etc/initramfs-tools";
/// What packages say. A file of its name in the administrator's directory takes its place.
const DISTRIBUTION: &str = "/usr/share/initramfs-tools";
const CRYPTSETUP: &str = "/etc/cryptsetup-initramfs/conf-hook";

/// What the package's own configuration says; that is nobody's wish.
const DEFAULTS: [(&str, &str); 13] = [
    ("MODULES", "most"),
    ("BUSYBOX", "auto"),
    ("KEYMAP", "n"),
    ("COMPRESS", "zstd"),
    ("COMPRESS", "gzip"),
    ("COMPRESS", "lz4"),
    ("DEVICE", ""),
    ("NFSROOT", "auto"),
    ("RUNSIZE", "10%"),
    ("FSTYPE", "auto"),
    ("BOOT", "local"),
    ("update_initramfs", "yes"),
    ("backup_initramfs", "no"),
];

/// Whether initramfs-tools is installed. Later versions of dracut have an update-initramfs too, and `mkinitramfs` alone is in a
/// package that writes nothing to `/boot`.
pub fn is_there(source: &Source) -> bool {
    ["/usr/sbin/update-initramfs", "/usr/sbin/mkinitramfs"].iter().all(|path| source.has(path))
}

/// What becomes of its configuration. What is carried over is added to `carried`.
///
/// # Errors
/// Fails on a file that cannot be read.
pub fn findings(source: &Source, carried: &mut Carried) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    // update-initramfs and the hook of cryptsetup read these by themselves, and nothing of mkinitramfs'.
    let update = vec![File::own(format!("{DIRECTORY}/update-initramfs.conf"))];
    let cryptsetup = vec![File::own(CRYPTSETUP)];
    findings.extend(of_files(source, &files(source)?, carried)?);
    findings.extend(of_files(source, &update, carried)?);
    modules(source, carried, &mut findings)?;
    scripts(source, &mut findings)?;
    findings.extend(of_files(source, &cryptsetup, carried)?);
    if source.has("/etc/dropbear/initramfs") || source.has("/etc/dropbear-initramfs") {
        let text = "there is no SSH in the initrd: keys are passphrases, files, TPM2, FIDO2 or PKCS#11";
        findings.push(Finding::new(&Place::file("/etc/dropbear/initramfs"), "dropbear", Outcome::ByHand, text));
    }
    Ok(findings)
}

/// The files that mkinitramfs reads, in its order.
fn files(source: &Source) -> Result<Vec<File>> {
    let own = format!("{DIRECTORY}/conf.d");
    let hidden: BTreeSet<String> =
        source.names(&own)?.into_iter().filter(|name| source.has_entry(&format!("{own}/{name}"))).collect();
    let is_read = |name: &str| is_read(name) && !hidden.contains(name);
    let of_packages = source.drop_ins(&[&format!("{DISTRIBUTION}/conf.d")], is_read)?;
    let of_hooks = source.drop_ins(&[&format!("{DISTRIBUTION}/conf-hooks.d")], |name| !name.starts_with('.'))?;
    let of_distribution = |path| File { path, by_distribution: true };
    let mut files = vec![File::own(format!("{DIRECTORY}/initramfs.conf"))];
    files.extend(of_packages.into_iter().map(of_distribution));
    files.extend(source.drop_ins(&[&own], self::is_read)?.into_iter().map(File::own));
    files.extend(of_hooks.into_iter().map(of_distribution));
    Ok(files)
}

/// Whether mkinitramfs reads a file of this name.
fn is_read(name: &str) -> bool {
    let is_usual = |character: char| character.is_alphanumeric() || "._-".contains(character);
    name.starts_with(char::is_alphanumeric) && name.chars().all(is_usual) && !name.contains(".dpkg-")
}

/// What becomes of the settings that are read together.
fn of_files(source: &Source, files: &[File], carried: &mut Carried) -> Result<Vec<Finding>> {
    let is_default = |setting: &Setting| {
        let text = setting.value.text();
        DEFAULTS.iter().any(|(name, value)| setting.name == *name && text.as_deref() == Some(value))
    };
    let settings = Settings::read(source, files)?.with_defaults(is_default);
    settings.findings(carried, |setting, carried| Ok(vec![of_setting(setting, carried)]))
}

use Outcome::{AsBefore, ByHand, CarriedOver, NotNeeded};

const KEYMAP: &str = "it takes a base that was built with --profile vconsole, and KEYMAP= in /etc/vconsole.conf";
const CARD: &str = "ip= on the kernel's command line says which card, in a base with the profile network";
const KEYS: &str = "lines of /etc/crypttab with x-initrd.attach bring the keys that they name";
const UMASK: &str = "what is made is readable by root alone until a boot loader's partition says otherwise";
const TYPE: &str = "say rootfstype= on the kernel's command line";
const OUTPUT: &str = "it is about what initramfs-tools makes";
const LISTED: &str = "those of /etc/initramfs-tools/modules, beside those that the machine needs";
const NO_RESUME: &str = "say noresume on the kernel's command line";
const FIRMWARE: &str = "systemd tells the firmware where it hibernates to";
const RESUME: &str = "say resume= on the kernel's command line; without it systemd takes what it told the firmware";

/// What settings mean whatever they say.
const SETTINGS: &[(&str, (Outcome, &str))] = &[
    ("KEYMAP", (ByHand, KEYMAP)),
    ("BOOT NFSROOT", (ByHand, texts::NFS_ROOT)),
    ("DEVICE", (ByHand, CARD)),
    ("KEYFILE_PATTERN", (ByHand, KEYS)),
    ("CRYPTSETUP", (AsBefore, "the base has cryptsetup")),
    ("UMASK", (NotNeeded, UMASK)),
    ("FSTYPE", (ByHand, TYPE)),
    ("BUSYBOX COMPRESS COMPRESSLEVEL RUNSIZE DPKG_ARCH FRAMEBUFFER ASKPASS PLYMOUTH", (NotNeeded, OUTPUT)),
    ("update_initramfs backup_initramfs", (NotNeeded, OUTPUT)),
];

fn of_setting(setting: &Setting, carried: &mut Carried) -> Finding {
    let value = match &setting.value {
        Value::Unknown(reason) => return setting.finding(Outcome::NotRead, *reason),
        value => value.text().unwrap_or_default(),
    };
    let (outcome, text) = match (setting.name.as_str(), value.as_str()) {
        ("MODULES", "dep") => (AsBefore, texts::SCOPE_HOST),
        ("MODULES", "list") => (CarriedOver, LISTED),
        ("MODULES", _) => {
            carried.is_generic = true;
            (CarriedOver, texts::SCOPE_GENERIC)
        }
        ("RESUME", "none" | "") => (ByHand, NO_RESUME),
        ("RESUME", "auto") => (AsBefore, FIRMWARE),
        ("RESUME", _) => (ByHand, RESUME),
        (name, _) => {
            let unknown = (ByHand, "no setting that is known here: see initramfs.conf(5)");
            table::find(SETTINGS, name).unwrap_or(unknown)
        }
    };
    setting.finding(outcome, text)
}

/// Modules that are loaded first, a line each, with options behind.
fn modules(source: &Source, carried: &mut Carried, findings: &mut Vec<Finding>) -> Result<()> {
    let path = format!("{DIRECTORY}/modules");
    for (number, line) in source.text(&path)?.unwrap_or_default().lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let mut words = line.split_ascii_whitespace();
        let Some(module) = words.next() else { continue };
        carried.modules.insert(module.to_owned());
        let place = Place::line(&path, number + 1);
        let text =
            format!("modules = [\"{module}\"]; to load it before udev asks for it, say rd.modules_load={module}");
        findings.push(Finding::new(&place, line, Outcome::CarriedOver, text));
        if words.next().is_some() {
            let text = format!("options of a module are {module}.NAME=VALUE on the kernel's command line");
            findings.push(Finding::new(&place, line, Outcome::ByHand, text));
        }
    }
    Ok(())
}

/// Hooks and scripts of the administrator's.
fn scripts(source: &Source, findings: &mut Vec<Finding>) -> Result<()> {
    let mut directories = vec![format!("{DIRECTORY}/hooks")];
    directories.extend(
        source.names(&format!("{DIRECTORY}/scripts"))?.into_iter().map(|name| format!("{DIRECTORY}/scripts/{name}")),
    );
    for directory in directories {
        for name in source.names(&directory)? {
            let path = format!("{directory}/{name}");
            if !source.path(&path).is_dir() {
                let text = "scripts of initramfs-tools do not run: what it installs goes into files, what it does into a unit of a base";
                findings.push(Finding::new(&Place::file(&path), name, Outcome::ByHand, text));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    #[test]
    fn what_the_package_says_is_nobody_s_wish_and_the_rest_is_told() {
        let root = Fixture::new();
        root.write(
            "etc/initramfs-tools/initramfs.conf",
            "# c\nMODULES=most\n\nBUSYBOX=auto\nKEYMAP=n\nCOMPRESS=xz\nDEVICE=\nUMASK=0077\n",
        );
        root.write("etc/initramfs-tools/conf.d/resume", "RESUME=UUID=1\n");
        root.write("etc/initramfs-tools/conf.d/driver-policy", "MODULES=dep\n");
        root.write("etc/initramfs-tools/modules", "# List\n\nnvme\nvfio-pci ids=1:2 # card\n");
        root.write("etc/initramfs-tools/hooks/mine", "").directory("etc/initramfs-tools/scripts/init-top");
        root.write("etc/initramfs-tools/scripts/local-top/mine", "");
        root.write("etc/cryptsetup-initramfs/conf-hook", "KEYFILE_PATTERN=\"/etc/keys/*.key\"\n");
        let mut carried = Carried::default();
        let found = findings(&Source::open(root.path()).unwrap(), &mut carried).unwrap();
        let told = |finding: &Finding| format!("{} {}: {}", finding.place, finding.setting, finding.outcome);
        let (theirs, ours): (Vec<&Finding>, Vec<&Finding>) = found.iter().partition(|finding| finding.by_distribution);
        assert_eq!(theirs.len(), 4, "{theirs:?}");
        assert_eq!(
            ours.into_iter().map(told).collect::<Vec<_>>(),
            [
                "/etc/initramfs-tools/initramfs.conf:6 COMPRESS=\"xz\": not needed",
                "/etc/initramfs-tools/initramfs.conf:8 UMASK=\"0077\": not needed",
                "/etc/initramfs-tools/conf.d/driver-policy:1 MODULES=\"dep\": as before",
                "/etc/initramfs-tools/conf.d/resume:1 RESUME=\"UUID=1\": by hand",
                "/etc/initramfs-tools/modules:3 nvme: carried over",
                "/etc/initramfs-tools/modules:4 vfio-pci ids=1:2: carried over",
                "/etc/initramfs-tools/modules:4 vfio-pci ids=1:2: by hand",
                "/etc/initramfs-tools/hooks/mine mine: by hand",
                "/etc/initramfs-tools/scripts/local-top/mine mine: by hand",
                "/etc/cryptsetup-initramfs/conf-hook:1 KEYFILE_PATTERN=\"/etc/keys/*.key\": by hand",
            ]
        );
        assert_eq!(carried.modules, ["nvme", "vfio-pci"].map(str::to_owned).into());
        assert!(!carried.is_generic);
    }

    #[test]
    fn later_files_count_and_what_mkinitramfs_does_not_read_is_passed_over() {
        let root = Fixture::new();
        root.write("etc/initramfs-tools/initramfs.conf", "MODULES=netboot\nRESUME=/dev/a\nUMASK=0077\nKEYMAP=y\n");
        root.write("usr/share/initramfs-tools/conf.d/a", "MODULES=list\n")
            .write("usr/share/initramfs-tools/conf.d/b", "BOOT=nfs\n");
        root.write("etc/initramfs-tools/conf.d/b", "MODULES=dep\n")
            .write("etc/initramfs-tools/conf.d/resume", "RESUME=none\n");
        root.directory("etc/initramfs-tools/conf.d/old")
            .write("etc/initramfs-tools/conf.d/x.dpkg-old", "MODULES=most\n");
        root.write("etc/initramfs-tools/conf.d/.y", "MODULES=most\n").link("etc/initramfs-tools/conf.d/z", "gone");
        root.write("usr/share/initramfs-tools/conf-hooks.d/k", "KEYMAP=n\n");
        // Another program reads this one.
        root.write("etc/initramfs-tools/update-initramfs.conf", "UMASK=0022\n");
        let mut carried = Carried::default();
        let found = findings(&Source::open(root.path()).unwrap(), &mut carried).unwrap();
        assert!(!carried.is_generic, "{found:?}");
        let told = |finding: &Finding| {
            format!("{} {}: {}, {}", finding.place.file, finding.setting, finding.outcome, finding.text)
        };
        let own: Vec<String> = found.iter().filter(|found| !found.by_distribution).map(told).collect();
        assert_eq!(
            own,
            [
                "/etc/initramfs-tools/initramfs.conf MODULES=\"netboot\": not needed, /etc/initramfs-tools/conf.d/b:1 sets it anew".to_owned(),
                "/etc/initramfs-tools/initramfs.conf RESUME=\"/dev/a\": not needed, /etc/initramfs-tools/conf.d/resume:1 sets it anew".to_owned(),
                format!("/etc/initramfs-tools/initramfs.conf UMASK=\"0077\": not needed, {UMASK}"),
                "/etc/initramfs-tools/initramfs.conf KEYMAP=\"y\": not needed, /usr/share/initramfs-tools/conf-hooks.d/k:1 sets it anew".to_owned(),
                format!("/etc/initramfs-tools/conf.d/b MODULES=\"dep\": as before, {}", texts::SCOPE_HOST),
                format!("/etc/initramfs-tools/conf.d/resume RESUME=\"none\": by hand, {NO_RESUME}"),
                format!("/etc/initramfs-tools/update-initramfs.conf UMASK=\"0022\": not needed, {UMASK}"),
            ]
        );
    }
}
