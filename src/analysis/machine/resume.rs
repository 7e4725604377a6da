//! What a machine wakes up from: the kernel's options, a variable of its firmware and its swap in, devices out.
//!
//! `systemd-hibernate-resume-generator(8)`: `resume=` names the device; where that has a file system, `resume_offset=` says where
//! in it a swap file begins. Without them the system leaves the device in a variable
//! of the firmware when it goes to sleep, which is gone once it has woken up.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::block::Blocks;
use super::kernel_options::KernelOptions;
use super::root::Root;
use ocinitrd_format::text::escaped_error;

const VARIABLE: &str = "/sys/firmware/efi/efivars/HibernateLocation-8cf2644b-4b0b-428f-9387-6d876050dc67";
/// What stands before the value in a file of efivarfs.
const ATTRIBUTES_BYTES: usize = 4;
const SWAPS: &str = "/proc/swaps";
const LINKS: &str = "/dev/disk";

/// What a device is that a machine wakes up from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Target {
    /// Who says so: `resume=UUID=1234`.
    pub(super) name: String,
    /// The device in the same words.
    pub(super) given: String,
    /// Whether it is a swap file, in a file system on the device.
    pub(super) is_file: bool,
}

/// The content of the variable, as far as it matters here.
#[derive(Deserialize)]
struct Location {
    uuid: String,
    /// In pages; of a swap file alone it is not 0.
    #[serde(default)]
    offset: u64,
}

/// All devices that the machine may wake up from.
///
/// # Errors
/// Fails when the variable cannot be read or understood.
pub(super) fn targets(root: &Root, options: &KernelOptions) -> Result<Vec<Target>> {
    if options.has("noresume") {
        return Ok(Vec::new());
    }
    let mut targets = Vec::new();
    let is_file = options.values("resume_offset").any(|offset| !matches!(offset, "" | "0"));
    for given in options.values("resume").filter(|given| !given.is_empty()) {
        let end = if is_file { ", a swap file" } else { "" };
        let target = Target { name: format!("resume={given}{end}"), given: given.to_owned(), is_file };
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    if let Some(bytes) = root.bytes(VARIABLE)? {
        let location = parse_variable(&bytes).with_context(|| format!("reading {}", root.shown(VARIABLE)))?;
        let given = format!("UUID={}", location.uuid);
        let name = "the firmware's HibernateLocation".to_owned();
        targets.push(Target { name, given, is_file: location.offset > 0 });
    }
    Ok(targets)
}

/// The kernel's name of the device. Where no links are there to look it up, such as in a container, the only swap device is
/// taken for it.
pub(super) fn device(root: &Root, blocks: &Blocks<'_>, target: &Target) -> Result<Option<String>> {
    let found = blocks.find(&target.given)?;
    if found.is_some() || root.has(LINKS) || target.is_file {
        return Ok(found);
    }
    let swaps = swap_devices(&root.text(SWAPS)?.unwrap_or_default());
    match swaps.as_slice() {
        [only] => blocks.find(only),
        _ => Ok(None),
    }
}

/// The partitions in the text of `/proc/swaps`; memory that is compressed is none.
fn swap_devices(text: &str) -> Vec<String> {
    let fields = text.lines().skip(1).map(|line| line.split_ascii_whitespace());
    let partitions = fields.filter_map(|mut fields| Some((fields.next()?, fields.next()?)));
    let is_disk = |(path, kind): &(&str, &str)| *kind == "partition" && !path.starts_with("/dev/zram");
    partitions.filter(is_disk).map(|(path, _)| path.to_owned()).collect()
}

/// What is missing where a target's device has a file system that is mounted, as `holds_mount` says, and no swap file is named.
pub(super) fn untold(target: &Target, holds_mount: Option<&str>) -> Option<String> {
    let point = holds_mount.filter(|_| !target.is_file)?;
    Some(format!(
        "{} is the device of {point}, a file system: without resume_offset=, as of a swap file in it, nothing is found there to \
         wake up from",
        target.name
    ))
}

fn parse_variable(bytes: &[u8]) -> Result<Location> {
    let value = bytes.get(ATTRIBUTES_BYTES..).context("it is too short for a variable")?;
    let units: Vec<u16> = value.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let text = String::from_utf16_lossy(&units);
    serde_json::from_str(text.trim_end_matches('\0')).map_err(escaped_error).context("it holds no location")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::super::kernel_options::parse;
    use super::*;

    fn names(fixture: &Fixture, options: &str) -> Vec<String> {
        targets(&fixture.root(), &parse(options)).unwrap().into_iter().map(|target| target.name).collect()
    }

    #[test]
    fn options_name_devices_once_and_may_forbid_it() {
        let fixture = Fixture::new();
        let options = "resume=UUID=12 resume=/dev/sda3 resume=UUID=12 resume=";
        assert_eq!(names(&fixture, options), ["resume=UUID=12", "resume=/dev/sda3"]);
        assert!(names(&fixture, "resume=UUID=12 noresume").is_empty());
        assert!(names(&fixture, "root=/dev/sda2").is_empty());
        assert_eq!(names(&fixture, "resume=UUID=12 resume_offset=38912"), ["resume=UUID=12, a swap file"]);
        assert_eq!(names(&fixture, "resume=UUID=12 resume_offset=0"), ["resume=UUID=12"]);
    }

    #[test]
    fn the_firmware_s_variable_names_a_device() {
        let fixture = Fixture::new();
        let json = "{\"uuid\":\"0c1d2d00-e4f5-4a6b-8c7d-000000000004\",\"offset\":0,\"kernelVersion\":\"6.12\"}\0";
        let value: Vec<u8> = json.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let bytes = [&[7, 0, 0, 0], value.as_slice()].concat();
        assert_eq!(parse_variable(&bytes).unwrap().uuid, "0c1d2d00-e4f5-4a6b-8c7d-000000000004");
        fixture.directory("sys/firmware/efi/efivars");
        std::fs::write(fixture.path().join(&VARIABLE[1..]), &bytes).unwrap();
        assert_eq!(names(&fixture, ""), ["the firmware's HibernateLocation"]);
        std::fs::write(fixture.path().join(&VARIABLE[1..]), [7, 0]).unwrap();
        let error = format!("{:#}", targets(&fixture.root(), &parse("")).unwrap_err());
        assert!(error.contains("HibernateLocation-") && error.ends_with("it is too short for a variable"), "{error}");
    }

    #[test]
    fn without_links_the_only_swap_device_is_taken() {
        let fixture = Fixture::new();
        fixture.disk("sda", "pci0000:00/0000:00:17.0", &[]).partition("sda", "sda3");
        let header = "Filename\tType\tSize\tUsed\tPriority\n";
        let lines = "/dev/sda3 partition 1 0 -2\n/dev/zram0 partition 1 0 100\n/swapfile file 1 0 -3\n";
        fixture.write("proc/swaps", &format!("{header}{lines}"));
        let root = fixture.root();
        let blocks = Blocks::read(&root).unwrap();
        let mut target = Target { name: String::new(), given: "UUID=12".to_owned(), is_file: false };
        assert_eq!(device(&root, &blocks, &target).unwrap().as_deref(), Some("sda3"));
        target.is_file = true;
        assert_eq!(device(&root, &blocks, &target).unwrap(), None, "a swap file is on no swap device");
        target.is_file = false;
        fixture.directory("dev/disk");
        assert_eq!(device(&root, &blocks, &target).unwrap(), None);
        assert_eq!(swap_devices(&format!("{header}/dev/a partition 1\n/dev/b partition 2\n")).len(), 2);
    }
}
