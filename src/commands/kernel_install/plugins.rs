//! The plugins that kernel-install runs: whether one is there that finishes what ours begin.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Installation;

/// Where plugins are; of those with one name, the first counts.
const DIRECTORIES: [&str; 4] =
    ["etc/kernel/install.d", "run/kernel/install.d", "usr/local/lib/kernel/install.d", "usr/lib/kernel/install.d"];

impl Installation<'_> {
    /// The plugin of that name behind its number, if kernel-install runs one.
    pub fn plugin(&self, name: &str) -> Option<PathBuf> {
        self.plugins().into_iter().find(|path| name_of(path) == Some(name))
    }

    fn plugins(&self) -> Vec<PathBuf> {
        match &self.environment.plugins {
            Some(listed) => listed.split_ascii_whitespace().map(PathBuf::from).collect(),
            None => in_directories(&self.root),
        }
    }
}

/// Those that are executable, by the order of their names. A link to /dev/null hides what has the same name in a later directory.
fn in_directories(root: &Path) -> Vec<PathBuf> {
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for directory in DIRECTORIES.map(|directory| root.join(directory)) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            found.entry(entry.file_name()).or_insert_with(|| entry.path());
        }
    }
    found.into_values().filter(|path| is_executable_file(path)).collect()
}

fn is_executable_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// What comes behind the number that says the order.
fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_suffix(".install")?.split_once('-').map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn plugins_are_executable_and_not_hidden() {
        let root = tempfile::tempdir().unwrap();
        let add = |path: &str, mode: u32| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        add("usr/lib/kernel/install.d/20-grub.install", 0o755);
        add("usr/lib/kernel/install.d/50-dracut.install", 0o755);
        add("usr/lib/kernel/install.d/60-data.install", 0o644);
        add("etc/kernel/install.d/10-mine.install", 0o755);
        symlink("/dev/null", root.path().join("etc/kernel/install.d/50-dracut.install")).unwrap();
        let found = in_directories(root.path());
        let names: Vec<Option<&str>> = found.iter().map(|path| name_of(path)).collect();
        assert_eq!(names, [Some("mine"), Some("grub")]);
        assert_eq!(name_of(Path::new("/x/90-uki-copy.install")), Some("uki-copy"));
    }
}
