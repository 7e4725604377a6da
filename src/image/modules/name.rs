//! Names of modules: what `_`, `-` and the suffixes of files mean.
//!
//! The kernel and kmod write a module's name with `_`, whatever the file is called; mkosi's patterns see `-`.

/// How a module or firmware file is compressed, told by its suffix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    /// `.ko`: as it is.
    None,
    /// `.ko.gz`.
    Gzip,
    /// `.ko.xz`.
    Xz,
    /// `.ko.zst`.
    Zstd,
}

const SUFFIXES: [(&str, Compression); 4] = [
    (".ko", Compression::None),
    (".ko.xz", Compression::Xz),
    (".ko.zst", Compression::Zstd),
    (".ko.gz", Compression::Gzip),
];

/// The path without `.ko` and the suffix of a compression, and which compression that is; nothing if it is no module.
pub(super) fn split_suffix(path: &str) -> Option<(&str, Compression)> {
    SUFFIXES
        .iter()
        .find_map(|(suffix, compression)| path.strip_suffix(suffix).map(|stem| (stem, *compression)))
        .filter(|(stem, _)| !stem.is_empty() && !stem.ends_with('/'))
}

/// Whether the file at a path is a module by its name.
pub fn is_module(path: &[u8]) -> bool {
    std::str::from_utf8(path).is_ok_and(|path| split_suffix(path).is_some())
}

/// The part of a path after its last slash.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The name of a module as the kernel writes it, from a name in either spelling or a file's name: up to the first dot,
/// `-` read as `_`.
pub(super) fn module_name(file_name: &str) -> String {
    file_name.split('.').next().unwrap_or(file_name).replace('-', "_")
}

/// An alias as kmod's index holds it: `-` read as `_` except between brackets. Nothing if a bracket has no partner.
pub(super) fn normalize_alias(alias: &str) -> Option<String> {
    let mut normalized = String::with_capacity(alias.len());
    let mut in_brackets = false;
    for character in alias.chars() {
        match character {
            '[' if !in_brackets => in_brackets = true,
            ']' if !in_brackets => return None,
            ']' => in_brackets = false,
            _ => {}
        }
        normalized.push(if character == '-' && !in_brackets { '_' } else { character });
    }
    (!in_brackets).then_some(normalized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_stripped_and_tell_the_compression() {
        assert_eq!(split_suffix("kernel/a.ko"), Some(("kernel/a", Compression::None)));
        assert_eq!(split_suffix("kernel/a.ko.xz"), Some(("kernel/a", Compression::Xz)));
        assert_eq!(split_suffix("kernel/a.ko.zst"), Some(("kernel/a", Compression::Zstd)));
        assert_eq!(split_suffix("kernel/a.ko.gz"), Some(("kernel/a", Compression::Gzip)));
        for other in ["modules.dep", "kernel/a.ko.bz2", "kernel/.ko", "kernel/ako"] {
            assert_eq!(split_suffix(other), None, "{other}");
        }
    }

    #[test]
    fn names_and_aliases_use_underscores_outside_brackets() {
        assert_eq!(module_name("crc32c-intel.ko.xz"), "crc32c_intel");
        assert_eq!(normalize_alias("blake2b-256").as_deref(), Some("blake2b_256"));
        assert_eq!(normalize_alias("a-[0-9]-b").as_deref(), Some("a_[0-9]_b"));
        assert_eq!(normalize_alias("a["), None);
        assert_eq!(normalize_alias("a]"), None);
    }
}
