//! Two locks of one image to what changed between them, for people.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{LockedPackage, Section};
use ocinitrd_format::text::one_line;

/// A package that is there before and after, in two builds.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Change {
    /// The package's name, with its architecture.
    pub name: String,
    /// `[EPOCH:]VERSION-RELEASE` before.
    pub before: String,
    /// The same after.
    pub after: String,
    /// By how much it grows when installed, in bytes.
    pub size_change: i64,
}

/// What changed from one section to another.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Difference {
    /// Packages that are new, as `NAME-[EPOCH:]VERSION-RELEASE.ARCH`, with their installed size in bytes.
    pub added: BTreeMap<String, u64>,
    /// Packages that are gone, likewise.
    pub removed: BTreeMap<String, u64>,
    /// Packages of another version.
    pub changed: Vec<Change>,
    /// Whatever else changed: builder, repositories, keys.
    pub other: Vec<String>,
}

impl Difference {
    /// What leads from `before` to `after`; all is added if there was nothing before.
    pub fn between(before: Option<&Section>, after: &Section) -> Difference {
        let mut difference = Difference::default();
        let (old, new) = (before.map(grouped).unwrap_or_default(), grouped(after));
        for (name, packages) in &new {
            difference.compare(name, old.get(name).map_or(&[], Vec::as_slice), packages);
        }
        for (name, packages) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
            difference.compare(name, packages, &[]);
        }
        if let Some(before) = before {
            difference.compare_others(before, after);
        }
        difference
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty() && self.other.is_empty()
    }

    /// By how much the packages grow when installed, in bytes.
    pub fn size_change(&self) -> i64 {
        let sum = |sizes: &BTreeMap<String, u64>| sizes.values().map(|size| size.cast_signed()).sum::<i64>();
        sum(&self.added) - sum(&self.removed) + self.changed.iter().map(|change| change.size_change).sum::<i64>()
    }

    /// Packages of one name: one before and one after is a change, several (of kernels) come and go each.
    fn compare(&mut self, name: &str, old: &[&LockedPackage], new: &[&LockedPackage]) {
        let gone: Vec<_> = old.iter().filter(|one| !new.iter().any(|other| other.sha256 == one.sha256)).collect();
        let come: Vec<_> = new.iter().filter(|one| !old.iter().any(|other| other.sha256 == one.sha256)).collect();
        if let ([before], [after]) = (&gone[..], &come[..]) {
            self.changed.push(Change {
                name: name.to_owned(),
                before: evr(before),
                after: evr(after),
                size_change: after.installed_size.cast_signed() - before.installed_size.cast_signed(),
            });
            return;
        }
        self.removed.extend(gone.into_iter().map(|package| (package.nevra(), package.installed_size)));
        self.added.extend(come.into_iter().map(|package| (package.nevra(), package.installed_size)));
    }

    fn compare_others(&mut self, before: &Section, after: &Section) {
        if before.builder != after.builder {
            self.other.push(format!("builder: {} -> {}", before.builder.digest, after.builder.digest));
        }
        for (id, repository) in &after.repos {
            match before.repos.get(id) {
                None => self.other.push(format!("repository {id}: added")),
                Some(old) if old.repomd != repository.repomd => {
                    self.other.push(format!("repository {id}: its metadata changed"));
                }
                Some(_) => {}
            }
        }
        let gone = before.repos.keys().filter(|id| !after.repos.contains_key(*id));
        self.other.extend(gone.map(|id| format!("repository {id}: removed")));
        let added = after.keys.keys().filter(|key| !before.keys.contains_key(*key));
        self.other.extend(added.map(|key| format!("key {key}: added")));
        let removed = before.keys.keys().filter(|key| !after.keys.contains_key(*key));
        self.other.extend(removed.map(|key| format!("key {key}: removed")));
    }
}

/// The packages by name and architecture.
fn grouped(section: &Section) -> BTreeMap<String, Vec<&LockedPackage>> {
    let mut groups: BTreeMap<String, Vec<&LockedPackage>> = BTreeMap::new();
    for package in &section.packages {
        groups.entry(format!("{}.{}", package.name, package.arch)).or_default().push(package);
    }
    groups
}

fn evr(package: &LockedPackage) -> String {
    let epoch = if package.epoch == 0 { String::new() } else { format!("{}:", package.epoch) };
    format!("{epoch}{}-{}", package.version, package.release)
}

/// A size in MB, with a sign.
fn growth(bytes: i64) -> String {
    format!("{:+.1} MB", bytes as f64 / 1e6)
}

impl fmt::Display for Difference {
    /// A line each, and a last one with the sums.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for other in &self.other {
            writeln!(formatter, "  {}", one_line(other))?;
        }
        for (nevra, size) in &self.added {
            writeln!(formatter, "  added    {} ({})", one_line(nevra), growth(size.cast_signed()))?;
        }
        for (nevra, size) in &self.removed {
            writeln!(formatter, "  removed  {} ({})", one_line(nevra), growth(-size.cast_signed()))?;
        }
        for Change { name, before, after, size_change } in &self.changed {
            let change = one_line(&format!("{name} {before} -> {after}"));
            writeln!(formatter, "  changed  {change} ({})", growth(*size_change))?;
        }
        write!(
            formatter,
            "{} added, {} removed, {} changed, {} installed",
            self.added.len(),
            self.removed.len(),
            self.changed.len(),
            growth(self.size_change())
        )
    }
}
