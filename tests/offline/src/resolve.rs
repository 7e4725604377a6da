//! Chooses what the repository is made from: mapping and index in, one version of every Debian package out.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::archive::{Candidate, Index};
use crate::control::Relation;
use crate::dependencies::Known;
use crate::mapping::{Kernel, Mapping, Rule};
use crate::version::compare_debian;

/// What the repository is made from.
#[derive(Debug)]
pub struct Selection<'a> {
    /// Fedora's packages with their rules and Debian's packages for each, in the rule's order.
    pub packages: BTreeMap<String, (Rule, Vec<Candidate>)>,
    /// The kernels with their uname releases and Debian's packages for each.
    pub kernels: Vec<(&'a Kernel, String, Vec<Candidate>)>,
    /// The names that dependencies may name.
    pub known: Known,
}

impl<'a> Selection<'a> {
    /// Follows the mapping, and then the dependencies of what it names: a package that is neither mapped nor to be
    /// ignored joins under its Debian name.
    ///
    /// # Errors
    /// Fails when a mapped package is in none of the suites.
    pub fn new(mapping: &'a Mapping, index: &Index) -> Result<Selection<'a>> {
        let mut chooser = Chooser { mapping, index, chosen: BTreeMap::new(), known: Known::default() };
        for (name, rule) in &mapping.packages {
            for debian in &rule.from {
                chooser.choose(debian).with_context(|| format!("choosing what {name} is made from"))?;
            }
        }
        chooser.take_newer()?;
        let followed = chooser.follow_dependencies()?;

        let mut packages = BTreeMap::new();
        let followed = followed.into_iter().map(|name| (name.clone(), Rule { from: vec![name], ..Rule::default() }));
        for (name, rule) in mapping.packages.clone().into_iter().chain(followed) {
            let candidates = rule.from.iter().map(|debian| chooser.chosen[debian].clone()).collect();
            packages.insert(name, (rule, candidates));
        }
        Ok(Selection { packages, kernels: kernels(mapping, index)?, known: chooser.known })
    }

    /// Every Debian package that is needed.
    pub fn candidates(&self) -> Vec<&Candidate> {
        let kernels = self.kernels.iter().flat_map(|(_, _, candidates)| candidates);
        self.packages.values().flat_map(|(_, candidates)| candidates).chain(kernels).collect()
    }

    /// The record of what was used.
    pub fn record(&self) -> Value {
        let entry = |candidate: &Candidate| {
            let name = candidate.fields.get("Package").unwrap_or_default();
            json!({ "package": name, "version": candidate.version, "suite": candidate.suite })
        };
        let packages: BTreeMap<&String, Vec<Value>> = self
            .packages
            .iter()
            .map(|(name, (_, candidates))| (name, candidates.iter().map(entry).collect()))
            .collect();
        let kernels: Vec<Value> = self.kernels.iter().flat_map(|(_, _, candidates)| candidates).map(entry).collect();
        json!({ "packages": packages, "kernels": kernels })
    }
}

struct Chooser<'a> {
    mapping: &'a Mapping,
    index: &'a Index,
    chosen: BTreeMap<String, Candidate>,
    known: Known,
}

impl<'a> Chooser<'a> {
    fn choose(&mut self, debian: &str) -> Result<()> {
        let suites = &self.mapping.suites;
        let mut candidate = self.index.newest(debian, suites)?;
        let newer = self.mapping.newer.iter().find(|newer| newer.packages.iter().any(|name| name == debian));
        if let (None, Some(newer)) = (&candidate, newer) {
            candidate = self.index.newest(debian, std::slice::from_ref(&newer.suite))?;
        }
        let candidate = candidate.with_context(|| format!("finding {debian} in the suites {}", suites.join(", ")))?;
        self.known.add(debian, &candidate.fields)?;
        self.chosen.insert(debian.to_owned(), candidate);
        Ok(())
    }

    /// Replaces the packages that a newer suite has better by that suite's, if everything else chosen allows it.
    fn take_newer(&mut self) -> Result<()> {
        let Some(newer) = &self.mapping.newer else { return Ok(()) };
        let suite = [newer.suite.clone()];
        let mut trial = self.chosen.clone();
        for name in &newer.packages {
            let Some(candidate) = self.index.newest(name, &suite)? else { return Ok(()) };
            trial.insert(name.clone(), candidate);
        }
        for name in &newer.packages {
            let is_met = |group: &Vec<Relation>| group.iter().any(|relation| allows(relation, &trial, self.mapping));
            if !trial[name].fields.relations("Depends")?.iter().all(is_met) {
                return Ok(());
            }
        }
        self.chosen = trial;
        Ok(())
    }

    /// Adds what the chosen packages depend on; returns the names that were added.
    fn follow_dependencies(&mut self) -> Result<BTreeSet<String>> {
        let mut added = BTreeSet::new();
        let mut waiting: Vec<Candidate> = self.chosen.values().cloned().collect();
        while let Some(candidate) = waiting.pop() {
            let mut groups = candidate.fields.relations("Depends")?;
            groups.extend(candidate.fields.relations("Pre-Depends")?);
            for group in groups {
                let Some(name) = self.missing(&group) else { continue };
                self.choose(&name)?;
                waiting.push(self.chosen[&name].clone());
                added.insert(name);
            }
        }
        Ok(added)
    }

    /// The package to add for a dependency that nothing chosen meets and that is not to be ignored.
    fn missing(&self, group: &[Relation]) -> Option<String> {
        let is_met =
            |relation: &Relation| self.known.contains(&relation.package) || self.mapping.ignores(&relation.package);
        if group.iter().any(is_met) {
            return None;
        }
        let mut real = group.iter().filter(|relation| self.index.contains(&relation.package, &self.mapping.suites));
        real.next().map(|relation| relation.package.clone())
    }
}

/// Whether the chosen packages meet a relation, where they have the package at all.
fn allows(relation: &Relation, chosen: &BTreeMap<String, Candidate>, mapping: &Mapping) -> bool {
    let Some(candidate) = chosen.get(&relation.package) else {
        return relation.version.is_none() || mapping.ignores(&relation.package);
    };
    let Some((operator, version)) = &relation.version else { return true };
    let order = compare_debian(&candidate.version, version);
    match operator.as_str() {
        "<<" => order.is_lt(),
        "<=" => order.is_le(),
        ">=" => order.is_ge(),
        ">>" => order.is_gt(),
        _ => order.is_eq(),
    }
}

/// The kernels that each version of the metapackages depends on.
fn kernels<'a>(mapping: &'a Mapping, index: &Index) -> Result<Vec<(&'a Kernel, String, Vec<Candidate>)>> {
    let newest = |name: &str| {
        let candidate = index.newest(name, &mapping.suites)?;
        candidate.with_context(|| format!("finding {name} in the index"))
    };
    let mut kernels = Vec::new();
    for kernel in &mapping.kernels {
        for metapackage in index.versions(&kernel.metapackage, &mapping.suites)? {
            let depends = metapackage.fields.relations("Depends")?;
            let image = depends.iter().flatten().find(|relation| relation.package.starts_with("linux-image-"));
            let image =
                newest(&image.with_context(|| format!("finding the kernel of {}", kernel.metapackage))?.package)?;
            let release = image.fields.get("Package").unwrap_or_default().trim_start_matches("linux-image-").to_owned();
            // Newer ones leave the kernel and its modules to other packages of the same release.
            let parts = image.fields.relations("Depends")?.into_iter().flatten().map(|relation| relation.package);
            let parts =
                parts.filter(|name| name.ends_with(&release)).map(|name| newest(&name)).collect::<Result<Vec<_>>>()?;
            kernels.push((kernel, release, [image].into_iter().chain(parts).collect()));
        }
    }
    Ok(kernels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(packages: &str) -> Mapping {
        let text = format!(
            r#"{{"about": "", "suites": ["stable"], "newer": {{"suite": "sid", "packages": ["nfs", "nfs-libs"]}},
                "builders": {{}}, "kernels": [{{"metapackage": "linux", "name": "kernel", "split": true}}],
                "kernel_core_modules": [], "splits": [], "left_out": [], "ignored_dependencies": ["perl"],
                "packages": {packages}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn index(stable: &str, sid: &str) -> Index {
        let mut index = Index::default();
        index.add("stable", stable).unwrap();
        index.add("sid", sid).unwrap();
        index
    }

    fn version<'a>(selection: &'a Selection<'_>, name: &str) -> &'a str {
        &selection.packages[name].1[0].version
    }

    const NFS: &str = "Package: nfs\nVersion: 1\n\nPackage: nfs-libs\nVersion: 1\n\nPackage: libc\nVersion: 2.41\n\n";
    const NFS_MAP: &str = r#"{"nfs-utils": {"from": ["nfs"]}, "nfs-libs": {"from": ["nfs-libs"]},
        "glibc": {"from": ["libc"]}}"#;

    #[test]
    fn unmapped_dependencies_join_under_their_own_name() {
        let stable = "Package: a\nVersion: 1\nDepends: perl, b | c, virtual-of-b\n\nPackage: b\nVersion: 1\n\
                      Provides: virtual-of-b\nPre-Depends: d\n\nPackage: c\nVersion: 1\n\nPackage: d\nVersion: 1\n";
        let mapping = mapping(r#"{"fedora-a": {"from": ["a"]}}"#);
        let selection = Selection::new(&mapping, &index(stable, "")).unwrap();
        assert_eq!(selection.packages.keys().collect::<Vec<_>>(), ["b", "d", "fedora-a"]);
    }

    #[test]
    fn the_newer_suite_is_taken_only_when_all_of_it_fits() {
        let mapping = mapping(NFS_MAP);
        let fitting =
            "Package: nfs\nVersion: 2\nDepends: nfs-libs (= 2), libc (>= 2.38)\n\nPackage: nfs-libs\nVersion: 2\n";
        let selection = Selection::new(&mapping, &index(NFS, fitting)).unwrap();
        assert_eq!((version(&selection, "nfs-utils"), version(&selection, "nfs-libs")), ("2", "2"));

        let unfit = fitting.replace("2.38", "2.43");
        let selection = Selection::new(&mapping, &index(NFS, &unfit)).unwrap();
        assert_eq!((version(&selection, "nfs-utils"), version(&selection, "nfs-libs")), ("1", "1"));
    }

    #[test]
    fn what_only_the_newer_suite_has_is_taken_from_it() {
        let mapping = mapping(NFS_MAP);
        let newer = "Package: nfs\nVersion: 2\nDepends: nfs-libs (= 2)\n\nPackage: nfs-libs\nVersion: 2\n";
        let stable = NFS.replace("Package: nfs-libs\nVersion: 1\n\n", "");
        let selection = Selection::new(&mapping, &index(&stable, newer)).unwrap();
        assert_eq!((version(&selection, "nfs-utils"), version(&selection, "nfs-libs")), ("2", "2"));
    }

    #[test]
    fn every_version_of_the_kernel_is_taken() {
        let stable = "Package: linux\nVersion: 6.1\nDepends: linux-image-6.1-amd64 (= 6.1)\n\n\
                      Package: linux\nVersion: 6.2\nDepends: linux-image-6.2-amd64\n\n\
                      Package: linux-image-6.1-amd64\nVersion: 6.1\n\nPackage: linux-image-6.2-amd64\nVersion: 6.2\n";
        let mapping = mapping("{}");
        let selection = Selection::new(&mapping, &index(stable, "")).unwrap();
        let releases: Vec<&str> = selection.kernels.iter().map(|(_, release, _)| release.as_str()).collect();
        assert_eq!(releases, ["6.1-amd64", "6.2-amd64"]);
    }

    #[test]
    fn a_mapped_package_that_no_suite_has_is_an_error() {
        let mapping = mapping(r#"{"fedora-a": {"from": ["a"]}}"#);
        let error = Selection::new(&mapping, &index("", "Package: a\nVersion: 1\n")).unwrap_err();
        assert_eq!(format!("{error:#}"), "choosing what fedora-a is made from: finding a in the suites stable");
    }
}
