//! Directories of configuration as kmod and systemd read them: of several files of one name the first directory's counts, and
//! the files that count are read in the order of their names.
//!
//! A symlink to `/dev/null` counts and says nothing, so it hides files of its name in later directories. One that leads nowhere
//! does not count.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, ensure};

use crate::image::tree::{Content, Kind, Tree, TreePath, file_name};
use ocinitrd_format::text::quoted;
use ocinitrd_support::regular_file::TEXT_LIMIT_BYTES;

/// The end of the names of files that count.
const SUFFIX: &[u8] = b".conf";

/// The target of a symlink that hides a file.
const NOTHING: &[u8] = b"/dev/null";

/// A file that counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigurationFile {
    /// Its path in the tree.
    pub path: TreePath,
    /// Its content; nothing for a symlink to `/dev/null`.
    pub content: Option<Vec<u8>>,
    /// Whether a file of its name in a later directory does not count because of it.
    pub hides_another: bool,
}

/// The place of a line.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Origin {
    /// The path of the file, with a leading slash.
    pub path: String,
    /// The number of the line, the first one being 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.path, self.line)
    }
}

/// The files in `directories` of the tree that count, in the order in which they are read.
///
/// # Errors
/// Fails when a file cannot be read, or is too large for a text.
pub fn configuration_files(tree: &Tree, directories: &[&str]) -> Result<Vec<ConfigurationFile>> {
    let mut files: BTreeMap<Vec<u8>, ConfigurationFile> = BTreeMap::new();
    for directory in directories {
        let Some(directory) = tree.resolve(directory.as_bytes()) else { continue };
        for (path, entry) in tree.children(&directory).filter(|(path, _)| is_configuration(file_name(path))) {
            let content = match &entry.kind {
                Kind::Symlink { target } if target == NOTHING => None,
                // What leads to nothing or to a directory.
                _ => match tree.resolve(path).and_then(|end| tree.content(&end).cloned()) {
                    Some(content) => Some(read(path, &content)?),
                    None => continue,
                },
            };
            match files.get_mut(file_name(path)) {
                // A directory may be a link to an earlier one.
                Some(earlier) => earlier.hides_another |= earlier.path != *path,
                None => {
                    let file = ConfigurationFile { path: path.clone(), content, hides_another: false };
                    files.insert(file_name(path).to_vec(), file);
                }
            }
        }
    }
    Ok(files.into_values().collect())
}

fn is_configuration(name: &[u8]) -> bool {
    name.len() > SUFFIX.len() && name.ends_with(SUFFIX) && !name.starts_with(b".")
}

fn read(path: &[u8], content: &Content) -> Result<Vec<u8>> {
    let size_bytes = content.size_bytes();
    ensure!(
        size_bytes <= TEXT_LIMIT_BYTES,
        "{} has {size_bytes} bytes, and at most {TEXT_LIMIT_BYTES} are read of a configuration file",
        quoted(path)
    );
    content.read_all().with_context(|| format!("reading {}", quoted(path)))
}

impl ConfigurationFile {
    /// Its path as a machine has it.
    pub fn absolute_path(&self) -> String {
        format!("/{}", String::from_utf8_lossy(&self.path))
    }

    /// Its lines as kmod reads them, with the place of each: a backslash joins the next line, and in front of any other character
    /// it goes. Empty lines and comments are left out.
    pub(super) fn kmod_lines(&self) -> Vec<(Origin, String)> {
        let text = String::from_utf8_lossy(self.content.as_deref().unwrap_or_default()).into_owned();
        let counts = |line: &str| !line.starts_with('#') && !line.trim_matches([' ', '\t']).is_empty();
        let lines = joined_lines(&text).into_iter().filter(|(_, line)| counts(line));
        lines.map(|(line, text)| (Origin { path: self.absolute_path(), line }, text)).collect()
    }
}

/// The lines of a text with the number of the first part of each.
fn joined_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let (mut number, mut begin, mut line) = (1, 1, String::new());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\n' => {
                lines.push((begin, std::mem::take(&mut line)));
                number += 1;
                begin = number;
            }
            '\\' => match characters.next() {
                Some('\n') => number += 1,
                escaped => line.extend(escaped),
            },
            other => line.push(other),
        }
    }
    lines.push((begin, line));
    lines
}

/// The first word of a line and what follows it: words are separated by blanks and tabs.
pub(super) fn split_word(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start_matches([' ', '\t']);
    let end = line.find([' ', '\t']).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    (!word.is_empty()).then(|| (word, rest.trim_start_matches([' ', '\t'])))
}

/// The words of a line.
pub(super) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split([' ', '\t']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::Entry;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (path, text) in files {
            let kind = match text.strip_prefix("-> ") {
                Some(target) => Kind::Symlink { target: target.as_bytes().to_vec() },
                None => Kind::File(Content::from_bytes(text.as_bytes())),
            };
            tree.insert(path.as_bytes().to_vec(), Entry::of_root(kind, 0o644, 0));
        }
        tree.add_missing_parents(0).unwrap();
        tree
    }

    fn found(files: &[(&str, &str)]) -> Vec<(String, Option<String>, bool)> {
        let files = configuration_files(&tree(files), &["etc/x.d", "run/x.d", "usr/lib/x.d", "lib/x.d"]).unwrap();
        let text = |content: Vec<u8>| String::from_utf8(content).unwrap();
        files.into_iter().map(|file| (file.absolute_path(), file.content.map(text), file.hides_another)).collect()
    }

    #[test]
    fn of_one_name_the_first_directory_counts_and_names_give_the_order() {
        let files = [
            ("usr/lib/x.d/a.conf", "vendor"),
            ("usr/lib/x.d/c.conf", "c"),
            ("run/x.d/b.conf", "b"),
            ("etc/x.d/a.conf", "mine"),
            ("etc/x.d/.hidden.conf", "no"),
            ("etc/x.d/readme", "no"),
            ("etc/x.d/.conf", "no"),
            ("lib", "-> usr/lib"),
        ];
        let expected =
            [("/etc/x.d/a.conf", "mine", true), ("/run/x.d/b.conf", "b", false), ("/usr/lib/x.d/c.conf", "c", false)];
        assert_eq!(found(&files), expected.map(|(path, text, hides)| (path.into(), Some(text.into()), hides)));
    }

    #[test]
    fn a_link_to_nothing_at_all_hides_and_one_that_leads_nowhere_does_not() {
        let files = [
            ("etc/x.d/a.conf", "-> /dev/null"),
            ("etc/x.d/b.conf", "-> ../gone"),
            ("etc/x.d/c.conf", "-> ../real"),
            ("etc/real", "real"),
            ("usr/lib/x.d/a.conf", "a"),
            ("usr/lib/x.d/b.conf", "b"),
        ];
        let expected = [
            ("/etc/x.d/a.conf".into(), None, true),
            ("/usr/lib/x.d/b.conf".into(), Some("b".into()), false),
            ("/etc/x.d/c.conf".into(), Some("real".into()), false),
        ];
        assert_eq!(found(&files), expected);
    }

    #[test]
    fn backslashes_join_lines_which_are_called_by_their_first_number() {
        let text = "# a\n\n \t\nfirst \\\n one\n#no \\\nno\n6\\.1\\\\\nlast\\";
        let file = ConfigurationFile { path: b"x".to_vec(), content: Some(text.into()), hides_another: false };
        let lines: Vec<_> = file.kmod_lines().into_iter().map(|(origin, text)| (origin.to_string(), text)).collect();
        assert_eq!(
            lines,
            [("/x:4", "first  one"), ("/x:8", "6.1\\"), ("/x:9", "last")]
                .map(|(origin, text)| (origin.to_owned(), text.to_owned()))
        );
    }
}
