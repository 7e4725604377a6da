//! What is loaded with a module and what is not loaded, as modprobe(8) decides it by `modprobe.d`.
//!
//! In: the files of `modprobe.d` in a tree. Out: their settings, each with its file and line. Of `softdep`, `weakdep`, `install`
//! and `remove` the first that means a module counts (`libkmod-config.c` and `libkmod-module.c` of kmod).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use globset::GlobMatcher;

use super::depmod::ignored_line;
use super::files::{ConfigurationFile, Origin, configuration_files, split_word};
use crate::image::modules::globs::fnmatch;
use crate::image::modules::module_info::ModuleInfo;
use crate::image::modules::name::{base_name, normalize_alias};
use crate::image::tree::Tree;

/// Where files of `modprobe.d` are, the first one first (modprobe.d(5)).
pub const MODPROBE_DIRECTORIES: [&str; 5] =
    ["etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d"];

/// Why a line does not count.
const UNREADABLE: &str = "modprobe cannot read it: correct or remove it";

/// Programs that do nothing: instead of a module they load none.
const IDLE: [&str; 3] = ["true", "false", ":"];

/// The configuration of modprobe.
#[derive(Clone, Debug, Default)]
pub struct ModprobeConfiguration {
    files: Vec<ConfigurationFile>,
    settings: Vec<Setting>,
    ignored: Vec<String>,
}

/// A line that says something.
#[derive(Clone, Debug)]
struct Setting {
    origin: Origin,
    /// The module that is meant, or the modules: some commands take globs.
    subject: Subject,
    command: Command,
}

#[derive(Clone, Debug)]
struct Subject {
    name: String,
    glob: Option<GlobMatcher>,
}

#[derive(Clone, Debug)]
enum Command {
    /// The subject is what a module is called by this alias.
    Alias(Subject),
    Blacklist,
    Options,
    Install(String),
    Remove,
    /// What is loaded before and after it.
    SoftDependencies(Vec<String>),
    WeakDependencies(Vec<String>),
}

/// What an `install` line does in place of loading a module.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InstallCommand {
    /// The line.
    pub origin: Origin,
    /// What is run, by a shell.
    pub command: String,
    /// Whether it does nothing, so that the module is not loaded.
    pub is_idle: bool,
}

impl ModprobeConfiguration {
    /// Reads that of a machine.
    ///
    /// # Errors
    /// Fails when a file cannot be read.
    pub fn read(tree: &Tree) -> Result<Self> {
        let mut configuration =
            ModprobeConfiguration { files: configuration_files(tree, &MODPROBE_DIRECTORIES)?, ..Self::default() };
        for file in &configuration.files {
            for (origin, line) in file.kmod_lines() {
                let Some((command, rest)) = split_word(&line) else { continue };
                match setting(&origin, command, rest) {
                    Some(setting) => configuration.settings.push(setting),
                    None => configuration.ignored.push(ignored_line(&origin, command, UNREADABLE)),
                }
            }
        }
        Ok(configuration)
    }

    /// Lines that do not count, a message each.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// The names of the modules that a word means where one may be named: those that `alias` lines call so, or one of that name.
    pub fn meant<'a>(&'a self, word: &str) -> impl Iterator<Item = String> + use<'a> {
        let own = normalize_alias(word).unwrap_or_else(|| word.to_owned());
        self.aliased(word).map(str::to_owned).chain([own])
    }

    /// The names of the modules that an alias means.
    fn aliased<'a>(&'a self, alias: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let alias = normalize_alias(alias);
        self.settings.iter().filter_map(move |setting| match &setting.command {
            Command::Alias(named) if alias.as_deref().is_some_and(|alias| named.fits(alias)) => {
                Some(setting.subject.name.as_str())
            }
            _ => None,
        })
    }

    /// What `alias` lines load in place of a module for an alias of its own, with the line.
    pub fn redirected<'a>(&'a self, info: &'a ModuleInfo) -> impl Iterator<Item = (&'a Origin, &'a str)> {
        self.settings.iter().filter_map(|setting| match &setting.command {
            Command::Alias(alias) if info.shares(alias) => Some((&setting.origin, setting.subject.name.as_str())),
            _ => None,
        })
    }

    /// What modprobe loads before and after a module, and what the kernel may ask for when that is there; with the line.
    pub fn dependencies<'a>(&'a self, module: &'a str) -> impl Iterator<Item = (&'a Origin, &'a str)> {
        let soft = self.first(module, |command| match command {
            Command::SoftDependencies(words) => Some(words),
            _ => None,
        });
        let weak = self.first(module, |command| match command {
            Command::WeakDependencies(words) => Some(words),
            _ => None,
        });
        soft.into_iter().chain(weak).flat_map(|(origin, words)| words.iter().map(move |word| (origin, word.as_str())))
    }

    /// What modprobe loads before and after a module, with the line.
    pub fn soft_dependencies(&self, module: &str) -> Option<(&Origin, &[String])> {
        self.first(module, |command| match command {
            Command::SoftDependencies(words) => Some(words.as_slice()),
            _ => None,
        })
    }

    /// The line that keeps a module from being loaded by an alias of its own.
    pub fn blacklisted(&self, module: &str) -> Option<&Origin> {
        let is_meant =
            |setting: &&Setting| matches!(setting.command, Command::Blacklist) && setting.subject.name == module;
        self.settings.iter().find(is_meant).map(|setting| &setting.origin)
    }

    /// What modprobe runs in place of loading a module.
    pub fn install_command(&self, module: &str) -> Option<InstallCommand> {
        let (origin, command) = self.first(module, |command| match command {
            Command::Install(command) => Some(command.clone()),
            _ => None,
        })?;
        let is_idle = is_idle(&command);
        Some(InstallCommand { origin: origin.clone(), command, is_idle })
    }

    /// The files that say something of these modules, each with their names; and those that hide others, which may be in the
    /// base as well.
    pub fn concerning<'a>(
        &'a self,
        modules: &BTreeMap<&str, &ModuleInfo>,
    ) -> Vec<(&'a ConfigurationFile, BTreeSet<String>)> {
        let mut meant: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for setting in &self.settings {
            let names = modules.iter().filter(|(name, info)| setting.is_about(name, info, self));
            let names: Vec<String> = names.map(|(name, _)| (*name).to_owned()).collect();
            meant.entry(&setting.origin.path).or_default().extend(names);
        }
        let files = self.files.iter().map(|file| {
            let names = meant.remove(file.absolute_path().as_str()).unwrap_or_default();
            (file, names)
        });
        let counts = |(file, names): &(&ConfigurationFile, BTreeSet<String>)| {
            !names.is_empty() || file.hides_another || file.content.as_ref().is_none_or(Vec::is_empty)
        };
        files.filter(counts).collect()
    }

    fn first<'a, T>(&'a self, module: &str, get: impl Fn(&'a Command) -> Option<T>) -> Option<(&'a Origin, T)> {
        let fitting = self.settings.iter().filter(|setting| setting.subject.fits(module));
        fitting.filter_map(|setting| Some((&setting.origin, get(&setting.command)?))).next()
    }
}

impl Setting {
    /// Whether it matters where this module is there.
    fn is_about(&self, name: &str, info: &ModuleInfo, all: &ModprobeConfiguration) -> bool {
        match &self.command {
            Command::Blacklist => self.subject.name == name,
            Command::Alias(alias) => self.subject.name == name || info.shares(alias),
            // Options may be for an alias, of the module's own or of the configuration.
            Command::Options => {
                self.subject.name == name
                    || info.answers_to(&self.subject.name)
                    || all.aliased(&self.subject.name).any(|module| module == name)
            }
            _ => self.subject.fits(name),
        }
    }
}

impl ModuleInfo {
    /// Whether an alias of its own, which may be a glob, means this one.
    fn answers_to(&self, alias: &str) -> bool {
        self.own_aliases(alias).any(|own| own.fits(alias))
    }

    /// Whether something may be meant by an alias of its own and by this one, as far as the text of one fits the other.
    fn shares(&self, alias: &Subject) -> bool {
        self.own_aliases(&alias.name).any(|own| own.fits(&alias.name) || alias.fits(&own.name))
    }

    /// The aliases of its own that can mean what another means: up to the first wildcard both are the same.
    fn own_aliases<'a>(&'a self, other: &'a str) -> impl Iterator<Item = Subject> + 'a {
        let literal = |text: &str| text.split(['*', '?', '[']).next().unwrap_or_default().to_owned();
        let aliases = self.aliases.iter().filter_map(|own| normalize_alias(own));
        let near = aliases.filter(move |own| {
            let (own, other) = (literal(own), literal(other));
            own.starts_with(&other) || other.starts_with(&own)
        });
        near.filter_map(|own| Subject::new(&own))
    }
}

impl Subject {
    /// Reads a name or a glob, with `_` in place of `-`; nothing where a bracket has no partner.
    fn new(text: &str) -> Option<Self> {
        let name = normalize_alias(text)?;
        let is_glob = name.contains(['*', '?', '[']);
        let glob = if is_glob { Some(fnmatch(&name).ok()?.compile_matcher()) } else { None };
        Some(Subject { name, glob })
    }

    fn fits(&self, name: &str) -> bool {
        self.name == name || self.glob.as_ref().is_some_and(|glob| glob.is_match(name))
    }
}

/// What a line says; nothing where modprobe cannot read it.
fn setting(origin: &Origin, command: &str, rest: &str) -> Option<Setting> {
    let (first, rest) = split_word(rest)?;
    let mut subject = Subject::new(first)?;
    let text = || Some(rest.to_owned()).filter(|rest| !rest.is_empty());
    let command = match command {
        "alias" => {
            let module = normalize_alias(split_word(rest)?.0)?;
            let alias = std::mem::replace(&mut subject, Subject { name: module, glob: None });
            Command::Alias(alias)
        }
        "blacklist" => Command::Blacklist,
        "options" => {
            text()?;
            Command::Options
        }
        "install" => Command::Install(text()?),
        "remove" => {
            text()?;
            Command::Remove
        }
        "softdep" => Command::SoftDependencies(soft_words(&text()?)),
        "weakdep" => Command::WeakDependencies(text()?.split_whitespace().map(str::to_owned).collect()),
        _ => return None,
    };
    Some(Setting { origin: origin.clone(), subject, command })
}

/// The words behind `pre:` and `post:`; what is in front of both is nothing.
fn soft_words(text: &str) -> Vec<String> {
    let is_mark = |word: &&str| ["pre:", "post:"].contains(word);
    let words = text.split_whitespace().skip_while(|word| !is_mark(word));
    words.filter(|word| !is_mark(word)).map(str::to_owned).collect()
}

/// Whether a command is one that does nothing.
fn is_idle(command: &str) -> bool {
    let program = command.split_whitespace().next().unwrap_or_default();
    !command.contains([';', '&', '|', '$', '`']) && IDLE.contains(&base_name(program))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::{Content, Entry, Kind};

    fn configuration(files: &[(&str, &str)]) -> ModprobeConfiguration {
        let mut tree = Tree::new();
        for (path, text) in files {
            let content = Content::from_bytes(text.as_bytes());
            tree.insert(path.as_bytes().to_vec(), Entry::of_root(Kind::File(content), 0o644, 0));
        }
        tree.add_missing_parents(0).unwrap();
        ModprobeConfiguration::read(&tree).unwrap()
    }

    fn of(text: &str) -> ModprobeConfiguration {
        configuration(&[("etc/modprobe.d/a.conf", text)])
    }

    fn info(aliases: &[&str]) -> ModuleInfo {
        ModuleInfo { aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(), ..ModuleInfo::default() }
    }

    #[test]
    fn the_first_softdep_and_the_first_weakdep_that_mean_a_module_count() {
        let read = of("softdep a-b odd pre: x y-z post: w\nsoftdep a_b pre: no\nweakdep a* k\nsoftdep c none\n");
        let words: Vec<&str> = read.dependencies("a_b").map(|(_, word)| word).collect();
        assert_eq!(words, ["x", "y-z", "w", "k"]);
        assert_eq!(read.dependencies("a_c").map(|(_, word)| word).collect::<Vec<_>>(), ["k"]);
        assert_eq!(read.dependencies("c").count(), 0, "in front of pre: and post: nothing is said");
        assert_eq!(read.soft_dependencies("a_b").unwrap().0.to_string(), "/etc/modprobe.d/a.conf:1");
    }

    #[test]
    fn commands_in_place_of_modules_are_known_and_idle_ones_told_apart() {
        let read =
            of("install a /bin/true\ninstall b-* /usr/bin/false # never\ninstall c /sbin/modprobe d; /bin/true\n");
        let idle = |module: &str| read.install_command(module).map(|command| command.is_idle);
        assert_eq!([idle("a"), idle("b_x"), idle("c"), idle("d")], [Some(true), Some(true), Some(false), None]);
        assert_eq!(read.install_command("c").unwrap().origin.line, 3);
    }

    #[test]
    fn files_that_mean_a_module_go_in_and_those_that_hide_others() {
        let read = configuration(&[
            ("etc/modprobe.d/hides.conf", "# nothing\n"),
            ("usr/lib/modprobe.d/hides.conf", "options a x=1\n"),
            ("usr/lib/modprobe.d/empty.conf", ""),
            ("usr/lib/modprobe.d/other.conf", "blacklist other\nalias x other\nsoftdep o* pre: a\n"),
            ("usr/lib/modprobe.d/eth.conf", "alias eth0 a\noptions eth0 x=1\n"),
            ("usr/lib/modprobe.d/own.conf", "options net-pf-10 x=1\n"),
            ("usr/lib/modprobe.d/run.conf", "remove a-* /bin/true\n"),
        ]);
        let infos = [info(&[]), info(&["net-pf-*"])];
        let modules = ["a", "a_b"].into_iter().zip(&infos).collect();
        let found = read.concerning(&modules);
        let found: Vec<String> = found
            .into_iter()
            .map(|(file, names)| {
                format!("{} {}", file.absolute_path(), names.into_iter().collect::<Vec<_>>().join(" "))
            })
            .collect();
        let expected = [
            "/usr/lib/modprobe.d/empty.conf ",
            "/usr/lib/modprobe.d/eth.conf a",
            "/etc/modprobe.d/hides.conf ",
            "/usr/lib/modprobe.d/own.conf a_b",
            "/usr/lib/modprobe.d/run.conf a_b",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_alias_line_takes_a_module_s_own_aliases_from_it() {
        let read = of("alias pci:v1d2sv* other\nalias usb:* no\nalias pci:v1d3 third\n");
        let of_module = |aliases: &[&str]| {
            let info = info(aliases);
            read.redirected(&info).map(|(origin, name)| format!("{name} {}", origin.line)).collect::<Vec<_>>()
        };
        assert_eq!(of_module(&["pci:v1d*"]), ["other 1", "third 3"]);
        assert_eq!(of_module(&["pci:v1d2sv5", "of:usb"]), ["other 1"]);
        assert!(of_module(&["pci:v2d*", "acpi*:X:"]).is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_reported() {
        let read = of("options a\nblacklist\nalias x\nsoftdep a] pre: b\nconfig x\nblacklist b\n");
        let lines: Vec<bool> = (1..6)
            .map(|line| read.ignored()[line - 1].starts_with(&format!("/etc/modprobe.d/a.conf:{line}:")))
            .collect();
        assert_eq!(lines, [true; 5]);
        assert_eq!(read.blacklisted("b").unwrap().line, 6);
    }
}
