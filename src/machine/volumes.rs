//! How the encrypted volumes of a machine are opened: its devices in, options and keys out.
//!
//! `/etc/crypttab` and the kernel's options say so, the one by the volume's name, the other by the UUID of its header. The
//! device mapper's UUID holds that: `CRYPT-LUKS2-0123...-NAME`.

use anyhow::Result;

use super::block::{Device, Kind};
use super::crypttab::{self, Line};
use super::kernel_options::KernelOptions;
use super::root::Root;

const MAPPER: &str = "/dev/mapper/";
/// What the system finds by the type of its partition is opened under such a name.
const FOUND_BY_ITSELF: [&str; 2] = ["", "gpt-auto"];

/// How an encrypted volume is opened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Volume {
    /// The volume: `/dev/mapper/luks-root`.
    pub path: String,
    /// Options, as in crypttab.
    pub options: Vec<String>,
    /// Where its key is, if anywhere: a path in the initrd, or one on another device behind a colon.
    pub key: Option<String>,
    /// Whether nothing but its line in crypttab has the initrd open it.
    pub is_by_crypttab: bool,
}

/// What a machine says of its volumes.
#[derive(Clone, Debug)]
pub(super) struct Volumes<'a> {
    lines: Vec<Line>,
    options: &'a KernelOptions,
}

impl<'a> Volumes<'a> {
    /// # Errors
    /// Fails when crypttab exists and cannot be read.
    pub(super) fn read(root: &Root, options: &'a KernelOptions) -> Result<Self> {
        Ok(Volumes { lines: crypttab::parse(&root.text(crypttab::PATH)?.unwrap_or_default()), options })
    }

    /// The names of those that the initrd has to open although nothing in it may need them.
    pub(super) fn for_initrd(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter(|line| line.is_for_initrd()).map(|line| line.name.as_str())
    }

    /// How a device is opened, if it is an encrypted volume.
    pub(super) fn volume(&self, device: &Device) -> Option<Volume> {
        let name = device.path.strip_prefix(MAPPER)?;
        let Kind::Mapped(uuid) = &device.kind else { return None };
        let encrypted = ["CRYPT-LUKS", "CRYPT-PLAIN-", "CRYPT-TCRYPT-", "CRYPT-BITLK-"];
        if !encrypted.iter().any(|prefix| uuid.starts_with(prefix)) {
            return None;
        }
        let line = self.lines.iter().find(|line| line.name == name);
        let mut options = line.map(|line| line.options.clone()).unwrap_or_default();
        let mut key = line.and_then(|line| line.key.clone());
        let mut is_by_crypttab = line.is_some_and(Line::is_for_initrd);
        if let Some(uuid) = header_uuid(uuid) {
            is_by_crypttab &= !self.is_told(name, uuid);
            options.extend(self.options.volume_options(uuid));
            key = self.options.volume_key(uuid).map(str::to_owned).or(key);
        }
        Some(Volume { path: device.path.clone(), options, key, is_by_crypttab })
    }

    /// Whether the kernel's command line, or the type of its partition, has the initrd open the LUKS volume.
    fn is_told(&self, name: &str, uuid: &str) -> bool {
        let root = self.options.values("root").last().unwrap_or_default();
        self.options.opens(uuid) || (name == "root" && FOUND_BY_ITSELF.contains(&root))
    }

    /// What is to be said of a volume that neither the kernel's command line nor crypttab has the initrd open.
    pub(super) fn untold(&self, device: &Device) -> Option<String> {
        let name = device.path.strip_prefix(MAPPER)?;
        let Kind::Mapped(uuid) = &device.kind else { return None };
        let uuid = header_uuid(uuid)?;
        if self.is_told(name, uuid) || self.for_initrd().any(|opened| opened == name) {
            return None;
        }
        Some(format!(
            "nothing on the kernel's command line opens {}: the initrd needs an /etc/crypttab with it, or the command line \
             rd.luks.name={}={name}",
            device.path,
            with_dashes(uuid)
        ))
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
        let volumes = Volumes::read(&fixture.root(), &options).unwrap();
        let volume = volumes.volume(&device("luks", UUID)).unwrap();
        assert_eq!(volume.options, ["tpm2-device=auto", "discard"]);
        assert_eq!((volume.key.as_deref(), volume.is_by_crypttab), (Some("/k:LABEL=x"), false));
        assert_eq!(volumes.for_initrd().collect::<Vec<_>>(), ["other"]);
        assert_eq!(volumes.volume(&device("luks", "CRYPT-PLAIN-luks")).unwrap().key.as_deref(), Some("/etc/luks.key"));
        assert_eq!(volumes.volume(&device("luks", "CRYPT-VERITY-1-luks")), None);
        assert_eq!(volumes.volume(&device("vg-root", "LVM-1")), None);
    }

    #[test]
    fn a_volume_that_nothing_opens_is_told_with_what_would() {
        let fixture = Fixture::new();
        let untold = |options: &str, name: &str| {
            Volumes::read(&fixture.root(), &parse(options)).unwrap().untold(&device(name, UUID))
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
            let volumes = Volumes::read(&fixture.root(), &options).unwrap();
            assert_eq!(volumes.untold(&device(name, UUID)), None, "{name} {options:?}");
            volumes.volume(&device(name, UUID)).unwrap().is_by_crypttab
        };
        assert!(by_crypttab("luks", "root=/dev/mapper/luks") && by_crypttab("root", "root=/dev/mapper/root"));
        assert!(!by_crypttab("luks", "rd.luks.uuid=0c1d2d00-1111-4000-8000-000000000001"));
        assert!(!by_crypttab("root", "root=gpt-auto"));
    }

    #[test]
    fn the_header_s_uuid_is_found_in_every_kind_of_luks() {
        assert_eq!(header_uuid(UUID), Some("0c1d2d00111140008000000000000001"));
        assert_eq!(header_uuid("CRYPT-LUKS1-0c1d2d00111140008000000000000001-a-b"), header_uuid(UUID));
        assert_eq!(header_uuid("CRYPT-LUKS2-OPAL-0c1d2d00111140008000000000000001-a"), header_uuid(UUID));
        assert_eq!(header_uuid("CRYPT-SUBDEV-0c1d2d00111140008000000000000001-a_dif"), None);
    }
}
