//! The configuration files of a machine: paths below its root in, texts out.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::version_order;
use crate::analysis::machine::root::Root;

/// The root directory of a machine, whose configuration is read word by word: what is no text is an error.
#[derive(Clone, Debug)]
pub struct Source {
    root: Root,
}

impl Source {
    /// The machine whose root is `root`.
    ///
    /// # Errors
    /// Fails when there is no such directory.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Source { root: Root::open(root)? })
    }

    /// Where an absolute path of the machine is, with the symlinks on the way followed as far as they can be.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.place(path).unwrap_or_else(|_| self.root.directory().join(path.trim_start_matches('/')))
    }

    /// Whether anything is there.
    pub fn has(&self, path: &str) -> bool {
        self.root.has(path)
    }

    /// Whether anything is there, or a link to `/dev/null` that hides one of its name.
    pub fn has_entry(&self, path: &str) -> bool {
        self.has(path) || self.root.is_nothing(path)
    }

    /// The text of a file; nothing where there is none, or a link to `/dev/null` that hides one.
    ///
    /// # Errors
    /// Fails on a file that cannot be read, is too large or no text.
    pub fn text(&self, path: &str) -> Result<Option<String>> {
        self.root.exact_text(path).map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::PermissionDenied => "run this as root",
                _ => "correct it or move it away",
            };
            anyhow::Error::new(error).context(format!("reading {}: {advice}", self.root.shown(path)))
        })
    }

    /// The names of what lies in a directory, sorted; nothing where there is none.
    ///
    /// # Errors
    /// Fails when the directory is there and cannot be read.
    pub fn names(&self, directory: &str) -> Result<Vec<String>> {
        self.root.names(directory)
    }

    /// The paths of files in several directories whose names are read, in the order of their bytes; of one name the first directory
    /// counts. Directories among them are passed over, and links to what is not there.
    ///
    /// # Errors
    /// As [`Source::names`].
    pub fn drop_ins(&self, directories: &[&str], is_read: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let mut found = BTreeMap::new();
        for directory in directories.iter().rev() {
            for name in self.names(directory)?.into_iter().filter(|name| is_read(name)) {
                let path = format!("{directory}/{name}");
                if self.has_entry(&path) && !self.path(&path).is_dir() {
                    found.insert(name, path);
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// The same in the order of the numbers in their names.
    ///
    /// # Errors
    /// As [`Source::names`].
    pub fn numbered_drop_ins(&self, directories: &[&str], is_read: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let mut paths = self.drop_ins(directories, is_read)?;
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        paths.sort_by(|one, other| version_order::compare(&name(one), &name(other)));
        Ok(paths)
    }
}

/// Whether most programs read a file of this name in a directory of configuration.
pub fn is_configuration(name: &str) -> bool {
    name.ends_with(".conf") && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::analysis::machine::fixture::Fixture;
    use ocinitrd_support::regular_file::TEXT_LIMIT_BYTES;

    #[test]
    fn of_one_name_the_first_directory_counts_and_a_link_to_dev_null_hides() {
        let root = Fixture::new();
        root.write("usr/lib/d/10-a.conf", "").write("usr/lib/d/20-b.conf", "").write("etc/d/20-b.conf", "");
        root.write("etc/d/notes", "").directory("etc/d/x.conf").link("etc/d/10-a.conf", "/dev/null");
        root.write("etc/d/.y.conf", "").link("etc/d/z.conf", "gone");
        let source = Source::open(root.path()).unwrap();
        let found = source.drop_ins(&["/etc/d", "/usr/lib/d", "/run/d"], is_configuration).unwrap();
        assert_eq!(found, ["/etc/d/10-a.conf", "/etc/d/20-b.conf"]);
        assert_eq!(source.text(&found[0]).unwrap(), None);
        assert_eq!(source.text(&found[1]).unwrap().as_deref(), Some(""));
    }

    #[test]
    fn absolute_symlinks_begin_at_the_machine_s_root() {
        let root = Fixture::new();
        root.write("srv/a", "mine").link("etc/a", "/srv/a").link("etc/b", "/etc/passwd").link("etc/d", "/srv");
        let source = Source::open(root.path()).unwrap();
        assert_eq!(source.text("/etc/a").unwrap().as_deref(), Some("mine"));
        assert!(source.text("/etc/b").unwrap().is_none() && !source.has("/etc/b") && source.has("/etc/a"));
        assert_eq!(source.names("/etc/d").unwrap(), ["a"]);
    }

    #[test]
    fn what_is_no_text_is_named() {
        let root = Fixture::new();
        root.write("etc/a", "x\0y").directory("etc/b");
        assert!(Source::open(&root.path().join("gone")).unwrap_err().to_string().starts_with("reading "));
        let source = Source::open(root.path()).unwrap();
        assert!(format!("{:#}", source.text("/etc/a").unwrap_err()).contains("move it away: it holds NUL bytes"));
        assert!(format!("{:#}", source.text("/etc/b").unwrap_err()).contains("it is a directory"));
        fs::write(root.path().join("etc/a"), [0xff]).unwrap();
        assert!(format!("{:#}", source.text("/etc/a").unwrap_err()).contains("not UTF-8"));
        fs::File::create(root.path().join("etc/a")).unwrap().set_len(TEXT_LIMIT_BYTES + 1).unwrap();
        assert!(format!("{:#}", source.text("/etc/a").unwrap_err()).contains("the most that is read"));
    }
}
