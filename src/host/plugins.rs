//! The plugins that kernel-install(8) runs on a machine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ocinitrd_support::links;

/// Where plugins are; of those with one name, the first counts.
const DIRECTORIES: [&str; 4] =
    ["etc/kernel/install.d", "run/kernel/install.d", "usr/local/lib/kernel/install.d", "usr/lib/kernel/install.d"];

/// Those that are executable, by the order of their names. A link to /dev/null hides what has the same name in a later directory.
pub fn plugins(root: &Path) -> Vec<PathBuf> {
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for directory in DIRECTORIES.map(Path::new) {
        for entry in links::place(root, directory).and_then(fs::read_dir).into_iter().flatten().flatten() {
            found.entry(entry.file_name()).or_insert_with(|| directory.join(entry.file_name()));
        }
    }
    let is_executable = |path: &PathBuf| links::place(root, path).is_ok_and(|place| is_executable_file(&place));
    found.into_values().filter(is_executable).map(|path| root.join(path)).collect()
}

fn is_executable_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The plugin of that name behind its number.
pub fn named<'a>(plugins: &'a [PathBuf], name: &str) -> Option<&'a Path> {
    plugins.iter().find(|path| name_of(path) == Some(name)).map(PathBuf::as_path)
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
        // Of two links to a file of the same path, only the running system has one of them.
        add("usr/libexec/plugin", 0o755);
        symlink("/usr/libexec/plugin", root.path().join("etc/kernel/install.d/15-linked.install")).unwrap();
        symlink("/bin/sh", root.path().join("etc/kernel/install.d/16-outside.install")).unwrap();
        let found = plugins(root.path());
        let names: Vec<Option<&str>> = found.iter().map(|path| name_of(path)).collect();
        assert_eq!(names, [Some("mine"), Some("linked"), Some("grub")]);
        assert!(named(&found, "grub").is_some() && named(&found, "dracut").is_none());
        assert_eq!(name_of(Path::new("/x/90-uki-copy.install")), Some("uki-copy"));
    }
}
