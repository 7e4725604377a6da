//! The package between the formats: what a deb gives and what an rpm needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::version::Evr;

/// A binary package in Fedora's terms.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name as Fedora has it.
    pub name: String,
    /// Epoch, version and release.
    pub evr: Evr,
    /// `x86_64` or `noarch`.
    pub arch: String,
    /// One line.
    pub summary: String,
    /// Some lines.
    pub description: String,
    /// The licences as one expression.
    pub license: String,
    /// The project's page; may be empty.
    pub url: String,
    /// The file name of the source rpm that Fedora would have.
    pub source_rpm: String,
    /// Seconds since 1970: the newest file's time, as no build happens here.
    pub build_time: u32,
    /// What it provides, its own name and version included.
    pub provides: Vec<Dependency>,
    /// What it cannot be without.
    pub requires: Vec<Dependency>,
    /// What it would like to have.
    pub recommends: Vec<Dependency>,
    /// What it cannot be beside.
    pub conflicts: Vec<Dependency>,
    /// What runs when it is installed.
    pub scriptlets: Scriptlets,
    /// Its files by absolute path.
    pub files: BTreeMap<String, File>,
}

/// A capability by name, perhaps with a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    /// A package's name, a path, `deb(NAME)`, or a rich expression in parentheses.
    pub name: String,
    /// The comparison and the version it is made with.
    pub version: Option<(Comparison, String)>,
}

impl Dependency {
    /// Any version of `name`.
    pub fn any(name: impl Into<String>) -> Self {
        Dependency { name: name.into(), version: None }
    }

    /// Just this version of `name`.
    pub fn equal(name: impl Into<String>, version: impl ToString) -> Self {
        Dependency { name: name.into(), version: Some((Comparison::Equal, version.to_string())) }
    }
}

/// How a dependency's version is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `=`
    Equal,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
}

impl Comparison {
    /// As rpm writes it.
    pub fn symbol(self) -> &'static str {
        match self {
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Equal => "=",
            Comparison::GreaterOrEqual => ">=",
            Comparison::Greater => ">",
        }
    }
}

/// A text that rpm runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// What runs it: a program, or rpm's own interpreter.
    pub program: &'static str,
    /// The text.
    pub text: String,
}

impl Script {
    /// rpm's own interpreter.
    pub const LUA: &'static str = "<lua>";

    /// A text for `/bin/sh`.
    pub fn shell(text: impl Into<String>) -> Self {
        Script { program: "/bin/sh", text: text.into() }
    }

    /// A text for rpm's own interpreter.
    pub fn lua(text: impl Into<String>) -> Self {
        Script { program: Script::LUA, text: text.into() }
    }
}

/// What rpm runs for a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scriptlets {
    /// `%pretrans`: before the whole transaction.
    pub pretrans: Option<Script>,
    /// `%post`: after the package is installed.
    pub post: Option<Script>,
    /// `%posttrans`: after the whole transaction.
    pub posttrans: Option<Script>,
    /// `%transfiletriggerin`: once, after a transaction that installed something below these directories.
    pub triggers: Vec<FileTrigger>,
}

/// A `%transfiletriggerin` scriptlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTrigger {
    /// The directories that it watches.
    pub directories: Vec<String>,
    /// Higher runs earlier; rpm's default is 1,000,000.
    pub priority: u32,
    /// What it runs.
    pub script: Script,
}

impl Scriptlets {
    /// All that is run, file triggers included.
    pub fn all(&self) -> impl Iterator<Item = &Script> {
        let own = [&self.pretrans, &self.post, &self.posttrans].into_iter().flatten();
        own.chain(self.triggers.iter().map(|trigger| &trigger.script))
    }
}

/// One file of a package.
#[derive(Debug, Clone)]
pub struct File {
    /// What it is.
    pub content: Content,
    /// Permission, setuid, setgid and sticky bits.
    pub mode: u16,
    /// Its owner's name.
    pub user: String,
    /// Its group's name.
    pub group: String,
    /// Seconds since 1970.
    pub mtime: u32,
    /// What rpm treats apart.
    pub class: Class,
    /// Its capabilities as cap_from_text(3) reads them.
    pub capabilities: Option<String>,
}

impl File {
    /// A file of root that rpm does not treat apart.
    pub fn of_root(content: Content, mode: u16, mtime: u32) -> Self {
        let root = || "root".to_owned();
        File { content, mode, user: root(), group: root(), mtime, class: Class::Ordinary, capabilities: None }
    }
}

/// What a file is.
#[derive(Debug, Clone)]
pub enum Content {
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(String),
    /// A regular file. Names that share one allocation are hard links of one file.
    Regular(Arc<Vec<u8>>),
}

impl Content {
    /// The bytes of a regular file.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Content::Regular(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// What rpm treats apart: `%doc` is left out under `tsflags=nodocs`, `%lang` by `%_install_langs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// None of the others.
    Ordinary,
    /// `%config(noreplace)`
    Configuration,
    /// `%doc`
    Documentation,
    /// `%license`
    License,
    /// `%lang(..)`
    Language(String),
    /// `%ghost`: owned, and made by a scriptlet.
    Ghost,
    /// Made by the build of the package itself, as rpm marks its links by build identifier.
    Artifact,
}
