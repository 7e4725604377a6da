//! The configuration of Arch's mkinitcpio: its files in, what becomes of each setting out; `mkinitcpio.conf(5)`.
//!
//! `/etc/mkinitcpio.conf` comes first, then the files `*.conf` of `/etc/mkinitcpio.conf.d` in the order of the numbers in their names.

use anyhow::Result;

use super::finding::{self, Carried, Finding, Outcome, Place};
use super::install_items::{self, Presence};
use super::settings::{File, Setting, Settings};
use super::shell::{self, Kind, Value};
use super::source::Source;
use super::table;
use super::texts;

const MAIN: &str = "/etc/mkinitcpio.conf";
const DROP_INS: &str = "/etc/mkinitcpio.conf.d";
const PRESETS: &str = "/etc/mkinitcpio.d";

/// Whether mkinitcpio is installed.
pub fn is_there(source: &Source) -> bool {
    source.has("/usr/bin/mkinitcpio")
}

/// What becomes of its configuration. What is carried over is added to `carried`.
///
/// # Errors
/// Fails on a file that cannot be read.
pub fn findings(source: &Source, carried: &mut Carried) -> Result<Vec<Finding>> {
    // It takes hidden files too, as find(1) gives them.
    let drop_ins = source.numbered_drop_ins(&[DROP_INS], |name| name.ends_with(".conf"))?;
    let files: Vec<File> = [MAIN.to_owned()].into_iter().chain(drop_ins.iter().cloned()).map(File::own).collect();
    let settings = Settings::read(source, &files)?;
    let mut findings = settings.findings(carried, |setting, carried| Ok(of_setting(source, setting, carried)))?;
    for name in source.names(PRESETS)?.into_iter().filter(|name| name.ends_with(".preset")) {
        findings.extend(of_preset(source, &format!("{PRESETS}/{name}"), !drop_ins.is_empty())?);
    }
    Ok(findings)
}

/// What a preset says that is more than the names of files.
fn of_preset(source: &Source, path: &str, has_drop_ins: bool) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut makes_images = false;
    for statement in shell::statements(&source.text(path)?.unwrap_or_default()) {
        let Kind::Assignment { name, value, .. } = &statement.kind else { continue };
        let text = match value.text() {
            _ if name.ends_with("_uki") && !makes_images => {
                makes_images = true;
                texts::UNIFIED.to_owned()
            }
            Some(configuration) if name.ends_with("_config") && configuration == MAIN && has_drop_ins => {
                format!("mkinitcpio reads {MAIN} alone for it, and nothing of {DROP_INS}, which is told above")
            }
            Some(configuration) if name.ends_with("_config") && configuration != MAIN && !configuration.is_empty() => {
                format!(
                    "{configuration} is not read here: if it adds a module or a file, say so in /etc/ocinitrd/*.toml"
                )
            }
            _ => continue,
        };
        findings.push(Finding::new(&Place::line(path, statement.line), statement.text, Outcome::ByHand, text));
    }
    Ok(findings)
}

fn of_setting(source: &Source, setting: &Setting, carried: &mut Carried) -> Vec<Finding> {
    let words = match &setting.value {
        Value::Unknown(reason) => return vec![setting.finding(Outcome::NotRead, *reason)],
        value => value.words().unwrap_or_default(),
    };
    match setting.name.as_str() {
        _ if words.is_empty() => Vec::new(),
        "MODULES" => {
            // With a question mark behind, it need not be there; ours goes on without any.
            let modules: Vec<String> = words.iter().map(|word| word.trim_end_matches('?').to_owned()).collect();
            carried.modules.extend(modules.iter().cloned());
            let text = format!("modules = [{}]{}", finding::listed(&modules), texts::LOADED_FIRST);
            vec![setting.finding(Outcome::CarriedOver, text)]
        }
        "FILES" | "BINARIES" => {
            install_items::findings(source, &setting.place, &setting.name, &words, Presence::Required, carried)
        }
        "HOOKS" => words.iter().map(|hook| of_hook(&setting.place, hook)).collect(),
        "COMPRESSION" | "COMPRESSION_OPTIONS" | "MODULES_DECOMPRESS" => {
            vec![setting.finding(Outcome::NotNeeded, texts::COMPRESSION)]
        }
        _ => vec![setting.finding(Outcome::ByHand, "no setting that is known here: see mkinitcpio.conf(5)")],
    }
}

/// What a hook means.
#[derive(Clone, Copy)]
enum Hook {
    /// The same whatever the base has.
    Fixed(Outcome, &'static str),
    /// A base may have it: the row of [`crate::analysis::needs::NEEDS`].
    Need(&'static str),
}

use Hook::{Fixed, Need};
use Outcome::{AsBefore, ByHand, NotNeeded};

const FSCK: &str = "the base has the programs for its file systems";
const RESUME: &str = "systemd-hibernate-resume reads resume= and what it told the firmware";
const ENCRYPT: &str = "it reads cryptdevice=: say rd.luks.name=UUID=NAME on the kernel's command line";
const KMS: &str = "drivers of graphics are loaded by the system; modules names one for a passphrase on a screen";
const OUTPUT: &str = "it is about what mkinitcpio makes";

const HOOKS: &[(&str, Hook)] = &[
    ("base systemd udev block filesystems keyboard modconf usr shutdown", Fixed(AsBefore, texts::IN_EVERY_BASE)),
    ("autodetect", Fixed(AsBefore, texts::SCOPE_HOST)),
    ("microcode", Fixed(AsBefore, texts::MICROCODE)),
    ("fsck", Fixed(AsBefore, FSCK)),
    ("resume", Fixed(AsBefore, RESUME)),
    ("sd-vconsole keymap consolefont", Fixed(ByHand, texts::CONSOLE)),
    ("btrfs", Need("btrfs")),
    ("sd-encrypt", Need("luks")),
    ("encrypt", Fixed(ByHand, ENCRYPT)),
    ("lvm2 sd-lvm2", Need("lvm")),
    ("mdadm mdadm_udev", Need("md-raid1")),
    ("dmraid", Need("dmraid")),
    ("kms", Fixed(NotNeeded, KMS)),
    ("strip sleep acpi_override", Fixed(NotNeeded, OUTPUT)),
    ("plymouth", Fixed(ByHand, texts::PLYMOUTH)),
    ("net sd-network", Fixed(ByHand, texts::NETWORK)),
];

fn of_hook(place: &Place, hook: &str) -> Finding {
    let shown = format!("HOOKS: {hook}");
    match table::find(HOOKS, hook) {
        Some(Fixed(outcome, text)) => Finding::new(place, shown, outcome, text),
        Some(Need(need)) => Finding::of_base(place, shown, need),
        None => {
            let text = "not known here: what it installs has to be in the base or in files";
            Finding::new(place, shown, ByHand, text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    #[test]
    fn hooks_modules_and_files_are_told_one_by_one() {
        let root = Fixture::new();
        root.write(
            "etc/mkinitcpio.conf",
            "MODULES=(btrfs i2c-dev?)\nBINARIES=(/usr/bin/btrfs)\nFILES=()\n\
             HOOKS=(base systemd autodetect sd-vconsole block sd-encrypt\n  lvm2 grub-btrfs-overlayfs)\nCOMPRESSION=\"zstd\"\n\
             COMPRESSION_OPTIONS=(-19)\n",
        );
        root.write("usr/bin/btrfs", "\x7fELF");
        root.write(
            "etc/mkinitcpio.d/linux.preset",
            "PRESETS=('default')\n#default_image=x\ndefault_uki=\"/efi/EFI/Linux/arch.efi\"\n",
        );
        let mut carried = Carried::default();
        let found = findings(&Source::open(root.path()).unwrap(), &mut carried).unwrap();
        let told = |finding: &Finding| format!("{} {}: {}", finding.place, finding.setting, finding.outcome);
        assert_eq!(
            found.iter().map(told).collect::<Vec<_>>(),
            [
                "/etc/mkinitcpio.conf:1 MODULES=(btrfs i2c-dev?): carried over",
                "/etc/mkinitcpio.conf:2 BINARIES: /usr/bin/btrfs: by hand",
                "/etc/mkinitcpio.conf:4 HOOKS: base: as before",
                "/etc/mkinitcpio.conf:4 HOOKS: systemd: as before",
                "/etc/mkinitcpio.conf:4 HOOKS: autodetect: as before",
                "/etc/mkinitcpio.conf:4 HOOKS: sd-vconsole: by hand",
                "/etc/mkinitcpio.conf:4 HOOKS: block: as before",
                "/etc/mkinitcpio.conf:4 HOOKS: sd-encrypt: by hand",
                "/etc/mkinitcpio.conf:4 HOOKS: lvm2: by hand",
                "/etc/mkinitcpio.conf:4 HOOKS: grub-btrfs-overlayfs: by hand",
                "/etc/mkinitcpio.conf:6 COMPRESSION=\"zstd\": not needed",
                "/etc/mkinitcpio.conf:7 COMPRESSION_OPTIONS=(-19): not needed",
                "/etc/mkinitcpio.d/linux.preset:3 default_uki=\"/efi/EFI/Linux/arch.efi\": by hand",
            ]
        );
        assert_eq!(carried.modules, ["btrfs", "i2c-dev"].map(str::to_owned).into());
    }

    #[test]
    fn later_files_count_and_directories_among_them_are_passed_over() {
        let root = Fixture::new();
        root.write("etc/mkinitcpio.conf", "MODULES=(a)\nHOOKS=(base encrypt)\nFILES=(/etc/a)\nBINARIES=(gone)\n");
        root.write("etc/mkinitcpio.conf.d/10-b.conf", "MODULES+=(c)\nHOOKS=(base sd-encrypt)\nBINARIES=()\n");
        root.write("etc/mkinitcpio.conf.d/9-a.conf", "MODULES=(b)\nHOOKS=(base lvm2)\n");
        root.directory("etc/mkinitcpio.conf.d/old.conf").write("etc/mkinitcpio.conf.d/x.bak", "MODULES=(x)\n");
        root.write("etc/a", "").write("etc/mkinitcpio.d/linux.preset", "ALL_config=/etc/mkinitcpio.conf\n");
        let mut carried = Carried::default();
        let found = findings(&Source::open(root.path()).unwrap(), &mut carried).unwrap();
        assert_eq!(carried.modules, ["b", "c"].map(str::to_owned).into());
        assert_eq!(carried.files, ["/etc/a".to_owned()].into());
        let text = |setting: &str| found.iter().find(|found| found.setting == setting).map(|found| found.text.as_str());
        assert_eq!(text("MODULES=(a)"), Some("/etc/mkinitcpio.conf.d/9-a.conf:1 sets it anew"));
        assert_eq!(text("HOOKS=(base encrypt)"), Some("/etc/mkinitcpio.conf.d/10-b.conf:2 sets it anew"));
        assert!(text("HOOKS: sd-encrypt").is_some() && text("HOOKS: encrypt").is_none(), "{found:?}");
        assert!(text("BINARIES: gone").is_none(), "{found:?}");
        assert!(text("ALL_config=/etc/mkinitcpio.conf").unwrap().contains("nothing of /etc/mkinitcpio.conf.d"));
        root.write("etc/mkinitcpio.d/linux.preset", "default_config=\"/etc/other.conf\"\n");
        let found = findings(&Source::open(root.path()).unwrap(), &mut carried).unwrap();
        assert!(found.last().unwrap().text.starts_with("/etc/other.conf is not read here"), "{found:?}");
    }
}
