//! Digests the program's sources, so that a set-up can tell whether the program that made it would make another one.
//!
//! The executable itself will not do: it differs between the debug and the release profile.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let mut paths = BTreeSet::new();
    for root in ["map.json", "files", "src"] {
        println!("cargo::rerun-if-changed={root}");
        collect(Path::new(root), &mut paths)?;
    }
    let mut hasher = DefaultHasher::new();
    for path in paths {
        path.hash(&mut hasher);
        fs::read(&path)?.hash(&mut hasher);
    }
    println!("cargo::rustc-env=OFFLINE_REPO_SOURCES={:016x}", hasher.finish());
    Ok(())
}

fn collect(path: &Path, paths: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), paths)?;
        }
    } else {
        paths.insert(path.to_owned());
    }
    Ok(())
}
