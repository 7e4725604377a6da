//! Names of what is no package: repositories, profiles, kernels, units, images, and patterns of files.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use serde::de::{Deserialize, Deserializer, Error};

use super::{NAME_MAX_BYTES, check_characters, text_type};
use ocinitrd_format::text::{Escaped, quoted};

text_type! {
    /// The id of a repository: a section of dnf's configuration, and a directory.
    RepositoryId, check_repository_id
}

text_type! {
    /// The name of a profile. Several are separated by commas on the command line.
    ProfileName, check_profile_name
}

text_type! {
    /// What dnf calls `releasever`: a part of addresses, and an argument.
    ReleaseVersion, check_release_version
}

text_type! {
    /// The version of a kernel, as `uname -r` prints it: a directory of modules, and a part of the names of outputs.
    KernelVersion, check_kernel_version
}

text_type! {
    /// The name of a unit of systemd with its type, such as `tmp.mount`. Specification: systemd.unit(5).
    UnitName, check_unit_name
}

text_type! {
    /// A pattern of the names of files in one directory. A shell reads it.
    FileGlob, check_file_glob
}

fn check_repository_id(id: &str) -> Result<()> {
    check_characters(id, "the id of a repository", "_", "-_.:")?;
    // dnf would take its section for the settings of all repositories.
    ensure!(id != "main", "a repository cannot be called main: dnf has its own settings under that name");
    Ok(())
}

fn check_profile_name(name: &str) -> Result<()> {
    check_characters(name, "the name of a profile", "_", "._+@-")
}

fn check_release_version(version: &str) -> Result<()> {
    check_characters(version, "a releasever", "", "._+~-")
}

fn check_kernel_version(version: &str) -> Result<()> {
    check_characters(version, "the version of a kernel", "", "._+~^-")
}

const UNIT_TYPES: [&str; 11] =
    ["automount", "device", "mount", "path", "scope", "service", "slice", "socket", "swap", "target", "timer"];

fn check_unit_name(name: &str) -> Result<()> {
    check_characters(name, "the name of a unit", "_:\\-", ":-_.\\@")?;
    let is_typed = name.rsplit_once('.').is_some_and(|(stem, kind)| !stem.is_empty() && UNIT_TYPES.contains(&kind));
    ensure!(is_typed, "{} is not the name of a unit: it lacks the type, as in tmp.mount", quoted(name.as_bytes()));
    Ok(())
}

fn check_file_glob(glob: &str) -> Result<()> {
    check_characters(glob, "a pattern of files of one directory", "_*?[", "._+-:@*?[]!")
}

/// Refuses text that is empty or more than one line: patterns and paths that only this program reads.
///
/// # Errors
/// Fails naming what is wrong.
pub fn check_line(text: &str) -> Result<()> {
    ensure!(!text.is_empty(), "\"\" is empty: write a name or a pattern, or leave it out");
    let is_one_line = !text.chars().any(char::is_control);
    ensure!(is_one_line, "{} has a control character, such as the end of a line", quoted(text.as_bytes()));
    Ok(())
}

/// Reads a list of texts of one line each.
///
/// # Errors
/// As [`check_line`].
pub fn lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let lines = Vec::<String>::deserialize(deserializer)?;
    lines.iter().try_for_each(|line| check_line(line)).map_err(D::Error::custom)?;
    Ok(lines)
}

/// Reads lists by names, all of them texts of one line each.
///
/// # Errors
/// As [`check_line`].
pub fn line_lists<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let lists = BTreeMap::<String, Vec<String>>::deserialize(deserializer)?;
    lists.keys().chain(lists.values().flatten()).try_for_each(|line| check_line(line)).map_err(D::Error::custom)?;
    Ok(lists)
}

/// Refuses what is no name for an image: it becomes the name of its lock, and stands in commands that messages recommend.
///
/// # Errors
/// Fails naming what is wrong.
pub fn check_image_name(name: &str) -> Result<()> {
    let shown = quoted(name.as_bytes());
    if name.is_empty() || name.starts_with(['-', '.']) {
        bail!("{shown} is no name for an image: it must not be empty, and not begin with \"-\" or \".\"");
    }
    if name.contains(['/', char::REPLACEMENT_CHARACTER]) || Escaped::text(name).to_string() != name {
        bail!("{shown} is no name for an image: it must be printable text without \"/\" and \"\\\"");
    }
    ensure!(name.len() <= NAME_MAX_BYTES, "{shown} is no name for an image: it has more than {NAME_MAX_BYTES} bytes");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the type takes of these, and that it refuses everything that could be an option, a path or several words.
    fn check<T: std::str::FromStr>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text:?}");
        }
        for text in
            ["", " ", "-x", "--x=y", "..", "../x", "a/b", "a b", "a\nb", "a\r", "a\u{1b}[1m", "a\0b"].iter().chain(bad)
        {
            assert!(text.parse::<T>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_have_their_grammars() {
        check::<RepositoryId>(&["fedora", "updates-testing", "a:b.c_d"], &["main", "a]", ".a", "a\n[main]"]);
        check::<ProfileName>(&["lvm", "disk-maker", "v1.2"], &["a,b", ".a"]);
        check::<ReleaseVersion>(&["44", "10-stream", "rawhide", "9.4"], &["44 --enablerepo=x", "$x"]);
        check::<KernelVersion>(&["6.12.118+deb13-amd64", "6.17.1-300.fc44.x86_64+debug"], &["6.12 x", "6.12/x"]);
        check::<FileGlob>(&["20-*.hwdb", "[a-z]*"], &["*/../x", "a*;b"]);
    }

    #[test]
    fn units_have_a_type() {
        for unit in ["tmp.mount", "systemd-backlight@.service", "dev-disk-by\\x2duuid-1.swap", "-.mount"] {
            assert!(unit.parse::<UnitName>().is_ok(), "{unit}");
        }
        for unit in ["", "tmp", "../../x.service", ".mount", "a b.service", "a.service\n", "a.conf"] {
            assert!(unit.parse::<UnitName>().is_err(), "{unit:?}");
        }
    }

    #[test]
    fn images_have_printable_names() {
        for name in ["fedora-44", "grün", "my image", "a.b"] {
            check_image_name(name).unwrap();
        }
        for name in ["", ".", "..", "-x", "a/b", "a\nb", "a\u{202e}b", "a\u{fffd}"] {
            assert!(check_image_name(name).is_err(), "{name:?}");
        }
    }
}
