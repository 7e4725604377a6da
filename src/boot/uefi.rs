//! The UEFI firmware that this host has for QEMU's guests: QEMU's descriptors in, two files out.
//!
//! Firmware comes as a package beside QEMU, under other names in each distribution. Its packages describe their files in JSON, one
//! descriptor a use, in directories that go from the general to the specific: of files with the same name the last counts,
//! and an empty one hides the others. Specification: QEMU, `docs/interop/firmware.json`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// What to say where [`find`] finds none.
pub const MISSING: &str = "no UEFI firmware for QEMU is installed, and this boots through it: install it with \
    `apt-get install ovmf` (Debian, Ubuntu) or `dnf install edk2-ovmf` (Fedora)";

/// The architecture of the guests, in QEMU's words.
const ARCHITECTURE: &str = "x86_64";
/// The machine of the guests is `q35`, of which QEMU has versions.
const MACHINE: &str = "pc-q35-";
/// It needs system management mode, without which nothing keeps a guest from changing the keys.
const SMM: &str = "requires-smm";
/// It can refuse what is not signed.
const SECURE_BOOT: &str = "secure-boot";
/// It refuses what is not signed from the start.
const ENROLLED_KEYS: &str = "enrolled-keys";

/// Where firmware without Secure Boot lies that comes without a descriptor: code, and variables as they are at first.
const KNOWN_PATHS: [(&str, &str); 4] = [
    ("usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("usr/share/OVMF/OVMF_CODE.fd", "usr/share/OVMF/OVMF_VARS.fd"),
    ("usr/share/edk2/ovmf/OVMF_CODE.fd", "usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("usr/share/edk2/x64/OVMF_CODE.4m.fd", "usr/share/edk2/x64/OVMF_VARS.4m.fd"),
];
/// The same of firmware with it.
const KNOWN_SECURE_PATHS: [(&str, &str); 3] = [
    ("usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("usr/share/edk2/x64/OVMF_CODE.secboot.4m.fd", "usr/share/edk2/x64/OVMF_VARS.4m.fd"),
];

const RAW: &str = "raw";
const QCOW2: &str = "qcow2";

/// What goes into a guest's flash memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flash {
    /// The file.
    pub path: PathBuf,
    /// Its format in QEMU's words, such as `raw`.
    pub format: String,
}

/// What firmware is to do about signatures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Boot {
    /// Start anything.
    Any,
    /// Start only what is signed by a key among its variables, where there are keys.
    Secure,
}

/// UEFI firmware.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Firmware {
    /// The program, which guests only read.
    pub code: Flash,
    /// The variables as they are at first: each guest writes to a copy of its own.
    pub variables: Flash,
    /// Whether it needs a machine with system management mode.
    pub smm: bool,
}

/// The firmware of the machine whose root directory is `root`, if it has one. `configuration` is where the user's own
/// configuration lies, if that is known.
pub fn find(root: &Path, configuration: Option<&Path>, boot: Boot) -> Option<Firmware> {
    all(root, configuration, boot).into_iter().next()
}

/// The same with Secure Boot and the variables of a file, in which somebody has put keys: one as virt-fw-vars(1) writes it, or
/// qcow2 by its extension. Firmware comes in sizes, and each has variables of a size of their own.
pub fn find_for(root: &Path, configuration: Option<&Path>, variables: &Path) -> Option<Firmware> {
    let format = if variables.extension().is_some_and(|end| end == QCOW2) { QCOW2 } else { RAW };
    let own = Flash { path: variables.to_owned(), format: format.to_owned() };
    let fits = |firmware: &Firmware| firmware.variables.size_bytes() == own.size_bytes();
    let found = all(root, configuration, Boot::Secure).into_iter().find(fits)?;
    Some(Firmware { variables: own.clone(), ..found })
}

/// In the order in which they are preferred.
fn all(root: &Path, configuration: Option<&Path>, boot: Boot) -> Vec<Firmware> {
    let system = ["usr/share/qemu/firmware", "etc/qemu/firmware"].map(|directory| root.join(directory));
    let own = configuration.map(|directory| directory.join("qemu/firmware"));
    let descriptors = descriptors(system.into_iter().chain(own));
    let firmware: Vec<Firmware> = if descriptors.is_empty() {
        let paths = if boot == Boot::Secure { &KNOWN_SECURE_PATHS[..] } else { &KNOWN_PATHS };
        paths.iter().map(|(code, variables)| at(root, code, variables, boot)).collect()
    } else {
        descriptors.values().filter_map(|path| described(root, path, boot)).collect()
    };
    firmware.into_iter().filter(Firmware::is_there).collect()
}

impl Flash {
    /// How large the memory is, in bytes, if its file can be read. Format: QEMU, `docs/interop/qcow2.txt`.
    fn size_bytes(&self) -> Option<u64> {
        if self.format != QCOW2 {
            return Some(fs::metadata(&self.path).ok()?.len());
        }
        let mut header = [0; 32];
        regular_file::open(&self.path).and_then(|mut file| file.read_exact(&mut header)).ok()?;
        Some(u64::from_be_bytes(header[24..].try_into().ok()?))
    }
}

impl Firmware {
    fn is_there(&self) -> bool {
        self.code.path.is_file() && self.variables.path.is_file()
    }
}

fn at(root: &Path, code: &str, variables: &str, boot: Boot) -> Firmware {
    let flash = |path| Flash { path: root.join(path), format: RAW.to_owned() };
    Firmware { code: flash(code), variables: flash(variables), smm: boot == Boot::Secure }
}

/// The descriptors that count, by name: that is the order in which they are tried.
fn descriptors(directories: impl Iterator<Item = PathBuf>) -> BTreeMap<OsString, PathBuf> {
    let entries = directories.filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
    let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    paths.filter_map(|path| Some((path.file_name()?.to_owned(), path))).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Descriptor {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    features: Vec<String>,
}

/// Other devices than flash memory have other keys, and make no [`Descriptor`].
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    mode: Option<String>,
    executable: FlashFile,
    nvram_template: FlashFile,
}

#[derive(Deserialize)]
struct FlashFile {
    filename: PathBuf,
    format: String,
}

#[derive(Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

/// What a descriptor describes, if it is firmware for our guests. One that says nothing that we know is none.
fn described(root: &Path, path: &Path, boot: Boot) -> Option<Firmware> {
    let Descriptor { interface_types, mapping, targets, features } =
        serde_json::from_str(&regular_file::read_text(path, TEXT_LIMIT_BYTES).ok()?).ok()?;
    let is_ours = |target: &Target| {
        target.architecture == ARCHITECTURE && target.machines.iter().any(|machine| machine.starts_with(MACHINE))
    };
    let has = |feature: &str| features.iter().any(|other| other == feature);
    let suits = interface_types.iter().any(|interface| interface == "uefi")
        && mapping.device == "flash"
        && mapping.mode.as_deref().is_none_or(|mode| mode == "split")
        && targets.iter().any(is_ours)
        && match boot {
            Boot::Any => !has(SMM) && !has(ENROLLED_KEYS),
            Boot::Secure => has(SECURE_BOOT),
        };
    let flash = |file: FlashFile| Flash {
        path: root.join(file.filename.strip_prefix("/").unwrap_or(&file.filename)),
        format: file.format,
    };
    let smm = has(SMM);
    suits.then(|| Firmware { code: flash(mapping.executable), variables: flash(mapping.nvram_template), smm })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            Machine(tempfile::tempdir().unwrap())
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// A descriptor of firmware whose files are there.
        fn describe(&self, path: &str, name: &str, change: impl Fn(&mut serde_json::Value)) {
            let file = |part| serde_json::json!({"filename": format!("/fw/{name}-{part}"), "format": "qcow2"});
            let mut descriptor = serde_json::json!({
                "description": "one of several", "interface-types": ["uefi"], "tags": [],
                "mapping": {"device": "flash", "executable": file("code"), "nvram-template": file("vars")},
                "targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}],
                "features": ["acpi-s3", "verbose-dynamic"],
            });
            change(&mut descriptor);
            self.write(path, &descriptor.to_string());
            for part in ["code", "vars"] {
                self.write(&format!("fw/{name}-{part}"), "");
            }
        }

        /// The name of the firmware that is found.
        fn found(&self) -> Option<String> {
            self.found_for(Boot::Any)
        }

        fn found_for(&self, boot: Boot) -> Option<String> {
            let firmware = find(self.0.path(), Some(&self.0.path().join("home")), boot)?;
            let name = firmware.code.path.file_name().unwrap().to_str().unwrap().to_owned();
            Some(name.trim_end_matches("-code").to_owned())
        }
    }

    #[test]
    fn the_first_descriptor_that_suits_our_guests_counts() {
        let machine = Machine::new();
        let set = |pointer: &'static str, value: serde_json::Value| {
            move |descriptor: &mut serde_json::Value| *descriptor.pointer_mut(pointer).unwrap() = value.clone()
        };
        let unsuited: [(&str, serde_json::Value); 6] = [
            ("/interface-types", ["bios"].into()),
            ("/features", ["secure-boot", "requires-smm"].into()),
            ("/features", ["enrolled-keys"].into()),
            ("/targets/0/architecture", "aarch64".into()),
            ("/targets/0/machines", ["pc-i440fx-*"].into()),
            ("/mapping", serde_json::json!({"device": "memory", "filename": "/fw/memory"})),
        ];
        for (number, (pointer, value)) in unsuited.into_iter().enumerate() {
            machine.describe(&format!("usr/share/qemu/firmware/1{number}.json"), "unsuited", set(pointer, value));
            assert_eq!(machine.found(), None, "{pointer}");
        }
        let combined = |descriptor: &mut serde_json::Value| descriptor["mapping"]["mode"] = "combined".into();
        machine.describe("usr/share/qemu/firmware/20.json", "combined", combined);
        machine.write("usr/share/qemu/firmware/30.json", "no JSON");
        assert_eq!(machine.found(), None);
        machine.describe("usr/share/qemu/firmware/60.json", "second", |_| ());
        machine.describe("usr/share/qemu/firmware/50.json", "first", |_| ());
        assert_eq!(machine.found().unwrap(), "first");
        let firmware = find(machine.0.path(), None, Boot::Any).unwrap();
        assert_eq!(firmware.variables.path, machine.0.path().join("fw/first-vars"));
        assert_eq!(firmware.variables.format, "qcow2");
        fs::remove_file(machine.0.path().join("fw/first-vars")).unwrap();
        assert_eq!(machine.found().unwrap(), "second", "the other's files are missing");
    }

    #[test]
    fn secure_boot_takes_firmware_that_can_refuse_and_says_what_machine_that_needs() {
        let machine = Machine::new();
        machine.describe("usr/share/qemu/firmware/40.json", "any", |_| ());
        assert_eq!(machine.found_for(Boot::Secure), None);
        let secure = |descriptor: &mut serde_json::Value| {
            descriptor["features"] = ["enrolled-keys", "secure-boot", "requires-smm"].into();
        };
        machine.describe("usr/share/qemu/firmware/50.json", "secure", secure);
        assert_eq!(machine.found_for(Boot::Secure).unwrap(), "secure");
        assert_eq!(machine.found_for(Boot::Any).unwrap(), "any");
        assert!(find(machine.0.path(), None, Boot::Secure).unwrap().smm);
    }

    #[test]
    fn variables_with_keys_get_firmware_of_their_size() {
        let machine = Machine::new();
        let secure = |format: &'static str| {
            move |descriptor: &mut serde_json::Value| {
                descriptor["features"] = ["secure-boot"].into();
                descriptor["mapping"]["nvram-template"]["format"] = format.into();
            }
        };
        machine.describe("usr/share/qemu/firmware/40.json", "large", secure("qcow2"));
        machine.describe("usr/share/qemu/firmware/50.json", "small", secure("raw"));
        let mut header = vec![0; 24];
        header.extend(64_u64.to_be_bytes());
        fs::write(machine.0.path().join("fw/large-vars"), &header).unwrap();
        machine.write("fw/small-vars", "12345678");
        let code = |name: &str, length: usize| {
            let variables = machine.0.path().join(name);
            fs::write(&variables, vec![0; length]).unwrap();
            let firmware = find_for(machine.0.path(), None, &variables)?;
            assert_eq!((&firmware.variables.path, firmware.variables.format.as_str()), (&variables, "raw"));
            Some(firmware.code.path.file_name().unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!((code("own", 8).as_deref(), code("own", 64).as_deref()), (Some("small-code"), Some("large-code")));
        assert_eq!(code("own", 9), None);
    }

    #[test]
    fn descriptors_of_the_administrator_and_the_user_replace_and_hide_those_of_the_distribution() {
        let machine = Machine::new();
        machine.describe("usr/share/qemu/firmware/50.json", "distribution", |_| ());
        machine.describe("etc/qemu/firmware/50.json", "administrator", |_| ());
        assert_eq!(machine.found().unwrap(), "administrator");
        machine.describe("home/qemu/firmware/40.json", "user", |_| ());
        assert_eq!(machine.found().unwrap(), "user");
        machine.write("home/qemu/firmware/40.json", "");
        assert_eq!(machine.found().unwrap(), "administrator");
        machine.write("home/qemu/firmware/50.json", "");
        assert_eq!(machine.found(), None);
    }

    #[test]
    fn where_nothing_is_described_known_paths_are_tried() {
        let machine = Machine::new();
        machine.write("usr/share/OVMF/OVMF_CODE.fd", "");
        machine.write("usr/share/OVMF/OVMF_VARS.fd", "");
        assert_eq!(machine.found().unwrap(), "OVMF_CODE.fd");
        machine.write("usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "");
        machine.write("usr/share/OVMF/OVMF_VARS_4M.fd", "");
        assert_eq!(machine.found_for(Boot::Secure).unwrap(), "OVMF_CODE_4M.secboot.fd");
        machine.write("usr/share/qemu/firmware/50.json", "");
        assert_eq!(machine.found(), None, "that one is hidden");
    }
}
