//! Presets of a definition (systemd.preset(5)): which of the units that they enable an installed tree lacks.
//!
//! systemd ignores such a line in silence, as presets may speak of packages that are not there. In a definition it is a mistake
//! more often than not: the initrd would lack the service, and nothing would tell.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::definition::extra_tree::{self, Content};
use crate::image::tree::{Tree, join};
use ocinitrd_format::text::Escaped;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// Where systemd looks for the presets of a system and, since version 258, for those of an initrd.
const DIRECTORIES: [&str; 2] = ["system-preset", "initrd-preset"];
/// Where systemd looks for units.
const UNITS: [&str; 3] = ["etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"];

/// What a person should know of the presets in `extra_trees`, which were laid over `tree`: a line for each unit that is enabled
/// and not there.
///
/// # Errors
/// Fails when an extra tree cannot be read.
pub fn remarks(tree: &Tree, extra_trees: &[PathBuf]) -> Result<Vec<String>> {
    let mut remarks = Vec::new();
    for extra_tree in extra_trees {
        for member in extra_tree::read(extra_tree)? {
            let Content::File(file) = member.content else { continue };
            if !is_preset(&member.path) {
                continue;
            }
            let text = regular_file::read_text(&file, TEXT_LIMIT_BYTES);
            let text = text.with_context(|| format!("reading the preset {}", file.display()))?;
            let missing = enabled(&text).filter(|unit| !has_unit(tree, unit));
            remarks.extend(missing.map(|unit| {
                let (file, unit) = (file.display(), Escaped::text(unit));
                format!("the preset {file} enables {unit}, and no package and no extra tree brings that unit")
            }));
        }
    }
    remarks.sort();
    remarks.dedup();
    Ok(remarks)
}

fn is_preset(path: &Path) -> bool {
    let directory = path.parent().and_then(|directory| directory.file_name()).and_then(|name| name.to_str());
    path.extension().is_some_and(|extension| extension == "preset")
        && directory.is_some_and(|name| DIRECTORIES.contains(&name))
}

/// The units that the lines of a preset enable by their names; a pattern takes those that are there.
fn enabled(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let unit = words.next().filter(|directive| *directive == "enable").and_then(|_| words.next())?;
        Some(unit).filter(|unit| !unit.contains(['*', '?', '[']))
    })
}

/// Whether there is the unit, or the template of which it is an instance.
fn has_unit(tree: &Tree, unit: &str) -> bool {
    let template = unit.split_once('@').and_then(|(name, rest)| Some(format!("{name}@.{}", rest.rsplit_once('.')?.1)));
    let names = [Some(unit.to_owned()), template].into_iter().flatten();
    let mut places = names.flat_map(|name| UNITS.map(|directory| join(directory.as_bytes(), name.as_bytes())));
    places.any(|path| tree.resolve(&path).is_some())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::image::tree::Content as Bytes;

    fn remarks_of(path: &str, text: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        let mut tree = Tree::new();
        for unit in ["usr/lib/systemd/system/there.service", "etc/systemd/system/there@.socket"] {
            tree.add_file(unit.as_bytes(), Bytes::from_bytes(*b""), 0o644, 0).unwrap();
        }
        let remarks = remarks(&tree, &[directory.path().to_owned()]).unwrap();
        let place = format!("{}/", directory.path().display());
        remarks.iter().map(|remark| remark.replace(&place, "")).collect()
    }

    #[test]
    fn a_unit_that_is_not_there_is_named_with_its_preset() {
        let text = "# enable no.service\nenable there.service\n enable\tabsent.service\nenable absent.service\ndisable off.service\n\
                    enable there@tty1.socket\nenable any*.service\nenable absent@.timer a b\nenable\n";
        for path in ["usr/lib/systemd/system-preset/50-x.preset", "etc/systemd/initrd-preset/50-x.preset"] {
            let expected = ["absent.service", "absent@.timer"].map(|unit| {
                format!("the preset {path} enables {unit}, and no package and no extra tree brings that unit")
            });
            assert_eq!(remarks_of(path, text), expected);
        }
        for path in
            ["usr/lib/systemd/system-preset/50-x.conf", "usr/share/50-x.preset", "usr/lib/systemd/user-preset/x.preset"]
        {
            assert!(remarks_of(path, text).is_empty(), "{path}");
        }
    }
}
