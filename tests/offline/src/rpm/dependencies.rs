//! The dependency tags of an rpm, with what the format and the scriptlets themselves need.

use crate::package::{Comparison, Dependency, Package, Script};
use crate::rpm::header::{Header, Value};
use crate::rpm::tags;

/// Marks the condition of a trigger that runs on installation.
pub const TRIGGER_IN: u32 = 1 << 16;

const LESS: u32 = 1 << 1;
const GREATER: u32 = 1 << 2;
const EQUAL: u32 = 1 << 3;
const POSTTRANS: u32 = 1 << 5;
const PRETRANS: u32 = 1 << 7;
const INTERPRETER: u32 = 1 << 8;
const SCRIPT_POST: u32 = 1 << 10;
const RPMLIB: u32 = 1 << 24;

/// A dependency with all bits that rpm wants.
struct Sense {
    name: String,
    flags: u32,
    version: String,
}

impl From<&Dependency> for Sense {
    fn from(dependency: &Dependency) -> Self {
        let (flags, version) = match &dependency.version {
            Some((comparison, version)) => (comparison_flags(*comparison), version.clone()),
            None => (0, String::new()),
        };
        Sense { name: dependency.name.clone(), flags, version }
    }
}

fn comparison_flags(comparison: Comparison) -> u32 {
    match comparison {
        Comparison::Less => LESS,
        Comparison::LessOrEqual => LESS | EQUAL,
        Comparison::Equal => EQUAL,
        Comparison::GreaterOrEqual => GREATER | EQUAL,
        Comparison::Greater => GREATER,
    }
}

/// Inserts the dependencies of `package`.
pub fn insert(header: &mut Header, package: &Package, has_files: bool) {
    let senses = |dependencies: &[Dependency]| dependencies.iter().map(Sense::from).collect::<Vec<_>>();
    let mut requires = senses(&package.requires);
    requires.extend(own_requirements(package, has_files));

    let provide_tags = [tags::PROVIDE_NAMES, tags::PROVIDE_FLAGS, tags::PROVIDE_VERSIONS];
    let require_tags = [tags::REQUIRE_NAMES, tags::REQUIRE_FLAGS, tags::REQUIRE_VERSIONS];
    let recommend_tags = [tags::RECOMMEND_NAMES, tags::RECOMMEND_FLAGS, tags::RECOMMEND_VERSIONS];
    let conflict_tags = [tags::CONFLICT_NAMES, tags::CONFLICT_FLAGS, tags::CONFLICT_VERSIONS];
    insert_sorted(header, provide_tags, senses(&package.provides));
    insert_sorted(header, require_tags, requires);
    insert_sorted(header, recommend_tags, senses(&package.recommends));
    insert_sorted(header, conflict_tags, senses(&package.conflicts));
}

fn insert_sorted(header: &mut Header, [names, flags, versions]: [u32; 3], mut senses: Vec<Sense>) {
    if senses.is_empty() {
        return;
    }
    senses.sort_by(|left, right| {
        (&left.name, left.flags, &left.version).cmp(&(&right.name, right.flags, &right.version))
    });
    senses
        .dedup_by(|left, right| (&left.name, left.flags, &left.version) == (&right.name, right.flags, &right.version));
    header.insert(names, Value::Strings(senses.iter().map(|sense| sense.name.clone()).collect()));
    header.insert(flags, Value::Int32(senses.iter().map(|sense| sense.flags).collect()));
    header.insert(versions, Value::Strings(senses.into_iter().map(|sense| sense.version).collect()));
}

/// The features of the format that are used, and the interpreter of the scriptlets.
fn own_requirements(package: &Package, has_files: bool) -> Vec<Sense> {
    let rpmlib = |feature: &str, version: &str| Sense {
        name: format!("rpmlib({feature})"),
        flags: LESS | EQUAL | RPMLIB,
        version: version.to_owned(),
    };
    let is_rich = |dependencies: &[Dependency]| dependencies.iter().any(|dependency| dependency.name.starts_with('('));

    let mut requirements = vec![
        rpmlib("CompressedFileNames", "3.0.4-1"),
        rpmlib("FileDigests", "4.6.0-1"),
        rpmlib("PayloadIsZstd", "5.4.18-1"),
    ];
    if has_files {
        requirements.push(rpmlib("PayloadFilesHavePrefix", "4.0-1"));
    }
    if is_rich(&package.requires) || is_rich(&package.recommends) {
        requirements.push(rpmlib("RichDependencies", "4.12.0-1"));
    }
    if package.files.values().any(|file| file.capabilities.is_some()) {
        requirements.push(rpmlib("FileCaps", "4.6.1-1"));
    }
    if package.scriptlets.all().any(|script| script.program == Script::LUA) {
        requirements.push(rpmlib("BuiltinLuaScripts", "4.2.2-1"));
    }
    requirements.extend(interpreters(package));
    requirements
}

/// The programs that run the scriptlets. rpm's own interpreter is a feature in place of a program.
fn interpreters(package: &Package) -> impl Iterator<Item = Sense> {
    let scriptlets = &package.scriptlets;
    let own = [(&scriptlets.pretrans, PRETRANS), (&scriptlets.post, SCRIPT_POST), (&scriptlets.posttrans, POSTTRANS)];
    let own = own.into_iter().filter_map(|(script, flags)| Some((script.as_ref()?, flags)));
    let triggers = scriptlets.triggers.iter().map(|trigger| (&trigger.script, TRIGGER_IN));
    own.chain(triggers).filter(|(script, _)| script.program != Script::LUA).map(|(script, flags)| Sense {
        name: script.program.to_owned(),
        flags: INTERPRETER | flags,
        version: String::new(),
    })
}
