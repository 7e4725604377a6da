//! Which of several modules of one name counts, as depmod(8) decides it by `depmod.d`.
//!
//! In: the files of `depmod.d` in a tree, and two paths. Out: which of them is preferred. An `override` of the last line that
//! fits decides; else the place in `search`, where what is in none of its directories counts as `built-in`. Where depmod takes
//! what it happens to read first, the order of paths decides here (`depmod_module_is_higher_priority` in kmod's
//! `tools/depmod.c`).

use std::collections::BTreeSet;

use anyhow::Result;
use regex::bytes::RegexBuilder;

use super::files::{ConfigurationFile, Origin, configuration_files, split_word, words};
use crate::image::modules::kernel_modules::plain_path;
use crate::image::modules::name::base_name;
use crate::image::tree::Tree;
use ocinitrd_format::text::quoted;

/// Where files of `depmod.d` are, the first one first (depmod.d(5)).
pub const DEPMOD_DIRECTORIES: [&str; 5] =
    ["etc/depmod.d", "run/depmod.d", "usr/local/lib/depmod.d", "usr/lib/depmod.d", "lib/depmod.d"];

/// What depmod takes where no line says `search`.
const OF_DEPMOD: [&str; 1] = ["updates"];
/// What Fedora's kmod says in `dist.conf`: of the packages of a kernel none has that file.
const OF_FEDORA: [&str; 4] = ["updates", "extra", "built-in", "weak-updates"];
/// What stands for the directories that no other word names.
const BUILT_IN: &str = "built-in";
/// What stands for the directories of `external`.
const EXTERNAL: &str = "external";
/// Links to the kernel's source, which depmod passes over.
const NEVER_SEARCHED: [&str; 2] = ["build", "source"];

/// Why a line does not count.
const UNREADABLE: &str = "depmod cannot read it: correct or remove it";
const RELATIVE: &str =
    "its directory is looked for below the one in which depmod happens to be started: write an absolute path";
const WHOLE_MACHINE: &str = "its directory is the whole machine: name the one that has the modules";

/// A directory of modules beside the kernel's own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct External {
    /// Its path, without `..` and slashes that say nothing: in an initrd the directories that `..` leads back from are not there.
    pub path: String,
    /// The same as it is written, for who follows the symlinks in it.
    pub written: String,
}

/// The configuration of depmod for one kernel.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SearchOrder {
    /// Directories, [`BUILT_IN`] and [`EXTERNAL`], that which is preferred first.
    searches: Vec<String>,
    /// Paths without suffix, in the order of the lines.
    overrides: Vec<String>,
    externals: Vec<External>,
    excludes: BTreeSet<String>,
    ignored: Vec<String>,
}

impl SearchOrder {
    /// Reads that of a machine.
    ///
    /// # Errors
    /// Fails when a file cannot be read.
    pub fn of_machine(tree: &Tree, kernel_version: &str) -> Result<Self> {
        SearchOrder::read(tree, kernel_version, &OF_DEPMOD)
    }

    /// Reads that of a kernel's packages: what they bring in `depmod.d`, as packages of modules do, and Fedora's order if that
    /// says none.
    ///
    /// # Errors
    /// Fails when a file cannot be read.
    pub fn of_packages(tree: &Tree, kernel_version: &str) -> Result<Self> {
        SearchOrder::read(tree, kernel_version, &OF_FEDORA)
    }

    fn read(tree: &Tree, kernel_version: &str, otherwise: &[&str]) -> Result<Self> {
        let mut order = SearchOrder::default();
        for file in configuration_files(tree, &DEPMOD_DIRECTORIES)? {
            order.add(&file, kernel_version);
        }
        if order.searches.is_empty() {
            order.searches = otherwise.iter().map(|word| (*word).to_owned()).collect();
        }
        Ok(order)
    }

    /// The directories beside the kernel's own that have modules, the preferred one first.
    pub fn externals(&self) -> &[External] {
        &self.externals
    }

    /// Lines that do not count, a message each.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// Whether nothing of that name is looked at, be it a file or a directory.
    pub fn excludes(&self, name: &str) -> bool {
        NEVER_SEARCHED.contains(&name) || self.excludes.contains(name)
    }

    /// How much a module is preferred, by its path: below the kernel's directory, or absolute for one of an external directory.
    pub(in crate::image::modules) fn preference(&self, path: &str) -> (usize, usize) {
        // What is in an external directory is not meant by any line but that.
        let stem = Some(without_suffix(path)).filter(|_| !path.starts_with('/'));
        let overridden = self.overrides.iter().rposition(|wanted| Some(wanted.as_str()) == stem);
        let overridden = overridden.map_or(0, |place| place + 1);
        (overridden, usize::MAX - self.place(path))
    }

    /// The place in the list of searches, the first one being 0; behind all others where no word fits.
    fn place(&self, path: &str) -> usize {
        let (mut place, mut found, mut built_in) = (0, None, None);
        let mut look_at = |directory: &str, place: usize| {
            let is_below = path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
            found = found.or(is_below.then_some(place));
        };
        for search in &self.searches {
            match search.as_str() {
                BUILT_IN => built_in = built_in.or(Some(place)),
                EXTERNAL => {
                    for directory in &self.externals {
                        look_at(&directory.path, place);
                        place += 1;
                    }
                }
                directory if !directory.starts_with('/') => look_at(directory, place),
                _ => {}
            }
            place += 1;
        }
        found.or(built_in).unwrap_or(place)
    }

    fn add(&mut self, file: &ConfigurationFile, kernel_version: &str) {
        for (origin, line) in file.kmod_lines() {
            let Some((command, rest)) = split_word(&line) else { continue };
            if let Err(reason) = self.add_line(command, rest, kernel_version) {
                self.ignored.push(ignored_line(&origin, command, reason));
            }
        }
    }

    /// Adds what a line says, or tells why it does not count.
    fn add_line(&mut self, command: &str, rest: &str, kernel_version: &str) -> Result<(), &'static str> {
        let arguments: Vec<&str> = words(rest).collect();
        match (command, &arguments[..]) {
            ("search", directories) => self.searches.extend(directories.iter().map(|word| (*word).to_owned())),
            ("exclude", names) => self.excludes.extend(names.iter().map(|word| (*word).to_owned())),
            ("override", [module, pattern, directory, ..]) => {
                if fits(pattern, kernel_version) {
                    self.overrides.push(format!("{directory}/{module}"));
                }
            }
            ("external", [pattern, directory, ..]) => {
                if fits(pattern, kernel_version) {
                    self.externals.push(External::parse(directory)?);
                }
            }
            // Of earlier versions; depmod passes over them in silence.
            ("include" | "make_map_files", _) => {}
            _ => return Err(UNREADABLE),
        }
        Ok(())
    }
}

impl External {
    /// Reads what a line says; why it does not count otherwise.
    fn parse(written: &str) -> Result<Self, &'static str> {
        let path = plain_path(written);
        match path.as_str() {
            _ if !written.starts_with('/') => Err(RELATIVE),
            "/" => Err(WHOLE_MACHINE),
            _ => Ok(External { path, written: written.to_owned() }),
        }
    }
}

/// The message about a line that does not count.
pub(super) fn ignored_line(origin: &Origin, command: &str, reason: &str) -> String {
    format!("{origin}: the line that begins with {} does not count, since {reason}", quoted(command.as_bytes()))
}

/// Whether a kernel's version is meant by `*` or by an extended regular expression. One that cannot be read means none.
fn fits(pattern: &str, kernel_version: &str) -> bool {
    let read = || RegexBuilder::new(pattern).unicode(false).build();
    pattern == "*" || read().is_ok_and(|pattern| pattern.is_match(kernel_version.as_bytes()))
}

/// The path up to the first dot of the file's name.
fn without_suffix(path: &str) -> &str {
    let name = base_name(path);
    let rest = name.find('.').map_or(0, |dot| name.len() - dot);
    &path[..path.len() - rest]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> SearchOrder {
        let mut order = SearchOrder::default();
        let content = Some(text.as_bytes().to_vec());
        order.add(&ConfigurationFile { path: b"etc/depmod.d/a.conf".to_vec(), content, hides_another: false }, "6.1-2");
        order
    }

    fn preferred<'a>(order: &SearchOrder, paths: &[&'a str]) -> &'a str {
        paths.iter().max_by_key(|path| order.preference(path)).unwrap()
    }

    #[test]
    fn the_first_directory_of_search_is_preferred_and_strangers_are_built_in() {
        let all = ["extra/a.ko", "kernel/a.ko", "updates/a.ko.xz", "weak-updates/x/a.ko", "/opt/m/a.ko"];
        let of = |text: &str, from: usize| preferred(&order(text), &all[from..]).to_owned();
        assert_eq!(of("search updates extra built-in weak-updates\n", 0), "updates/a.ko.xz");
        assert_eq!(of("search extra\nsearch updates\n", 0), "extra/a.ko");
        assert_eq!(of("search built-in weak-updates\n", 3), "/opt/m/a.ko", "it is in none of the directories");
        assert_eq!(of("search weak-updates built-in\nexternal 6 /opt/m\n", 3), "weak-updates/x/a.ko");
        assert_eq!(of("search external weak-updates built-in\nexternal 6.1 /opt/m\n", 0), "/opt/m/a.ko");
        assert_eq!(of("search /opt/m updates\nexternal 6.1 /opt/m\noverride a * /opt/m\n", 0), "updates/a.ko.xz");
    }

    #[test]
    fn the_last_override_that_fits_the_kernel_wins_over_any_search() {
        let of = |text: &str| preferred(&order(text), &["kernel/a.ko", "extra/x/a.ko", "updates/a.ko"]).to_owned();
        assert_eq!(of("search updates built-in\noverride a * extra/x\n"), "extra/x/a.ko");
        assert_eq!(of("search updates\noverride a * extra/x\noverride a 6.1-[0-9]+$ kernel\n"), "kernel/a.ko");
        assert_eq!(of("search updates\noverride a 6.2 extra/x\n"), "updates/a.ko", "that is for another kernel");
        assert_eq!(of("search updates\noverride a * extra\n"), "updates/a.ko", "the directory is meant exactly");
        assert_eq!(of("search updates\noverride a ( extra/x\n"), "updates/a.ko", "such a version means none");
    }

    #[test]
    fn external_directories_have_plain_paths_and_are_absolute() {
        let order = order(
            "external * /opt//m/./x/\nexternal * /opt/../../srv/m\nexternal * m\nexternal * ../m\nexternal * /\n\
             external * /opt/..//\nexternal 6.2 n\n",
        );
        let paths: Vec<_> = order.externals().iter().map(|external| external.path.as_str()).collect();
        assert_eq!(paths, ["/opt/m/x", "/srv/m"]);
        assert_eq!(order.externals()[1].written, "/opt/../../srv/m");
        let reasons = [RELATIVE, RELATIVE, WHOLE_MACHINE, WHOLE_MACHINE];
        assert_eq!(order.ignored().len(), reasons.len(), "{:?}", order.ignored());
        assert!(
            order.ignored().iter().zip(reasons).all(|(line, reason)| line.ends_with(reason)),
            "{:?}",
            order.ignored()
        );
    }

    #[test]
    fn what_cannot_be_read_is_reported_with_its_line() {
        let order = order("nonsense\nsearch updates\noverride a *\nexternal 6\ninclude x\n\u{fffd}\u{1b} y\n");
        assert_eq!(order.ignored().len(), 4, "{:?}", order.ignored());
        assert!(order.ignored()[0].starts_with("/etc/depmod.d/a.conf:1: the line that begins with"));
        assert!(order.ignored()[1].starts_with("/etc/depmod.d/a.conf:3:"));
        assert!(!order.ignored()[3].contains('\u{1b}'), "{:?}", order.ignored());
        assert_eq!(order.searches, ["updates"]);
    }
}
