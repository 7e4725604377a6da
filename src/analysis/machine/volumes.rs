//! How the volumes of a machine are opened that systemd has tables of: its devices in, options and keys out.
//!
//! The tables and the kernel's options say so, the former by the volume's name, the latter by the UUID of its header. The
//! device mapper's UUID holds that: `CRYPT-LUKS2-0123...-NAME`.

use anyhow::Result;

use super::block::{Device, Kind};
use super::crypttab::{CRYPTTAB, INTEGRITYTAB, Line, TABLES, Table, VERITYTAB};
use super::kernel_options::KernelOptions;
use super::root::Root;

const MAPPER: &str = "/dev/mapper/";
/// What the system finds by the type of its partition is opened under such a name.
const FOUND_BY_ITSELF: [&str; 2] = ["", "gpt-auto"];

/// Makers of volumes that are encrypted, by the beginning of their UUIDs.
const ENCRYPTED: [&str; 4] = ["CRYPT-LUKS", "CRYPT-PLAIN-", "CRYPT-TCRYPT-", "CRYPT-BITLK-"];
/// Where the key of a volume is, by the volume's name, if its line names none.
pub const KEYS: &str = "/etc/cryptsetup-keys.d";
/// What of the kernel's command line has a verity volume opened without a table.
const VERITY_OPTIONS: [&str; 6] = [
    "roothash",
    "usrhash",
    "systemd.verity_root_data",
    "systemd.verity_usr_data",
    "systemd.verity_root_options",
    "systemd.verity_usr_options",
];

/// How a volume of a table is opened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Volume {
    /// The volume: `/dev/mapper/luks-root`.
    pub path: String,
    /// Options, as in crypttab.
    pub options: Vec<String>,
    /// Where its key is, if anywhere: a path in the initrd, or one on another device behind a colon.
    pub key: Option<String>,
    /// The table that a line for it is in, if there is one.
    pub table: &'static str,
    /// The table that alone has the initrd open it.
    pub by_table: Option<&'static str>,
    /// Who may have to type something to open it.
    pub typing: Typing,
}

/// Whether a volume waits for somebody who types.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Typing {
    /// It never does.
    Never,
    /// Only where its key or its TPM fails.
    AfterFailure,
    /// A passphrase, or the PIN of a token.
    Always,
}

/// What a machine says of its volumes.
#[derive(Clone, Debug)]
pub(super) struct Volumes<'a> {
    root: &'a Root,
    /// The lines of each table, with where it is.
    lines: Vec<(&'static str, Line)>,
    options: &'a KernelOptions,
}

impl<'a> Volumes<'a> {
    /// # Errors
    /// Fails when a table exists and cannot be read.
    pub(super) fn read(root: &'a Root, options: &'a KernelOptions) -> Result<Self> {
        let mut lines = Vec::new();
        for table in TABLES {
            let text = root.text(table.path)?.unwrap_or_default();
            lines.extend(table.lines(&text).map(|(line, _)| (table.path, line)));
        }
        Ok(Volumes { root, lines, options })
    }

    /// The names of those that the initrd has to open although nothing in it may need them, with the tables that say so.
    pub(super) fn for_initrd(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.lines.iter().filter(|(_, line)| line.is_for_initrd()).map(|(table, line)| (*table, line.name.as_str()))
    }

    /// What the devices are called that a volume of a table is opened from.
    pub(super) fn called(&self, volume: &Volume) -> Option<&str> {
        let name = volume.path.strip_prefix(MAPPER)?;
        self.line(volume.table, name).map(|line| line.device.as_str())
    }

    fn line(&self, table: &str, name: &str) -> Option<&Line> {
        self.lines.iter().find(|(path, line)| *path == table && line.name == name).map(|(_, line)| line)
    }

    /// How a device is opened, if it is a volume that a table may have.
    pub(super) fn volume(&self, device: &Device) -> Option<Volume> {
        let name = device.path.strip_prefix(MAPPER)?;
        let Kind::Mapped(uuid) = &device.kind else { return None };
        if let Some(table) = table_without_secrets(uuid) {
            let line = self.line(table.path, name)?;
            return Some(Volume {
                path: device.path.clone(),
                options: line.options.clone(),
                key: line.key.clone(),
                table: table.path,
                by_table: line.is_for_initrd().then_some(table.path),
                typing: Typing::Never,
            });
        }
        ENCRYPTED.iter().any(|prefix| uuid.starts_with(prefix)).then(|| self.encrypted(device, name, uuid))
    }

    fn encrypted(&self, device: &Device, name: &str, uuid: &str) -> Volume {
        let line = self.line(CRYPTTAB.path, name);
        let mut options = line.map(|line| line.options.clone()).unwrap_or_default();
        let mut key = line.and_then(|line| line.key.clone());
        let mut is_by_table = line.is_some_and(Line::is_for_initrd);
        if let Some(uuid) = header_uuid(uuid) {
            is_by_table &= !self.is_told(name, uuid);
            options.extend(self.options.volume_options(uuid));
            key = self.options.volume_key(uuid).map(str::to_owned).or(key);
        }
        let has_key = key.is_some() || self.root.has(&format!("{KEYS}/{name}.key"));
        Volume {
            path: device.path.clone(),
            typing: typing(&options, has_key),
            options,
            key,
            table: CRYPTTAB.path,
            by_table: is_by_table.then_some(CRYPTTAB.path),
        }
    }

    /// Whether the kernel's command line, or the type of its partition, has the initrd open the LUKS volume.
    fn is_told(&self, name: &str, uuid: &str) -> bool {
        let root = self.options.values("root").last().unwrap_or_default();
        self.options.opens(uuid) || (name == "root" && FOUND_BY_ITSELF.contains(&root))
    }

    /// What is to be said of a volume that neither the kernel's command line nor a table has the initrd open.
    pub(super) fn untold(&self, device: &Device) -> Option<String> {
        let name = device.path.strip_prefix(MAPPER)?;
        let Kind::Mapped(uuid) = &device.kind else { return None };
        let of_table = table_without_secrets(uuid).unwrap_or(&CRYPTTAB).path;
        if self.line(of_table, name).is_some_and(Line::is_for_initrd) {
            return None;
        }
        if let Some(table) = table_without_secrets(uuid) {
            let is_told = table.path == VERITYTAB.path && VERITY_OPTIONS.iter().any(|name| self.options.has(name));
            return (!is_told).then(|| {
                format!(
                    "nothing has the initrd open {}: it needs a line in {} with x-initrd.attach",
                    device.path, table.path
                )
            });
        }
        let uuid = header_uuid(uuid)?;
        if self.is_told(name, uuid) {
            return None;
        }
        Some(format!(
            "nothing has the initrd open {}: it needs a line in /etc/crypttab with x-initrd.attach, or on the command line \
             rd.luks.name={}={name}",
            device.path,
            with_dashes(uuid)
        ))
    }
}

/// The table of volumes of the device mapper that are not encrypted.
fn table_without_secrets(uuid: &str) -> Option<&'static Table> {
    let tables = [("CRYPT-VERITY-", &VERITYTAB), ("CRYPT-INTEGRITY-", &INTEGRITYTAB)];
    tables.into_iter().find(|(prefix, _)| uuid.starts_with(prefix)).map(|(_, table)| table)
}

/// systemd-cryptsetup asks for a passphrase when nothing else opens a volume, unless that is forbidden.
fn typing(options: &[String], has_key: bool) -> Typing {
    let has = |name: &str| options.iter().any(|option| option.starts_with(name));
    let says_yes = |name: &str| {
        let is_yes = |value: &str| matches!(value, "1" | "yes" | "y" | "true" | "t" | "on");
        options.iter().any(|option| {
            option == name || option.split_once('=').is_some_and(|(key, value)| key == name && is_yes(value))
        })
    };
    if says_yes("headless") {
        Typing::Never
    } else if says_yes("tpm2-pin") || has("fido2-device=") || has("pkcs11-uri=") {
        Typing::Always
    } else if has_key || has("tpm2-device=") {
        Typing::AfterFailure
    } else {
        Typing::Always
    }
}

/// The UUID in the header of a LUKS volume, without dashes.
fn header_uuid(device_uuid: &str) -> Option<&str> {
    let is_uuid = |part: &&str| part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    device_uuid.strip_prefix("CRYPT-LUKS")?.split('-').find(is_uuid)
}

fn with_dashes(uuid: &str) -> String {
    [&uuid[..8], &uuid[8..12], &uuid[12..16], &uuid[16..20], &uuid[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::super::kernel_options::parse;
    use super::*;

    const UUID: &str = "CRYPT-LUKS2-0c1d2d00111140008000000000000001-luks";

    fn device(name: &str, uuid: &str) -> Device {
        Device { path: format!("/dev/mapper/{name}"), kind: Kind::Mapped(uuid.to_owned()), drivers: Vec::new() }
    }

    #[test]
    fn crypttab_and_the_kernel_s_options_come_together() {
        let fixture = Fixture::new();
        fixture
            .write("etc/crypttab", "luks /dev/sda2 /etc/luks.key tpm2-device=auto\nother /dev/sdb - x-initrd.attach\n");
        let options = parse("rd.luks.options=discard rd.luks.key=0c1d2d00-1111-4000-8000-000000000001=/k:LABEL=x");
        let root = fixture.root();
        let volumes = Volumes::read(&root, &options).unwrap();
        let volume = volumes.volume(&device("luks", UUID)).unwrap();
        assert_eq!(volume.options, ["tpm2-device=auto", "discard"]);
        assert_eq!((volume.key.as_deref(), volume.by_table), (Some("/k:LABEL=x"), None));
        assert_eq!(volumes.for_initrd().collect::<Vec<_>>(), [("/etc/crypttab", "other")]);
        assert_eq!(volumes.called(&volume), Some("/dev/sda2"));
        // A line of another table is about another volume, whatever its name is.
        fixture.write("etc/integritytab", "swap /dev/sdz - x-initrd.attach\nnew /dev/sdy - x-initrd.attach\n");
        fixture.write("etc/crypttab", "swap /dev/sdc\n");
        let volumes = Volumes::read(&root, &options).unwrap();
        let swap = device("swap", "CRYPT-INTEGRITY-swap");
        assert_eq!(volumes.called(&volumes.volume(&swap).unwrap()), Some("/dev/sdz"));
        let luks = |name: &str| device(name, &UUID.replace("8000", "8001"));
        assert!(volumes.untold(&luks("new")).unwrap().contains("/etc/crypttab"), "its line is for checksums");
        fixture
            .write("etc/crypttab", "luks /dev/sda2 /etc/luks.key tpm2-device=auto\nother /dev/sdb - x-initrd.attach\n");
        let volumes = Volumes::read(&root, &options).unwrap();
        assert_eq!(volumes.volume(&device("luks", "CRYPT-PLAIN-luks")).unwrap().key.as_deref(), Some("/etc/luks.key"));
        assert_eq!(volumes.volume(&device("luks", "CRYPT-VERITY-1-luks")), None);
        assert_eq!(volumes.volume(&device("vg-root", "LVM-1")), None);
    }

    #[test]
    fn a_volume_that_nothing_opens_is_told_with_what_would() {
        let fixture = Fixture::new();
        let untold = |options: &str, name: &str| {
            let (root, options) = (fixture.root(), parse(options));
            Volumes::read(&root, &options).unwrap().untold(&device(name, UUID))
        };
        let said = untold("root=/dev/mapper/luks", "luks").unwrap();
        assert!(said.ends_with(" rd.luks.name=0c1d2d00-1111-4000-8000-000000000001=luks"), "{said}");
        assert_eq!(untold("root=/x rd.luks.uuid=0c1d2d00-1111-4000-8000-000000000001", "luks"), None);
        assert_eq!(untold("quiet", "root"), None);
        assert!(untold("quiet", "luks").is_some());
        assert!(untold("root=/dev/mapper/root", "root").is_some());
    }

    #[test]
    fn a_volume_of_crypttab_that_the_initrd_opens_is_told_by_that_unless_the_command_line_tells_it_too() {
        let fixture = Fixture::new();
        fixture.write("etc/crypttab", "luks UUID=1 /etc/luks.key x-initrd.attach\nroot UUID=2 - x-initrd.attach\n");
        let by_crypttab = |name: &str, options: &str| {
            let options = parse(options);
            let root = fixture.root();
            let volumes = Volumes::read(&root, &options).unwrap();
            assert_eq!(volumes.untold(&device(name, UUID)), None, "{name} {options:?}");
            volumes.volume(&device(name, UUID)).unwrap().by_table.is_some()
        };
        assert!(by_crypttab("luks", "root=/dev/mapper/luks") && by_crypttab("root", "root=/dev/mapper/root"));
        assert!(!by_crypttab("luks", "rd.luks.uuid=0c1d2d00-1111-4000-8000-000000000001"));
        assert!(!by_crypttab("root", "root=gpt-auto"));
    }

    #[test]
    fn volumes_without_secrets_are_opened_by_their_own_tables() {
        let fixture = Fixture::new();
        fixture.write("etc/integritytab", "root /dev/sda2 /etc/i.key x-initrd.attach\nhome /dev/sda3\n");
        let of = |name: &str, uuid: &str, options: &str| {
            let (root, options, device) = (fixture.root(), parse(options), device(name, uuid));
            let volumes = Volumes::read(&root, &options).unwrap();
            (volumes.volume(&device), volumes.untold(&device))
        };
        let (volume, untold) = of("root", "CRYPT-INTEGRITY-root", "");
        let volume = volume.unwrap();
        assert_eq!((volume.by_table, volume.key.as_deref()), (Some("/etc/integritytab"), Some("/etc/i.key")));
        assert_eq!((volume.typing, untold), (Typing::Never, None));
        let (volume, untold) = of("home", "CRYPT-INTEGRITY-home", "");
        assert_eq!(volume.unwrap().by_table, None);
        assert!(untold.unwrap().ends_with("it needs a line in /etc/integritytab with x-initrd.attach"));
        assert!(of("usr", "CRYPT-VERITY-1-usr", "root=/dev/sda2").1.unwrap().contains("/etc/veritytab"));
        assert_eq!(of("usr", "CRYPT-VERITY-1-usr", "usrhash=4f3a"), (None, None));
    }

    #[test]
    fn somebody_types_unless_a_key_comes_from_elsewhere_or_nobody_is_asked() {
        let typing = |options: &str, has_key| typing(&super::super::crypttab::split_options(options), has_key);
        for (options, has_key, expected) in [
            ("", false, Typing::Always),
            ("discard,tpm2-device=auto,token-timeout=30s", false, Typing::AfterFailure),
            ("", true, Typing::AfterFailure),
            ("tpm2-device=auto,tpm2-pin=yes", false, Typing::Always),
            ("fido2-device=auto", true, Typing::Always),
            ("pkcs11-uri=auto", false, Typing::Always),
            ("headless=true", false, Typing::Never),
            ("headless,tpm2-device=auto", false, Typing::Never),
            ("headless=no", false, Typing::Always),
        ] {
            assert_eq!(typing(options, has_key), expected, "{options} {has_key}");
        }
        let fixture = Fixture::new();
        let with_key = || {
            let (root, options) = (fixture.root(), parse(""));
            Volumes::read(&root, &options).unwrap().volume(&device("luks", UUID)).unwrap().typing
        };
        assert_eq!(with_key(), Typing::Always);
        fixture.write("etc/cryptsetup-keys.d/luks.key", "secret");
        assert_eq!(with_key(), Typing::AfterFailure);
    }

    #[test]
    fn the_header_s_uuid_is_found_in_every_kind_of_luks() {
        assert_eq!(header_uuid(UUID), Some("0c1d2d00111140008000000000000001"));
        assert_eq!(header_uuid("CRYPT-LUKS1-0c1d2d00111140008000000000000001-a-b"), header_uuid(UUID));
        assert_eq!(header_uuid("CRYPT-LUKS2-OPAL-0c1d2d00111140008000000000000001-a"), header_uuid(UUID));
        assert_eq!(header_uuid("CRYPT-SUBDEV-0c1d2d00111140008000000000000001-a_dif"), None);
    }
}
