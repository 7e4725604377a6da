//! The way from where an initrd starts to all that it reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use anyhow::{Context, Result};
use globset::Glob;

use super::elf;
use super::features::Features;
use super::modprobe;
use super::places::{Places, Role, listed};
use super::references::References;
use super::script;
use super::udev;
use super::unit;
use crate::image::tree::{Content, Entry, Globs, Kind, Tree, TreePath, file_name, join};
use ocinitrd_format::text::quoted;
use ocinitrd_support::parallel;

/// What systemd starts by itself in an initrd, on a signal, or when it is told to end (systemd.special(7), bootup(7)).
const STARTED_UNITS: &[&str] = &[
    "initrd.target",
    "initrd-cleanup.service",
    "initrd-parse-etc.service",
    "initrd-switch-root.target",
    "emergency.target",
    "rescue.target",
    "ctrl-alt-del.target",
    "exit.target",
    "halt.target",
    "kexec.target",
    "poweroff.target",
    "reboot.target",
    "shutdown.target",
    "sigpwr.target",
    "soft-reboot.target",
    "umount.target",
];

/// What is reached so far, and what of it has not been looked into.
pub struct Reached<'a> {
    tree: &'a Tree,
    features: &'a Features,
    places: Places,
    /// Programs and libraries, each by the first of its names.
    code: BTreeSet<&'a TreePath>,
    /// Where a library lies that is loaded by a name.
    libraries: BTreeMap<&'a [u8], Vec<&'a TreePath>>,
    reached: BTreeSet<TreePath>,
    reached_units: BTreeSet<String>,
    /// What was looked into or waits for it: a file counts as each thing that it is.
    seen: BTreeSet<Sight>,
    waiting: Vec<Sight>,
}

/// A file, and what it is because of its place.
type Sight = (TreePath, Option<Role>);

impl<'a> Reached<'a> {
    /// Nothing is reached yet.
    ///
    /// # Errors
    /// Fails when a file cannot be read.
    pub fn new(tree: &'a Tree, features: &'a Features) -> Result<Self> {
        let mut code = BTreeSet::new();
        let mut libraries: BTreeMap<&[u8], Vec<&TreePath>> = BTreeMap::new();
        for (path, entry) in tree.iter() {
            if is_code(entry).with_context(|| format!("reading {}", quoted(path)))? {
                code.insert(path);
            }
            if is_library_name(file_name(path)) {
                libraries.entry(file_name(path)).or_default().push(path);
            }
        }
        let (reached, reached_units, seen, waiting) = Default::default();
        let places = Places::new(tree);
        Ok(Reached { tree, features, places, code, libraries, reached, reached_units, seen, waiting })
    }

    /// Reaches what every initrd starts with.
    pub fn start_as_initrd(&mut self) {
        self.reach_path(b"init");
        STARTED_UNITS.iter().for_each(|name| self.reach_unit(name));
        let tree = self.tree;
        for directory in self.places.hooks.clone() {
            tree.children(&directory).for_each(|(path, _)| self.reach_path(path));
        }
        let settings: Vec<_> = self.places.settings(tree).collect();
        settings.iter().for_each(|(path, role)| self.reach_as(path, Some(*role)));
        self.tell("an initrd", 0);
    }

    /// Logs what `from` led to: what waits from that place on.
    fn tell(&self, from: &str, before: usize) {
        for (path, _) in &self.waiting[before..] {
            tracing::debug!("{from} leads to {}", quoted(path));
        }
    }

    /// Reaches programs that the definition names by globs. Returns the names that there is no program of; a glob takes what
    /// there is.
    ///
    /// # Errors
    /// Fails on a malformed pattern.
    pub fn start_programs(&mut self, patterns: &[String]) -> Result<Vec<String>> {
        let (tree, directories) = (self.tree, self.places.programs.clone());
        let mut unknown = Vec::new();
        for pattern in patterns {
            let glob = Glob::new(pattern).with_context(|| format!("reading the pattern {pattern:?}"))?;
            let glob = glob.compile_matcher();
            let found: Vec<&TreePath> = directories
                .iter()
                .flat_map(|directory| tree.children(directory))
                .map(|(path, _)| path)
                .filter(|path| glob.is_match(String::from_utf8_lossy(file_name(path)).as_ref()))
                .collect();
            if found.is_empty() && !pattern.contains(['*', '?', '[', '{']) {
                unknown.push(pattern.clone());
            }
            let before = self.waiting.len();
            found.into_iter().for_each(|path| self.reach_path(path));
            self.tell(&format!("{pattern:?} of `programs`"), before);
        }
        Ok(unknown)
    }

    /// Reaches files whatever they are.
    pub fn start_files(&mut self, globs: &Globs) {
        let (tree, before) = (self.tree, self.waiting.len());
        tree.iter().filter(|(path, _)| globs.matches(path)).for_each(|(path, _)| self.reach_path(path));
        self.tell("`keep_files`", before);
    }

    /// Follows what was reached to all that it leads to.
    ///
    /// # Errors
    /// Fails when a file cannot be read, or a program is damaged.
    pub fn explore(&mut self) -> Result<()> {
        let (tree, features) = (self.tree, self.features);
        let first = std::mem::take(&mut self.waiting);
        let look_into = |(path, role): &Sight| {
            let references =
                look_into(tree, path, *role, features).with_context(|| format!("reading {}", quoted(path)))?;
            Ok((path.clone(), references))
        };
        parallel::explore(first, look_into, |(path, references)| {
            self.follow(&path, &references);
            std::mem::take(&mut self.waiting)
        })
    }

    /// The programs, libraries and units that were not reached.
    pub fn unreached(&self) -> BTreeSet<TreePath> {
        let code = self.code.iter().map(|path| (*path).clone());
        let units = self.places.units.iter().flat_map(|directory| self.tree.children(directory));
        let units = units.filter(|(path, entry)| {
            let is_unit = std::str::from_utf8(file_name(path)).is_ok_and(unit::is_unit);
            is_unit && !matches!(entry.kind, Kind::Directory) && !self.is_masked(path)
        });
        let paths = code.chain(units.map(|(path, _)| path.clone()));
        paths.filter(|path| !self.reached.contains(path)).collect()
    }

    /// Whether the file at exactly that path was reached.
    pub fn has(&self, path: &[u8]) -> bool {
        match self.tree.get(path).map(|entry| &entry.kind) {
            Some(Kind::HardLink { target }) => self.reached.contains(target),
            _ => self.reached.contains(path),
        }
    }

    fn follow(&mut self, from: &[u8], references: &References) {
        let before = self.waiting.len();
        references.paths.iter().for_each(|path| self.reach_path(path.as_bytes()));
        for program in &references.programs {
            let places: Vec<_> =
                self.places.programs.iter().map(|directory| join(directory, program.as_bytes())).collect();
            places.iter().for_each(|path| self.reach_path(path));
        }
        for library in &references.libraries {
            let found = self.libraries.get(library.as_bytes()).cloned().unwrap_or_default();
            found.into_iter().for_each(|path| self.reach_path(path));
        }
        references.units.iter().for_each(|name| self.reach_unit(name));
        self.tell(&quoted(from).to_string(), before);
    }

    /// Reaches what a path leads to, if that is a file. It is what its places make of it.
    fn reach_path(&mut self, path: &[u8]) {
        self.reach_as(path, None);
    }

    /// Reaches what a path leads to, if that is a file, as what somebody reads who looks there.
    fn reach_as(&mut self, path: &[u8], role: Option<Role>) {
        let chain = self.tree.chain(path);
        let Some(end) = chain.last() else { return };
        let file = match self.tree.get(end).map(|entry| &entry.kind) {
            Some(Kind::File(_)) => end.clone(),
            Some(Kind::HardLink { target }) => target.clone(),
            _ => return,
        };
        self.reached.insert(file.clone());
        let mut roles: BTreeSet<_> =
            chain.iter().filter_map(|place| self.places.role(place)).chain(role).map(Some).collect();
        if roles.is_empty() {
            roles.insert(None);
        }
        for role in roles {
            let sight = (file.clone(), role);
            if self.seen.insert(sight.clone()) {
                self.waiting.push(sight);
            }
        }
    }

    /// Reaches a unit with its drop-ins and with the units that links beside it make it depend on, and these with theirs.
    fn reach_unit(&mut self, name: &str) {
        let mut names = vec![name.to_owned()];
        while let Some(name) = names.pop() {
            self.reach_one_unit(&name, &mut names);
        }
    }

    /// Reaches one unit; those that it leads to are added to `further`.
    fn reach_one_unit(&mut self, name: &str, further: &mut Vec<String>) {
        let mut paths = self.unit_paths(name);
        paths.retain(|path| self.tree.get(path).is_some());
        let masked = paths.first().is_some_and(|path| self.is_masked(path));
        if masked || !self.reached_units.insert(name.to_owned()) {
            return;
        }
        for path in &paths {
            further.extend(self.reach_unit_file(path));
        }
        self.reach_beside(name, further);
        further.extend(unit::template(name));
        further.extend(unit::started_by_name(name).filter(|_| !paths.is_empty()));
    }

    /// Reaches the file of a unit. Where links lead to it, returns the further names of the unit.
    fn reach_unit_file(&mut self, path: &[u8]) -> Vec<String> {
        self.reach_as(path, Some(Role::Unit));
        let chain = self.tree.chain(path);
        self.reached.extend(chain.iter().rev().skip(1).cloned());
        chain.iter().skip(1).map(|place| String::from_utf8_lossy(file_name(place)).into_owned()).collect()
    }

    fn reach_beside(&mut self, name: &str, further: &mut Vec<String>) {
        for unit in self.unit_paths(name) {
            let drop_ins = [&unit[..], b".d"].concat();
            listed(self.tree, &drop_ins).iter().for_each(|path| self.reach_as(path, Some(Role::Unit)));
            for suffix in unit::DEPENDENCIES {
                let links = listed(self.tree, &[&unit[..], suffix.as_bytes()].concat());
                further.extend(links.iter().map(|path| String::from_utf8_lossy(file_name(path)).into_owned()));
            }
        }
    }

    /// Where a unit of that name may lie, the place that wins first.
    fn unit_paths(&self, name: &str) -> Vec<TreePath> {
        self.places.units.iter().map(|directory| join(directory, name.as_bytes())).collect()
    }

    /// Whether there is a link to `/dev/null`, or an empty file, in place of the unit.
    fn is_masked(&self, path: &[u8]) -> bool {
        let chain = self.tree.chain(path);
        let Some(end) = chain.last() else { return false };
        end == b"dev/null" || self.tree.content(end).is_some_and(|content| content.size_bytes() == 0)
    }
}

/// Whether a file is a program or a library: what may be left out.
fn is_code(entry: &Entry) -> Result<bool> {
    let Kind::File(content) = &entry.kind else { return Ok(false) };
    let mut start = [0; 4];
    let count = read_start(content, &mut start)?;
    let is_script = start.starts_with(b"#!") && entry.permissions & 0o111 != 0;
    Ok(&start[..count] == elf::MAGIC || is_script)
}

fn read_start(content: &Content, start: &mut [u8; 4]) -> Result<usize> {
    let mut count = 0;
    let mut reader = content.reader();
    while count < start.len() {
        match reader.read(&mut start[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

/// The references of a file of the tree.
fn look_into(tree: &Tree, path: &TreePath, role: Option<Role>, features: &Features) -> Result<References> {
    let Some(content) = tree.content(path) else { return Ok(References::default()) };
    let bytes = content.read_all()?;
    if bytes.starts_with(elf::MAGIC) {
        return elf::references(&bytes, features);
    }
    let text = String::from_utf8_lossy(&bytes);
    if text.starts_with("#!") {
        return Ok(script::references(&text));
    }
    Ok(match role {
        Some(Role::Unit) => unit::references(&text),
        Some(Role::Rules) => udev::references(&text),
        Some(Role::Modprobe) => modprobe::references(&text),
        Some(Role::NameServices) => name_services(&text),
        None => References::default(),
    })
}

/// The libraries of the sources in `/etc/nsswitch.conf` (nsswitch.conf(5)).
fn name_services(text: &str) -> References {
    let lines = text.lines().filter_map(|line| line.split('#').next()?.split_once(':'));
    let sources = lines.flat_map(|(_, sources)| sources.split_whitespace()).filter(|word| !word.starts_with('['));
    References { libraries: sources.map(|source| format!("libnss_{source}.so.2")).collect(), ..References::default() }
}

fn is_library_name(name: &[u8]) -> bool {
    name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.")
}
