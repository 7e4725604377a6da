//! Two manifests: packages by name, outputs by path, every other key by its own name.
//!
//! Keys are compared as the JSON has them, so that one added to the manifest is compared without a word here.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::difference::{Difference, Subject};
use crate::definition::dnf::InstalledPackage;
use crate::image::manifest::{Kernel, Manifest, OutputPath};

/// The keys that are lists of things with names.
const LISTS: [&str; 3] = ["packages", "kernels", "outputs"];

/// A kernel on one side or both.
pub(super) struct KernelPair<'m> {
    /// The version, where it has to be told which kernel is meant.
    pub version: Option<&'m str>,
    /// In A.
    pub a: Option<&'m Kernel>,
    /// In B.
    pub b: Option<&'m Kernel>,
}

/// The kernels of the same version. Where each side has one only, these are a pair: they are for the same purpose.
pub(super) fn kernels<'m>(a: &'m Manifest, b: &'m Manifest) -> Vec<KernelPair<'m>> {
    if let ([a], [b]) = (&a.kernels[..], &b.kernels[..]) {
        return vec![KernelPair { version: None, a: Some(a), b: Some(b) }];
    }
    let versions: BTreeSet<&str> = a.kernels.iter().chain(&b.kernels).map(|kernel| kernel.version.as_str()).collect();
    let find = |manifest: &'m Manifest, version| manifest.kernels.iter().find(|kernel| kernel.version == version);
    let pair = |version| KernelPair { version: Some(version), a: find(a, version), b: find(b, version) };
    versions.into_iter().map(pair).collect()
}

/// All that two manifests record differently but their segments.
pub(super) fn compare(a: &Manifest, b: &Manifest) -> Result<Vec<Difference>> {
    let mut differences = compare_keys(a, b)?;
    let package = |name: &str| Subject::Package { name: name.to_owned() };
    differences.extend(compare_packages(&a.packages, &b.packages, package));
    differences.extend(kernels(a, b).iter().flat_map(compare_kernels));
    let outputs = |manifest: &Manifest| {
        let described = manifest.outputs.iter().map(|output| {
            let facts = vec![("size_bytes", output.size_bytes.into()), ("sha256", output.sha256.to_string().into())];
            (output.path.as_str().to_owned(), Listed { description: format!("{} bytes", output.size_bytes), facts })
        });
        described.collect()
    };
    differences.extend(compare_listed(&outputs(a), &outputs(b), |path| Subject::Output { path: path.to_owned() }));
    Ok(differences)
}

/// What is recorded of a kernel, but its segments.
fn compare_kernels(pair: &KernelPair<'_>) -> Vec<Difference> {
    let differences = match (pair.a, pair.b) {
        (Some(a), Some(b)) => {
            let fields = [
                ("version", Value::from(a.version.as_str()), Value::from(b.version.as_str())),
                ("image", a.image.as_str().into(), b.image.as_str().into()),
                ("initrd", initrd(a).into(), initrd(b).into()),
                ("uki", uki(a).into(), uki(b).into()),
            ];
            let differing = fields.into_iter().filter(|(_, value_a, value_b)| value_a != value_b);
            let fields =
                differing.map(|(field, value_a, value_b)| Difference::new(Subject::Kernel, field, value_a, value_b));
            let package = |name: &str| Subject::KernelPackage { name: name.to_owned() };
            fields.chain(compare_packages(&a.packages, &b.packages, package)).collect()
        }
        (a, b) => {
            let described =
                |kernel: Option<&Kernel>| kernel.map(|kernel| format!("{} packages", kernel.packages.len()));
            vec![Difference::presence(Subject::Kernel, described(a), described(b))]
        }
    };
    differences.into_iter().map(|difference| difference.of_kernel(pair.version)).collect()
}

/// The path of a kernel's initrd, if it has one.
fn initrd(kernel: &Kernel) -> Option<&str> {
    kernel.initrd.as_ref().map(OutputPath::as_str)
}

/// The path of a kernel's unified image, if it has one.
fn uki(kernel: &Kernel) -> Option<&str> {
    kernel.uki.as_ref().map(|uki| uki.path.as_str())
}

/// The recorded segments of two kernels, by name.
pub(super) fn compare_segments(a: &Kernel, b: &Kernel) -> Result<Vec<Difference>> {
    let segments = |kernel: &Kernel| -> Result<BTreeMap<String, Listed>> {
        let listed = kernel.segments.iter().map(|segment| {
            let mut facts = keys(segment)?;
            facts.remove("name");
            let description = format!("{} entries, {} bytes", segment.entries, segment.size_bytes);
            let order = ["compression", "entries", "size_bytes", "unpacked_size_bytes", "sha256"];
            let facts = order.into_iter().filter_map(|key| Some((key, facts.remove(key)?))).collect();
            Ok((segment.name.clone(), Listed { description, facts }))
        });
        listed.collect()
    };
    let subject = |name: &str| Subject::RecordedSegment { name: name.to_owned() };
    Ok(compare_listed(&segments(a)?, &segments(b)?, subject))
}

fn compare_keys(a: &Manifest, b: &Manifest) -> Result<Vec<Difference>> {
    let (mut a, mut b) = (keys(a)?, keys(b)?);
    let names: BTreeSet<String> = a.keys().chain(b.keys()).cloned().collect();
    let mut take = |name: &str| (a.remove(name).unwrap_or_default(), b.remove(name).unwrap_or_default());
    let values = names.iter().filter(|name| !LISTS.contains(&name.as_str())).map(|name| (name, take(name)));
    let differing = values.filter(|(_, (value_a, value_b))| value_a != value_b);
    Ok(differing.map(|(name, (value_a, value_b))| Difference::new(Subject::Manifest, name, value_a, value_b)).collect())
}

/// The keys of a value, those inside others as `OUTER.INNER`.
fn keys(value: &impl Serialize) -> Result<BTreeMap<String, Value>> {
    let mut flat = BTreeMap::new();
    flatten("", serde_json::to_value(value).context("reading the manifest's keys")?, &mut flat);
    Ok(flat)
}

fn flatten(name: &str, value: Value, flat: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(object) => object.into_iter().for_each(|(key, value)| {
            let inner = if name.is_empty() { key } else { format!("{name}.{key}") };
            flatten(&inner, value, flat);
        }),
        value => {
            flat.insert(name.to_owned(), value);
        }
    }
}

/// A thing with a name: a word on it, and its facts in the order in which they are told.
struct Listed {
    description: String,
    facts: Vec<(&'static str, Value)>,
}

fn compare_listed(
    a: &BTreeMap<String, Listed>,
    b: &BTreeMap<String, Listed>,
    subject: impl Fn(&str) -> Subject,
) -> Vec<Difference> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut differences = Vec::new();
    for name in names {
        match (a.get(name), b.get(name)) {
            (Some(a), Some(b)) => {
                let facts = a.facts.iter().zip(&b.facts).filter(|(fact_a, fact_b)| fact_a != fact_b);
                differences.extend(facts.map(|((field, value_a), (_, value_b))| {
                    Difference::new(subject(name), field, value_a.clone(), value_b.clone())
                }));
            }
            (a, b) => {
                let described = |listed: Option<&Listed>| listed.map(|listed| listed.description.clone());
                differences.push(Difference::presence(subject(name), described(a), described(b)));
            }
        }
    }
    differences
}

fn compare_packages(
    a: &[InstalledPackage],
    b: &[InstalledPackage],
    subject: impl Fn(&str) -> Subject,
) -> Vec<Difference> {
    let (mut a, mut b) = (by_name(a), by_name(b));
    let names: BTreeSet<String> = a.keys().chain(b.keys()).cloned().collect();
    let mut differences = Vec::new();
    for name in names {
        let (mut in_a, mut in_b) = (a.remove(&name).unwrap_or_default(), b.remove(&name).unwrap_or_default());
        // Of a name that is installed in several versions only what is not in both is told.
        let common: Vec<_> = in_a.iter().filter(|package| in_b.contains(package)).copied().collect();
        in_a.retain(|package| !common.contains(package));
        in_b.retain(|package| !common.contains(package));
        for index in 0..in_a.len().max(in_b.len()) {
            match (in_a.get(index), in_b.get(index)) {
                (Some(a), Some(b)) => differences.extend(
                    package_fields(a, b)
                        .into_iter()
                        .map(|(field, value_a, value_b)| Difference::new(subject(&name), field, value_a, value_b)),
                ),
                (a, b) => {
                    let described = |package: Option<&&InstalledPackage>| {
                        package.map(|package| format!("{}, {} bytes", evr(package), package.installed_size_bytes))
                    };
                    differences.push(Difference::presence(subject(&name), described(a), described(b)));
                }
            }
        }
    }
    differences
}

fn by_name(packages: &[InstalledPackage]) -> BTreeMap<String, Vec<&InstalledPackage>> {
    let mut sorted: Vec<_> = packages.iter().collect();
    sorted.sort();
    let mut named: BTreeMap<String, Vec<&InstalledPackage>> = BTreeMap::new();
    for package in sorted {
        named.entry(format!("{}.{}", package.name, package.arch)).or_default().push(package);
    }
    named
}

/// The fields that differ. What comes with another version is told only where the version is the same.
fn package_fields(a: &InstalledPackage, b: &InstalledPackage) -> Vec<(&'static str, Value, Value)> {
    let (evr_a, evr_b) = (evr(a), evr(b));
    let mut fields = vec![("installed_size_bytes", a.installed_size_bytes.into(), b.installed_size_bytes.into())];
    if evr_a == evr_b {
        fields.push(("build_time", a.build_time.seconds().into(), b.build_time.seconds().into()));
        fields.push(("source_rpm", a.source_rpm.clone().into(), b.source_rpm.clone().into()));
        fields.push(("license", a.license.clone().into(), b.license.clone().into()));
    }
    fields.insert(0, ("version", Value::from(evr_a), evr_b.into()));
    fields.retain(|(_, a, b)| a != b);
    fields
}

/// `[EPOCH:]VERSION-RELEASE`.
fn evr(package: &InstalledPackage) -> String {
    let InstalledPackage { epoch, version, release, .. } = package;
    if *epoch == 0 { format!("{version}-{release}") } else { format!("{epoch}:{version}-{release}") }
}
