//! The units that an initrd starts, compared with lists that were reviewed: what a version of systemd adds or drops is seen when it
//! comes, and either kept and tested or masked in `images/parts/initrd.toml` with its reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fixture::{self, ocinitrd, succeed};
use crate::images::manifest;

/// What starts the units of an initrd (bootup(7)), and what a person or an error may start.
const STARTING: [&str; 18] = [
    "basic",
    "cryptsetup",
    "emergency",
    "factory-reset",
    "initrd",
    "initrd-fs",
    "initrd-root-device",
    "initrd-root-fs",
    "initrd-switch-root",
    "initrd-usr-fs",
    "local-fs",
    "network-online",
    "paths",
    "remote-fs",
    "rescue",
    "sockets",
    "sysinit",
    "timers",
];
const UNITS: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];
const RELATIONS: [&str; 3] = ["Wants", "Requires", "Upholds"];
const NEVER: &str = "ConditionPathExists=!/etc/initrd-release";

/// What is in the file of a unit and in its drop-ins.
fn text(root: &Path, unit: &str) -> String {
    let drop_ins = UNITS.map(|directory| root.join(directory).join(format!("{unit}.d")));
    let files = drop_ins.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten();
    let files = files.map(|entry| entry.unwrap().path());
    let own = UNITS.map(|directory| root.join(directory).join(unit)).into_iter().find(|path| path.is_file());
    files.chain(own).map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The units that links beside a target and its settings have started.
fn wanted(root: &Path, target: &str) -> BTreeSet<String> {
    let directories = UNITS.iter().flat_map(|directory| {
        RELATIONS.map(|relation| root.join(directory).join(format!("{target}.{}", relation.to_lowercase())))
    });
    let links = directories.filter_map(|directory| fs::read_dir(directory).ok()).flatten();
    let links = links.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let text = text(root, target);
    let settings = text.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| RELATIONS.contains(key));
    links.chain(settings.flat_map(|(_, units)| units.split_whitespace().map(str::to_owned))).collect()
}

/// Whether the unit is there; one that is masked is a link to nothing in the initrd, whose `/dev` is empty.
fn is_there(root: &Path, unit: &str) -> bool {
    let path =
        UNITS.iter().map(|directory| root.join(directory).join(unit)).find(|path| path.symlink_metadata().is_ok());
    path.is_some_and(|path| fs::read_link(&path).map_or(true, |target| target != Path::new("/dev/null")))
}

/// A line for each unit that something starts.
fn listing(root: &Path) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for target in STARTING.map(|name| format!("{name}.target")) {
        for unit in wanted(root, &target).iter().filter(|unit| is_there(root, unit)) {
            let never = if text(root, unit).contains(NEVER) { " (not in an initrd)" } else { "" };
            lines.insert(format!("{target} {unit}{never}"));
        }
    }
    lines
}

/// The version of systemd in an output.
fn version(output: &Path) -> u32 {
    let manifest: Value = manifest(output);
    let systemd = manifest["packages"].as_array().unwrap().iter().find(|package| package["name"] == "systemd").unwrap();
    systemd["version"].as_str().unwrap().split(['.', '~']).next().unwrap().parse().unwrap()
}

/// The list for that version, or for the newest before it.
fn reviewed(version: u32) -> Option<PathBuf> {
    let lists = fs::read_dir(fixture::checkout().join("tests/integration/units")).unwrap();
    let lists = lists.map(|entry| entry.unwrap().path());
    let of = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("systemd-")?.parse::<u32>().ok();
    lists.filter(|path| of(path).is_some_and(|listed| listed <= version)).max_by_key(of)
}

/// Compares the units that the directory `root` of an output starts with those of the list for its systemd.
#[track_caller]
pub fn assert_reviewed(output: &Path) {
    let (version, units) = (version(output), listing(&output.join("root")));
    let list = reviewed(version);
    let text = list.as_ref().map(|list| fs::read_to_string(list).unwrap()).unwrap_or_default();
    let known: BTreeSet<String> = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    if units == known {
        return;
    }
    let found = output.with_extension(format!("systemd-{version}"));
    fs::write(&found, units.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let (added, lost): (Vec<_>, Vec<_>) = (units.difference(&known).collect(), known.difference(&units).collect());
    panic!(
        "systemd {version} starts other units in an initrd than {list:?} says.\nadded: {added:#?}\nlost: {lost:#?}\nKeep and test \
         each, or mask it with its reason in images/parts/initrd.toml, and make {} the list of this version.",
        found.display()
    );
}

#[test]
fn the_units_of_systemd_257_are_those_that_were_reviewed() {
    // Makes sure of the lock.
    fixture::offline_output();
    let output = fixture::checkout().join("target/test-output/units");
    succeed(ocinitrd().args(["build", "offline", "-t", "directory", "-O"]).arg(&output));
    assert_reviewed(&output);
}
