//! The configuration of Arch's mkinitcpio: its files in, what becomes of each setting out; `mkinitcpio.conf(5)`.

use anyhow::Result;

use super::finding::{self, Carried, Finding, Outcome, Place};
use super::install_items;
use super::shell::{self, Kind, Value};
use super::source::Source;

const MAIN: &str = "/etc/mkinitcpio.conf";
const DROP_INS: &str = "/etc/mkinitcpio.conf.d";
const PRESETS: &str = "/etc/mkinitcpio.d";

/// Whether mkinitcpio is installed.
pub fn is_there(source: &Source<'_>) -> bool {
    source.has("/usr/bin/mkinitcpio")
}

/// What becomes of its configuration. What is carried over is added to `carried`.
///
/// # Errors
/// Fails on a file that cannot be read.
pub fn findings(source: &Source<'_>, carried: &mut Carried) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in [MAIN.to_owned()].into_iter().chain(source.drop_ins(&[DROP_INS])?) {
        for statement in shell::statements(&source.text(&path)?.unwrap_or_default()) {
            let place = Place::line(&path, statement.line);
            match statement.kind {
                Kind::Assignment { name, value, .. } => {
                    findings.extend(of_setting(source, &place, &name, &value, carried))
                }
                Kind::Other(reason) => findings.push(Finding::new(&place, statement.text, Outcome::NotRead, reason)),
            }
        }
    }
    for name in source.names(PRESETS)?.into_iter().filter(|name| name.ends_with(".preset")) {
        let path = format!("{PRESETS}/{name}");
        let text = source.text(&path)?.unwrap_or_default();
        let makes_images = |statement: &shell::Statement| matches!(&statement.kind, Kind::Assignment { name, .. } if name.ends_with("_uki"));
        if let Some(statement) = shell::statements(&text).into_iter().find(makes_images) {
            let text =
                "say layout=uki and uki_generator=ocinitrd in install.conf(5), and the options in /etc/kernel/cmdline";
            findings.push(Finding::new(&Place::line(&path, statement.line), statement.text, Outcome::ByHand, text));
        }
    }
    Ok(findings)
}

fn of_setting(source: &Source<'_>, place: &Place, name: &str, value: &Value, carried: &mut Carried) -> Vec<Finding> {
    let Some(words) = value.words() else {
        return vec![Finding::new(place, name, Outcome::NotRead, "only a shell can tell the value")];
    };
    let shown = format!("{name}=({})", words.join(" "));
    match name {
        _ if words.is_empty() => Vec::new(),
        "MODULES" => {
            let modules: Vec<String> = words.iter().map(|word| word.trim_end_matches('?').to_owned()).collect();
            carried.modules.extend(modules.iter().cloned());
            let text = format!(
                "modules = [{}]; to load them before udev asks for them, say rd.modules_load=NAME on the kernel's command line",
                finding::listed(&modules)
            );
            vec![Finding::new(place, shown, Outcome::CarriedOver, text)]
        }
        "FILES" | "BINARIES" => install_items::findings(source, place, name, &words, false, carried),
        "HOOKS" => words.iter().map(|hook| of_hook(place, hook)).collect(),
        "COMPRESSION" | "COMPRESSION_OPTIONS" | "MODULES_DECOMPRESS" => {
            let text = "the base is compressed as it was built; modules stay as the kernel's package has them, unless compression says otherwise";
            vec![Finding::new(place, shown, Outcome::NotNeeded, text)]
        }
        _ => vec![Finding::new(place, shown, Outcome::ByHand, "no setting that is known here: see mkinitcpio.conf(5)")],
    }
}

fn of_hook(place: &Place, hook: &str) -> Finding {
    use Outcome::{AsBefore, ByHand, NotNeeded};
    let shown = format!("HOOKS: {hook}");
    let console = "/etc/vconsole.conf says it, and goes in; it takes a base that was built with --profile vconsole";
    let (outcome, text) = match hook {
        "base" | "systemd" | "udev" | "block" | "filesystems" | "keyboard" | "modconf" | "usr" | "shutdown" => {
            (AsBefore, "part of every base")
        }
        "autodetect" => (AsBefore, "modules are for this machine unless scope says otherwise"),
        "microcode" => (AsBefore, "the updates of this machine's processors are in front of the initrd"),
        "fsck" => (AsBefore, "the base has the programs for its file systems"),
        "resume" => (AsBefore, "systemd-hibernate-resume reads resume= and what it told the firmware"),
        "sd-vconsole" | "keymap" | "consolefont" => (ByHand, console),
        "btrfs" => return Finding::of_base(place, shown, "btrfs"),
        "sd-encrypt" => return Finding::of_base(place, shown, "luks"),
        "encrypt" => (ByHand, "it reads cryptdevice=: say rd.luks.name=UUID=NAME on the kernel's command line"),
        "lvm2" | "sd-lvm2" => return Finding::of_base(place, shown, "lvm"),
        "mdadm" | "mdadm_udev" => return Finding::of_base(place, shown, "md-raid1"),
        "dmraid" => return Finding::of_base(place, shown, "dmraid"),
        "kms" => {
            (NotNeeded, "drivers of graphics are loaded by the system; modules names one for a passphrase on a screen")
        }
        "strip" | "sleep" | "acpi_override" => (NotNeeded, "it is about what mkinitcpio makes"),
        "plymouth" => (
            ByHand,
            "it takes a base that was built with --profile plymouth; without it passphrases are asked for on the console",
        ),
        "net" | "sd-network" => {
            (ByHand, "it takes a base that was built with --profile network; ip= says the addresses")
        }
        _ => (ByHand, "not known here: what it installs has to be in the base or in files"),
    };
    Finding::new(place, shown, outcome, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fixture::Fixture;

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
        let found = findings(&Source::new(root.path()), &mut carried).unwrap();
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
                "/etc/mkinitcpio.conf:6 COMPRESSION=(zstd): not needed",
                "/etc/mkinitcpio.conf:7 COMPRESSION_OPTIONS=(-19): not needed",
                "/etc/mkinitcpio.d/linux.preset:3 default_uki=\"/efi/EFI/Linux/arch.efi\": by hand",
            ]
        );
        assert_eq!(carried.modules, ["btrfs", "i2c-dev"].map(str::to_owned).into());
    }
}
