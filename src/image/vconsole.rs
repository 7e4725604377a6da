//! What `/etc/vconsole.conf` (vconsole.conf(5)) names: the settings that need files of kbd's, and where those are looked for.
//!
//! systemd-vconsole-setup(8) hands the settings to loadkeys(1) and setfont(8). They look for keymaps in a whole directory tree,
//! also for what keymaps include, and for the rest in one directory; each file may have several endings.

/// The file with the settings, without the leading slash.
pub const CONFIGURATION: &str = "etc/vconsole.conf";
/// What follows the settings in an initrd with systemd, without the leading slash.
pub const SETUP: &str = "usr/lib/systemd/systemd-vconsole-setup";
/// Where the directories of kbd's are: with Fedora, with SUSE and Arch, and with Debian.
pub const DATA: [&str; 3] = ["usr/lib/kbd", "usr/share/kbd", "usr/share"];
/// The directory of keymaps.
pub const KEYMAPS: &str = "keymaps";
/// What files end in that keymaps include.
pub const INCLUDED: [&str; 4] = ["", ".inc", ".kmap", ".map"];

/// What the files are compressed with; nothing first.
const COMPRESSIONS: [&str; 5] = ["", ".gz", ".bz2", ".xz", ".zst"];
/// The keymap that the kernel has built in.
const KERNEL_KEYMAP: &str = "@kernel";
const LOADKEYS: &str = "usr/bin/loadkeys";
const SETFONT: &str = "usr/bin/setfont";

/// A kind of setting.
#[derive(Debug)]
pub struct Kind {
    /// Its key: `KEYMAP`.
    pub key: &'static str,
    /// What the kernel's command line calls it.
    pub options: &'static [&'static str],
    /// The directory that its files are in.
    pub directory: &'static str,
    /// What those end in.
    pub endings: &'static [&'static str],
    /// The program that reads them, without the leading slash.
    pub program: &'static str,
}

/// All kinds of settings that name files.
pub const KINDS: [Kind; 5] = [
    Kind {
        key: "KEYMAP",
        options: &["vconsole.keymap"],
        directory: KEYMAPS,
        endings: &["", ".kmap", ".map"],
        program: LOADKEYS,
    },
    Kind {
        key: "KEYMAP_TOGGLE",
        options: &["vconsole.keymap_toggle", "vconsole.keymap.toggle"],
        directory: KEYMAPS,
        endings: &["", ".kmap", ".map"],
        program: LOADKEYS,
    },
    Kind {
        key: "FONT",
        options: &["vconsole.font"],
        directory: "consolefonts",
        endings: &["", ".psfu", ".psf", ".cp", ".fnt"],
        program: SETFONT,
    },
    Kind {
        key: "FONT_MAP",
        options: &["vconsole.font_map", "vconsole.font.map"],
        directory: "consoletrans",
        endings: &["", ".trans", "_to_uni.trans", ".acm"],
        program: SETFONT,
    },
    Kind {
        key: "FONT_UNIMAP",
        options: &["vconsole.font_unimap", "vconsole.font.unimap"],
        directory: "unimaps",
        endings: &["", ".uni", ".sfm"],
        program: SETFONT,
    },
];

impl Kind {
    /// What the last line of the text sets it to, if that is anything that needs a file.
    pub fn value(&self, text: &str) -> Option<String> {
        let mut values = text.lines().filter_map(|line| line.trim().strip_prefix(self.key)?.strip_prefix('='));
        let value = values.next_back()?.trim_matches(['"', '\'']);
        Some(value.to_owned()).filter(|value| !value.is_empty() && value != KERNEL_KEYMAP)
    }

    /// Whether its files are keymaps, which may include others.
    pub fn is_keymap(&self) -> bool {
        self.directory == KEYMAPS
    }
}

/// The names that the lines of a keymap include: `include "linux-keys-bare"`.
pub fn included(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| line.trim_start().strip_prefix("include")?.trim().strip_prefix('"')?.strip_suffix('"'))
}

/// Whether a file of that name is what `name` stands for.
pub fn fits(file: &str, name: &str, endings: &[&str]) -> bool {
    file.strip_prefix(name).is_some_and(|rest| {
        let ending = COMPRESSIONS.iter().rev().find_map(|compression| rest.strip_suffix(compression));
        endings.contains(&ending.unwrap_or(rest))
    })
}

/// Whether a file with that extension is a compressed one.
pub fn is_compression(extension: &str) -> bool {
    COMPRESSIONS[1..].iter().any(|compression| compression[1..] == *extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_and_what_the_kernel_has_needs_no_file() {
        let text = "# FONT=no\nKEYMAP=us\n KEYMAP=\"de\"\nKEYMAP_TOGGLE=@kernel\nFONT=\nFONT_MAP='8859-1'\n";
        let values: Vec<_> = KINDS.iter().map(|kind| kind.value(text)).collect();
        assert_eq!(values, [Some("de".to_owned()), None, None, Some("8859-1".to_owned()), None]);
    }

    #[test]
    fn files_are_told_by_their_endings() {
        let keymap = KINDS[0].endings;
        for file in ["de", "de.map", "de.kmap.gz", "de.map.zst"] {
            assert!(fits(file, "de", keymap), "{file}");
        }
        for file in ["de-latin1.map", "de.inc", "de.map.lz4", "fde.map"] {
            assert!(!fits(file, "de", keymap), "{file}");
        }
        assert!(fits("qwertz.inc.gz", "qwertz", &INCLUDED));
        let names: Vec<&str> =
            included("include \"a\"\n  include \"b.inc\"\nincluded \"c\"\n#include \"d\"\n").collect();
        assert_eq!(names, ["a", "b.inc"]);
    }
}
