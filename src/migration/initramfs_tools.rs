//! The configuration of Debian's initramfs-tools: its files in, what becomes of each setting out; `initramfs.conf(5)`.

use anyhow::Result;

use super::finding::{Carried, Finding, Outcome, Place};
use super::shell::{self, Kind, Value};
use super::source::Source;

const DIRECTORY: &str = "/etc/initramfs-tools";

/// What the package's own configuration says; that is nobody's wish.
const DEFAULTS: [(&str, &str); 12] = [
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
];

/// Whether initramfs-tools is installed.
pub fn is_there(source: &Source<'_>) -> bool {
    source.has("/usr/sbin/update-initramfs")
}

/// What becomes of its configuration. What is carried over is added to `carried`.
///
/// # Errors
/// Fails on a file that cannot be read.
pub fn findings(source: &Source<'_>, carried: &mut Carried) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let main = ["initramfs.conf", "update-initramfs.conf"].map(|name| format!("{DIRECTORY}/{name}"));
    let drop_ins =
        source.names(&format!("{DIRECTORY}/conf.d"))?.into_iter().map(|name| format!("{DIRECTORY}/conf.d/{name}"));
    for path in main.into_iter().chain(drop_ins) {
        settings(source, &path, carried, &mut findings)?;
    }
    modules(source, carried, &mut findings)?;
    scripts(source, &mut findings)?;
    settings(source, "/etc/cryptsetup-initramfs/conf-hook", carried, &mut findings)?;
    if source.has("/etc/dropbear/initramfs") || source.has("/etc/dropbear-initramfs") {
        let text = "there is no SSH in the initrd: keys are passphrases, files, TPM2, FIDO2 or PKCS#11";
        findings.push(Finding::new(&Place::file("/etc/dropbear/initramfs"), "dropbear", Outcome::ByHand, text));
    }
    Ok(findings)
}

fn settings(source: &Source<'_>, path: &str, carried: &mut Carried, findings: &mut Vec<Finding>) -> Result<()> {
    for statement in shell::statements(&source.text(path)?.unwrap_or_default()) {
        let place = Place::line(path, statement.line);
        findings.push(match statement.kind {
            Kind::Assignment { name, value: Value::Text(value), .. } => of_setting(&place, &name, &value, carried),
            Kind::Assignment { name, .. } => {
                Finding::new(&place, name, Outcome::NotRead, "only a shell can tell the value")
            }
            Kind::Other(reason) => Finding::new(&place, statement.text, Outcome::NotRead, reason),
        });
    }
    Ok(())
}

fn of_setting(place: &Place, name: &str, value: &str, carried: &mut Carried) -> Finding {
    use Outcome::{AsBefore, ByHand, CarriedOver, NotNeeded};
    let finding = |outcome, text: &str| Finding::new(place, format!("{name}={value}"), outcome, text);
    if DEFAULTS.contains(&(name, value)) {
        let mut finding = finding(NotNeeded, "");
        finding.is_distribution_s();
        return finding;
    }
    match name {
        "MODULES" if value == "dep" => finding(AsBefore, "modules are for this machine unless scope says otherwise"),
        "MODULES" if value == "list" => {
            finding(CarriedOver, "those of /etc/initramfs-tools/modules, beside those that the machine needs")
        }
        "MODULES" => {
            carried.is_generic = true;
            finding(CarriedOver, "scope = \"generic\": modules for any machine, as the base was built for")
        }
        "KEYMAP" => {
            finding(ByHand, "it takes a base that was built with --profile vconsole, and KEYMAP= in /etc/vconsole.conf")
        }
        "RESUME" if ["none", ""].contains(&value) => finding(ByHand, "say noresume on the kernel's command line"),
        "RESUME" if value == "auto" => finding(AsBefore, "systemd tells the firmware where it hibernates to"),
        "RESUME" => finding(
            ByHand,
            "say resume= on the kernel's command line; without it systemd takes what it told the firmware",
        ),
        "BOOT" | "NFSROOT" => finding(
            ByHand,
            "say root=SERVER:PATH rootfstype=nfs on the kernel's command line, in a base with the profile nfs",
        ),
        "DEVICE" => {
            finding(ByHand, "ip= on the kernel's command line says which card, in a base with the profile network")
        }
        "KEYFILE_PATTERN" => {
            finding(ByHand, "lines of /etc/crypttab with x-initrd.attach bring the keys that they name")
        }
        "CRYPTSETUP" => finding(AsBefore, "the base has cryptsetup"),
        "UMASK" => {
            finding(NotNeeded, "what is made is readable by root alone until a boot loader's partition says otherwise")
        }
        "FSTYPE" => finding(ByHand, "say rootfstype= on the kernel's command line"),
        "BUSYBOX" | "COMPRESS" | "COMPRESSLEVEL" | "RUNSIZE" | "DPKG_ARCH" | "update_initramfs"
        | "backup_initramfs" | "FRAMEBUFFER" | "ASKPASS" | "PLYMOUTH" => {
            finding(NotNeeded, "it is about what initramfs-tools makes")
        }
        _ => finding(ByHand, "no setting that is known here: see initramfs.conf(5)"),
    }
}

/// Modules that are loaded first, a line each, with options behind.
fn modules(source: &Source<'_>, carried: &mut Carried, findings: &mut Vec<Finding>) -> Result<()> {
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
fn scripts(source: &Source<'_>, findings: &mut Vec<Finding>) -> Result<()> {
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
    use crate::machine::fixture::Fixture;

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
        let found = findings(&Source::new(root.path()), &mut carried).unwrap();
        let told = |finding: &Finding| format!("{} {}: {}", finding.place, finding.setting, finding.outcome);
        let (theirs, ours): (Vec<&Finding>, Vec<&Finding>) = found.iter().partition(|finding| finding.by_distribution);
        assert_eq!(theirs.len(), 4, "{theirs:?}");
        assert_eq!(
            ours.into_iter().map(told).collect::<Vec<_>>(),
            [
                "/etc/initramfs-tools/initramfs.conf:6 COMPRESS=xz: not needed",
                "/etc/initramfs-tools/initramfs.conf:8 UMASK=0077: not needed",
                "/etc/initramfs-tools/conf.d/driver-policy:1 MODULES=dep: as before",
                "/etc/initramfs-tools/conf.d/resume:1 RESUME=UUID=1: by hand",
                "/etc/initramfs-tools/modules:3 nvme: carried over",
                "/etc/initramfs-tools/modules:4 vfio-pci ids=1:2: carried over",
                "/etc/initramfs-tools/modules:4 vfio-pci ids=1:2: by hand",
                "/etc/initramfs-tools/hooks/mine mine: by hand",
                "/etc/initramfs-tools/scripts/local-top/mine mine: by hand",
                "/etc/cryptsetup-initramfs/conf-hook:1 KEYFILE_PATTERN=/etc/keys/*.key: by hand",
            ]
        );
        assert_eq!(carried.modules, ["nvme", "vfio-pci"].map(str::to_owned).into());
        assert!(!carried.is_generic);
    }
}
