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
    pub packages: BTreeMap<String, (Rule, Vec<&'a Candidate>)>,
    /// The kernels with their uname releases.
    pub kernels: Vec<(&'a Kernel, String, &'a Candidate)>,
    /// The names that dependencies may name.
    pub known: Known,
}

impl<'a> Selection<'a> {
    /// Follows the mapping, and then the dependencies of what it names: a package that is neither mapped nor to be
    /// ignored joins under its Debian name.
    ///
    /// # Errors
    /// Fails when a mapped package is in none of the suites.
    pub fn new(mapping: &'a Mapping, index: &'a Index) -> Result<Selection<'a>> {
        let mut chooser = Chooser { mapping, index, chosen: BTreeMap::new(), known: Known::default() };
        for (name, rule) in &mapping.packages {
            for debian in &rule.from {
                chooser.choose(debian).with_context(|| format!("choosing what {name} is made from"))?;
            }
        }
        chooser.take_newer();
        let followed = chooser.follow_dependencies()?;

        let mut packages = BTreeMap::new();
        let followed = followed.into_iter().map(|name| (name.clone(), Rule { from: vec![name], ..Rule::default() }));
        for (name, rule) in mapping.packages.clone().into_iter().chain(followed) {
            let candidates = rule.from.iter().map(|debian| chooser.chosen[debian]).collect();
            packages.insert(name, (rule, candidates));
        }
        Ok(Selection { packages, kernels: kernels(mapping, index)?, known: chooser.known })
    }

    /// Every Debian package that is needed.
    pub fn candidates(&self) -> Vec<&'a Candidate> {
        let kernels = self.kernels.iter().map(|(_, _, candidate)| *candidate);
        self.packages.values().flat_map(|(_, candidates)| candidates.iter().copied()).chain(kernels).collect()
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
            .map(|(name, (_, candidates))| (name, candidates.iter().map(|candidate| entry(candidate)).collect()))
            .collect();
        let kernels: Vec<Value> = self.kernels.iter().map(|(_, _, candidate)| entry(candidate)).collect();
        json!({ "packages": packages, "kernels": kernels })
    }
}

struct Chooser<'a> {
    mapping: &'a Mapping,
    index: &'a Index,
    chosen: BTreeMap<String, &'a Candidate>,
    known: Known,
}

impl<'a> Chooser<'a> {
    fn choose(&mut self, debian: &str) -> Result<()> {
        let suites = &self.mapping.suites;
        let candidate = self.index.newest(debian, suites);
        let candidate = candidate.with_context(|| format!("finding {debian} in the suites {}", suites.join(", ")))?;
        self.known.add(debian, &candidate.fields)?;
        self.chosen.insert(debian.to_owned(), candidate);
        Ok(())
    }

    /// Replaces the packages that a newer suite has better by that suite's, if everything else chosen allows it.
    fn take_newer(&mut self) {
        let newer = &self.mapping.newer;
        let suite = [newer.suite.clone()];
        let mut trial = self.chosen.clone();
        for name in &newer.packages {
            match self.index.newest(name, &suite) {
                Some(candidate) => trial.insert(name.clone(), candidate),
                None => return,
            };
        }
        let is_satisfied = |name: &String| {
            let groups = trial[name].fields.relations("Depends").unwrap_or_default();
            groups.iter().all(|group| group.iter().any(|relation| allows(relation, &trial, self.mapping)))
        };
        if newer.packages.iter().all(is_satisfied) {
            self.chosen = trial;
        }
    }

    /// Adds what the chosen packages depend on; returns the names that were added.
    fn follow_dependencies(&mut self) -> Result<BTreeSet<String>> {
        let mut added = BTreeSet::new();
        let mut waiting: Vec<&Candidate> = self.chosen.values().copied().collect();
        while let Some(candidate) = waiting.pop() {
            let mut groups = candidate.fields.relations("Depends")?;
            groups.extend(candidate.fields.relations("Pre-Depends")?);
            for group in groups {
                let Some(name) = self.missing(&group) else { continue };
                self.choose(&name)?;
                waiting.push(self.chosen[&name]);
                added.insert(name);
            }
        }
        Ok(added)
    }

    /// The package to add for a dependency that nothing chosen meets and that is not to be ignored.
    fn missing(&self, group: &[Relation]) -> Option<String> {
        let is_met = |relation: &Relation| {
            self.known.contains(&relation.package) || self.mapping.ignored_dependencies.contains(&relation.package)
        };
        if group.iter().any(is_met) {
            return None;
        }
        let mut real =
            group.iter().filter(|relation| self.index.newest(&relation.package, &self.mapping.suites).is_some());
        real.next().map(|relation| relation.package.clone())
    }
}

/// Whether the chosen packages meet a relation, where they have the package at all.
fn allows(relation: &Relation, chosen: &BTreeMap<String, &Candidate>, mapping: &Mapping) -> bool {
    let Some(candidate) = chosen.get(&relation.package) else {
        return relation.version.is_none() || mapping.ignored_dependencies.contains(&relation.package);
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
fn kernels<'a>(mapping: &'a Mapping, index: &'a Index) -> Result<Vec<(&'a Kernel, String, &'a Candidate)>> {
    let mut kernels = Vec::new();
    for kernel in &mapping.kernels {
        for metapackage in index.versions(&kernel.metapackage, &mapping.suites) {
            let depends = metapackage.fields.relations("Depends")?;
            let image = depends.iter().flatten().find(|relation| relation.package.starts_with("linux-image-"));
            let image = &image.with_context(|| format!("finding the kernel of {}", kernel.metapackage))?.package;
            let candidate = index.newest(image, &mapping.suites);
            let candidate = candidate.with_context(|| format!("finding {image} in the index"))?;
            kernels.push((kernel, image.trim_start_matches("linux-image-").to_owned(), candidate));
        }
    }
    Ok(kernels)
}
