//! Merges Debian packages into packages of Fedora's kind: debs and the rule for them in, [`Package`] values out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::control::Paragraph;
use crate::deb::Deb;
use crate::dependencies::{Known, capability, conflicts, provisions, requirements};
use crate::fedora;
use crate::handmade;
use crate::layout::{fedora_link, fedora_path};
use crate::license;
use crate::mapping::{Mapping, Rule};
use crate::package::{Class, Content, Dependency, File, Package};
use crate::scriptlets;
use crate::version::Evr;

/// What all conversions share.
#[derive(Debug)]
pub struct Conversion<'a> {
    /// The rules.
    pub mapping: &'a Mapping,
    /// Debian's packages that the repository is made from.
    pub known: &'a Known,
}

impl Conversion<'_> {
    /// The package `name`, made from `debs` as `rule` says, and those that it is divided into.
    ///
    /// # Errors
    /// Fails when a field of a deb cannot be read.
    pub fn packages(&self, name: &str, rule: &Rule, debs: &[Deb]) -> Result<Vec<Package>> {
        let mut package = self.merged(name, rule, debs).with_context(|| format!("making {name}"))?;
        let stamp = package.build_time;
        for (path, target) in &rule.links {
            package.files.insert(path.clone(), File::of_root(Content::Symlink(target.clone()), 0o777, stamp));
        }
        if !rule.accounts.is_empty() {
            let accounts = Content::Regular(Arc::new((rule.accounts.join("\n") + "\n").into_bytes()));
            package.files.insert(format!("/usr/lib/sysusers.d/{name}.conf"), File::of_root(accounts, 0o644, stamp));
        }
        for (path, capabilities) in &rule.capabilities {
            let file = package.files.get_mut(path).with_context(|| format!("finding {path} in {name}"))?;
            file.capabilities = Some(capabilities.clone());
        }
        let mut packages = self.divided(package);
        if let Some(rest) = packages.last_mut() {
            add_dependencies_of(rest, rule);
        }
        if self.mapping.is_fedora_shaped {
            packages.iter_mut().try_for_each(fedora::shape)?;
        }
        Ok(packages)
    }

    fn merged(&self, name: &str, rule: &Rule, debs: &[Deb]) -> Result<Package> {
        let main = &debs.first().context("finding a Debian package to make it from")?.control;
        let evr = Evr::from_debian(field(main, "Version")?)?;
        let mut own: BTreeSet<&str> = debs.iter().map(|deb| field(&deb.control, "Package")).collect::<Result<_>>()?;
        // What a package is not to require counts as its own.
        own.extend(rule.ignore.iter().map(String::as_str));
        let mut package = described(name, evr, main)?;
        package.license = license_of(debs);
        package.build_time = newest_time(debs);
        for deb in debs {
            self.add_dependencies(&mut package, deb, &own)?;
            self.add_files(&mut package, rule, deb)?;
        }
        Ok(package)
    }

    fn add_dependencies(&self, package: &mut Package, deb: &Deb, own: &BTreeSet<&str>) -> Result<()> {
        let control = &deb.control;
        let evr = Evr::from_debian(field(control, "Version")?)?;
        package.provides.push(Dependency::equal(capability(field(control, "Package")?), &evr));
        package.provides.extend(provisions(&control.relations("Provides")?, &evr)?);
        package.provides.extend(deb.sonames.iter().map(|soname| Dependency::any(format!("{soname}()(64bit)"))));
        for name in ["Depends", "Pre-Depends"] {
            package.requires.extend(requirements(&control.relations(name)?, own, self.known)?);
        }
        package.recommends.extend(requirements(&control.relations("Recommends")?, own, self.known)?);
        for name in ["Conflicts", "Breaks"] {
            package.conflicts.extend(conflicts(&control.relations(name)?, own, self.known)?);
        }
        Ok(())
    }

    fn add_files(&self, package: &mut Package, rule: &Rule, deb: &Deb) -> Result<()> {
        let debian = field(&deb.control, "Package")?;
        let kept = deb.files.iter().filter(|(path, _)| !self.is_left_out(path));
        for (path, file) in kept {
            let mut file = file.clone();
            if let Content::Symlink(target) = &file.content {
                if target == "/dev/null" && path.contains("/systemd/system/") {
                    // Debian masks the init scripts of other systems so.
                    continue;
                }
                let Some(target) = fedora_link(path, target) else { continue };
                file.content = Content::Symlink(target);
            }
            let path = licence_path(path, debian, &package.name).unwrap_or_else(|| fedora_path(path));
            let path = moved(&path, &rule.moved);
            let is_unwanted = rule.without.iter().any(|start| path.starts_with(start.as_str()));
            if is_unwanted || handmade::owns_directory(&path) || is_unowned(&path, &file.content) {
                continue;
            }
            classify(&path, &mut file);
            adopt_shadow_group(&mut file);
            package.files.entry(path).or_insert(file);
        }
        Ok(())
    }

    fn is_left_out(&self, path: &str) -> bool {
        let directory = format!("{path}/");
        self.mapping.left_out.iter().any(|start| path.starts_with(start) || directory == *start)
    }

    /// Moves the files that Fedora has in packages of their own.
    fn divided(&self, mut package: Package) -> Vec<Package> {
        let mut parts = Vec::new();
        let name = package.name.clone();
        for split in self.mapping.splits.iter().filter(|split| split.from == name) {
            let files = std::mem::take(&mut package.files);
            let (own, kept) = files
                .into_iter()
                .partition(|(path, file)| !matches!(file.content, Content::Directory) && split.moves(path));
            package.files = kept;
            let mut part = part(&package, &split.to, own);
            take_provisions(&mut part, &mut package, &split.debs);
            if split.is_base {
                become_base(&mut part, &mut package);
            }
            if split.is_independent {
                part.requires.clear();
            }
            if let Some(rule) = self.mapping.parts.get(&split.to) {
                add_dependencies_of(&mut part, rule);
            }
            parts.push(part);
        }
        parts.push(package);
        parts
    }
}

/// Lets a part stand for some of Debian's packages.
fn take_provisions(part: &mut Package, package: &mut Package, debs: &[String]) {
    let names: Vec<String> = debs.iter().map(|debian| capability(debian)).collect();
    let (taken, kept) =
        std::mem::take(&mut package.provides).into_iter().partition(|provided| names.contains(&provided.name));
    package.provides = kept;
    part.provides.extend::<Vec<_>>(taken);
}

/// Turns the dependency of a part on the package that it comes from around: the part does what Debian's package is
/// required for, and so takes over what that requires.
fn become_base(part: &mut Package, package: &mut Package) {
    let (of_debian, kept) =
        std::mem::take(&mut package.provides).into_iter().partition(|provided| provided.name.starts_with("deb("));
    package.provides = kept;
    part.provides.extend::<Vec<_>>(of_debian);
    part.requires = std::mem::take(&mut package.requires);
    part.conflicts = std::mem::take(&mut package.conflicts);
    package.requires.push(Dependency::equal(part.name.clone(), &part.evr));
}

/// The dependencies that a rule states itself.
fn add_dependencies_of(package: &mut Package, rule: &Rule) {
    let evr = package.evr.clone();
    package.provides.extend(rule.provides.iter().map(|provided| match provided.starts_with('/') {
        true => Dependency::any(provided),
        false => Dependency::equal(provided, &evr),
    }));
    package.requires.extend(rule.requires.iter().map(Dependency::any));
}

/// The path in the place that a rule names for one of its directories.
fn moved(path: &str, places: &BTreeMap<String, String>) -> String {
    let place = places.iter().find_map(|(from, to)| {
        let rest = path.strip_prefix(from.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{to}{rest}"))
    });
    place.unwrap_or_else(|| path.to_owned())
}

/// A package of the same origin as `package` with other files.
pub fn part(package: &Package, name: &str, files: BTreeMap<String, File>) -> Package {
    Package {
        name: name.to_owned(),
        provides: own_name(name, &package.evr, &package.arch),
        requires: vec![Dependency::equal(package.name.clone(), &package.evr)],
        recommends: Vec::new(),
        conflicts: Vec::new(),
        scriptlets: scriptlets::of(name),
        files,
        ..package.clone()
    }
}

fn described(name: &str, evr: Evr, control: &Paragraph) -> Result<Package> {
    let description = control.get("Description").unwrap_or(name);
    let (summary, text) = description.split_once('\n').unwrap_or((description, description));
    let arch = if field(control, "Architecture")? == "all" { "noarch" } else { "x86_64" };
    Ok(Package {
        name: name.to_owned(),
        provides: own_name(name, &evr, arch),
        arch: arch.to_owned(),
        summary: summary.to_owned(),
        description: text.to_owned(),
        license: String::new(),
        url: control.get("Homepage").unwrap_or_default().to_owned(),
        source_rpm: source_rpm(control)?,
        evr,
        build_time: 0,
        requires: Vec::new(),
        recommends: Vec::new(),
        conflicts: Vec::new(),
        scriptlets: scriptlets::of(name),
        files: BTreeMap::new(),
    })
}

/// What rpmbuild provides for every package: its name, and its name with the architecture if it has one.
pub fn own_name(name: &str, evr: &Evr, arch: &str) -> Vec<Dependency> {
    let mut provides = vec![Dependency::equal(name, evr)];
    if arch == "x86_64" {
        provides.push(Dependency::equal(format!("{name}(x86-64)"), evr));
    }
    provides
}

/// `Source: glibc (2.41-1)`, or the binary package's own name and version, as the file name of a source rpm.
fn source_rpm(control: &Paragraph) -> Result<String> {
    let source = control.get("Source").unwrap_or(field(control, "Package")?);
    let (name, version) = match source.split_once('(') {
        Some((name, version)) => (name.trim(), version.trim_end_matches(')')),
        None => (source, field(control, "Version")?),
    };
    Ok(format!("{name}-{}.src.rpm", Evr::from_debian(version)?.without_epoch()))
}

fn field<'a>(control: &'a Paragraph, name: &str) -> Result<&'a str> {
    control.get(name).with_context(|| format!("finding the field {name} in the control file"))
}

fn license_of(debs: &[Deb]) -> String {
    let mut text = String::new();
    for file in debs.iter().flat_map(|deb| &deb.files).filter(|(path, _)| path.ends_with("/copyright")) {
        if let Content::Regular(bytes) = &file.1.content {
            text.push_str(&String::from_utf8_lossy(bytes));
        }
    }
    license::expression(&text)
}

fn newest_time(debs: &[Deb]) -> u32 {
    debs.iter().flat_map(|deb| deb.files.values()).map(|file| file.mtime).max().unwrap_or_default()
}

/// Where Fedora keeps what is Debian's `copyright` file.
fn licence_path(path: &str, debian: &str, package: &str) -> Option<String> {
    let owner = path.strip_prefix("/usr/share/doc/")?.strip_suffix("/copyright")?;
    (owner == debian).then(|| format!("/usr/share/licenses/{package}/copyright.{debian}"))
}

/// Directories that no package needs to own: those of documentation, which `tsflags=nodocs` would leave empty.
fn is_unowned(path: &str, content: &Content) -> bool {
    matches!(content, Content::Directory)
        && ["/usr/share/doc", "/usr/share/man", "/usr/share/info", "/usr/share/locale"]
            .iter()
            .any(|start| path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn classify(path: &str, file: &mut File) {
    if path.starts_with("/usr/share/licenses/") {
        file.class = Class::License;
    } else if ["/usr/share/doc/", "/usr/share/man/", "/usr/share/info/"].iter().any(|start| path.starts_with(start)) {
        file.class = Class::Documentation;
    } else if let Some((language, _)) = path.strip_prefix("/usr/share/locale/").and_then(|rest| rest.split_once('/')) {
        file.class = Class::Language(language.to_owned());
    }
}

/// Fedora has no group `shadow`: what is setgid for it in Debian is setuid root there.
fn adopt_shadow_group(file: &mut File) {
    const SETUID: u16 = 0o4000;
    const SETGID: u16 = 0o2000;
    if file.group == "shadow" {
        "root".clone_into(&mut file.group);
        if file.mode & SETGID != 0 {
            file.mode = file.mode & !SETGID | SETUID;
        }
    }
}

#[cfg(test)]
mod tests;
