//! Tells the program the digest of its own source: results of another version of it are not taken from the cache.

#![expect(clippy::disallowed_methods, reason = "cargo hands on its answers in the environment")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use sha2::{Digest, Sha256};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut files = BTreeMap::new();
    for name in ["src", "crates"] {
        read(&root.join(name), Path::new(name), &mut files)?;
        println!("cargo::rerun-if-changed={name}");
    }
    for name in ["Cargo.lock", "Cargo.toml"] {
        if let Ok(bytes) = fs::read(root.join(name)) {
            files.insert(PathBuf::from(name), bytes);
        }
        println!("cargo::rerun-if-changed={name}");
    }
    let mut hasher = Sha256::new();
    for (path, bytes) in files {
        hasher.update(format!("{} {}\n", path.display(), bytes.len()));
        hasher.update(&bytes);
    }
    let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=OCINITRD_SOURCE_DIGEST={digest}");
    Ok(())
}

/// Reads all files below `directory`, named by their paths below `path`.
fn read(directory: &Path, path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = path.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            read(&entry.path(), &path, files)?;
        } else {
            files.insert(path, fs::read(entry.path())?);
        }
    }
    Ok(())
}
