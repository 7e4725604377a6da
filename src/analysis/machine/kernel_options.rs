//! The kernel's options: the text of `/proc/cmdline` or of `/etc/kernel/cmdline` in, what initrds read of them out.
//!
//! `kernel-command-line(7)`, `systemd-cryptsetup-generator(8)`. Both files count: the one is how the machine was booted, the
//! other how kernels that are installed from now on will be.

use anyhow::Result;

use super::crypttab::split_options;
use super::root::Root;
use ocinitrd_format::command_line::{self, Reader};

/// What the machine was booted with.
const BOOTED: &str = "/proc/cmdline";
/// What kernels that are installed from now on are booted with.
const CONFIGURED: &str = "/etc/kernel/cmdline";

/// Names and values, in the order of the files.
#[derive(Clone, Debug, Default)]
pub(super) struct KernelOptions(Vec<(String, String)>);

impl KernelOptions {
    /// # Errors
    /// Fails when a file exists and cannot be read.
    pub(super) fn read(root: &Root) -> Result<Self> {
        let mut options = parse(&root.text(BOOTED)?.unwrap_or_default());
        options.0.extend(parse(&command_line::of_file(&root.text(CONFIGURED)?.unwrap_or_default())).0);
        Ok(options)
    }

    /// All values of an option, by its name with `_`.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the option is there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// Whether a word is part of any value, as a network card's name is of `ip=`.
    pub(super) fn mentions(&self, word: &str) -> bool {
        let is_between = |value: &str| value.split([':', ',', '=']).any(|part| part == word);
        !word.is_empty() && self.0.iter().any(|(_, value)| is_between(value))
    }

    /// Whether an option tells the initrd to open the LUKS volume with this UUID.
    pub(super) fn opens(&self, uuid: &str) -> bool {
        let named = self.luks("name").map(|value| value.split('=').next().unwrap_or(value));
        let mut uuids = self.luks("uuid").chain(named);
        uuids.any(|value| same_uuid(value.strip_prefix("luks-").unwrap_or(value), uuid))
    }

    /// The options of crypttab that the kernel's command line gives to this volume.
    pub(super) fn volume_options(&self, uuid: &str) -> Vec<String> {
        self.luks("options").filter_map(|value| of_volume(value, uuid)).flat_map(split_options).collect()
    }

    /// The key that the kernel's command line gives to this volume.
    pub(super) fn volume_key(&self, uuid: &str) -> Option<&str> {
        self.luks("key").filter_map(|value| of_volume(value, uuid)).last()
    }

    fn luks<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let names = [format!("luks.{name}"), format!("rd.luks.{name}")];
        self.0.iter().filter(move |(key, _)| names.contains(key)).map(|(_, value)| value.as_str())
    }
}

/// Reads the options as the initrd's systemd does.
pub(super) fn parse(text: &str) -> KernelOptions {
    let options = Reader::Systemd.options(text).into_iter();
    KernelOptions(options.map(|option| (option.name, option.value.unwrap_or_default())).collect())
}

/// The part of `[UUID=]VALUE` that holds for the volume with this UUID, if it does.
fn of_volume<'a>(value: &'a str, uuid: &str) -> Option<&'a str> {
    match value.split_once('=') {
        Some((other, rest)) if is_uuid(other) => same_uuid(other, uuid).then_some(rest),
        _ => Some(value),
    }
}

fn is_uuid(text: &str) -> bool {
    let digits = text.bytes().filter(|byte| *byte != b'-');
    digits.clone().count() == 32 && digits.clone().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether two UUIDs are the same, with dashes or without.
fn same_uuid(one: &str, other: &str) -> bool {
    one.replace('-', "").eq_ignore_ascii_case(&other.replace('-', ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    const UUID: &str = "0c1d2d00111140008000000000000001";

    #[test]
    fn quotes_hold_words_together_and_values_may_hold_equals_signs() {
        let options = parse("root=UUID=12 quiet  resume=/dev/a \"x=a b\" resume=\"/dev/b\"\n");
        assert_eq!(options.values("root").collect::<Vec<_>>(), ["UUID=12"]);
        assert_eq!(options.values("resume").collect::<Vec<_>>(), ["/dev/a", "/dev/b"]);
        assert_eq!(options.values("x").collect::<Vec<_>>(), ["a b"]);
        assert!(options.has("quiet") && !options.has("noresume"));
    }

    #[test]
    fn comments_of_a_file_are_no_options_and_dashes_in_names_count_as_underscores() {
        let fixture = Fixture::new();
        fixture.write("etc/kernel/cmdline", "# resume=/dev/a\nresume-offset=1 'x=a b'\n");
        let options = KernelOptions::read(&Root::open(fixture.path()).unwrap()).unwrap();
        assert!(!options.has("resume") && options.has("resume_offset"));
        assert_eq!(options.values("x").collect::<Vec<_>>(), ["a b"]);
    }

    #[test]
    fn a_volume_is_opened_by_its_uuid() {
        for text in [
            "rd.luks.uuid=0c1d2d00-1111-4000-8000-000000000001",
            "luks.uuid=luks-0C1D2D00-1111-4000-8000-000000000001",
            "rd.luks.name=0c1d2d00-1111-4000-8000-000000000001=root",
        ] {
            assert!(parse(text).opens(UUID), "{text}");
        }
        assert!(!parse("rd.luks.uuid=0c1d2d00-1111-4000-8000-000000000002 root=/dev/mapper/x").opens(UUID));
    }

    #[test]
    fn options_and_keys_are_for_one_volume_or_for_all() {
        let options = parse(
            "rd.luks.options=tpm2-device=auto,discard luks.options=0c1d2d00-1111-4000-8000-000000000001=header=/h \
             rd.luks.options=0c1d2d00-1111-4000-8000-000000000002=fido2-device=auto \
             rd.luks.key=0c1d2d00-1111-4000-8000-000000000001=/k:LABEL=keys",
        );
        assert_eq!(options.volume_options(UUID), ["tpm2-device=auto", "discard", "header=/h"]);
        assert_eq!(options.volume_key(UUID), Some("/k:LABEL=keys"));
        assert_eq!(options.volume_key("0c1d2d00111140008000000000000002"), None);
    }
}
