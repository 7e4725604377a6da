//! The way from where an initrd starts to all that it reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use anyhow::{Context, Result};
use globset::Glob;

use super::features::Features;
use super::references::References;
use super::{elf, script, udev, unit};
use crate::format::text::quoted;
use crate::parallel;
use crate::tree::{Content, Entry, Globs, Kind, Tree, TreePath, file_name, parent};

/// Where systemd looks for units, the first that has one wins.
const UNIT_DIRECTORIES: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];
/// Where programs are called by their names.
const PROGRAM_DIRECTORIES: [&str; 3] = ["usr/bin", "usr/sbin", "usr/lib/udev"];
/// Directories whose programs systemd runs, all of them.
const HOOK_DIRECTORIES: [&str; 5] = [
    "usr/lib/systemd/system-environment-generators",
    "usr/lib/systemd/system-generators",
    "usr/lib/systemd/system-shutdown",
    "etc/systemd/system-generators",
    "etc/systemd/system-shutdown",
];
const RULES_DIRECTORIES: [&str; 2] = ["etc/udev/rules.d", "usr/lib/udev/rules.d"];
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
const NSSWITCH: &[u8] = b"etc/nsswitch.conf";

/// What is reached so far, and what of it has not been looked into.
pub struct Reached<'a> {
    tree: &'a Tree,
    features: &'a Features,
    /// Programs and libraries, each by the first of its names.
    code: BTreeSet<&'a TreePath>,
    /// Where a library lies that is loaded by a name.
    libraries: BTreeMap<&'a [u8], Vec<&'a TreePath>>,
    reached: BTreeSet<TreePath>,
    reached_units: BTreeSet<String>,
    waiting: Vec<TreePath>,
}

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
        let (reached, reached_units, waiting) = Default::default();
        Ok(Reached { tree, features, code, libraries, reached, reached_units, waiting })
    }

    /// Reaches what every initrd starts with.
    pub fn start_as_initrd(&mut self) {
        self.reach_path(b"init");
        STARTED_UNITS.iter().for_each(|name| self.reach_unit(name));
        let tree = self.tree;
        for directory in HOOK_DIRECTORIES.iter().chain(&RULES_DIRECTORIES) {
            tree.children(directory.as_bytes()).for_each(|(path, _)| self.reach_path(path));
        }
        self.reach_path(NSSWITCH);
        self.tell("an initrd", 0);
    }

    /// Logs what `from` led to: what waits from that place on.
    fn tell(&self, from: &str, before: usize) {
        for path in &self.waiting[before..] {
            tracing::debug!("{from} leads to {}", quoted(path));
        }
    }

    /// Reaches programs that the definition names by globs. Returns the names that there is no program of; a glob takes what
    /// there is.
    ///
    /// # Errors
    /// Fails on a malformed pattern.
    pub fn start_programs(&mut self, patterns: &[String]) -> Result<Vec<String>> {
        let mut unknown = Vec::new();
        for pattern in patterns {
            let glob = Glob::new(pattern).with_context(|| format!("reading the pattern {pattern:?}"))?;
            let glob = glob.compile_matcher();
            let directories = PROGRAM_DIRECTORIES.iter().flat_map(|directory| self.tree.children(directory.as_bytes()));
            let found: Vec<&TreePath> = directories
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
        let look_into = |path: &TreePath| {
            let references = look_into(tree, path, features).with_context(|| format!("reading {}", quoted(path)))?;
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
        let units = UNIT_DIRECTORIES.iter().flat_map(|directory| self.tree.children(directory.as_bytes()));
        let units = units.filter(|(path, entry)| {
            let is_unit = std::str::from_utf8(file_name(path)).is_ok_and(unit::is_unit);
            is_unit && !matches!(entry.kind, Kind::Directory) && !self.is_masked(path)
        });
        let paths = code.chain(units.map(|(path, _)| path.clone()));
        paths.filter(|path| !self.reached.contains(path)).collect()
    }

    fn follow(&mut self, from: &[u8], references: &References) {
        let before = self.waiting.len();
        references.paths.iter().for_each(|path| self.reach_path(path.as_bytes()));
        for program in &references.programs {
            PROGRAM_DIRECTORIES.iter().for_each(|one| self.reach_path(format!("{one}/{program}").as_bytes()));
        }
        for library in &references.libraries {
            let found = self.libraries.get(library.as_bytes()).cloned().unwrap_or_default();
            found.into_iter().for_each(|path| self.reach_path(path));
        }
        references.units.iter().for_each(|name| self.reach_unit(name));
        self.tell(&quoted(from).to_string(), before);
    }

    /// Reaches what a path leads to, if that is a file.
    fn reach_path(&mut self, path: &[u8]) {
        let Some(resolved) = self.tree.resolve(path) else { return };
        let resolved = match self.tree.get(&resolved).map(|entry| &entry.kind) {
            Some(Kind::File(_)) => resolved,
            Some(Kind::HardLink { target }) => target.clone(),
            _ => return,
        };
        if self.reached.insert(resolved.clone()) {
            self.waiting.push(resolved);
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
        let paths: Vec<TreePath> = unit_paths(name).filter(|path| self.tree.get(path).is_some()).collect();
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

    /// Reaches the file of a unit. Where that is another name of a unit, this is returned.
    fn reach_unit_file(&mut self, path: &[u8]) -> Option<String> {
        self.reach_path(path);
        if !matches!(self.tree.get(path).map(|entry| &entry.kind), Some(Kind::Symlink { .. })) {
            return None;
        }
        self.reached.insert(path.to_vec());
        let resolved = self.tree.resolve(path)?;
        Some(String::from_utf8_lossy(file_name(&resolved)).into_owned())
    }

    fn reach_beside(&mut self, name: &str, further: &mut Vec<String>) {
        let tree = self.tree;
        for directory in unit_paths(name) {
            let drop_ins = [&directory[..], b".d"].concat();
            tree.children(&drop_ins).for_each(|(path, _)| self.reach_path(path));
            for suffix in unit::DEPENDENCIES {
                let links = [&directory[..], suffix.as_bytes()].concat();
                let names =
                    tree.children(&links).map(|(path, _)| String::from_utf8_lossy(file_name(path)).into_owned());
                further.extend(names);
            }
        }
    }

    /// Whether there is a link to nothing in place of the unit.
    fn is_masked(&self, path: &[u8]) -> bool {
        matches!(self.tree.get(path).map(|entry| &entry.kind), Some(Kind::Symlink { target }) if target == b"/dev/null")
    }
}

/// Where a unit of that name may lie.
fn unit_paths(name: &str) -> impl Iterator<Item = TreePath> {
    UNIT_DIRECTORIES.iter().map(move |directory| format!("{directory}/{name}").into_bytes())
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
fn look_into(tree: &Tree, path: &TreePath, features: &Features) -> Result<References> {
    let Some(content) = tree.content(path) else { return Ok(References::default()) };
    let bytes = content.read_all()?;
    if bytes.starts_with(elf::MAGIC) {
        return elf::references(&bytes, features);
    }
    let text = String::from_utf8_lossy(&bytes);
    let directory = parent(path);
    let lies_in = |directories: &[&str]| directories.iter().any(|one| directory == one.as_bytes());
    Ok(if text.starts_with("#!") {
        script::references(&text)
    } else if lies_in(&RULES_DIRECTORIES) {
        udev::references(&text)
    } else if path == NSSWITCH {
        name_services(&text)
    } else if UNIT_DIRECTORIES.iter().any(|one| path.starts_with(one.as_bytes())) {
        unit::references(&text)
    } else {
        References::default()
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
