//! Debian's dependencies in rpm's terms: relations of a control file in, [`Dependency`] values out.
//!
//! Every rpm provides `deb(NAME)` for each Debian package it is made from, and the dependencies of Debian are kept as
//! dependencies on those: they are complete and versioned, whatever the packages are called in Fedora.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use crate::control::{Paragraph, Relation};
use crate::package::{Comparison, Dependency};
use crate::version::{Evr, relation_version};

/// The capability that stands for a Debian package.
pub fn capability(debian: &str) -> String {
    format!("deb({debian})")
}

/// The names, real and virtual, of the Debian packages that the repository is made from.
#[derive(Debug, Default)]
pub struct Known {
    /// Which packages bring each name.
    providers: BTreeMap<String, BTreeSet<String>>,
}

impl Known {
    /// Learns the name of a package and those that it provides.
    ///
    /// # Errors
    /// Fails when its `Provides` cannot be read.
    pub fn add(&mut self, debian: &str, control: &Paragraph) -> Result<()> {
        let virtual_names = control.relations("Provides")?.into_iter().flatten().map(|relation| relation.package);
        for name in virtual_names.chain([debian.to_owned()]) {
            self.providers.entry(name).or_default().insert(debian.to_owned());
        }
        Ok(())
    }

    /// Whether some package has or provides the name.
    pub fn contains(&self, name: &str) -> bool {
        self.providers.contains_key(name)
    }

    /// Whether one of `packages` has or provides the name.
    fn is_among(&self, name: &str, packages: &BTreeSet<&str>) -> bool {
        self.providers
            .get(name)
            .is_some_and(|providers| providers.iter().any(|provider| packages.contains(provider.as_str())))
    }
}

/// What a package made from `own` requires for the sake of `groups`: alternatives that the repository lacks are left
/// out, and so is what `own` brings itself.
///
/// # Errors
/// Fails when a version cannot be read.
pub fn requirements(groups: &[Vec<Relation>], own: &BTreeSet<&str>, known: &Known) -> Result<Vec<Dependency>> {
    let mut requirements = Vec::new();
    for group in groups {
        if group.iter().any(|relation| known.is_among(&relation.package, own)) {
            continue;
        }
        let present = group.iter().filter(|relation| known.contains(&relation.package));
        let mut alternatives = present.map(dependency).collect::<Result<Vec<_>>>()?;
        match alternatives.len() {
            0 => {}
            1 => requirements.append(&mut alternatives),
            _ => requirements.push(Dependency::any(rich_or(&alternatives))),
        }
    }
    Ok(requirements)
}

/// What a package made from `own` cannot be beside: packages of the repository that are not part of it.
///
/// # Errors
/// Fails when a version cannot be read.
pub fn conflicts(groups: &[Vec<Relation>], own: &BTreeSet<&str>, known: &Known) -> Result<Vec<Dependency>> {
    let relations = groups.iter().flatten();
    let others =
        relations.filter(|relation| known.contains(&relation.package) && !known.is_among(&relation.package, own));
    others.map(dependency).collect()
}

/// What a package of version `evr` provides for the sake of `groups`.
///
/// A name without a version gets the package's own, because rpm lets an unversioned capability match every conflict.
///
/// # Errors
/// Fails when a version cannot be read.
pub fn provisions(groups: &[Vec<Relation>], evr: &Evr) -> Result<Vec<Dependency>> {
    let provision = |relation: &Relation| match &relation.version {
        Some((_, version)) => Ok(Dependency::equal(capability(&relation.package), relation_version(version)?)),
        None => Ok(Dependency::equal(capability(&relation.package), evr)),
    };
    groups.iter().flatten().map(provision).collect()
}

fn dependency(relation: &Relation) -> Result<Dependency> {
    let name = capability(&relation.package);
    let Some((operator, version)) = &relation.version else { return Ok(Dependency::any(name)) };
    let comparison = match operator.as_str() {
        "<<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        "=" => Comparison::Equal,
        ">=" => Comparison::GreaterOrEqual,
        ">>" => Comparison::Greater,
        other => bail!("translating the dependency on {}: {other:?} is no operator", relation.package),
    };
    Ok(Dependency { name, version: Some((comparison, relation_version(version)?)) })
}

/// `(deb(a) >= 1 or deb(b))`, see <https://rpm.org/docs/latest/manual/boolean_dependencies.html>.
fn rich_or(alternatives: &[Dependency]) -> String {
    let term = |dependency: &Dependency| match &dependency.version {
        Some((comparison, version)) => format!("{} {} {version}", dependency.name, comparison.symbol()),
        None => dependency.name.clone(),
    };
    format!("({})", alternatives.iter().map(term).collect::<Vec<_>>().join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::parse_relations;

    fn known(packages: &[(&str, &str)]) -> Known {
        let mut known = Known::default();
        for (name, provides) in packages {
            known.add(name, &Paragraph::parse(&format!("Provides: {provides}")).unwrap()).unwrap();
        }
        known
    }

    fn required(field: &str) -> Vec<String> {
        let known = known(&[("libc6", ""), ("gawk", "awk"), ("mawk", "awk"), ("self", "self-virtual"), ("twin", "")]);
        let own = BTreeSet::from(["self", "twin"]);
        let found = requirements(&parse_relations(field).unwrap(), &own, &known).unwrap();
        found.iter().map(|dependency| rich_or(std::slice::from_ref(dependency))).collect()
    }

    #[test]
    fn versions_and_operators_are_translated() {
        assert_eq!(required("libc6 (>= 2.38), libc6 (<< 1:3-1~)"), ["(deb(libc6) >= 0:2.38)", "(deb(libc6) < 1:3-1~)"]);
    }

    #[test]
    fn alternatives_become_one_rich_dependency() {
        assert_eq!(required("gawk (= 1) | mawk"), ["((deb(gawk) = 0:1 or deb(mawk)))"]);
    }

    #[test]
    fn absent_alternatives_and_packages_are_left_out() {
        assert_eq!(required("perl:any, mawk | original-awk"), ["(deb(mawk))"]);
    }

    #[test]
    fn what_the_package_itself_holds_is_not_required() {
        assert_eq!(required("twin (= 1), self-virtual | gawk"), [""; 0]);
    }

    #[test]
    fn a_virtual_name_counts_as_known() {
        assert_eq!(required("awk"), ["(deb(awk))"]);
    }

    #[test]
    fn conflicts_with_itself_and_with_strangers_are_dropped() {
        let known = known(&[("a", ""), ("b", ""), ("self", "virtual")]);
        let groups = parse_relations("a (<< 2), virtual, stranger").unwrap();
        let found = conflicts(&groups, &BTreeSet::from(["self"]), &known).unwrap();
        assert_eq!(found, [Dependency { name: "deb(a)".into(), version: Some((Comparison::Less, "0:2".into())) }]);
    }

    #[test]
    fn an_unversioned_provision_gets_the_own_version() {
        let evr = Evr::from_debian("1:2-3").unwrap();
        let found = provisions(&parse_relations("a, b (= 7)").unwrap(), &evr).unwrap();
        assert_eq!(found, [Dependency::equal("deb(a)", "1:2-3"), Dependency::equal("deb(b)", "0:7")]);
    }
}
