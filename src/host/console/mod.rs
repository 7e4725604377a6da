//! The keymap and the font that a machine's console has ([`crate::image::vconsole`]): the settings in, the files that loadkeys(1) and
//! setfont(8) read out.
//!
//! They are set by `/etc/vconsole.conf`, by the kernel's command line, or, on Debian, by `/etc/default/keyboard` ([`keyboard`]).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::files;
use crate::analysis::machine;
use crate::analysis::needs::Holdings;
use crate::image::vconsole::{self, CONFIGURATION, DATA, INCLUDED, KEYMAPS, KINDS, Kind, SETUP};
use ocinitrd_format::compress::MultiDecoder;
use ocinitrd_support::links;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

mod keyboard;

/// What is set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// As it is written, and where: `KEYMAP=de of /etc/vconsole.conf`.
    pub text: String,
    /// What is looked for: `de`.
    pub value: String,
    /// The directory that its files are in: `keymaps`.
    pub directory: &'static str,
    /// What those may end in.
    pub endings: &'static [&'static str],
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
    pub fn read(root: &Path) -> Result<Self> {
        let text = text_of(root, CONFIGURATION)?.unwrap_or_default();
        let mut console = Console::default();
        let mut seen = BTreeSet::new();
        for kind in &KINDS {
            if let Some(value) = kind.value(&text) {
                let text = format!("{}={value} of /{CONFIGURATION}", kind.key);
                console.set(root, kind, value, text, &mut seen)?;
            }
            for option in kind.options {
                let values: BTreeSet<String> = machine::kernel_option(root, option)?.into_iter().collect();
                for value in values.into_iter().filter(|value| !value.is_empty()) {
                    let text = format!("{option}={value} on the kernel's command line");
                    console.set(root, kind, value, text, &mut seen)?;
                }
            }
        }
        if !text.lines().any(|line| line.trim().starts_with("KEYMAP=")) {
            console.add_keyboard(root, &text, &mut seen)?;
        }
        Ok(console)
    }

    /// Sets what Debian says of the keyboard: there no file names a keymap of the console.
    fn add_keyboard(&mut self, root: &Path, settings: &str, seen: &mut BTreeSet<PathBuf>) -> Result<()> {
        let Some((layout, keymap)) = keyboard::keymap(root)? else { return Ok(()) };
        let text = format!("{settings}\n# Of {}: {layout}\nKEYMAP={keymap}\n", keyboard::CONFIGURATION);
        self.files.push((CONFIGURATION.into(), text.into_bytes()));
        self.set(root, &KINDS[0], keymap, format!("{layout} of {}", keyboard::CONFIGURATION), seen)
    }

    /// Sets a kind of setting; `text` says what, and who says so.
    fn set(
        &mut self,
        root: &Path,
        kind: &Kind,
        value: String,
        text: String,
        seen: &mut BTreeSet<PathBuf>,
    ) -> Result<()> {
        let found = find(root, kind.directory, &value, kind.endings)?;
        self.settings.push(Setting {
            text,
            value,
            directory: kind.directory,
            endings: kind.endings,
            program: kind.program,
            is_there: !found.is_empty(),
        });
        found.into_iter().try_for_each(|path| self.add(root, path, kind.is_keymap(), seen))
    }

    /// What a person should know of settings that an initrd with these files does not follow, a line each.
    pub fn remarks(&self, holdings: &Holdings, somebody_types: bool) -> Vec<String> {
        remarks(&self.settings, holdings, somebody_types)
    }

    /// Adds a file, and what it includes if it is a keymap.
    fn add(&mut self, root: &Path, path: PathBuf, is_keymap: bool, seen: &mut BTreeSet<PathBuf>) -> Result<()> {
        if !seen.insert(path.clone()) {
            return Ok(());
        }
        let reading = || format!("reading {}", files::shown(root, &path));
        let file = links::place(root, &path).and_then(|place| regular_file::open(&place)).with_context(reading)?;
        let bytes = regular_file::read_all(MultiDecoder::new(file), TEXT_LIMIT_BYTES).with_context(reading)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        self.files.push((uncompressed_name(&path), bytes));
        for name in vconsole::included(&text).filter(|_| is_keymap) {
            for path in find(root, KEYMAPS, name, &INCLUDED)? {
                self.add(root, path, is_keymap, seen)?;
            }
        }
        Ok(())
    }
}

/// The text of a file, if it is there.
fn text_of(root: &Path, path: &str) -> Result<Option<String>> {
    if links::is_nothing(root, Path::new(path)) {
        return Ok(None);
    }
    match links::place(root, Path::new(path)).and_then(|place| regular_file::read_text(&place, TEXT_LIMIT_BYTES)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => Ok(Some(read.with_context(|| format!("reading {}", files::shown(root, Path::new(path))))?)),
    }
}

fn remarks(settings: &[Setting], holdings: &Holdings, somebody_types: bool) -> Vec<String> {
    let has = |path: &str| holdings.paths().any(|held| held == path);
    let mut remarks = Vec::new();
    for setting in settings {
        let Setting { text, directory, program, is_there, .. } = setting;
        let is_felt = somebody_types && *directory == KEYMAPS;
        let keys = if is_felt { "; until then a passphrase is typed on other keys" } else { "" };
        let programs: Vec<String> =
            [SETUP, *program].iter().filter(|path| !has(path)).map(|path| format!("/{path}")).collect();
        if !programs.is_empty() {
            remarks.push(format!(
                "{text} does not count in the initrd, since the base has no {}: build it with --profile vconsole{keys}",
                programs.join(" and no ")
            ));
        } else if !is_there && !holdings.paths().any(|path| setting.is_of(path)) {
            remarks.push(format!(
                "{text} is in no directory {directory} of this machine or of the base: install the package that has it, kbd-misc \
                 or kbd-legacy{keys}"
            ));
        }
    }
    remarks
}

impl Setting {
    /// Whether a file of an initrd is one that the value names.
    fn is_of(&self, path: &str) -> bool {
        if let Some(inside) = self.value.strip_prefix('/') {
            return vconsole::fits(path, inside, &[""]);
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        path.split('/').any(|part| part == self.directory) && vconsole::fits(name, &self.value, self.endings)
    }
}

/// All files of that name, as paths below the root: which of several is taken is the program's to decide.
fn find(root: &Path, directory: &str, name: &str, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let fits = |path: &Path| {
        let file = path.file_name().and_then(|name| name.to_str());
        file.is_some_and(|file| vconsole::fits(file, name, endings))
    };
    let mut found = Vec::new();
    if let Some(inside) = name.strip_prefix('/') {
        // It goes in without its compression, and is named so.
        let paths = [inside.to_owned(), format!("{inside}.gz")].map(PathBuf::from);
        found.extend(paths.into_iter().find(|path| links::is_file(root, path)));
        return Ok(found);
    }
    for place in DATA.map(|place| Path::new(place).join(directory)) {
        walk(root, &place, directory == KEYMAPS, &mut |path| found.extend(fits(&path).then_some(path)))?;
    }
    found.sort();
    Ok(found)
}

/// Calls `each` with the files in a directory, if it is there, and, if it `is_deep`, below it.
fn walk(root: &Path, directory: &Path, is_deep: bool, each: &mut impl FnMut(PathBuf)) -> Result<()> {
    let reading = || format!("reading {}", files::shown(root, directory));
    let place = files::place(root, directory)?;
    if !place.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(place).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let path = directory.join(entry.file_name());
        // Links to directories would lead to the same files once more.
        if entry.file_type().with_context(reading)?.is_dir() {
            if is_deep {
                walk(root, &path, is_deep, each)?;
            }
        } else if links::is_file(root, &path) {
            each(path);
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
    use crate::analysis::machine::fixture::Fixture;

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
        let said = (console.settings[0].text.as_str(), console.settings[1].program);
        assert_eq!(said, ("KEYMAP=de of /etc/vconsole.conf", "usr/bin/setfont"));
    }

    #[test]
    fn symlinks_lead_below_the_machine_s_root() {
        let root = Fixture::new();
        root.link("etc/vconsole.conf", "/srv/vconsole.conf").write("srv/vconsole.conf", "KEYMAP=de\n");
        root.link("usr/lib/kbd", "/srv/kbd").write("srv/maps/de.map", "keycode 1 = Escape\n");
        root.link("srv/kbd/keymaps/de.map", "/srv/maps/de.map").link("srv/kbd/keymaps/de.kmap", "/etc/passwd");
        assert_eq!(paths(&Console::read(root.path()).unwrap()), ["usr/lib/kbd/keymaps/de.map"]);
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

    #[test]
    fn the_command_line_names_keymaps_too() {
        let root = Fixture::new();
        root.write(
            "proc/cmdline",
            "root=/dev/sda2 vconsole.keymap=fr rd.vconsole.font=eurlatgr vconsole.font=eurlatgr\n",
        );
        root.write("usr/lib/kbd/keymaps/i386/fr.map", "keycode 1 = Escape\n");
        root.write("usr/lib/kbd/consolefonts/eurlatgr.psfu", "font");
        let console = Console::read(root.path()).unwrap();
        assert_eq!(paths(&console), ["usr/lib/kbd/keymaps/i386/fr.map", "usr/lib/kbd/consolefonts/eurlatgr.psfu"]);
        assert_eq!(console.settings[0].text, "vconsole.keymap=fr on the kernel's command line");
    }

    #[test]
    fn debian_s_keyboard_becomes_a_keymap_of_the_console() {
        let root = Fixture::new();
        root.write("etc/default/keyboard", "XKBMODEL=\"pc105\"\nXKBLAYOUT=\"us\"\nXKBVARIANT=\"\"\n");
        assert!(Console::read(root.path()).unwrap().settings.is_empty(), "it is what the kernel has");
        root.write("etc/default/keyboard", "XKBLAYOUT=\"de\"\nXKBVARIANT=\"nodeadkeys\"\n");
        root.write("usr/share/keymaps/xkb/de-nodeadkeys.map", "keycode 1 = Escape\n");
        let console = Console::read(root.path()).unwrap();
        assert_eq!(paths(&console), ["etc/vconsole.conf", "usr/share/keymaps/xkb/de-nodeadkeys.map"]);
        assert!(console.files[0].1.ends_with(b"\nKEYMAP=de-nodeadkeys\n"));
        assert_eq!(console.settings[0].text, "XKBLAYOUT=de of /etc/default/keyboard");
        // What console-setup made of it is the same keymap.
        root.write("etc/console-setup/cached_UTF-8_del.kmap", "keycode 1 = Escape\n");
        let console = Console::read(root.path()).unwrap();
        assert_eq!(paths(&console), ["etc/vconsole.conf", "etc/console-setup/cached_UTF-8_del.kmap"]);
        root.write("etc/vconsole.conf", "KEYMAP=fr\n");
        assert_eq!(Console::read(root.path()).unwrap().settings.len(), 1, "who names a keymap means it");
    }

    fn remarks_of(is_there: bool, paths: &[&str]) -> Vec<String> {
        let setting = Setting {
            text: "KEYMAP=de of /etc/vconsole.conf".to_owned(),
            value: "de".to_owned(),
            directory: "keymaps",
            endings: KINDS[0].endings,
            program: "usr/bin/loadkeys",
            is_there,
        };
        remarks(&[setting], &Holdings::new(paths.iter().map(|path| (*path).to_owned()), ""), true)
    }

    #[test]
    fn a_keymap_takes_the_programs_and_a_file_of_the_machine_or_of_the_base() {
        let programs = ["usr/lib/systemd/systemd-vconsole-setup", "usr/bin/loadkeys"];
        assert!(remarks_of(true, &programs).is_empty());
        assert!(remarks_of(false, &programs)[0].contains("in no directory keymaps"));
        let with = |path| remarks_of(false, &[&programs[..], &[path]].concat());
        assert!(with("usr/lib/kbd/keymaps/xkb/de.map.gz").is_empty());
        for other in ["de-nodeadkeys.map.gz", "de.inc", "de_CH-latin1.map.gz", "de.doc"] {
            let path = format!("usr/lib/kbd/keymaps/xkb/{other}");
            assert_eq!(remarks_of(false, &[&programs[..], &[&path]].concat()).len(), 1, "{other}");
        }
        let said = &remarks_of(true, &programs[..1])[0];
        assert!(said.contains("has no /usr/bin/loadkeys: build") && said.ends_with("typed on other keys"), "{said}");
    }
}
