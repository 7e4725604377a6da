//! The keymap and the font that `/etc/vconsole.conf` of a machine names ([`crate::vconsole`]): the settings in, the files that
//! loadkeys(1) and setfont(8) read out.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::format::compress::Members;
use crate::regular_file::{self, TEXT_LIMIT_BYTES};
use crate::vconsole::{self, CONFIGURATION, DATA, INCLUDED, KEYMAPS, KINDS};

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
        for kind in &KINDS {
            let Some(value) = kind.value(&text) else { continue };
            let found = find(root, kind.directory, &value, kind.endings)?;
            console.settings.push(Setting {
                text: format!("{}={value}", kind.key),
                value,
                directory: kind.directory,
                program: kind.program,
                is_there: !found.is_empty(),
            });
            for path in found {
                console.add(root, path, kind.is_keymap(), &mut seen)?;
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
        for name in vconsole::included(&text).filter(|_| is_keymap) {
            for path in find(root, KEYMAPS, name, &INCLUDED)? {
                self.add(root, path, is_keymap, seen)?;
            }
        }
        Ok(())
    }
}

/// All files of that name: which of several is taken is the program's to decide.
fn find(root: &Path, directory: &str, name: &str, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let fits = |path: &Path| {
        let file = path.file_name().and_then(|name| name.to_str());
        file.is_some_and(|file| vconsole::fits(file, name, endings))
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
    if vconsole::is_compression(extension) { path.with_extension("") } else { path.to_owned() }
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
