//! The keymap and the font that `/etc/vconsole.conf` names: the settings in, the files that systemd-vconsole-setup(8) has
//! loadkeys(1) and setfont(8) read out.
//!
//! Files are looked for as those programs do it: keymaps in a whole directory tree, what keymaps include by its name, the rest
//! in one directory, each with the endings that it may have.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::format::compress::Members;
use crate::regular_file::{self, TEXT_LIMIT_BYTES};

const CONFIGURATION: &str = "etc/vconsole.conf";
/// Where what belongs to kbd is: with Fedora, with SUSE and Arch, and with Debian.
const DATA: [&str; 3] = ["usr/lib/kbd", "usr/share/kbd", "usr/share"];
/// What the files are compressed with; nothing first.
const COMPRESSIONS: [&str; 5] = ["", ".gz", ".bz2", ".xz", ".zst"];
/// The keymap that the kernel has built in.
const KERNEL_KEYMAP: &str = "@kernel";
const LOADKEYS: &str = "usr/bin/loadkeys";
const SETFONT: &str = "usr/bin/setfont";

/// The settings, in which directory their files are, what those end in, and which program reads them.
const SETTINGS: [Kind; 5] = [
    Kind { key: "KEYMAP", directory: KEYMAPS, endings: &["", ".kmap", ".map"], program: LOADKEYS },
    Kind { key: "KEYMAP_TOGGLE", directory: KEYMAPS, endings: &["", ".kmap", ".map"], program: LOADKEYS },
    Kind { key: "FONT", directory: "consolefonts", endings: &["", ".psfu", ".psf", ".cp", ".fnt"], program: SETFONT },
    Kind {
        key: "FONT_MAP",
        directory: "consoletrans",
        endings: &["", ".trans", "_to_uni.trans", ".acm"],
        program: SETFONT,
    },
    Kind { key: "FONT_UNIMAP", directory: "unimaps", endings: &["", ".uni", ".sfm"], program: SETFONT },
];
const KEYMAPS: &str = "keymaps";
/// What files end in that keymaps include.
const INCLUDED: [&str; 4] = ["", ".inc", ".kmap", ".map"];

struct Kind {
    key: &'static str,
    directory: &'static str,
    endings: &'static [&'static str],
    program: &'static str,
}

/// What is set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// As it is written: `KEYMAP=de`.
    pub text: String,
    /// What is looked for: `de`.
    pub value: String,
    /// The directory that its files are in: `keymaps`.
    pub directory: &'static str,
    /// The program that reads them, without the leading slash.
    pub program: &'static str,
    /// Whether the machine has it.
    pub is_there: bool,
}

/// What is set, and the files for it, not compressed: an initrd need not have what decompresses them.
#[derive(Debug, Default)]
pub struct Console {
    /// The settings that need a file.
    pub settings: Vec<Setting>,
    /// Paths below the root, and contents.
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

impl Console {
    /// Reads what the machine has.
    ///
    /// # Errors
    /// Fails when a file that is there cannot be read.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let path = root.join(CONFIGURATION);
        let text = match regular_file::read_text(&path, TEXT_LIMIT_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Console::default()),
            read => read.with_context(|| format!("reading {}", path.display()))?,
        };
        let mut console = Console::default();
        let mut seen = BTreeSet::new();
        for kind in &SETTINGS {
            let Some(value) = value(&text, kind.key).filter(|value| value != KERNEL_KEYMAP) else { continue };
            let found = find(root, kind.directory, &value, kind.endings)?;
            console.settings.push(Setting {
                text: format!("{}={value}", kind.key),
                value,
                directory: kind.directory,
                program: kind.program,
                is_there: !found.is_empty(),
            });
            for path in found {
                console.add(root, path, kind.directory == KEYMAPS, &mut seen)?;
            }
        }
        Ok(console)
    }

    /// Adds a file, and what it includes if it is a keymap.
    fn add(&mut self, root: &Path, path: PathBuf, is_keymap: bool, seen: &mut BTreeSet<PathBuf>) -> Result<()> {
        if !seen.insert(path.clone()) {
            return Ok(());
        }
        let reading = || format!("reading {}", path.display());
        let file = regular_file::open(&path).with_context(reading)?;
        let bytes = regular_file::read_all(Members::new(file), TEXT_LIMIT_BYTES).with_context(reading)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let inside = path.strip_prefix(root).with_context(reading)?;
        self.files.push((uncompressed_name(inside), bytes));
        for name in text.lines().filter_map(included).filter(|_| is_keymap) {
            for path in find(root, KEYMAPS, name, &INCLUDED)? {
                self.add(root, path, is_keymap, seen)?;
            }
        }
        Ok(())
    }
}

/// What the last line sets that key to, if that is anything.
fn value(text: &str, key: &str) -> Option<String> {
    let mut values = text.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
    values.next_back().map(|value| value.trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
}

/// The name of the file that a line of a keymap includes: `include "linux-keys-bare"`.
fn included(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("include")?.trim().strip_prefix('"')?.strip_suffix('"')
}

/// All files of that name: which of several is taken is the program's to decide.
fn find(root: &Path, directory: &str, name: &str, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let fits = |path: &Path| {
        let rest = path.file_name().and_then(|name| name.to_str()).and_then(|file| file.strip_prefix(name));
        rest.is_some_and(|rest| {
            let ending = COMPRESSIONS.iter().rev().find_map(|compression| rest.strip_suffix(compression));
            endings.contains(&ending.unwrap_or(rest))
        })
    };
    let mut found = Vec::new();
    if let Some(inside) = name.strip_prefix('/') {
        found.extend(Some(root.join(inside)).filter(|path| path.is_file()));
        return Ok(found);
    }
    for place in DATA.map(|place| root.join(place).join(directory)).iter().filter(|place| place.is_dir()) {
        walk(place, directory == KEYMAPS, &mut |path| found.extend(fits(&path).then_some(path)))?;
    }
    found.sort();
    Ok(found)
}

/// Calls `each` with the files in a directory and, if it `is_deep`, below it.
fn walk(directory: &Path, is_deep: bool, each: &mut impl FnMut(PathBuf)) -> Result<()> {
    let reading = || format!("reading {}", directory.display());
    for entry in fs::read_dir(directory).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        // Links to directories would lead to the same files once more.
        if entry.file_type().with_context(reading)?.is_dir() {
            if is_deep {
                walk(&entry.path(), is_deep, each)?;
            }
        } else if entry.path().is_file() {
            each(entry.path());
        }
    }
    Ok(())
}

fn uncompressed_name(path: &Path) -> PathBuf {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if COMPRESSIONS[1..].iter().any(|compression| compression[1..] == *extension) {
        path.with_extension("")
    } else {
        path.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::machine::fixture::Fixture;

    fn paths(console: &Console) -> Vec<&str> {
        console.files.iter().map(|(path, _)| path.to_str().unwrap()).collect()
    }

    #[test]
    fn a_keymap_comes_with_what_it_includes_and_without_its_compression() {
        let root = Fixture::new();
        root.write("etc/vconsole.conf", "# keys\nKEYMAP=\"de\"\nFONT=eurlatgr\nXKBLAYOUT=de\n");
        root.write("usr/lib/kbd/keymaps/legacy/include/qwertz.inc", "include \"bare\"\ninclude \"qwertz\"\n");
        root.write("usr/lib/kbd/keymaps/legacy/i386/include/bare.map", "keycode 1 = Escape\n");
        root.write("usr/lib/kbd/keymaps/legacy/i386/qwertz/de-latin1.map", "another one");
        root.write("usr/lib/kbd/consolefonts/eurlatgr.psfu", "font")
            .write("usr/lib/kbd/consolefonts/sub/eurlatgr", "no");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"include \"qwertz\"\n").unwrap();
        fs::write(root.path().join("usr/lib/kbd/keymaps/legacy/i386/qwertz/de.map.gz"), gzip.finish().unwrap())
            .unwrap();
        let console = Console::read(root.path()).unwrap();
        assert_eq!(
            paths(&console),
            [
                "usr/lib/kbd/keymaps/legacy/i386/qwertz/de.map",
                "usr/lib/kbd/keymaps/legacy/include/qwertz.inc",
                "usr/lib/kbd/keymaps/legacy/i386/include/bare.map",
                "usr/lib/kbd/consolefonts/eurlatgr.psfu",
            ]
        );
        assert_eq!(console.files[0].1, b"include \"qwertz\"\n");
        assert!(console.settings.iter().all(|setting| setting.is_there));
        assert_eq!((console.settings[0].text.as_str(), console.settings[1].program), ("KEYMAP=de", "usr/bin/setfont"));
    }

    #[test]
    fn what_is_set_and_not_there_is_known() {
        let root = Fixture::new();
        assert!(Console::read(root.path()).unwrap().settings.is_empty());
        root.write("etc/vconsole.conf", "KEYMAP=@kernel\nFONT=\nKEYMAP_TOGGLE=ru\n");
        let console = Console::read(root.path()).unwrap();
        assert_eq!(console.settings.len(), 1, "neither the kernel's keymap nor none needs a file");
        assert!(!console.settings[0].is_there && console.files.is_empty());
        root.write("etc/vconsole.conf", "KEYMAP=/etc/my.map\n").write("etc/my.map", "keycode 1 = Escape\n");
        assert_eq!(paths(&Console::read(root.path()).unwrap()), ["etc/my.map"]);
    }
}
